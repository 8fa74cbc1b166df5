"""Model folders: what is written is read back bit for bit, and what is wrong is one line that says what."""

import dataclasses
import hashlib
import json
import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tdiff.config.decoding import DecodeSettings
from tdiff.core.models.base import LoadedModel
from tdiff.core.models.load import load_model, save_model
from tdiff.core.models.origin import Origin
from tdiff.core.models.tokenizers import learn
from tdiff.core.models.transformer import Shape, Transformer
from tdiff.errors import TdiffError

torch.set_num_threads(1)

ORIGIN = Origin(
    corpus="poem.txt",
    sources=("poem.txt", "ｗide.txt"),
    text_field="text",
    timesteps=8,
    schedule="cosine",
    context=4,
    context_mode="random",
    openings=("abc ", "d\ne█\x1b"),
    steps=12,
    tokens=3456,
)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A working folder of its own, and no shelf but ./checkpoints."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tdiff.runs.lookup._SHELVES", (Path("checkpoints"),))


def fresh(conv: int = 0) -> tuple[Transformer, Shape]:
    shape = Shape(
        vocab_size=11,
        mask_id=10,
        suppressed=(10,),
        layers=2,
        heads=2,
        width=8,
        window=12,
        conv=conv,
        time_conditioning=True,
        timesteps=8,
    )
    network = Transformer(shape)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in network.parameters():
            p.copy_(torch.randn(p.shape, generator=generator))
    return network, shape


@pytest.fixture
def folder(tmp_path) -> Path:
    """A sound model at ./checkpoints/poem/model."""
    path = tmp_path / "checkpoints" / "poem" / "model"
    save_model(path, fresh()[0], learn("char", "abcdefgh \n", ""), ORIGIN)
    return path


def digest(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}


def refused(name: str, says: str) -> None:
    """Loading `name` is one printable line that holds `says`, and writes nothing."""
    before = {p: p.stat().st_mtime_ns for p in Path().rglob("*")}
    with pytest.raises(TdiffError) as error:
        load_model(name)
    assert str(error.value).isprintable() and says in str(error.value)
    assert {p: p.stat().st_mtime_ns for p in Path().rglob("*")} == before


def rewrite(folder: Path, **values) -> None:
    """Change fields of config.json; None takes one away."""
    path = folder / "config.json"
    config = json.loads(path.read_text()) | values
    path.write_text(json.dumps({k: v for k, v in config.items() if v is not None}))


def logits(model: Transformer) -> torch.Tensor:
    tokens = torch.arange(24).view(2, 12) % 11
    with torch.no_grad():
        return model(tokens, torch.tensor([0.4, 1.0]), torch.ones_like(tokens, dtype=torch.bool))


@pytest.mark.parametrize("conv", [0, 3])
def test_a_saved_model_is_read_back_bit_for_bit(conv, tmp_path):
    network, shape = fresh(conv)
    tokenizer = learn("char", "abcdefgh \n", "")
    save_model(tmp_path / "m", network, tokenizer, ORIGIN)
    model = load_model(str(tmp_path / "m"))
    assert torch.equal(logits(model.network), logits(network))
    assert model.network.shape == shape and model.origin == ORIGIN
    assert model.tokenizer.pieces == tokenizer.pieces
    assert not model.network.training and not any(p.requires_grad for p in model.network.parameters())


def test_saving_what_was_loaded_writes_the_same_files(folder, tmp_path):
    model = load_model("poem")
    save_model(tmp_path / "copy", model.network, model.tokenizer, model.origin)
    assert digest(tmp_path / "copy") == digest(folder)
    assert set(digest(folder)) == {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}


def test_saving_over_a_model_replaces_it(folder):
    network = fresh()[0]
    with torch.no_grad():
        network.token_emb.weight += 1
    save_model(folder, network, learn("char", "abcdefgh \n", ""), dataclasses.replace(ORIGIN, steps=99))
    model = load_model("poem")
    assert torch.equal(logits(model.network), logits(network)) and model.origin.steps == 99
    assert len(list(folder.iterdir())) == 4


@pytest.mark.parametrize("name", ["poem", "checkpoints/poem", "checkpoints/poem/model", "./checkpoints/poem/"])
def test_a_model_is_found_by_the_name_of_its_run_and_by_paths(folder, name):
    model = load_model(name)
    assert isinstance(model, LoadedModel) and model.name == "poem"
    assert model.path.resolve() == folder


