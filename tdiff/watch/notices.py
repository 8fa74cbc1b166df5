"""The notices of a run, and those of them that have not been collected yet."""

from __future__ import annotations

from collections.abc import Callable

from tdiff.watch.alerts import Notice

MAX_NOTICES = 1_000
"""The newest notices are stored, up to this many."""

MAX_RESTARTS = 8
"""Notices of restarts that outlive the steps that a later restart discards."""


class Notices:
    """Notices in the order in which they were raised."""

    def __init__(self) -> None:
        self.stored: list[Notice] = []
        """The newest 1,000. The list object stays the same."""
        self._new: list[Notice] = []

    def add(self, *notices: Notice) -> None:
        """Add these notices."""
        for kept in (self.stored, self._new):
            kept.extend(notices)
            del kept[:-MAX_NOTICES]

    def change(self, change: Callable[[Notice], Notice | None]) -> None:
        """Replace every notice by `change(notice)`, or remove it where that is None."""
        for kept in (self.stored, self._new):
            kept[:] = [changed for notice in kept if (changed := change(notice)) is not None]

    def drop_after(self, step: float) -> None:
        """Remove the notices of later steps, except of the newest restarts: those are about the run, not its curve."""
        for kept in (self.stored, self._new):
            restarts = [notice for notice in kept if notice.what == "restart"]
            newest = set(map(id, restarts[-MAX_RESTARTS:]))
            kept[:] = [n for n in kept if (id(n) in newest if n.what == "restart" else n.step <= step)]

    def take_new(self) -> list[Notice]:
        """The notices added since the last call."""
        new, self._new = self._new, []
        return new
