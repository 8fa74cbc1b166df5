"""Text to token ids and back: the characters of a corpus, BPE trained on a corpus, or tiny-diffusion's ASCII table.

All three are stored as a Hugging Face `tokenizer.json`, so that other programs can read them. A token's text is exactly
its entry in the vocabulary, and the joined texts of the tokens are the original text. A character outside the
vocabulary is an error that names it and its position, or the unknown token if the vocabulary has one; it never becomes
another character.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor

from tdiff.core.models.base import MASK_TEXT, UNKNOWN_TEXT
from tdiff.errors import TdiffError
from tdiff.files import write_atomic
from tdiff.schema import MOST

MASK, UNKNOWN = "[MASK]", "[UNK]"
_SHOWN = {MASK: MASK_TEXT, UNKNOWN: UNKNOWN_TEXT}
_SURROGATES = 0xD800, 0xDFFF  # the code points that represent bytes that are not UTF-8
_WORDS = r" ?\w+| ?[^\w\s]+|\s"
"""A word or a run of punctuation, each with its leading space, or one white-space character."""


class TextTokenizer:
    """A vocabulary that encodes and decodes text. `encode` returns no ids of special tokens but the unknown token's."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        tokenizer.encode_special_tokens = True  # "[MASK]" typed by a user is six characters
        vocabulary = tokenizer.get_vocab()
        if MASK not in vocabulary or sorted(vocabulary.values()) != list(range(len(vocabulary))):
            raise TdiffError(f"the tokenizer has no token {MASK}, or its ids are not 0, 1, 2, ...")
        if tokenizer.normalizer is not None or not isinstance(tokenizer.decoder, (decoders.Fuse, type(None))):
            raise TdiffError(
                "the tokenizer is of a type that tdiff does not read: the joined texts of its tokens are not the text"
            )
        self.pieces = [_SHOWN.get(text, text) for text, _ in sorted(vocabulary.items(), key=lambda item: item[1])]
        self.mask_id: int = vocabulary[MASK]
        self.unknown_id: int | None = vocabulary.get(UNKNOWN)
        texts = vocabulary.keys() - {MASK, UNKNOWN}
        self._by_character = all(len(text) == 1 for text in texts)
        self.carries_spaces = any(len(text) > 1 and text[0] == " " and not text.isspace() for text in texts)
        """Whether tokens of words contain the space before the word."""
        characters = [(ord(text), vocabulary[text]) for text in texts if len(text) == 1]
        if not characters:
            raise TdiffError("the tokenizer has no token of a single character, so it cannot encode any text")
        # Code point -> id, -1 without a token; one extra row after the last character serves all higher code points.
        self._table = torch.full((max(code for code, _ in characters) + 2,), -1, dtype=torch.int32)
        self._table[[code for code, _ in characters]] = torch.tensor([i for _, i in characters], dtype=torch.int32)

    @property
    def lengths(self) -> Tensor:
        """(V,) int64: the number of characters of each token."""
        return torch.tensor([len(piece) for piece in self.pieces])

    @property
    def suppressed(self) -> tuple[int, ...]:
        """Ids that a model must never propose."""
        return tuple(i for i in (self.mask_id, self.unknown_id) if i is not None)

    def __len__(self) -> int:
        return len(self.pieces)

    def encode(self, text: str, what: str = "the text", inside: bool = False) -> Tensor:
        """Return ids (L,) int64, the same `inside` a text as at its beginning.

        Raises TdiffError that names the first character outside the vocabulary, and its position.
        """
        codes = (
            torch.frombuffer(bytearray(text.encode("utf-32-le", "surrogatepass")), dtype=torch.int32)
            if text
            else (torch.zeros(0, dtype=torch.int32))
        )
        ids = self._table[codes.clamp(max=len(self._table) - 1)]
        outside = ids < 0
        if bool(outside.any()) and self.unknown_id is None:
            raise self._unknown_character(text, int(outside.nonzero()[0]), what)
        if self._by_character:
            return ids.masked_fill(outside, self.unknown_id or 0).long()
        if bool(((codes >= _SURROGATES[0]) & (codes <= _SURROGATES[1])).any()):
            raise TdiffError(f"{what} is not UTF-8")
        return torch.tensor(self._tokenizer.encode(text, add_special_tokens=False).ids, dtype=torch.int64)

    def _unknown_character(self, text: str, position: int, what: str) -> TdiffError:
        character = text[position]
        line, column = text.count("\n", 0, position) + 1, position - text.rfind("\n", 0, position)
        other_case = next((c for c in (character.lower(), character.upper()) if self._knows(c)), None)
        return TdiffError(
            f"character {character!r} (U+{ord(character):04X}) at position {position + 1} of {what} (line {line}, "
            f"column {column}) is not in the model's vocabulary of {len(self)} tokens"
            + (f"; {other_case!r} is" if other_case else "")
        )

    def _knows(self, character: str) -> bool:
        return len(character) == 1 and ord(character) < len(self._table) and int(self._table[ord(character)]) >= 0

    def decode(self, ids: Iterable[int] | Tensor) -> str:
        """Return the text of the ids; a mask is shown as a full block."""
        return "".join(self.pieces[i] for i in (ids.tolist() if isinstance(ids, Tensor) else ids))

    @property
    def parts(self) -> frozenset[int]:
        """No token holds only a part of a character."""
        return frozenset()

    def between(self, ids: Sequence[int]) -> str:
        """Return the text of consecutive tokens, the same anywhere in a text."""
        return self.decode(ids)

    def save(self, folder: Path) -> None:
        """Write tokenizer.json and tokenizer_config.json."""
        write_atomic(folder / "tokenizer.json", self._tokenizer.to_str(pretty=True).encode())
        config = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "mask_token": MASK,
            "clean_up_tokenization_spaces": False,
        }
        if self.unknown_id is not None:
            config["unk_token"] = UNKNOWN
        write_atomic(folder / "tokenizer_config.json", json.dumps(config, indent=2).encode())


