"""Interpolated n-gram models of symbols, of characters and of words, by which texts are judged.

Counts are sorted keys in tensors, not dictionaries: a trigram model of seven million words takes seconds.
"""

from __future__ import annotations

import math
import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from tdiff.errors import TdiffError

_PIECE = re.compile(r" ?(?:[^\W\d_]|')+| ?[^\s]|\s")
_UNKNOWN = 0
"""The symbol of every word or character that is not in the vocabulary."""
_END = "\n"
"""The end of a word's spelling: no word contains it."""


class NGrams:
    """An interpolated n-gram model of integer symbols (Witten and Bell 1991, method C; interpolated down to uniform).

    P(s | h) = (count(h s) + distinct(h) P(s | h')) / (count(h) + distinct(h)), where h' is h without its first symbol
    and distinct(h) the number of symbols seen after h.
    """

    def __init__(self, symbols: Tensor, order: int, size: int, uniform: float | None = None) -> None:
        """Count all n-grams of 1..`order` of the `symbols` (L,), int64 in 0..`size` - 1.

        `uniform`: the probability of each symbol below the 1-grams, by default 1 / `size`. Raises TdiffError for no
        symbols.
        """
        if not len(symbols):
            raise TdiffError("an n-gram model requires training text; got none")
        self.order, self._size = order, size
        self._uniform = 1 / size if uniform is None else uniform
        self._tables: list[_Table] = []
        contexts, count = torch.zeros(len(symbols), dtype=torch.int64), 1
        for length in range(1, min(order, len(symbols)) + 1):
            table = _Table(contexts[: len(symbols) - length + 1] * size + symbols[length - 1 :], count, size)
            self._tables.append(table)
            if length < order:
                contexts, count = table.find(contexts[: len(symbols) - length + 1], symbols[length - 1 :]), table.count

    def probabilities(self, symbols: Tensor) -> Tensor:
        """(L,) float64: P of each of the `symbols` (L,) after the at most `order` - 1 symbols before it."""
        p = torch.full((len(symbols),), self._uniform, dtype=torch.float64)
        for first, table, contexts, found in self._walk(symbols):
            known = contexts >= 0  # if a context is unknown, so is every longer one
            count = torch.where(found >= 0, table.counts[found.clamp(min=0)], 0)
            seen, distinct = table.seen[contexts.clamp(min=0)], table.distinct[contexts.clamp(min=0)]
            mixed = (count + distinct * p[first:]) / (seen + distinct).clamp(min=1)
            p[first:] = torch.where(known & (seen > 0), mixed, p[first:])
        return p

    def seen(self, symbols: Tensor) -> Tensor:
        """(max(0, L - order + 1),) bool: whether each n-gram of the full order occurs in the training text."""
        found = torch.full((max(0, len(symbols) - self.order + 1),), -1)
        for first, _, _, numbers in self._walk(symbols):
            if first == self.order - 1:
                found = numbers
        return found >= 0

    def sample(self, history: Sequence[int], random: random.Random) -> int:
        """One symbol, drawn from P(s | history)."""
        for length in range(min(self.order - 1, len(history)), -1, -1):
            context = self._context(history[len(history) - length :])
            symbol = self._tables[length].sample(context, random) if context >= 0 else None
            if symbol is not None:
                return symbol
        return random.randrange(self._size)

    def _walk(self, symbols: Tensor) -> Iterator[tuple[int, _Table, Tensor, Tensor]]:
        """For each length: index of its last symbol, its table, numbers of its contexts and n-grams (-1: unknown)."""
        contexts = torch.zeros(len(symbols), dtype=torch.int64)
        for first, table in enumerate(self._tables[: len(symbols)]):
            contexts = contexts[: len(symbols) - first]
            found = table.find(contexts, symbols[first:])
            yield first, table, contexts, found
            contexts = found

    def _context(self, symbols: Sequence[int]) -> int:
        """The number of a context; -1 if it does not occur."""
        if len(symbols) >= len(self._tables):
            return -1
        number = torch.zeros(1, dtype=torch.int64)
        for table, symbol in zip(self._tables, symbols, strict=False):
            number = table.find(number, torch.tensor([symbol]))
        return int(number)


class _Table:
    """The n-grams of one length; a context is the number of the n-gram before, so that keys stay small."""

    def __init__(self, keys: Tensor, contexts: int, size: int) -> None:
        """`keys` (N,) int64: context * size + symbol of each n-gram of the text; `contexts`: how many there are."""
        self._size = size
        # Sorting first is many times faster than `unique`, which hashes.
        self._keys, self.counts = torch.unique_consecutive(keys.sort().values, return_counts=True)
        of_keys = self._keys // size
        self.distinct = torch.bincount(of_keys, minlength=contexts)
        self.seen = torch.zeros(contexts, dtype=torch.int64).index_add_(0, of_keys, self.counts)

    @property
    def count(self) -> int:
        """The number of n-grams."""
        return len(self._keys)

    def find(self, contexts: Tensor, symbols: Tensor) -> Tensor:
        """(N,) int64: the number of the n-gram of each context and symbol; -1 if it or its context is unknown."""
        keys = contexts * self._size + symbols
        at = torch.searchsorted(self._keys, keys).clamp(max=len(self._keys) - 1)
        return torch.where((contexts >= 0) & (self._keys[at] == keys), at, -1)

    def sample(self, context: int, random: random.Random) -> int | None:
        """A symbol after the context by its count; None if a shorter context is to be used instead."""
        seen, distinct = int(self.seen[context]), int(self.distinct[context])
        if not seen or (number := random.randrange(seen + distinct)) >= seen:
            return None
        start = int(torch.searchsorted(self._keys, torch.tensor(context * self._size)))
        totals = self.counts[start : start + distinct].cumsum(0)
        n = int(torch.searchsorted(totals, number, right=True))
        return int(self._keys[start + n]) % self._size


