"""Strips below a chart: one more curve each, such as the learning rate, over the same x and in a few rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

from rich.cells import cell_len, set_cell_size

from tdiff.draw.axes import FRAME
from tdiff.draw.curve_strokes import column_ends, curve_strokes
from tdiff.draw.curves import ChartLayout, Curve, View, ranges
from tdiff.draw.dots import Dots
from tdiff.draw.render import Line
from tdiff.series.series import Series


@dataclass(frozen=True, slots=True)
class Strip:
    """A curve with its name and its newest value."""

    curve: Curve
    label: str
    value: str


class _Drawn(NamedTuple):
    """A strip between its axis and its value, with what it was made of."""

    series: Series
    geometry: tuple[object, ...]
    end: float
    """The end of x."""
    newest: float
    """The x of the newest value."""
    leaves: int
    broken: int
    low: float
    high: float
    lines: list[Line]
    label: int
    """Cells of the name in the first line."""


class StripCache:
    """The strips of a view, drawn anew only once new values move a curve by half a dot, or leave its range.

    Most redraws come with one more record among thousands, or with a move of the cursor.
    """

    def __init__(self) -> None:
        self._drawn: dict[str, _Drawn] = {}

    def drawn(self, strip: Strip, view: View, frame: ChartLayout, height: int, *, ascii: bool, colour: bool) -> _Drawn:
        """The strip without a cursor."""
        curve, x = strip.curve, frame.x
        clock = None if curve.clock is None else id(curve.clock)
        of_frame = (frame.left, frame.columns, frame.across, frame.down, height, ascii, colour)
        geometry = (*of_frame, x.low, x.log, view.robust, curve.style, curve.origin, clock)
        known = self._drawn.get(strip.label)
        if known is None or known.geometry != geometry or not _is_current(known, curve, frame):
            known = self._drawn[strip.label] = _draw(strip, view, frame, height, geometry, ascii=ascii, colour=colour)
        return known


def draw_strip(
    strip: Strip,
    view: View,
    frame: ChartLayout,
    height: int,
    *,
    ascii: bool,
    colour: bool,
    cache: StripCache | None = None,
) -> list[Line]:
    """The strip as exactly `height` lines, in the columns of the chart with this layout.

    Its y axis follows the values in view and has no labels. The name is at the left of the first row, and the value at
    the right of the last one where there is room. `cache` belongs to a view that draws its strips again and again.
    """
    drawn = (cache or StripCache()).drawn(strip, view, frame, height, ascii=ascii, colour=colour)
    cursor = None if view.cursor is None else frame.column_of(view.cursor)
    label = strip.label if _is_outside(strip, frame) else ""
    value = strip.value if cell_len(strip.value) <= frame.right - 1 else ""
    lines = []
    for row, body in enumerate(drawn.lines):
        left = (label if row == 0 else "").rjust(frame.left - 1) + ("|" if ascii else "│")
        right = set_cell_size(f" {value}" if row == height - 1 else "", frame.right)
        if cursor is not None and cursor - frame.left >= (drawn.label if row == 0 else 0):
            body = _with_cursor(body, cursor - frame.left, ":" if ascii else "┊")
        lines.append([*([(left, FRAME)] if frame.left else ()), *body, *([(right, FRAME)] if frame.right else ())])
    return lines


def _is_outside(strip: Strip, frame: ChartLayout) -> bool:
    """Whether the name is left of the axis, rather than over the curve."""
    return cell_len(strip.label) <= frame.left - 1


def _is_current(known: _Drawn, curve: Curve, frame: ChartLayout) -> bool:
    """Whether a curve that was drawn before is, to half a dot, the one that would be drawn now."""
    series, x = curve.series, frame.x
    count = len(series.steps)
    half_a_dot = 0.5 * (known.end - x.low) / max(1, frame.columns * frame.across)
    if known.series is not series or count < known.leaves or len(series.broken) != known.broken or x.log:
        return False
    if not 0 <= x.high - known.end <= half_a_dot or not count:
        return False
    if min(curve.x(series.steps[-1]), x.high) - min(known.newest, known.end) > half_a_dot:
        return False
    span = series.span(max(0, known.leaves - 1), count)
    margin = 0.5 * (known.high - known.low) / max(1, len(known.lines) * frame.down)
    return span is None or (known.low - margin <= span[0] and span[1] <= known.high + margin)


def _draw(
    strip: Strip,
    view: View,
    frame: ChartLayout,
    height: int,
    geometry: tuple[object, ...],
    *,
    ascii: bool,
    colour: bool,
) -> _Drawn:
    curve, x = strip.curve, frame.x
    _, _, low, high = ranges([curve], replace(view, x0=x.low, x1=x.high, y0=None, y1=None, log_y=False, levels=()))
    own = replace(frame, y=replace(frame.y, low=low, high=high, log=False), rows=height)
    dots = Dots(frame.columns, height, ascii=ascii)
    if curve.series.steps:
        drawn = curve_strokes(curve, column_ends(curve, own), own, 0.0)
        dots.strokes(*drawn, dots.pen(curve.style if colour else "", "*"))
    label = ""
    if not _is_outside(strip, frame) and cell_len(strip.label) + 1 < frame.columns // 2:
        label = f"{strip.label} "
    for n, character in enumerate(label):
        dots.put(0, n, character, FRAME)
    return _Drawn(
        series=curve.series,
        geometry=geometry,
        end=x.high,
        newest=curve.x(curve.series.steps[-1]) if curve.series.steps else x.low,
        leaves=len(curve.series.steps),
        broken=len(curve.series.broken),
        low=low,
        high=high,
        lines=[dots.line(row) for row in range(height)],
        label=len(label),
    )


def _with_cursor(line: Line, column: int, character: str) -> Line:
    """The line with a cursor in one of its columns, each of one cell; a cell that is drawn is reversed instead."""
    found: Line = []
    begin = 0
    for text, style in line:
        at = column - begin
        if 0 <= at < len(text):
            cell = (character, "") if text[at] == " " else (text[at], f"{style} reverse".strip())
            found += [part for part in ((text[:at], style), cell, (text[at + 1 :], style)) if part[0]]
        else:
            found.append((text, style))
        begin += len(text)
    return found
