"""A run state that a test feeds with lines."""

from __future__ import annotations

from collections.abc import Iterable

from tdiff.watch.reader import Reader
from tdiff.watch.run_state import RunState


class FedState(RunState):
    """A run state with its own reader."""

    def __init__(self, name: str = "") -> None:
        super().__init__(name)
        self._reader = Reader(state=self)

    def feed(self, lines: Iterable[str], arrived: float | None = None) -> None:
        self._reader.feed(list(lines), arrived)

    def replace_source(self) -> None:
        self._reader.reset()
