"""Where a target's lines are now: the file of a folder or of a job may become another one while it is watched."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tdiff.watch.targets import Target, label_of

if TYPE_CHECKING:  # most targets are neither in a folder nor written by a job
    from tdiff.watch.jobs.job import Job
    from tdiff.watch.jobs.monitor import JobMonitor
    from tdiff.watch.periodic import Periodic
    from tdiff.watch.sources.folder_choice import FolderChoice
    from tdiff.watch.sources.folder_watch import FolderWatch

_JOB_PATIENCE = 15.0
"""Seconds that a snapshot waits for the scheduler."""


class Place:
    """Follows the folder and the job of a target."""

    def __init__(self, target: Target) -> None:
        self.target = target
        """What is read now. Another object replaces it when another file is to be read."""
        self._folder: FolderWatch | None = None
        if target.folder and target.folder_choice:
            from tdiff.watch.sources.folder_watch import FolderWatch

            self._folder = FolderWatch(target.folder, target.folder_choice)
        self._monitor = _monitor(target.job) if target.job is not None else None
        self._lookup: Periodic[Job | None] | None = None
        if self._monitor is None:
            self._look_for_job()

    @property
    def job(self) -> Job | None:
        """The job that writes the file, where that is known."""
        return self._monitor.job if self._monitor is not None else None

    @property
    def line(self) -> str:
        """Which file is read and what else there is, in one sentence; "" where the user named the file."""
        if self._folder is not None:
            return self._folder.choice.line
        if self.target.kind == "slurm" and self.job is not None:
            return _of_job(self.job)
        return self.target.note

    @property
    def total(self) -> int | None:
        """The steps that the run will take, where another file in the folder says it."""
        return self._folder.choice.total if self._folder is not None else None

    def poll(self) -> bool:
        """Take in what is new; never waits. Returns whether anything is."""
        new = False
        if self._folder is not None and self._folder.poll():
            self._move_to(self._folder.choice)
            new = True
        if self._monitor is not None and self._monitor.poll():
            new = True
            output = self._monitor.job.output
            if self.target.kind == "slurm" and output is not None and output != self.target.path:
                self.target = replace(self.target, path=output)
        if self._lookup is not None:
            for job in self._lookup.poll():
                self._lookup = None
                if job is not None:
                    self._monitor, new = _monitor(job), True
        return new

    def settle(self) -> None:
        """Wait for the scheduler's answer, for a snapshot."""
        self.poll()
        if self._lookup is not None:
            self._lookup.wait(_JOB_PATIENCE)
            self.poll()

    def close(self) -> None:
        """Ask no more."""
        if self._monitor is not None:
            self._monitor.close()

    def _move_to(self, choice: FolderChoice) -> None:
        self.target = replace(self.target, path=choice.candidate.path, folder_choice=choice)
        self._monitor = None
        self._look_for_job()

    def _look_for_job(self) -> None:
        """If the file may be the output of a job, ask the scheduler at the next poll."""
        path = self.target.path
        self._lookup = None
        if path is None or not path.name.startswith("slurm-"):
            return
        from tdiff.watch.jobs import slurm
        from tdiff.watch.periodic import Periodic

        if slurm.may_be_output(path):
            self._lookup = Periodic(lambda: _job_of(path), 0.0)


def _monitor(job: Job) -> JobMonitor:
    from tdiff.watch.jobs.monitor import JobMonitor

    return JobMonitor(job)


def _job_of(path: Path) -> Job | None:
    from tdiff.watch.jobs import slurm

    try:
        return slurm.of_output(path)
    except OSError:
        return None


def _of_job(job: Job) -> str:
    others = f"; also: {', '.join(job.others)}" if job.others else ""
    return f"reading {label_of(job.output)} of job {job.id} ({job.name}){others}" if job.output else ""
