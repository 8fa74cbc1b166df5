"""MDLM's published model: what it computes, against a plain restatement; and what is refused, in one line."""

import gc
import json
import math
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn

from tdiff.config.decoding import DecodeSettings
from tdiff.core.diffusion.generate import canvas, generate, overlap
from tdiff.core.evaluation.likelihood import score
from tdiff.core.models.base import LoadedModel
from tdiff.core.models.load import load_model
from tdiff.core.models.mdlm import MDLM, Sizes, layout
from tests.support.hub_zoo import Hostile, rewrite
from tests.support.runs import words

END = "<|endoftext|>"
WIDTH, CONDITION, BLOCKS, HEADS, WINDOW = 16, 8, 3, 2, 12
TEXT = words(300) + "naïve café — 🙂\n"


def byte_pairs(size: int = 300) -> Tokenizer:
    """A tokenizer of GPT-2's kind, with its one special token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[END],
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT.splitlines(), trainer)
    return tokenizer


VOCAB = byte_pairs().get_vocab_size() + 1
"""With the mask."""


def make(folder: Path) -> Path:
    """A random model of three small blocks, laid out as the published one."""
    draw = torch.Generator().manual_seed(3)

    def some(name: str, *shape: int) -> Tensor:
        scale = 1.0 if "embedding" in name else 1.5 / math.sqrt(shape[-1]) if len(shape) > 1 else 0.3
        value = torch.randn(shape, generator=draw) * scale
        return value + 1 if "norm" in name else value

    shapes = {
        "vocab_embed.embedding": (VOCAB, WIDTH),
        "sigma_map.mlp.0.weight": (CONDITION, 256),
        "sigma_map.mlp.0.bias": (CONDITION,),
        "sigma_map.mlp.2.weight": (CONDITION, CONDITION),
        "sigma_map.mlp.2.bias": (CONDITION,),
        "output_layer.norm_final.weight": (WIDTH,),
        "output_layer.linear.weight": (VOCAB, WIDTH),
        "output_layer.linear.bias": (VOCAB,),
        "output_layer.adaLN_modulation.weight": (2 * WIDTH, CONDITION),
        "output_layer.adaLN_modulation.bias": (2 * WIDTH,),
    }
    for n in range(BLOCKS):
        shapes |= {
            f"blocks.{n}.norm1.weight": (WIDTH,),
            f"blocks.{n}.attn_qkv.weight": (3 * WIDTH, WIDTH),
            f"blocks.{n}.attn_out.weight": (WIDTH, WIDTH),
            f"blocks.{n}.norm2.weight": (WIDTH,),
            f"blocks.{n}.mlp.0.weight": (4 * WIDTH, WIDTH),
            f"blocks.{n}.mlp.0.bias": (4 * WIDTH,),
            f"blocks.{n}.mlp.2.weight": (WIDTH, 4 * WIDTH),
            f"blocks.{n}.mlp.2.bias": (WIDTH,),
            f"blocks.{n}.adaLN_modulation.weight": (6 * WIDTH, CONDITION),
            f"blocks.{n}.adaLN_modulation.bias": (6 * WIDTH,),
        }
    weights = {f"backbone.{name}": some(name, *shape) for name, shape in shapes.items()}
    half = WIDTH // HEADS // 2
    weights["backbone.rotary_emb.inv_freq"] = torch.tensor([1 / 10_000 ** (j / half) for j in range(half)])
    folder.mkdir(parents=True)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    config = {
        "architectures": ["MDLM"],
        "auto_map": {"AutoConfig": "evil.Evil", "AutoModelForMaskedLM": "evil.Evil"},
        "model_type": "mdlm",
        "vocab_size": VOCAB,
        "model_length": WINDOW,
        "hidden_dim": WIDTH,
        "cond_dim": CONDITION,
        "n_blocks": BLOCKS,
        "n_heads": HEADS,
        "dropout": 0.1,
        "time_conditioning": False,
        "return_dict": False,
        "torch_dtype": "float32",
        "transformers_version": "4.38.2",
    }
    (folder / "config.json").write_text(json.dumps(config))
    byte_pairs().save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture
def folder(tmp_path) -> Path:
    return make(tmp_path / "mdlm-small")


@pytest.fixture
def model(folder) -> LoadedModel:
    return load_model(str(folder))


def layer_norm(x: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / torch.sqrt((centred * centred).mean(-1, keepdim=True) + 1e-5)


def silu(x: Tensor) -> Tensor:
    return x / (1 + torch.exp(-x))


def gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def turned(x: Tensor, direction: float = 1.0) -> Tensor:
    """(L, D): the halves of each position's vector turned by its position."""
    half = x.size(1) // 2
    out = torch.empty_like(x)
    for position in range(x.size(0)):
        for j in range(half):
            angle = direction * position / 10_000 ** (j / half)
            out[position, j] = x[position, j] * math.cos(angle) - x[position, half + j] * math.sin(angle)
            out[position, half + j] = x[position, half + j] * math.cos(angle) + x[position, j] * math.sin(angle)
    return out


