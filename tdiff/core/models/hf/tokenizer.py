"""Tokenizers of transformers as the rest of tdiff knows them."""

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
"""Entries of BERT's and RoBERTa's vocabularies that stand for nothing."""


class HubTokenizer:
    """A tokenizer of transformers as the rest of tdiff knows one; ids of special tokens never come from a text.

    What a token looks like is asked of the tokenizer's own decoder: how it stands between two other tokens.
    """

    def __init__(self, tokenizer: Any, vocab_size: int, name: str, mask_id: int | None = None) -> None:
        """`vocab_size` is the model's, `mask_id` that of a mask that the tokenizer knows nothing of.

        Raises TdiffError where there is no mask token, or the two do not fit.
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
        """The token of a text's beginning, which causal models have before it."""
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
        """Ids that a model must never propose: special tokens, placeholders, and those that no token has."""
        self._not_text = special - {self.unknown_id}
        # Ids without a token, which models have so that their number is round, never come to be shown.
        names = texts | {i: token for token, i in vocabulary.items() if i in special and i < vocab_size}
        names |= ({self.unknown_id: UNKNOWN_TEXT} if self.unknown_id is not None else {}) | {self.mask_id: MASK_TEXT}
        self._tokens = [names.get(i, UNKNOWN_TEXT) for i in range(vocab_size)]
        self._words = self._word(sorted(proposable))
        raw = [self.between([i]) for i in range(vocab_size)]
        self.parts = frozenset(i for i in proposable if UNKNOWN_TEXT in raw[i])
        """Tokens that hold a part of a character: bytes of a byte-level vocabulary."""
        self.carries_spaces = any(raw[i][:1] == " " and not raw[i].isspace() for i in proposable)
        """Whether words of this vocabulary hold the space before them."""
        self.pieces = [visible(text) for text in raw]
        """The text of each token as it stands inside a text, safe to print; a byte that is no character is shown so."""
        self.lengths = torch.tensor([len(text) for text in raw])
        """(V,) int64: the characters of each token."""
        self.begin, self.end = self._around()

    def __len__(self) -> int:
        return len(self.pieces)

    def encode(self, text: str, what: str = "the text", inside: bool = False) -> Tensor:
        """Ids (L,) int64, without begin and end; with `inside` as they stand after other text.

        Raises TdiffError for what is no text, or spells a special token.
        """
        try:
            text.encode()
        except UnicodeEncodeError as why:
            raise TdiffError(
                f"character {text[why.start]!r} at position {why.start + 1} of {what} is half of a character"
            ) from None
        ids = self._ids_inside(text) if inside else self._ids(text)
        for i in ids:
            if i in self._not_text:
                token = self._tokenizer.convert_ids_to_tokens(i)
                raise TdiffError(f"{what} holds {token!r}, which is no text but a special token of the model")
        return torch.tensor(ids, dtype=torch.int64)

    def decode(self, ids: Iterable[int] | Tensor) -> str:
        """The text of the ids; a mask is shown as a full block."""
        text: str = self._join([self._tokens[i] for i in (ids.tolist() if isinstance(ids, Tensor) else ids)])
        return text

    def save(self, folder: Path) -> None:
        """Write its files into the folder, which exists."""
        self._tokenizer.save_pretrained(str(folder))

    def _ids(self, text: str, special: bool = False) -> list[int]:
        """With `special` the tokens around a text are added, and those in it are read as such."""
        # Tokenizers written in Python would no longer find any token in a text without spaces.
        split = not special and self._tokenizer.is_fast
        ids: list[int] = self._tokenizer.encode(
            text, add_special_tokens=special, split_special_tokens=split, truncation=False, verbose=False
        )
        return ids

    def _ids_inside(self, text: str) -> list[int]:
        """The ids of a text that goes on after a word: some tokenizers put a space before every text they are given."""
        alone = self._ids(text)
        if self._words is not None:
            one = self._words[1]
            before, whole = self._ids(one), self._ids(one + text)
            rest = whole[len(before) :]
            # Not where the word's last letters are in a token with the first of the text.
            if whole[: len(before)] == before and self.between(rest) == text:
                return rest
        return alone

    def between(self, ids: Sequence[int]) -> str:
        """The text of some tokens between two words, which is all of it but those words."""
        tokens = [self._tokens[i] for i in ids]
        if self._words is not None:
            word, one, two = self._words
            text: str = self._join([word, *tokens, word])
            last = two[len(one) :]
            if text.startswith(one) and text.endswith(last) and len(text) >= len(two):
                return text[len(one) : len(text) - len(last)]
        alone: str = self._join(tokens)
        return alone

    def _word(self, proposable: Sequence[int]) -> tuple[str, str, str] | None:
        """A token that is a word, its text, and its text twice; None where there is none."""
        for i in proposable:
            word = self._tokens[i]
            one, two = self._join([word]), self._join([word, word])
            if one.isascii() and one.isalpha() and two.startswith(one):
                return word, one, two
        return None

    def _around(self) -> tuple[list[int], list[int]]:
        """What the tokenizer puts before and after a text."""
        whole, text = self._ids("a", special=True), self._ids("a")
        for start in range(len(whole) - len(text) + 1):
            if text and whole[start : start + len(text)] == text:
                return whole[:start], whole[start + len(text) :]
        return [], []
