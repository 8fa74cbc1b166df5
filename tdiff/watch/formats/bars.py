"""The progress bar that counts the steps of training, among bars of preparation and of evaluations."""

from __future__ import annotations

from typing import NamedTuple

from tdiff.watch.formats.fields import Bar


class Progress(NamedTuple):
    """How far a run is, by its bar."""

    step: float
    total: float | None
    left: float | None
    """Seconds."""
    elapsed: float
    """Seconds since the first bar began."""


class BarCounter:
    """Counts through the bars of several epochs, and the seconds of several jobs in one log."""

    def __init__(self) -> None:
        self.total: int | None = None
        """Of one bar of training."""
        self.progress: Progress | None = None
        """By the newest bar."""
        self._offset = 0.0
        self._last: Bar | None = None
        self._before = 0.0  # seconds of earlier bars

    def take(self, bar: Bar, epochs: float | None) -> Progress:
        """The progress that a bar of training shows; `epochs`: how many bars there will be, where that is known."""
        self.total = bar.total
        last = self._last
        if last is not None and bar.n < last.n:
            # Either the next epoch has a bar of its own, or the run has started again.
            self._offset = self._offset + last.n if last.total is not None and last.n >= last.total else 0.0
        if last is not None and bar.elapsed < last.elapsed:
            self._before += last.elapsed
        self._last = bar
        total, left = (float(bar.total) if bar.total else None), bar.left
        if total is not None and epochs and self._offset + total <= total * epochs:
            rest = total * epochs - self._offset - total
            if left is not None and bar.n:
                left += rest * (bar.elapsed + left) / total
            total *= epochs
        elif total is not None:
            total += self._offset
        self.progress = Progress(bar.n + self._offset, total, left, self._before + bar.elapsed)
        return self.progress
