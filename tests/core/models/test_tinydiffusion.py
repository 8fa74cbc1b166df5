"""`tdiff import tiny-diffusion`: its weights compute here what they compute there, and nothing else gets in."""

import math
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tdiff.config.decoding import DecodeSettings
from tdiff.core.diffusion.denoise import denoise
from tdiff.core.diffusion.generate import generate
from tdiff.core.models.base import LoadedModel
from tdiff.core.models.load import load_model
from tests.support.models import StubModel
from tests.support.runs import environment

PROMPT = "To be, or not to"
WIDTH, LAYERS, HEADS = 24, 2, 3


def state(layers: int = LAYERS, width: int = WIDTH, rows: int = 128, inner: int = 0) -> dict[str, Tensor]:
    """Random weights as tiny-diffusion's `model.state_dict()` names them."""
    draw = torch.Generator().manual_seed(2)

    def some(*shape: int, spread: float = 1.0) -> Tensor:
        return torch.randn(shape, generator=draw) * spread

    matrix, inner = 1 / math.sqrt(width), inner or 4 * width
    weights = {"token_emb.weight": some(128, width), "time_emb.weight": some(rows, width)}
    for n in range(layers):
        for key in ("c_q", "c_k", "c_v", "c_proj"):
            weights[f"blocks.{n}.attn.{key}.weight"] = some(width, width, spread=matrix)
        weights[f"blocks.{n}.mlp.c_fc.weight"] = some(inner, width, spread=matrix)
        weights[f"blocks.{n}.mlp.c_proj.weight"] = some(width, inner, spread=matrix / 2)
    return weights | {"output_head.weight": some(128, width, spread=3 * matrix)}


def restated(weights: dict[str, Tensor], row: Tensor, t: int, heads: int) -> Tensor:
    """Logits (L, 128) of tiny-diffusion's model for one row of ids (L,) at its time `t`, in float64."""
    w = {name: tensor.double() for name, tensor in weights.items()}

    def rms(x: Tensor) -> Tensor:
        return x / (x.square().mean(-1, keepdim=True) + torch.finfo(torch.float32).eps).sqrt()

    def turned(x: Tensor) -> Tensor:  # (L, D)
        half = x.size(1) // 2
        angle = torch.arange(len(x))[:, None].double() / torch.tensor([10_000 ** (j / half) for j in range(half)])
        x1, x2 = x[:, :half], x[:, half:]
        return torch.cat((x1 * angle.cos() + x2 * angle.sin(), -x1 * angle.sin() + x2 * angle.cos()), 1)

    x = rms(w["token_emb.weight"][row] + w["time_emb.weight"][t])
    size = x.size(1) // heads
    for n in range(sum(name.endswith("attn.c_q.weight") for name in w)):
        seen, heard = rms(x), []
        q, k, v = (seen @ w[f"blocks.{n}.attn.{key}.weight"].T for key in ("c_q", "c_k", "c_v"))
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            scores = rms(turned(q[:, part])) @ rms(turned(k[:, part])).T / math.sqrt(size)
            heard.append(scores.softmax(-1) @ v[:, part])
        x = x + torch.cat(heard, 1) @ w[f"blocks.{n}.attn.c_proj.weight"].T
        inner = (rms(x) @ w[f"blocks.{n}.mlp.c_fc.weight"].T).clamp(min=0)
        x = x + inner.square() @ w[f"blocks.{n}.mlp.c_proj.weight"].T
    return rms(x) @ w["output_head.weight"].T


def canvas(masked: int) -> Tensor:
    """(1, 256): 16 characters that are given, and 240 of which so many are masked."""
    draw = torch.Generator().manual_seed(masked)
    ids = torch.randint(32, 127, (1, 256), generator=draw)
    ids[0, 16 + torch.randperm(240, generator=draw)[:masked]] = 0
    return ids


@pytest.fixture
def file(here) -> Path:
    """diffusion_model.pt in the working folder."""
    torch.save(state(), "diffusion_model.pt")
    return Path("diffusion_model.pt")


