"""Signs in a log that its program has died: a traceback, no memory, a scheduler's limit, a signal.

This module knows lines only, neither files nor formats. A sign that the program survived does not count: the caller
reports later progress through `survived` and `moved`.
"""

from __future__ import annotations

import re
from typing import Literal

from tdiff.patterns import lazy

_TRACEBACK = "Traceback (most recent call last)"
_EXCEPTION = lazy(r"(?P<name>(?:\w+\.)*[A-Z]\w*)(?::.*|\s*)$")
_COLLECTED = ("ChildFailedError", "ProcessRaisedException", "CalledProcessError")
"""Exceptions of a launcher, which are less specific than those of the process that it launched."""
_SCHEDULER = lazy(
    r"DUE TO (?:TIME LIMIT|PREEMPTION|NODE FAIL)|\*\*\* (?:JOB|STEP) \S+ ON \S+ CANCELLED|PBS: job killed"
    r"|\bTERM_(?:RUNLIMIT|MEMLIMIT|CPULIMIT|OWNER)\b|walltime .{0,40}exceeded"
    r"|\b(?:[Ss]ignal:? ?(?:SIG)?|SIG)(?:TERM|KILL|XCPU|USR[12])\b.{0,40}\b(?:time ?limit|TIME ?LIMIT|wall ?time)\b"
    r"|(?:^|[#:] ?)(?:job|JOB|Job) \S+ .{0,40}\b(?:exceeded|reached|hit|over) .{0,20}(?:time ?limit|wall ?time)"
    r"|(?<!\bbe )\b(?:killed|cancelled|canceled|terminated)\b.{0,40}\b(?:time ?limit|wall ?time)\b"
)
_SLURM = lazy(r"\w+: error: \*\*\* (.*?)(?: AT \S+)?( DUE TO [A-Z ]+?)? \*\*\*")
_MEMORY = lazy(
    r"out of (?:gpu |device |host )?memory|outofmemory|oom.?kill|resource_exhausted|cannot allocate memory",
    re.IGNORECASE,
)
_FATAL = lazy(r"error|killed|tried to allocate|resource_exhausted", re.IGNORECASE)
_RETRIED = lazy(r"\bwarn|\bretry|\bskip|\breducing\b|\bavoid\b", re.IGNORECASE)
_SIGNAL = lazy(
    r"(?:^|: line \d+:\s+\d+ )(?:Segmentation fault|Bus error|Illegal instruction|Killed|Terminated)\b.{0,200}$"
    r"|^Fatal Python error: |^\s*what\(\):\s|^thread '.{0,80}' panicked at "
    r"|\b(?:got|[Rr]eceived) (?:signal:? ?(?:\d+|SIG[A-Z]+)|\d+ death signal)"
    r"|^(?:\^C)?ERROR: LoadError: "
    r"|\bSignal \d+ \(SIG[A-Z]+\) received by PID|\bkilled by signal: "
)
_DEVICE = lazy(
    r"\b(?:CUDA|HIP|NCCL|RCCL) error\b|Watchdog caught collective operation timeout"
    r"|watchdog thread terminated with exception|\bCUDNN_STATUS_[A-Z_]*(?:FAILED|ERROR)|\buncorrectable ECC error"
)
_ABORTED = lazy(
    r"^terminate called after throwing|(?:^|: line \d+:\s+\d+ )Aborted\b.{0,200}$"
    r"|\bexit(?:ed)?(?: with)?(?: exit)?(?: (?:code|status))?:? 1(?:37|39|43)\b"
)
_TASK = lazy(r"^srun: error: .*: (?:Exited with exit code [1-9]|Killed|Terminated|Segmentation fault)")
_MAX_WIDTH = 1_000
"""Characters of a line that are examined."""
_MAX_TRACEBACK, _MAX_AFTER = 400, 100
"""Lines of a traceback, and lines after its end, beyond which the program counts as having survived it."""

Grade = Literal[0, 1, 2, 3]


class Ending:
    """Searches the plain lines of a log for signs that its program has died."""

    def __init__(self) -> None:
        self.reason = ""
        """The line of the log that gives the reason, without Slurm's decoration; "" while there is none."""
        self._grade: Grade = 0
        """How specific the reason is: 1 a failed task, 2 an exception or a signal, 3 a scheduler."""
        self._open = 0  # lines that the current traceback may still have
        self._prefix = ""  # the prefix of each of its lines, such as a rank
        self._later = self._moved = 0  # lines, and moves of a progress bar, since the reason

    @property
    def interrupted(self) -> bool:
        """Whether the user ended the program with Ctrl+C."""
        return self.reason.startswith("KeyboardInterrupt") or "LoadError: InterruptException" in self.reason

    def take(self, line: str) -> None:
        """Read the next line that is neither a record nor a progress bar, without colours."""
        line = line[:_MAX_WIDTH].rstrip()
        if (at := line.find(_TRACEBACK)) >= 0:
            self._open, self._prefix = _MAX_TRACEBACK, line[:at]
            if not self.reason:
                self._store(_TRACEBACK, 1)
            return
        if self._open:
            self._open -= 1
            body = line.removeprefix(self._prefix)
            exception = _EXCEPTION.match(body)
            if exception:
                self._open = 0
                launcher = exception["name"].rpartition(".")[2] in _COLLECTED
                self._store(body, 1 if launcher else 2)
            return
        if _SCHEDULER.search(line):
            slurm = _SLURM.fullmatch(line)
            self._store(line if slurm is None else f"{slurm[1]}{slurm[2] or ''}", 3)
        elif _SIGNAL.search(line) or (self._is_fatal(line) and not _RETRIED.search(line)):
            self._store(line, 2)
        elif _TASK.match(line) or _ABORTED.search(line):
            self._store(line, 1)
        elif self.reason:
            self._later += 1
            if self._later > _MAX_AFTER:
                self.survived()

    @staticmethod
    def _is_fatal(line: str) -> bool:
        return _DEVICE.search(line) is not None or bool(_MEMORY.search(line) and _FATAL.search(line))

    def moved(self) -> None:
        """A progress bar advanced. A single advance may be the last redraw of a program that died."""
        self._moved += bool(self.reason)
        if self._moved > 1:
            self.survived()

    def survived(self) -> None:
        """The program continued: earlier signs of its end do not count."""
        self.reason, self._grade, self._open = "", 0, 0
        self._later = self._moved = 0

    def _store(self, reason: str, grade: Grade) -> None:
        self._later = self._moved = 0
        if grade >= self._grade and not (grade == 1 and self.reason not in ("", _TRACEBACK)):
            self.reason, self._grade = reason.strip(), grade
