"""Whether a process of this host writes some files; without reading them, and without starting a program."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_PROCESSES = Path("/proc")
_MOST_SECONDS = 0.1
"""Seconds after which the search ends: a host may have very many processes."""


def are_written(files: Iterable[Path], *, processes: Path = _PROCESSES) -> bool | None:
    """Whether one of the processes whose open files this user may see has one of the files open for writing.

    None if that cannot be found out: there is no folder `processes` of them, or there are too many.
    """
    wanted, end = set(map(os.path.realpath, files)), time.monotonic() + _MOST_SECONDS
    own = str(os.getpid())
    try:
        names = [name for name in os.listdir(processes) if name.isdecimal() and name != own]  # noqa: PTH208
    except OSError:
        return None
    # Links are compared by their text: to examine the file behind one may wait for a network that is gone.
    for name in reversed(names):  # the newest first
        if time.monotonic() > end:
            return None
        with suppress(OSError):  # it has ended, or belongs to another user
            for entry in os.scandir(processes / name / "fd"):
                if os.readlink(entry.path) in wanted and _is_for_writing(processes / name / "fdinfo" / entry.name):  # noqa: PTH115
                    return True
    return False


def _is_for_writing(description: Path) -> bool:
    """Whether a file is open for writing, by the description of its descriptor."""
    for line in description.read_text("ascii", "replace").splitlines():
        if line.startswith("flags:"):
            return int(line.partition(":")[2], 8) & os.O_ACCMODE != os.O_RDONLY
    return False
