"""A pretrained masked language model becomes a diffusion model: trained, saved, resumed, and loaded by transformers."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file

from tdiff.config.decoding import DecodeSettings
from tdiff.config.settings import Settings
from tdiff.core.diffusion.generate import generate
from tdiff.core.diffusion.noise import RowNoise
from tdiff.core.diffusion.objective import nelbo_loss, sample_masks
from tdiff.core.diffusion.schedules import schedule
from tdiff.core.evaluation.likelihood import score
from tdiff.core.models.load import load_model
from tdiff.core.training import initialize
from tdiff.core.training.state import TrainState
from tdiff.corpus import corpus
from tdiff.errors import TdiffError
from tdiff.protocol.events import Eval
from tdiff.runs import lookup
from tdiff.runs.run import Run
from tests.support.hub_zoo import KINDS, TEXT, make, reference, some_tokens
from tests.support.models import StubModel
from tests.support.runs import After, train_in

QUICK = {
    "objective": {"context": 4},
    "train": {"lr": 1e-3, "steps": 4, "batch_size": 4, "dropout": 0.0, "device": "cpu"},
}


@pytest.fixture(scope="session")
def book(tmp_path_factory) -> Path:
    """The text that the zoo's tokenizers know, ten times."""
    path = tmp_path_factory.mktemp("book") / "book.txt"
    path.write_text(TEXT * 10, "utf-8")
    return path


def settings_from(model: Path, book: Path, *layers: dict) -> Settings:
    base = {"data": {"sources": [str(book)]}, "train": {"init": str(model), "eval_every": 0, "sample_every": 0}}
    return Settings.of([initialize.sizes(str(model)), base, QUICK, *layers])


def job_of(tmp_path: Path, model: Path, book: Path, *layers: dict) -> TrainState:
    settings = settings_from(model, book, *layers)
    return TrainState(settings, Run(tmp_path / "none"), corpus.load(settings.data.sources))


def logits(model, tokens: torch.Tensor, share: float = 0.5) -> torch.Tensor:
    where = tokens == model.network.spec.mask_id
    with torch.no_grad():
        return model.network(tokens, torch.full((len(tokens),), share), where)


# A kind of each tokenizer: WordPiece, byte-level BPE, Unigram.
@pytest.mark.parametrize(
    "kind",
    [kind if kind in ("bert", "roberta", "albert") else pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS],
)
def test_each_pretrained_family_trains_generates_evaluates_saves_and_loads(kind, zoo, book, tmp_path):
    layer = {"train": {"steps": 50, "lr": 3e-3}}
    run, events = train_in(tmp_path, kind, settings_from(zoo[kind], book, layer))
    assert events[-1].reason == "finished"
    model = load_model(str(run.path))
    assert (model.name, model.origin.steps, model.origin.corpus) == (kind, 50, "book.txt")
    for decoder in ("confidence", "ancestral", "remdm"):
        settings = DecodeSettings(decoder=decoder, steps=6, seed=1)
        *_, last = generate(model, ["over the"], settings, length=8)
        assert not bool(last.masked.any())
        assert not set(last.tokens[0].tolist()) & set(model.network.spec.suppressed)
    [evaluation] = [event for event in events if isinstance(event, Eval)]
    held_out = model.tokenizer.encode(corpus.load((str(book),)).split()[1])

    def nats(network) -> float:
        return score(network, held_out, model.tokenizer.lengths, draws=2, least=64).nats_per_token

    assert nats(model.network) == pytest.approx(evaluation.nats_per_token, abs=1e-4)
    before = load_model(str(zoo[kind])).network
    before.set_context(model.spec.context)
    assert nats(model.network) < nats(before) - 0.3
    # transformers loads the saved folder as the same model.
    tokens = some_tokens(model, 2, model.spec.context)
    hf_model, _ = reference(run.model)
    frame = [torch.tensor(part).expand(2, -1).long() for part in (model.tokenizer.begin, model.tokenizer.end)]
    with torch.no_grad():
        whole = hf_model(input_ids=torch.cat((frame[0], tokens, frame[1]), 1)).logits
    inside = whole[:, frame[0].size(1) : frame[0].size(1) + tokens.size(1)][tokens == model.network.spec.mask_id]
    ours = logits(model, tokens)
    torch.testing.assert_close(ours, inside + model.network.suppress, rtol=1e-4, atol=1e-4)


