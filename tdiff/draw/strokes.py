"""A series as one vertical stroke in each column of dots: the range of its values, or its smoothed line.

It works on dots, without cells, styles or axes: functions map steps and values to dots.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence

from tdiff.series.series import Series

Position = Callable[[float], float]
"""Maps a step or a value to dots from the left or from the top; infinite if it cannot be shown."""
Strokes = tuple[list[int], list[int]]
"""Tops and bottoms, in dots from the top; there is no stroke if the top is below the bottom."""
_SAMPLES = 16
"""About how many values of a smoothed curve are averaged in one column, at most."""


def bounds(steps: array[float], edges: Sequence[float]) -> list[int]:
    """For the edges of columns, as rising steps, the first leaf at or after each.

    A column with many leaves ends at a round leaf number, at most an eighth of the column away: the span of complete
    groups is the fastest to compute.
    """
    exact = [bisect_left(steps, edge) for edge in edges]
    grain = 1
    while grain * 16 * len(edges) <= exact[-1] - exact[0]:
        grain *= 4
    if grain == 1:
        return exact
    rounded = exact[:1]
    for end in exact[1:]:
        near = (end + grain // 2) // grain * grain if end - rounded[-1] >= 4 * grain else end
        rounded.append(max(rounded[-1], min(near, len(steps))))
    return rounded


def strokes(
    series: Series, ends: Sequence[int], column: Position, row: Position, height: int, weight: float, positive: bool
) -> Strokes:
    """A stroke for each column, which contains the leaves from one of `ends` up to the next.

    With a weight above 0 it is at the mean of the smoothed values; otherwise it goes from the lowest to the highest
    value, or from the lowest positive one if only `positive` values can be shown. A column without a leaf lies on the
    line between its neighbours.
    """
    points = series.smoothed(weight)
    tops, bottoms = [height] * (len(ends) - 1), [-1] * (len(ends) - 1)
    for n in range(len(tops)):
        a, b = ends[n], ends[n + 1]
        if weight:
            part = points[a : b : max(1, (b - a) // _SAMPLES)]
            span = (sum(part) / len(part),) * 2 if part else None
        else:
            span = series.span(a, b)
        if span is None:
            continue
        low, high = span
        if positive and low <= 0 < high:
            low = min((value for value in series.low[a:b] if value > 0), default=high)
        top, bottom = row(high), row(low)
        if top <= height - 0.5 and bottom >= -0.5:
            tops[n] = int(top + 0.5) if top > 0 else 0
            bottoms[n] = int(bottom + 0.5) if bottom < height - 1 else height - 1
    _bridge(series, points, ends, column, row, height, (tops, bottoms))
    _join(tops, bottoms)
    return tops, bottoms


def _bridge(
    series: Series,
    points: array[float],
    ends: Sequence[int],
    column: Position,
    row: Position,
    height: int,
    drawn: Strokes,
) -> None:
    """Draw the line between neighbouring leaves over the columns between them, unless values there are not finite."""
    tops, bottoms = drawn
    steps, broken = series.steps, series.broken
    n = 0
    while n < len(tops):
        right = ends[n + 1]
        if ends[n] < right or not 0 < right < len(steps):
            n += 1
            continue
        begin = n
        while n < len(tops) and ends[n + 1] == right:
            n += 1
        next_broken = bisect_right(broken, steps[right - 1])
        if next_broken < len(broken) and broken[next_broken] < steps[right]:
            continue
        x, y = column(steps[right - 1]), row(points[right - 1])
        slope = (row(points[right]) - y) / max(column(steps[right]) - x, 1e-9)
        for c in range(begin, n):
            at = y + slope * (c - x)
            if -0.5 <= at < height - 0.5:
                tops[c] = bottoms[c] = int(at + 0.5)


def _join(tops: list[int], bottoms: list[int]) -> None:
    """Extend strokes of neighbouring columns until they meet, each by half of the gap."""
    for n in range(1, len(tops)):
        if tops[n] > bottoms[n] or tops[n - 1] > bottoms[n - 1]:
            continue
        if tops[n] > bottoms[n - 1] + 1:
            middle = (tops[n] + bottoms[n - 1]) // 2
            bottoms[n - 1], tops[n] = middle, middle + 1
        elif bottoms[n] < tops[n - 1] - 1:
            middle = (bottoms[n] + tops[n - 1]) // 2
            tops[n - 1], bottoms[n] = middle + 1, middle
