"""Labels at the ends of curves, limits and zoom of the axes, and target lines."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tdiff.draw.axes import Scale
from tdiff.draw.chart import draw
from tdiff.draw.curves import Level, View, layout, ranges, readout
from tdiff.draw.end_labels import letters, rows_of, texts
from tdiff.draw.render import plain
from tdiff.draw.zoom import pan, pan_y, zoom, zoom_y
from tests.support.charts import FEW, cells, curve, dots, falling, readable


def test_every_curve_has_its_label_at_its_right_end():
    curves = [curve(falling(500, seed), f"{name} train/loss") for seed, name in enumerate("DCBA")]
    for colour in (True, False):
        drawn = cells(draw(curves, View(), 80, 12, colour=colour))
        ends = ["".join(character for character, _ in row[-13:]).strip() for row in drawn[:-1]]
        assert sorted(filter(None, ends)) == [f"{name} train/loss" for name in "ABCD"]
    assert all(readable(style).color is None for row in drawn for _, style in row)
    assert len({style for row in drawn[:-1] for character, style in row if "⠀" < character <= "⣿"}) == 3


def test_a_label_has_the_style_of_its_curve_and_lies_in_its_row():
    low, high = curve([0.0] * 50, "train", "color(1)"), curve([3.0] * 50, "val", "color(2)")
    drawn = cells(draw([low, high], View(y0=-1, y1=4), 60, 12))
    named = {"".join(c for c, _ in row[-5:]): {style for _, style in row[-5:]} for row in drawn}
    assert named["train"] == {"color(1)"} and named["val  "] == {"color(2)"}
    for row in drawn[:-1]:
        text = "".join(character for character, _ in row)
        assert text.endswith(("train", "val  ")) is any("⠀" < character <= "⣿" for character in text)


def test_a_single_curve_has_no_label_and_a_faint_one_never():
    one, other = curve(falling(500), "train"), curve(falling(500, 2), "before")
    assert layout([one], View(), 80, 12).right == 0
    assert layout([replace(other, faint=True), one], View(), 80, 12).right == 0
    drawn = cells(draw([replace(other, style="color(2)", faint=True), replace(one, style="color(1)")], View(), 80, 12))
    styles = {style for row in drawn[:-1] for character, style in row if "⠀" < character <= "⣿"}
    assert styles == {"dim color(2)", "color(1)"}
    assert [label for label, _, _ in readout([replace(other, faint=True), one], 9)] == ["train"]


def test_labels_become_letters_where_they_do_not_fit_or_would_be_the_same():
    assert texts(["train", "val"], 60) == ["train", "val"]
    assert texts(["train", "val"], 12) == ["t", "v"]
    assert texts(["train", "val"], 5) == ["", ""]
    assert texts(["A a-long-name-of-a-run-1", "A a-long-name-of-a-run-2"], 60) == ["a", "A"]


def test_letters_are_initials_if_they_are_distinct():
    assert letters(["eval/loss", "train/loss"]) == ["e", "t"]
    assert letters(["B train/loss", "A train/loss"]) == ["B", "A"]
    assert letters(["B eval", "B train", "A eval", "A train"]) == ["b", "B", "a", "A"]
    assert letters(["", "x"]) == ["A", "B"]
    assert letters(["a", "a", "a"]) == ["A", "B", "C"]
    assert letters(["é", "x"]) == ["A", "B"]


def test_labels_of_curves_that_meet_are_in_neighbouring_rows():
    assert rows_of([3, 3, None, 4], 8) == [3, 4, None, 5]
    assert rows_of([7, 7, 6], 8) == [6, 7, 5]
    assert rows_of([7.75, 7.25], 8) == [7, 6]
    assert rows_of([0, 0, 0], 2) == [None, 0, 1]
    assert rows_of([5], 0) == [None]


@FEW
@given(st.lists(st.one_of(st.none(), st.integers(0, 30)), max_size=8), st.integers(0, 31))
def test_no_two_labels_share_a_row(wanted, rows):
    placed = [row for row in rows_of(wanted, rows) if row is not None]
    assert len(set(placed)) == len(placed) and all(0 <= row < rows for row in placed)
    assert len(placed) == min(rows, sum(row is not None for row in wanted))


# The y axis


def test_one_outlier_does_not_flatten_the_curve_and_is_marked_at_the_edge():
    for at, mark, ascii_mark, row in ((1e5, "▲", "^", 0), (-1e5, "▼", "v", 10)):
        values = falling(2000)
        values[1200] = at
        one = curve(values)
        _, _, low, high = ranges([one], View())
        assert 1.0 < low < 2.2 and 5.0 < high < 8.0
        drawn = cells(draw([one], View(), 80, 12))
        column = layout([one], View(), 80, 12).column_of(1200)
        assert [(y, x) for y, line in enumerate(drawn) for x, (c, _) in enumerate(line) if c == mark] == [(row, column)]
        assert drawn[row][column][1] == "bold color(215)"
        assert cells(draw([one], View(), 80, 12, ascii=True))[row][column][0] == ascii_mark
        assert ranges([one], View(robust=False))[2:] == pytest.approx((min(values), max(values)))


def test_the_first_values_of_a_falling_loss_are_no_outliers():
    for count in (40, 400, 40_000):
        values = [1.5 + 4 * math.exp(-40 * n / count) + 0.05 * math.sin(n) for n in range(count)]
        assert ranges([curve(values)], View())[3] == pytest.approx(max(values))
    exploded = [1e6, *falling(5000)]
    assert ranges([curve(exploded)], View())[3] < 10


def test_an_axis_without_outliers_has_the_ends_of_the_data():
    flat = [2.0] * 300
    for values in (falling(3000), falling(10), flat, [*flat, 9.0, *flat], [0.0, 1.0] * 200, [n**3 for n in range(500)]):
        assert ranges([curve(values)], View())[2:] == ranges([curve(values)], View(robust=False))[2:]
    log = View(log_y=True)
    spike = [*falling(500), 20.0, *falling(500)]
    assert ranges([curve(spike)], log)[3] == pytest.approx(20) and ranges([curve(spike)], View())[3] < 10


def test_zoom_and_pan_of_the_values_keep_their_center():
    drawn = (0.0, 100.0, 2.0, 6.0)
    near = zoom_y(View(), drawn, 2, 3.0)
    assert (near.y0, near.y1) == pytest.approx((2.5, 4.5))
    up = pan_y(near, (0.0, 100.0, near.y0, near.y1), 0.5)
    assert (up.y0, up.y1) == pytest.approx((3.5, 5.5))
    log = zoom_y(View(log_y=True), (0.0, 1.0, 1.0, 100.0), 2, 10.0)
    assert (log.y0, log.y1) == pytest.approx((10**0.5, 10**1.5))


def test_a_target_is_a_labelled_line_behind_the_curve():
    one = curve(falling(1000))
    view = View(levels=(Level(3.0, "target 3", "color(80)"),))
    drawn = cells(draw([one], view, 80, 12))
    place = layout([one], view, 80, 12)
    [row] = {y for y, line in enumerate(drawn) for character, _ in line if character == "┄"}
    assert row == int((1 - place.y.share(3.0)) * 44 / 4)
    text = "".join(character for character, _ in drawn[row])
    assert " target 3 " in text and any("⠀" < character <= "⣿" for character in text)
    without = dots(draw([one], View(), 80, 12)[:-1], place.left)
    assert dots(draw([one], view, 80, 12)[:-1], place.left) == without
    assert "target 3" in plain(draw([one], view, 80, 12, ascii=True))


def test_a_target_near_the_data_is_in_view_and_a_far_one_is_named_at_the_edge():
    one = curve(falling(1000))
    near, far = (View(levels=(Level(value, f"target {value:g}", ""),)) for value in (0.5, -500.0))
    assert ranges([one], near)[2] == 0.5
    assert ranges([one], far)[2:] == ranges([one], View())[2:]
    lines = plain(draw([one], far, 80, 12)).split("\n")
    assert " target -500 ▼ " in lines[10] and "┄" not in "".join(lines)


@FEW
@given(st.floats(0.001, 1000), st.floats(0, 1), st.booleans(), st.floats(0.01, 0.9), st.floats(0.02, 0.1))
def test_zoom_keeps_its_center_within_the_data(factor, share, log, begin, size):
    whole = (1.0, 100_001.0, 0.0, 1.0)
    full = Scale(1.0, 100_001.0, log)
    view = View(x0=full.value(begin), x1=full.value(begin + size), log_x=log)
    at = full.value(begin + share * size)
    new = zoom(view, whole, factor, at)
    if new.x0 is None:
        assert new.x1 is None and factor < 1
        return
    a, b = full.share(new.x0), full.share(new.x1)
    assert -1e-9 <= a < b <= 1 + 1e-9
    assert b - a == pytest.approx(max(size / factor, 1e-6), rel=1e-6) or factor < 1 or not log
    if a > 1e-6 and b < 1 - 1e-6:
        assert (full.share(at) - a) / (b - a) == pytest.approx(share, abs=1e-4)
    if factor < 1:
        assert b - a <= size / factor * (1 + 1e-6)


def test_zoom_limits_are_one_step_and_all_data():
    whole = (0.0, 1000.0, 0.0, 1.0)
    near = zoom(View(), whole, 1e9, 500)
    assert near.x1 - near.x0 == pytest.approx(1) and near.x0 < 500 < near.x1
    assert zoom(near, whole, 1e-9, 500) == View()
    assert zoom(View(), whole, 2, 1000) == View(x0=500, x1=1000)
    assert zoom(View(), whole, 2, 5000) == View(x0=500, x1=1000)
    assert zoom(View(x0=500, x1=1000), whole, 0.5, 1000) == View()


def test_pan_moves_by_a_share_and_stops_at_the_data_end():
    whole = (0.0, 1000.0, 0.0, 1.0)
    view = View(x0=200, x1=400)
    for share, x0, x1 in ((0.5, 300, 500), (-0.5, 100, 300), (99, 800, 1000), (-99, 0, 200)):
        moved = pan(view, whole, share)
        assert (moved.x0, moved.x1) == pytest.approx((x0, x1))
    assert pan(View(), whole, 0.5) == View()
    log = pan(View(x0=10, x1=100, log_x=True), (1.0, 1000.0, 0.0, 1.0), 1.0)
    assert (log.x0, log.x1) == pytest.approx((100, 1000))
