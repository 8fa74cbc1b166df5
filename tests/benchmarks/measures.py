"""Measures of texts that continue prompts, beside which those of real text stand: one row for each writer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from tdiff.core.evaluation.ngrams import sentence_lengths
from tdiff.core.evaluation.quality import Estimate, copied_span, estimate, words
from tests.benchmarks.writers import Cost, Passage, Writers


@dataclass(frozen=True, slots=True)
class Measures:
    """The measures of the texts of one writer, without their prompts."""

    nats: Estimate
    """Nats a character of a word-trigram model of the training text."""
    seen: Estimate
    """Share of word trigrams that occur in the training text."""
    words: Estimate
    """Share of words that occur in the training text."""
    sentence: float
    """Words of a sentence, on average; 0 without a complete sentence."""
    repeated: Estimate
    """Characters of the longest span that occurs twice in a text."""
    longest_repeated: int
    """The same, of the text with the longest one."""
    copied: int
    """Characters of the longest span that occurs in the training text."""
    calls: float | None
    """Model calls a token; None if no model wrote the texts."""
    calls_a_character: float | None
    seconds: float | None
    """Seconds a text."""


class Measure:
    """Measures the texts of writers against the training text of `writers`."""

    def __init__(self, writers: Writers) -> None:
        self._writers, self._vocabulary = writers, set(words(writers.training))

    def __call__(self, texts: Sequence[Passage], costs: Sequence[Cost] | None = None) -> Measures:
        """The measures of at least one text, each of at least one word."""
        judge, written = self._writers.judge, [text.text[len(text.prompt) :] for text in texts]
        known = [[word in self._vocabulary for word in words(text)] for text in written]
        spans = [repeated_span(text) for text in written]
        lengths = [length for text in written for length in sentence_lengths(text)]
        spent = costs or []
        tokens, characters = (sum(getattr(cost, name) for cost in spent) for name in ("tokens", "characters"))
        calls = sum(cost.calls for cost in spent)
        return Measures(
            nats=estimate([judge.nats(text.text, len(text.prompt)) for text in texts]),
            seen=estimate([judge.seen_share(text.text) for text in texts]),
            words=estimate([fmean(word) for word in known]),
            sentence=fmean(lengths) if lengths else 0.0,
            repeated=estimate(list(map(float, spans))),
            longest_repeated=max(spans),
            copied=len(copied_span(self._writers.training, written)),
            calls=calls / tokens if spent else None,
            calls_a_character=calls / characters if spent else None,
            seconds=fmean(cost.seconds for cost in spent) if spent else None,
        )


def repeated_span(text: str) -> int:
    """The length of the longest span that occurs twice in a text."""
    low, high = 0, len(text) - 1
    while low < high:
        size = (low + high + 1) // 2
        spans = [text[i : i + size] for i in range(len(text) - size + 1)]
        low, high = (size, high) if len(set(spans)) < len(spans) else (low, size - 1)
    return max(0, low)


TITLE = (
    "word nats/char  trigrams seen  vocab. words   repeated (max)  copied  w/sentence  calls/tok  calls/char   s/text  "
    "writer"
)


def row(name: str, m: Measures) -> str:
    """A row of the table below TITLE; intervals are 95%, over texts."""
    costs = (
        [f"{m.calls:9.2f}", f"{m.calls_a_character:10.3f}", f"{m.seconds:7.2f}"] if m.calls is not None else [" " * 28]
    )
    return "  ".join(
        [
            f"{m.nats.mean:7.3f} ±{m.nats.half:5.3f}",
            f"{m.seen.mean:7.1%} ±{m.seen.half:4.1%}",
            f"{m.words.mean:6.1%} ±{m.words.half:4.1%}",
            f"{m.repeated.mean:5.1f} ±{m.repeated.half:3.1f} ({m.longest_repeated:3d})",
            f"{m.copied:6d}",
            f"{m.sentence:10.1f}",
            *costs,
            name,
        ]
    )