def restated(file: Path, row: Tensor, sigma: float = 0.0, direction: float = 1.0) -> Tensor:
    """Logits (L, V) of one row of tokens (L,), straight from the published weights, in float64."""
    w = {name.removeprefix("backbone."): tensor.double() for name, tensor in load_file(file).items()}
    waves = torch.tensor(
        [math.cos(sigma / 10_000 ** (i / 128)) for i in range(128)]
        + [math.sin(sigma / 10_000 ** (i / 128)) for i in range(128)],
        dtype=torch.float64,
    )
    hidden = silu(w["sigma_map.mlp.0.weight"] @ waves + w["sigma_map.mlp.0.bias"])
    c = silu(w["sigma_map.mlp.2.weight"] @ hidden + w["sigma_map.mlp.2.bias"])
    x, size = w["vocab_embed.embedding"][row], WIDTH // HEADS
    for n in range(BLOCKS):
        b = {name.split(".", 2)[2]: tensor for name, tensor in w.items() if name.startswith(f"blocks.{n}.")}
        modulation = b["adaLN_modulation.weight"] @ c + b["adaLN_modulation.bias"]
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = (modulation[k * WIDTH : (k + 1) * WIDTH] for k in range(6))
        seen = layer_norm(x) * b["norm1.weight"] * (1 + scale_a) + shift_a
        packed = seen @ b["attn_qkv.weight"].T
        heard = []
        for head in range(HEADS):
            q, k, v = (packed[:, p * WIDTH + head * size : p * WIDTH + (head + 1) * size] for p in range(3))
            scores = turned(q, direction) @ turned(k, direction).T / math.sqrt(size)
            heard.append(scores.softmax(-1) @ v)
        x = x + gate_a * (torch.cat(heard, -1) @ b["attn_out.weight"].T)
        seen = layer_norm(x) * b["norm2.weight"] * (1 + scale_m) + shift_m
        inner = gelu(seen @ b["mlp.0.weight"].T + b["mlp.0.bias"])
        x = x + gate_m * (inner @ b["mlp.2.weight"].T + b["mlp.2.bias"])
    modulation = w["output_layer.adaLN_modulation.weight"] @ c + w["output_layer.adaLN_modulation.bias"]
    seen = layer_norm(x) * w["output_layer.norm_final.weight"] * (1 + modulation[WIDTH:]) + modulation[:WIDTH]
    return seen @ w["output_layer.linear.weight"].T + w["output_layer.linear.bias"]


def half_masked(rows: int = 4, length: int = WINDOW) -> Tensor:
    draw = torch.Generator().manual_seed(1)
    tokens = torch.randint(1, VOCAB - 1, (rows, length), generator=draw)
    masked = torch.rand(tokens.shape, generator=draw) < 0.5
    masked[:, 1] = True
    return tokens.masked_fill(masked, VOCAB - 1)


# What it computes.


