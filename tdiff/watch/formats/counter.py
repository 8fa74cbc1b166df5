"""Steps that begin anew with each epoch, counted through."""

from __future__ import annotations

import math

FARTHEST = 2.0**53
"""Steps at or beyond this are no counts."""
_EPOCHS = 10_000


class Counter:
    """Counts through the steps of several epochs."""

    def __init__(self) -> None:
        self._last = -math.inf
        self._epoch = -1.0
        self._offsets: dict[float, float] = {}

    def place(self, step: float, epoch: float | None, total: float | None = None) -> float:
        """The step since the beginning of the run; `total` is the number of steps of an epoch, where it is known."""
        if epoch is None or not abs(epoch) < FARTHEST:
            return step
        epoch = float(math.floor(epoch))
        if epoch not in self._offsets:
            offset = self._offsets.get(self._epoch, 0.0) if epoch > self._epoch else 0.0
            if len(self._offsets) >= _EPOCHS:
                self._offsets.clear()
            anew = epoch > self._epoch and step + offset <= self._last
            if anew:
                offset = self._last + (step == 0) if total is None else max(self._last, offset + total)
            self._offsets[epoch] = offset
        self._epoch = epoch
        self._last = max(self._last, step + self._offsets[epoch])
        return step + self._offsets[epoch]
