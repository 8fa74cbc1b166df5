"""Curves as lines of braille, or of plain characters: pure functions of series and a view.

Each column of dots shows the range of all values that fall into it, so that a spike of one step stays visible among
a million. It is independent of metrics, runs, keys and widgets.
"""

from __future__ import annotations

from collections.abc import Sequence

from tdiff.draw.axes import FRAME, Cell, x_line
from tdiff.draw.curves import ChartLayout, Curve, View, layout, leaves
from tdiff.draw.dots import Dots, joined
from tdiff.draw.render import Line
from tdiff.draw.strokes import Strokes, bounds, strokes

_LOW = 3
"""A chart with at most this many rows does not hide the raw curve behind the smoothed one: they may share all cells."""
_PLAIN = ("", "bold", "dim", "bold")
"""Styles of curves without colour; a letter at the right end distinguishes them as well."""
_GLYPHS = "*+o#"
"""Characters of curves without braille."""


def letters(curves: Sequence[Curve]) -> list[str]:
    """A letter for each curve: the first of its label, in the other case if a later curve has the same.

    If these letters are not distinct, they are A, B, C and so on.
    """
    first = [curve.label[:1] for curve in curves]
    initials = [letter.swapcase() if letter in first[n + 1 :] else letter for n, letter in enumerate(first)]
    if len(set(initials)) == len(initials) and all(letter.isascii() and letter.isalnum() for letter in initials):
        return initials
    return [chr(ord("A") + n % 26) for n in range(len(curves))]


def draw(
    curves: Sequence[Curve], view: View, width: int, height: int, *, ascii: bool = False, colour: bool = True
) -> list[Line]:
    """The chart as exactly `height` lines of exactly `width` cells; the last of several lines is the x axis.

    Without colour, curves differ by weight and by the letter at their right end.
    """
    if width < 1 or height < 1:
        return [[] for _ in range(height)]
    frame = layout(curves, view, width, height, ascii=ascii, colour=colour)
    dots = Dots(frame.columns, frame.rows, ascii=ascii)
    faint = sum(curve.faint for curve in curves)
    plain = ["dim"] * faint + [_PLAIN[n % len(_PLAIN)] for n in range(len(curves) - faint)]
    styles = [curve.style for curve in curves] if colour else plain
    ends = [_ends(curve, frame) for curve in curves]
    for curve, style, leaf_ends in zip(curves, styles, ends, strict=True):
        if view.smoothing and view.ghost and curve.smooth and not curve.faint:
            pen = dots.pen(_with("dim", style), ".", behind=frame.rows > _LOW)
            dots.strokes(*_strokes(curve, leaf_ends, frame, dots, 0.0), pen)
    names: dict[int, Cell] = {}
    for n, (curve, style, leaf_ends) in enumerate(zip(curves, styles, ends, strict=True)):
        drawn = _strokes(curve, leaf_ends, frame, dots, view.smoothing if curve.smooth else 0.0)
        glyph = "," if curve.faint else _GLYPHS[(n - faint) % len(_GLYPHS)]
        dots.strokes(*drawn, dots.pen(style, glyph))
        if frame.right:
            _name(names, drawn, dots, letters(curves)[n], style)
        _break(curve, view, frame, dots, "x" if ascii else "✗", _with("bold", style))
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
        lines.append(_framed(left, dots.line(row), names.get(row, (" ", "")), frame))
    return [*lines, _framed(corner.rjust(frame.left), axis, (" ", ""), frame)] if height > 1 else lines


def _framed(left: str, middle: Line, right: Cell, frame: ChartLayout) -> Line:
    return [*([(left, FRAME)] if frame.left else ()), *middle, *([(" ", ""), right] if frame.right else ())]


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


def _ends(curve: Curve, frame: ChartLayout) -> list[int]:
    """The ends of the leaves in each column of dots."""
    dots = frame.columns * frame.across
    if not dots:
        return [0]
    shares = [(n - 0.5) / max(1, dots - 1) for n in range(dots + 1)]
    x = frame.x
    if x.log or curve.clock is not None:
        edges = [curve.step(x.value(share)) for share in shares]
    else:
        edges = [x.low + share * (x.high - x.low) for share in shares]
    ends = bounds(curve.series.steps, edges)
    ends[-1] = max(ends[-1], leaves(curve, x)[1])
    return ends


def _strokes(curve: Curve, ends: list[int], frame: ChartLayout, dots: Dots, weight: float) -> Strokes:
    across, down = max(1, dots.columns * dots.across - 1), dots.rows * dots.down
    x, y = frame.x, frame.y

    def column(step: float) -> float:
        return x.share(curve.x(step)) * across

    if y.log:

        def row(value: float) -> float:
            return (1 - y.share(value)) * (down - 1)
    else:
        dense = (down - 1) / (y.high - y.low)

        def row(value: float) -> float:
            return (y.high - value) * dense

    return strokes(curve.series, ends, column, row, down, weight, y.log)


def _name(names: dict[int, Cell], drawn: Strokes, dots: Dots, letter: str, style: str) -> None:
    """Put the curve's letter beside its right end, or in the nearest free row."""
    last = next((n for n in reversed(range(len(drawn[0]))) if drawn[0][n] <= drawn[1][n]), None)
    if last is None:
        return
    row = (drawn[0][last] + drawn[1][last]) // 2 // dots.down
    free = min((r for r in range(dots.rows) if r not in names), key=lambda r: abs(r - row), default=None)
    if free is not None:
        names[free] = (letter, style)


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
