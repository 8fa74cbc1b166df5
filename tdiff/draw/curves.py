"""Curves, and what is seen of them: ranges, the layout of a chart, zoom, pan and readout, as pure functions.

It knows where things lie, and not how they are drawn.
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
    """Maps a step to x, where x is not the step; must not fall."""
    origin: float = 0.0
    """Taken off what the clock says: the beginning of the run, where x is the time since then."""
    smooth: bool = True
    """False: drawn as it is in a smoothed view too, as evaluations are, which are few and stand for themselves."""

    def x(self, step: float) -> float:
        """Where a step lies on the x axis."""
        if self.clock is None or not self.clock.steps:
            return step
        return _between(step, self.clock.steps, self.clock.high) - self.origin

    def step(self, x: float) -> float:
        """The step that lies at x; beyond the clock's ends, an infinite one."""
        if self.clock is None or not self.clock.steps:
            return x
        x += self.origin
        if x < self.clock.high[0] or x > self.clock.high[-1]:
            return -math.inf if x < self.clock.high[0] else math.inf
        return _between(x, self.clock.high, self.clock.steps)


def _between(place: float, places: array[float], values: array[float]) -> float:
    """The value at `place` on the line through points whose places rise; flat beyond its ends."""
    right = bisect_left(places, place)
    if right in (0, len(places)):
        return values[min(right, len(places) - 1)]
    before, after = places[right - 1], places[right]
    share = (place - before) / (after - before) if after > before else 1.0
    return values[right - 1] + share * (values[right] - values[right - 1])


@dataclass(frozen=True, slots=True)
class View:
    """What is looked at, and how. An end that is None follows the data."""

    x0: float | None = None
    x1: float | None = None
    y0: float | None = None
    y1: float | None = None
    log_x: bool = False
    log_y: bool = False
    smoothing: float = 0.0
    """Share of the past in the bright curve, 0 to 0.999; 0 draws the values as they are."""
    ghost: bool = True
    """Whether the values stand dim behind a smoothed curve. Without them a spike may be smoothed away."""
    cursor: float | None = None
    """x of a vertical line."""
    marks: tuple[tuple[float, str], ...] = ()
    """(x, style) of alerts, on the x axis."""
    axis: Axis = "step"
    """What x counts, as its labels are to say."""


