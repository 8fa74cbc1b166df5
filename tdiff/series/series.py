"""Values over steps in bounded memory, without losing a spike among millions of values.

A series stores leaves: the lowest, highest and mean value of some neighbouring records. When there are too many leaves,
they merge in pairs. This module knows no files, metrics or screens, and is not thread-safe.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence

from tdiff.series.pyramid import Pyramid

LIMIT = 1e300
"""Values at or beyond this magnitude count as not finite, since their sums could overflow."""
_EXACT = 2.0**24
"""Single precision represents integers exactly up to here; a clock or a token count needs double precision."""
_BATCH = 1024
"""Records that are collected and then processed together, at the speed of C."""
_MAX_BROKEN = 1000


class Series:
    """The records of one metric. Memory is bounded by `cap` leaves, an even number of at least 2.

    Steps never fall: where a run goes back, call `drop_after` first. The arrays may be read, but neither changed nor
    stored: the next record may replace them.
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
        """Add a record. A record whose step is not finite is ignored."""
        step, value = float(step), float(value)  # before any change: an integer may be too large
        self._new_steps.append(step)
        self._new_values.append(value)
        if len(self._new_steps) >= _BATCH:
            self._flush()

    def extend(self, steps: Iterable[float], values: Iterable[float]) -> None:
        """Add many records at once: like `append`, but several times faster."""
        new_steps, new_values = array("d", steps), array("d", values)
        if len(new_steps) != len(new_values):
            raise ValueError(f"a value for each step: got {len(new_steps)} steps and {len(new_values)} values")
        for begin in range(0, len(new_steps), _BATCH):
            self._new_steps.extend(new_steps[begin : begin + _BATCH])
            self._new_values.extend(new_values[begin : begin + _BATCH])
            self._flush()

    def drop_after(self, step: float) -> None:
        """Drop all records later than `step`, and earlier ones that share a leaf with them."""
        self._flush()
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

    def split_after(self, step: float, cap: int) -> Series:
        """Like `drop_after`, but return what is dropped, in at most `cap` leaves; nothing is appended to those."""
        self._flush()
        keep, dropped = bisect_right(self._steps, step), Series(cap)
        dropped._broken = self._broken[bisect_right(self._broken, step) :]
        if keep < len(self._steps):
            dropped._take(self, keep)
        self.drop_after(step)
        return dropped

    def _take(self, other: Series, begin: int) -> None:
        """Fill this empty series with the leaves of another from `begin` on, merged until they fit."""
        steps, mean = other._steps[begin:], other._mean[begin:]
        low, high = (values[begin:] for values in other._extremes.levels[0])
        size = 1
        while -(-len(steps) // size) > self.cap:
            size *= 2
        starts = range(0, len(steps), size)
        self._steps = steps[size - 1 :: size]
        if len(steps) % size:
            self._steps.append(steps[-1])
        self._mean = array(mean.typecode, [sum(mean[n : n + size]) / len(mean[n : n + size]) for n in starts])
        self._extremes = Pyramid(mean.typecode)
        self._extremes.extend((min(low[n : n + size]) for n in starts), (max(high[n : n + size]) for n in starts))
        self._stride = other._stride * size
        self._tail = (len(steps) - starts[-1] - 1) * other._stride + other._tail
        self._total = self._mean[-1] * self._tail
        self._last = other._last
        least = min(self._extremes.levels[0][0])
        self._best = (least, self._steps[self._extremes.levels[0][0].index(least)])

    @property
    def steps(self) -> array[float]:
        """The last step of each leaf, ascending."""
        self._flush()
        return self._steps

    @property
    def low(self) -> array[float]:
        """The lowest value of each leaf."""
        self._flush()
        return self._extremes.levels[0][0]

    @property
    def high(self) -> array[float]:
        """The highest value of each leaf."""
        self._flush()
        return self._extremes.levels[0][1]

    @property
    def mean(self) -> array[float]:
        """The mean value of each leaf."""
        self._flush()
        return self._mean

    @property
    def broken(self) -> array[float]:
        """The steps of the newest 1,000 records whose value was not finite."""
        self._flush()
        return self._broken

    @property
    def stride(self) -> int:
        """Records in a leaf, a power of two; the last leaf may hold fewer."""
        self._flush()
        return self._stride

    @property
    def count(self) -> int:
        """Finite records in the leaves."""
        self._flush()
        return (len(self._steps) - 1) * self._stride + self._tail if self._steps else 0

    @property
    def last(self) -> tuple[float, float] | None:
        """The newest step and its value; after a drop, those of the last remaining leaf."""
        self._flush()
        return self._last

    @property
    def best(self) -> tuple[float, float] | None:
        """The lowest value and its first step; after a drop, the step may be that of its leaf."""
        self._flush()
        return self._best

    def index(self, step: float) -> int:
        """The index of the first leaf whose step is at least `step`; the number of leaves if there is none."""
        return bisect_left(self.steps, step)

    def span(self, a: int, b: int) -> tuple[float, float] | None:
        """The lowest and highest value of leaves a..b-1; None if there are none."""
        self._flush()
        return self._extremes.span(a, b, self._final)

    def smoothed(self, weight: float) -> array[float]:
        """The exponential moving average of the leaves' means, with bias correction.

        `weight` is the share of the past, 0 to 0.999. The result for the last weight is cached and extended.
        """
        self._flush()
        if not 0 <= weight < 1:
            raise ValueError(f"the smoothing weight is at least 0 and below 1; got {weight}")
        if not weight:
            return self._mean
        if self._smooth.weight != weight:
            self._smooth = _Smooth(weight, self._mean.typecode)
        return self._smooth.follow(self._mean, self._final)

    @property
    def _final(self) -> int:
        """The number of leaves that will not change any more, except by merging."""
        return len(self._steps) - (self._tail < self._stride)

    def _flush(self) -> None:
        """Put the collected records into leaves."""
        steps, values = self._new_steps, self._new_values
        if not steps:
            return
        self._new_steps, self._new_values = array("d"), array("d")
        least, most = min(values), max(values)
        # NaN and non-finite steps can escape min and max, but not the sum.
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
        """The finite records; of the others the steps are stored."""
        finite_steps, finite_values = array("d"), array("d")
        for step, value in zip(steps, values, strict=True):
            if not -LIMIT < step < LIMIT:
                continue
            if -LIMIT < value < LIMIT:
                finite_steps.append(step)
                finite_values.append(value)
            else:
                self._broken.append(step)
        del self._broken[:-_MAX_BROKEN]
        return finite_steps, finite_values

    def _fill(self, steps: array[float], values: array[float], at: int) -> int:
        """Complete the last leaf with records from `at` on. Returns the index of the first remaining record."""
        end = min(len(values), at + self._stride - self._tail)
        part = values[at:end]
        count = self._tail + len(part)
        self._steps[-1] = steps[end - 1]
        self._extremes.stretch(min(part), max(part))
        self._total += sum(part)
        self._mean[-1] = self._total / count
        self._tail = count
        return end

    def _begin(self, steps: array[float], values: array[float], at: int) -> int:
        """Start leaves with the records from `at` on. Returns the index of the first remaining record."""
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
        """Merge neighbouring leaves in pairs. All leaves must be complete, and their number even."""
        mean = self._mean
        self._steps = self._steps[1::2]
        self._mean = array(mean.typecode, [(a + b) / 2 for a, b in zip(mean[::2], mean[1::2], strict=True)])
        self._extremes = self._extremes.halved()
        self._smooth = _Smooth(0.0, mean.typecode)
        self._stride *= 2
        self._tail = self._stride

    def _widen(self) -> None:
        """Continue in double precision."""
        self._mean = array("d", self._mean)
        wide = Pyramid("d")
        wide.extend(*map(iter, self._extremes.levels[0]))
        self._extremes = wide
        self._smooth = _Smooth(0.0, "d")


class _Smooth:
    """The exponential moving average for one weight, as far as it has been computed."""

    def __init__(self, weight: float, kind: str) -> None:
        self.weight = weight
        self.values: array[float] = array(kind)
        self.done = 0  # values that will not change; the next two fields belong to the last of them
        self.total = 0.0
        self.share = 1.0  # the weight of the initial zero in the average

    def follow(self, mean: Sequence[float], final: int) -> array[float]:
        """The averages up to the end of `mean`, whose first `final` values will not change."""
        weight, values, total, share = self.weight, self.values, self.total, self.share
        del values[self.done :]
        for value in mean[self.done : final]:
            total = weight * total + (1 - weight) * value
            share *= weight
            values.append(total / (1 - share))
        self.done, self.total, self.share = final, total, share
        for value in mean[final:]:
            values.append((weight * total + (1 - weight) * value) / (1 - share * weight))
        return values
