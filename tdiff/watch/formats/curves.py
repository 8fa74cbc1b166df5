"""Passes records to a sink, those with the same metrics many at once, which is several times faster than one by one."""

from __future__ import annotations

import math
from collections.abc import Mapping

from tdiff.watch.formats.base import Sink

_BLOCK = 128
"""Records that are passed on together; a parser passes the rest on at the end of the lines that it is fed."""
_MOST = 2.0**53


class Curves:
    """Collects records. What else the sink is to know, in the order of the lines, needs `flush` first."""

    def __init__(self, sink: Sink, *, muted: bool = False) -> None:
        """With `muted` only progress is passed on, and no record."""
        self._sink, self._muted = sink, muted
        self._names: tuple[str, ...] = ()  # of the collected records, which have the rest in common too
        self._kind = (True, True, True, True)
        self._newest = -math.inf
        self._steps: list[float] = []
        self._rows: list[tuple[float, ...]] = []
        self._times: list[float] = []
        self._tokens: list[float] = []
        self._since: list[float] = []
        self._elapsed: list[float] = []  # of rows, and of bars between them
        self._progress: tuple[float, float | None, float | None, float | None] | None = None

    def record(
        self,
        step: float,
        values: Mapping[str, float],
        *,
        training: bool,
        time: float | None = None,
        tokens: float | None = None,
        elapsed: float | None = None,
        since: float | None = None,
        progress: tuple[float | None, float | None] | None = None,
    ) -> None:
        """Values of metrics at a step.

        `training`: they move the run on, rather than judge an earlier step. `elapsed` and `since`: seconds since the
        start by a column, and by a progress bar. `progress`: the last step, and the seconds left, where they are known.
        """
        if self._muted:
            return
        names, kind = tuple(values), (training, time is None, tokens is None, since is None)
        falls = step < self._newest if training else bool(self._steps) and step < self._steps[-1]
        self._newest = step if training else max(self._newest, step)
        if names != self._names or kind != self._kind or falls or len(self._steps) >= _BLOCK:
            self.flush()
            self._names, self._kind = names, kind
        self._steps.append(step)
        self._rows.append(tuple(values.values()))
        if time is not None:
            self._times.append(time)
        if tokens is not None:
            self._tokens.append(tokens)
        if since is not None:
            self._since.append(since)
            self._elapsed.append(since)
        elif elapsed is not None:
            self._elapsed.append(elapsed)
        if progress is not None:
            self._progress = (step, *progress, since if since is not None else elapsed)
        if falls:
            self.flush()  # a restart is logged before the line that shows it

    def flush(self) -> None:
        """Pass on what has been collected."""
        if self._steps:
            columns = dict(zip(self._names, zip(*self._rows, strict=True), strict=True))
            for seconds in self._elapsed:
                self._sink.elapsed(seconds)
            self._sink.points(
                self._steps,
                columns,
                self._times or None,
                self._tokens or None,
                self._since or None,
                training=self._kind[0],
            )
            self._steps, self._rows, self._times, self._tokens, self._since = [], [], [], [], []
            self._elapsed = []
        if self._progress is not None:
            progress, self._progress = self._progress, None
            self._pass_on(*progress)

    def advance(self, step: float, total: float | None, left: float | None, elapsed: float | None) -> None:
        """Progress without a record, where the total is known."""
        if self._muted and elapsed is None:
            return  # a count of something, not a bar
        if self._steps and elapsed is not None:
            self._elapsed.append(elapsed)
            self._progress = (step, total, left, elapsed)
            return
        self.flush()
        self._pass_on(step, total, left, elapsed)

    def finish(self) -> None:
        """The program reported that it is done."""
        self.flush()
        self._sink.finish()

    def rename(self, metric: str, name: str) -> None:
        """Call a metric by another name, its points with it."""
        self.flush()
        self._sink.rename(metric, name)

    def step_of(self, name: str, value: float) -> int | None:
        """The step at which a rising metric first reached `value`; None while its newest value is not greater."""
        self.flush()
        return self._sink.step_of(name, value)

    def _pass_on(self, step: float, total: float | None, left: float | None, elapsed: float | None) -> None:
        if total is not None and 0 < total < _MOST:
            self._sink.advance(int(step), int(total), left, elapsed)
