"""Masked language models of Hugging Face: read from a folder, resolved like our own, refused in one line."""

import json
import pickle
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from conftest import environment, words
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from tdiff import runs
from tdiff.config import DecodeSettings
from tdiff.core.checkpoint import LoadedModel, load_model
from tdiff.core.denoise import denoise
from tdiff.core.evaluate import score
from tdiff.core.generate import canvas, generate, narrate, overlap
from tdiff.errors import TdiffError
from tdiff.records import TraceEnd, TraceHeader, TraceStep

REAL = Path(__file__).parents[1].parent / "shared" / "models" / "rxnmapper-albert-smiles"
TEXT = words(400) + "naïve café — 日本 🙂 (a) b, c.\n"
KINDS = ("bert", "roberta", "distilbert", "electra", "albert", "modernbert", "mpnet", "deberta-v2")


@dataclass(frozen=True)
class Marks:
    """The special tokens of a family, in the order of their ids."""

    pad: str
    unk: str
    begin: str
    end: str
    mask: str


BRACKETS, ANGLES = Marks("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"), Marks("<pad>", "<unk>", "<s>", "</s>", "<mask>")


def tokenizer_of(kind: str) -> tuple[Tokenizer, Marks]:
    """WordPiece for BERT's kin, byte-level BPE for RoBERTa's, Unigram with ▁ for ALBERT's."""
    if kind in ("roberta", "modernbert"):
        marks = ANGLES if kind == "roberta" else BRACKETS
        tokenizer = Tokenizer(models.BPE(unk_token=marks.unk))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=300,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            # RoBERTa's padding is token 1, and its first position therefore 2.
            special_tokens=[marks.begin, marks.pad, marks.end, marks.unk, marks.mask],
            show_progress=False,
        )
    elif kind in ("albert", "deberta-v2"):
        marks = BRACKETS
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=120, unk_token=marks.unk, special_tokens=list(vars(marks).values()), show_progress=False
        )
    else:
        marks = BRACKETS
        tokenizer = Tokenizer(models.WordPiece(unk_token=marks.unk))
        tokenizer.normalizer = normalizers.BertNormalizer()
        tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece()
        trainer = trainers.WordPieceTrainer(
            vocab_size=120, special_tokens=[*vars(marks).values(), "[unused0]"], show_progress=False
        )
    tokenizer.train_from_iterator(TEXT.splitlines(), trainer)
    around = [(token, tokenizer.token_to_id(token)) for token in (marks.begin, marks.end)]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{marks.begin} $A {marks.end}", special_tokens=around
    )
    return tokenizer, marks


def write_tokenizer(folder: Path, tokenizer: Tokenizer, marks: Marks) -> None:
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {"pad": "pad_token", "unk": "unk_token", "begin": "cls_token", "end": "sep_token", "mask": "mask_token"}
    settings = {names[name]: token for name, token in vars(marks).items()}
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", **settings})
    )


def make(kind: str, folder: Path, spare: int = 3, **more) -> Path:
    """A random model of two small layers with 16 places of text, and `spare` ids that no token has."""
    import transformers

    tokenizer, marks = tokenizer_of(kind)
    late = 2 if kind in ("roberta", "mpnet") else 0
    common = {
        "vocab_size": tokenizer.get_vocab_size() + spare,
        "max_position_embeddings": 18 + late,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "initializer_range": 0.3,
        "pad_token_id": tokenizer.token_to_id(marks.pad),
    }
    if kind == "distilbert":
        common |= {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32}
    if kind in ("electra", "albert"):
        common["embedding_size"] = 8
    if kind == "modernbert":
        common |= {f"{name}_token_id": tokenizer.token_to_id(marks.begin) for name in ("bos", "eos", "cls", "sep")}
    torch.manual_seed(5)
    config = transformers.CONFIG_MAPPING[kind](**common | more)
    model = transformers.AutoModelForMaskedLM.from_config(config)
    folder.mkdir(parents=True)
    model.save_pretrained(folder)
    write_tokenizer(folder, tokenizer, marks)
    return folder


@pytest.fixture(scope="session")
def zoo(tmp_path_factory) -> dict[str, Path]:
    """A model folder of each kind."""
    root = tmp_path_factory.mktemp("zoo")
    return {kind: make(kind, root / kind) for kind in KINDS}


