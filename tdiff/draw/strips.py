"""Strips below a chart: one more curve each, such as the learning rate, over the same x and in a few rows."""

from __future__ import annotations

from dataclasses import dataclass, replace

from rich.cells import cell_len, set_cell_size

from tdiff.draw.axes import FRAME
from tdiff.draw.curve_strokes import column_ends, curve_strokes
from tdiff.draw.curves import ChartLayout, Curve, View, ranges
from tdiff.draw.dots import Dots
from tdiff.draw.render import Line


@dataclass(frozen=True, slots=True)
class Strip:
    """A curve with its name and its newest value."""

    curve: Curve
    label: str
    value: str


def draw_strip(strip: Strip, view: View, frame: ChartLayout, height: int, *, ascii: bool, colour: bool) -> list[Line]:
    """The strip as exactly `height` lines, in the columns of the chart with this layout.

    Its y axis follows the values in view and has no labels. The name is at the left of the first row, and the value at
    the right of the last one where there is room.
    """
    x = frame.x
    _, _, low, high = ranges(
        [strip.curve], replace(view, x0=x.low, x1=x.high, y0=None, y1=None, log_y=False, levels=())
    )
    own = replace(frame, y=replace(frame.y, low=low, high=high, log=False), rows=height)
    dots = Dots(frame.columns, height, ascii=ascii)
    if strip.curve.series.steps:
        drawn = curve_strokes(strip.curve, column_ends(strip.curve, own), own, 0.0)
        dots.strokes(*drawn, dots.pen(strip.curve.style if colour else "", "*"))
    if view.cursor is not None and (column := frame.column_of(view.cursor)) is not None:
        dots.upright(column - frame.left, ":" if ascii else "┊", "")
    room = frame.left - 1
    label = strip.label if cell_len(strip.label) <= room else ""
    if not label and cell_len(strip.label) + 1 < frame.columns // 2:
        for n, character in enumerate(f"{strip.label} "):
            dots.put(0, n, character, FRAME)
    value = strip.value if cell_len(strip.value) <= frame.right - 1 else ""
    lines = []
    for row in range(height):
        left = (label if row == 0 else "").rjust(room) + ("|" if ascii else "│")
        right = set_cell_size(f" {value}" if row == height - 1 else "", frame.right)
        lines.append(
            [*([(left, FRAME)] if frame.left else ()), *dots.line(row), *([(right, FRAME)] if frame.right else ())]
        )
    return lines