@pytest.fixture
def model(file, cli_fast) -> LoadedModel:
    assert cli_fast("import", "tiny-diffusion", str(file), "tiny", "--heads", str(HEADS)).returncode == 0
    return load_model("tiny")


# What is imported computes the same.


@pytest.mark.parametrize(("masked", "t"), [(1, 0), (2, 1), (120, 63), (121, 64), (239, 127), (240, 127)])
def test_logits_are_those_of_the_definition_at_the_time_of_training(masked, t, model):
    tokens = canvas(masked)
    where = tokens == 0
    ours = model.network(tokens, torch.tensor([masked / 240]), where)
    expected = restated(state(), tokens[0], t, HEADS)[where[0]]
    torch.testing.assert_close(ours[:, 1:].double(), expected[:, 1:], rtol=1e-4, atol=1e-4)
    assert bool((ours[:, 0] == -torch.inf).all())
    another = restated(state(), tokens[0], (t + 1) % 128, HEADS)[where[0]]
    assert float((another - expected).abs().max()) > 0.05  # another row would be seen


def test_a_decoder_asks_for_the_row_of_how_much_of_the_240_is_masked(model):
    calls = {}

    class Noted(StubModel):
        mask_id = model.network.spec.mask_id

        def __call__(self, tokens: Tensor, share: Tensor, where: Tensor) -> Tensor:
            logits = model.network(tokens, share, where)
            calls[int(where.sum())] = (tokens[0].clone(), where[0].clone(), logits.clone())
            return logits

    start = canvas(240)
    for _ in denoise(Noted(), start, settings=DecodeSettings(decoder="topk", k=1, temperature=0.0)):
        pass
    assert sorted(calls) == list(range(1, 241))
    for masked in (1, 120, 240):
        tokens, where, logits = calls[masked]
        expected = restated(state(), tokens, math.ceil(128 * masked / 240) - 1, HEADS)[where]
        torch.testing.assert_close(logits[:, 1:].double(), expected[:, 1:], rtol=1e-4, atol=1e-4)


def test_the_real_size_is_read_with_its_six_heads(here, cli_fast):
    weights = state(layers=6, width=384)
    torch.save(weights, "diffusion_model.pt")
    done = cli_fast("import", "tiny-diffusion", "diffusion_model.pt", "checkpoints/tiny")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == f"read 10.8M parameters; try: tdiff generate '{PROMPT}' --model checkpoints/tiny\n"
    model = load_model("tiny")
    assert (model.network.shape.layers, model.network.shape.heads, model.network.shape.width) == (6, 6, 384)
    tokens = canvas(60)
    where = tokens == 0
    ours = model.network(tokens, torch.tensor([60 / 240]), where)
    expected = restated(weights, tokens[0], 31, 6)[where[0]]
    torch.testing.assert_close(ours[:, 1:].double(), expected[:, 1:], rtol=1e-3, atol=1e-3)


def test_the_folder_is_an_ordinary_model_with_the_very_same_weights(model):
    kept = load_file("tiny/model.safetensors")
    assert {name: tensor.tolist() for name, tensor in kept.items()} == {n: t.tolist() for n, t in state().items()}
    assert sorted(p.name for p in Path("tiny").iterdir()) == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    shape, origin = model.network.shape, model.origin
    assert (shape.vocab_size, shape.mask_id, shape.suppressed, shape.window) == (128, 0, (0,), 256)
    assert (shape.time_conditioning, shape.timesteps, shape.hidden) == (True, 128, 0)
    assert (origin.timesteps, origin.schedule, origin.context, origin.context_mode) == (128, "linear", 16, "fixed")
    assert (origin.sources, origin.openings) == ((), ())
    assert model.tokenizer.encode("A\n~").tolist() == [65, 10, 126]
    settings = model.decode_settings({}, 1)
    assert (settings.decoder, settings.threshold) == ("confidence", 0.9)