def load(path: Path) -> TextTokenizer:
    """Read a tokenizer.json. Raises TdiffError if it is missing, damaged, or of an unsupported type."""
    try:
        tokenizer = Tokenizer.from_str(path.read_text("utf-8"))
    except FileNotFoundError:
        raise TdiffError(f"tokenizer {str(path)!r} does not exist") from None
    except Exception as error:  # tokenizers raises bare Exception
        raise TdiffError(f"tokenizer {str(path)!r} is damaged: {str(error).splitlines()[0]}") from None
    return TextTokenizer(tokenizer)


def learn(kind: str, text: str, training: str, unknown: bool = False) -> TextTokenizer:
    """Return a tokenizer of `kind` (char, ascii, bpe:SIZE, or a path) for the characters of `text`.

    BPE merges are learnt from `training` only. With `unknown` the vocabulary has an unknown token. Raises TdiffError
    for an unknown `kind`, and for a size that is too small.
    """
    specials = [MASK, UNKNOWN] if unknown else [MASK]
    if kind == "char":
        return _of_characters([*sorted(set(text)), *specials])
    if kind == "ascii":
        # tiny-diffusion's table: id = code point; 0, which occurs in no text, is the mask.
        return _of_characters([MASK, *map(chr, range(1, 128)), *specials[1:]])
    name, _, size = kind.partition(":")
    if name == "bpe":
        return _bpe(size, sorted(set(text)), training, specials)
    path = Path(kind)
    if path.suffix == ".json" or path.is_dir():
        return load(path / "tokenizer.json" if path.is_dir() else path)
    raise TdiffError(
        f"unknown tokenizer {kind!r}; known: char, ascii, bpe:SIZE (such as bpe:4096), or a tokenizer.json"
    )


def of_characters(characters: str) -> TextTokenizer:
    """Return a tokenizer with id 0 for the mask, followed by the characters in their order."""
    return _of_characters([MASK, *characters])


def _of_characters(pieces: Sequence[str]) -> TextTokenizer:
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    return _finish(tokenizer, [p for p in pieces if p in (MASK, UNKNOWN)])


def _bpe(size: str, alphabet: list[str], training: str, specials: list[str]) -> TextTokenizer:
    least = len(alphabet) + len(specials)
    if not size.isdecimal() or not least <= int(size) <= MOST:
        raise TdiffError(
            f"tokenizer 'bpe:SIZE' takes a whole number of at least {least}, the characters of this corpus and "
            f"the special tokens; got {size!r}"
        )
    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN if UNKNOWN in specials else None))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(_WORDS), "isolated")
    trainer = trainers.BpeTrainer(
        vocab_size=int(size), initial_alphabet=alphabet, special_tokens=specials, show_progress=False
    )
    tokenizer.train_from_iterator(training.splitlines(keepends=True), trainer)
    return _finish(tokenizer, specials)


def _finish(tokenizer: Tokenizer, specials: list[str]) -> TextTokenizer:
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in specials])
    return TextTokenizer(tokenizer)