def test_logits_are_those_of_the_definition(model, folder):
    tokens = half_masked()
    where = tokens == VOCAB - 1
    ours = model.network(tokens, torch.full((4,), 0.5), where)
    expected = torch.stack([restated(folder / "model.safetensors", row) for row in tokens])[where]
    allowed = [i for i in range(VOCAB) if i not in (model.network.spec.mask_id, end_id(model))]
    assert ours.dtype == torch.float32 and ours.shape == (int(where.sum()), VOCAB)
    torch.testing.assert_close(ours[:, allowed].double(), expected[:, allowed], rtol=1e-4, atol=1e-4)
    assert float(expected.std()) > 0.5  # or equality would say little


@pytest.mark.parametrize("other", [{"sigma": 1.0}, {"direction": -1.0}], ids=str)
def test_another_noise_level_or_direction_of_turning_would_be_seen(other, folder):
    row = half_masked()[0]
    usual, changed = (restated(folder / "model.safetensors", row, **how) for how in ({}, other))
    assert float((usual - changed).abs().max()) > 0.05


def end_id(model: LoadedModel) -> int:
    return json.loads((model.path / "tokenizer.json").read_text())["model"]["vocab"][END]


def test_the_mask_and_the_end_of_a_text_are_never_proposed_and_all_else_is(model):
    tokens = half_masked()
    logits = model.network(tokens, torch.ones(4), tokens >= 0)
    assert (logits == -torch.inf).all(0).nonzero()[:, 0].tolist() == sorted({end_id(model), VOCAB - 1})
    assert torch.isfinite(logits).sum() == tokens.numel() * (VOCAB - 2)
    assert model.network.spec.suppressed == tuple(sorted({end_id(model), VOCAB - 1}))


def test_logits_do_not_depend_on_the_mask_ratio(model):
    tokens = half_masked()
    where = tokens == VOCAB - 1
    few, many = (model.network(tokens, torch.full((4,), share), where) for share in (0.1, 1.0))
    assert torch.equal(few, many)


