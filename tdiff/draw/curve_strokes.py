"""The strokes of a curve in the layout of a chart: which leaves each column of dots contains, and where they lie."""

from __future__ import annotations

from itertools import pairwise

from tdiff.draw.curves import ChartLayout, Curve, leaves
from tdiff.draw.strokes import Strokes, bounds, strokes


def column_ends(curve: Curve, frame: ChartLayout) -> list[int]:
    """The ends of the leaves in each column of dots."""
    dots = frame.columns * frame.across
    if not dots:
        return [0]
    shares = [(n - 0.5) / max(1, dots - 1) for n in range(dots + 1)]
    x = frame.x
    if x.log or curve.clock is not None or curve.origin:
        edges = [curve.step(x.value(share)) for share in shares]
    else:
        edges = [x.low + share * (x.high - x.low) for share in shares]
    ends = bounds(curve.series.steps, edges)
    ends[-1] = max(ends[-1], leaves(curve, x)[1])
    return ends


def curve_strokes(curve: Curve, ends: list[int], frame: ChartLayout, weight: float) -> Strokes:
    """A stroke in each column of dots; `ends` are those of `column_ends`, `weight` is that of the smoothing."""
    across, down = max(1, frame.columns * frame.across - 1), frame.rows * frame.down
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


def outside(curve: Curve, ends: list[int], frame: ChartLayout) -> tuple[set[int], set[int]]:
    """The columns of cells in which values lie above the y axis, and those in which values lie below it."""
    above, below = set[int](), set[int]()
    series = curve.series
    span = series.span(ends[0], ends[-1])
    y = frame.y
    if span is None or (span[1] <= y.high and span[0] >= y.low):
        return above, below
    for n, (a, b) in enumerate(pairwise(ends)):
        if (part := series.span(a, b)) is not None:
            if part[1] > y.high:
                above.add(n // frame.across)
            if part[0] < y.low and not (y.log and part[0] <= 0):
                below.add(n // frame.across)
    return above, below
