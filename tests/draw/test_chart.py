"""The loss chart: every value is visible at any zoom, and nothing raises."""

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from tdiff.draw.chart import draw
from tdiff.draw.curves import Curve, Level, View, layout, ranges, readout
from tdiff.draw.dots import Dots
from tdiff.draw.render import plain
from tdiff.draw.zoom import pan, pan_y, zoom, zoom_y
from tdiff.series.series import Series
from tests.support.charts import FEW, NUMBER, cells, curve, dots, falling, readable, series

VALUES = st.one_of(st.lists(NUMBER, max_size=40), st.lists(st.floats(0, 10), min_size=50, max_size=300))


GAPS = st.sampled_from([0.0, 1e-3, 1.0, 10.0, 1e12])


NOWHERE = st.one_of(st.none(), NUMBER)


@st.composite
def curves_of(draw):
    made = []
    for _ in range(draw(st.integers(0, 4))):
        one = Series(draw(st.sampled_from([4, 16, 1024])))
        clock = Series(draw(st.sampled_from([4, 1024]))) if draw(st.booleans()) else None
        now, every = draw(st.sampled_from([0.0, -5.0, 1.0, 1e6, 1e15])), draw(GAPS)
        for n, value in enumerate(draw(VALUES)):
            one.append(now + every * n, value)
            if clock is not None:
                clock.append(now + every * n, 1.7e9 + 3.0 * n)
        label = draw(st.sampled_from(["", "A train/loss", "train/loss", "eval/loss", "é"]))
        style = draw(st.sampled_from(["", "color(80)", "bold color(9)"]))
        made.append(Curve(one, style, label, clock, 1.7e9, faint=draw(st.booleans())))
    return made


VIEW = st.builds(
    View,
    x0=NOWHERE,
    x1=NOWHERE,
    y0=NOWHERE,
    y1=NOWHERE,
    log_x=st.booleans(),
    log_y=st.booleans(),
    smoothing=st.sampled_from([0.0, 0.6, 0.999]),
    ghost=st.booleans(),
    cursor=NOWHERE,
    marks=st.lists(st.tuples(NUMBER, st.sampled_from(["color(203)", ""])), max_size=5).map(tuple),
    axis=st.sampled_from(["step", "time", "epoch", "tokens"]),
    robust=st.booleans(),
    levels=st.lists(st.builds(Level, NUMBER, st.sampled_from(["", "target 2.5"]), st.just("color(80)"))).map(tuple),
)


def test_cursor_at_the_right_end_of_a_single_column():
    drawn = draw([], View(x1=-1.0, cursor=0.0), 1, 1, ascii=True)
    assert [plain([line]) for line in drawn] == [":"]


@FEW
@given(curves_of(), VIEW, st.integers(-1, 130), st.integers(-1, 34), st.booleans(), st.booleans())
def test_chart_has_exactly_the_requested_size(curves, view, width, height, ascii, colour):
    drawn = draw(curves, view, width, height, ascii=ascii, colour=colour)
    assert len(drawn) == max(0, height)
    for line in drawn:
        assert sum(cell_len(text) for text, _ in line) == max(0, width)
        for text, style in line:
            assert readable(style).color is None or colour
            assert readable(style).bgcolor is None
            assert text.isascii() or not ascii
            assert text


