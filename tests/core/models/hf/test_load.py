"""Masked language models of Hugging Face: read from a folder, refused in one line."""

import json
import pickle
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from tdiff.config.decoding import DecodeSettings
from tdiff.core.diffusion.denoise import denoise
from tdiff.core.diffusion.generate import generate, narrate
from tdiff.core.models.base import LoadedModel
from tdiff.core.models.load import load_model
from tdiff.errors import TdiffError
from tdiff.protocol.trace import TraceEnd
from tdiff.runs import lookup
from tests.support.hub_zoo import Hostile, make, rewrite
from tests.support.paths import SHARED
from tests.support.runs import environment

REAL = SHARED / "models" / "rxnmapper-albert-smiles"


@pytest.fixture
def folder(zoo, tmp_path) -> Path:
    """A BERT that a test may spoil."""
    return Path(shutil.copytree(zoo["bert"], tmp_path / "spoilt"))


# A Trainer's output folder.


def checkpoint(root: Path, step: int, zoo) -> Path:
    return Path(shutil.copytree(zoo["bert"], root / f"checkpoint-{step}"))


def test_the_output_folder_of_a_trainer_means_its_newest_checkpoint(zoo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for step in (10, 200, 90):
        checkpoint(tmp_path / "results", step, zoo)
    (tmp_path / "results" / "checkpoint-300").mkdir()  # no weights yet
    (tmp_path / "results" / "checkpoint-best").mkdir()
    (tmp_path / "results" / "runs").mkdir()
    assert lookup.find_model("results/") == Path("results/checkpoint-200")
    model = load_model("results")
    assert (model.name, model.origin.steps) == ("results/checkpoint-200", 200)
    (tmp_path / "results" / "checkpoint-300" / "config.json").write_text("{}")  # its weights are still to come
    assert lookup.find_model("results") == Path("results/checkpoint-200")
    checkpoint(tmp_path / "results", 1000, zoo)
    assert load_model("results").origin.steps == 1000
    assert load_model("results/checkpoint-90").origin.steps == 90


def test_a_model_saved_at_the_end_goes_before_its_checkpoints(zoo, tmp_path):
    shutil.copytree(zoo["bert"], tmp_path / "results")
    checkpoint(tmp_path / "results", 10, zoo)
    assert lookup.find_model(str(tmp_path / "results")) == tmp_path / "results"


def test_a_checkpoint_of_pickles_alone_is_refused_as_such(zoo, tmp_path):
    folder = checkpoint(tmp_path / "results", 10, zoo)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(TdiffError, match="loading a pickle can run code"):
        load_model(str(tmp_path / "results"))


# What is refused, in one line with exit code 2 and nothing on stdout.


@pytest.fixture
def refusal(cli_fast, folder):
    """The line that says why the spoilt model is refused."""

    def ask() -> str:
        line = cli_fast("generate", "the", "--model", str(folder), "--length", "3", "--seed", "1").refused()
        assert line.isprintable() and len(line) < 600, line
        return line

    return ask


@pytest.mark.parametrize("keep", [0, 100, 5000, -1])
def test_damaged_weights_are_refused(keep, folder, refusal):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    assert "model.safetensors' are damaged or not safetensors" in refusal()


def without(folder: Path, *prefixes: str) -> None:
    path = folder / "model.safetensors"
    kept = {name: tensor for name, tensor in load_file(path).items() if not name.startswith(prefixes)}
    save_file(kept, path, {"format": "pt"})


def test_a_model_without_its_head_is_refused(folder, refusal):
    without(folder, "cls.")
    line = refusal()
    assert "is of type 'bert', but its masked-LM head was not in the checkpoint" in line and "cls.predictions." in line


def test_a_trunk_saved_alone_or_trained_to_classify_is_refused(folder, refusal):
    import transformers

    for kind in (transformers.BertModel, transformers.BertForSequenceClassification):
        kind.from_pretrained(folder).save_pretrained(folder)
        assert "masked-LM head was not in the checkpoint" in refusal()


def test_electra_discriminator_is_refused(tmp_path, zoo):
    import transformers

    folder = Path(shutil.copytree(zoo["electra"], tmp_path / "discriminator"))
    transformers.ElectraForPreTraining.from_pretrained(folder).save_pretrained(folder)
    with pytest.raises(TdiffError, match="'electra', but its masked-LM head was not in the checkpoint"):
        load_model(str(folder))


def test_a_missing_layer_is_named(folder, refusal):
    without(folder, "bert.encoder.layer.1.attention.self.query")
    assert "weights lack bert.encoder.layer.1.attention.self.query.bias and 1 more" in refusal()


def test_weights_of_another_shape_are_refused_with_both(folder, refusal):
    rewrite(folder / "config.json", intermediate_size=64)
    line = refusal()
    assert "has shape (32," in line or "has shape (16, 32)" in line
    assert "config.json requires (64" in line or "requires (16, 64)" in line


def test_weights_that_are_not_finite_are_refused(folder, refusal):
    path = folder / "model.safetensors"
    weights = load_file(path)
    weights["bert.encoder.layer.0.output.dense.weight"][3, 3] = float("nan")
    save_file(weights, path, {"format": "pt"})
    assert "bert.encoder.layer.0.output.dense.weight holds numbers that are not finite" in refusal()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "pytorch_model-00001-of-00002.bin", "model.pt"])
