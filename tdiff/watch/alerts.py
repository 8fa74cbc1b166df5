"""What a watcher should be told: a spike of the loss, a number that is none, a silence, a process that is gone.

The detectors know single numbers and times; they know no files, no formats and no screen.
"""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

SIGMAS = 6.0
"""A loss so many usual deviations above what was to be expected is a spike, if it also rose by a tenth."""
WARM_UP = 50
"""Records from which the usual is learnt before anything is called unusual."""
SILENCE = 30.0
"""Seconds without a record that are never a stall."""
GAPS = 12.0
"""A stall is a silence of so many usual gaps."""
BUSY = 900.0
"""Seconds of silence granted to a run that said it is busy with something that gives no record, and to one of which
nothing is known that tells how long a record takes."""
SLOW = 2.0
"""A silence of so many of the longest gaps that came more than once is no stall: evaluations may take longer."""
OVER = 86_400.0
"""Seconds of silence after which a log of somebody else's program, which need not tell of its end, is over."""
_LEAST = math.log(1.1)
_LONGEST = 50
"""Records after which a loss that stays high is the new usual."""
_QUICK, _SLOW, _FADING = 0.1, 0.02, 0.999
"""How fast the level, the deviation and the memory of the largest ordinary rise move, a record."""
_BEYOND = 2.0
"""How far a spike stands out from the largest rise that was none: some noise has long tails."""
_RECOVERED = 0.5
"""Share of the threshold under which a spike is over."""

What = Literal["nan", "spike", "stall", "ended", "died", "failed", "alert"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Something that happened, on one line that is safe to print."""

    time: float | None
    """Seconds since the epoch, of the record it is about; None where its source tells no time."""
    step: int
    what: What
    text: str


JUDGED = ("train/loss", "eval/loss", "train/grad_norm")
"""Metrics that are looked at."""


class Spikes:
    """Finds where a loss leaps up: against a level with its trend, in deviations of the forecasts so far.

    The logarithm of the loss is looked at while all losses are positive, so that a half more is as much early as late.
    A spike is told once, at its first record; a loss that stays up becomes the new level.
    """

    def __init__(self) -> None:
        self._logs = True
        self._seen = self._high = 0
        self._level = self._trend = self._deviation = self._largest = 0.0

    def take(self, loss: float) -> tuple[float, float] | None:
        """The next loss, finite. (deviations above the expected, the expected loss) where a spike begins."""
        if self._logs and loss <= 0:
            self._logs = False
            self._forget()
        value = math.log(loss) if self._logs else loss
        expected = self._level + self._trend
        error = value - expected
        deviation = self._deviation
        if self._seen < WARM_UP:
            self._seen += 1
            if self._seen > WARM_UP // 2:
                self._largest = max(error, self._largest)
            # Plain means at first; the very first value is all that is known.
            self._learn(error, max(_QUICK, 1 / self._seen), max(_SLOW, 1 / self._seen) if self._seen > 1 else 0.0)
            return None
        if self._high or error > SIGMAS * deviation:
            limit = max(SIGMAS * deviation, _BEYOND * self._largest, _LEAST if self._logs else 0.1 * abs(expected))
            if self._high and error > _RECOVERED * limit:
                self._high += 1
                if self._high > _LONGEST:
                    self._forget()
                return None
            if not self._high and error > limit:
                self._high = 1
                sigmas = error / deviation if deviation > 0 else math.inf
                return sigmas, math.exp(expected) if self._logs else expected
            self._high = 0
        self._largest *= _FADING
        if error > self._largest:
            self._largest = error
        # No single record may move the usual by much.
        most = 3 * deviation
        if deviation > 0 and not -most < error < most:
            error = most if error > 0 else -most
        self._learn(error, _QUICK, _SLOW)
        return None

    def _learn(self, error: float, quick: float, slow: float) -> None:
        self._level += self._trend + quick * error
        self._trend += 0.05 * quick * error if slow else 0.0
        # Mean absolute deviation, as the standard deviation of a normal distribution.
        self._deviation += slow * (1.2533 * abs(error) - self._deviation)

    def _forget(self) -> None:
        self._seen = self._high = 0
        self._level = self._trend = self._deviation = self._largest = 0.0


class Losses:
    """Judges losses and gradient norms as they come: notices of spikes, and of numbers that are none."""

    def __init__(self) -> None:
        self._spikes = Spikes()
        self.broken: set[str] = set()
        """Metrics whose newest value was not finite; it is told once, until all are again."""

    def judge(
        self, steps: Sequence[float], values: Mapping[str, Sequence[float]], times: Sequence[float | None]
    ) -> list[Notice]:
        """The next values of some metrics of JUDGED, at steps and times; what is to be told of them."""
        values = {name: values[name] for name in JUDGED if name in values}
        sound = not self.broken and all(math.isfinite(sum(column)) for column in values.values())
        losses = values.get("train/loss", ())
        found: list[tuple[int, What, str]] = []
        if not sound:
            for n in range(len(steps)):
                broken = [name for name, column in values.items() if not math.isfinite(column[n])]
                if broken and not self.broken:
                    found.append((n, "nan", f"{' and '.join(broken)} not finite"))
                self.broken = (self.broken - values.keys()) | set(broken)
        take = self._spikes.take
        for n, loss in enumerate(losses):
            if (sound or math.isfinite(loss)) and (spike := take(loss)) is not None:
                found.append((n, "spike", f"train/loss {loss:.4g}, +{spike[0]:.1f}σ above {spike[1]:.4g}"))
        return [Notice(time=times[n], step=int(steps[n]), what=what, text=text) for n, what, text in sorted(found)]


def patience(gap: float, busy: bool) -> float:
    """Seconds without a record after which a run whose usual gap is `gap` seconds counts as stalled."""
    return max(BUSY if busy else SILENCE, GAPS * gap)


def usual_gap(times: Iterable[float]) -> float:
    """The median of the gaps between these times (s), without those that are not positive; 0 where there are none."""
    gaps = sorted(later - earlier for earlier, later in pairwise(times) if later > earlier)
    return (gaps[(len(gaps) - 1) // 2] + gaps[len(gaps) // 2]) / 2 if gaps else 0.0


def long_gap(times: Iterable[float]) -> float:
    """The longest gap between these times (s) but for one, which may have been an accident; 0 where there are none."""
    gaps = sorted(later - earlier for earlier, later in pairwise(times) if later > earlier)
    return gaps[-2] if len(gaps) > 1 else 0.0


def gone(pid: int, host: str) -> bool:
    """Whether a process that ran on `host` is known to run no more: it was on this host, and has no such process."""
    if pid <= 0 or host != platform.node():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):  # somebody else's, or no number that a process can have
        return False
    return False
