"""What a viewer should know about a job: that its time limit comes too early, and that it is complete."""

from __future__ import annotations

from typing import Literal

from tdiff.watch.jobs.job import Job

_SAME_DEADLINE = 90.0
"""Seconds by which two answers about one deadline may differ."""


class JobNotices:
    """Reports each thing once."""

    def __init__(self) -> None:
        self._deadline: float | None = None  # the one that was reported as too early
        self._completed = ""  # the id of the job whose completion was reported

    def examine(
        self, job: Job, eta: float | None, ended: bool, now: float
    ) -> list[tuple[Literal["alert", "ended"], str]]:
        """What is new at `now`, as kinds and sentences.

        `eta` is the seconds until the end of the run, if known; `ended`: the log itself reported the end.
        """
        found: list[tuple[Literal["alert", "ended"], str]] = []
        if text := job.shortfall(eta, now):
            assert job.deadline is not None
            if self._deadline is None or abs(job.deadline - self._deadline) > _SAME_DEADLINE:
                self._deadline = job.deadline
                found.append(("alert", text))
        if job.outcome == "finished" and job.id != self._completed:
            self._completed = job.id
            if not ended:
                found.append(("ended", f"finished: Slurm job {job.id} is complete"))
        return found