def test_weights_are_a_safetensors_file_without_buffers(folder):
    network = fresh()[0]
    assert load_file(folder / "model.safetensors").keys() == dict(network.named_parameters()).keys()


def test_weights_of_another_precision_are_converted(folder):
    path = folder / "model.safetensors"
    halves = {name: tensor.half() for name, tensor in load_file(path).items()}
    save_file(halves, path)
    network = load_model("poem").network
    assert {p.dtype for p in network.parameters()} == {torch.float32}
    assert torch.equal(network.token_emb.weight, halves["token_emb.weight"].float())


@pytest.mark.parametrize("keep", [0, 4, 100, 2000, -1])
def test_truncated_weights_are_refused(folder, keep):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    refused("poem", "model.safetensors' are damaged or not safetensors")


def test_weights_may_be_written_in_half_the_bytes(tmp_path):
    network, tokenizer = fresh()[0], learn("char", "abcdefgh \n", "")
    save_model(tmp_path / "whole", network, tokenizer, ORIGIN)
    save_model(tmp_path / "half", network, tokenizer, ORIGIN, torch.bfloat16)
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("half", "whole")]
    assert sizes[0] < 0.65 * sizes[1]
    read = load_model(str(tmp_path / "half")).network
    assert torch.equal(read.token_emb.weight, network.token_emb.weight.bfloat16().float())


def test_weights_with_a_header_of_nonsense_are_refused(folder):
    (folder / "model.safetensors").write_bytes((2**63).to_bytes(8, "little") + b"{" * 100)
    refused("poem", "are damaged or not safetensors")


def change(folder: Path, **tensors: torch.Tensor | None) -> None:
    """Change tensors of the weights, by names with _ for the last dot; None takes one away."""
    path = folder / "model.safetensors"
    now = load_file(path) | {name.replace("_weight", ".weight"): tensor for name, tensor in tensors.items()}
    save_file({name: tensor for name, tensor in now.items() if tensor is not None}, path)


def test_weights_of_the_wrong_shape_are_refused_with_both_shapes(folder):
    change(folder, token_emb_weight=torch.zeros(11, 9))
    refused("poem", "token_emb.weight has shape (11, 9); config.json requires (11, 8)")


def test_a_missing_tensor_is_named(folder):
    change(folder, output_head_weight=None)
    refused("poem", "lack output_head.weight, which config.json requires")


def test_an_extra_tensor_is_named(folder):
    change(folder, extra_weight=torch.zeros(3))
    refused("poem", "hold extra.weight, which config.json does not describe")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_refused(folder, value):
    weight = load_file(folder / "model.safetensors")["time_emb.weight"]
    weight[5, 3] = value
    change(folder, time_emb_weight=weight)
    refused("poem", "time_emb.weight holds numbers that are not finite")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("model.safetensors", "model.safetensors' do not exist"),
        ("tokenizer.json", "tokenizer.json' does not exist"),
        ("config.json", "no model 'poem'"),
    ],
)
def test_a_missing_file_is_named(folder, name, says):
    (folder / name).unlink()
    refused("poem", says)


def test_a_model_of_another_type_is_refused_with_its_type(folder):
    rewrite(folder, model_type="bert")
    refused("poem", "is of type 'bert'")
    rewrite(folder, model_type=None)
    refused("poem", "is of type None")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b"layers = 4", b"[" * 100_000])
def test_a_config_that_is_not_json_is_refused(folder, content):
    (folder / "config.json").write_bytes(content)
    refused("poem", "config.json' cannot be read")


@pytest.mark.parametrize("content", ["[]", "3", "null", '"tdiff"'])
def test_a_config_that_is_no_table_is_refused(folder, content):
    (folder / "config.json").write_text(content)
    refused("poem", "is not a table of settings")


@pytest.mark.parametrize("field", ["vocab_size", "mask_id", "suppressed", "layers", "heads", "width", "window"])
def test_a_config_without_a_field_is_refused_with_its_name(folder, field):
    rewrite(folder, **{field: None})
    refused("poem", f"lacks '{field}'")


