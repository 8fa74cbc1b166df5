"""Watches a folder for something newer than what is read in it: a checkpoint, a version, the output of the next job."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from tdiff.watch.periodic import Periodic
from tdiff.watch.sources.folder_choice import LIVE, FolderChoice, choose, lineage

_PAUSE = 10.0
"""Least seconds between two searches."""
_AHEAD = 30.0
"""Seconds by which another file must be newer than the one that is read while that one is live."""


class FolderWatch:
    """Searches a folder in a thread, from time to time."""

    def __init__(
        self,
        folder: Path,
        choice: FolderChoice,
        search: Callable[[Path], FolderChoice | None] = choose,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`choice` is what is read now; `clock` gives seconds for the pauses."""
        self.folder, self.choice = folder, choice
        self._searches = Periodic(lambda: _search(folder, search), _PAUSE, clock)
        self._left: set[Path] = set()  # what was read before, and is not read again while the present one is live

    def poll(self) -> bool:
        """Take in the result of a search, and start the next one when it is due. Returns whether `choice` is another.

        Never waits for the file system.
        """
        new = False
        for found in self._searches.poll():
            new |= self.take(found)
        return new

    def take(self, found: FolderChoice | None, now: float | None = None) -> bool:
        """Continue with what a search found, where that is better. Returns whether it is another file."""
        if found is None:
            return False
        if found.candidate.path == self.choice.candidate.path:
            self.choice = found
            return False
        if not self._better(found, time.time() if now is None else now):
            return False
        self._left.add(self.choice.candidate.path)
        self.choice = found
        return True

    def _better(self, found: FolderChoice, now: float) -> bool:
        mine, other = self.choice.candidate, found.candidate
        if lineage(mine) == lineage(other):
            return True
        try:
            written = max(path.stat().st_mtime for path in mine.files)
        except OSError:
            return True  # it is gone
        if now - written >= LIVE:
            return other.modified > written
        return other.path not in self._left and other.modified - written > _AHEAD


def _search(folder: Path, search: Callable[[Path], FolderChoice | None]) -> FolderChoice | None:
    try:
        return search(folder)
    except OSError:
        return None
