"""What is seen of the process that trains a run: whether it exists, and its last heartbeat."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tdiff.runs.process import Presence, ThisMachine, TrainingProcess
    from tdiff.runs.run import Run
    from tdiff.watch.run_state import RunState

_SECONDS = 1.0
"""Seconds between two looks."""


@dataclass(frozen=True, slots=True)
class Sight:
    """The process of a run at one moment."""

    pid: int
    host: str
    presence: Presence
    """Unknown if it cannot be seen from here."""
    heartbeat: float | None = None
    """When it last renewed its process.json (s since the epoch); None if it has none."""


class Lookout:
    """Looks at the process that a run's folder on this host names in its process.json."""

    def __init__(self, run: Run | None) -> None:
        """None for a log that is not that of a run: no process is seen then."""
        self._run = run
        self._machine: ThisMachine | None = None
        self._sight: Sight | None = None
        self._looked = -math.inf  # by the monotonic clock

    def look(self) -> Sight | None:
        """What is seen now, or was a second ago; None where the folder names no process.

        Look before the newest lines are read: a process that has ended has written its end.
        """
        if self._run is not None and time.monotonic() - self._looked >= _SECONDS:
            self._looked, self._sight = time.monotonic(), self._seen(self._run.path)
        return self._sight

    def note(self, state: RunState, sight: Sight | None, written: bool) -> None:
        """Note what was seen before the newest lines were read.

        Where there were any (`written`), another process may just have resumed the run: look again first.
        """
        if self._run is None:
            return
        if not written:
            state.sight = sight
            return
        self._looked = -math.inf
        if state.sight is not None and state.sight.presence == "gone":
            state.sight = None

    def _seen(self, folder: Path) -> Sight | None:
        from tdiff.runs import process as processes

        if (found := processes.read(folder)) is None:
            return None
        self._machine = self._machine or processes.ThisMachine()
        process, age = found
        return sight_of(process, processes.presence(process, self._machine), time.time() - age)


def sight_of(process: TrainingProcess, presence: Presence, heartbeat: float | None) -> Sight:
    """What is seen of a process. One that has ended beats no longer, and is not missed."""
    return Sight(process.pid, process.host, presence, None if process.ended else heartbeat)
