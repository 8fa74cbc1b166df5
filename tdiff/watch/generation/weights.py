"""Which weights a live generation uses: the newest ones of its model, each loaded once."""

from __future__ import annotations

from collections.abc import Callable

from tdiff.protocol.messages import Ready

Weights = tuple[str, float]
"""A model's folder or name, and the time at which its weights were written (s since the epoch)."""


class NewestWeights:
    """Finds newer weights, and remembers those that have been tried."""

    def __init__(self, newest: Callable[[], Weights | None]) -> None:
        """`newest` returns the weights to use now, or None if they never change."""
        self.newest = newest
        self._tried: Weights | None = None

    def try_newest(self) -> None:
        """The newest weights have been tried, and are not offered again."""
        self._tried = self.newest()

    @property
    def untried(self) -> bool:
        """Whether there are other weights than those tried last."""
        return (newest := self.newest()) is not None and newest != self._tried

    def newer_than(self, model: str, loaded: Ready | None) -> Weights | None:
        """Weights newer than the loaded ones that have not been tried; None if there are none."""
        newest = self.newest()
        if newest is None or loaded is None or newest == self._tried:
            return None
        return newest if newest[0] != model or newest[1] > loaded.weights else None

    def tried(self, weights: Weights) -> None:
        """These weights are being loaded."""
        self._tried = weights