def test_other_sizes_are_those_of_the_weights(here, cli_fast):
    torch.save(state(layers=3, width=16, rows=10, inner=40), "other.pt")
    assert cli_fast("import", "tiny-diffusion", "other.pt", "other", "--heads", "4").returncode == 0
    shape = load_model("other").network.shape
    assert (shape.layers, shape.heads, shape.width, shape.timesteps, shape.hidden) == (3, 4, 16, 10, 40)


def test_the_number_of_heads_matters(model, cli_fast):
    assert cli_fast("import", "tiny-diffusion", "diffusion_model.pt", "other", "--heads", "2").returncode == 0
    tokens = canvas(100)
    three, two = (m.network(tokens, torch.ones(1), tokens == 0)[:, 1:] for m in (model, load_model("other")))
    assert float((three - two).abs().max()) > 0.05


@pytest.mark.parametrize(
    "wrap",
    [
        lambda weights: {"model": weights},
        lambda weights: {"model_state_dict": weights, "optimizer_state_dict": {"state": {}}, "step": 20000},
        lambda weights: {"state_dict": weights},
        lambda weights: {f"_orig_mod.{name}": tensor for name, tensor in weights.items()},
        lambda weights: {"model": {f"_orig_mod.{name}": tensor for name, tensor in weights.items()}},
        lambda weights: {name: tensor.to(torch.bfloat16) for name, tensor in weights.items()},
        lambda weights: {name: torch.nn.Parameter(tensor) for name, tensor in weights.items()},
    ],
    ids=["model", "model_state_dict", "state_dict", "compiled", "both", "half", "parameters"],
)
def test_nested_state_dict_is_found(wrap, here, cli_fast):
    torch.save(wrap(state()), "kept.pt")
    done = cli_fast("import", "tiny-diffusion", "kept.pt", "kept", "--heads", "3")
    assert done.returncode == 0, done.stderr
    weights = load_file("kept/model.safetensors")
    assert weights.keys() == state().keys()
    assert all(torch.allclose(weights[name], tensor, rtol=1e-2, atol=1e-6) for name, tensor in state().items())


def test_a_file_of_the_older_format_is_read(here, cli_fast):
    torch.save(state(), "old.pt", _use_new_zipfile_serialization=False)
    assert cli_fast("import", "tiny-diffusion", "old.pt", "old", "--heads", "3").returncode == 0


def newer(width: int = WIDTH) -> dict[str, Tensor]:
    """Random weights as the `diffusion.py` of December 2025 names them."""
    weights = {name: tensor for name, tensor in state(width=width).items() if name != "time_emb.weight"}
    weights["lm_head.weight"] = weights.pop("output_head.weight")[:66]
    return weights | {"token_emb.weight": weights["token_emb.weight"][:66]}


def test_the_newer_layout_is_read_with_its_own_characters_and_no_time(here, cli_fast):
    torch.save(newer(), "diffusion.pt")
    done = cli_fast("import", "tiny-diffusion", "diffusion.pt", "new", "--heads", "3")
    assert (done.returncode, done.stderr.splitlines()[0][:4]) == (0, "read")
    model = load_model("new")
    text = "First Citizen:\nBefore we proceed any further, hear me speak."
    ids = model.tokenizer.encode(text)
    characters = "_" + "".join(
        sorted(set("\n !$&',-.3:;?" + "abcdefghijklmnopqrstuvwxyz" + "ABCDEFGHIJKLMNOPQRSTUVWXYZ"))
    )
    assert [characters[i] for i in ids] == list(text) and model.network.spec.mask_id == 0 and len(model.tokenizer) == 66
    tokens = ids.clone()
    tokens[20:40] = 0
    ours = model.network(tokens[None], torch.ones(1), (tokens == 0)[None])
    old = newer()
    old["output_head.weight"] = old.pop("lm_head.weight")
    expected = restated(old | {"time_emb.weight": torch.zeros(1, WIDTH)}, tokens, 0, HEADS)[20:40]
    torch.testing.assert_close(ours[:, 1:].double(), expected[:, 1:], rtol=1e-4, atol=1e-4)
    settings = model.decode_settings({}, 1)
    assert (settings.decoder, settings.rank, settings.threshold, settings.top_k) == (
        "confidence",
        "top-k-mass",
        0.95,
        3,
    )
    written = cli_fast("generate", "--model", "new", "--length", "20", "--seed", "1")
    assert written.returncode == 0 and len(written.stdout) == 21 and "_" not in written.stdout


