"""How a log says that its program has died: a traceback, no memory, a scheduler's limit, a signal.

It knows lines, and nothing of files or formats. What a program survives is no end: whoever reads progress after it
calls `survived`.
"""

from __future__ import annotations

import re
from typing import Literal

_BEGIN = "Traceback (most recent call last)"
_EXCEPTION = re.compile(r"(?P<name>(?:\w+\.)*[A-Z]\w*)(?::.*|\s*)$")
_COLLECTED = ("ChildFailedError", "ProcessRaisedException", "CalledProcessError")
"""Exceptions of a launcher, which say less than those of the process that it launched."""
_SCHEDULER = re.compile(
    r"DUE TO (?:TIME LIMIT|PREEMPTION|NODE FAIL)|\*\*\* (?:JOB|STEP) \S+ ON \S+ CANCELLED|PBS: job killed"
    r"|\bTERM_(?:RUNLIMIT|MEMLIMIT|CPULIMIT|OWNER)\b|walltime .{0,40}exceeded"
)
_MEMORY = re.compile(r"out of memory|outofmemory|oom.?kill|resource_exhausted|cannot allocate memory", re.IGNORECASE)
_FATAL = re.compile(r"error|killed|tried to allocate|resource_exhausted", re.IGNORECASE)
_RETRIED = re.compile(r"\bwarn|\bretry|\bskip|\breducing\b|\bavoid\b", re.IGNORECASE)
_SIGNAL = re.compile(
    r"(?:^|: line \d+:\s+\d+ )(?:Segmentation fault|Bus error|Illegal instruction|Aborted|Killed|Terminated)\b.{0,200}$"
    r"|^Fatal Python error: |^terminate called after throwing"
)
_TASK = re.compile(r"^srun: error: .*: (?:Exited with exit code [1-9]|Killed|Terminated|Segmentation fault)")
_WIDTH = 1_000
"""Characters of a line that are looked at."""
_OPEN, _LATER = 400, 100
"""Lines that a traceback may have, and those after the end of it, before it is taken for one that was survived."""

Grade = Literal[0, 1, 2, 3]


class Ending:
    """Reads the plain lines of a log for signs that its program is no more."""

    def __init__(self) -> None:
        self.reason = ""
        """The line that says why it died, as it stands in the log; "" while none does."""
        self._grade: Grade = 0
        """How much the reason tells: 1 that a task failed, 2 an exception or a signal, 3 a scheduler."""
        self._open = 0  # lines that a traceback which has begun may still have
        self._prefix = ""  # what stands before each of its lines, such as a rank
        self._later = self._moved = 0  # lines, and moves of a bar, since the reason

    @property
    def interrupted(self) -> bool:
        """Whether somebody ended it by Ctrl+C."""
        return self.reason.startswith("KeyboardInterrupt")

    def take(self, line: str) -> None:
        """The next line that is neither a record nor a bar, without colours."""
        line = line[:_WIDTH].rstrip()
        if (at := line.find(_BEGIN)) >= 0:
            self._open, self._prefix = _OPEN, line[:at]
            if not self.reason:
                self._found(_BEGIN, 1)
            return
        if self._open:
            self._open -= 1
            body = line.removeprefix(self._prefix)
            exception = _EXCEPTION.match(body)
            if exception:
                self._open = 0
                launcher = exception["name"].rpartition(".")[2] in _COLLECTED
                self._found(body, 1 if launcher else 2)
            return
        if _SCHEDULER.search(line):
            self._found(line, 3)
        elif _SIGNAL.search(line) or (_MEMORY.search(line) and _FATAL.search(line) and not _RETRIED.search(line)):
            self._found(line, 2)
        elif _TASK.match(line):
            self._found(line, 1)
        elif self.reason:
            self._later += 1
            if self._later > _LATER:
                self.survived()

    def moved(self) -> None:
        """A bar went on. One that does so once may have been drawn for the last time when its program died."""
        self._moved += bool(self.reason)
        if self._moved > 1:
            self.survived()

    def survived(self) -> None:
        """It went on: whatever looked like its end was none."""
        self.reason, self._grade, self._open = "", 0, 0
        self._later = self._moved = 0

    def _found(self, reason: str, grade: Grade) -> None:
        self._later = self._moved = 0
        if grade >= self._grade and not (grade == 1 and self.reason not in ("", _BEGIN)):
            self.reason, self._grade = reason.strip(), grade
