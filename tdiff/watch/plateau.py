"""Detects that a loss has stopped improving.

The losses are put into at most 128 bins of equal size, which double as the run grows. A plateau is the newest third of
a run if a straight line through its bins does not fall: not more than chance explains, not by 1.5% of the loss at the
upper end of its 95% interval, and ten times less than the loss fell before. Noise that could hide such an improvement
therefore makes no plateau, nor does a slow but certain improvement, nor one that has always been slow. Where the total
number of steps is known, that third must be at least a tenth of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

MAX_BINS = 128
"""Bins of a run, after which neighbours merge."""
_FIRST_WIDTH = 4
"""Records in a bin at first."""
_MIN_BINS = 48
"""Bins before the first test: a plateau needs 192 records."""
_EVERY = 4
"""Bins from one test to the next."""
_CONFIRMED = 2
"""Tests in a row that must find it."""
_SHARE, _SHARE_OF_TOTAL = 3, 10
"""The window is one part of so many of the run so far, and at least one of so many of its total steps."""
_TOLERANCE = 0.015
"""An improvement over the window below this share of the loss does not count."""
_SLOWER = 10.0
"""How many times further the loss fell before."""
_STUCK = 2_000
"""Records from which a loss that never fell counts as a plateau."""
_LIMIT, _CHANCE = 2.0, 1.0
"""Standard errors to the upper end of the interval, and standard errors that chance explains."""
_OUTLIER = 4.0
"""Deviations from the median beyond which a bin is clipped: spikes must not tilt the line."""
_HUGE = 1e100
"""Losses beyond this are not examined: their squares could overflow."""


class Flat(NamedTuple):
    """A plateau."""

    position: int
    """The index of its newest record among those of the call that found it."""
    since: float
    """The step at which the window begins."""
    loss: float
    """The mean loss in the window."""


class Plateau:
    """Examines the losses of a run as they come; non-finite ones must be left out."""

    def __init__(self) -> None:
        self._bins: list[float] = []  # the median loss of each
        self._starts: list[float] = []  # the first step of each
        self._width = _FIRST_WIDTH
        self._open: list[float] = []  # the losses of the bin that is not full yet
        self._confirmed = 0
        self._reported: float | None = None  # the loss of the plateau that was reported

    def take(self, steps: Sequence[float], losses: Sequence[float], total: float | None = None) -> list[Flat]:
        """Process the next losses, at these steps of `total`, where that is known.

        Returns the plateaus found; each is reported once, until the loss has fallen.
        """
        found = []
        at = 0
        while at < len(losses):
            if not self._open:
                self._starts.append(steps[at])
            end = min(len(losses), at + self._width - len(self._open))
            self._open.extend(losses[at:end])
            at = end
            if len(self._open) < self._width:
                break
            self._bins.append(_median(self._open))
            self._open.clear()
            if len(self._bins) >= _MIN_BINS and len(self._bins) % _EVERY == 0:
                found += [Flat(at - 1, *flat) for flat in self._test(steps[at - 1], total)]
            if len(self._bins) == MAX_BINS:
                self._bins = [(a + b) / 2 for a, b in zip(self._bins[::2], self._bins[1::2], strict=True)]
                del self._starts[1::2]
                self._width *= 2
        return found

    def _test(self, step: float, total: float | None) -> list[tuple[float, float]]:
        """(first step, mean loss) of a plateau that ends at `step` and has not been reported."""
        if max(map(abs, self._bins)) > _HUGE:
            return []
        count = len(self._bins) // _SHARE
        window, before = self._bins[-count:], self._bins[:-count]
        level, since = _mean(window), self._starts[-count]
        if self._reported is not None:
            least = _TOLERANCE * abs(level) + _LIMIT * _gain(window)[1]
            self._reported = None if self._reported - level > least else self._reported
            return []
        long = total is None or (step - since) * _SHARE_OF_TOTAL >= total
        flat = long and (_is_flat(window, _highest(before) - level) or self._is_stuck(total is not None))
        self._confirmed = self._confirmed + 1 if flat else 0
        if self._confirmed < _CONFIRMED:
            return []
        self._confirmed, self._reported = 0, level
        return [(since, level)]

    def _is_stuck(self, total_known: bool) -> bool:
        """Whether the loss has never fallen in a run that is long enough to say so."""
        enough = total_known or len(self._bins) * self._width >= _STUCK
        return enough and _is_flat(self._bins, math.inf)


def _mean(values: Sequence[float]) -> float:
    """The mean. The module `statistics` has it too, with fractions and decimals that would double the import time."""
    return math.fsum(values) / len(values)


def _median(values: Iterable[float]) -> float:
    """The median."""
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def _highest(values: Sequence[float]) -> float:
    """The highest of the means of eight parts, which noise raises less than the highest value."""
    size = max(1, len(values) // 8)
    return max(_mean(values[n : n + size]) for n in range(0, len(values), size))


def _is_flat(values: Sequence[float], fall: float) -> bool:
    """Whether a line through the values certainly does not fall as far as would count, nor by a tenth of `fall`."""
    scale = abs(_mean(values))
    gain, error = _gain(values)
    counts = min(_TOLERANCE * scale, fall / _SLOWER)
    return gain <= max(_CHANCE * error, 1e-9 * scale) and max(0.0, gain) + _LIMIT * error <= counts


def _gain(values: Sequence[float]) -> tuple[float, float]:
    """How far a straight line through the values falls from end to end, and the standard error of that."""
    count, middle = len(values), _median(values)
    limit = _OUTLIER * 1.4826 * _median(abs(value - middle) for value in values)
    clipped = [min(middle + limit, max(middle - limit, value)) for value in values]
    mean, center = _mean(clipped), (count - 1) / 2
    spread = sum((n - center) ** 2 for n in range(count))
    slope = sum((n - center) * (value - mean) for n, value in enumerate(clipped)) / spread
    rest = [value - mean - slope * (n - center) for n, value in enumerate(clipped)]
    squares = sum(value * value for value in rest)
    if not squares:
        return -slope * (count - 1), 0.0
    # Where the loss wanders, neighbours are alike, and there is less evidence than there are bins. The correlation of
    # residuals underestimates that of the noise, by this much.
    alike = sum(a * b for a, b in pairwise(rest)) / squares
    alike = min(0.95, max(0.0, alike + (2 + 4 * alike) / count))
    error = math.sqrt(squares / (count - 2) / spread * (1 + alike) / (1 - alike))
    return -slope * (count - 1), error * (count - 1)