@pytest.fixture(scope="session")
def loaded(zoo) -> dict[str, LoadedModel]:
    return {kind: load_model(str(folder)) for kind, folder in zoo.items()}


@pytest.fixture
def folder(zoo, tmp_path) -> Path:
    """A BERT that a test may spoil."""
    return Path(shutil.copytree(zoo["bert"], tmp_path / "spoilt"))


def rewrite(path: Path, **values) -> None:
    """Change fields of a JSON file; None takes one away."""
    table = json.loads(path.read_text()) | values
    path.write_text(json.dumps({k: v for k, v in table.items() if v is not None}))


def reference(folder: Path):
    """The model and the tokenizer as transformers reads them."""
    import transformers

    model = transformers.AutoModelForMaskedLM.from_pretrained(folder, dtype=torch.float32).eval()
    return model, transformers.AutoTokenizer.from_pretrained(folder)


def some_tokens(model: LoadedModel, rows: int, length: int) -> torch.Tensor:
    """Tokens of a text, some masked."""
    draw = torch.Generator().manual_seed(rows)
    ordinary = torch.tensor(sorted(set(range(len(model.tokenizer))) - set(model.network.shape.suppressed)))
    tokens = ordinary[torch.randint(len(ordinary), (rows, length), generator=draw)]
    masked = torch.rand(tokens.shape, generator=draw) < 0.4
    masked[:, 1] = True
    return tokens.masked_fill(masked, model.network.mask_id)


@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_those_of_transformers_at_the_same_places(kind, zoo, loaded):
    model, (network, tokenizer) = loaded[kind], reference(zoo[kind])
    tokens = some_tokens(model, 3, 11)
    where = tokens == model.network.mask_id
    begin, end = (torch.tensor([[i]]).expand(3, 1) for i in (tokenizer.cls_token_id, tokenizer.sep_token_id))
    with torch.no_grad():
        theirs = network(input_ids=torch.cat((begin, tokens, end), 1)).logits[:, 1:-1][where]
        ours = model.network(tokens, torch.full((3,), 0.4), where)
    allowed = torch.isfinite(ours)
    assert ours.dtype == torch.float32 and ours.shape == theirs.shape
    assert torch.allclose(ours[allowed], theirs[allowed], rtol=1e-4, atol=1e-5)
    assert theirs.std() > 0.01  # or equality would say little
    assert allowed.all(0).nonzero()[:, 0].tolist() == allowed.any(0).nonzero()[:, 0].tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_placeholders_and_ids_without_a_token_are_never_proposed(kind, zoo, loaded):
    model, (_, tokenizer) = loaded[kind], reference(zoo[kind])
    never = set(tokenizer.all_special_ids) | set(range(len(tokenizer), len(model.tokenizer)))
    never |= {i for token, i in tokenizer.get_vocab().items() if token == "[unused0]"}
    assert len(never) >= 5 + 3
    assert set((model.network.suppress == -torch.inf).nonzero()[:, 0].tolist()) == never
    assert set(model.network.shape.suppressed) == never


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("decoder", ["confidence", "ancestral", "refill"])
def test_texts_are_generated_by_any_decoder_and_hold_no_special_token(kind, decoder, loaded):
    model = loaded[kind]
    settings = DecodeSettings(decoder=decoder, steps=6, temperature=3.0, seed=2)
    *_, step = generate(model, ["the hare"] * 4, settings, length=9)
    drawn = set(step.tokens.flatten().tolist())
    assert not drawn & set(model.network.shape.suppressed)
    assert all(model.tokenizer.decode(row).startswith("the hare") for row in step.tokens)
    assert len({model.tokenizer.decode(row) for row in step.tokens}) == 4


def test_a_head_that_wants_nothing_but_special_tokens_does_not_get_them(folder):
    weights = load_file(folder / "model.safetensors")
    special = list(range(5))
    weights["cls.predictions.bias"][special] = 1e4
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    model = load_model(str(folder))
    *_, step = generate(model, [""], DecodeSettings(temperature=0.0), length=8)
    assert not set(step.tokens.flatten().tolist()) & set(special)