@dataclass(frozen=True, slots=True)
class ChartLayout:
    """Where things are in a drawn chart, in cells of the screen."""

    x: Scale
    y: Scale
    left: int
    """Cells of the labels and the y axis."""
    columns: int
    """Cells across in which curves are drawn."""
    rows: int
    """Cells down in which curves are drawn."""
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
        """The column of the screen in which x lies, or None where it is out of view."""
        share = self.x.share(x)
        if not 0 <= share <= 1 or self.columns < 1:
            return None
        # A single column of one dot has no last dot beside the first, which the share counts on.
        return self.left + min(int(share * self._dots + 0.5) // self.across, self.columns - 1)

    @property
    def _dots(self) -> int:
        return max(1, self.columns * self.across - 1)


def ranges(curves: Sequence[Curve], view: View) -> Ranges:
    """What the axes span: what the view says and, where it says nothing, the data in sight."""
    x = _x_scale(curves, view)
    lows, highs = [], []
    for curve in curves:
        series = curve.series
        a, b = leaves(curve, x)
        if a >= b:  # between two leaves there is still a line
            a, b = a - 1, a + 1
        if view.smoothing and curve.smooth and not view.ghost:
            values = series.smoothed(view.smoothing)[max(0, a) : b]
            found = (min(values), max(values)) if values else None
        else:
            found = series.span(a, b)
        if found and view.log_y:
            found = _above_nought(series, max(0, a), b, found)
        if found:
            lows.append(found[0])
            highs.append(found[1])
    low, high = (min(lows), max(highs)) if lows else (0.1, 1.0) if view.log_y else (0.0, 1.0)
    y = scale(_given(view.y0, low, view.log_y), _given(view.y1, high, view.log_y), view.log_y)
    return x.low, x.high, y.low, y.high


def _x_scale(curves: Sequence[Curve], view: View) -> Scale:
    ends = []
    for curve in curves:
        steps, broken = curve.series.steps, curve.series.broken
        first = bisect_right(steps, curve.step(0.0)) if view.log_x else 0
        ends += [curve.x(step) for part in (steps[first:], broken) for step in (part[:1] + part[-1:])]
    ends = [x for x in ends if x > 0 or not view.log_x] or [1.0 if view.log_x else 0.0]
    x0, x1 = _given(view.x0, min(ends), view.log_x), _given(view.x1, max(ends), view.log_x)
    x0, x1 = min(x0, x1), max(x0, x1)
    return scale(x0, x1 if x1 > x0 else x0 + max(1.0, abs(x0) * 1e-6), view.log_x)


def _given(asked: float | None, found: float, log: bool) -> float:
    """What the view asks for, where it can be had."""
    return asked if asked is not None and abs(asked) < LIMIT and (asked > 0 or not log) else found


def leaves(curve: Curve, x: Scale) -> tuple[int, int]:
    """The leaves a..b-1 that hold records within the scale. The last may hold later ones too: it reaches back."""
    series = curve.series
    a, b = bisect_left(series.steps, curve.step(x.low)), bisect_right(series.steps, curve.step(x.high))
    return a, min(len(series.steps), b + 1) if series.stride > 1 else b


def _above_nought(series: Series, a: int, b: int, ends: tuple[float, float]) -> tuple[float, float] | None:
    """The part of a span that a logarithmic axis can show."""
    low, high = ends
    if high <= 0:
        return None
    return (low, high) if low > 0 else (min((v for v in series.low[a:b] if v > 0), default=high), high)


def layout(
    curves: Sequence[Curve], view: View, width: int, height: int, *, ascii: bool = False, colour: bool = True
) -> ChartLayout:
    """Where `draw` with the same arguments draws."""
    x0, x1, y0, y1 = ranges(curves, view)
    y = Scale(y0, y1, view.log_y)
    rows = max(1, height - 1)
    dots = rows * (1 if ascii else 4)
    labels: list[tuple[int, str]] = []
    if any(curve.series.steps for curve in curves):
        values = ticks(y, max(_ROWS_APART, rows / _MOST_LABELS) * dots / rows / max(1, dots - 1))
        places = [int((1 - min(1.0, max(0.0, y.share(value)))) * (dots - 1) + 0.5) for value in values]
        labels = [(place * rows // dots, text) for place, text in zip(places, tick_labels(y, values), strict=True)]
    left = max((len(text) for _, text in labels), default=0) + 1
    if width < 3 * left:
        left, labels = 0, []
    right = 2 if not colour and len(curves) > 1 and width - left > 8 else 0
    columns = max(0, width - left - right)
    return ChartLayout(Scale(x0, x1, view.log_x), y, left, columns, rows, right, tuple(labels), 1 if ascii else 2)


def zoom(view: View, whole: Ranges, factor: float, at: float) -> View:
    """Look at 1/`factor` of what is seen now, with `at` staying where it is.

    `whole` is what all data span: `ranges` of a view without ends. Above 1 the factor goes in, below 1 out, at most as
    far as the whole, and then the view follows the data again. The narrowest view is 1 wide, or a millionth of the
    whole.
    """
    full, a, b = _seen(view, whole)
    middle = min(b, max(a, full.share(at)))
    least = max(1e-6, min(1.0, 0.1 * (full.high - full.low)) / (full.high - full.low) if not full.log else 1e-6)
    factor = min(factor, max(1.0, (b - a) / least))
    return _look(view, full, middle - (middle - a) / factor, middle + (b - middle) / factor)


def pan(view: View, whole: Ranges, share: float) -> View:
    """Look further right by a share of what is seen, or left where it is below 0, at most to the data's end."""
    full, a, b = _seen(view, whole)
    by = min(1 - b, max(-a, share * (b - a)))
    return _look(view, full, a + by, b + by)


def _seen(view: View, whole: Ranges) -> tuple[Scale, float, float]:
    """The scale of all data, and the ends of the view on it."""
    full = Scale(whole[0], whole[1], view.log_x)
    a = full.share(_given(view.x0, full.low, view.log_x))
    b = full.share(_given(view.x1, full.high, view.log_x))
    return full, min(1.0, max(0.0, a)), min(1.0, max(0.0, b))


def _look(view: View, full: Scale, a: float, b: float) -> View:
    if a <= 1e-9 and b >= 1 - 1e-9:
        return replace(view, x0=None, x1=None)
    return replace(view, x0=full.value(max(0.0, a)), x1=full.value(min(1.0, b)))


def _reaches(curve: Curve, x: float) -> bool:
    first, last = curve.x(curve.series.steps[0]), curve.x(curve.series.steps[-1])
    room = 0.02 * (last - first)
    return first - room <= x <= last + room


def readout(curves: Sequence[Curve], x: float, smoothing: float = 0.0) -> list[tuple[str, float, float]]:
    """(label, value, step) of the leaf of each curve that is nearest to x; smoothed where that is asked for.

    Of several curves, those that end before x or begin after it have nothing to say of it, unless all do.
    """
    reached = [curve for curve in curves if curve.series.steps and _reaches(curve, x)]
    curves = reached or curves
    told = []
    for curve in curves:
        steps, values = curve.series.steps, curve.series.smoothed(smoothing if curve.smooth else 0)
        if not steps:
            continue
        right = min(bisect_left(steps, curve.step(x)), len(steps) - 1)
        near = min((max(0, right - 1), right), key=lambda leaf: abs(curve.x(steps[leaf]) - x))
        told.append((curve.label, values[near], steps[near]))
    return told