def test_pickled_weights_are_refused_without_running_code(name, folder, refusal, tmp_path):
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(pickle.dumps(Hostile(tmp_path / "it-ran")))
    assert "holds pickled weights and no model.safetensors; tdiff reads safetensors only" in refusal()
    assert not (tmp_path / "it-ran").exists()


def test_no_weights_at_all_are_named(folder, refusal):
    (folder / "model.safetensors").unlink()
    assert "model.safetensors' do not exist" in refusal()


@pytest.mark.parametrize("shard", ["pytorch_model.bin", "../outside.safetensors", 3])
def test_an_index_cannot_lead_to_a_pickle_or_out_of_the_folder(shard, folder, refusal, tmp_path):
    whole = folder / "model.safetensors"
    shutil.copy(whole, tmp_path / "outside.safetensors")
    whole.unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Hostile(tmp_path / "it-ran")))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"cls.predictions.bias": shard}}))
    line = refusal()
    assert "are damaged or not safetensors" in line if shard == "pytorch_model.bin" else "names no files beside" in line
    assert not (tmp_path / "it-ran").exists()


@pytest.mark.parametrize(
    "more", [{"transformers_weights": "pytorch_model.bin"}, {"auto_map": {"AutoModelForMaskedLM": "evil.Evil"}}]
)
def test_files_and_code_named_in_a_config_are_ignored(more, folder, tmp_path):
    rewrite(folder / "config.json", **more)
    rewrite(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.Evil", None]})
    (folder / "evil.py").write_text(f"import os\nos.mkdir({str(tmp_path / 'it-ran')!r})\nclass Evil: pass\n")
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Hostile(tmp_path / "it-ran")))
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "someone/else"}))
    assert load_model(str(folder)).network.spec.context == 16
    assert not (tmp_path / "it-ran").exists()


@pytest.mark.parametrize("kind", ["bort\x1b[31m", "", "t5", "wav2vec2"])
def test_another_type_is_refused(kind, folder, refusal):
    rewrite(folder / "config.json", model_type=kind)
    assert "which is not a masked or autoregressive language model" in refusal()


def test_a_model_of_two_halves_is_refused(folder, refusal):
    rewrite(folder / "config.json", model_type="bart")
    assert "with a decoder, which is autoregressive" in refusal()


def test_a_config_of_nonsense_is_refused(folder, refusal):
    rewrite(folder / "config.json", hidden_size="wide")
    assert "is of type 'bert'" in refusal()


def test_a_missing_tokenizer_is_named(folder, refusal):
    (folder / "tokenizer.json").unlink()
    assert "tokenizer.json' does not exist, nor a vocabulary beside it" in refusal()
    (folder / "tokenizer_config.json").unlink()
    assert "tokenizer.json' does not exist, nor a vocabulary beside it" in refusal()


@pytest.mark.parametrize("content", ["", '{"version"', "{}", '{"version": "1.0", "model": {"type": "None"}}'])
def test_a_damaged_tokenizer_is_refused(content, folder, refusal):
    (folder / "tokenizer.json").write_text(content)
    assert "tokenizer.json' is damaged or of an unknown type" in refusal()


def test_a_model_without_a_mask_token_is_refused(folder, refusal):
    rewrite(folder / "tokenizer_config.json", mask_token=None)
    assert "has no mask token, so there is nothing that it could fill in" in refusal()


def test_a_mask_token_that_the_model_does_not_know_is_none(folder, refusal):
    rewrite(folder / "tokenizer_config.json", mask_token="[BLANK]")
    size = json.loads((folder / "config.json").read_text())["vocab_size"]
    for _ in range(4):  # beyond the ids that the model has to spare
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer.add_special_tokens([f"[{tokenizer.get_vocab_size()}]"])
        tokenizer.save(str(folder / "tokenizer.json"))
    assert tokenizer.get_vocab_size() > size
    assert "has no mask token" in refusal()


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(folder, refusal, zoo):
    shutil.copy(zoo["roberta"] / "tokenizer.json", folder)
    shutil.copy(zoo["roberta"] / "tokenizer_config.json", folder)
    assert "does not fit its tokenizer: config.json says" in refusal()