def test_newer_layout_with_another_vocabulary_is_refused_with_its_size(here, cli_fast):
    weights = newer()
    weights["token_emb.weight"] = weights["token_emb.weight"][:60]
    torch.save(weights, "odd.pt")
    line = cli_fast("import", "tiny-diffusion", "odd.pt", "out", "--heads", "3").refused()
    assert (
        "token_emb.weight has 60 rows; tiny-diffusion's with lm_head.weight has 66, the mask and the 65 of Tiny" in line
    )
    for name in ("lm_head.weight", "blocks.1.attn.c_k.weight"):
        torch.save({key: value for key, value in newer().items() if key != name}, "odd.pt")
        assert "lack" in cli_fast("import", "tiny-diffusion", "odd.pt", "out", "--heads", "3").refused()


# It writes.


@pytest.mark.parametrize("out", ["checkpoints/mine", "plain", "deep/er/folder", "with space"])
def test_imported_model_continues_a_prompt(out, file, cli_fast):
    done = cli_fast("import", "tiny-diffusion", str(file), out, "--heads", "3")
    assert done.returncode == 0 and done.stderr.startswith("read 0.0M parameters; try: tdiff generate 'To be")
    assert done.stderr.count("\n") == 1 and "█" not in done.stderr
    written = cli_fast("generate", PROMPT, "--model", out, "--seed", "1")
    assert written.returncode == 0, written.stderr
    text = written.stdout.removesuffix("\n")
    assert text.startswith(PROMPT) and len(text) == 256 and "█" not in text


def test_a_run_of_that_name_is_found_without_its_path(file, cli_fast):
    assert cli_fast("import", "tiny-diffusion", str(file), "checkpoints/mine", "--heads", "3").returncode == 0
    assert cli_fast("generate", PROMPT, "--model", "mine", "--length", "9", "--seed", "1").returncode == 0


def test_imported_model_requires_a_prompt(model, cli_fast):
    line = cli_fast("generate", "--model", "tiny", "--seed", "1").refused()
    assert "tiny was trained with prompts of 16 tokens only and cannot start without one" in line


def test_the_mask_is_never_written(model):
    with torch.no_grad():
        model.network.output_head.weight[0] = 1e4
    *_, step = generate(model, [PROMPT], DecodeSettings(seed=1), length=60)
    assert not bool((step.tokens == 0).any())


# What is refused: one line, exit code 2, and nothing is written.


@pytest.fixture
def refusal(cli_fast):
    """The line that says why, with the working folder as it was."""

    def ask(file: str, out: str = "out", *more: str) -> str:
        before = sorted(Path().rglob("*"))
        line = cli_fast("import", "tiny-diffusion", file, out, *(more or ("--heads", "3"))).refused()
        assert line.isprintable() and len(line) < 400, line
        assert sorted(Path().rglob("*")) == before
        return line

    return ask


def test_an_unknown_kind_lists_the_known_and_names_the_nearest(file, cli_fast):
    for kind in ("mdlm", "tiny-difusion"):
        line = cli_fast("import", kind, str(file), "out").refused()
        assert f"unknown project {kind!r};" in line and "known: tiny-diffusion" in line
    assert "did you mean tiny-diffusion?" in line
    assert not Path("out").exists()


def test_a_folder_or_file_that_exists_is_not_overwritten(file, refusal):
    Path("taken").mkdir()
    Path("a-file").write_text("mine")
    Path("dangling").symlink_to("nowhere")
    for out in ("taken", "a-file", "dangling", "."):
        assert f"{out!r} exists and is not overwritten" in refusal(str(file), out)
    assert Path("a-file").read_text() == "mine" and not list(Path("taken").iterdir())


def test_a_file_that_is_not_there_or_a_folder_is_named(here, refusal):
    assert refusal("nothing.pt") == "weights 'nothing.pt' do not exist"
    Path("weights").mkdir()
    assert "weights 'weights' are a folder; a file such as diffusion_model.pt is read" in refusal("weights")


