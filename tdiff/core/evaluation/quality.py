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
        return copied_span(self._training, texts)


_SEED = 16
"""Characters of the spans by which copies are found."""


def copied_span(training: str, texts: Sequence[str]) -> str:
    """The longest span of any of the texts that also occurs in the training text, character for character."""
    codes = _codes(training)
    if places := _shared(codes, texts, _SEED):
        best = ""
        for text, at in places:  # a longer copied span begins at one of these places
            size = max(len(best) + 1, _SEED)
            while at + size <= len(text) and text[at : at + size] in training:
                best = text[at : at + size]
                size += 1
        if best:
            return best
    low, high = 0, _SEED - 1
    while low < high:  # a copied span contains copied spans of every shorter length
        size = (low + high + 1) // 2
        low, high = (size, high) if _first_shared(training, codes, texts, size) else (low, size - 1)
    return _first_shared(training, codes, texts, low) if low else ""


def _first_shared(training: str, codes: Tensor, texts: Sequence[str], size: int) -> str:
    """A span of `size` characters that a text shares with the training text; "" if there is none."""
    spans = (text[at : at + size] for text, at in _shared(codes, texts, size))
    return next((span for span in spans if span in training), "")


def _shared(codes: Tensor, texts: Sequence[str], size: int) -> list[tuple[str, int]]:
    """The texts and places at which a span begins whose hash occurs in the training text, given by its `codes`."""
    hashes = [_hashes(_codes(text), size) for text in texts]
    wanted = _distinct(torch.cat([torch.empty(0, dtype=torch.int64), *hashes]))
    known = _hashes(codes, size)
    if not len(wanted) or not len(known):
        return []
    # The training text is looked up among the spans of the texts: sorting those is quick.
    at = torch.searchsorted(wanted, known).clamp(max=len(wanted) - 1)
    found = wanted[_distinct(at[wanted[at] == known])]
    places = [torch.isin(of_text, found).nonzero()[:, 0].tolist() for of_text in hashes]
    return [(text, place) for text, ats in zip(texts, places, strict=True) for place in ats]


def _distinct(values: Tensor) -> Tensor:
    """The distinct values (N,) int64, ascending."""
    distinct: Tensor = torch.unique_consecutive(values.sort().values)
    return distinct


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
