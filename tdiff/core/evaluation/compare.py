"""A comparison of models and decoding settings on the same prompts and seeds: the cost and the quality of each.

It measures and recommends; `report.comparison` shows the result.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tdiff.config.decoding import DecodeSettings
from tdiff.core.diffusion.denoise import Step
from tdiff.core.diffusion.generate import generate, prompt_ids
from tdiff.core.evaluation.quality import Difference, Judge, Quality, Summary, compare, summarize
from tdiff.core.memory import Portions
from tdiff.core.models.base import LoadedModel
from tdiff.core.shared import Shared
from tdiff.errors import TdiffError

PROMPT, LENGTH = 16, 240
"""Characters of a prompt, and of the text after it."""
_BATCH = 64
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Contender:
    """A model with decoding settings."""

    model: LoadedModel
    settings: DecodeSettings
    label: str
    """A name that distinguishes it from the others."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The texts of a contender, their quality and their cost."""

    contender: Contender
    texts: list[str]
    """Each begins with its prompt."""
    qualities: list[Quality]
    calls: float
    """Model calls a text."""
    forced: float
    """Positions a text that were unmasked only because the steps ran out."""
    tokens: int
    """Generated tokens of all texts, without prompts."""
    seconds: float
    """Wall time for all texts, in batches."""
    copied: str
    """The longest span that also occurs in the training text."""

    @property
    def summary(self) -> Summary:
        """The mean of each measure over the texts."""
        return summarize(self.qualities)

    @property
    def tokens_a_call(self) -> float:
        """Tokens that a model call unmasks."""
        return self.tokens / len(self.texts) / max(1.0, self.calls)


@dataclass(frozen=True, slots=True)
class Task:
    """Prompts, and the real text that continues each of them."""

    prompts: list[str]
    real: list[str]
    """Each begins with its prompt."""
    qualities: list[Quality]
    """The quality of the real texts."""
    copied: str
    """The longest span of a real text that also occurs in the training text."""

    @property
    def summary(self) -> Summary:
        """The mean of each measure over the real texts."""
        return summarize(self.qualities)


def task(judge: Judge, held_out: str, count: int) -> Task:
    """`count` different prompts, evenly spread over the held-out text. Raises TdiffError if the text is too short."""
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


def run(
    contender: Contender, task: Task, judge: Judge, progress: Progress | None = None, shared: Shared | None = None
) -> Outcome:
    """Generate a text after each prompt. `progress` receives the number of finished texts and of all texts.

    Processes that have the work `shared` generate a part of each batch, and all return the same texts.
    """
    model, prompts = contender.model, task.prompts
    sizes = [len(prompt_ids(model, prompt, "a prompt")) for prompt in prompts]
    length = _length(model, task)
    texts, calls, forced, begin, done = [""] * len(prompts), 0, 0, time.perf_counter(), 0
    portions = Portions(model.device.type, f"a text of {length:,} tokens")

    def generated(rows: Sequence[int]) -> tuple[Sequence[int], Step]:
        steps = generate(model, [prompts[n] for n in rows], contender.settings, length=length, rows=rows)
        return rows, deque(steps, maxlen=1).pop()

    for batch in _batches(sizes):
        own = batch if shared is None else batch[shared.rank :: shared.size]
        for rows, step in portions(own, generated):
            calls, forced = calls + int(step.calls.sum()), forced + int(step.forced.sum())
            for n, tokens in zip(rows, step.tokens, strict=True):
                texts[n] = model.tokenizer.decode(tokens)[: PROMPT + LENGTH]
            done += len(rows)
            if progress:
                progress(done, len(prompts))
    seconds = time.perf_counter() - begin
    if shared is not None:
        parts = shared.collect((texts, calls, forced, seconds))
        texts = ["".join(text) for text in zip(*(part[0] for part in parts), strict=True)]  # each is of one process
        calls, forced = sum(part[1] for part in parts), sum(part[2] for part in parts)
        seconds = max(part[3] for part in parts)
    qualities = [judge.measure(prompt, text) for prompt, text in zip(prompts, texts, strict=True)]
    count = len(prompts)
    return Outcome(
        contender, texts, qualities, calls / count, forced / count, length * count, seconds, judge.copied(texts)
    )


def _batches(sizes: Sequence[int]) -> Iterator[list[int]]:
    """Batches of rows whose prompts have the same number of tokens."""
    groups: dict[int, list[int]] = {}
    for row, size in enumerate(sizes):
        groups.setdefault(size, []).append(row)
    for rows in groups.values():
        for i in range(0, len(rows), _BATCH):
            yield rows[i : i + _BATCH]


def _length(model: LoadedModel, task: Task) -> int:
    """The number of tokens to generate for LENGTH characters, from the characters a token of real text."""
    encoded = sum(len(model.tokenizer.encode(text, "held-out text")) for text in task.real)
    characters = sum(map(len, task.real))
    return max(1, -(-LENGTH * encoded // characters))


def shortfall(outcome: Outcome, task: Task) -> float:
    """The distance from real text over all measures, in units of what counts as equal; 0 if it is as good."""
    return distance(outcome.summary, task.summary)


def distance(generated: Summary, real: Summary) -> float:
    """The distance of texts from real text over all measures, in units of what counts as equal; 0 if as good."""
    nats = abs(generated.nats.mean - real.nats.mean) / 0.05
    distinct = max(0.0, real.distinct.mean - generated.distinct.mean) / 0.02
    return nats + distinct + max(0.0, real.words.mean - generated.words.mean) / 0.02


@dataclass(frozen=True, slots=True)
class Advice:
    """The recommendation; contenders are named by their positions."""

    best: int
    """The contender nearest to real text."""
    equal: list[int]
    """Contenders whose texts are as good as those of the best, itself included; the fewest calls first."""
    differences: list[Difference]
    """The difference of each contender from the best."""
    shortfalls: list[float]
    """The shortfall of each contender."""
    front: list[int]
    """The Pareto front: no other contender is both nearer to real text and cheaper in calls; the cheapest first."""

    @property
    def recommended(self) -> int:
        """The cheapest contender whose texts are as good as those of the best."""
        return self.equal[0]


def advise(outcomes: Sequence[Outcome], task: Task) -> Advice:
    """The recommendation: the fewest model calls at equal quality."""
    shortfalls = [shortfall(outcome, task) for outcome in outcomes]
    best = min(range(len(outcomes)), key=lambda n: shortfalls[n])
    differences = [compare(outcome.qualities, outcomes[best].qualities, task.qualities) for outcome in outcomes]
    equal = [n for n, difference in enumerate(differences) if n == best or difference.equal]
    equal.sort(key=lambda n: outcomes[n].calls)
    front: list[int] = []
    for n in sorted(range(len(outcomes)), key=lambda n: (outcomes[n].calls, shortfalls[n])):
        if not front or shortfalls[n] < shortfalls[front[-1]]:
            front.append(n)
    return Advice(best, equal, differences, shortfalls, front)
