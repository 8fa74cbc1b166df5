"""How good generated text is, without being fooled: measures that a loop, a copy or a blur cannot all pass.

A text is judged by a character n-gram model of the training text, by how much it repeats itself, by its words, and by
what it copied. No measure is a model's own likelihood, which rewards loops. Figures are told beside those of real text
of the same length after the same prompts, and two ways of generating are compared prompt by prompt.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

import torch
from torch import Tensor

from tdiff.errors import TdiffError

ORDER = 5
"""Characters of the judge's n-grams, the last of them predicted: the best order for a text of a megabyte."""
SPAN = 4
"""Characters of the n-grams whose repetition counts."""
Z = 1.96
"""Standard errors to either side of a 95% interval."""
_WORD = re.compile(r"(?:[^\W\d_]|')+")
_PRIME = 0x100000001B3  # odd, so that powers of it keep all bits of a 64-bit number


class NGram:
    """An interpolated n-gram model of characters (Witten and Bell 1991, method C; interpolated down to uniform).

    P(c | h) = (count(h c) + distinct(h) P(c | h')) / (count(h) + distinct(h)), where h' is h without its first
    character and distinct(h) the number of characters seen after h.
    """

    def __init__(self, text: str, order: int = ORDER) -> None:
        """Count all n-grams of 1..`order` characters. Raises TdiffError for an empty text."""
        if not text:
            raise TdiffError("a judge needs text to learn from; got none")
        self.order = order
        self._uniform = 1 / len(set(text))
        self._counts = [Counter(text[i : i + k + 1] for i in range(len(text) - k)) for k in range(order)]
        self._seen: list[Counter[str]] = []
        self._distinct: list[Counter[str]] = []
        for counts in self._counts:
            seen, distinct = Counter[str](), Counter[str]()
            for gram, count in counts.items():
                seen[gram[:-1]] += count
                distinct[gram[:-1]] += 1
            self._seen.append(seen)
            self._distinct.append(distinct)

    def probability(self, history: str, character: str) -> float:
        """Of a character after a history, of which the last `order` - 1 characters count; above 0 for any."""
        p = self._uniform
        for k, counts in enumerate(self._counts[: len(history) + 1]):
            context = history[len(history) - k :]
            seen = self._seen[k].get(context)
            if seen is None:
                break
            distinct = self._distinct[k][context]
            p = (counts.get(context + character, 0) + distinct * p) / (seen + distinct)
        return p

    def nats(self, text: str, given: int = 0) -> float:
        """Nats a character of `text` after its first `given` characters; 0 where none is left."""
        total = 0.0
        for i in range(given, len(text)):
            total -= math.log(self.probability(text[max(0, i - self.order + 1) : i], text[i]))
        return total / max(1, len(text) - given)


@dataclass(frozen=True, slots=True)
class Quality:
    """The measures of one text, of what comes after its prompt."""

    nats: float
    """Of the judge, a character: too low is as bad as too high."""
    distinct: float
    """Share of its 4-grams of characters that are different ones, 0..1."""
    words: float
    """Share of its words that the training text has, in either case, 0..1; 1 where it has no word."""
    second: float | None = None
    """Nats a character of a second judge, where there is one."""


class Judge:
    """What the training text says of other texts."""

    def __init__(self, training: str, second: Callable[[str, str], float] | None = None) -> None:
        """`second` is asked for the nats a character of a text after its prompt, beside the n-gram."""
        self.ngram = NGram(training)
        self._training, self._second = training, second
        self._vocabulary = set(words(training))

    def measure(self, prompt: str, text: str) -> Quality:
        """The measures of a text that begins with its prompt."""
        written = text[len(prompt) :]
        grams = [written[i : i + SPAN] for i in range(len(written) - SPAN + 1)]
        # A word that the prompt begins or the end cuts off is none.
        found = _WORD.finditer(text, len(prompt))
        whole = [
            match[0].lower()
            for match in found
            if match.end() < len(text) and not (match.start() == len(prompt) and prompt and _WORD.match(prompt[-1]))
        ]
        return Quality(
            nats=self.ngram.nats(text, len(prompt)),
            distinct=len(set(grams)) / len(grams) if grams else 1.0,
            words=sum(word in self._vocabulary for word in whole) / len(whole) if whole else 1.0,
            second=self._second(prompt, text) if self._second else None,
        )

    def copied(self, texts: Sequence[str]) -> str:
        """The longest span of any of the texts that the training text has too, character for character."""
        training, others = _codes(self._training), [_codes(text) for text in texts]
        best, low, high = "", 0, max(map(len, texts), default=0)
        while low < high:  # what is copied at one length is copied at every shorter one
            size = (low + high + 1) // 2
            span = self._shared(training, others, texts, size)
            if span is None:
                high = size - 1
            else:
                best, low = span, size
        return best

    def _shared(self, training: Tensor, others: Sequence[Tensor], texts: Sequence[str], size: int) -> str | None:
        """A span of `size` characters that a text shares with the training text."""
        known = _hashes(training, size).sort().values
        for codes, text in zip(others, texts, strict=True):
            hashes = _hashes(codes, size)
            if not len(hashes) or not len(known):
                continue
            at = torch.searchsorted(known, hashes).clamp(max=len(known) - 1)
            for i in (known[at] == hashes).nonzero()[:, 0].tolist():
                if text[i : i + size] in self._training:
                    return text[i : i + size]
        return None


