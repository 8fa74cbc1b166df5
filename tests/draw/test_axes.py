"""Axes of a chart: round values, distinct labels, and marks."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from tdiff.draw.axes import numbers, scale, tick_labels, ticks, x_label
from tdiff.draw.chart import draw
from tdiff.draw.curves import Curve, View, layout, ranges
from tdiff.draw.render import plain
from tdiff.series.series import Series
from tests.support.charts import curve, dots, falling, series

FEW = examples(derandomize=True, deadline=None, max_examples=80, database=None)


@FEW
@given(st.floats(-1e12, 1e12), st.floats(1e-6, 1e12), st.floats(0.05, 0.5))
def test_ticks_are_round_spaced_and_within_the_scale(low, size, apart):
    on = scale(low, low + size, log=False)
    found = ticks(on, apart)
    places = [on.share(value) for value in found]
    assert all(b - a >= apart * 0.999 for a, b in pairwise(places))
    assert all(-0.011 <= place <= 1.011 for place in places)
    if apart <= 0.3:
        assert len(found) >= 2 or apart > 0.2
    if len(found) > 1:
        step = found[1] - found[0]
        digits = f"{step:.3e}"[0]
        assert digits in "125" or size < 1e-9 * abs(low)


def test_labels_are_short_and_distinct():
    def labels(low, high, apart=0.2, log=False):
        on = scale(low, high, log)
        return tick_labels(on, ticks(on, apart))

    assert labels(2.2, 6.1) == ["3", "4", "5", "6"]
    assert labels(2.281, 2.312) == ["2.29", "2.30", "2.31"]
    assert labels(0, 3e-4) == ["0", "1e-4", "2e-4", "3e-4"]
    assert labels(0, 9.1e4) == ["0", "20k", "40k", "60k", "80k"]
    assert labels(-1, 1) == ["-1.0", "-0.5", "0", "0.5", "1.0"]
    assert labels(1.7e9, 1.7e9 + 4) == [f"{1_700_000_000 + n}" for n in range(5)]
    assert labels(0.03, 700, log=True) == ["0.1", "1", "10", "100"]
    assert labels(2.2, 6.1, log=True) == ["4", "6"]
    assert labels(1e-9, 1e9, log=True) == ["1e-8", "1e-4", "1", "10k", "100M"]


@FEW
@given(st.floats(1e-12, 1e12), st.floats(1.001, 1e12), st.floats(0.1, 0.5))
def test_logarithmic_ticks_are_spaced_and_within_the_scale(low, times, apart):
    on = scale(low, low * times, log=True)
    places = [on.share(value) for value in ticks(on, apart)]
    assert places
    assert all(b - a >= apart for a, b in pairwise(places))
    assert all(-0.011 <= place <= 1.011 for place in places)


def test_numbers_share_unit_and_decimals():
    assert numbers([0.5, 1, 1.5], 0.5) == ["0.5", "1.0", "1.5"]
    assert numbers([41_900_000, 0], 100_000) == ["41.9M", "0"]
    assert numbers([1e15, 2e15], 1e15) == ["1e15", "2e15"]
    assert numbers([2.5e-4, 5e-5], 5e-5) == ["2.5e-4", "0.5e-4"]
    assert numbers([1e9, 1e9 + 0.2], 0.2) == ["1000000000.0", "1000000000.2"]
    assert numbers([], 1) == []


def test_x_axis_labels_are_steps_times_or_tokens():
    assert x_label(41_980, "step", 400) == "41,980"
    assert x_label(0.5, "step", 0.01) == "0.5"
    assert x_label(11_520, "time", 60) == "3 h 12 min"
    assert x_label(1.25, "time", 0.01) == "1.25 s"
    assert x_label(344_000_000, "tokens", 3e6) == "344M"
    assert x_label(900, "tokens", 10) == "900"


def last_line(curves, view, width=80):
    return plain(draw(curves, view, width, 8)).split("\n")[-1]


def test_x_by_time_and_by_tokens_follows_the_clock():
    one, clock, tokens = series(falling(1000), every=10), Series(), Series()
    for n in range(1000):
        clock.append(10 * n, 1.7e9 + 4 * n + (36_000 if n >= 500 else 0))  # ten hours of pause
        tokens.append(10 * n, 80_000 * n)
    timed = Curve(one, "", "", clock, 1.7e9)
    assert last_line([timed], View(axis="time")).startswith(" └ 0 s ─")
    assert last_line([timed], View(axis="time")).endswith("─ 11 h 07 min")
    assert last_line([Curve(one, "", "", tokens)], View(axis="tokens")).endswith("─ 79.9M")
    for curve_, step in ((timed, 3330), (Curve(one, "", "", tokens), 3330), (Curve(one, "", ""), 3330)):
        assert curve_.step(curve_.x(step)) == pytest.approx(step)
    assert timed.x(4990) == pytest.approx(1996) and timed.x(5000) == pytest.approx(38_000)
    place = layout([timed], View(axis="time"), 80, 11)
    shown = {x for x, _ in dots(draw([timed], View(axis="time"), 80, 11)[:-1], place.left)}
    assert shown == set(range(2 * place.columns))  # the pause is a straight line


def test_logarithmic_y_axis_omits_values_at_or_below_zero_with_a_note():
    values = [10.0 ** -(n % 5) for n in range(200)]
    mixed = [-value if n % 7 == 0 else value for n, value in enumerate(values)]
    assert ranges([curve(mixed)], View(log_y=True))[2:] == pytest.approx((1e-4, 1.0))
    assert "values ≤ 0 left out" in last_line([curve(mixed)], View(log_y=True))
    assert "values <= 0 left out" in plain(draw([curve(mixed)], View(log_y=True), 80, 8, ascii=True))
    assert "left out" not in last_line([curve(values)], View(log_y=True))
    assert "left out" not in last_line([curve(mixed)], View())
    nothing = draw([curve([-1.0, 0.0, -2.0])], View(log_y=True), 60, 8)
    assert not dots(nothing[:-1], 0)


def test_a_power_law_is_straight_on_log_log_axes():
    power = Curve(series([n**-0.5 for n in range(1, 3001)], first=1), "", "")
    view = View(log_x=True, log_y=True)
    place = layout([power], view, 80, 12)
    across, down = 2 * place.columns - 1, 4 * place.rows - 1
    for x, y in dots(draw([power], view, 80, 12)[:-1], place.left):
        assert y == pytest.approx(x / across * down, abs=1.5)
    assert last_line([power], view).split("─", 1)[0] == "   └ 1 "
    assert " 10 " in last_line([power], view) and " 1,000 " in last_line([power], view)


def test_logarithmic_x_axis_begins_at_one_for_steps_from_zero():
    assert ranges([curve([1.0, 2.0, 3.0])], View(log_x=True))[:2] == (1, 2)


def test_a_single_or_constant_value_has_a_range_around_it():
    x0, x1, y0, y1 = ranges([curve([2.5], first=7)], View())
    assert (x0, x1) == (7, 8) and y0 < 2.5 < y1
    assert ranges([curve([0.0] * 5)], View())[2:] == (-1, 1)
    assert ranges([], View()) == (0, 1, 0, 1)
    x0, x1, _, _ = ranges([curve([1.0] * 5)], View(x0=3, x1=3))
    assert x0 == 3 < x1
    assert ranges([curve([1.0] * 5)], View(x0=4, x1=2))[:2] == (2, 4)


def test_y_range_follows_the_visible_data():
    one = curve([100.0] * 10 + [1.0, 2.0] * 45)
    assert ranges([one], View())[2:] == (1, 100)
    assert ranges([one], View(x0=20, x1=50))[2:] == (1, 2)
    assert ranges([one], View(x0=20, x1=50, y1=4))[2:] == (1, 4)
    _, _, low, high = ranges([one], View(x0=20, smoothing=0.99, ghost=False))
    assert low > 2 and high < 100  # only the smoothed curve is drawn, which still falls