@pytest.mark.parametrize("kind", KINDS)
def test_the_window_is_what_is_left_of_the_positions_beside_the_special_tokens(kind, loaded):
    model = loaded[kind]
    window = model.network.shape.window
    assert window == 16
    tokens = torch.full((1, window), model.network.mask_id)
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
    assert start.size(1) > model.network.shape.window
    *_, step = generate(model, [prompt], DecodeSettings(seed=1), length=30)
    assert step.tokens.size(1) == start.size(1) and not step.masked.any()
    assert model.tokenizer.decode(step.tokens[0]).startswith(prompt)
    with pytest.raises(TdiffError, match="sees 16 at once"):
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
def test_the_head_sees_only_the_places_that_are_asked_for(kind, loaded):
    network = loaded[kind].network
    seen = []
    head = network.model.get_output_embeddings()
    hook = head.register_forward_hook(lambda module, arguments, output: seen.append(output.shape[:-1].numel()))
    tokens = some_tokens(loaded[kind], 4, 12)
    where = tokens == network.mask_id
    network(tokens, torch.ones(4), where)
    hook.remove()
    assert seen == [int(where.sum())] and seen[0] < tokens.numel()


def test_a_head_that_mixes_places_is_given_all_of_them(loaded, monkeypatch, zoo):
    """As no known head does: what is left out must not change what is computed."""
    import transformers

    class Mixing(transformers.BertForMaskedLM):
        def __init__(self, config):
            super().__init__(config)
            self.cls.register_forward_pre_hook(lambda module, arguments: (arguments[0] + arguments[0].mean(1, True),))

    monkeypatch.setattr(transformers, "MODEL_FOR_MASKED_LM_MAPPING", {transformers.BertConfig: Mixing})
    mixing = load_model(str(zoo["bert"])).network
    tokens = some_tokens(loaded["bert"], 2, 9)
    where = tokens == mixing.mask_id
    narrow, share = loaded["bert"].network(tokens, torch.ones(2), where), torch.ones(2)
    some = torch.zeros_like(where)
    some[:, 1] = True
    at = int(where[0, :1].sum())  # of place 1 among those of the first row
    assert torch.allclose(mixing(tokens, share, where)[at], mixing(tokens, share, some)[0], atol=1e-5)
    assert not torch.allclose(mixing(tokens, share, where), narrow, atol=1e-2)


@pytest.mark.parametrize("kind", KINDS)
def test_pieces_of_a_text_joined_are_the_text_and_what_transformers_decodes(kind, zoo, loaded):
    vocabulary, (_, tokenizer) = loaded[kind].tokenizer, reference(zoo[kind])
    text = "The hare runs, twice. (a) over the lake"
    ids = vocabulary.encode(text).tolist()
    first, *rest = ids
    joined = vocabulary.decode([first]) + "".join(vocabulary.pieces[i] for i in rest)
    assert joined == vocabulary.decode(ids) == tokenizer.decode(ids, clean_up_tokenization_spaces=False)
    if kind in ("roberta", "modernbert", "albert", "deberta-v2"):
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
def test_a_piece_is_what_stands_in_a_text(kind, token, piece, loaded):
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
            set(loaded[kind].network.shape.suppressed) - {vocabulary.unknown_id}
        )


def test_a_vocabulary_in_which_a_special_token_is_a_word_refuses_it(tmp_path, zoo):
    folder = Path(shutil.copytree(zoo["bert"], tmp_path / "split"))
    settings = json.loads((folder / "tokenizer.json").read_text())
    settings["pre_tokenizer"] = {"type": "WhitespaceSplit"}
    settings["normalizer"] = None
    (folder / "tokenizer.json").write_text(json.dumps(settings))
    vocabulary = load_model(str(folder)).tokenizer
    with pytest.raises(TdiffError, match=r"the prompt holds '\[MASK\]', which is no text but a special token"):
        vocabulary.encode("the [MASK] hare", "the prompt")


def test_half_a_character_is_refused(loaded):
    with pytest.raises(TdiffError, match="at place 5 of the prompt is half of a character"):
        loaded["roberta"].tokenizer.encode("the \ud83d", "the prompt")


@pytest.mark.parametrize("kind", ["bert", "roberta", "albert"])
def test_the_cells_of_a_trace_joined_are_its_text(kind, loaded):
    for prompt in ("", "the hare, twice"):
        header, *steps, end = narrate(loaded[kind], prompt, DecodeSettings(seed=3), length=9)
        assert isinstance(header, TraceHeader) and isinstance(end, TraceEnd)
        cells = {place: text for place, text, _ in header.given}
        for step in steps:
            assert isinstance(step, TraceStep)
            cells |= {place: text for place, text, *_ in step.cells}
        joined = "".join(cells[place] for place in range(header.cells))
        if "\ufffd" not in joined:
            assert joined == end.text
        assert joined.startswith(prompt) and header.model == kind