class Hostile:
    """Unpickling it makes a folder."""

    def __init__(self, target: str) -> None:
        self.target = target

    def __reduce__(self):
        import os

        return os.mkdir, (self.target,)


@pytest.mark.parametrize("how", ["torch", "pickle", "within", "older"])
def test_a_pickle_that_would_run_code_does_not(how, here, refusal):
    content = {**state(), "extra": Hostile("it-ran")} if how == "within" else Hostile("it-ran")
    if how == "pickle":
        Path("evil.pt").write_bytes(pickle.dumps(content))
    else:
        torch.save(content, "evil.pt", _use_new_zipfile_serialization=how != "older")
    assert "a pickle with more than tensors, which is not read since it can run code" in refusal("evil.pt")
    assert not Path("it-ran").exists()
    if how == "pickle":  # and it would have
        pickle.loads(Path("evil.pt").read_bytes())
        assert Path("it-ran").is_dir()


@pytest.mark.parametrize("keep", [0, 10, 3000, -100])
def test_a_damaged_file_is_refused(keep, file, refusal):
    file.write_bytes(file.read_bytes()[:keep])
    assert "weights 'diffusion_model.pt' are damaged, or a pickle" in refusal(str(file))


def test_a_text_is_no_weights(here, refusal):
    Path("notes.txt").write_text("First Citizen:\nBefore we proceed any further, hear me speak.\n" * 20)
    assert "weights 'notes.txt' are damaged, or a pickle" in refusal("notes.txt")


@pytest.mark.parametrize("content", [torch.ones(3), [torch.ones(3)], {}, {3: torch.ones(3)}, "text", {"model": {}}])
def test_pickle_without_named_tensors_is_refused(content, here, refusal):
    torch.save(content, "odd.pt")
    assert "odd.pt' are not a dict of named tensors" in refusal("odd.pt")


@pytest.mark.parametrize(
    "value", [3, "text", torch.ones(128, WIDTH).long(), torch.ones(128, WIDTH).to_sparse()], ids=str
)
def test_value_that_is_not_a_float_tensor_is_named(value, here, refusal):
    torch.save(state() | {"time_emb.weight": value}, "odd.pt")
    assert "time_emb.weight is not a floating-point tensor" in refusal("odd.pt")


def test_a_tensor_without_numbers_is_named(here, refusal):
    torch.save(state() | {"time_emb.weight": torch.ones(128, WIDTH, device="meta")}, "odd.pt")
    assert "time_emb.weight has a shape but no numbers" in refusal("odd.pt")


@pytest.mark.parametrize("name", ["token_emb.weight", "time_emb.weight", "blocks.0.mlp.c_fc.weight"])
def test_weights_of_another_program_are_refused_with_its_name(name, here, refusal):
    weights = state()
    del weights[name]
    torch.save(weights, "odd.pt")
    assert f"weights 'odd.pt' lack {name}, which tiny-diffusion's model has" in refusal("odd.pt")


@pytest.mark.parametrize("name", ["blocks.1.attn.c_k.weight", "output_head.weight"])
def test_a_missing_weight_is_named(name, here, refusal):
    weights = state()
    del weights[name]
    torch.save(weights, "odd.pt")
    assert f"lack {name}, which tiny-diffusion's model of that many blocks has" in refusal("odd.pt")


@pytest.mark.parametrize("name", ["output_head.bias", "blocks.1.attn.c_q.bias", "ema.weight"])
def test_unexpected_weight_is_named(name, here, refusal):
    torch.save(state() | {name: torch.ones(3)}, "odd.pt")
    assert f"hold {name}, which tiny-diffusion's model does not have" in refusal("odd.pt")


def test_a_block_that_was_left_out_is_named(here, refusal):
    torch.save({n.replace("blocks.1.", "blocks.2."): t for n, t in state().items()}, "odd.pt")
    assert "lack blocks.1.attn.c_k.weight" in refusal("odd.pt")