def test_a_config_without_its_origin_or_part_of_it_is_refused(folder):
    rewrite(folder, origin={k: v for k, v in dataclasses.asdict(ORIGIN).items() if k != "corpus"})
    refused("poem", "lacks 'corpus'")
    rewrite(folder, origin=None)
    refused("poem", "lacks 'corpus'")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("layers", "two"),
        ("layers", 2.5),
        ("layers", -1),
        ("heads", 0),
        ("heads", 3),
        ("width", 0),
        ("width", True),
        ("window", [12]),
        ("window", 0),
        ("conv", 4),
        ("suppressed", [99]),
        ("suppressed", 10),
        ("suppressed", ["a"]),
        ("suppressed", []),
        ("mask_id", "10"),
        ("vocab_size", 11.0),
        ("timesteps", -1),
        ("time_conditioning", "yes"),
        ("origin", "poem"),
        ("origin", {**dataclasses.asdict(ORIGIN), "context": "four"}),
        ("origin", {**dataclasses.asdict(ORIGIN), "openings": [1]}),
    ],
)
def test_a_config_with_a_value_that_cannot_be_is_refused_with_the_field(folder, field, value):
    rewrite(folder, **{field: value})
    refused("poem", "context" if "four" in str(value) else "openings" if "[1]" in str(value) else field)


def test_a_config_may_hold_fields_of_a_newer_version(folder):
    before = logits(load_model("poem").network)
    rewrite(folder, flavour="new")
    assert torch.equal(logits(load_model("poem").network), before)


def test_a_tokenizer_that_does_not_fit_the_model_is_refused(folder):
    learn("char", "abc", "").save(folder)
    refused("poem", "11 tokens with mask 10, but tokenizer.json has 4 with mask 3")


def test_a_damaged_tokenizer_is_refused(folder):
    (folder / "tokenizer.json").write_text('{"version"')
    refused("poem", "tokenizer.json' is damaged")


