"""Curves as lines of braille, or of plain characters: pure functions of series and a view.

Each column of dots draws all values from the lowest to the highest that fall into it, so that a spike of one step
stays visible among a million. It knows nothing of metrics, runs, keys or widgets.
"""

from __future__ import annotations

from collections.abc import Sequence

from tdiff.draw.axes import FRAME, Cell, x_line
from tdiff.draw.curves import ChartLayout, Curve, View, layout, leaves
from tdiff.draw.dots import Dots, joined
from tdiff.draw.render import Line
from tdiff.draw.strokes import Strokes, bounds, strokes

_LOW = 3
"""In a chart of so few rows the raw curve may lie wholly in the cells of the smoothed one, and is not hidden there."""
_PLAIN = ("", "bold", "dim", "bold")
"""Styles of curves where there is no colour; a letter at the right end tells them apart as well."""
_GLYPHS = "*+o#"
"""Of curves where there is no braille."""


def letters(curves: Sequence[Curve]) -> list[str]:
    """A letter for each curve: the first of its label, in the other case where a later curve has the same.

    Where that does not tell them apart, they are A, B, C from the first on.
    """
    first = [curve.label[:1] for curve in curves]
    told = [letter.swapcase() if letter in first[n + 1 :] else letter for n, letter in enumerate(first)]
    if len(set(told)) == len(told) and all(letter.isascii() and letter.isalnum() for letter in told):
        return told
    return [chr(ord("A") + n % 26) for n in range(len(curves))]


def draw(
    curves: Sequence[Curve], view: View, width: int, height: int, *, ascii: bool = False, colour: bool = True
) -> list[Line]:
    """The chart as exactly `height` lines of exactly `width` cells; the last of several lines is the x axis.

    Without colour no style holds one: curves then differ by weight and by the letter at their right end.
    """
    if width < 1 or height < 1:
        return [[] for _ in range(height)]
    place = layout(curves, view, width, height, ascii=ascii, colour=colour)
    dots = Dots(place.columns, place.rows, ascii=ascii)
    styles = [curve.style if colour else _PLAIN[n % len(_PLAIN)] for n, curve in enumerate(curves)]
    ends = [_ends(curve, place) for curve in curves]
    for curve, style, own in zip(curves, styles, ends, strict=True):
        if view.smoothing and view.ghost and curve.smooth:
            pen = dots.pen(_with("dim", style), ".", behind=place.rows > _LOW)
            dots.strokes(*_strokes(curve, own, place, dots, 0.0), pen)
    names: dict[int, Cell] = {}
    for n, (curve, style, own) in enumerate(zip(curves, styles, ends, strict=True)):
        drawn = _strokes(curve, own, place, dots, view.smoothing if curve.smooth else 0.0)
        dots.strokes(*drawn, dots.pen(style, _GLYPHS[n % len(_GLYPHS)]))
        if place.right:
            _name(names, drawn, dots, letters(curves)[n], style)
        _break(curve, view, place, dots, "x" if ascii else "✗", _with("bold", style))
    axis = _axis(curves, view, place, dots, colour) if height > 1 else []
    cursor = place.column_of(view.cursor) if view.cursor is not None else None
    if cursor is not None:
        dots.upright(cursor - place.left, ":" if ascii else "┊", "")
    labels = dict(place.labels)
    tick, bar, corner = ("+", "|", "+") if ascii else ("┤", "│", "└")
    lines = []
    for row in range(place.rows):
        label = labels.get(row, "")
        left = label.rjust(place.left - 1) + (tick if label else bar)
        lines.append(_framed(left, dots.line(row), names.get(row, (" ", "")), place))
    return [*lines, _framed(corner.rjust(place.left), axis, (" ", ""), place)] if height > 1 else lines


def _framed(left: str, middle: Line, right: Cell, place: ChartLayout) -> Line:
    return [*([(left, FRAME)] if place.left else ()), *middle, *([(" ", ""), right] if place.right else ())]


def _axis(curves: Sequence[Curve], view: View, place: ChartLayout, dots: Dots, colour: bool) -> Line:
    """The x axis with its marks; one that meets a label stands above it."""
    marks = {}
    for x, style in view.marks:
        if (column := place.column_of(x)) is not None:
            marks[column - place.left] = ("^" if dots.ascii else "▲", style if colour else "bold")
    labels = any(curve.series.steps or curve.series.broken for curve in curves)
    note = _note(curves, place, dots.ascii)
    cells, above = x_line(place.x, place.columns, view.axis, marks, labels=labels, note=note, ascii=dots.ascii)
    for column in above:
        dots.put(dots.rows - 1, column, *marks[column])
    return joined(cells)


def _with(attribute: str, style: str) -> str:
    return f"{attribute} {style}".strip()


def _ends(curve: Curve, place: ChartLayout) -> list[int]:
    """The leaves in each column of dots, by their ends."""
    dots = place.columns * place.across
    if not dots:
        return [0]
    shares = [(n - 0.5) / max(1, dots - 1) for n in range(dots + 1)]
    x = place.x
    if x.log or curve.clock is not None:
        edges = [curve.step(x.value(share)) for share in shares]
    else:
        edges = [x.low + share * (x.high - x.low) for share in shares]
    found = bounds(curve.series.steps, edges)
    found[-1] = max(found[-1], leaves(curve, x)[1])
    return found


def _strokes(curve: Curve, ends: list[int], place: ChartLayout, dots: Dots, weight: float) -> Strokes:
    across, down = max(1, dots.columns * dots.across - 1), dots.rows * dots.down
    x, y = place.x, place.y

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
    """Stand the curve's letter beside its right end, or in the nearest row that is free."""
    last = next((n for n in reversed(range(len(drawn[0]))) if drawn[0][n] <= drawn[1][n]), None)
    if last is None:
        return
    row = (drawn[0][last] + drawn[1][last]) // 2 // dots.down
    free = min((r for r in range(dots.rows) if r not in names), key=lambda r: abs(r - row), default=None)
    if free is not None:
        names[free] = (letter, style)


def _break(curve: Curve, view: View, place: ChartLayout, dots: Dots, character: str, style: str) -> None:
    """Mark on the curve the steps whose value was not finite."""
    series = curve.series
    values = series.smoothed(view.smoothing if curve.smooth else 0.0)
    before = None
    for step in series.broken:
        column = place.column_of(curve.x(step))
        if column is None or column == before:
            continue
        before = column
        row = dots.rows - 1
        if values:
            share = 1 - place.y.share(values[max(0, series.index(step) - 1)])
            row = int(min(1.0, max(0.0, share)) * (dots.rows - 1) + 0.5)
        dots.put(row, column - place.left, character, style)


def _note(curves: Sequence[Curve], place: ChartLayout, ascii: bool) -> str:
    """What the x axis is to say of values that cannot be shown."""
    spans = (curve.series.span(*leaves(curve, place.x)) for curve in curves) if place.y.log else ()
    hidden = any(span is not None and span[0] <= 0 for span in spans)
    return f"values {'<=' if ascii else '≤'} 0 left out" if hidden else ""
