"""Which of a few texts is nearest to held-out text: the measures of `quality` for single texts.

One text per setting says little about the settings; `compare` does that with many.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tdiff.core.evaluation.compare import Task, distance, task
from tdiff.core.evaluation.corpora import corpus_of
from tdiff.core.evaluation.quality import Judge, Quality, summarize
from tdiff.core.models.base import LoadedModel
from tdiff.corpus import named
from tdiff.errors import TdiffError

_PROMPTS = 32
"""Held-out texts with which the texts are compared."""


@dataclass(frozen=True, slots=True)
class Reference:
    """What texts are compared with."""

    corpus: str
    """The name of the corpus."""
    judge: Judge
    task: Task


def reference(model: LoadedModel) -> Reference:
    """The n-gram model of the model's training text, and held-out texts. Nothing is downloaded.

    Raises TdiffError if the corpus is not available, has changed or is too short.
    """
    if "shakespeare" in model.origin.sources and not named.has_shakespeare():
        raise TdiffError("its training text, Tiny Shakespeare, is not on this machine")
    corpus = corpus_of(model, (), None)
    origin = model.origin
    training, held_out = corpus.split(origin.held_out, origin.rows, origin.only)
    judge = Judge(training)
    return Reference(corpus.name, judge, task(judge, held_out, _PROMPTS))


def measure(known: Reference, prompt: str, texts: Sequence[str]) -> list[tuple[Quality, float]]:
    """The measures of each text, which begins with `prompt`, and its distance from held-out text (0: as good)."""
    real = known.task.summary
    qualities = [known.judge.measure(prompt, text) for text in texts]
    return [(quality, distance(summarize([quality]), real)) for quality in qualities]
