"""Values over steps in bounded memory: against a slow series that keeps every record; and the spikes that survive."""

import math
import random
import sys
import tracemalloc
from array import array
from bisect import bisect_left

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from tdiff.series.series import LIMIT, Series

FEW = examples(derandomize=True, deadline=None, max_examples=100, database=None)


class Slow:
    """What a series promises, kept as lists of records."""

    def __init__(self, cap: int) -> None:
        self.cap, self.stride = cap, 1
        self.leaves: list[list[tuple[float, float]]] = []
        self.broken: list[float] = []
        self.best: tuple[float, float] | None = None
        self.last: tuple[float, float] | None = None

    def append(self, step: float, value: float) -> None:
        if not abs(value) < LIMIT:
            self.broken = [*self.broken, step][-1000:]
            return
        if not self.leaves or len(self.leaves[-1]) == self.stride:
            if len(self.leaves) == self.cap:
                self.leaves = [a + b for a, b in zip(self.leaves[::2], self.leaves[1::2], strict=True)]
                self.stride *= 2
            if not self.leaves or len(self.leaves[-1]) == self.stride:
                self.leaves.append([])
        self.leaves[-1].append((step, value))
        self.last = (step, value)
        if self.best is None or value < self.best[0]:
            self.best = (value, step)

    def drop_after(self, step: float) -> None:
        self.broken = [one for one in self.broken if one <= step]
        kept = [leaf for leaf in self.leaves if leaf[-1][0] <= step]
        if len(kept) == len(self.leaves):
            return
        self.leaves = kept
        self.last = (kept[-1][-1][0], self.means()[-1]) if kept else None
        if not kept:
            self.best, self.stride = None, 1
        elif self.best is not None and self.best[1] > step:
            lows = [min(value for _, value in leaf) for leaf in kept]
            self.best = (min(lows), kept[lows.index(min(lows))][-1][0])

    def means(self) -> list[float]:
        return [sum(value for _, value in leaf) / len(leaf) for leaf in self.leaves]


SINGLE = st.floats(-1e6, 1e6, width=32)
ODD = st.sampled_from([math.nan, math.inf, -math.inf, LIMIT, -LIMIT])
RECORD = st.tuples(st.sampled_from([0.0, 0.5, 1.0, 1.0, 7.0]), st.one_of(SINGLE, SINGLE, SINGLE, ODD))
CHANGE = st.one_of(
    st.tuples(st.just("append"), RECORD),
    st.tuples(st.just("append"), RECORD),
    st.tuples(st.just("extend"), st.lists(RECORD, max_size=40)),
    st.tuples(st.just("drop"), st.floats(0, 1)),
    st.tuples(st.just("look"), st.integers(0, 60)),
)


