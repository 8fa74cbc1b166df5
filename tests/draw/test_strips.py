"""Strips below a chart, and differences of curves."""

import math

import pytest
from rich.cells import cell_len

from tdiff.draw import strips
from tdiff.draw.curves import Curve, View, layout
from tdiff.draw.differences import difference
from tdiff.draw.render import plain
from tdiff.draw.strips import Strip, StripCache, draw_strip
from tdiff.series.series import Series
from tests.support.charts import curve, falling, series


@pytest.mark.parametrize("width", [3, 9, 20, 80])
@pytest.mark.parametrize("ascii", [False, True])
@pytest.mark.parametrize("height", [1, 2])
def test_a_strip_has_exactly_the_requested_size(width, height, ascii):
    curves = [curve(falling(300), "val"), curve(falling(300), "train")]
    view = View(cursor=100.0)
    frame = layout(curves, view, width, 12, ascii=ascii)
    for values in (falling(300), [1.0] * 300, [math.nan] * 3, []):
        strip = Strip(curve(values, "train/lr"), "lr", "2.70e-04")
        lines = draw_strip(strip, view, frame, height, ascii=ascii, colour=False)
        assert len(lines) == height and {sum(cell_len(text) for text, _ in line) for line in lines} == {width}
        assert not ascii or plain(lines).isascii()


def test_a_strip_lies_in_the_columns_of_the_chart_and_names_its_newest_value():
    curves = [curve(falling(300), "held-out loss"), curve(falling(300), "training loss")]
    frame = layout(curves, View(), 80, 12)
    step = curve([0.0] * 150 + [1.0] * 150, "train/lr")
    first, last = plain(draw_strip(Strip(step, "lr", "2.70e-04"), View(), frame, 2, ascii=False, colour=True)).split(
        "\n"
    )
    assert first.startswith("lr│") or first[frame.left :].startswith("lr ")
    assert last.rstrip().endswith("2.70e-04")
    rise = next(n for n, character in enumerate(first) if "⠀" < character <= "⣿" and n > frame.left + 4)
    assert abs(rise - frame.column_of(150)) <= 1


@pytest.mark.parametrize("ascii", [False, True])
def test_a_cache_changes_no_more_than_half_a_dot_of_a_growing_strip(ascii, monkeypatch):
    drawn = []
    made = strips._draw
    monkeypatch.setattr(strips, "_draw", lambda *args, **options: drawn.append(0) or made(*args, **options))
    loss, rate, cache = series(falling(3000)), series([1e-3 * 0.999**n for n in range(3000)]), StripCache()
    for step in range(3000, 3200):
        loss.append(step, 1.0)
        rate.append(step, 0.5 if step == 3100 else math.nan if step == 3150 else 1e-3 * 0.999**step)
        view = View(cursor=float(step // 2) if step % 3 else None)
        frame = layout([Curve(loss, "", "validation"), Curve(loss, "", "train")], view, 80, 12, ascii=ascii)
        before = len(drawn)
        strip = Strip(Curve(rate, "dim", "lr"), "learning rate of all", f"{step}")
        cached = draw_strip(strip, view, frame, 2, ascii=ascii, colour=False, cache=cache)
        redrawn = len(drawn) > before
        fresh = draw_strip(strip, view, frame, 2, ascii=ascii, colour=False)
        assert [sum(map(cell_len, (text for text, _ in line))) for line in cached] == [80, 80]
        assert plain(cached[-1:]).rstrip().endswith(f"{step}"), "the value is the newest"
        assert not redrawn or cached == fresh
        assert redrawn or step not in (3100, 3150), "a value beyond the axis, or none, is drawn at once"
    assert len(drawn) - 200 < 40, "few of 200 redraws draw the curve"


def test_a_difference_has_a_point_at_each_value_of_the_sparser_curve():
    train = curve([5.0, 4.0, 3.0, 2.0, 1.0], "train", every=10)
    held = Curve(series([4.5, 2.5], every=20, first=10), "", "val", smooth=False)
    gap, ratio = difference(held, train, 0.0), difference(held, train, 0.0, ratio=True)
    assert (list(gap.steps), list(gap.mean)) == ([10, 30], [0.5, 0.5])
    assert list(ratio.mean) == pytest.approx([4.5 / 4, 2.5 / 2])


def test_a_difference_of_runs_is_taken_where_both_have_values():
    first, second = curve([2.0] * 100), curve([1.5] * 100, first=60)
    made = difference(first, second, 0.6)
    assert (made.steps[0], made.steps[-1]) == (60, 99) and set(made.mean) == {0.5}
    apart = curve([1.0] * 10, first=500)
    assert not difference(first, apart, 0.0).steps
    assert not difference(first, Curve(Series(), "", ""), 0.0).steps
    zero = difference(first, curve([0.0] * 100), 0.0, ratio=True)
    assert not zero.steps
    many = difference(curve([2.0] * 9000), curve([1.0] * 9000), 0.0)
    assert 500 < len(many.steps) <= 2048 and set(many.mean) == {1.0}
