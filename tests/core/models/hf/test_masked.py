"""Masked language models of Hugging Face resolve texts like our own, with their own tokens."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from tdiff.config.decoding import DecodeSettings
from tdiff.core.diffusion.generate import canvas, generate, narrate, overlap
from tdiff.core.evaluation.likelihood import score
from tdiff.core.models.hf.base import longest_that_works
from tdiff.core.models.load import load_model
from tdiff.errors import TdiffError
from tdiff.protocol.detail import DetailReader
from tdiff.protocol.trace import TraceEnd, TraceHeader, TraceStep
from tests.support.hub_zoo import KINDS, make, reference, some_tokens
from tests.support.runs import words


@pytest.fixture
def folder(zoo, tmp_path) -> Path:
    """A BERT that a test may spoil."""
    return Path(shutil.copytree(zoo["bert"], tmp_path / "spoilt"))


@pytest.mark.parametrize("kind", KINDS)
def test_logits_equal_those_of_transformers_at_the_same_positions(kind, zoo, loaded):
    model, (network, tokenizer) = loaded[kind], reference(zoo[kind])
    tokens = some_tokens(model, 3, 11)
    where = tokens == model.network.spec.mask_id
    begin, end = (torch.tensor([[i]]).expand(3, 1) for i in (tokenizer.cls_token_id, tokenizer.sep_token_id))
    with torch.no_grad():
        expected = network(input_ids=torch.cat((begin, tokens, end), 1)).logits[:, 1:-1][where]
        ours = model.network(tokens, torch.full((3,), 0.4), where)
    allowed = torch.isfinite(ours)
    assert ours.dtype == torch.float32 and ours.shape == expected.shape
    assert torch.allclose(ours[allowed], expected[allowed], rtol=1e-4, atol=1e-5)
    assert expected.std() > 0.01  # or equality would say little
    assert allowed.all(0).nonzero()[:, 0].tolist() == allowed.any(0).nonzero()[:, 0].tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_placeholders_and_ids_without_a_token_are_never_proposed(kind, zoo, loaded):
    model, (_, tokenizer) = loaded[kind], reference(zoo[kind])
    never = set(tokenizer.all_special_ids) | set(range(len(tokenizer), len(model.tokenizer)))
    never |= {i for token, i in tokenizer.get_vocab().items() if token == "[unused0]"}
    assert len(never) >= 5 + 3
    assert set((model.network.suppress == -torch.inf).nonzero()[:, 0].tolist()) == never
    assert set(model.network.spec.suppressed) == never


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("decoder", ["confidence", "ancestral", "refill"])
def test_texts_are_generated_by_any_decoder_and_hold_no_special_token(kind, decoder, loaded):
    model = loaded[kind]
    settings = DecodeSettings(decoder=decoder, steps=6, temperature=3.0, seed=2)
    *_, step = generate(model, ["the hare"] * 4, settings, length=9)
    drawn = set(step.tokens.flatten().tolist())
    assert not drawn & set(model.network.spec.suppressed)
    assert all(model.tokenizer.decode(row).startswith("the hare") for row in step.tokens)
    assert len({model.tokenizer.decode(row) for row in step.tokens}) == 4


def test_logits_of_special_tokens_are_suppressed(folder):
    weights = load_file(folder / "model.safetensors")
    special = list(range(5))
    weights["cls.predictions.bias"][special] = 1e4
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    model = load_model(str(folder))
    *_, step = generate(model, [""], DecodeSettings(temperature=0.0), length=8)
    assert not set(step.tokens.flatten().tolist()) & set(special)


@pytest.mark.parametrize("kind", KINDS)
def test_context_is_the_number_of_positions_without_special_tokens(kind, loaded):
    model = loaded[kind]
    window = model.spec.context
    assert window == 16
    tokens = torch.full((1, window), model.network.spec.mask_id)
    assert model.network(tokens, torch.ones(1), tokens > 0).isfinite().any()
    if kind not in ("modernbert", "deberta-v2"):  # their positions are relative: the window is what they say of it
        longer = torch.cat((tokens, tokens[:, :1]), 1)
        with pytest.raises((IndexError, RuntimeError)):
            model.network(longer, torch.ones(1), longer > 0)


def test_a_text_longer_than_the_window_slides(loaded):
    model = loaded["roberta"]
    assert overlap(model) == 15
    prompt = "the hare runs over"
    start = canvas(model, [prompt], 30)
    assert start.size(1) > model.spec.context
    *_, step = generate(model, [prompt], DecodeSettings(seed=1), length=30)
    assert step.tokens.size(1) == start.size(1) and not step.masked.any()
    assert model.tokenizer.decode(step.tokens[0]).startswith(prompt)
    with pytest.raises(TdiffError, match=r"context length of .* is 16"):
        canvas(model, ["the hare runs over " * 9], 4)


def test_without_a_length_the_window_is_filled(loaded):
    assert canvas(loaded["bert"], [""]).shape == (1, 16)


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_a_text_does_not_depend_on_its_batch(kind, loaded):
    settings = DecodeSettings(decoder="ancestral", steps=7, seed=4)
    *_, together = generate(loaded[kind], ["the wolf"] * 5, settings, length=10)
    for row in range(5):
        *_, alone = generate(loaded[kind], ["the wolf"], settings, length=10, rows=[row])
        assert torch.equal(alone.tokens[0], together.tokens[row])


@pytest.mark.parametrize("kind", KINDS)
def test_head_runs_only_at_the_requested_positions(kind, loaded):
    network = loaded[kind].network
    seen = []
    head = network.model.get_output_embeddings()
    hook = head.register_forward_hook(lambda module, arguments, output: seen.append(output.shape[:-1].numel()))
    tokens = some_tokens(loaded[kind], 4, 12)
    where = tokens == network.spec.mask_id
    network(tokens, torch.ones(4), where)
    hook.remove()
    assert seen == [int(where.sum())] and seen[0] < tokens.numel()


def test_head_that_mixes_positions_gets_all_positions(loaded, monkeypatch, zoo):
    """As no known head does: what is left out must not change what is computed."""
    import transformers

    class Mixing(transformers.BertForMaskedLM):
        def __init__(self, config):
            super().__init__(config)
            self.cls.register_forward_pre_hook(lambda module, arguments: (arguments[0] + arguments[0].mean(1, True),))

    monkeypatch.setattr(transformers, "MODEL_FOR_MASKED_LM_MAPPING", {transformers.BertConfig: Mixing})
    mixing = load_model(str(zoo["bert"])).network
    tokens = some_tokens(loaded["bert"], 2, 9)
    where = tokens == mixing.spec.mask_id
    narrow, share = loaded["bert"].network(tokens, torch.ones(2), where), torch.ones(2)
    some = torch.zeros_like(where)
    some[:, 1] = True
    at = int(where[0, :1].sum())  # of position 1 among those of the first row
    assert torch.allclose(mixing(tokens, share, where)[at], mixing(tokens, share, some)[0], atol=1e-5)
    assert not torch.allclose(mixing(tokens, share, where), narrow, atol=1e-2)


@pytest.mark.parametrize("kind", KINDS)
def test_joined_pieces_equal_the_text_and_the_decoding_of_transformers(kind, zoo, loaded):
    vocabulary, (_, tokenizer) = loaded[kind].tokenizer, reference(zoo[kind])
    text = "The hare runs, twice. (a) over the lake"
    ids = vocabulary.encode(text).tolist()
    first, *rest = ids
    joined = vocabulary.decode([first]) + "".join(vocabulary.pieces[i] for i in rest)
    assert joined == vocabulary.decode(ids) == tokenizer.decode(ids, clean_up_tokenization_spaces=False)
    if kind in ("roberta", "modernbert", "albert", "deberta-v2", "xlm-roberta"):
        assert joined == text
    else:  # which know no capitals and put spaces between all words
        assert joined == "the hare runs, twice. ( a ) over the lake"
    assert vocabulary.lengths[ids[1:]].sum() + len(vocabulary.decode([first])) == len(joined)


@pytest.mark.parametrize(
    ("kind", "token", "piece"),
    [
        ("bert", "hare", " hare"),
        ("bert", "##r", "r"),
        ("bert", ",", ","),
        ("bert", "(", " ("),
        ("albert", "▁the", " the"),
        ("roberta", "Ġover", " over"),
        ("roberta", "over", "over"),
        ("roberta", "Ċ", "\n"),
        ("roberta", "ð", "\ufffd"),  # the first byte of four
        ("roberta", "Ľ", "\ufffd"),  # a byte that continues a character
        ("roberta", "Ļ", "\ufffd"),
        ("roberta", "ě", "␛"),  # escape
        ("roberta", "ġ", "␡"),
    ],
)
def test_piece_is_the_text_of_a_token_inside_a_text(kind, token, piece, loaded):
    model = loaded[kind]
    ids = model.tokenizer._tokenizer.get_vocab()
    assert model.tokenizer.pieces[ids[token]] == piece


@pytest.mark.parametrize("kind", KINDS)
def test_no_piece_holds_a_control_character(kind, loaded):
    for piece in loaded[kind].tokenizer.pieces:
        assert all(c in "\n\t" or (ord(c) >= 32 and not 0x7F <= ord(c) < 0xA0) for c in piece), repr(piece)


def test_characters_of_several_tokens_are_whole_in_the_text(loaded):
    vocabulary = loaded["roberta"].tokenizer
    for text in ("naïve — café 🙂", "日本", "\x1b[31m\r\n\t"):
        assert vocabulary.decode(vocabulary.encode(text)) == text
    assert len(vocabulary.encode("🦔")) == 4


def test_masks_and_unknown_tokens_are_shown_as_in_our_own_tokenizers(loaded):
    vocabulary = loaded["bert"].tokenizer
    hare = vocabulary.encode("hare").tolist()
    assert vocabulary.decode([*hare, vocabulary.mask_id, *vocabulary.encode("ж").tolist()]) == "hare █ \ufffd"
    vocabulary = loaded["roberta"].tokenizer
    assert vocabulary.decode([*vocabulary.encode("the").tolist(), vocabulary.mask_id]) == "the█"


def test_a_special_token_that_is_typed_is_text(loaded):
    for kind, typed in (("bert", "[MASK]"), ("roberta", "<mask>"), ("roberta", "</s>")):
        vocabulary = loaded[kind].tokenizer
        ids = vocabulary.encode(f"the {typed} hare").tolist()
        assert vocabulary.mask_id not in ids and not set(ids) & (
            set(loaded[kind].network.spec.suppressed) - {vocabulary.unknown_id}
        )


def test_text_with_a_special_token_is_refused(tmp_path, zoo):
    folder = Path(shutil.copytree(zoo["bert"], tmp_path / "split"))
    settings = json.loads((folder / "tokenizer.json").read_text())
    settings["pre_tokenizer"] = {"type": "WhitespaceSplit"}
    settings["normalizer"] = None
    (folder / "tokenizer.json").write_text(json.dumps(settings))
    vocabulary = load_model(str(folder)).tokenizer
    with pytest.raises(TdiffError, match=r"the prompt contains '\[MASK\]', which is not text but a special token"):
        vocabulary.encode("the [MASK] hare", "the prompt")


def test_half_a_character_is_refused(loaded):
    with pytest.raises(TdiffError, match="at position 5 of the prompt is half of a character"):
        loaded["roberta"].tokenizer.encode("the \ud83d", "the prompt")


@pytest.mark.parametrize("kind", ["bert", "roberta", "albert"])
def test_the_cells_of_a_trace_joined_are_its_text(kind, loaded):
    for prompt in ("", "the hare, twice"):
        header, *steps, end = narrate(loaded[kind], prompt, DecodeSettings(seed=3), length=9, detail=True)
        assert isinstance(header, TraceHeader) and isinstance(end, TraceEnd)
        assert all(list(DetailReader(header.cells).unpack(step.detail or "")) for step in steps[:1])
        cells = {position: text for position, text, _ in header.given}
        for step in steps:
            assert isinstance(step, TraceStep)
            cells |= {position: text for position, text, *_ in step.cells}
        joined = "".join(cells[position] for position in range(header.cells))
        if "\ufffd" not in joined:
            assert joined == end.text
        assert joined.startswith(prompt) and header.model == kind


def test_origin_of_a_pretrained_model_is_empty(loaded):
    origin = loaded["bert"].origin
    assert (origin.sources, origin.openings, origin.context, origin.steps) == ((), (), 16, 0)
    assert canvas(loaded["bert"], [""], 3).tolist() == [[loaded["bert"].network.spec.mask_id] * 3]


def test_the_bound_of_a_text_is_computed_as_for_our_own(loaded):
    model = loaded["bert"]
    ids = model.tokenizer.encode(words(40))
    result = score(model.network, ids, model.tokenizer.lengths, draws=1)
    assert result.tokens == len(ids) and 0 < result.nats_per_char < result.nats_per_token


def test_weights_in_pieces_and_in_half_precision_are_read_as_float32(zoo, tmp_path, loaded):
    import transformers

    folder = tmp_path / "sharded"
    shutil.copytree(zoo["bert"], folder)
    (folder / "model.safetensors").unlink()
    model = transformers.AutoModelForMaskedLM.from_pretrained(zoo["bert"], dtype=torch.bfloat16)
    model.save_pretrained(folder, max_shard_size="5KB")
    assert not (folder / "model.safetensors").exists() and len(list(folder.glob("*.safetensors"))) > 1
    read = load_model(str(folder)).network
    assert {p.dtype for p in read.parameters()} == {torch.float32}
    whole = dict(loaded["bert"].network.named_parameters())
    assert all(torch.equal(p, whole[name].bfloat16().float()) for name, p in read.named_parameters())


def test_weights_are_in_memory_once_and_not_in_the_file(folder):
    model = load_model(str(folder))
    tied = model.network.model
    assert tied.get_input_embeddings().weight is tied.get_output_embeddings().weight
    start = canvas(model, ["the hare"], 6)
    before = model.network(start, torch.ones(1), start == model.network.spec.mask_id)
    with (folder / "model.safetensors").open("r+b") as file:
        file.truncate(0)  # as another process does that rewrites it; reading a memory-mapped page would end the process
    assert torch.equal(model.network(start, torch.ones(1), start == model.network.spec.mask_id), before)
    assert not any(p.requires_grad for p in model.network.parameters()) and not model.network.model.training


def test_a_vocabulary_alone_is_a_tokenizer(folder):
    vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()
    (folder / "vocab.txt").write_text("\n".join(sorted(vocabulary, key=vocabulary.get)) + "\n", "utf-8")
    model = load_model(str(folder))
    assert model.tokenizer.decode(model.tokenizer.encode("The hare runs")) == "the hare runs"
    assert model.network.begin.tolist() == [2] and model.network.end.tolist() == [3]


def test_a_tokenizer_written_in_python_reads_proteins(tmp_path):
    import transformers

    letters = ["<cls>", "<pad>", "<eos>", "<unk>", *"LAGVSERTIDPKQNFYMHWC", "<mask>"]
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    ids = {"vocab_size": len(letters), "pad_token_id": 1, "mask_token_id": len(letters) - 1}
    positions = {"max_position_embeddings": 20, "position_embedding_type": "rotary"}
    transformers.EsmForMaskedLM(transformers.EsmConfig(**size, **ids, **positions)).save_pretrained(tmp_path / "esm")
    (tmp_path / "esm" / "vocab.txt").write_text("\n".join(letters))
    model = load_model(str(tmp_path / "esm"))
    assert (model.network.begin.tolist(), model.network.end.tolist(), model.spec.context) == ([0], [2], 18)
    assert model.tokenizer.encode("MKTAY").tolist() == [letters.index(c) for c in "MKTAY"]
    assert model.tokenizer.decode(model.tokenizer.encode("MKT")) == "M K T"  # so transformers writes it
    assert model.network.spec.suppressed == (0, 1, 2, 3, len(letters) - 1)
    with pytest.raises(TdiffError, match="'<mask>', which is not text"):
        model.tokenizer.encode("MK<mask>T")


def test_a_tokenizer_that_cuts_texts_does_not_cut_a_prompt(folder):
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=8)
    tokenizer.save(str(folder / "tokenizer.json"))
    assert len(load_model(str(folder)).tokenizer.encode("the hare runs over the hill")) == 6


@pytest.mark.parametrize(("kind", "more"), [("longformer", {"attention_window": 4}), ("ibert", {})])
def test_context_is_limited_to_the_positions_that_work(kind, more, tmp_path):
    model = load_model(str(make(kind, tmp_path / kind, **more)))
    window = model.spec.context
    assert window == 15  # of 18, less the row that is the padding's and two special tokens
    *_, step = generate(model, [""], DecodeSettings(decoder="schedule", steps=2))
    assert step.tokens.size(1) == window and not step.masked.any()
    longer = torch.full((1, window + 1), model.network.spec.mask_id)
    with pytest.raises((IndexError, RuntimeError)):
        model.network(longer, torch.ones(1), longer > 0)
    assert torch.isfinite(
        torch.tensor(score(model.network, torch.arange(5, 50), model.tokenizer.lengths, draws=1).nats_per_char)
    )


@pytest.mark.parametrize("limit", [1, 2, 15, 16, 255, 509, 510, 511, 512])
@pytest.mark.parametrize("layers", [0, 1, 3])
def test_how_far_a_model_sees_is_found_by_running_one_layer_of_it(limit, layers):
    class Late(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.runs = torch.nn.Embedding(limit, 2), []
            self.layer = torch.nn.ModuleList(torch.nn.Identity() for _ in range(layers))

        def forward(self, positions):
            x = self.table(torch.arange(positions))
            for n, layer in enumerate(self.layer):
                x = layer(x)
                self.runs.append(n)

    model = Late()
    assert longest_that_works(model, model, 512) == limit
    assert layers < 2 or set(model.runs) == {0}