def test_saved_folder_is_a_hugging_face_model_with_tdiff_metadata(zoo, book, tmp_path):
    run, _ = train_in(tmp_path, "run", settings_from(zoo["roberta"], book))
    names = {path.name for path in run.model.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "tdiff.json"} <= names
    assert not [name for name in names if name.startswith(".") or name.endswith((".bin", ".pt"))]
    assert not [path for path in run.path.iterdir() if path.name.startswith(".model")]
    assert "time_conditioning" in json.loads((run.model / "tdiff.json").read_text())
    again = transformers.AutoTokenizer.from_pretrained(run.model)
    assert again.mask_token == "<mask>"


@pytest.mark.parametrize("timed", [False, True])
def test_resumed_run_equals_an_unbroken_run_bit_for_bit(timed, zoo, book, tmp_path):
    layer = {"model": {"time_conditioning": timed}, "train": {"steps": 6, "dropout": 0.1}}
    settings = settings_from(zoo["distilbert"], book, layer)
    unbroken, _ = train_in(tmp_path, "whole", settings)
    train_in(tmp_path, "broken", settings, stop=After(3))
    broken, events = train_in(tmp_path, "broken", settings, resume=True)
    assert events[-1].reason == "finished"
    for file in ("model.safetensors", *(["told.safetensors"] if timed else [])):
        actual, expected = load_file(broken.model / file), load_file(unbroken.model / file)
        assert actual.keys() == expected.keys()
        assert all(torch.equal(actual[name], expected[name]) for name in actual)


def test_resume_does_not_need_the_initial_pretrained_model(zoo, book, tmp_path):
    folder = Path(shutil.copytree(zoo["bert"], tmp_path / "gone"))
    settings = settings_from(folder, book)
    train_in(tmp_path, "run", settings, stop=After(2))
    shutil.rmtree(folder)
    assert train_in(tmp_path, "run", settings, resume=True)[1][-1].reason == "finished"


@pytest.mark.parametrize("kind", ["bert", "roberta", "electra", "albert", "modernbert"])
def test_time_conditioning_starts_as_identity_and_is_saved_with_the_model(kind, zoo, book, tmp_path):
    timed = {"model": {"time_conditioning": True}}
    plain = load_model(str(zoo[kind]))
    window = settings_from(zoo[kind], book).model.window
    tokens = some_tokens(plain, 2, window)
    job = job_of(tmp_path, zoo[kind], book, timed)
    with torch.no_grad():
        conditioned = job.average(tokens, torch.tensor([0.2, 0.9]), tokens == plain.network.spec.mask_id)
    torch.testing.assert_close(conditioned, logits(plain, tokens), rtol=1e-5, atol=1e-5)
    run, _ = train_in(tmp_path, "run", settings_from(zoo[kind], book, timed, {"train": {"steps": 8, "lr": 1e-2}}))
    model = load_model(str(run.path))
    assert float((logits(model, tokens, 0.1) - logits(model, tokens, 0.9)).nan_to_num(0, 0, 0).abs().max()) > 1e-4
    # A run can be initialized from it, with its time conditioning.
    onward = settings_from(run.model, book)
    assert onward.model.time_conditioning
    again = job_of(tmp_path, run.model, book)
    with torch.no_grad():
        for share in (0.1, 0.9):
            same = again.average(tokens, torch.full((2,), share), tokens == plain.network.spec.mask_id)
            assert torch.equal(same, logits(model, tokens, share))


def test_dropout_follows_the_settings_in_every_family(zoo, book, tmp_path):
    for kind in KINDS:
        outputs = []
        for rate in (0.0, 0.4):
            job = job_of(tmp_path, zoo[kind], book, {"train": {"dropout": rate}})
            tokens = some_tokens(load_model(str(zoo[kind])), 2, 8)
            where = tokens == job.network.spec.mask_id
            for seed in (1, 2):
                torch.manual_seed(seed)
                outputs.append(job.network(tokens, torch.full((2,), 0.5), where).detach())
        assert torch.equal(outputs[0], outputs[1]), kind
        assert not torch.equal(outputs[2], outputs[3]), kind
        # The averaged network, which is evaluated and saved, has none.
        assert not job.average.training


def test_activation_checkpointing_gives_the_same_gradient(zoo, book, tmp_path):
    norms = []
    for again in (False, True):
        job = job_of(tmp_path, zoo["bert"], book, {"train": {"checkpointing": again}})
        assert any(getattr(m, "gradient_checkpointing", False) for m in job.network.model.modules()) == again
        norms.append(float(job.update(0.5)[1]))
    assert norms[0] == pytest.approx(norms[1], rel=1e-5)