def test_a_model_whose_positions_the_special_tokens_fill_is_refused(tmp_path):
    folder = make("bert", tmp_path / "short", max_position_embeddings=3)
    with pytest.raises(TdiffError, match="is of type 'bert' and cannot be asked for the tokens of a text"):
        load_model(str(folder))


# Quiet, offline, and no slower for those who do not need it.


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_loading_prints_nothing_and_opens_no_connection(kind, zoo, capfd, monkeypatch):
    asked = []

    def ask(*where, **how):
        asked.append(where)
        raise OSError("no network")

    monkeypatch.setattr(socket.socket, "connect", ask)
    monkeypatch.setattr(socket, "getaddrinfo", ask)
    model = load_model(str(zoo[kind]))
    assert list(generate(model, ["the hare"], DecodeSettings(seed=1), length=5))
    assert not asked
    assert capfd.readouterr() == ("", "")


def test_a_model_of_our_own_does_not_import_transformers(tiny_run):
    code = (
        "import sys\n"
        "from tdiff.core.models.load import load_model\n"
        "from tdiff.core.diffusion.generate import generate\n"
        "from tdiff.config.decoding import DecodeSettings\n"
        f"model = load_model({str(tiny_run.path)!r})\n"
        "assert list(generate(model, ['the '], DecodeSettings(seed=1), length=4))\n"
        "print('torch' in sys.modules, 'transformers' in sys.modules, 'huggingface_hub' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr) == ("True False False\n", "")


def test_command_generates_text_streams_and_json(cli_fast, zoo):
    asked = ("generate", "the hare", "--model", str(zoo["roberta"]), "--length", "6", "--seed", "1")
    plain, streamed, as_json = (cli_fast(*asked, *more) for more in ((), ("--stream",), ("--json",)))
    assert [run.returncode for run in (plain, streamed, as_json)] == [0, 0, 0]
    lines = [json.loads(line) for line in streamed.stdout.splitlines()]
    assert lines[0]["model"] == "roberta" and lines[-1]["text"] == json.loads(as_json.stdout)["text"]
    assert plain.stdout.startswith("the hare") and plain.stderr == "seed 1\n"


# A real one.


@pytest.fixture(scope="module")
def real() -> LoadedModel:
    # Weights that other people trained, whose licence and size keep them out of the repository. Every case that random
    # models can test runs everywhere; these read files that this project did not write, which no stand-in replaces.
    if not REAL.is_dir():
        pytest.skip("THE REAL MODEL IS NOT HERE: ../shared/models/rxnmapper-albert-smiles")
    return load_model(str(REAL))


REACTIONS = [
    "CC(=O)O.OCC>>CC(=O)OCC",
    "CC(C)(C)OC(=O)N1CCC(CC1)C(=O)O.NCc1ccccc1>>CC(C)(C)OC(=O)N1CCC(CC1)C(=O)NCc1ccccc1",
    "Brc1ccccc1.OB(O)c1ccccc1>>c1ccc(-c2ccccc2)cc1",
    "COC(=O)c1ccc(O)cc1.CI>>COC(=O)c1ccc(OC)cc1",
    "O=C(Cl)c1ccccc1.Nc1ccccc1>>O=C(Nc1ccccc1)c1ccccc1",
]


def test_real_chemistry_model_fills_masked_reactions(real):
    """It was trained to: a guess would find one in six hundred, or one in three where all were the commonest token."""
    right = masked = 0
    draw = torch.Generator().manual_seed(0)
    for reaction in REACTIONS:
        ids = real.tokenizer.encode(reaction)
        assert real.tokenizer.decode(ids) == reaction
        hidden = torch.rand(len(ids), generator=draw) < 0.15
        hidden[4] = True
        start = ids.masked_fill(hidden, real.network.spec.mask_id)[None]
        settings = DecodeSettings(decoder="confidence", temperature=0.0)
        *_, step = denoise(real.network, start, settings=settings)
        assert torch.equal(step.tokens[0][~hidden], ids[~hidden])
        right, masked = right + int((step.tokens[0] == ids)[hidden].sum()), masked + int(hidden.sum())
    assert masked > 25 and right / masked > 0.8


def test_a_real_model_continues_from_a_prompt(real):
    assert (real.network.spec.context, real.network.begin.tolist(), real.network.end.tolist()) == (510, [12], [13])
    header, *_, end = narrate(real, "CC(=O)O", DecodeSettings(seed=1), length=12)
    assert [text for _, text, _ in header.given] == list("CC(=O)O")
    assert isinstance(end, TraceEnd) and end.text.startswith("CC(=O)O") and "unused" not in end.text
