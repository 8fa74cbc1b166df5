"""Detects what a viewer should know: loss spikes, values that are not finite, silence, and a process that is gone.

The detectors see single numbers and times; they know no files, no formats and no screen.
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
"""A loss this many usual deviations above the expected one is a spike, if it also rose by a tenth."""
WARM_UP = 50
"""Records that teach the usual deviation before anything counts as a spike."""
SILENCE = 30.0
"""Seconds without a record that never count as a stall."""
GAPS = 12.0
"""A stall is a silence of this many usual gaps."""
BUSY = 900.0
"""Seconds of silence allowed for a run that announced a long operation without records, and for one whose usual gap is
unknown."""
SLOW = 2.0
"""A silence of this many of the longest repeated gaps is not a stall: evaluations may take longer."""
OVER = 86_400.0
"""Seconds of silence after which the log of another program, which need not report its end, counts as over."""
_MIN_RISE = math.log(1.1)
_MAX_HIGH = 50
"""Records after which a loss that stays high becomes the new level."""
_QUICK, _SLOW, _FADING = 0.1, 0.02, 0.999
"""Rates per record of the level, of the deviation, and of the decay of the largest ordinary rise."""
_BEYOND = 2.0
"""A spike exceeds the largest ordinary rise by this factor: some noise has long tails."""
_RECOVERED = 0.5
"""A spike is over below this share of its threshold."""

What = Literal["nan", "spike", "stall", "ended", "died", "failed", "alert", "gpu"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Something that happened, on one line that is safe to print."""

    time: float | None
    """The time of its record, seconds since the epoch; None if the source has no times."""
    step: int
    what: What
    text: str


EXAMINED = ("train/loss", "eval/loss", "train/grad_norm")
"""Metrics that are examined."""


class Spikes:
    """Detects sudden rises of a loss above a level with a trend, measured in deviations of the past forecasts.

    While all losses are positive their logarithms are used, so that a rise by a half counts the same early and late. A
    spike is reported once, at its first record; a loss that stays high becomes the new level.
    """

    def __init__(self) -> None:
        self._logs = True
        self._seen = self._high = 0
        self._level = self._trend = self._deviation = self._largest = 0.0

    def take(self, loss: float) -> tuple[float, float] | None:
        """Process the next finite loss. At the first record of a spike: (deviations above, expected loss)."""
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
            # Plain means at first; the first value alone gives no deviation.
            self._learn(error, max(_QUICK, 1 / self._seen), max(_SLOW, 1 / self._seen) if self._seen > 1 else 0.0)
            return None
        if self._high or error > SIGMAS * deviation:
            limit = max(SIGMAS * deviation, _BEYOND * self._largest, _MIN_RISE if self._logs else 0.1 * abs(expected))
            if self._high and error > _RECOVERED * limit:
                self._high += 1
                if self._high > _MAX_HIGH:
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
        # A single record must not change the level and the deviation by much.
        limit = 3 * deviation
        if deviation > 0 and not -limit < error < limit:
            error = limit if error > 0 else -limit
        self._learn(error, _QUICK, _SLOW)
        return None

    def _learn(self, error: float, level_rate: float, deviation_rate: float) -> None:
        self._level += self._trend + level_rate * error
        self._trend += 0.05 * level_rate * error if deviation_rate else 0.0
        # The mean absolute deviation, scaled to the standard deviation of a normal distribution.
        self._deviation += deviation_rate * (1.2533 * abs(error) - self._deviation)

    def _forget(self) -> None:
        self._seen = self._high = 0
        self._level = self._trend = self._deviation = self._largest = 0.0


class Losses:
    """Examines losses and gradient norms as they come, for spikes and for values that are not finite."""

    def __init__(self) -> None:
        self._spikes = Spikes()
        self.broken: set[str] = set()
        """Metrics whose newest value was not finite. That is reported once, until all values are finite again."""

    def examine(
        self, steps: Sequence[float], values: Mapping[str, Sequence[float]], times: Sequence[float | None]
    ) -> list[Notice]:
        """Process the next values of some metrics, at steps and times. Returns the notices about them."""
        values = {name: values[name] for name in EXAMINED if name in values}
        all_finite = not self.broken and all(math.isfinite(sum(column)) for column in values.values())
        losses = values.get("train/loss", ())
        events: list[tuple[int, What, str]] = []
        if not all_finite:
            for n in range(len(steps)):
                broken = [name for name, column in values.items() if not math.isfinite(column[n])]
                if broken and not self.broken:
                    events.append((n, "nan", f"{' and '.join(broken)} not finite"))
                self.broken = (self.broken - values.keys()) | set(broken)
        take = self._spikes.take
        for n, loss in enumerate(losses):
            if (all_finite or math.isfinite(loss)) and (spike := take(loss)) is not None:
                events.append((n, "spike", f"train/loss {loss:.4g}, +{spike[0]:.1f}σ above {spike[1]:.4g}"))
        return [Notice(time=times[n], step=int(steps[n]), what=what, text=text) for n, what, text in sorted(events)]


def patience(gap: float, busy: bool) -> float:
    """Seconds without a record after which a run with a usual gap of `gap` seconds counts as stalled."""
    return max(BUSY if busy else SILENCE, GAPS * gap)


def usual_gap(times: Iterable[float]) -> float:
    """The median of the positive gaps between these times (s); 0 if there are none."""
    gaps = sorted(later - earlier for earlier, later in pairwise(times) if later > earlier)
    return (gaps[(len(gaps) - 1) // 2] + gaps[len(gaps) // 2]) / 2 if gaps else 0.0


def long_gap(times: Iterable[float]) -> float:
    """The second longest gap between these times (s), since the longest may be an accident; 0 if there is none."""
    gaps = sorted(later - earlier for earlier, later in pairwise(times) if later > earlier)
    return gaps[-2] if len(gaps) > 1 else 0.0


def gone(pid: int, host: str) -> bool:
    """Whether a process has certainly ended: it ran on this host, which has no such process now."""
    if pid <= 0 or host != platform.node():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):  # the process of another user, or an invalid id
        return False
    return False
