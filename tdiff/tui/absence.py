"""When somebody comes back who was not looking: detached, or stopped, or asleep with the machine."""

from __future__ import annotations

AWAY = 20.0
"""Seconds of absence after which it is told what happened meanwhile."""


class Absence:
    """Asked at every look, so that a look that comes late tells of a stop."""

    def __init__(self, now: float) -> None:
        self._left: float | None = None  # when nobody was looking any more
        self._looked = now

    def ended(self, attached: bool, now: float) -> float | None:
        """Where somebody is back just now: since when (s) nobody was; however short that was. Else None."""
        slept = now - self._looked > AWAY
        since = self._left if self._left is not None else self._looked if slept else None
        self._looked = now
        self._left = None if attached else now if since is None else since
        return since if attached else None