class Hostile:
    """Unpickling it makes a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.bin"])
def test_folder_of_pickled_weights_is_refused_without_running_code(name, tmp_path):
    evil, trace = tmp_path / "evil", tmp_path / "it-ran"
    evil.mkdir()
    (evil / name).write_bytes(pickle.dumps(Hostile(trace)))
    refused("evil", "loading a pickle can run code")
    assert not trace.exists()
    pickle.loads((evil / name).read_bytes())
    assert trace.exists()  # it would have


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors"])
def test_a_pickle_beside_a_sound_config_is_never_run(folder, name, tmp_path):
    trace = tmp_path / "it-ran"
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(pickle.dumps(Hostile(trace)))
    refused("poem", "model.safetensors' are damaged" if name == "model.safetensors" else "do not exist")
    assert not trace.exists()


@pytest.mark.parametrize("name", ["model.pt", "pytorch_model.bin", "model.safetensors"])
def test_file_instead_of_a_folder_is_refused(name, tmp_path):
    trace = tmp_path / "it-ran"
    (tmp_path / name).write_bytes(pickle.dumps(Hostile(trace)))
    refused(name, "is a file; tdiff reads a folder")
    assert not trace.exists()


def test_a_name_that_is_nearly_right_is_answered_with_the_nearest(folder):
    refused("peom", "no model 'peom': neither a folder nor a name; did you mean poem?")


def test_the_error_for_a_folder_without_a_model_differs_from_that_for_a_missing_name(tmp_path):
    (tmp_path / "stories").mkdir()
    for name in ("stories", "./stories", str(tmp_path / "stories"), "."):
        refused(name, "has no config.json; a model is a folder with config.json, model.safetensors and tokenizer.json")


def test_a_name_that_is_far_off_is_answered_with_all_there_are(folder):
    refused("gpt-seven", "there are: poem")


def test_the_error_for_a_run_without_weights_differs_from_that_for_a_missing_run(tmp_path):
    (tmp_path / "checkpoints" / "new").mkdir(parents=True)
    (tmp_path / "checkpoints" / "new" / "config.toml").write_text("")
    refused("new", "run 'new' has no weights yet")


@pytest.mark.parametrize("name", ["", ".", "~nobody-of-that-name/model", "a\0b", "x" * 5000, "poem/nothing"])
def test_a_name_that_no_folder_can_have_is_no_model(folder, name):
    with pytest.raises(TdiffError, match="no model"):
        load_model(name)


def test_large_matrices_may_be_written_in_8_bits_with_a_scale_for_each_row(tmp_path):
    shape = Shape(vocab_size=11, mask_id=10, suppressed=(10,), layers=1, heads=2, width=64, window=12, conv=3)
    network = Transformer(shape)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in network.parameters():
            p.copy_(torch.randn(p.shape, generator=generator))
        network.blocks[0].mlp.c_fc.weight[3] = 0.0
    tokenizer = learn("char", "abcdefgh \n", "")
    save_model(tmp_path / "whole", network, tokenizer, ORIGIN)
    save_model(tmp_path / "small", network, tokenizer, ORIGIN, torch.int8)
    stored = load_file(tmp_path / "small" / "model.safetensors")
    assert stored["blocks.0.mlp.c_fc.weight"].dtype == torch.int8
    assert stored["token_emb.weight"].dtype == torch.float32  # too small to be worth it
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("whole", "small")]
    assert sizes[1] < 0.6 * sizes[0]
    read = load_model(str(tmp_path / "small")).network
    for (name, mine), loaded in zip(network.named_parameters(), read.parameters(), strict=True):
        off = (mine - loaded).abs().flatten(1) if mine.ndim > 1 else (mine - loaded).abs()[None]
        step = mine.abs().flatten(1).amax(1) / 127 if mine.ndim > 1 else mine.abs().amax(0, keepdim=True) / 127
        assert bool((off.amax(1) <= 0.5001 * step).all()), name
    # Written again they are the same: nothing is lost twice.
    save_model(tmp_path / "again", read, tokenizer, ORIGIN, torch.int8)
    again = load_file(tmp_path / "again" / "model.safetensors")
    assert all(torch.equal(again[name], stored[name]) for name in stored if stored[name].dtype == torch.int8)


def test_scale_without_its_matrix_is_refused(folder):
    path = folder / "model.safetensors"
    save_file(load_file(path) | {"stray.scale": torch.ones(2)}, path)
    refused("poem", "hold stray.scale, which config.json does not describe")


def test_8_bits_without_their_scales_are_refused(folder):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    tensors["blocks.0.mlp.c_fc.weight"] = tensors["blocks.0.mlp.c_fc.weight"].to(torch.int8)
    save_file(tensors, path)
    refused("poem", "blocks.0.mlp.c_fc.weight in 8 bits, without the scales of its rows")


OWN = ("decoder=topk", "k=3", "temperature=0.5")


@pytest.fixture
def decisive(folder):
    """A model folder that says how its model writes best."""
    origin = json.loads((folder / "config.json").read_text())["origin"]
    rewrite(folder, origin=origin | {"decoding": list(OWN)})
    return folder


def test_options_override_the_decoding_settings_of_the_model(decisive):
    model = load_model(str(decisive))
    assert model.decode_settings({}, 5) == DecodeSettings(decoder="topk", k=3, temperature=0.5, seed=5)
    assert model.decode_settings({"k": 7}, 5) == DecodeSettings(decoder="topk", k=7, temperature=0.5, seed=5)


def test_named_decoder_replaces_all_decoding_settings_of_the_model(decisive):
    model = load_model(str(decisive))
    assert model.decode_settings({"decoder": "topk"}, 5) == DecodeSettings(decoder="topk", seed=5)


def test_model_without_decoding_settings_uses_the_defaults(folder):
    assert load_model(str(folder)).decode_settings({"steps": 3}, 5) == DecodeSettings(steps=3, seed=5)


def test_decoding_settings_are_saved_with_the_model(decisive, tmp_path):
    model = load_model(str(decisive))
    save_model(tmp_path / "again", model.network, model.tokenizer, model.origin)
    assert load_model(str(tmp_path / "again")).origin.decoding == OWN


@pytest.mark.parametrize(
    ("own", "says"),
    [
        (["decoder=best"], "unknown decoder"),
        (["k=3"], "must name a decoder"),
        (["decoder=topk", "k"], "takes NAME=VALUE"),
        (["decoder=topk", "k=many"], "k"),
        (["decoder=topk", "colour=red"], "unknown setting"),
        (["decoder=topk", "seed=3"], "unknown setting"),
    ],
)
def test_config_with_invalid_decoding_settings_is_refused(own, says, folder):
    origin = json.loads((folder / "config.json").read_text())["origin"]
    rewrite(folder, origin=origin | {"decoding": own})
    with pytest.raises(TdiffError, match=says) as why:
        load_model(str(folder))
    assert "config.json" in str(why.value)
