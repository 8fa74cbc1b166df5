"""Small random Hugging Face models, one folder for each kind, and the same models loaded by transformers."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from tdiff.core.models.base import LoadedModel
from tests.support.runs import words

TEXT = words(400) + "naïve café — 日本 🙂 (a) b, c.\n"
KINDS = ("bert", "roberta", "distilbert", "electra", "albert", "modernbert", "mpnet", "deberta-v2", "xlm-roberta")


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
    """A trained tokenizer: WordPiece (BERT and similar), byte-level BPE (RoBERTa), or Unigram with ▁ (ALBERT)."""
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
    elif kind in ("albert", "deberta-v2", "xlm-roberta"):
        marks = ANGLES if kind == "xlm-roberta" else BRACKETS
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
        special = [marks.begin, *(mark for mark in vars(marks).values() if mark != marks.begin)]
        trainer = trainers.UnigramTrainer(
            vocab_size=120, unk_token=marks.unk, special_tokens=special, show_progress=False
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
    begin_end = [(token, tokenizer.token_to_id(token)) for token in (marks.begin, marks.end)]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{marks.begin} $A {marks.end}", special_tokens=begin_end
    )
    return tokenizer, marks


def write_tokenizer(folder: Path, tokenizer: Tokenizer, marks: Marks) -> None:
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {"pad": "pad_token", "unk": "unk_token", "begin": "cls_token", "end": "sep_token", "mask": "mask_token"}
    settings = {names[name]: token for name, token in vars(marks).items()}
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", **settings})
    )


def make(kind: str, folder: Path, spare: int = 3, **options) -> Path:
    """Save a random model of two small layers with context length 16, and `spare` ids without a token."""
    import transformers

    tokenizer, marks = tokenizer_of(kind)
    first_position = 2 if kind in ("roberta", "mpnet", "xlm-roberta") else 0
    common = {
        "vocab_size": tokenizer.get_vocab_size() + spare,
        "max_position_embeddings": 18 + first_position,
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
    config = transformers.CONFIG_MAPPING[kind](**common | options)
    model = transformers.AutoModelForMaskedLM.from_config(config)
    folder.mkdir(parents=True)
    model.save_pretrained(folder)
    write_tokenizer(folder, tokenizer, marks)
    return folder


class Hostile:
    """An object whose unpickling creates a folder."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return Path.mkdir, (self.target,)


def rewrite(path: Path, **values) -> None:
    """Change fields of a JSON file; None removes a field."""
    table = json.loads(path.read_text()) | values
    path.write_text(json.dumps({k: v for k, v in table.items() if v is not None}))


def reference(folder: Path):
    """Return the model and the tokenizer as transformers loads them."""
    import transformers

    model = transformers.AutoModelForMaskedLM.from_pretrained(folder, dtype=torch.float32).eval()
    return model, transformers.AutoTokenizer.from_pretrained(folder)


def some_tokens(model: LoadedModel, rows: int, length: int) -> torch.Tensor:
    """Return (rows, length) random tokens, some of them masked."""
    generator = torch.Generator().manual_seed(rows)
    ordinary = torch.tensor(sorted(set(range(len(model.tokenizer))) - set(model.spec.suppressed)))
    tokens = ordinary[torch.randint(len(ordinary), (rows, length), generator=generator)]
    masked = torch.rand(tokens.shape, generator=generator) < 0.4
    masked[:, 1] = True
    return tokens.masked_fill(masked, model.network.spec.mask_id)
