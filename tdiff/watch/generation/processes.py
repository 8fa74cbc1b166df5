"""The processes that a view has started, so that all of them can be killed at once where it ends by force."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

_RUNNING: set[int] = set()
"""Process ids of those that have not ended, each the leader of a session of its own."""


def started(pid: int) -> None:
    """A process with a session of its own runs."""
    _RUNNING.add(pid)


def ended(pid: int) -> None:
    """It has ended, and was waited for: its number may become another's."""
    _RUNNING.discard(pid)


def kill_all() -> None:
    """Kill all that run, with what they started. Takes no lock and waits for nothing."""
    for pid in list(_RUNNING):
        with suppress(OSError):
            os.killpg(pid, signal.SIGKILL)
