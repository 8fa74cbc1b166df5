"""Interpolated n-gram models of symbols, of characters and of words, by which texts are judged.

Counts are sorted keys in tensors, not dictionaries: a trigram model of seven million words takes seconds and about
150 MB.
"""

from __future__ import annotations

import math
import random
import re
from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from tdiff.errors import TdiffError

_PIECE = re.compile(r" ?(?:[^\W\d_]|')+| ?[^\s]|\s")
_UNKNOWN = 0
"""The symbol of every word that is not in the vocabulary."""
_END = "\n"
"""The end of a word's spelling: no word contains it."""


class NGrams:
    """An interpolated n-gram model of integer symbols (Witten and Bell 1991, method C; interpolated down to uniform).

    P(s | h) = (count(h s) + distinct(h) P(s | h')) / (count(h) + distinct(h)), where h' is h without its first symbol
    and distinct(h) the number of symbols seen after h.
    """

    def __init__(self, symbols: Tensor, order: int, size: int) -> None:
        """Count all n-grams of 1..`order` of the `symbols` (L,), int64 in 0..`size` - 1.

        Raises TdiffError for no symbols, and for n-grams that have no key of 63 bits.
        """
        if not len(symbols):
            raise TdiffError("an n-gram model requires training text; got none")
        if order * math.log2(max(2, size)) >= 63:
            raise TdiffError(f"{order}-grams of {size:,} symbols are too many; use a smaller order or vocabulary")
        self.order, self.size = order, size
        self._tables = [_Table(symbols, k + 1, size) for k in range(min(order, len(symbols)))]

    def probabilities(self, symbols: Tensor) -> Tensor:
        """(L,) float64: P of each of the `symbols` (L,) after the at most `order` - 1 symbols before it."""
        p = torch.full((len(symbols),), 1 / self.size, dtype=torch.float64)
        known = torch.ones(len(symbols), dtype=torch.bool)
        for table in self._tables:
            if len(symbols) < table.length:
                break
            first = table.length - 1
            count, seen, distinct = table.look_up(_keys(symbols, table.length, self.size))
            known[first:] &= seen > 0  # if a context is unknown, so is every longer one
            mixed = (count + distinct * p[first:]) / (seen + distinct).clamp(min=1)
            p[first:] = torch.where(known[first:], mixed, p[first:])
            known[:first] = False
        return p

    def seen(self, symbols: Tensor) -> Tensor:
        """(max(0, L - order + 1),) bool: whether each n-gram of the full order occurs in the training text."""
        if len(self._tables) < self.order or len(symbols) < self.order:
            return torch.zeros(max(0, len(symbols) - self.order + 1), dtype=torch.bool)
        return self._tables[-1].look_up(_keys(symbols, self.order, self.size))[0] > 0

    def sample(self, history: Sequence[int], random: random.Random) -> int:
        """One symbol, drawn from P(s | history)."""
        for table in reversed(self._tables[: len(history) + 1]):
            context = history[len(history) - table.length + 1 :]
            symbol = table.sample(context, random)
            if symbol is not None:
                return symbol
        return random.randrange(self.size)


class _Table:
    """Counts of the n-grams of one length."""

    def __init__(self, symbols: Tensor, length: int, size: int) -> None:
        self.length, self._size = length, size
        # Sorting first is many times faster than `unique`, which hashes.
        keys = _keys(symbols, length, size).sort().values
        self._keys, self._counts = torch.unique_consecutive(keys, return_counts=True)
        self._contexts, self._distinct = torch.unique_consecutive(self._keys // size, return_counts=True)
        self._ends = self._distinct.cumsum(0)
        self._totals = self._counts.cumsum(0)
        before = torch.cat([self._totals.new_zeros(1), self._totals[self._ends[:-1] - 1]])
        self._seen = self._totals[self._ends - 1] - before

    def look_up(self, keys: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(count, seen, distinct), each (N,): of the n-grams, and of their contexts; 0 if they did not occur."""
        at, found = _find(self._keys, keys)
        context, has_context = _find(self._contexts, keys // self._size)
        return self._counts[at] * found, self._seen[context] * has_context, self._distinct[context] * has_context

    def sample(self, context: Sequence[int], random: random.Random) -> int | None:
        """A symbol after the context by its count; None if a shorter context is to be used instead."""
        key = 0
        for symbol in context:
            key = key * self._size + symbol
        at, found = _find(self._contexts, torch.tensor([key]))
        if not found:
            return None
        seen, distinct, end = int(self._seen[at]), int(self._distinct[at]), int(self._ends[at])
        number = random.randrange(seen + distinct)
        if number >= seen:
            return None
        before = int(self._totals[end - 1]) - seen
        n = int(torch.searchsorted(self._totals[end - distinct : end], before + number, right=True))
        return int(self._keys[end - distinct + n]) % self._size


def _keys(symbols: Tensor, length: int, size: int) -> Tensor:
    """(L - length + 1,): a number for each n-gram, the same for the same symbols."""
    count = len(symbols) - length + 1
    keys = torch.zeros(count, dtype=torch.int64)
    for n in range(length):
        keys = keys * size + symbols[n : n + count]
    return keys


def _find(sorted_keys: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
    """The index of each key in the sorted keys, and whether it is there."""
    at = torch.searchsorted(sorted_keys, keys).clamp(max=len(sorted_keys) - 1)
    return at, sorted_keys[at] == keys


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
        text = _END + _END.join(words) + _END
        self._ids = {character: n for n, character in enumerate(sorted(set(text)), start=1)}
        self._ngrams = NGrams(self._encode(text), 5, len(self._ids) + 1)
        self._cost: dict[str, float] = {}

    def nats(self, word: str) -> float:
        """-log P of a word's characters and its end; an unknown character costs as much as one of all of Unicode."""
        if word not in self._cost:
            p = self._ngrams.probabilities(self._encode(_END + word + _END))[1:]
            strange = sum(character not in self._ids for character in word)
            self._cost[word] = -float(p.log().sum()) + strange * math.log(0x110000)
        return self._cost[word]

    def _encode(self, text: str) -> Tensor:
        return torch.tensor([self._ids.get(character, 0) for character in text], dtype=torch.int64)


def pieces(text: str) -> list[str]:
    """The words and other characters of a text, with the space before them; joined they are the text."""
    return _PIECE.findall(text)


def sentence_lengths(text: str) -> list[int]:
    """The number of words of each complete sentence of a text."""
    ends = re.split(r"(?<=[.!?])[\"')]*\s+", text.strip())
    complete = ends if text.rstrip().endswith((".", "!", "?", '"')) else ends[:-1]
    return [count for part in complete if (count := len(re.findall(r"(?:[^\W\d_]|')+", part)))]