def test_rows_of_a_batch_can_share_one_mask_ratio_on_a_grid(zoo, book, tmp_path):
    settings = settings_from(
        zoo["bert"], book, {"objective": {"mask_rate_per": "batch", "timesteps": 10, "context": 0}}
    )
    job = TrainState(settings, Run(tmp_path / "none"), corpus.load(settings.data.sources))
    seen = []

    class Spy(StubModel):
        mask_id = job.network.spec.mask_id

        def __call__(self, tokens, share, where):
            seen.append(share)
            return job.network(tokens, share, where)

    tokens = job.data.tokens[: 64 * 12].view(64, 12)
    maskable = torch.ones_like(tokens, dtype=torch.bool)
    for seed in range(6):
        masks = sample_masks(maskable, RowNoise(seed, 0, range(64), 64), schedule("linear"), 10, together=True)
        nelbo_loss(Spy(), tokens, maskable, masks)
    for share in seen:  # of 12 positions each: the rows differ by chance alone
        rate = float(share.mean())
        assert min(abs(rate - i / 10) for i in range(1, 11)) < 0.05
        assert float(share.var()) < 1.6 * rate * (1 - rate) / 12 + 1e-6
    assert len({round(float(share.mean()), 1) for share in seen}) > 2
    assert job.update(0.5)[0][0].nats.isfinite()


def test_saved_model_keeps_its_dropout_setting(zoo, book, tmp_path):
    run, _ = train_in(tmp_path, "run", settings_from(zoo["bert"], book, {"train": {"dropout": 0.0}}))
    before, after = (json.loads((folder / "config.json").read_text()) for folder in (zoo["bert"], run.model))
    assert after["hidden_dropout_prob"] == before["hidden_dropout_prob"] == 0.1


def test_leftovers_of_a_killed_save_are_removed(zoo, book, tmp_path):
    run, _ = train_in(tmp_path, "run", settings_from(zoo["bert"], book), stop=After(1))
    (run.path / ".model.torn").mkdir()
    train_in(tmp_path, "run", run.settings(), resume=True)
    assert not list(run.path.glob(".model.*"))


def test_embeddings_have_neither_weight_decay_nor_muon(zoo, book, tmp_path):
    for kind, options in (("bert", {}), ("roberta", {"tie_word_embeddings": False})):
        folder = make(kind, tmp_path / kind, **options)
        job = job_of(tmp_path, folder, book, {"train": {"optimizer": "muon"}})
        model = job.network.model
        embeddings = {id(model.get_input_embeddings().weight), id(model.get_output_embeddings().weight)}
        decayed = {id(p) for p in job.network.matrices()}
        assert not decayed & embeddings
        assert len(decayed) >= 12
        assert job.update(0.5)[0][0].nats.isfinite()


def test_sizes_of_pretrained_models_may_be_invalid_for_a_tdiff_model(book, tmp_path):
    folder = make("bert", tmp_path / "odd", hidden_size=18, num_attention_heads=6)
    assert settings_from(folder, book).model.heads == 6


def test_padded_rows_are_refused_for_a_model_that_attends_to_padding(zoo, book, tmp_path):
    folder = Path(shutil.copytree(zoo["bert"], tmp_path / "fnet"))
    size = json.loads((folder / "config.json").read_text())["vocab_size"]
    config = transformers.FNetConfig(
        vocab_size=size, hidden_size=16, num_hidden_layers=2, intermediate_size=32, max_position_embeddings=18,
        initializer_range=0.3,
    )  # fmt: skip
    transformers.FNetForMaskedLM(config).save_pretrained(folder)
    job_of(tmp_path, folder, book)
    with pytest.raises(TdiffError, match=r"data\.rows padded: fnet attends to padding: use data\.rows packed"):
        job_of(tmp_path, folder, book, {"data": {"rows": "padded"}})


def test_training_an_mdlm_is_refused(zoo, book, tmp_path, here, cli_fast):
    folder = Path(shutil.copytree(zoo["bert"], tmp_path / "mdlm"))
    (folder / "config.json").write_text(json.dumps({"model_type": "mdlm"}))
    done = cli_fast("train", f"--init={folder}", f"--data={book}")
    assert "is an MDLM: it can generate, but not be trained" in done.refused()


def test_eval_and_compare_require_a_text_for_a_pretrained_model(zoo, cli_fast):
    for command in ("eval", "compare"):
        done = cli_fast(command, str(zoo["bert"]))
        assert "bert does not record its training text: name a text with --data FILE" in done.refused()