@pytest.mark.parametrize(
    ("name", "came", "says"),
    [
        ("output_head.weight", (128, 25), "has shape (128, 25); to fit the other weights it must have (128, 24)"),
        ("blocks.1.mlp.c_proj.weight", (24, 95), "has shape (24, 95); to fit the other weights it must have (24, 96)"),
        ("blocks.1.attn.c_v.weight", (24,), "has shape (24,); to fit the other weights it must have (24, 24)"),
        (
            "token_emb.weight",
            (65, 24),
            "has 65 rows; tiny-diffusion's with output_head.weight has 128, one for each ASCII character",
        ),
        ("token_emb.weight", (128,), "has shape (128,); tiny-diffusion's is a matrix"),
        ("time_emb.weight", (128, 0), "has shape (128, 0); tiny-diffusion's is a matrix"),
    ],
)
def test_a_shape_that_does_not_fit_is_refused(name, came, says, here, refusal):
    torch.save(state() | {name: torch.ones(came)}, "odd.pt")
    line = refusal("odd.pt")
    assert name in line and says in line


def test_a_few_bytes_that_claim_to_be_a_huge_matrix_are_refused(here, refusal):
    torch.save(state() | {"token_emb.weight": torch.ones(1).expand(128, 1 << 30)}, "odd.pt")
    assert Path("odd.pt").stat().st_size < 100_000
    assert "token_emb.weight has shape (128, 1073741824); tiny-diffusion's is a matrix of at most 65,536" in refusal(
        "odd.pt"
    )


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_numbers_that_are_not_finite_are_refused(value, here, refusal):
    weights = state()
    weights["blocks.0.attn.c_q.weight"][2, 3] = value
    torch.save(weights, "odd.pt")
    assert "blocks.0.attn.c_q.weight holds numbers that are not finite" in refusal("odd.pt")


@pytest.mark.parametrize(("heads", "near"), [("0", "1"), ("5", "4"), ("11", "12"), ("24", "12"), ("-1", "1")])
def test_heads_that_do_not_share_out_the_width_are_refused_with_the_nearest(heads, near, file, refusal):
    line = refusal(str(file), "out", "--heads", heads)
    says = f"--heads must split the width of 24 into parts of even size; got {heads}; the nearest valid number is "
    assert line == says + near


def test_a_folder_that_cannot_be_created_is_reported(file, refusal):
    Path("a-file").write_text("")
    assert "the folder 'a-file/out' cannot be made: Not a directory" in refusal(str(file), "a-file/out")


def test_a_folder_that_could_not_be_filled_is_taken_away(file, cli_fast, monkeypatch):
    def full(folder: Path, *rest: object) -> None:
        (folder / "tokenizer.json").write_text("{}")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tdiff.core.models.load.save_model", full)
    done = cli_fast("import", "tiny-diffusion", str(file), "out", "--heads", "3")
    assert (done.returncode, done.stdout) == (1, "") and "No space left on device" in done.stderr
    assert not Path("out").exists()


def test_errors_before_the_file_is_read_do_not_import_torch():
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from tdiff.commands import convert\n"
        "from tdiff.errors import TdiffError\n"
        "for kind, out in (('tiny', 'nowhere'), ('tiny-diffusion', '.')):\n"
        "    try:\n"
        "        convert.convert(kind, Path('x.pt'), Path(out))\n"
        "    except TdiffError as why:\n"
        "        print(str(why).split(';')[0])\n"
        "print('torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, timeout=60)
    lines = ["unknown project 'tiny'", "'.' exists and is not overwritten", "False"]
    assert (done.stdout.splitlines(), done.stderr) == (lines, "")


def test_help_lists_the_command_within_80_columns(cli_fast):
    [line] = [line for line in cli_fast("--help").stdout.splitlines() if line.startswith("  import ")]
    assert len(line) <= 80 and "Convert a checkpoint" in line
    help_text = cli_fast("import", "--help").stdout
    assert "{KIND} {FILE} {OUT}" in help_text and "--heads" in help_text and "tiny-diffusion" in help_text