@FEW
@given(curves_of(), VIEW, st.integers(1, 130), st.integers(1, 34), NUMBER, st.floats(0.01, 100), st.floats(-2, 2))
def test_chart_functions_never_raise(curves, view, width, height, x, factor, share):
    x0, x1, y0, y1 = whole = ranges(curves, view)
    assert x0 < x1 and y0 < y1 and all(map(math.isfinite, whole))
    place = layout(curves, view, width, height)
    assert x0 - (x1 - x0) <= place.x_of(width // 2) <= x1 + (x1 - x0) * 1.01
    column = place.column_of(x)
    assert column is None or place.left <= column < width
    moves = (zoom(view, whole, factor, x), pan(view, whole, share), zoom_y(view, whole, factor, x))
    for moved in (*moves, pan_y(view, whole, share)):
        draw(curves, moved, 40, 6)
    for label, value, step in readout(curves, x, 0.6):
        assert isinstance(label, str) and math.isfinite(value) and math.isfinite(step)


# Everything that is there is seen


@FEW
@given(
    st.lists(st.one_of(st.floats(-50, 50), st.floats(-50, 50), st.just(math.nan)), min_size=2, max_size=400),
    st.integers(12, 120),
    st.integers(4, 30),
)
def test_every_value_is_drawn(values, width, height):
    one = curve(values)
    if not one.series.steps:
        return
    one = replace(one, series=without_broken(one.series))
    view = View(robust=False)
    place = layout([one], view, width, height)
    shown = dots(draw([one], view, width, height)[:-1], place.left)
    across, down = 2 * place.columns - 1, 4 * place.rows - 1
    for step, value in zip(one.series.steps, one.series.mean, strict=True):
        x, y = place.x.share(step) * across, (1 - place.y.share(value)) * down
        assert any((int(x + dx), int(y + dy)) in shown for dx in (0.499, 0.501) for dy in (0.499, 0.501))


def without_broken(full: Series) -> Series:
    made = Series()
    made.extend(full.steps, full.mean)
    return made


MILLION = 1_000_000


SPIKES = (0, 1, 77_777, 400_000, 400_003, 654_321, 999_998, 999_999)


@pytest.fixture(scope="module")
def million() -> Series:
    noise = [random.Random(5).gauss(2.5, 0.05) for _ in range(1000)]
    values = noise * (MILLION // 1000)
    for at in SPIKES:
        values[at] = 9.0
    return series(values)


@pytest.mark.parametrize("view", [View(), View(smoothing=0.6), View(smoothing=0.99), View(log_y=True)], ids=repr)
def test_a_spike_among_a_million_steps_is_visible_in_every_view(million, view):
    draws = random.Random(3)
    looks = [(0.0, MILLION - 1.0)]
    for _ in range(60):
        at, size = draws.choice(SPIKES), 10 ** draws.uniform(0, 6)
        x0 = max(0.0, at - draws.random() * size)
        looks.append((x0, min(MILLION - 1.0, max(float(at), x0 + 1, at + draws.random() * size))))
    for x0, x1 in looks:
        width, height = draws.choice([40, 80, 120]), draws.choice([6, 12, 30])
        seen = replace(view, x0=x0, x1=x1)
        for ascii in (False, True):
            place = layout([Curve(million, "", "")], seen, width, height, ascii=ascii)
            top = cells(draw([Curve(million, "", "")], seen, width, height, ascii=ascii))[0][place.left :]
            for spike in SPIKES:
                if not x0 <= spike <= x1:
                    continue
                leaf = million.steps[million.index(spike)]  # a spike is drawn at the end of its leaf
                at = place.column_of(min(leaf, x1)) - place.left
                assert any(character != " " for character, _ in top[max(0, at - 1) : at + 2]), (x0, x1, spike)


def test_a_line_joins_the_values_of_a_short_run():
    for values in ([1, 5, 2], [0, 0, 10, 0], list(range(30)), [0] * 500 + [10] * 400 + [5] * 300):
        place = layout([curve(values)], View(), 80, 12)
        shown = dots(draw([curve(values)], View(), 80, 12)[:-1], place.left)
        assert {x for x, _ in shown} == set(range(2 * place.columns))
        for x in range(1, 2 * place.columns):
            here, before = ({y for c, y in shown if c == column} for column in (x, x - 1))
            assert min(abs(a - b) for a in here for b in before) <= 1


def test_a_line_passes_through_a_view_between_two_values():
    one = curve([0.0, 10.0], every=1000)
    view = View(x0=400, x1=600)
    lines = draw([one], view, 60, 8)
    assert {x for x, _ in dots(lines[:-1], layout([one], view, 60, 8).left)} == set(
        range(2 * layout([one], view, 60, 8).columns)
    )


# Looks


def test_a_smoothed_curve_is_bright_before_its_dim_ghost():
    one = curve(falling(4000))
    drawn = cells(draw([one], View(smoothing=0.9), 80, 11))
    place = layout([one], View(smoothing=0.9), 80, 11)
    styles = {style for row in drawn[:-1] for character, style in row[place.left :] if character != " "}
    assert styles == {"color(215)", "dim color(215)"}
    for column in range(place.left, 80):
        assert any(row[column][1] == "color(215)" for row in drawn[:-1])
    alone = cells(draw([one], View(smoothing=0.9, ghost=False), 80, 11))
    assert not any("dim" in style for row in alone[:-1] for character, style in row[place.left :] if character != " ")
    raw = cells(draw([one], View(), 80, 11))
    assert {style for row in raw[:-1] for character, style in row[place.left :] if character != " "} == {"color(215)"}


def test_a_curve_with_smooth_false_is_not_smoothed():
    one = replace(curve([5.0, 1.0, 1.0, 1.0], "held"), smooth=False)
    assert draw([one], View(smoothing=0.9), 60, 8) == draw([one], View(), 60, 8)
    assert draw([one], View(smoothing=0.9, ghost=False), 60, 8) == draw([one], View(), 60, 8)
    assert readout([one], 1, 0.9) == [("held", 1.0, 1)]
    assert readout([replace(one, smooth=True)], 1, 0.9)[0][1] > 2


def test_two_curves_alternate_in_the_style_of_shared_cells():
    flat = View(y0=0, y1=7)
    low, high = curve([0.0] * 9, "", "color(1)"), curve([3.0] * 9, "", "color(2)")
    both = draw([low, high], flat, 40, 3)
    place = layout([low, high], flat, 40, 3)
    assert dots(both[:-1], place.left) == dots(draw([low], flat, 40, 3)[:-1], place.left) | dots(
        draw([high], flat, 40, 3)[:-1], place.left
    )
    assert {style for _, style in cells(both)[1][place.left :]} == {"color(1)", "color(2)"}


def test_a_loss_that_is_not_finite_is_marked_on_the_curve():
    values = falling(900) + [math.nan] * 100
    drawn = cells(draw([curve(values)], View(), 80, 11))
    marks = [(y, x) for y, row in enumerate(drawn) for x, (character, _) in enumerate(row) if character == "✗"]
    last = curve(values).series.last[1]
    place = layout([curve(values)], View(), 80, 11)
    row = round((1 - place.y.share(last)) * (place.rows - 1))
    assert {y for y, _ in marks} == {row}
    assert [x for _, x in marks] == list(range(place.column_of(900), 80))
    assert {drawn[y][x][1] for y, x in marks} == {"bold color(215)"}
    plainly = plain(draw([curve(values)], View(), 80, 11, ascii=True))
    assert "x" in plainly and plainly.isascii()


def test_the_line_is_interrupted_at_values_that_are_not_finite():
    values = [1.0, 1.0, math.nan, 1.0, 1.0]
    row = next(line for line in plain(draw([curve(values)], View(), 60, 4)).split("\n") if "✗" in line)
    before, after = row.split("✗")
    assert before.endswith("    ") and after.startswith("    ")
    whole = [1.0] * 5
    assert not any("     " in line for line in plain(draw([curve(whole)], View(), 60, 4)).split("\n") if "⠤" in line)


def test_a_run_without_one_finite_value_shows_its_marks():
    drawn = plain(draw([curve([math.nan] * 50)], View(), 60, 6)).split("\n")
    assert drawn[4].count("✗") > 20
    assert drawn[5].endswith(" 49") and " 0 " in drawn[5]


def test_alerts_are_on_the_x_axis_or_above_a_label():
    one = curve(falling(1000))
    view = View(marks=((300, "color(203)"), (999, "color(203)"), (5000, "color(203)"), (math.nan, "")))
    place = layout([one], view, 80, 11)
    drawn = cells(draw([one], view, 80, 11))
    assert [(y, x) for y, row in enumerate(drawn) for x, cell in enumerate(row) if cell == ("▲", "color(203)")] == [
        (9, place.column_of(999)),
        (10, place.column_of(300)),
    ]
    assert "".join(character for character, _ in drawn[10]).endswith(" 999")
    assert "^" in plain(draw([one], view, 80, 11, ascii=True))
    assert not any("color" in style for line in draw([one], view, 80, 11, colour=False) for _, style in line)


def test_the_cursor_line_hides_no_curve():
    one = curve(falling(1000))
    with_cursor, without = (cells(draw([one], View(cursor=at), 80, 11)) for at in (500, None))
    column = layout([one], View(), 80, 11).column_of(500)
    for y in range(10):
        (character, style), (was, own) = with_cursor[y][column], without[y][column]
        assert (character, style) == (("┊", "") if was == " " else (was, f"{own} reverse"))
        with_cursor[y][column] = without[y][column]
    assert with_cursor == without
    assert draw([one], View(cursor=5000), 80, 11) == draw([one], View(), 80, 11)


def test_at_80_columns_the_curve_is_at_least_60_columns_wide():
    for values in ([2.0, 6.0], [3e-4, 0.0], [87_400.0, 2.0], [1.7e9, 1.7e9 + 1], [1e-12, 1e-11], [-1e5, 1e5]):
        for height in (6, 11, 24):
            assert layout([curve(values)], View(), 78, height).columns >= 60


# Mouse and keys


@FEW
@given(st.integers(20, 200), st.integers(3, 30), st.booleans(), st.booleans(), st.integers(0, 200))
def test_the_column_of_the_x_of_a_column_is_that_column(width, height, log, ascii, at):
    one = curve(falling(3000), first=1)
    place = layout([one], View(log_x=log), width, height, ascii=ascii)
    column = place.left + at % place.columns
    assert place.column_of(place.x_of(column)) == column
    assert place.x_of(0) == place.x_of(place.left)
    assert place.x_of(width + 9) == place.x_of(width - 1)
    assert place.column_of(place.x.low - 1) is None and place.column_of(place.x.high * 1.1) is None


def test_readout_is_of_the_nearest_leaf():
    one, other = curve([5.0, 6.0, 7.0], "a", every=10), curve([1.0, 2.0], "b", every=100)
    assert readout([one, other], 14) == [("a", 6.0, 10), ("b", 1.0, 0)]
    assert readout([one, other], 16) == [("a", 7.0, 20), ("b", 1.0, 0)]
    assert readout([one, other], 1e9) == [("a", 7.0, 20), ("b", 2.0, 100)]
    assert readout([one, other], -1e9) == [("a", 5.0, 0), ("b", 1.0, 0)]
    assert readout([curve([], "none"), one], 0, 0.5)[0][0] == "a"
    assert readout([one], 20, 0.5)[0][1] == pytest.approx(one.series.smoothed(0.5)[2])


# Pictures


def run_of_a_day() -> list[Curve]:
    """A loss with a spike, every ten steps, and an evaluation every 2,000."""
    values = falling(4198, noise=0.08)
    values[3811] = 4.9
    held = [2.3 + 3.5 * math.exp(-n / 2) for n in range(1, 21)]
    return [
        replace(curve(held, "eval/loss", "color(229)", every=2000, first=2000), smooth=False),
        curve(values, "train/loss", "color(215)", every=10),
    ]


PICTURES = {
    "60x8": (View(smoothing=0.6), {}),
    "80x11": (View(smoothing=0.9, marks=((38_110, "color(203)"),)), {}),
    "100x15": (View(smoothing=0.9, log_y=True, cursor=20_000), {}),
    "80x11 zoomed": (View(x0=37_900, x1=38_300, robust=False), {}),
    "80x11 ascii": (View(smoothing=0.6), {"ascii": True, "colour": False}),
}


SHOWN = {
    "60x8": """\
6┤⢆
 │⠈⡆
 │ ⠘⡄                                       ⡆
4┤  ⠙⢄⡀                                     ⡇
 │   ⠈⠳⡤⡀                                   ⡇
 │     ⠈⠙⠳⢦⣤⢄⣀⡀⡀                            ⡇     eval/loss
2┤        ⠈⠉⠉⠉⠉⠛⠛⠛⠛⠛⠛⠒⠒⠒⠒⠖⠶⠒⠲⠒⠒⠲⠒⠒⠖⠒⠒⠒⠖⠲⠒⠒⠒⠒⠒⠖⠒⠒⠤ train/loss
 └ 0 ─────────────── 20,000 ────────────── 41,970""",
    "80x11": """\
6┤⢆
 │⠈⡆
 │ ⠸⡀
5┤  ⠱⡀                                                        ⢰
 │  ⠈⠳⡀                                                       ⢸
4┤   ⠈⠘⢦⡀                                                     ⢸
 │     ⠙⠙⢦⣀                                                   ⢸
3┤       ⠙⠑⠵⣢⢄⡀                                               ⢸
 │         ⠈⠙⠉⠚⠫⠵⣒⣢⣤⣤⠤⣀⣀⣀⣀⣀⣀⣀⣀⡀⡀⣀⡄⡀⢀⢀⢀⣄⣀⡀⣀⡀⡀⢀⣀⣀⢀⣀⣀⣀⣀⣀⣀⢀⣀⣀⣀⢀⡀⣀ ⣸⡀⣄⡀⣀⣀⣀ eval/loss
2┤              ⠁⠉⠙⠙⠛⠉⠉⠉⠉⠉⠉⠊⠉⠉⠉⠛⠛⠛⠛⠛⠛⠛⠛⠋⠛⠛⠛⠛⠛⠛⠛⠛⠛⠛⠛⠛⠛⠛⠛⠛⠛⠛⠛⠛⠛⠛▲⠛⠛⠛⠒⠒⠒ train/loss
 └ 0 ──────────────────────── 20,000 ───────────────────────── 41,970""",
    "100x15": """\
6┤⢢⡀                                       ┊
 │⠈⢣⡀                                      ┊
5┤ ⠘⢣⡀                                     ┊
 │  ⠈⠱⡀                                    ┊                                    ⢸
 │   ⠘⠳⡄                                   ┊                                    ⢸
4┤    ⠈⠈⢦⡀                                 ┊                                    ⢸
 │      ⠙⠳⣄⡀                               ┊                                    ⢸
 │       ⠉⠈⠳⡢⡀                             ┊                                    ⢸
3┤         ⠋⠑⢌⠢⢄                           ┊                                    ⢸
 │          ⠁⠻⠉⠢⢍⡒⢄⣀                       ┊                                    ⢸
 │             ⠙⠻⠈⠒⠤⣉⠒⠢⠤⢄⣀⣄⢀⡀              ┊                                    ⢸
 │               ⠈⠹⠙⢿⠉⠑⠒⠢⠤⠭⣉⣉⡒⡒⠒⠢⠤⠤⠤⠤⠤⠤⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣰⣄⣆⣤ eval/loss
 │                   ⠈⠉⠹⠋⠻⢿⢻⠿⠈⠈⠉⠉⠉⠑⠊⠑⠑⠒⠑⠒⠒⠒⠒⠢⠤⠢⠔⠔⠔⠒⠢⠢⠒⠒⠒⠢⠔⠒⠒⠒⠤⠢⠒⠒⠒⠢⠒⠢⠤⠒⠔⠔⠒⠒⠤⠒⠔⠒⠢⠊⠒⠤⠒⠒⠔⠤⠢⠤ train/loss
2┤                         ⠈ ⠈⠈⠈⠟⠁⠈ ⠉⠈ ⠉⢹⠛⠃⠁⠛⠻⢻⠹⠁⠙⠉⠉⠏⠋⠙⠙⠛⠁⠋⠏⠛⠛⠛⠉⠉⠛⠙⠉⠸⠛⠙⡿⠟⠹⠙⠏⠙⠏⠻⠟⠋⠋⠙⠟⠋⠏⠟⠛⠃
 └ 0 ───────────── 10,000 ───────────── 20,000 ──────────── 30,000 ─────────────── 41,970""",
    "80x11 zoomed": """\
 │                                   ⡇
 │                                  ⢰⡇
 │                                  ⢸⢱
4┤                                  ⡸⢸
 │                                  ⡇⢸
 │                                  ⡇ ⡇
3┤                                  ⡇ ⡇
 │                                 ⢰⠁ ⡇
 │             ⣠    ⢀              ⢸  ⢸                               eval/loss
 │⠙⠛⠫⠭⠝⠛⠭⠭⠝⠛⠙⠛⠋⠉⠫⣉⠭⠝⠉⠙⠛⠛⠛⠉⠛⠫⠭⠝⠉⠙⠛⠛⠛⠛⠉⠉⠹⠭⠭⣉⡩⠋⠙⠛⠛⠫⢍⣉⡩⠭⠝⠛⠛⠛⠛⠫⠭⠝⠉⠛⠋⠉⠉⠛⠫⠭⠭ train/loss
 └ 37,900 ──── 38,000 ───────── 38,100 ───────── 38,200 ────── 38,300""",
    "80x11 ascii": """\
 |.
6++.
 | +.
5+  +.                                                        .
 |   +*.                                                      .
4+   ..*.                                                     .
 |     .++*.                                                  .
3+       .+*++***                                             .
 |          ..++++**++**++**++**++***+**++**++**++**+***++***+**++.+. eval/loss
2+                . ...............++..............+.+.+...++..+..+.+ train/loss
 + 0 ------------------------ 20,000 ------------------------- 41,970""",
}


@pytest.mark.parametrize("name", PICTURES)
def test_chart_matches_the_stored_picture(name):
    view, how = PICTURES[name]
    width, height = map(int, name.split()[0].split("x"))
    lines = plain(draw(run_of_a_day(), view, width, height, **how)).split("\n")
    assert [line.rstrip() for line in lines] == SHOWN[name].split("\n")


def test_a_faint_curve_is_dim_and_changes_no_style_of_the_others():
    earlier = replace(curve([4.0] * 20, "attempt 1", "dim red"), faint=True)
    alone = draw([curve([1.0] * 20)], View(y0=0, y1=5), 40, 8, colour=False)
    both = draw([earlier, curve([1.0] * 20)], View(y0=0, y1=5), 40, 8, colour=False)
    assert {style for line in both for text, style in line if any("⠀" < c <= "⣿" for c in text)} == {"dim", ""}
    assert {style for line in alone for text, style in line if any("⠀" < c <= "⣿" for c in text)} == {""}
    shown = plain(draw([earlier, curve([1.0] * 20)], View(y0=0, y1=5), 40, 8, ascii=True, colour=False))
    assert "." in shown and "*" in shown


@pytest.mark.parametrize("ascii", [False, True])
def test_of_two_curves_in_the_same_cells_neither_vanishes_over_a_long_stretch(ascii):
    dots = Dots(40, 1, ascii=ascii)
    rows = (0, 0) if ascii else (1, 2)
    for row, style in zip(rows, ("red", "blue"), strict=True):
        dots.strokes([row] * 40 * dots.across, [row] * 40 * dots.across, dots.pen(style, style[0]))
    runs = dots.line(0)
    assert {style for _, style in runs} == {"red", "blue"}
    assert max(len(text) for text, _ in runs) <= 2, runs


@pytest.mark.parametrize("order", [("dim", "blue"), ("blue", "dim")])
@pytest.mark.parametrize("ascii", [False, True])
def test_a_faint_pen_never_sets_the_style_of_a_cell_that_has_another_pen(ascii, order):
    dots = Dots(40, 1, ascii=ascii)
    for row, style in zip((0, 0) if ascii else (1, 2), order, strict=True):
        dots.strokes([row] * 40 * dots.across, [row] * 40 * dots.across, dots.pen(style, "*", faint=style == "dim"))
    assert {style for _, style in dots.line(0)} == {"blue"}
