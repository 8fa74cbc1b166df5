"""Tokenizers of transformers behind the interface `Tokenizer` of tdiff."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tdiff.core.models.base import MASK_TEXT, UNKNOWN_TEXT
from tdiff.errors import TdiffError
from tdiff.schema import MOST
from tdiff.visible import visible

_PLACEHOLDER = re.compile(r"\[unused\d+\]|<unused\d+>|madeupword\d+")
"""Unused entries of BERT's and RoBERTa's vocabularies."""


class HubTokenizer:
    """A tokenizer of transformers; `encode` returns no ids of special tokens.

    The text of a token comes from the tokenizer's decoder, which decodes it between two other tokens.
    """

    def __init__(self, tokenizer: Any, vocab_size: int, name: str, mask_id: int | None = None) -> None:
        """`vocab_size` is the model's; `mask_id` is the id of the mask if the tokenizer has no mask token.

        Raises TdiffError if there is no mask token, or if the tokenizer does not fit the model.
        """
        if not isinstance(vocab_size, int) or not 1 < vocab_size <= MOST:
            raise TdiffError(f"model {name!r}: vocab_size cannot be {vocab_size!r}")
        self._tokenizer = tokenizer
        decoder = getattr(getattr(tokenizer, "backend_tokenizer", None), "decoder", None)
        self._join = decoder.decode if decoder else tokenizer.convert_tokens_to_string
        marked = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
        special = marked.union(tokenizer.all_special_ids)
        mask_id = mask_id if tokenizer.mask_token_id is None else tokenizer.mask_token_id
        if mask_id is None or mask_id >= vocab_size:
            raise TdiffError(f"model {name!r} has no mask token, so there is nothing that it could fill in")
        self.mask_id: int = mask_id
        self.unknown_id: int | None = tokenizer.unk_token_id
        self.first_id: int | None = tokenizer.bos_token_id
        """The begin-of-text token, which causal models read before a text."""
        vocabulary = tokenizer.get_vocab()
        texts = {i: token for token, i in vocabulary.items() if i not in special}
        beyond = not texts or max(texts) >= vocab_size or (self.unknown_id or 0) >= vocab_size
        if beyond or self.mask_id in texts:
            raise TdiffError(
                f"model {name!r} does not fit its tokenizer: config.json says {vocab_size} tokens with mask "
                f"{self.mask_id}, but the tokenizer has {len(vocabulary)}, the last of them {max(texts, default=-1)}"
            )
        proposable = {i for i, token in texts.items() if not _PLACEHOLDER.fullmatch(token)}
        self.suppressed = tuple(i for i in range(vocab_size) if i not in proposable)
        """Ids that a model must never propose: special tokens, placeholders, and ids without a token."""
        self._not_text = special - {self.unknown_id}
        # Ids without a token, which pad the vocabulary to a round size, are never shown.
        names = texts | {i: token for token, i in vocabulary.items() if i in special and i < vocab_size}
        names |= ({self.unknown_id: UNKNOWN_TEXT} if self.unknown_id is not None else {}) | {self.mask_id: MASK_TEXT}
        self._tokens = [names.get(i, UNKNOWN_TEXT) for i in range(vocab_size)]
        self._words = self._word(sorted(proposable))
        raw = [self.between([i]) for i in range(vocab_size)]
        self.parts = frozenset(i for i in proposable if UNKNOWN_TEXT in raw[i])
        """Tokens that contain a part of a character: bytes of a byte-level vocabulary."""
        self.carries_spaces = any(raw[i][:1] == " " and not raw[i].isspace() for i in proposable)
        """Whether tokens of words contain the space before the word."""
        self.pieces = [visible(text) for text in raw]
        """The text of each token inside a text, safe to print; an incomplete character is shown as �."""
        self.lengths = torch.tensor([len(text) for text in raw])
        """(V,) int64: the number of characters of each token."""
        self.begin, self.end = self._around()

    def __len__(self) -> int:
        return len(self.pieces)

    def encode(self, text: str, what: str = "the text", inside: bool = False) -> Tensor:
        """Return ids (L,) int64, without begin and end tokens; `inside`: as encoded after other text.

        Raises TdiffError for a surrogate, and for the text of a special token.
        """
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise TdiffError(
                f"character {text[error.start]!r} at position {error.start + 1} of {what} is half of a character"
            ) from None
        ids = self._ids_inside(text) if inside else self._ids(text)
        for i in ids:
            if i in self._not_text:
                token = self._tokenizer.convert_ids_to_tokens(i)
                raise TdiffError(f"{what} contains {token!r}, which is not text but a special token of the model")
        return torch.tensor(ids, dtype=torch.int64)

    def decode(self, ids: Iterable[int] | Tensor) -> str:
        """Return the text of the ids; a mask is shown as a full block."""
        text: str = self._join([self._tokens[i] for i in (ids.tolist() if isinstance(ids, Tensor) else ids)])
        return text

    def save(self, folder: Path) -> None:
        """Write the tokenizer's files into an existing folder."""
        self._tokenizer.save_pretrained(str(folder))

    def _ids(self, text: str, special: bool = False) -> list[int]:
        """`special`: add the begin and end tokens, and read special tokens in the text as such."""
        # With split_special_tokens, tokenizers written in Python would find no token in a text without spaces.
        split = not special and self._tokenizer.is_fast
        ids: list[int] = self._tokenizer.encode(
            text, add_special_tokens=special, split_special_tokens=split, truncation=False, verbose=False
        )
        return ids

    def _ids_inside(self, text: str) -> list[int]:
        """Return the ids of a text that continues a word: some tokenizers put a space before every text."""
        without_context = self._ids(text)
        if self._words is not None:
            word = self._words[1]
            before, after_word = self._ids(word), self._ids(word + text)
            rest = after_word[len(before) :]
            # Otherwise one token contains the end of the word and the beginning of the text.
            if after_word[: len(before)] == before and self.between(rest) == text:
                return rest
        return without_context

    def between(self, ids: Sequence[int]) -> str:
        """Return the text of tokens when they are decoded between two words, without these words."""
        tokens = [self._tokens[i] for i in ids]
        if self._words is not None:
            word, once, twice = self._words
            text: str = self._join([word, *tokens, word])
            last = twice[len(once) :]
            if text.startswith(once) and text.endswith(last) and len(text) >= len(twice):
                return text[len(once) : len(text) - len(last)]
        without_context: str = self._join(tokens)
        return without_context

    def _word(self, proposable: Sequence[int]) -> tuple[str, str, str] | None:
        """A token that is a word, its text, and the text of two such tokens; None if the vocabulary has no word."""
        for i in proposable:
            word = self._tokens[i]
            once, twice = self._join([word]), self._join([word, word])
            if once.isascii() and once.isalpha() and twice.startswith(once):
                return word, once, twice
        return None

    def _around(self) -> tuple[list[int], list[int]]:
        """The ids that the tokenizer puts before and after a text."""
        framed, text = self._ids("a", special=True), self._ids("a")
        for start in range(len(framed) - len(text) + 1):
            if text and framed[start : start + len(text)] == text:
                return framed[:start], framed[start + len(text) :]
        return [], []
