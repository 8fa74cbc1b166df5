"""When a falling or rising metric will reach a target, by the trend of its newest values."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass

from tdiff.series.series import Series

_FEWEST, _MOST = 5, 256
"""Points of a trend."""
_SMOOTHING = 0.9
"""Weight of the past, at least, in a training loss whose trend is measured."""
_FIT = 0.5
"""Share of the variance that the trend must explain."""
_FARTHEST = 20.0
"""A target is not predicted beyond this many times the newest step."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """When a target is reached."""

    step: float | None
    """The step at which it was reached, or will be; None if no trend leads to it."""
    reached: bool
    seconds: float | None = None
    """Seconds from the newest step on; None if unknown or reached."""


def loss_arrival(metrics: Mapping[str, Series], clock: Series, target: float, smoothing: float) -> Arrival | None:
    """When a run's loss reaches `target`: that of the validation where it has a trend, else the smoothed training loss.

    None without a training loss. `smoothing` is the weight of the past in the training loss, 0..1, at least 0.9.
    """
    held = metrics.get("eval/loss")
    series = held if held is not None and held.count >= _FEWEST else metrics.get("train/loss")
    if series is None:
        return None
    return arrival(series, clock, target, 0.0 if series is held else max(_SMOOTHING, smoothing))


def arrival(series: Series, clock: Series, target: float, smoothing: float = 0.0) -> Arrival:
    """When `series` reaches `target`, from the side on which it began. `clock`: step -> seconds.

    The trend is a line through the values of the newer half over the logarithm of the step, which fits the slow end of
    a loss better than a line over steps. `smoothing` is the weight of the past in the values, 0..1.
    """
    steps, values = series.steps, series.smoothed(smoothing)
    if not steps:
        return Arrival(None, False)
    falls = values[0] > target
    low, high = series.span(0, len(steps)) or (0.0, 0.0)
    if low <= target <= high:
        for step, value in zip(steps, values, strict=True):
            if (value <= target) if falls else (value >= target):
                return Arrival(step, True)
    slope, middle, level, fit = _trend(series, smoothing)
    if not slope or (slope > 0) is falls or fit < _FIT:
        return Arrival(None, False)
    log_step = middle + (target - level) / slope
    if log_step > math.log(max(1.0, steps[-1]) * _FARTHEST):
        return Arrival(None, False)
    step = max(steps[-1], math.exp(log_step))
    pace = _seconds_per_step(clock)
    return Arrival(step, False, (step - steps[-1]) * pace if pace is not None else None)


def _trend(series: Series, smoothing: float) -> tuple[float, float, float, float]:
    """The slope over the logarithm of the step, the mean of both coordinates, and the explained share of variance."""
    steps, values = series.steps, series.smoothed(smoothing)
    begin = bisect_left(steps, steps[-1] / 2)
    every = max(1, (len(steps) - begin) // _MOST)
    points = [
        (math.log(step), value)
        for step, value in zip(steps[begin::every], values[begin::every], strict=True)
        if step > 0
    ]
    if len(points) < _FEWEST:
        return 0.0, 0.0, 0.0, 0.0
    middle = sum(x for x, _ in points) / len(points)
    level = sum(y for _, y in points) / len(points)
    xx = sum((x - middle) ** 2 for x, _ in points)
    yy = sum((y - level) ** 2 for _, y in points)
    xy = sum((x - middle) * (y - level) for x, y in points)
    if xx <= 0 or yy <= 0:
        return 0.0, middle, level, 0.0
    return xy / xx, middle, level, xy * xy / (xx * yy)


def _seconds_per_step(clock: Series) -> float | None:
    """The pace of the newer half of a run; None if its times are unknown."""
    steps, times = clock.steps, clock.mean
    if len(steps) < 2:
        return None
    begin = min(bisect_left(steps, steps[-1] / 2), len(steps) - 2)
    if steps[-1] <= steps[begin]:
        return None
    return max(0.0, (times[-1] - times[begin]) / (steps[-1] - steps[begin]))
