"""Curves as lines of braille, or of plain characters: pure functions of series and a view.

Each column of dots shows the range of all values that fall into it, so that a spike of one step stays visible among
a million. It is independent of metrics, runs, keys and widgets.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import set_cell_size

from tdiff.draw import end_labels
from tdiff.draw.axes import FRAME, Cell, x_line
from tdiff.draw.curve_strokes import column_ends, curve_strokes, outside
from tdiff.draw.curves import ChartLayout, Curve, View, layout, leaves
from tdiff.draw.dots import Dots, joined
from tdiff.draw.render import Line
from tdiff.draw.strokes import Strokes

_LOW = 3
"""A chart with at most this many rows does not hide the raw curve behind the smoothed one: they may share all cells."""
_PLAIN = ("", "bold", "dim", "bold")
"""Styles of curves without colour; the labels at their right ends distinguish them as well."""
_GLYPHS = "*+o#"
"""Characters of curves without braille."""


def draw(
    curves: Sequence[Curve],
    view: View,
    width: int,
    height: int,
    *,
    ascii: bool = False,
    colour: bool = True,
    frame: ChartLayout | None = None,
) -> list[Line]:
    """The chart as exactly `height` lines of exactly `width` cells; the last of several lines is the x axis.

    Where there are several curves, each has its label at its right end. Without colour, curves differ by weight too.
    `frame` is the result of `layout` with the same arguments, where the caller knows it.
    """
    if width < 1 or height < 1:
        return [[] for _ in range(height)]
    frame = frame or layout(curves, view, width, height, ascii=ascii)
    dots = Dots(frame.columns, frame.rows, ascii=ascii)
    numbers = _numbers(curves)
    styles = [curve.style if colour else _PLAIN[n % len(_PLAIN)] for n, curve in zip(numbers, curves, strict=True)]
    ends = [column_ends(curve, frame) for curve in curves]
    for curve, style, leaf_ends in zip(curves, styles, ends, strict=True):
        if curve.faint or (view.smoothing and view.ghost and curve.smooth):
            draw_faint(curve, leaf_ends, frame, dots, style)
    wanted: list[float | None] = []
    for n, (curve, style, leaf_ends) in enumerate(zip(curves, styles, ends, strict=True)):
        if curve.faint:
            wanted.append(None)
            continue
        drawn = curve_strokes(curve, leaf_ends, frame, view.smoothing if curve.smooth else 0.0)
        dots.strokes(*drawn, dots.pen(style, _GLYPHS[numbers[n] % len(_GLYPHS)]))
        wanted.append(_last_position(drawn, dots) if frame.names[n] else None)
        _break(curve, view, frame, dots, "x" if ascii else "✗", _with("bold", style))
        if view.y0 is None and view.y1 is None:  # else the user knows that the rest is out of view
            _mark_outside(curve, leaf_ends, frame, dots, _with("bold", style))
    names: dict[int, Cell] = {}
    for n, row in enumerate(end_labels.rows_of(wanted, frame.rows)):
        if row is not None:
            names[row] = (frame.names[n], styles[n])
    for level in view.levels:
        _draw_level(level.value, level.label, level.style if colour else "", frame, dots)
    axis = _axis(curves, view, frame, dots, colour) if height > 1 else []
    cursor = frame.column_of(view.cursor) if view.cursor is not None else None
    if cursor is not None:
        dots.upright(cursor - frame.left, ":" if ascii else "┊", "")
    labels = dict(frame.labels)
    tick, bar, corner = ("+", "|", "+") if ascii else ("┤", "│", "└")
    lines = []
    for row in range(frame.rows):
        label = labels.get(row, "")
        left = label.rjust(frame.left - 1) + (tick if label else bar)
        lines.append(_framed(left, dots.line(row), names.get(row, ("", "")), frame))
    return [*lines, _framed(corner.rjust(frame.left), axis, ("", ""), frame)] if height > 1 else lines


def _numbers(curves: Sequence[Curve]) -> list[int]:
    """The number of each curve, from 0; a faint one has that of the next curve, which it does not change."""
    return [sum(not curve.faint for curve in curves[:n]) for n in range(len(curves))]


def draw_faint(curve: Curve, ends: list[int], frame: ChartLayout, dots: Dots, style: str) -> None:
    """Draw the values of a curve dim, and behind every curve that is drawn later, where there are rows enough."""
    pen = dots.pen(_with("dim", style), ".", behind=frame.rows > _LOW, faint=True)
    dots.strokes(*curve_strokes(curve, ends, frame, 0.0), pen)


def _framed(left: str, middle: Line, right: Cell, frame: ChartLayout) -> Line:
    name: Line = []
    if frame.right:
        text, style = right
        padded = set_cell_size(text, frame.right - 1)
        name = [(" ", ""), (padded, style)] if text else [(" " * frame.right, "")]
    return [*([(left, FRAME)] if frame.left else ()), *middle, *name]


def _axis(curves: Sequence[Curve], view: View, frame: ChartLayout, dots: Dots, colour: bool) -> Line:
    """The x axis with its marks; a mark that meets a label is drawn above the axis."""
    marks = {}
    for x, style in view.marks:
        if (column := frame.column_of(x)) is not None:
            marks[column - frame.left] = ("^" if dots.ascii else "▲", style if colour else "bold")
    labels = any(curve.series.steps or curve.series.broken for curve in curves)
    note = _note(curves, frame, dots.ascii)
    cells, above = x_line(frame.x, frame.columns, view.axis, marks, labels=labels, note=note, ascii=dots.ascii)
    for column in above:
        dots.put(dots.rows - 1, column, *marks[column])
    return joined(cells)


def _with(attribute: str, style: str) -> str:
    return f"{attribute} {style}".strip()


def _last_position(drawn: Strokes, dots: Dots) -> float | None:
    """The position of the right end of a curve, in rows of cells; None if nothing of it is in view."""
    tops, bottoms = drawn
    last = next((n for n in reversed(range(len(tops))) if tops[n] <= bottoms[n]), None)
    return None if last is None else (tops[last] + bottoms[last]) / 2 / dots.down


def _mark_outside(curve: Curve, ends: list[int], frame: ChartLayout, dots: Dots, style: str) -> None:
    """Mark at the upper and the lower edge the columns in which values lie outside of the y axis."""
    above, below = outside(curve, ends, frame)
    for column in above:
        dots.put(0, column, "^" if dots.ascii else "▲", style)
    for column in below:
        dots.put(dots.rows - 1, column, "v" if dots.ascii else "▼", style)


def _draw_level(value: float, label: str, style: str, frame: ChartLayout, dots: Dots) -> None:
    """Draw a line at a value behind the curves, with its label at the left; where it is out of view, only the label."""
    share = 1 - frame.y.share(value)
    size = dots.rows * dots.down - 1
    row = int(min(1.0, max(0.0, share)) * size + 0.5) // dots.down
    inside = -0.5 <= share * size < size + 0.5
    if inside:
        dots.level(row, "-" if dots.ascii else "┄", _with("dim", style))
    else:
        label += " ^" * (share < 0) + " v" * (share > 1) if dots.ascii else " ▲" * (share < 0) + " ▼" * (share > 1)
    text = f" {label} "
    if label and len(text) <= dots.columns // 2:
        begin = dots.free(row, len(text))
        for n, character in enumerate(text):
            dots.put(row, begin + n, character, style)


def _break(curve: Curve, view: View, frame: ChartLayout, dots: Dots, character: str, style: str) -> None:
    """Mark on the curve the steps whose value is not finite."""
    series = curve.series
    values = series.smoothed(view.smoothing if curve.smooth else 0.0)
    before = None
    for step in series.broken:
        column = frame.column_of(curve.x(step))
        if column is None or column == before:
            continue
        before = column
        row = dots.rows - 1
        if values:
            share = 1 - frame.y.share(values[max(0, series.index(step) - 1)])
            row = int(min(1.0, max(0.0, share)) * (dots.rows - 1) + 0.5)
        dots.put(row, column - frame.left, character, style)


def _note(curves: Sequence[Curve], frame: ChartLayout, ascii: bool) -> str:
    """The note on the x axis about values that cannot be shown; empty if there are none."""
    spans = (curve.series.span(*leaves(curve, frame.x)) for curve in curves) if frame.y.log else ()
    hidden = any(span is not None and span[0] <= 0 for span in spans)
    return f"values {'<=' if ascii else '≤'} 0 left out" if hidden else ""
