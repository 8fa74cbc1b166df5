"""Limits of the y axis that a few outliers do not stretch: pure functions of the leaves of a series.

The leaves in view are summarized as at most 128 groups, each with its lowest and highest value, so that the cost does
not depend on the number of records. An extreme value is cut off only if it would leave little room for the rest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from tdiff.series.series import Series

Span = tuple[float, float]
"""The lowest and the highest value."""

_MOST_GROUPS, _FEWEST_GROUPS = 128, 16
"""Groups of leaves, and their number below which nothing counts as an outlier."""
_OUTSIDE = 0.02
"""Share of the groups that may be outliers on each side."""
_ISOLATED = 1.5
"""Outliers are cut off if they are this many heights of the rest away: it would have less than two fifths."""
_START = 9.0
"""The same for the beginning of a curve, which falls from its first value in a normal run."""
_BRIEF = 0.05
"""Share of the groups that such a beginning may have."""
_ROOM = 0.08
"""Room between the rest and a limit that cuts something off, as a share of the rest."""


def robust_span(series: Series, a: int, b: int, span: Span, log: bool = False) -> Span:
    """The part of `span`, the lowest and highest value of leaves a..b-1, that contains all of them but outliers.

    With `log` distances are measured on a logarithmic scale, and only positive values count.
    """
    spans = _groups(series, max(0, a), min(b, len(series.steps)))
    if log:
        spans = [(max(low, span[0]), high) for low, high in spans if high > 0]
    if len(spans) < _FEWEST_GROUPS:
        return span
    lows, highs = [low for low, _ in spans], [high for _, high in spans]
    low, high = span
    if log:
        lows, highs = [math.log(value) for value in lows], [math.log(value) for value in highs]
        low, high = math.log(low), math.log(high)
    count = max(1, int(_OUTSIDE * len(spans)))
    inner_low, inner_high = sorted(lows)[count], sorted(highs)[-1 - count]
    if inner_high <= inner_low:  # constant except for the outliers: nothing is flattened
        return span
    top = _limit(high, highs, inner_low, count)
    bottom = -_limit(-low, [-value for value in lows], -inner_high, count)
    return (math.exp(bottom), math.exp(top)) if log else (bottom, top)


def _groups(series: Series, a: int, b: int) -> list[Span]:
    """The spans of groups of leaves between round numbers, which a pyramid answers fastest."""
    size = 1
    while (b - a) > size * _MOST_GROUPS:
        size *= 4
    edges = [a, *range((a // size + 1) * size, b, size), b]
    spans = (series.span(begin, end) for begin, end in pairwise(edges))
    return [span for span in spans if span is not None]


def _limit(outer: float, values: Sequence[float], opposite: float, count: int) -> float:
    """The upper limit: `outer`, the highest value, or one that cuts off at most `count` groups and the beginning.

    `values` are the highest of each group, `opposite` is the lower end of the rest.
    """
    begin = 1
    while begin < len(values) // 4 and values[begin] <= values[begin - 1]:
        begin += 1
    inner = sorted(values[begin:])[-1 - count]
    start = max(values[:begin])
    limit = max(inner, start)
    for brief in range(1, min(begin, max(1, int(_BRIEF * len(values)))) + 1):
        later = max([inner, *values[brief:begin]])
        if start - later > _START * (later - opposite):
            limit = later
            break
    rest = limit - opposite
    return limit + _ROOM * rest if outer - limit > _ISOLATED * rest > 0 else outer