class CharacterNGrams:
    """An n-gram model of the characters of a text."""

    def __init__(self, text: str, order: int) -> None:
        """Count all n-grams of 1..`order` characters. Raises TdiffError for an empty text."""
        self._order = order
        self._ids = {character: n for n, character in enumerate(sorted(set(text)), start=1)}
        self._ngrams = NGrams(self._encode(text), order, len(self._ids) + 1, 1 / max(1, len(self._ids)))

    def probabilities(self, text: str) -> Tensor:
        """(L,) float64: P of each character after the at most `order` - 1 characters before it, above 0."""
        return self._ngrams.probabilities(self._encode(text))

    def nats(self, text: str, start: int = 0) -> float:
        """Nats a character of `text` from character `start` on; 0 if there is none."""
        if start >= len(text):
            return 0.0
        before = max(0, start - self._order + 1)
        return -float(self.probabilities(text[before:])[start - before :].log().mean())

    def __contains__(self, character: str) -> bool:
        return character in self._ids

    def _encode(self, text: str) -> Tensor:
        return torch.tensor([self._ids.get(character, _UNKNOWN) for character in text], dtype=torch.int64)


class WordNGrams:
    """An n-gram model of the words, punctuation marks and line breaks of a text, with every text above 0.

    A word with the space before it is one symbol; so is any other character with the space before it. Words that occur
    once are replaced by an unknown word, which a character model of their spellings spells out.
    """

    def __init__(self, text: str, order: int = 3) -> None:
        """Count the words of the training text. Raises TdiffError for an empty text."""
        counts = Counter(pieces(text))
        if not counts:
            raise TdiffError("the word judge requires training text; got none")
        vocabulary = sorted(piece for piece, count in counts.items() if count > 1)
        self._rare = sorted(piece for piece, count in counts.items() if count == 1)
        self._ids = {piece: n for n, piece in enumerate(vocabulary, start=1)}
        self._pieces = ["", *vocabulary]
        self.ngrams = NGrams(self.encode(text), order, len(self._pieces))
        self._spelling = _Spelling(self._rare or vocabulary)

    def encode(self, text: str) -> Tensor:
        """(L,) int64: the symbols of the pieces of a text; 0 for a piece that is not in the vocabulary."""
        return torch.tensor([self._ids.get(piece, _UNKNOWN) for piece in pieces(text)], dtype=torch.int64)

    def nats(self, text: str, start: int = 0) -> float:
        """Nats a character of `text` from the piece at character `start` on; 0 if there is none.

        A piece that begins before `start` belongs to the prompt.
        """
        p = self.ngrams.probabilities(self.encode(text)).log().tolist()
        total, characters, at = 0.0, 0, 0
        for piece, log in zip(pieces(text), p, strict=True):
            if at >= start:
                total -= log - (0.0 if piece in self._ids else self._spelling.nats(piece))
                characters += len(piece)
            at += len(piece)
        return total / max(1, characters)

    def seen_share(self, text: str) -> float:
        """The share of the word n-grams of a text that occur in the training text, 0..1; 1 if there is none."""
        symbols = self.encode(text)
        seen = self.ngrams.seen(symbols)
        if not len(seen):
            return 1.0
        order = self.ngrams.order
        known = (symbols != _UNKNOWN).unfold(0, order, 1).all(1)
        return float((seen & known).double().mean())

    def sample(self, prompt: str, characters: int, seed: int) -> str:
        """A text of at least `characters` characters that continues the prompt, by the n-gram model alone."""
        draw, text = random.Random(seed), prompt
        history = self.encode(prompt).tolist()
        while len(text) < len(prompt) + characters:
            symbol = self.ngrams.sample(history[-(self.ngrams.order - 1) :], draw)
            piece = self._pieces[symbol] or draw.choice(self._rare or self._pieces[1:])
            text += piece
            history.append(symbol)
        return text


class _Spelling:
    """The probability of the spelling of a word, by a character 5-gram model of other words."""

    def __init__(self, words: Sequence[str]) -> None:
        self._characters = CharacterNGrams(_END + _END.join(words) + _END, 5)
        self._cost: dict[str, float] = {}

    def nats(self, word: str) -> float:
        """-log P of a word's characters and its end; an unknown character costs as much as one of all of Unicode."""
        if word not in self._cost:
            p = self._characters.probabilities(_END + word + _END)[1:]
            strange = sum(character not in self._characters for character in word)
            self._cost[word] = -float(p.log().sum()) + strange * math.log(0x110000)
        return self._cost[word]


def pieces(text: str) -> list[str]:
    """The words and other characters of a text, with the space before them; joined they are the text."""
    return _PIECE.findall(text)


def sentence_lengths(text: str) -> list[int]:
    """The number of words of each complete sentence of a text."""
    ends = re.split(r"(?<=[.!?])[\"')]*\s+", text.strip())
    complete = ends if text.rstrip().endswith((".", "!", "?", '"')) else ends[:-1]
    return [count for part in complete if (count := len(re.findall(r"(?:[^\W\d_]|')+", part)))]
