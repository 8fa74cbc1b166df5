"""The lock of a run's folder: one process trains a run at a time. No torch.

The lock is an advisory one of the file `resume/lock`, which the system releases when the process ends, however it ends.
Two machines that share a disk may not see each other's locks, and some file systems have none. So the process that
`process.json` names is examined too: one that is alive is refused, and one that cannot be seen from here is observed
until its next heartbeat is due.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tdiff.errors import TdiffError
from tdiff.files import CannotWrite
from tdiff.formatting import age as age_text
from tdiff.runs import process as processes
from tdiff.runs.process import BEAT, FILE, LOST, ThisMachine, TrainingProcess
from tdiff.visible import visible

try:
    import fcntl
except ImportError:  # on Windows, where process.json alone guards a run
    fcntl = None  # type: ignore[assignment]

FILE_NAME = "lock"
"""The file's name in the folder `resume` of a run."""
OBSERVED = 2.5 * BEAT
"""Seconds without a heartbeat after which a process that cannot be seen counts as gone."""
_PAUSE = 0.5
Say = Callable[[str], None]
"""Prints a message to the user."""


def say_on_stderr(text: str) -> None:
    """Print a message on stderr."""
    print(visible(text), file=sys.stderr, flush=True)


@contextmanager
def held(folder: Path, *, say: Say = say_on_stderr, sleep: Callable[[float], None] = time.sleep) -> Iterator[None]:
    """Hold the lock of a run's folder.

    Raises TdiffError that names the process that trains the run, and CannotWrite for a folder that is read-only.
    """
    with _opened(folder) as file:
        if (problem := _acquire(file)) is not None:
            if isinstance(problem, BlockingIOError):
                raise TdiffError(_refusal(folder, processes.read(folder)))
            say(f"the file system of {folder} has no locks ({problem.strerror}); {FILE} guards the run instead")
        _check_process(folder, say, sleep)
        yield


def is_held(folder: Path) -> bool:
    """Whether a process holds the lock; False where that cannot be found out."""
    try:
        with _path(folder).open("rb") as file:
            return isinstance(_acquire(file), BlockingIOError)
    except OSError:
        return False


def _path(folder: Path) -> Path:
    return folder / "resume" / FILE_NAME


@contextmanager
def _opened(folder: Path) -> Iterator[IO[bytes]]:
    path = _path(folder)
    try:
        path.parent.mkdir(exist_ok=True)
        file = path.open("ab")
    except OSError as error:
        raise CannotWrite(path, error) from error
    with file:
        yield file


def _acquire(file: IO[bytes]) -> OSError | None:
    """Take the lock. Returns why that was not possible."""
    if not fcntl:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error
    return None


def _check_process(folder: Path, say: Say, sleep: Callable[[float], None]) -> None:
    """Raise TdiffError if the process that process.json names still trains the run."""
    found = processes.read(folder)
    if found is None or found[0].pid == os.getpid():
        return
    process, silence = found
    presence = processes.presence(process, ThisMachine())
    if presence == "gone" or (presence == "unknown" and silence > LOST):
        return
    if presence == "alive" or _beats(folder, process, say, sleep):
        raise TdiffError(_refusal(folder, found))


def _beats(folder: Path, process: TrainingProcess, say: Say, sleep: Callable[[float], None]) -> bool:
    """Whether a heartbeat follows. Times of files are compared with each other only, since clocks may differ."""
    path, first = folder / FILE, _modified(folder / FILE)
    say(f"process {process.pid} on {process.host} trained this run; waiting {OBSERVED:.0f} s for its next heartbeat")
    for _ in range(round(OBSERVED / _PAUSE)):
        sleep(_PAUSE)
        if _modified(path) != first:
            found = processes.read(folder)
            return found is not None and not found[0].ended
    return False


def _modified(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _refusal(folder: Path, found: tuple[TrainingProcess, float] | None) -> str:
    text = f"run {folder.name!r} is being trained by another process"
    if found is None or found[0].ended:
        return text
    process, silence = found
    if process.host == ThisMachine().host:
        age = f", for {age_text(max(0.0, time.time() - process.time))}" if process.time else ""
        return (
            f"{text}: process {process.pid} of this machine{age}; tdiff watch {folder.name} shows it, "
            f"tdiff stop {folder.name} stops it"
        )
    return f"{text}: process {process.pid} on {process.host}, whose last heartbeat was {age_text(silence)} ago"