def test_what_is_not_known_of_its_training_is_empty(loaded):
    origin = loaded["bert"].origin
    assert (origin.sources, origin.openings, origin.context, origin.steps) == ((), (), 16, 0)
    assert canvas(loaded["bert"], [""], 3).tolist() == [[loaded["bert"].network.mask_id] * 3]


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
    before = model.network(start, torch.ones(1), start == model.network.mask_id)
    with (folder / "model.safetensors").open("r+b") as file:
        file.truncate(0)  # as by somebody who writes it anew; a mapped page of it would now end the process
    assert torch.equal(model.network(start, torch.ones(1), start == model.network.mask_id), before)
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
    places = {"max_position_embeddings": 20, "position_embedding_type": "rotary"}
    transformers.EsmForMaskedLM(transformers.EsmConfig(**size, **ids, **places)).save_pretrained(tmp_path / "esm")
    (tmp_path / "esm" / "vocab.txt").write_text("\n".join(letters))
    model = load_model(str(tmp_path / "esm"))
    assert (model.network.begin.tolist(), model.network.end.tolist(), model.network.shape.window) == ([0], [2], 18)
    assert model.tokenizer.encode("MKTAY").tolist() == [letters.index(c) for c in "MKTAY"]
    assert model.tokenizer.decode(model.tokenizer.encode("MKT")) == "M K T"  # so transformers writes it
    assert model.network.shape.suppressed == (0, 1, 2, 3, len(letters) - 1)
    with pytest.raises(TdiffError, match="'<mask>', which is no text"):
        model.tokenizer.encode("MK<mask>T")


def test_a_tokenizer_that_cuts_texts_does_not_cut_a_prompt(folder):
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=8)
    tokenizer.save(str(folder / "tokenizer.json"))
    assert len(load_model(str(folder)).tokenizer.encode("the hare runs over the hill")) == 6


# A Trainer's output folder.


def checkpoint(root: Path, step: int, zoo) -> Path:
    return Path(shutil.copytree(zoo["bert"], root / f"checkpoint-{step}"))


