"""The curves of a run: one series per metric, beside the wall clock and the token count at each step."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise

from tdiff.series.series import Series
from tdiff.watch.attempts import CAP, LOSS_CAP
from tdiff.watch.attempts import MAX_METRICS as MAX_METRICS_OF_ATTEMPT

MAX_METRICS = 256
"""Metrics that are stored, however many a source reports."""
_CAPS = {"train/loss": 1 << 16}
_CAP, _SMALL_CAP, _MASK_CAP = 1 << 14, 1 << 11, 1 << 12
_LOSSES = ("train/loss", "eval/loss")
"""Metrics that an attempt keeps before others."""
_MANY = 64
"""Metrics from which further ones get the small capacity."""
_CLOCK, _TOKENS = "\nclock", "\ntokens"
"""Keys of the two series that are no metrics; a metric's name never contains a line feed."""


class Curves:
    """Series over steps. Steps never fall within a series, except through `split_after`."""

    def __init__(self) -> None:
        self.metrics: dict[str, Series] = {}
        self.clock = Series(_CAP)
        self.tokens = Series(_CAP)
        self._newest: dict[str, float] = {}  # series -> its newest step, including records that are not finite

    def add(self, name: str, steps: Sequence[float], values: Sequence[float]) -> None:
        """Values of one metric; dropped if they begin before its newest step, or if there are too many metrics."""
        series = self.metrics.get(name)
        if series is None:
            if len(self.metrics) >= MAX_METRICS:
                return
            cap = _MASK_CAP if name.startswith("mask/") else _CAP if len(self.metrics) < _MANY else _SMALL_CAP
            series = self.metrics[name] = Series(_CAPS.get(name, cap))
        self._append(series, name, steps, values)

    def add_times(self, steps: Sequence[float], seconds: Sequence[float]) -> None:
        """The time at each step."""
        self._append(self.clock, _CLOCK, steps, seconds)

    def add_tokens(self, steps: Sequence[float], tokens: Sequence[float]) -> None:
        """The tokens seen at each step."""
        self._append(self.tokens, _TOKENS, steps, tokens)

    def is_restart(self, step: float, names: Iterable[str]) -> bool:
        """Whether `step` is before the newest step of one of these metrics."""
        return any(step < self._newest.get(name, -math.inf) for name in names)

    def rename(self, metric: str, name: str) -> None:
        """Call a metric by another name, which then has its points; one that has that name already is replaced."""
        if (series := self.metrics.pop(metric, None)) is not None:
            self.metrics[name] = series
            self._newest[name] = self._newest.pop(metric, -math.inf)

    def split_after(self, step: float) -> Curves | None:
        """Drop everything later than `step`. Returns the dropped curves, thinned; None if no metric had any."""
        dropped = Curves()
        for name in sorted(self.metrics, key=lambda name: name not in _LOSSES):
            series = self.metrics[name]
            if _reaches_beyond(series, step) and len(dropped.metrics) < MAX_METRICS_OF_ATTEMPT:
                dropped.metrics[name] = series.split_after(step, LOSS_CAP if name == "train/loss" else CAP)
                dropped._newest[name] = self._newest[name]
            else:
                series.drop_after(step)
        dropped.clock, dropped.tokens = (series.split_after(step, CAP) for series in (self.clock, self.tokens))
        self._newest = {name: min(newest, step) for name, newest in self._newest.items()}
        return dropped if dropped.metrics else None

    @property
    def newest_step(self) -> float:
        """The newest step of training, including records that are not finite; of any metric if none has its loss."""
        return self._newest.get("train/loss", max(self._newest.values(), default=-math.inf))

    def _append(self, series: Series, name: str, steps: Sequence[float], values: Sequence[float]) -> None:
        if not steps or steps[0] < self._newest.get(name, -math.inf):
            return
        if len(steps) == 1:
            series.append(steps[0], values[0])
        else:
            series.extend(steps, values)
        self._newest[name] = steps[-1]


def _reaches_beyond(series: Series, step: float) -> bool:
    """Whether the series has a record later than `step`."""
    return any(steps and steps[-1] > step for steps in (series.steps, series.broken))


def epoch_clock(epochs: Series) -> Series:
    """Step -> epochs, rising from step to step, of a metric that says the epoch of each record.

    Where it says whole epochs, the steps of an epoch lie evenly between its number and the next one. It is empty if the
    metric falls anywhere.
    """
    steps, values = epochs.steps, epochs.mean
    rises = [n for n in range(len(steps)) if n == 0 or values[n] > values[n - 1]]
    clock = Series(_CAP)
    if any(later < earlier for earlier, later in pairwise(values)):
        return clock
    clock.extend([steps[n] for n in rises], [values[n] for n in rises])
    if len(rises) > 1 and rises[-1] < len(steps) - 1:  # the newest epoch is not complete
        length = (steps[rises[-1]] - steps[rises[-2]]) / (values[rises[-1]] - values[rises[-2]])
        ahead = (steps[-1] - steps[rises[-1]]) / length if length > 0 else 0.0
        clock.append(steps[-1], values[rises[-1]] + min(1.0, ahead))
    elif rises and rises[-1] < len(steps) - 1:
        clock.append(steps[-1], values[rises[-1]] + 1.0)
    return clock
