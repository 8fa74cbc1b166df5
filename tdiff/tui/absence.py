"""When the user returns after the view was detached, stopped, or asleep with the machine."""

from __future__ import annotations

AWAY = 20.0
"""Seconds of absence after which the view reports what happened meanwhile."""


class Absence:
    """Called at every update: an update that is late shows that the view was stopped."""

    def __init__(self, now: float) -> None:
        self._left: float | None = None  # when the absence started
        self._updated = now

    def ended(self, attached: bool, now: float) -> float | None:
        """The start (s) of an absence of any length that ends now; else None."""
        slept = now - self._updated > AWAY
        since = self._left if self._left is not None else self._updated if slept else None
        self._updated = now
        self._left = None if attached else now if since is None else since
        return since if attached else None
