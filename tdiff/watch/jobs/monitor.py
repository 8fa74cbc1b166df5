"""Follows the state of a job, in a thread that no reader waits for."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from tdiff.errors import TdiffError
from tdiff.watch.jobs import slurm
from tdiff.watch.jobs.job import UNKNOWN, Job
from tdiff.watch.periodic import Periodic

PAUSE = 20.0
"""Seconds between two questions to the scheduler, which serves a whole cluster."""


class JobMonitor:
    """The newest state of one job."""

    def __init__(
        self,
        job: Job,
        query: Callable[[str], Job | None] = slurm.query,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`job` is what is known now; `query` asks for the job of an id, and may raise TdiffError."""
        self.job = job
        self.problem = ""
        """Why the newest question has no answer; "" if it has."""
        self._query = query
        self._questions: Periodic[Job | TdiffError | None] = Periodic(self._ask, PAUSE, clock)
        self._questions.stopped = job.over

    def poll(self) -> bool:
        """Take in the newest answer. Returns whether anything is different."""
        before = self.job, self.problem
        for answer in self._questions.poll():
            self._take(answer)
        return (self.job, self.problem) != before

    def wait(self, seconds: float) -> None:
        """Wait for the question that is being asked."""
        self._questions.wait(seconds)

    def close(self) -> None:
        """Ask no more."""
        self._questions.stopped = True

    def _ask(self) -> Job | TdiffError | None:
        try:
            return self._query(self.job.id)
        except TdiffError as problem:
            return problem

    def _take(self, answer: Job | TdiffError | None) -> None:
        if isinstance(answer, TdiffError):
            self.problem = str(answer)
            return
        self.problem = ""
        if answer is None:
            self.job = replace(self.job, state=UNKNOWN)
            self._questions.stopped = True
        else:
            # The accounting knows the output file of an ended job only by its usual name.
            same = answer.id == self.job.id  # a task of a waiting array gets its own id and file when it starts
            output = (same and self.job.output) or answer.output or self.job.output
            self.job = replace(answer, output=output, others=self.job.others)
            self._questions.stopped = answer.over
