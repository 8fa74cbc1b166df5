"""The curves of runs as lines and texts with places in a picture, which `lines_svg` and `lines_png` draw.

Units are pixels from the upper left corner. A character takes a cell of `CELL` by `ROW`, so that captions break as in a
frame.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from rich.cells import cell_len

from tdiff.draw.axes import Scale, tick_labels, ticks, x_label
from tdiff.draw.curves import Curve, View, ranges
from tdiff.draw.render import Line
from tdiff.report.export.colours import RGB, THEMES, blend, colours
from tdiff.report.export.frames import Size
from tdiff.report.export.measures import BASELINE, MARGIN, ROW

CELL = 8.5
"""Width of a character's cell."""
_LINE, _THIN, _HAIR = 1.8, 0.9, 1.0
"""Widths of a curve, of its values behind the smoothed curve, and of axes."""
_DOT_RADIUS, _MOST_DOTS = 2.4, 60
"""Evaluations are marked by dots where there are at most so many of them."""
_LEAST_TICKS = 3
_Y_APART, _X_APART = 36, 110
"""Smallest distances between ticks where there is room for more than three."""
_LABEL_APART = 15


@dataclass(frozen=True, slots=True)
class Stroke:
    """Points that are joined by a line."""

    points: Sequence[tuple[float, float]]
    colour: RGB
    width: float


@dataclass(frozen=True, slots=True)
class Dot:
    """A filled circle."""

    x: float
    y: float
    radius: float
    colour: RGB


@dataclass(frozen=True, slots=True)
class Label:
    """A text on one line, whose baseline begins, is centred or ends at x."""

    x: float
    y: float
    text: str
    colour: RGB
    anchor: str = "start"
    """start, middle or end."""
    bold: bool = False


@dataclass(slots=True)
class Picture:
    """What is drawn, in this order: strokes, dots, labels."""

    width: int
    height: int
    background: RGB
    strokes: list[Stroke] = field(default_factory=list)
    dots: list[Dot] = field(default_factory=list)
    labels: list[Label] = field(default_factory=list)


def picture(
    curves: Sequence[Curve],
    strips: Sequence[tuple[str, Curve]],
    title: str,
    below: Sequence[Line],
    *,
    size: Size,
    strip_rows: int,
    smoothing: float,
    background: str,
) -> Picture:
    """The chart under its title, the strips with their names, and the lines of text below.

    `size` is in cells, and `strip_rows` are the rows of a strip without the row of its name.
    """
    view = View(smoothing=smoothing)
    theme = THEMES[background]
    plain = colours("", background)
    drawn = Picture(round(size.width * CELL) + 2 * MARGIN, size.height * ROW + 2 * MARGIN, plain.background)
    faint = blend(plain.text, plain.background, 0.45)
    drawn.labels.append(Label(MARGIN, MARGIN + BASELINE, title, _rgb(theme.foreground_color), bold=True))
    x0, x1, y0, y1 = ranges(curves, view)
    x, y = Scale(x0, x1), Scale(y0, y1)
    names = [curve.label for curve in curves] if len(curves) > 1 else []
    strip_height = (1 + strip_rows) * ROW
    bottom = MARGIN + (size.height - len(below)) * ROW - strip_height * len(strips)
    height = bottom - ROW - 8 - (MARGIN + 2 * ROW)
    values = _y_ticks(y, height)
    left = MARGIN + CELL * (max(map(len, tick_labels(y, values)), default=0) + 1)
    right = drawn.width - MARGIN - (CELL * (max(map(cell_len, names), default=0) + 1) if names else 0)
    area = Area(left, right, MARGIN + 2 * ROW, bottom - ROW - 8, x, y)
    _axes(drawn, area, values, faint)
    for curve in curves:
        _curve(drawn, area, curve, smoothing, background)
    _names(drawn, area, curves if names else [], smoothing, background)
    for number, (name, curve) in enumerate(strips):
        top = bottom + strip_height * number
        drawn.labels.append(Label(left, top + BASELINE, name, faint))
        _, _, low, high = ranges([curve], replace(view, x0=x0, x1=x1))
        own = Area(left, right, top + ROW + 4, top + strip_height - 6, x, Scale(low, high))
        drawn.strokes.append(Stroke([(own.left, own.top), (own.left, own.bottom)], faint, _HAIR))
        _curve(drawn, own, replace(curve, smooth=False, label=""), 0.0, background)
    for number, line in enumerate(below):
        at = MARGIN + (size.height - len(below) + number) * ROW + BASELINE
        column = 0
        for text, style in line:
            drawn.labels.append(Label(MARGIN + column * CELL, at, text, colours(style, background).text))
            column += cell_len(text)
    return drawn


@dataclass(frozen=True, slots=True)
class Area:
    """The part of a picture in which curves are drawn, and the scales along its sides."""

    left: float
    right: float
    top: float
    bottom: float
    x: Scale
    y: Scale

    def across(self, value: float) -> float:
        """The place of a value of x."""
        return self.left + self.x.share(value) * (self.right - self.left)

    def down(self, value: float) -> float:
        """The place of a value of y; values outside of the scale lie on the edge."""
        return self.bottom - min(1.0, max(0.0, self.y.share(value))) * (self.bottom - self.top)


