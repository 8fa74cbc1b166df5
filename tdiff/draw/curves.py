"""Curves and views of them: ranges, the layout of a chart and readout, as pure functions.

It computes positions; drawing is in `chart`, zoom and pan in `zoom`.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len

from tdiff.draw import end_labels
from tdiff.draw.ascii_only import ascii_text
from tdiff.draw.axes import Axis, Scale, scale, tick_labels, ticks
from tdiff.draw.limits import robust_span
from tdiff.series.series import LIMIT, Series

Ranges = tuple[float, float, float, float]
"""x0, x1, y0, y1; x0 < x1 and y0 < y1."""

_ROWS_APART = 1.9
_MOST_LABELS = 10


@dataclass(frozen=True, slots=True)
class Curve:
    """A series to draw. Later curves lie on top of earlier ones."""

    series: Series
    style: str
    label: str
    clock: Series | None = None
    """Maps a step to x if x is not the step; it must not decrease."""
    origin: float = 0.0
    """Subtracted from the clock, or from the step: the start of the run, if x counts from there."""
    smooth: bool = True
    """False: never smoothed, as evaluations, of which there are few and each is significant."""
    faint: bool = False
    """Drawn dim behind the others, without a label and without a readout: an earlier attempt of a run."""

    def x(self, step: float) -> float:
        """The x of a step."""
        if self.clock is None or not self.clock.steps:
            return step - self.origin
        return _between(step, self.clock.steps, self.clock.high) - self.origin

    def step(self, x: float) -> float:
        """The step at x; infinite beyond the ends of the clock."""
        x += self.origin
        if self.clock is None or not self.clock.steps:
            return x
        if x < self.clock.high[0] or x > self.clock.high[-1]:
            return -math.inf if x < self.clock.high[0] else math.inf
        return _between(x, self.clock.high, self.clock.steps)


def _between(x: float, xs: array[float], values: array[float]) -> float:
    """The value at `x` on the line through points with rising `xs`; constant beyond its ends."""
    right = bisect_left(xs, x)
    if right in (0, len(xs)):
        return values[min(right, len(xs) - 1)]
    before, after = xs[right - 1], xs[right]
    share = (x - before) / (after - before) if after > before else 1.0
    return values[right - 1] + share * (values[right] - values[right - 1])


@dataclass(frozen=True, slots=True)
class Level:
    """A horizontal line at a value, such as a target."""

    value: float
    label: str
    style: str


@dataclass(frozen=True, slots=True)
class View:
    """The visible part of the data, and how it is shown. An end that is None follows the data."""

    x0: float | None = None
    x1: float | None = None
    y0: float | None = None
    y1: float | None = None
    log_x: bool = False
    log_y: bool = False
    smoothing: float = 0.0
    """Weight of the past in the bright curve, 0 to 0.999; 0 draws the values themselves."""
    ghost: bool = True
    """Whether the values are drawn dim behind a smoothed curve. Without them a spike may be invisible."""
    cursor: float | None = None
    """x of a vertical line."""
    marks: tuple[tuple[float, str], ...] = ()
    """(x, style) of alerts, on the x axis."""
    axis: Axis = "step"
    """The quantity on the x axis, for its labels."""
    robust: bool = True
    """Whether an end of y that follows the data leaves out outliers, which are then marked at the edge."""
    levels: tuple[Level, ...] = ()
    """Lines across the chart. Those near the data extend the y axis."""


@dataclass(frozen=True, slots=True)
class ChartLayout:
    """The layout of a drawn chart, in cells of the screen."""

    x: Scale
    y: Scale
    left: int
    """Cells of the labels and the y axis."""
    columns: int
    """Width in cells of the area in which curves are drawn."""
    rows: int
    """Height in cells of the area in which curves are drawn."""
    right: int
    """Cells of the labels of the curves, with a blank before them; 0 if they have none."""
    labels: tuple[tuple[int, str], ...]
    """(row, text) of the y axis."""
    across: int
    """Dots in a cell's width."""
    down: int
    """Dots in a cell's height."""
    names: tuple[str, ...] = ()
    """The labels of the curves as they are drawn; empty for a curve without one."""

    def x_of(self, column: int) -> float:
        """The x in the middle of a column of the screen, counted from the chart's left edge."""
        inside = min(max(column - self.left, 0), max(0, self.columns - 1))
        return self.x.value((inside * self.across + (self.across - 1) / 2) / self._dots)

    def column_of(self, x: float) -> int | None:
        """The column of the screen in which x lies, or None if it is out of view."""
        share = self.x.share(x)
        if not 0 <= share <= 1 or self.columns < 1:
            return None
        # In a single column of one dot the first dot is also the last one, which the share does not expect.
        return self.left + min(int(share * self._dots + 0.5) // self.across, self.columns - 1)

    @property
    def _dots(self) -> int:
        return max(1, self.columns * self.across - 1)


def ranges(curves: Sequence[Curve], view: View) -> Ranges:
    """The ranges of the axes: the ends of the view and, where they are None, the visible data."""
    x = _x_scale(curves, view)
    lows, highs = [], []
    for curve in curves:
        series = curve.series
        a, b = leaves(curve, x)
        if a >= b:  # between two leaves there is still a line
            a, b = a - 1, a + 1
        if view.smoothing and curve.smooth and not view.ghost:
            values = series.smoothed(view.smoothing)[max(0, a) : b]
            span = (min(values), max(values)) if values else None
        else:
            span = series.span(a, b)
        if span and view.log_y:
            span = _positive(series, max(0, a), b, span)
        if span and view.robust and (view.y0 is None or view.y1 is None):
            span = robust_span(series, a, b, span, view.log_y)
        if span:
            lows.append(span[0])
            highs.append(span[1])
    low, high = (min(lows), max(highs)) if lows else (0.1, 1.0) if view.log_y else (0.0, 1.0)
    low, high = _with_levels(view, low, high)
    y = scale(end(view.y0, low, view.log_y), end(view.y1, high, view.log_y), view.log_y)
    return x.low, x.high, y.low, y.high


def _with_levels(view: View, low: float, high: float) -> tuple[float, float]:
    """The ends of y with the levels that are at most as far away as the data are high."""
    room = max(high - low, 0.1 * abs(high))
    near = [level.value for level in view.levels if low - room <= level.value <= high + room]
    near = [value for value in near if value > 0 or not view.log_y]
    return min([low, *near]), max([high, *near])


def _x_scale(curves: Sequence[Curve], view: View) -> Scale:
    ends = []
    for curve in curves:
        steps, broken = curve.series.steps, curve.series.broken
        first = bisect_right(steps, curve.step(0.0)) if view.log_x else 0
        ends += [curve.x(step) for part in (steps[first:], broken) for step in (part[:1] + part[-1:])]
    ends = [x for x in ends if x > 0 or not view.log_x] or [1.0 if view.log_x else 0.0]
    x0, x1 = end(view.x0, min(ends), view.log_x), end(view.x1, max(ends), view.log_x)
    x0, x1 = min(x0, x1), max(x0, x1)
    return scale(x0, x1 if x1 > x0 else x0 + max(1.0, abs(x0) * 1e-6), view.log_x)


def end(requested: float | None, default: float, log: bool) -> float:
    """The end that a view requests if it is possible, else the default."""
    possible = requested is not None and abs(requested) < LIMIT and (requested > 0 or not log)
    return requested if requested is not None and possible else default


def leaves(curve: Curve, x: Scale) -> tuple[int, int]:
    """The leaves a..b-1 with records within the scale; the last one may contain later records too."""
    series = curve.series
    a, b = bisect_left(series.steps, curve.step(x.low)), bisect_right(series.steps, curve.step(x.high))
    return a, min(len(series.steps), b + 1) if series.stride > 1 else b


def _positive(series: Series, a: int, b: int, ends: tuple[float, float]) -> tuple[float, float] | None:
    """The part of a span that a logarithmic axis can show."""
    low, high = ends
    if high <= 0:
        return None
    return (low, high) if low > 0 else (min((v for v in series.low[a:b] if v > 0), default=high), high)


def layout(curves: Sequence[Curve], view: View, width: int, height: int, *, ascii: bool = False) -> ChartLayout:
    """The layout of `chart.draw` with the same arguments."""
    x0, x1, y0, y1 = ranges(curves, view)
    y = Scale(y0, y1, view.log_y)
    rows = max(1, height - 1)
    dots = rows * (1 if ascii else 4)
    labels: list[tuple[int, str]] = []
    if any(curve.series.steps for curve in curves):
        values = ticks(y, max(_ROWS_APART, rows / _MOST_LABELS) * dots / rows / max(1, dots - 1))
        dots_down = [int((1 - min(1.0, max(0.0, y.share(value)))) * (dots - 1) + 0.5) for value in values]
        labels = [(dot * rows // dots, text) for dot, text in zip(dots_down, tick_labels(y, values), strict=True)]
    left = max((len(text) for _, text in labels), default=0) + 1
    if width < 3 * left:
        left, labels = 0, []
    names = _names(curves, width - left)
    if ascii:
        names = [ascii_text(name, everything=True) for name in names]
    longest = max(map(cell_len, names), default=0)
    right = longest + 1 if longest else 0
    columns = max(0, width - left - right)
    across, down = (1, 1) if ascii else (2, 4)
    return ChartLayout(
        Scale(x0, x1, view.log_x), y, left, columns, rows, right, tuple(labels), across, down, tuple(names)
    )


def _names(curves: Sequence[Curve], width: int) -> list[str]:
    """The label of each curve at its right end; all are empty if only one curve could have a label."""
    named = [n for n, curve in enumerate(curves) if curve.label and not curve.faint and curve.series.steps]
    names = [""] * len(curves)
    if len(named) > 1:
        for n, text in zip(named, end_labels.texts([curves[n].label for n in named], width), strict=True):
            names[n] = text
    return names


def _reaches(curve: Curve, x: float) -> bool:
    first, last = curve.x(curve.series.steps[0]), curve.x(curve.series.steps[-1])
    room = 0.02 * (last - first)
    return first - room <= x <= last + room


def readout(curves: Sequence[Curve], x: float, smoothing: float = 0.0) -> list[tuple[str, float, float]]:
    """(label, value, step) of the leaf of each curve that is nearest to x, smoothed if `smoothing` is above 0.

    Curves that end before x or begin after it are omitted, unless all do.
    """
    curves = [curve for curve in curves if not curve.faint]
    reached = [curve for curve in curves if curve.series.steps and _reaches(curve, x)]
    curves = reached or curves
    values_at = []
    for curve in curves:
        steps, values = curve.series.steps, curve.series.smoothed(smoothing if curve.smooth else 0)
        if not steps:
            continue
        right = min(bisect_left(steps, curve.step(x)), len(steps) - 1)
        near = min((max(0, right - 1), right), key=lambda leaf: abs(curve.x(steps[leaf]) - x))
        values_at.append((curve.label, values[near], steps[near]))
    return values_at