def test_head_is_computed_at_the_requested_positions_in_order(model, monkeypatch):
    tokens, asked = half_masked(), torch.zeros(4, WINDOW, dtype=torch.bool)
    asked[2, 3] = asked[0, 7] = asked[0, 2] = True
    every = model.network(tokens, torch.ones(4), tokens >= 0).unflatten(0, tokens.shape)
    products = []
    linear = torch.nn.functional.linear

    def note(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        products.append((weight.size(0), x.shape[:-1].numel()))
        return linear(x, weight, bias)

    monkeypatch.setattr("torch.nn.functional.linear", note)
    some = model.network(tokens, torch.ones(4), asked)
    assert [positions for size, positions in products if size == VOCAB] == [3]
    expected = torch.stack((every[0, 2], every[0, 7], every[2, 3]))
    torch.testing.assert_close(some, expected, rtol=1e-5, atol=1e-5)


def test_a_row_does_not_depend_on_its_batch(model):
    settings = DecodeSettings(decoder="ancestral", steps=5, seed=4)
    *_, together = generate(model, ["the"] * 3, settings, length=8)
    for row in range(3):
        *_, alone = generate(model, ["the"], settings, length=8, rows=[row])
        assert torch.equal(alone.tokens[0], together.tokens[row])


# As a model of tdiff.


def test_folder_is_loaded_by_its_family(model, folder):
    assert isinstance(model.network, MDLM)
    assert (model.name, model.path) == ("mdlm-small", folder)
    assert (model.network.spec.vocab_size, model.spec.context) == (VOCAB, WINDOW)
    assert model.network.spec.mask_id == model.tokenizer.mask_id == VOCAB - 1 and len(model.tokenizer) == VOCAB
    assert not model.network.training and not any(p.requires_grad for p in model.network.parameters())
    assert (model.origin.sources, model.origin.openings, model.origin.steps) == ((), (), 0)


def test_texts_longer_than_the_window_slide_by_half_of_it(model):
    assert overlap(model) == WINDOW // 2
    *_, step = generate(model, ["the hare"], DecodeSettings(seed=1), length=30)
    assert not step.masked.any() and step.tokens.size(1) > WINDOW
    assert model.tokenizer.decode(step.tokens[0]).startswith("the hare")


def test_the_bound_of_a_text_is_computed_as_for_our_own(model):
    ids = model.tokenizer.encode(words(40))
    result = score(model.network, ids, model.tokenizer.lengths, draws=1)
    assert result.tokens == len(ids) and 0 < result.nats_per_char < result.nats_per_token


def test_the_mask_is_shown_as_a_block_and_the_text_comes_back(model):
    text = "The hare — naïve café 🙂"
    ids = model.tokenizer.encode(text).tolist()
    assert model.tokenizer.decode(ids) == text
    assert model.tokenizer.decode([*ids, VOCAB - 1]) == text + "█" == text + model.tokenizer.pieces[VOCAB - 1]


def test_an_end_of_text_that_is_typed_is_text(model):
    ids = model.tokenizer.encode(f"the {END} hare").tolist()
    assert end_id(model) not in ids and model.tokenizer.decode(ids) == f"the {END} hare"


def test_the_command_writes_a_text_that_holds_neither_mask_nor_end(folder, cli_fast):
    weights = load_file(folder / "model.safetensors")
    vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    weights["backbone.output_layer.linear.bias"][[vocabulary[END], VOCAB - 1]] = 1e4  # which they would win with
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    for decoder in ("confidence", "ancestral"):
        asked = ("generate", "the hare", "--model", str(folder), "--decoder", decoder, "--length", "9", "--seed", "1")
        done = cli_fast(*asked, "--stream")
        assert done.returncode == 0, done.stderr
        header, *steps, end = map(json.loads, done.stdout.splitlines())
        # By position: it is sent again when a later token completes its character.
        drawn = list({cell[0]: cell[2] for step in steps for cell in step["cells"]}.values())
        assert header["model"] == "mdlm-small" and len(drawn) == 9
        assert not {vocabulary[END], VOCAB - 1} & set(drawn)
        assert end["text"].startswith("the hare") and END not in end["text"] and "█" not in end["text"]
        assert cli_fast(*asked).stdout.startswith("the hare")


# How it is read.


def test_weights_are_in_memory_once_and_not_in_the_file(folder):
    model = load_model(str(folder))
    kept = dict(model.network.named_parameters())
    per_block = 2 * 2 * WIDTH + 4 * WIDTH**2 + 8 * WIDTH**2 + 5 * WIDTH  # norms, attention, MLP and its biases
    assert sum(p.numel() for p in kept.values()) == 2 * VOCAB * WIDTH + VOCAB + 2 * WIDTH + BLOCKS * per_block
    assert all(p.untyped_storage().nbytes() == 4 * p.numel() for p in kept.values())
    assert len({p.untyped_storage().data_ptr() for p in kept.values()}) == len(kept)
    gc.collect()
    alive = [t for t in gc.get_objects() if type(t) in (Tensor, nn.Parameter) and t.shape == (VOCAB, WIDTH)]
    assert len(alive) == 2  # the embedding and the head
    start = canvas(model, ["the hare"], 6)
    before = model.network(start, torch.ones(1), start == model.network.spec.mask_id)
    with (folder / "model.safetensors").open("r+b") as file:
        file.truncate(0)  # as another process does that rewrites it; reading a memory-mapped page would end the process
    assert torch.equal(model.network(start, torch.ones(1), start == model.network.spec.mask_id), before)


def test_weights_in_pieces_and_in_half_precision_are_read_as_float32(folder, model):
    tokens = half_masked()
    where = tokens == VOCAB - 1
    weights = {name: tensor.bfloat16() for name, tensor in load_file(folder / "model.safetensors").items()}
    whole = {name: tensor.float() for name, tensor in weights.items()}
    save_file(whole, folder / "model.safetensors", {"format": "pt"})
    expected = load_model(str(folder)).network(tokens, torch.ones(4), where)
    (folder / "model.safetensors").unlink()
    names = sorted(weights)
    parts = {"one.safetensors": names[::2], "two.safetensors": names[1::2]}
    for part, own in parts.items():
        save_file({name: weights[name] for name in own}, folder / part, {"format": "pt"})
    index = {"weight_map": {name: part for part, own in parts.items() for name in own}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    pieces = load_model(str(folder)).network
    assert {p.dtype for p in pieces.parameters()} == {torch.float32}
    assert torch.equal(pieces(tokens, torch.ones(4), where), expected)
    assert not torch.equal(expected, model.network(tokens, torch.ones(4), where))


def test_the_table_of_rotary_positions_may_be_left_out(folder, model):
    spoil(folder, lambda weights: weights.pop("backbone.rotary_emb.inv_freq"))
    tokens = half_masked()
    one, other = (m.network(tokens, torch.ones(4), tokens >= 0) for m in (model, load_model(str(folder))))
    assert torch.equal(one, other)


def test_a_vocabulary_and_merges_are_a_tokenizer(folder, model):
    stored = json.loads((folder / "tokenizer.json").read_text())["model"]
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.json").write_text(json.dumps(stored["vocab"]))
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in stored["merges"]]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n", "utf-8")
    other = load_model(str(folder))
    assert torch.equal(other.tokenizer.encode(TEXT), model.tokenizer.encode(TEXT))
    assert other.spec == model.spec


def test_a_mask_that_the_tokenizer_knows_is_the_mask(folder):
    tokenizer = byte_pairs()
    tokenizer.add_special_tokens([AddedToken("[MASK]", special=True)])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"mask_token": "[MASK]"}))
    model = load_model(str(folder))
    assert model.network.spec.mask_id == VOCAB - 1 and model.tokenizer.pieces[-1] == "█"


