"""Values over steps in bounded memory, in which a spike among millions is never lost.

A series keeps leaves: the lowest, highest and mean value of a few neighbouring records. When there are too many, leaves
merge in pairs. It knows nothing of files, metrics or screens, and is not for two threads at once.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence

from tdiff.series.pyramid import Pyramid

LIMIT = 1e300
"""A value of this size or beyond, whose sums would overflow, counts as not finite."""
_EXACT = 2.0**24
"""Single precision tells whole numbers apart up to here; a clock or a count of tokens needs double."""
_BATCH = 1024
"""So many records wait for one another, and are then taken in together at the speed of C."""
_MOST_BROKEN = 1000


class Series:
    """The records of one metric. Memory is bounded by `cap` leaves, an even number of at least 2.

    Steps never fall: where a run goes back, say `drop_after` first. What the arrays hold may be read, not changed, and
    not kept: the next record may put others in their place.
    """

    def __init__(self, cap: int = 1 << 16) -> None:
        self.cap = max(2, cap + cap % 2)
        self._new_steps = array("d")
        self._new_values = array("d")
        self._steps = array("d")
        self._mean = array("f")
        self._extremes = Pyramid("f")
        self._broken = array("d")
        self._stride = 1
        self._tail = 1  # records in the last leaf; all others hold `stride`
        self._total = 0.0  # the sum of the last leaf, while it is not complete
        self._last: tuple[float, float] | None = None
        self._best: tuple[float, float] | None = None
        self._smooth = _Smooth(0.0, "f")

    def append(self, step: float, value: float) -> None:
        """Take in a record. A step that is not finite has no place on a curve, and the record is left out."""
        step, value = float(step), float(value)  # before anything is touched: a whole number may be too large
        self._new_steps.append(step)
        self._new_values.append(value)
        if len(self._new_steps) >= _BATCH:
            self._take()

    def extend(self, steps: Iterable[float], values: Iterable[float]) -> None:
        """Take in many records at once: as `append`, several times faster."""
        more_steps, more_values = array("d", steps), array("d", values)
        if len(more_steps) != len(more_values):
            raise ValueError(f"a value for each step: got {len(more_steps)} steps and {len(more_values)} values")
        for begin in range(0, len(more_steps), _BATCH):
            self._new_steps.extend(more_steps[begin : begin + _BATCH])
            self._new_values.extend(more_values[begin : begin + _BATCH])
            self._take()

    def drop_after(self, step: float) -> None:
        """Forget all records later than `step`. Of a leaf that holds earlier ones too, those are forgotten with it."""
        self._take()
        del self._broken[bisect_right(self._broken, step) :]
        keep = bisect_right(self._steps, step)
        if keep == len(self._steps):
            return
        del self._steps[keep:], self._mean[keep:]
        self._extremes.cut(keep)
        self._smooth = _Smooth(0.0, self._mean.typecode)
        self._stride = self._stride if keep else 1
        self._tail = self._stride
        self._last = (self._steps[-1], self._mean[-1]) if keep else None
        if not keep:
            self._best = None
        elif self._best is not None and self._best[1] > step:
            least = min(self.low)
            self._best = (least, self._steps[self.low.index(least)])

    @property
    def steps(self) -> array[float]:
        """The last step of each leaf; never falls."""
        self._take()
        return self._steps

    @property
    def low(self) -> array[float]:
        """The lowest value of each leaf."""
        self._take()
        return self._extremes.levels[0][0]

    @property
    def high(self) -> array[float]:
        """The highest value of each leaf."""
        self._take()
        return self._extremes.levels[0][1]

    @property
    def mean(self) -> array[float]:
        """The mean value of each leaf."""
        self._take()
        return self._mean

    @property
    def broken(self) -> array[float]:
        """The steps of the newest 1,000 records whose value was not finite."""
        self._take()
        return self._broken

    @property
    def stride(self) -> int:
        """Records in a leaf, a power of two; the last leaf may hold fewer."""
        self._take()
        return self._stride

    @property
    def count(self) -> int:
        """Finite records in the leaves."""
        self._take()
        return (len(self._steps) - 1) * self._stride + self._tail if self._steps else 0

    @property
    def last(self) -> tuple[float, float] | None:
        """The newest step and its value; after a drop, those of the last leaf left."""
        self._take()
        return self._last

    @property
    def best(self) -> tuple[float, float] | None:
        """The lowest value and the step it first came at; after a drop, the step may be that of its leaf."""
        self._take()
        return self._best

    def index(self, step: float) -> int:
        """The first leaf whose step is at least `step`; their number where there is none."""
        return bisect_left(self.steps, step)

    def span(self, a: int, b: int) -> tuple[float, float] | None:
        """The lowest and highest value of the leaves a..b-1, or None where there are none."""
        self._take()
        return self._extremes.span(a, b, self._whole)

    def smoothed(self, weight: float) -> array[float]:
        """The mean of each leaf, averaged with the past: an exponential average without the bias of its beginning.

        `weight` is the share of the past, 0 to 0.999. The newest weight's answer is kept and grows with the series.
        """
        self._take()
        if not 0 <= weight < 1:
            raise ValueError(f"the share of the past is at least 0 and below 1; got {weight}")
        if not weight:
            return self._mean
        if self._smooth.weight != weight:
            self._smooth = _Smooth(weight, self._mean.typecode)
        return self._smooth.follow(self._mean, self._whole)

    @property
    def _whole(self) -> int:
        """Leaves that will not change any more, but for merging."""
        return len(self._steps) - (self._tail < self._stride)

    def _take(self) -> None:
        """Put the records that wait into leaves."""
        steps, values = self._new_steps, self._new_values
        if not steps:
            return
        self._new_steps, self._new_values = array("d"), array("d")
        least, most = min(values), max(values)
        # What is not a number hides from min and max, not from sum; nor does a step that is not finite.
        ends = (least, most, steps[0], steps[-1])
        if not (all(-LIMIT < end < LIMIT for end in ends) and math.isfinite(sum(steps) + sum(values))):
            steps, values = self._finite(steps, values)
            if not steps:
                return
            least, most = min(values), max(values)
        if self._best is None or least < self._best[0]:
            self._best = (least, steps[values.index(least)])
        self._last = (steps[-1], values[-1])
        if max(-least, most) >= _EXACT and self._mean.typecode == "f":
            self._widen()
        at = 0
        while at < len(values):
            at = self._fill(steps, values, at) if self._tail < self._stride else self._begin(steps, values, at)

    def _finite(self, steps: array[float], values: array[float]) -> tuple[array[float], array[float]]:
        """The records that have a place on the curve; the others are remembered by their steps."""
        kept_steps, kept = array("d"), array("d")
        for step, value in zip(steps, values, strict=True):
            if not -LIMIT < step < LIMIT:
                continue
            if -LIMIT < value < LIMIT:
                kept_steps.append(step)
                kept.append(value)
            else:
                self._broken.append(step)
        del self._broken[:-_MOST_BROKEN]
        return kept_steps, kept

    def _fill(self, steps: array[float], values: array[float], at: int) -> int:
        """Complete the last leaf with records from `at` on. Returns the first record that is left."""
        end = min(len(values), at + self._stride - self._tail)
        part = values[at:end]
        held = self._tail + len(part)
        self._steps[-1] = steps[end - 1]
        self._extremes.stretch(min(part), max(part))
        self._total += sum(part)
        self._mean[-1] = self._total / held
        self._tail = held
        return end

    def _begin(self, steps: array[float], values: array[float], at: int) -> int:
        """Begin leaves with the records from `at` on. Returns the first record that is left."""
        if len(self._steps) >= self.cap:
            self._merge()
        size = self._stride
        leaves = min((len(values) - at) // size, self.cap - len(self._steps))
        end = at + leaves * size if leaves else len(values)
        self._steps.extend(steps[at + size - 1 : end : size] if leaves else steps[-1:])
        if size == 1:
            self._extremes.extend(iter(values[at:end]), iter(values[at:end]))
            self._mean.extend(iter(values[at:end]))
        else:
            groups = [values[n : n + size] for n in range(at, end, size)]
            self._extremes.extend(map(min, groups), map(max, groups))
            self._mean.extend(sum(group) / len(group) for group in groups)
        self._tail = size if leaves else end - at
        self._total = 0.0 if leaves else sum(values[at:end])
        return end

    def _merge(self) -> None:
        """Merge neighbours in pairs. All leaves are complete, and their number is even."""
        mean = self._mean
        self._steps = self._steps[1::2]
        self._mean = array(mean.typecode, [(a + b) / 2 for a, b in zip(mean[::2], mean[1::2], strict=True)])
        self._extremes = self._extremes.halved()
        self._smooth = _Smooth(0.0, mean.typecode)
        self._stride *= 2
        self._tail = self._stride

    def _widen(self) -> None:
        """Go on in double precision."""
        self._mean = array("d", self._mean)
        wide = Pyramid("d")
        wide.extend(*map(iter, self._extremes.levels[0]))
        self._extremes = wide
        self._smooth = _Smooth(0.0, "d")


class _Smooth:
    """An exponential average of one weight, as far as it has been asked for."""

    def __init__(self, weight: float, kind: str) -> None:
        self.weight = weight
        self.values: array[float] = array(kind)
        self.done = 0  # values that will not change; the two below are as of there
        self.total = 0.0
        self.share = 1.0  # what the beginning, nought, still has of the average

    def follow(self, mean: Sequence[float], whole: int) -> array[float]:
        """The averages up to the end of `mean`, of which the first `whole` values will not change."""
        weight, values, total, share = self.weight, self.values, self.total, self.share
        del values[self.done :]
        for value in mean[self.done : whole]:
            total = weight * total + (1 - weight) * value
            share *= weight
            values.append(total / (1 - share))
        self.done, self.total, self.share = whole, total, share
        for value in mean[whole:]:
            values.append((weight * total + (1 - weight) * value) / (1 - share * weight))
        return values
