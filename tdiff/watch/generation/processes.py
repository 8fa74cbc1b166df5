"""The processes that a view has started, so that it can kill all of them at once when it is forced to end."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

_RUNNING: set[int] = set()
"""Ids of the processes that have not ended; each leads its own session."""


def started(pid: int) -> None:
    """Register a process that leads its own session."""
    _RUNNING.add(pid)


def ended(pid: int) -> None:
    """Remove a process that has ended and was waited for: its id may be reused."""
    _RUNNING.discard(pid)


def kill_all() -> None:
    """Kill all registered processes with their children. Takes no lock and waits for nothing."""
    for pid in list(_RUNNING):
        with suppress(OSError):
            os.killpg(pid, signal.SIGKILL)
