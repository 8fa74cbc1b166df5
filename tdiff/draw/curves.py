"""Curves and views of them: ranges, the layout of a chart, zoom, pan and readout, as pure functions.

It computes positions; drawing is in `chart`.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tdiff.draw.axes import Axis, Scale, scale, tick_labels, ticks
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
    """Subtracted from the clock: the start of the run, if x is the time since then."""
    smooth: bool = True
    """False: never smoothed, as evaluations, of which there are few and each is significant."""
    faint: bool = False
    """Drawn dim, without its values behind it, as an earlier attempt; faint curves come before all others."""

    def x(self, step: float) -> float:
        """The x of a step."""
        if self.clock is None or not self.clock.steps:
            return step
        return _between(step, self.clock.steps, self.clock.high) - self.origin

    def step(self, x: float) -> float:
        """The step at x; infinite beyond the ends of the clock."""
        if self.clock is None or not self.clock.steps:
            return x
        x += self.origin
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
    """Cells of the letters that name the curves."""
    labels: tuple[tuple[int, str], ...]
    """(row, text) of the y axis."""
    across: int
    """Dots in a cell's width."""

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
        if span:
            lows.append(span[0])
            highs.append(span[1])
    low, high = (min(lows), max(highs)) if lows else (0.1, 1.0) if view.log_y else (0.0, 1.0)
    y = scale(_end(view.y0, low, view.log_y), _end(view.y1, high, view.log_y), view.log_y)
    return x.low, x.high, y.low, y.high


def _x_scale(curves: Sequence[Curve], view: View) -> Scale:
    ends = []
    for curve in curves:
        steps, broken = curve.series.steps, curve.series.broken
        first = bisect_right(steps, curve.step(0.0)) if view.log_x else 0
        ends += [curve.x(step) for part in (steps[first:], broken) for step in (part[:1] + part[-1:])]
    ends = [x for x in ends if x > 0 or not view.log_x] or [1.0 if view.log_x else 0.0]
    x0, x1 = _end(view.x0, min(ends), view.log_x), _end(view.x1, max(ends), view.log_x)
    x0, x1 = min(x0, x1), max(x0, x1)
    return scale(x0, x1 if x1 > x0 else x0 + max(1.0, abs(x0) * 1e-6), view.log_x)


def _end(requested: float | None, default: float, log: bool) -> float:
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


def layout(
    curves: Sequence[Curve], view: View, width: int, height: int, *, ascii: bool = False, colour: bool = True
) -> ChartLayout:
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
    right = 2 if not colour and len(curves) > 1 and width - left > 8 else 0
    columns = max(0, width - left - right)
    return ChartLayout(Scale(x0, x1, view.log_x), y, left, columns, rows, right, tuple(labels), 1 if ascii else 2)


def zoom(view: View, extent: Ranges, factor: float, at: float) -> View:
    """Show 1/`factor` of the visible x range, with `at` at the same position.

    `extent` is the range of all data: `ranges` of a view without ends. A factor above 1 zooms in, below 1 out, at most
    to the extent, and then the view follows the data again. The narrowest view is 1 wide, or a millionth of the extent.
    """
    full, a, b = _visible(view, extent)
    middle = min(b, max(a, full.share(at)))
    least = max(1e-6, min(1.0, 0.1 * (full.high - full.low)) / (full.high - full.low) if not full.log else 1e-6)
    factor = min(factor, max(1.0, (b - a) / least))
    return _show(view, full, middle - (middle - a) / factor, middle + (b - middle) / factor)


def pan(view: View, extent: Ranges, share: float) -> View:
    """Move right by a share of the visible range, or left if it is below 0, at most to the end of the data."""
    full, a, b = _visible(view, extent)
    by = min(1 - b, max(-a, share * (b - a)))
    return _show(view, full, a + by, b + by)


def _visible(view: View, extent: Ranges) -> tuple[Scale, float, float]:
    """The scale of all data, and the ends of the view on it."""
    full = Scale(extent[0], extent[1], view.log_x)
    a = full.share(_end(view.x0, full.low, view.log_x))
    b = full.share(_end(view.x1, full.high, view.log_x))
    return full, min(1.0, max(0.0, a)), min(1.0, max(0.0, b))


def _show(view: View, full: Scale, a: float, b: float) -> View:
    if a <= 1e-9 and b >= 1 - 1e-9:
        return replace(view, x0=None, x1=None)
    return replace(view, x0=full.value(max(0.0, a)), x1=full.value(min(1.0, b)))


def _reaches(curve: Curve, x: float) -> bool:
    first, last = curve.x(curve.series.steps[0]), curve.x(curve.series.steps[-1])
    room = 0.02 * (last - first)
    return first - room <= x <= last + room


def readout(curves: Sequence[Curve], x: float, smoothing: float = 0.0) -> list[tuple[str, float, float]]:
    """(label, value, step) of the leaf of each curve that is nearest to x, smoothed if `smoothing` is above 0.

    Curves that end before x or begin after it are omitted, unless all do.
    """
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
