"""The difference or the ratio of two curves, as a series over their common x."""

from __future__ import annotations

from bisect import bisect_left

from tdiff.draw.curves import Curve
from tdiff.series.series import Series

_MOST = 1024
"""Points of a difference."""
_TINY = 1e-12


def difference(first: Curve, second: Curve, smoothing: float, *, ratio: bool = False) -> Series:
    """`first` minus `second`, or `first` divided by `second`, where both have values: x -> value.

    It has a point at each value of the curve with fewer values, or at 1,024 places of x. Curves that may be smoothed
    are smoothed with the weight `smoothing`, since the difference of two noisy values is noisier than either.
    """
    made = Series(2 * _MOST)
    if not (first.series.steps and second.series.steps):
        return made
    ends = [(curve.x(curve.series.steps[0]), curve.x(curve.series.steps[-1])) for curve in (first, second)]
    low, high = max(begin for begin, _ in ends), min(end for _, end in ends)
    fewer = min((first, second), key=lambda curve: len(curve.series.steps))
    if len(fewer.series.steps) <= _MOST:
        places = [x for x in map(fewer.x, fewer.series.steps) if low <= x <= high]
    else:
        places = [low + (high - low) * n / (_MOST - 1) for n in range(_MOST)] if low <= high else []
    for x in places:
        a, b = _value_at(first, x, smoothing), _value_at(second, x, smoothing)
        if not ratio:
            made.append(x, a - b)
        elif abs(b) > _TINY:
            made.append(x, a / b)
    return made


def _value_at(curve: Curve, x: float, smoothing: float) -> float:
    """The value at x on the line through the curve's values; x lies within them."""
    steps, values = curve.series.steps, curve.series.smoothed(smoothing if curve.smooth else 0.0)
    step = curve.step(x)
    right = bisect_left(steps, step)
    if right in (0, len(steps)):
        return values[min(right, len(steps) - 1)]
    before, after = steps[right - 1], steps[right]
    share = (step - before) / (after - before) if after > before else 1.0
    return values[right - 1] + share * (values[right] - values[right - 1])