def _y_ticks(y: Scale, height: float) -> list[float]:
    """Round values at even distances, at least three of them."""
    apart = _Y_APART / height
    values = ticks(y, apart)
    while len(values) < _LEAST_TICKS and apart > 0.01:
        apart /= 1.25
        values = ticks(y, apart)
    return values


def _axes(drawn: Picture, area: Area, values: Sequence[float], faint: RGB) -> None:
    grid = blend(faint, drawn.background, 0.72)
    for value, text in zip(values, tick_labels(area.y, values), strict=True):
        at = area.down(value)
        drawn.strokes.append(Stroke([(area.left, at), (area.right, at)], grid, _HAIR))
        drawn.labels.append(Label(area.left - CELL, at + 5, text, faint, "end"))
    corner = [(area.left, area.top), (area.left, area.bottom), (area.right, area.bottom)]
    drawn.strokes.append(Stroke(corner, faint, _HAIR))
    marks = ticks(area.x, _X_APART / (area.right - area.left))
    apart = min((b - a for a, b in pairwise(marks)), default=area.x.high - area.x.low)
    for value in marks:
        at, text = area.across(value), x_label(value, "step", apart)
        drawn.strokes.append(Stroke([(at, area.bottom), (at, area.bottom + 4)], faint, _HAIR))
        half = CELL * len(text) / 2
        at = min(max(at, area.left + half - CELL), area.right - half + CELL)
        drawn.labels.append(Label(at, area.bottom + 18, text, faint, "middle"))


def _curve(drawn: Picture, area: Area, curve: Curve, smoothing: float, background: str) -> None:
    """The values of a curve; where it is smoothed, thin behind the smoothed ones."""
    colour = colours(curve.style, background).text
    weight = smoothing if curve.smooth else 0.0
    if weight:
        pale = blend(colour, drawn.background, 0.6)
        drawn.strokes += [Stroke(points, pale, _THIN) for points in paths(curve, area, 0.0)]
    parts = paths(curve, area, weight)
    drawn.strokes += [Stroke(points, colour, _LINE) for points in parts if len(points) > 1]
    marked = not curve.smooth and curve.label and len(curve.series.steps) <= _MOST_DOTS
    for points in parts:
        if marked or len(points) == 1:  # a single value has no line
            drawn.dots += [Dot(x, y, _DOT_RADIUS, colour) for x, y in points]
    for step in curve.series.broken:
        values = curve.series.smoothed(weight)
        at = area.down(values[max(0, curve.series.index(step) - 1)]) if values else area.bottom
        if 0 <= area.x.share(curve.x(step)) <= 1:
            drawn.labels.append(Label(area.across(curve.x(step)), at + 5, "✗", colour, "middle", bold=True))


def paths(curve: Curve, area: Area, weight: float) -> list[list[tuple[float, float]]]:
    """The points of a curve in view; a part ends where a value is not finite, and a pixel has at most four points."""
    series = curve.series
    values = series.smoothed(weight)
    found: list[list[tuple[float, float]]] = []
    edges = [0, *(bisect_left(series.steps, step) for step in series.broken), len(series.steps)]
    for begin, end in pairwise(edges):
        points: list[tuple[float, float]] = []
        column: list[tuple[float, float]] = []
        for n in range(begin, end):
            x = curve.x(series.steps[n])
            if not -1e-9 <= area.x.share(x) <= 1 + 1e-9 or not math.isfinite(values[n]):
                continue
            point = (area.across(x), area.down(values[n]))
            if column and int(column[0][0]) != int(point[0]):
                points += _extremes(column)
                column = []
            column.append(point)
        points += _extremes(column)
        if points:
            found.append(points)
    return found


def _extremes(column: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The first, the highest, the lowest and the last of the points in one column of pixels, in their order."""
    if len(column) <= 4:
        return column
    ys = [y for _, y in column]
    return [column[n] for n in sorted({0, ys.index(min(ys)), ys.index(max(ys)), len(column) - 1})]


def _names(drawn: Picture, area: Area, curves: Sequence[Curve], smoothing: float, background: str) -> None:
    """The name of each curve beside its end; names that would overlap are moved apart."""
    ends = []
    for curve in curves:
        parts = paths(curve, area, smoothing if curve.smooth else 0.0)
        if parts:
            ends.append((parts[-1][-1][1], curve))
    ends.sort(key=lambda end: end[0])
    places = [y for y, _ in ends]
    for n in range(1, len(places)):
        places[n] = max(places[n], places[n - 1] + _LABEL_APART)
    over = max(0.0, places[-1] - area.bottom) if places else 0.0
    for n in range(len(places) - 1, -1, -1):  # moved up again where they would leave the chart
        limit = area.bottom if n == len(places) - 1 else places[n + 1] - _LABEL_APART
        places[n] = min(places[n], limit) if over else places[n]
    for place, (_, curve) in zip(places, ends, strict=True):
        drawn.labels.append(Label(area.right + CELL, place + 5, curve.label, colours(curve.style, background).text))


def _rgb(colour: tuple[int, ...]) -> RGB:
    red, green, blue = colour
    return red, green, blue