@FEW
@given(st.sampled_from([2, 3, 4, 8, 64]), st.lists(CHANGE, max_size=60))
def test_leaves_spans_and_counters_match_a_series_without_compression(cap, changes):
    fast, slow, now = Series(cap), Slow(cap + cap % 2), 0.0
    for what, how in changes:
        if what == "append":
            now += how[0]
            fast.append(now, how[1])
            slow.append(now, how[1])
        elif what == "extend":
            steps = []
            for more, value in how:
                now += more
                steps.append(now)
                slow.append(now, value)
            fast.extend(steps, [value for _, value in how])
        elif what == "drop":
            now *= how
            fast.drop_after(now)
            slow.drop_after(now)
        else:
            fast.span(how // 2, how)  # so that some of the pyramid was built before the next change
    assert list(fast.steps) == [leaf[-1][0] for leaf in slow.leaves]
    assert list(fast.low) == [min(value for _, value in leaf) for leaf in slow.leaves]
    assert list(fast.high) == [max(value for _, value in leaf) for leaf in slow.leaves]
    assert list(fast.mean) == pytest.approx(slow.means(), rel=1e-5, abs=1e-1)
    assert list(fast.broken) == slow.broken
    assert (fast.stride, fast.count) == (slow.stride, sum(map(len, slow.leaves)))
    assert fast.best == slow.best
    assert (fast.last is None) == (slow.last is None)
    if fast.last is not None:
        assert fast.last == pytest.approx(slow.last, rel=1e-5, abs=1e-1)
    for a in range(len(slow.leaves) + 1):
        for b in range(a, len(slow.leaves) + 1):
            values = [value for leaf in slow.leaves[a:b] for _, value in leaf]
            assert fast.span(a, b) == ((min(values), max(values)) if values else None)


@pytest.mark.parametrize("cap", [256, 1024, 1 << 16])
def test_every_span_of_a_long_series_is_right_while_it_grows_and_shrinks(cap):
    draw = random.Random(cap)
    series, now = Series(cap), 0
    for _ in range(40):
        for _ in range(draw.choice([1, 3, 50, 3000])):
            series.append(now, draw.gauss(0, 1))
            now += 1
        if draw.random() < 0.15:
            now -= draw.randrange(now // 3 + 1)
            series.drop_after(now - 1)
        low, high = series.low, series.high
        for _ in range(40):
            a, b = sorted(draw.randrange(len(low) + 1) for _ in range(2))
            a, b = (a // 64 * 64, b // 64 * 64) if draw.random() < 0.4 else (a, b)
            assert series.span(a, b) == ((min(low[a:b]), max(high[a:b])) if a < b else None)
        assert series.span(-5, len(low) + 5) == (min(low), max(high))


@FEW
@given(st.sampled_from([2, 4, 64]), st.lists(RECORD, max_size=80), st.floats(0, 1), st.sampled_from([2, 4, 16]))
def test_what_is_split_off_has_the_extremes_and_the_count_of_the_dropped_leaves(cap, records, share, small):
    whole, kept, now = Series(cap), Series(cap), 0.0
    for more, value in records:
        now += more
        whole.append(now, value)
        kept.append(now, value)
    at = now * share
    dropped, begin = kept.split_after(at, small), bisect_left(whole.steps, math.nextafter(at, math.inf))
    assert len(dropped.steps) <= small
    assert dropped.count == whole.count - kept.count
    assert list(dropped.broken) == [step for step in whole.broken if step > at]
    assert dropped.span(0, len(dropped.steps)) == whole.span(begin, len(whole.steps))
    assert dropped.last == (whole.last if begin < len(whole.steps) else None)
    whole.drop_after(at)
    assert (list(kept.steps), list(kept.mean), kept.best) == (list(whole.steps), list(whole.mean), whole.best)


def test_a_cached_span_is_recomputed_after_the_leaves_changed():
    series = Series(16)
    for step in range(16):
        series.append(step, 1.0)
    assert series.span(0, 8) == (1.0, 1.0)
    series.append(16, 1.0)  # pairs merge: leaf 4 now holds what was 8 and 9
    series.drop_after(3)
    for step in range(4, 8):
        series.append(step, 9.0)
    assert series.span(0, 8) == (1.0, 9.0)


def test_a_cached_span_is_recomputed_after_its_last_leaf_grew():
    series = Series(4)
    for step in range(5):
        series.append(step, 1.0)
    assert (len(series.steps), series.stride, series.span(0, 3)) == (3, 2, (1.0, 1.0))
    series.append(5, 9.0)
    assert (len(series.steps), series.span(0, 3)) == (3, (1.0, 9.0))


def test_memory_does_not_grow_with_the_number_of_records():
    def held(count: int) -> int:
        tracemalloc.start()
        series = Series(1 << 10)
        for begin in range(0, count, 1000):
            series.extend(range(begin, begin + 1000), [1.0] * 1000)
            series.span(0, 999)
            series.smoothed(0.9)
        size = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        assert series.count == count
        return size

    few, many = held(20_000), held(100_000)
    assert many < 1.5 * few + 10_000
    assert many < 120_000


def test_the_number_of_pending_records_is_bounded():
    series = Series(64)
    for step in range(100_000):
        series.append(step, math.nan if step % 2 else 0.5)
    held = sum(sys.getsizeof(value) for value in vars(series).values() if isinstance(value, array))
    assert held < 60_000
    assert len(series.broken) == 1000
    assert series.broken[-1] == 99_999
    assert series.count == 50_000


def test_single_spike_among_a_million_is_kept():
    series = Series()
    values = [2.5] * 1_000_000
    values[654_321], values[123_456] = 99.0, -7.0
    series.extend(range(1_000_000), values)
    assert len(series.steps) <= series.cap
    assert series.span(0, len(series.steps)) == (-7.0, 99.0)
    assert series.best == (-7.0, 123_456)
    leaf = series.index(654_321)
    assert series.high[leaf] == 99.0
    assert series.steps[leaf] - series.stride < 654_321 <= series.steps[leaf]


@FEW
@given(st.lists(st.floats(0, 100), min_size=1, max_size=80).map(sorted), st.floats(-1, 101))
def test_the_index_is_the_first_leaf_whose_step_is_not_below(steps, step):
    series = Series()
    series.extend(steps, steps)
    assert series.index(step) == sum(1 for one in steps if one < step) == bisect_left(steps, step)


@FEW
@given(st.lists(SINGLE, max_size=60), st.sampled_from([0.3, 0.6, 0.9, 0.999]))
def test_smoothing_is_the_bias_corrected_exponential_average(values, weight):
    series = Series()
    series.extend(range(len(values)), values)
    for n, found in enumerate(series.smoothed(weight)):
        shares = [weight ** (n - k) for k in range(n + 1)]
        wanted = sum(share * value for share, value in zip(shares, values, strict=False)) / sum(shares)
        assert found == pytest.approx(wanted, rel=1e-4, abs=1e-6 * max(map(abs, values)) + 1e-30)
    assert len(series.smoothed(weight)) == len(values)
    assert list(series.smoothed(0)) == list(series.mean)


@FEW
@given(st.sampled_from([2, 4, 8, 64]), st.lists(CHANGE, max_size=50))
def test_incremental_smoothing_equals_smoothing_from_scratch(cap, changes):
    series, now = Series(cap), 0.0
    for what, how in changes:
        for more, value in [how] if what == "append" else how if what == "extend" else []:
            now += more
            series.append(now, value)
        if what == "drop":
            now *= how
            series.drop_after(now)
        series.smoothed(0.5 if what == "look" else 0.9)
    step_by_step = array("d", series.smoothed(0.9))
    series.smoothed(0.5)
    assert step_by_step == array("d", series.smoothed(0.9))


def test_reading_a_leaf_does_not_change_its_mean():
    draws = random.Random(2)
    values = [draws.uniform(0, 10) for _ in range(40_000)]
    series = Series(2)
    for step, value in enumerate(values):
        series.append(step, value)
        assert series.mean
    assert series.stride == 32_768
    assert series.mean[-1] == pytest.approx(sum(values[32_768:]) / len(values[32_768:]), rel=1e-7)


def test_a_smoothed_constant_is_that_constant_from_the_first_step_on():
    series = Series()
    series.extend(range(100), [2.5] * 100)
    assert list(series.smoothed(0.99)) == pytest.approx([2.5] * 100)


@pytest.mark.parametrize("weight", [-0.1, 1.0, math.nan])
def test_a_smoothing_weight_outside_0_to_1_is_an_error(weight):
    with pytest.raises(ValueError, match="at least 0 and below 1"):
        Series().smoothed(weight)


def test_large_times_and_token_counts_keep_their_last_digits():
    clock = Series(8)
    for step in range(5):
        clock.append(step, step)
    for step in range(5, 8):
        clock.append(step, 1_700_000_000 + step)
    assert list(clock.mean) == [0, 1, 2, 3, 4, 1_700_000_005, 1_700_000_006, 1_700_000_007]
    assert list(clock.high) == list(clock.mean)
    clock.append(8, 1_700_000_008)
    assert list(clock.high) == [1, 3, 1_700_000_005, 1_700_000_007, 1_700_000_008]
    assert clock.mean[3] == 1_700_000_006.5


def test_of_a_value_that_is_not_finite_only_the_step_is_stored():
    series = Series()
    for step, value in enumerate([1.0, math.nan, 2.0, math.inf, -math.inf, 1e305, 3.0]):
        series.append(step, value)
    assert list(series.mean) == [1.0, 2.0, 3.0]
    assert list(series.steps) == [0, 2, 6]
    assert list(series.broken) == [1, 3, 4, 5]
    assert series.last == (6, 3.0)
    series.drop_after(3)
    assert list(series.broken) == [1, 3]
    assert series.last == (2, 2.0)


def test_a_record_without_a_valid_step_is_skipped():
    series = Series()
    series.extend([0, math.nan, math.inf], [1.0, 2.0, math.nan])
    assert (list(series.steps), list(series.broken), series.count) == ([0], [], 1)


def test_a_value_that_is_not_a_number_is_an_error_and_stores_nothing():
    series = Series()
    for step, value in ((0, 10**400), (10**400, 0), (0, None), ("1 step", 0)):
        with pytest.raises((TypeError, ValueError, OverflowError)):
            series.append(step, value)
    with pytest.raises(ValueError, match="2 steps and 1 values"):
        series.extend([1, 2], [1.0])
    series.append(3, 4.0)
    assert (list(series.steps), list(series.mean)) == ([3], [4.0])


def test_an_empty_series_answers_every_query():
    series = Series()
    assert (series.count, series.last, series.best, series.stride) == (0, None, None, 1)
    assert series.span(0, 10) is None
    assert series.index(5) == 0
    assert len(series.smoothed(0.5)) == 0
    series.drop_after(3)
    series.extend([], [])
    assert not series.steps


def test_a_series_is_like_new_after_everything_was_dropped():
    series = Series(4)
    for step in range(100):
        series.append(step, 5.0)
    assert series.stride > 1
    series.drop_after(-1)
    series.append(0, 7.0)
    assert (series.stride, series.count, series.best, list(series.mean)) == (1, 1, (7.0, 0), [7.0])


def test_a_leaf_with_both_earlier_and_later_records_is_dropped():
    series = Series(4)
    for step in range(8):
        series.append(step, float(step))
    assert list(series.steps) == [1, 3, 5, 7]
    series.drop_after(4)
    assert list(series.steps) == [1, 3]
    assert series.count == 4
    assert series.last == (3, 2.5)