def test_the_output_folder_of_a_trainer_means_its_newest_checkpoint(zoo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for step in (10, 200, 90):
        checkpoint(tmp_path / "results", step, zoo)
    (tmp_path / "results" / "checkpoint-300").mkdir()  # begun
    (tmp_path / "results" / "checkpoint-best").mkdir()
    (tmp_path / "results" / "runs").mkdir()
    assert runs.find_model("results/") == Path("results/checkpoint-200")
    model = load_model("results")
    assert (model.name, model.origin.steps) == ("results/checkpoint-200", 200)
    (tmp_path / "results" / "checkpoint-300" / "config.json").write_text("{}")  # its weights are still to come
    assert runs.find_model("results") == Path("results/checkpoint-200")
    checkpoint(tmp_path / "results", 1000, zoo)
    assert load_model("results").origin.steps == 1000
    assert load_model("results/checkpoint-90").origin.steps == 90


def test_a_model_saved_at_the_end_goes_before_its_checkpoints(zoo, tmp_path):
    shutil.copytree(zoo["bert"], tmp_path / "results")
    checkpoint(tmp_path / "results", 10, zoo)
    assert runs.find_model(str(tmp_path / "results")) == tmp_path / "results"


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


def without(folder: Path, *beginnings: str) -> None:
    path = folder / "model.safetensors"
    kept = {name: tensor for name, tensor in load_file(path).items() if not name.startswith(beginnings)}
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


def test_an_electra_that_tells_true_from_false_tokens_is_refused(tmp_path, zoo):
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
    assert "config.json asks for (64" in line or "asks for (16, 64)" in line


def test_weights_that_are_not_finite_are_refused(folder, refusal):
    path = folder / "model.safetensors"
    weights = load_file(path)
    weights["bert.encoder.layer.0.output.dense.weight"][3, 3] = float("nan")
    save_file(weights, path, {"format": "pt"})
    assert "bert.encoder.layer.0.output.dense.weight holds numbers that are not finite" in refusal()


class Hostile:
    """Unpickling it makes a folder."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return Path.mkdir, (self.target,)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "pytorch_model-00001-of-00002.bin", "model.pt"])
def test_pickled_weights_are_refused_and_nothing_of_them_is_run(name, folder, refusal, tmp_path):
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
def test_what_a_config_says_of_files_and_code_is_not_followed(more, folder, tmp_path):
    rewrite(folder / "config.json", **more)
    rewrite(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.Evil", None]})
    (folder / "evil.py").write_text(f"import os\nos.mkdir({str(tmp_path / 'it-ran')!r})\nclass Evil: pass\n")
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Hostile(tmp_path / "it-ran")))
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "someone/else"}))
    assert load_model(str(folder)).network.shape.window == 16
    assert not (tmp_path / "it-ran").exists()


def test_a_causal_model_is_refused(folder, refusal):
    rewrite(folder / "config.json", model_type="gpt2")
    assert "is of type 'gpt2', which is not a masked language model" in refusal()


@pytest.mark.parametrize("kind", ["bort\x1b[31m", "", "t5", "wav2vec2"])
def test_another_type_is_refused(kind, folder, refusal):
    rewrite(folder / "config.json", model_type=kind)
    assert "which is not a masked language model" in refusal()


@pytest.mark.parametrize("more", [{"is_decoder": True}, {"model_type": "bart"}])
def test_a_model_with_a_decoder_is_refused(more, folder, refusal):
    rewrite(folder / "config.json", **more)
    assert "with a decoder, which writes from left to right" in refusal()


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
    assert "tokenizer.json' is damaged or of a kind that is not known" in refusal()


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
def test_loading_says_nothing_and_asks_nobody(kind, zoo, capfd, monkeypatch):
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
        "from tdiff.core.checkpoint import load_model\n"
        "from tdiff.core.generate import generate\n"
        "from tdiff.config import DecodeSettings\n"
        f"model = load_model({str(tiny_run.path)!r})\n"
        "assert list(generate(model, ['the '], DecodeSettings(seed=1), length=4))\n"
        "print('torch' in sys.modules, 'transformers' in sys.modules, 'huggingface_hub' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr) == ("True False False\n", "")


def test_the_command_generates_streams_and_tells_json(cli_fast, zoo):
    asked = ("generate", "the hare", "--model", str(zoo["roberta"]), "--length", "6", "--seed", "1")
    plain, streamed, told = (cli_fast(*asked, *more) for more in ((), ("--stream",), ("--json",)))
    assert [run.returncode for run in (plain, streamed, told)] == [0, 0, 0]
    lines = [json.loads(line) for line in streamed.stdout.splitlines()]
    assert lines[0]["model"] == "roberta" and lines[-1]["text"] == json.loads(told.stdout)["text"]
    assert plain.stdout.startswith("the hare") and plain.stderr == "seed 1\n"


# A real one.


@pytest.fixture(scope="module")
def real() -> LoadedModel:
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


def test_a_real_model_fills_in_what_is_masked_of_reactions(real):
    """It was trained to: a guess would find one in six hundred, or one in three where all were the commonest token."""
    right = masked = 0
    draw = torch.Generator().manual_seed(0)
    for reaction in REACTIONS:
        ids = real.tokenizer.encode(reaction)
        assert real.tokenizer.decode(ids) == reaction
        hidden = torch.rand(len(ids), generator=draw) < 0.15
        hidden[4] = True
        start = ids.masked_fill(hidden, real.network.mask_id)[None]
        settings = DecodeSettings(decoder="confidence", temperature=0.0)
        *_, step = denoise(real.network, start, settings=settings)
        assert torch.equal(step.tokens[0][~hidden], ids[~hidden])
        right, masked = right + int((step.tokens[0] == ids)[hidden].sum()), masked + int(hidden.sum())
    assert masked > 25 and right / masked > 0.8


def test_a_real_model_goes_on_from_a_prompt(real):
    assert (real.network.shape.window, real.network.begin.tolist(), real.network.end.tolist()) == (510, [12], [13])
    header, *_, end = narrate(real, "CC(=O)O", DecodeSettings(seed=1), length=12)
    assert [text for _, text, _ in header.given] == list("CC(=O)O")
    assert isinstance(end, TraceEnd) and end.text.startswith("CC(=O)O") and "unused" not in end.text