def test_stored_prompts_have_no_more_tokens_than_prompts_in_training(zoo, tmp_path):
    (tmp_path / "smiles.txt").write_text("🙂🙃🙂 the hare sings\n" * 300)
    job = job_of(tmp_path, zoo["roberta"], tmp_path / "smiles.txt", {"objective": {"context": 10}})
    assert job.data.prompts
    for opening in job.data.prompts:
        assert 0 < len(job.tokenizer.encode(opening)) <= 10
        assert "\ufffd" not in opening


def test_weights_can_be_saved_in_bfloat16(zoo, book, tmp_path):
    run, _ = train_in(tmp_path, "run", settings_from(zoo["bert"], book, {"train": {"weights": "bfloat16"}}))
    assert {t.dtype for t in load_file(run.model / "model.safetensors").values()} == {torch.bfloat16}
    assert all(p.dtype == torch.float32 for p in load_model(str(run.path)).network.parameters())


@pytest.mark.parametrize(
    ("layer", "says"),
    [
        ({"model": {"layers": 5}}, "model.layers is 2 in bert, the model of train.init; got 5"),
        ({"model": {"conv": 3}}, "model.conv is 0 in bert"),
        ({"model": {"window": 40}}, "model.window is too large for bert: its context length is 16; got 40"),
        ({"data": {"tokenizer": "bpe:64"}}, "leave out data.tokenizer 'bpe:64'"),
        ({"train": {"weights": "int8"}}, "train.weights int8 requires a model of tdiff"),
        ({"train": {"compile": "on"}}, "train.compile on requires a model of tdiff"),
    ],
)
def test_invalid_settings_for_a_pretrained_model_are_refused_before_anything_is_written(
    layer, says, zoo, book, tmp_path
):
    with pytest.raises(TdiffError) as error:
        job_of(tmp_path, zoo["bert"], book, layer)
    assert says in str(error.value)


def test_checkpointing_requires_a_pretrained_model(tiny_run, book, tmp_path):
    with pytest.raises(TdiffError, match=r"train\.checkpointing requires a pretrained model"):
        job_of(tmp_path, tiny_run.model, book, {"train": {"init": "", "checkpointing": True}})


def test_held_out_text_must_be_unseen_by_the_initial_model(zoo, book, tmp_path):
    job_of(tmp_path, zoo["bert"], book, {"data": {"held_out": "tuning"}})
    run, _ = train_in(tmp_path, "run", settings_from(zoo["bert"], book))
    with pytest.raises(TdiffError, match="was trained on the tuning part of this text"):
        job_of(tmp_path, run.model, book, {"data": {"held_out": "tuning"}})


def test_command_fine_tunes_with_the_finetune_preset_and_the_run_is_a_model(zoo, book, here, cli_fast):
    options = ["--steps=2", "--batch-size=2", "--context=4", "--eval-every=0", "--sample-every=0", "--device=cpu"]
    done = cli_fast("train", f"--init={zoo['roberta']}", f"--data={book}", "--run=mine", *options)
    assert done.returncode == 0, done.stderr
    settings = lookup.find_run("mine").settings()
    assert (settings.preset, settings.model.layers, settings.model.width, settings.train.lr) == (
        "finetune",
        2,
        16,
        5e-5,
    )
    done = cli_fast("generate", "over the", "--model=mine", "--length=6", "--seed=1", "--device=cpu")
    assert done.stdout.startswith("over the")
    done = cli_fast("eval", "mine", "--json", "--device=cpu")
    assert json.loads(done.stdout)["nats_per_token"] > 0
    done = cli_fast("train", "--resume=mine", "--steps=3")
    assert done.returncode == 0, done.stderr


def test_sizes_come_from_an_initial_tdiff_model(tiny_run, corpus_file, here, cli_fast):
    options = ["--steps=1", "--eval-every=0", "--sample-every=0", "--device=cpu", "--context=8"]
    done = cli_fast("train", f"--init={tiny_run.path}", f"--data={corpus_file}", "--run=more", *options)
    assert done.returncode == 0, done.stderr
    assert lookup.find_run("more").settings().model == tiny_run.settings().model


def test_loaded_model_holds_its_weights_once(tmp_path):
    folder = make("bert", tmp_path / "large", hidden_size=64, intermediate_size=256)
    model = load_model(str(folder))
    held = {p.untyped_storage().data_ptr(): p.untyped_storage().nbytes() for p in model.network.parameters()}
    assert sum(held.values()) == (folder / "model.safetensors").stat().st_size - _header(folder)


def _header(folder: Path) -> int:
    with (folder / "model.safetensors").open("rb") as file:
        return 8 + int.from_bytes(file.read(8), "little")