def words(text: str) -> list[str]:
    """The words of a text, in lower case: letters and apostrophes."""
    return _WORD.findall(text.lower())


def _codes(text: str) -> Tensor:
    return torch.tensor(list(map(ord, text)), dtype=torch.int64)


def _hashes(codes: Tensor, size: int) -> Tensor:
    """(L - size + 1,) int64: a hash of each span of `size` characters, by doubling; arithmetic is modulo 2^64."""
    if len(codes) < size:
        return codes[:0]
    whole, length = codes[: len(codes) - size + 1] * 0, 0
    part, width, power = codes, 1, _PRIME
    while size:
        if size & 1:
            shifted = part[length : length + len(whole)]
            whole = whole * _signed(power) + shifted
            length += width
        size >>= 1
        if size:
            part = part[: len(part) - width] * _signed(power) + part[width:]
            width, power = 2 * width, power * power % (1 << 64)
    return whole


def _signed(number: int) -> int:
    return number - (1 << 64) if number >= 1 << 63 else number


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean, and how far from it the true one may lie: `mean` plus or minus `half`, 95%."""

    mean: float
    half: float


def estimate(values: Sequence[float]) -> Estimate:
    """The mean of independent values, by the normal approximation; of a single one the interval is infinite."""
    return Estimate(fmean(values), Z * stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.inf)


def paired(one: Sequence[float], other: Sequence[float]) -> Estimate:
    """`one` minus `other`, value by value: of two ways of going on from the same prompts."""
    return estimate([a - b for a, b in zip(one, other, strict=True)])


@dataclass(frozen=True, slots=True)
class Summary:
    """The mean of each measure over several texts."""

    nats: Estimate
    distinct: Estimate
    words: Estimate
    second: Estimate | None
    """None if there is no second judge."""


def summarize(qualities: Sequence[Quality]) -> Summary:
    """The mean measures of texts, of which there is at least one."""
    second = [quality.second for quality in qualities if quality.second is not None]
    return Summary(
        nats=estimate([quality.nats for quality in qualities]),
        distinct=estimate([quality.distinct for quality in qualities]),
        words=estimate([quality.words for quality in qualities]),
        second=estimate(second) if second else None,
    )


@dataclass(frozen=True, slots=True)
class Difference:
    """How one way of generating stands to another on the same prompts; each is one minus other."""

    distance: Estimate
    """Of the judge's nats from those of real text."""
    distinct: Estimate
    words: Estimate

    @property
    def equal(self) -> bool:
        """Whether the one is at most a little worse than the other, by the whole of each interval.

        A little: 0.05 nats farther from real text, 2% of distinct 4-grams, 2 points of words.
        """
        return (
            self.distance.mean + self.distance.half <= 0.05
            and self.distinct.mean - self.distinct.half >= -0.02
            and self.words.mean - self.words.half >= -0.02
        )


def compare(one: Sequence[Quality], other: Sequence[Quality], real: Sequence[Quality]) -> Difference:
    """One way of generating against another; `real` are the true continuations of the same prompts."""

    def away(texts: Sequence[Quality]) -> list[float]:
        """Of each text, signed so that the mean is the distance of the means."""
        gaps = [text.nats - true.nats for text, true in zip(texts, real, strict=True)]
        return [math.copysign(1.0, fmean(gaps)) * gap for gap in gaps]

    return Difference(
        distance=paired(away(one), away(other)),
        distinct=paired([text.distinct for text in one], [text.distinct for text in other]),
        words=paired([text.words for text in one], [text.words for text in other]),
    )
