"""Ways of generating, side by side: the same prompts and seeds, what each costs, and how good its texts are.

It measures and advises; how that is shown is not known here.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

from tdiff.config.decoding import DecodeSettings
from tdiff.core.diffusion.generate import generate, prompt_ids
from tdiff.core.evaluation.quality import Difference, Judge, Quality, compare
from tdiff.core.models.base import LoadedModel
from tdiff.errors import TdiffError

PROMPT, LENGTH = 16, 240
"""Characters of a prompt, and of what is written after it."""
_BATCH = 64
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Contender:
    """A way of generating."""

    model: LoadedModel
    settings: DecodeSettings
    label: str
    """What tells it from the others."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a contender wrote, and what it took."""

    contender: Contender
    texts: list[str]
    """With their prompts."""
    qualities: list[Quality]
    calls: float
    """Model calls a text."""
    forced: float
    """Places a text that were committed only because the steps ran out."""
    tokens: int
    """Of all texts, without prompts."""
    seconds: float
    """Of all texts, in batches."""
    copied: str
    """The longest span that the training text has too."""

    @property
    def nats(self) -> float:
        """Of the judge, a character."""
        return fmean(quality.nats for quality in self.qualities)

    @property
    def distinct(self) -> float:
        """Share of 4-grams that are different ones, within a text."""
        return fmean(quality.distinct for quality in self.qualities)

    @property
    def words(self) -> float:
        """Share of words that the training text has."""
        return fmean(quality.words for quality in self.qualities)

    @property
    def tokens_a_call(self) -> float:
        """Tokens that a model call reveals."""
        return self.tokens / len(self.texts) / max(1.0, self.calls)


@dataclass(frozen=True, slots=True)
class Task:
    """Prompts, and how real text goes on from each."""

    prompts: list[str]
    real: list[str]
    """With their prompts."""
    qualities: list[Quality]
    """Of the real texts."""
    copied: str
    """The longest span that a real text shares with the training text."""


def task(judge: Judge, held_out: str, count: int) -> Task:
    """`count` different prompts, evenly spread over the held-out text. Raises TdiffError where it is too short."""
    room = len(held_out) - PROMPT - LENGTH
    starts = [i * room // max(1, count - 1) for i in range(count)] if room >= 0 else []
    real = {held_out[start : start + PROMPT]: held_out[start : start + PROMPT + LENGTH] for start in starts}
    if len(real) < count:
        raise TdiffError(
            f"the held-out text has {len(held_out):,} characters, too few for {count} different prompts with what "
            f"follows them; ask for at most {max(1, len(real))}"
        )
    texts = list(real.values())
    qualities = [judge.measure(prompt, text) for prompt, text in real.items()]
    return Task(list(real), texts, qualities, judge.copied(texts))


def run(contender: Contender, task: Task, judge: Judge, progress: Progress | None = None) -> Outcome:
    """Have a contender write after each prompt. `progress` is told the texts written and of how many."""
    model, prompts = contender.model, task.prompts
    sizes = [len(prompt_ids(model, prompt, "a prompt")) for prompt in prompts]
    length = _length(model, task)
    texts, calls, forced, begun, done = [""] * len(prompts), 0, 0, time.perf_counter(), 0
    for rows in _batches(sizes):
        steps = generate(model, [prompts[n] for n in rows], contender.settings, length=length, rows=rows)
        step = deque(steps, maxlen=1).pop()
        calls, forced = calls + int(step.calls.sum()), forced + int(step.forced.sum())
        for n, tokens in zip(rows, step.tokens, strict=True):
            texts[n] = model.tokenizer.decode(tokens)[: PROMPT + LENGTH]
        done += len(rows)
        if progress:
            progress(done, len(prompts))
    seconds = time.perf_counter() - begun
    qualities = [judge.measure(prompt, text) for prompt, text in zip(prompts, texts, strict=True)]
    count = len(prompts)
    return Outcome(
        contender, texts, qualities, calls / count, forced / count, length * count, seconds, judge.copied(texts)
    )


def _batches(sizes: Sequence[int]) -> Iterator[list[int]]:
    """Rows whose prompts have the same number of tokens, together."""
    groups: dict[int, list[int]] = {}
    for row, size in enumerate(sizes):
        groups.setdefault(size, []).append(row)
    for rows in groups.values():
        for i in range(0, len(rows), _BATCH):
            yield rows[i : i + _BATCH]


def _length(model: LoadedModel, task: Task) -> int:
    """Tokens that hold the characters of a text, as real text has them."""
    encoded = sum(len(model.tokenizer.encode(text, "held-out text")) for text in task.real)
    whole = sum(map(len, task.real))
    return max(1, -(-LENGTH * encoded // whole))


def shortfall(outcome: Outcome, task: Task) -> float:
    """How far it is from real text, 0 where it is as good: in units of what counts as equal, over all measures."""
    real = task.qualities
    distance = abs(outcome.nats - fmean(q.nats for q in real)) / 0.05
    distinct = max(0.0, fmean(q.distinct for q in real) - outcome.distinct) / 0.02
    return distance + distinct + max(0.0, fmean(q.words for q in real) - outcome.words) / 0.02


@dataclass(frozen=True, slots=True)
class Advice:
    """Which contender to take."""

    best: int
    """The one nearest to real text."""
    equal: list[int]
    """Those whose texts are as good as its, itself among them, the fewest calls first."""
    differences: list[Difference]
    """Of each contender from the best."""
    front: list[int]
    """Those than which none is both nearer to real text and cheaper in calls; from the cheapest on."""

    @property
    def taken(self) -> int:
        """The cheapest of the equals."""
        return self.equal[0]


def advise(outcomes: Sequence[Outcome], task: Task) -> Advice:
    """The fewest model calls at equal quality."""
    far = [shortfall(outcome, task) for outcome in outcomes]
    best = min(range(len(outcomes)), key=lambda n: far[n])
    differences = [compare(one.qualities, outcomes[best].qualities, task.qualities) for one in outcomes]
    equal = [n for n, difference in enumerate(differences) if n == best or difference.equal]
    equal.sort(key=lambda n: outcomes[n].calls)
    front: list[int] = []
    for n in sorted(range(len(outcomes)), key=lambda n: (outcomes[n].calls, far[n])):
        if not front or far[n] < far[front[-1]]:
            front.append(n)
    return Advice(best, equal, differences, front)
