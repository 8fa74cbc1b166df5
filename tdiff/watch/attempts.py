"""Earlier attempts of a run, in bounded memory: what a restart discards stays, to be compared with what replaces it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from tdiff.series.series import Series

MAX_ATTEMPTS = 8
"""Attempts whose curves are stored; of more, the newest and the longest."""
MAX_METRICS, LOSS_CAP, CAP = 16, 1 << 11, 1 << 8
"""Metrics of an attempt that are stored, the leaves of its training loss, and those of each other series."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Attempt:
    """The part of an earlier attempt that a restart discarded."""

    number: int
    """Counted from 1, in the order of the log."""
    restart: int
    """The step at which the next attempt continued: everything here is of later steps, or of that one."""
    last_step: int
    """The last step that it reached."""
    metrics: Mapping[str, Series]
    """Its curves, by the names of the metrics."""
    clock: Series
    """Step -> seconds, as `RunState.clock`."""
    tokens: Series
    """Step -> tokens seen."""
    time: float | None
    """The time of its newest record, seconds since the epoch; None if unknown."""
    reason: str
    """Why it ended, on one line that is safe to print; "" if the log gives no reason."""

    @property
    def loss(self) -> float | None:
        """Its last training loss, NaN if that was not finite; None if it has none."""
        series = self.metrics.get("train/loss")
        if series is None:
            return None
        broken, last = series.broken, series.last
        if broken and (last is None or broken[-1] > last[0]):
            return math.nan
        return None if last is None else last[1]

    @property
    def records(self) -> int:
        """Its discarded records: those of its longest curve."""
        return max((series.count + len(series.broken) for series in self.metrics.values()), default=0)

    @property
    def reached(self) -> str:
        """How far it came, such as `step 900 at loss 1.91`."""
        loss = self.loss
        value = (
            "" if loss is None else f" at loss {loss:.4g}" if math.isfinite(loss) else " at a loss that is not finite"
        )
        return f"step {self.last_step:,}{value}"


class DiscardedCurves(Protocol):
    """The curves of what a restart discarded."""

    metrics: dict[str, Series]
    clock: Series
    tokens: Series


class WholeCurves(DiscardedCurves, Protocol):
    """The curves of a run, of which a restart discards a part."""

    @property
    def newest_step(self) -> float:
        """The newest step of training."""
        ...

    def split_after(self, step: float) -> DiscardedCurves | None:
        """Drop everything later than `step`. Returns the dropped curves; None if there are none."""
        ...


@dataclass(frozen=True, slots=True)
class Former:
    """What a file held before it was truncated or replaced."""

    curves: WholeCurves
    attempts: Attempts
    time: float | None
    reason: str

    def begins_with(self, step: float, loss: float) -> bool:
        """Whether its first record is this one: then the new file repeats it, as one that is written anew each time."""
        series = self.curves.metrics["train/loss"]
        return len(series.steps) > 0 and series.steps[0] == step and math.isclose(series.mean[0], loss, rel_tol=1e-6)


class Attempts:
    """The earlier attempts of a run, oldest first."""

    def __init__(self) -> None:
        self.count = 0
        """How many there were, including those that are no longer stored."""
        self.stored: list[Attempt] = []
        """Up to eight of them; the last one always is the newest."""

    def add(self, curves: DiscardedCurves, restart: int, last_step: int, time: float | None, reason: str) -> Attempt:
        """Add the newest attempt; see `Attempt`. Of too many, one of the shortest of the others goes."""
        self.count += 1
        attempt = Attempt(
            number=self.count,
            restart=restart,
            last_step=last_step,
            metrics=curves.metrics,
            clock=curves.clock,
            tokens=curves.tokens,
            time=time,
            reason=reason,
        )
        self.stored.append(attempt)
        if len(self.stored) > MAX_ATTEMPTS:
            self.stored.remove(min(self.stored[:-1], key=lambda one: one.records))
        return attempt

    def __str__(self) -> str:
        """How many there are and how far the last one came, in a few words; "" if there are none."""
        if not self.stored:
            return ""
        reached = self.stored[-1].reached
        if self.count == 1:
            return f"1 earlier attempt, until {reached}"
        return f"{self.count:,} earlier attempts, the last until {reached}"