def test_code_in_a_model_folder_is_not_run(folder, tmp_path):
    (folder / "evil.py").write_text(f"import os\nos.mkdir({str(tmp_path / 'it-ran')!r})\nclass Evil: pass\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"auto_map": {"AutoTokenizer": ["evil.Evil", None]}}))
    assert isinstance(load_model(str(folder)).network, MDLM)
    assert not (tmp_path / "it-ran").exists()


def test_the_layout_of_the_published_size_has_its_170_million_numbers():
    shapes = layout(Sizes(vocab_size=50258, window=1024, width=768, condition=128, layers=12, heads=12))
    assert len(shapes) == 10 + 12 * 10
    assert 169e6 < sum(math.prod(shape) for shape in shapes.values()) < 171e6


# What is refused, in one line with exit code 2 and nothing on stdout.


@pytest.fixture
def refusal(cli_fast, folder):
    """The line that says why the spoilt model is refused."""

    def ask() -> str:
        line = cli_fast("generate", "the", "--model", str(folder), "--length", "3", "--seed", "1").refused()
        assert line.isprintable() and len(line) < 600, line
        return line

    return ask


def spoil(folder: Path, change) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def test_a_missing_weight_is_named(folder, refusal):
    spoil(folder, lambda weights: weights.pop("backbone.blocks.1.attn_out.weight"))
    assert "lack backbone.blocks.1.attn_out.weight, which config.json requires" in refusal()


def test_a_block_more_than_config_says_is_named(folder, refusal):
    rewrite(folder / "config.json", n_blocks=2)
    assert "hold backbone.blocks.2.adaLN_modulation.bias, which the MDLM that config.json describes" in refusal()


def test_a_weight_of_another_model_is_named(folder, refusal):
    spoil(folder, lambda weights: weights.update({"ema.decay": torch.ones(1)}))
    assert "hold ema.decay, which the MDLM that config.json describes does not have" in refusal()


def test_a_weight_of_another_shape_is_refused_with_both(folder, refusal):
    spoil(folder, lambda weights: weights.update({"backbone.blocks.0.mlp.0.weight": torch.ones(32, WIDTH)}))
    assert "backbone.blocks.0.mlp.0.weight has shape (32, 16); config.json requires (64, 16)" in refusal()


@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_numbers_that_are_not_finite_are_refused(value, folder, refusal):
    spoil(folder, lambda weights: weights["backbone.output_layer.linear.bias"][3:4].fill_(value))
    assert "backbone.output_layer.linear.bias holds numbers that are not finite" in refusal()


def test_whole_numbers_are_no_weights(folder, refusal):
    spoil(folder, lambda weights: weights.update({"backbone.blocks.0.norm1.weight": torch.ones(WIDTH).to(torch.int8)}))
    assert "backbone.blocks.0.norm1.weight holds int8" in refusal()


def test_rotary_positions_of_another_base_are_refused(folder, refusal):
    spoil(folder, lambda weights: weights["backbone.rotary_emb.inv_freq"].mul_(2))
    assert "backbone.rotary_emb.inv_freq is not the table of rotary frequencies of base 10000" in refusal()


@pytest.mark.parametrize("keep", [0, 100, 5000, -1])
def test_damaged_weights_are_refused(keep, folder, refusal):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    assert "model.safetensors' are damaged or not safetensors" in refusal()


def test_pickled_weights_are_refused_without_running_code(folder, refusal, tmp_path):
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Hostile(tmp_path / "it-ran")))
    assert "holds pickled weights and no model.safetensors; tdiff reads safetensors only" in refusal()
    assert not (tmp_path / "it-ran").exists()


