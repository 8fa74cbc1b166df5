"""Quality measures of generated text that repetition, copying and noise cannot all pass.

A text is scored by a character n-gram model of the training text, by its repetition, by its words, and by the longest
copied span. No measure is the likelihood of the generating model, which rewards loops. Values are compared with those
of real text of the same length after the same prompts, and two settings are compared prompt by prompt.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

import torch
from torch import Tensor

from tdiff.core.evaluation.ngrams import CharacterNGrams

ORDER = 5
"""Characters of the judge's n-grams, of which the last is predicted: the best order for a text of a megabyte."""
SPAN = 4
"""Characters of the n-grams whose repetition is measured."""
Z = 1.96
"""Standard errors to either side of a 95% interval."""
_WORD = re.compile(r"(?:[^\W\d_]|')+")
_PRIME = 0x100000001B3  # odd, so that its powers keep all bits of a 64-bit number


@dataclass(frozen=True, slots=True)
class Quality:
    """The measures of one text, without its prompt."""

    nats: float
    """Nats a character of the n-gram judge: too low is as bad as too high."""
    distinct: float
    """The share of its character 4-grams that are distinct, 0..1."""
    words: float
    """The share of its words that occur in the training text, in any case, 0..1; 1 if it has no word."""
    second: float | None = None
    """Nats a character of a second judge; None if there is none."""


class Judge:
    """Measures texts against the training text."""

    def __init__(self, training: str, second: Callable[[str, str], float] | None = None) -> None:
        """`second` takes a prompt and a text and returns the nats a character of the text after the prompt."""
        self.ngrams = CharacterNGrams(training, ORDER)
        self._training, self._second = training, second
        self._vocabulary = set(words(training))

    def measure(self, prompt: str, text: str) -> Quality:
        """The measures of a text, which begins with its prompt."""
        generated = text[len(prompt) :]
        grams = [generated[i : i + SPAN] for i in range(len(generated) - SPAN + 1)]
        # A word that begins in the prompt, or that the end of the text may cut off, does not count.
        complete = [
            match[0].lower()
            for match in _WORD.finditer(text, len(prompt))
            if match.end() < len(text) and not (match.start() == len(prompt) and prompt and _WORD.match(prompt[-1]))
        ]
        return Quality(
            nats=self.ngrams.nats(text, len(prompt)),
            distinct=len(set(grams)) / len(grams) if grams else 1.0,
            words=sum(word in self._vocabulary for word in complete) / len(complete) if complete else 1.0,
            second=self._second(prompt, text) if self._second else None,
        )

    def copied(self, texts: Sequence[str]) -> str:
        """The longest span of any of the texts that also occurs in the training text, character for character."""
        training, others = _codes(self._training), [_codes(text) for text in texts]
        best, low, high = "", 0, max(map(len, texts), default=0)
        while low < high:  # a copied span contains copied spans of every shorter length
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
    total, length = codes[: len(codes) - size + 1] * 0, 0
    part, width, power = codes, 1, _PRIME
    while size:
        if size & 1:
            shifted = part[length : length + len(total)]
            total = total * _signed(power) + shifted
            length += width
        size >>= 1
        if size:
            part = part[: len(part) - width] * _signed(power) + part[width:]
            width, power = 2 * width, power * power % (1 << 64)
    return total


def _signed(number: int) -> int:
    return number - (1 << 64) if number >= 1 << 63 else number


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with its 95% interval: `mean` plus or minus `half`."""

    mean: float
    half: float


def estimate(values: Sequence[float]) -> Estimate:
    """The mean of independent values, by the normal approximation; the interval of a single value is infinite."""
    return Estimate(fmean(values), Z * stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.inf)


def paired(first: Sequence[float], second: Sequence[float]) -> Estimate:
    """The mean of `first` minus `second`, value by value, for two texts after each prompt."""
    return estimate([a - b for a, b in zip(first, second, strict=True)])


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
    """The difference of two settings on the same prompts; each value is the first minus the second."""

    distance: Estimate
    """Distance of the judge's nats from those of real text."""
    distinct: Estimate
    words: Estimate

    @property
    def equal(self) -> bool:
        """Whether the first is at most slightly worse than the second, by the far end of each interval.

        Slightly: 0.05 nats farther from real text, 2% fewer distinct 4-grams, 2 points fewer known words.
        """
        return (
            self.distance.mean + self.distance.half <= 0.05
            and self.distinct.mean - self.distinct.half >= -0.02
            and self.words.mean - self.words.half >= -0.02
        )


def compare(first: Sequence[Quality], second: Sequence[Quality], real: Sequence[Quality]) -> Difference:
    """The difference of two settings; `real` are the true continuations of the same prompts."""

    def distances(texts: Sequence[Quality]) -> list[float]:
        """A signed distance for each text; their mean is the distance of the means."""
        gaps = [text.nats - true.nats for text, true in zip(texts, real, strict=True)]
        return [math.copysign(1.0, fmean(gaps)) * gap for gap in gaps]

    return Difference(
        distance=paired(distances(first), distances(second)),
        distinct=paired([text.distinct for text in first], [text.distinct for text in second]),
        words=paired([text.words for text in first], [text.words for text in second]),
    )