@pytest.mark.parametrize("left", ["", "vocab.json", "merges.txt"])
def test_the_error_for_a_missing_tokenizer_names_the_one_to_add(left, folder, refusal):
    (folder / "tokenizer.json").unlink()
    if left:
        (folder / left).write_text("{}")
    line = refusal()
    assert "has no tokenizer, as MDLM's repository has none: put GPT-2's tokenizer.json beside" in line
    assert str(folder) in line


@pytest.mark.parametrize("content", ["", "{}", '{"version": "1.0", "model": {"type": "None"}}'])
def test_a_damaged_tokenizer_is_refused(content, folder, refusal):
    (folder / "tokenizer.json").write_text(content)
    assert "tokenizer.json'" in refusal()


@pytest.mark.parametrize("size", [VOCAB - 8, VOCAB + 1])
def test_a_tokenizer_of_another_size_is_refused(size, folder, refusal):
    byte_pairs(size).save(str(folder / "tokenizer.json"))
    line = refusal()
    assert f"config.json says {VOCAB} tokens, the mask among them, but the tokenizer has {size}" in line


def test_a_tokenizer_that_leaves_no_id_for_the_mask_is_refused(folder, refusal):
    byte_pairs(VOCAB).save(str(folder / "tokenizer.json"))
    line = refusal()
    assert f"does not fit its tokenizer: config.json says {VOCAB} tokens with mask {VOCAB - 1}" in line


def test_a_model_with_time_conditioning_is_refused(folder, refusal):
    rewrite(folder / "config.json", time_conditioning=True)
    assert "is of type 'mdlm' with time_conditioning True; tdiff reads models without it (false)" in refusal()


@pytest.mark.parametrize("key", ["n_heads", "model_length", "cond_dim", "time_conditioning", "vocab_size"])
def test_a_setting_that_config_lacks_is_named(key, folder, refusal):
    rewrite(folder / "config.json", **{key: None})
    assert f"lacks {key}, without which an MDLM cannot be read" in refusal()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hidden_dim", "wide"),
        ("n_blocks", 0),
        ("n_heads", 3),
        ("n_heads", 16),
        ("model_length", True),
        ("cond_dim", -8),
    ],
)
def test_a_setting_of_nonsense_is_refused(key, value, folder, refusal):
    rewrite(folder / "config.json", **{key: value})
    assert f"config.json': {key} cannot be {value!r}" in refusal()
