"""Asks Slurm about a job, through `scontrol`, `squeue` and, once it has ended, `sacct`. All calls may take seconds."""

from __future__ import annotations

import getpass
import os
import re
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from tdiff.errors import TdiffError
from tdiff.patterns import lazy
from tdiff.visible import visible_line
from tdiff.watch.jobs.job import Job, safe, seconds

PREFIX = "slurm:"
"""How a job is named on the command line: `slurm:4711`, `slurm:NAME`, or `slurm:` for the newest of one's own."""
_TIMEOUT = 10.0
"""Seconds that a program of Slurm may take; a busy controller takes some."""
_ID = lazy(r"\d+(?:[_+]\d+)?")
_OUTPUT_NAME = lazy(r"slurm-(\d+(?:_\d+)?)\.(?:out|err)")
_TO_END_OF_LINE = ("JobName", "Command", "WorkDir", "StdErr", "StdIn", "StdOut", "Comment", "Dependency")
"""Keys of `scontrol show job` whose values may contain blanks, and end with the line."""
_MAX_OTHERS = 5


class NoJob(TdiffError):
    """Slurm knows no such job."""


def find(word: str) -> Job:
    """The job that `slurm:ID`, `slurm:NAME` or `slurm:` names, with its output file.

    Raises TdiffError if there is no Slurm here, no such job, or no output file.
    """
    wanted = word.removeprefix(PREFIX)
    if shutil.which("scontrol") is None:
        raise TdiffError(
            f"{word!r} requires Slurm, and its program scontrol was not found on this machine; watch the job's output "
            "file, or ssh://HOST/PATH if it is elsewhere"
        )
    if _ID.fullmatch(wanted):
        job = query(wanted)
        if job is None:
            raise NoJob(f"Slurm knows no job {wanted!r}{_own_jobs()}; for another cluster, set SLURM_CLUSTERS")
    else:
        job = _named(word, wanted)
    if job.output is None and job.over:
        raise TdiffError(
            f"job {job.id} ({job.name}) has ended ({job.state}) and its output file is no longer known; name the file"
        )
    if job.output is None:
        raise TdiffError(
            f"job {job.id} ({job.name}) has no output file: Slurm reports none, as for interactive jobs (salloc, srun) "
            "and --output=/dev/null"
        )
    return job


def may_be_output(path: Path) -> bool:
    """Whether a file has the name that Slurm gives to a job's output, and there is a Slurm to ask."""
    return _OUTPUT_NAME.fullmatch(path.name) is not None and shutil.which("scontrol") is not None


def of_output(path: Path) -> Job | None:
    """The job that writes to the file `slurm-ID.out`, if Slurm still knows it; None for any other file."""
    match = _OUTPUT_NAME.fullmatch(path.name)
    if match is None:
        return None
    with suppress(TdiffError, OSError, ValueError):
        job = query(match[1], accounting=False)
        if job is not None and job.output is not None and job.output.samefile(path):
            return job
    return None


def query(job_id: str, *, accounting: bool = True) -> Job | None:
    """What Slurm knows of a job now; None if it knows none. With `accounting`, also of jobs that ended long ago.

    Raises TdiffError if Slurm does not answer.
    """
    code, output, problem = _call(["scontrol", "show", "job", job_id])
    if code == 0 and (jobs := parse_jobs(output, time.time())):
        return choose(jobs)
    if code and not is_unknown(problem):
        raise TdiffError(f"scontrol failed: {_last_line(problem) or f'status {code}'}")
    return _accounted(job_id) if accounting else None


def is_unknown(message: str) -> bool:
    """Whether `scontrol` says that there is no such job, and not merely that it cannot tell."""
    return "Invalid job id" in message or "No job" in message


def choose(jobs: Sequence[Job]) -> Job:
    """Of the tasks of an array: the newest that runs, else the newest that has ended, else the first that waits."""
    ranked = sorted(jobs, key=lambda job: (job.runs, job.over, job.output is not None and job.output.exists()))
    others = tuple(job.id for job in jobs if job is not ranked[-1])
    return replace(ranked[-1], others=others[:_MAX_OTHERS])


def parse_jobs(text: str, now: float) -> list[Job]:
    """The jobs in the output of `scontrol show job`, asked at `now`."""
    return [_job(values, now) for block in re.split(r"\n\s*\n", text) if "JobId" in (values := _values(block))]


def _values(block: str) -> dict[str, str]:
    """The pairs of one record: several a line, except for values that contain blanks."""
    values: dict[str, str] = {}
    for line in block.splitlines():
        rest = line.strip()
        while rest:
            key, equals, after = rest.partition("=")
            if not equals or " " in key:
                break
            if key in _TO_END_OF_LINE:
                values.setdefault(key, after.strip())
                break
            value, _, rest = after.partition(" ")
            values.setdefault(key, value)
            rest = rest.lstrip()
    return values


def _job(values: Mapping[str, str], now: float) -> Job:
    array, task = values.get("ArrayJobId"), values.get("ArrayTaskId", "")
    job_id = f"{array}_{task}" if array and task.isdecimal() else values["JobId"]
    state = values.get("JobState", "").rstrip("+").partition(",")[0].upper()
    limit, ran = seconds(values.get("TimeLimit", "")), seconds(values.get("RunTime", ""))
    return Job(
        id=safe(job_id),
        name=safe(values.get("JobName", "")),
        state=safe(state),
        reason=safe(values.get("Reason", "")),
        nodes=safe(values.get("NodeList", "")),
        starts=_date(values.get("StartTime", "")),
        deadline=now + limit - ran if limit is not None and ran is not None else None,
        limit=limit,
        exit_code=safe(values.get("ExitCode", "")),
        output=_output(values, job_id),
    )


def _output(values: Mapping[str, str], job_id: str) -> Path | None:
    """The output file; an old Slurm leaves patterns in its name."""
    name = values.get("StdOut", "")
    if name in ("", "(null)", "/dev/null", "none"):
        return None
    array, _, task = job_id.partition("_")
    patterns = {
        "%": "%", "j": values["JobId"], "J": values["JobId"], "A": array, "a": task or "0",
        "x": values.get("JobName", ""), "u": values.get("UserId", "").partition("(")[0],
        "N": values.get("BatchHost", ""),
    }  # fmt: skip
    name = re.sub(r"%\d*([%jJAaxuN])", lambda match: patterns[match[1]], name)
    return Path(values.get("WorkDir", ""), name)


def _accounted(job_id: str) -> Job | None:
    """The job by Slurm's accounting, where there is one; the output file is the usual one, if that exists."""
    if shutil.which("sacct") is None:
        return None
    fields = "JobID,State,ExitCode,ElapsedRaw,TimelimitRaw,NodeList,JobName,WorkDir"
    code, output, _ = _call(["sacct", "-j", job_id, "-X", "-n", "-P", "-o", fields])
    rows = [line.split("|", 7) for line in output.splitlines() if line.count("|") >= 7]
    if code or not rows:
        return None
    found, state, exit_code, _elapsed, limit, nodes, name, folder = rows[-1]
    by, state = state, (state.split() or [""])[0].rstrip("+")
    output_file = Path(folder, f"slurm-{found}.out")
    return Job(
        id=safe(found),
        name=safe(name),
        state=safe(state.upper()),
        reason=safe(by.removeprefix(state).strip()),
        nodes=safe(nodes),
        limit=int(limit) * 60.0 if limit.isdecimal() else None,
        exit_code=safe(exit_code),
        output=output_file if folder and output_file.exists() else None,
        others=tuple(row[0] for row in rows[:-1])[:_MAX_OTHERS],
    )


def _named(word: str, name: str) -> Job:
    """The newest of the user's jobs with this name, or of all: one that runs precedes one that waits."""
    code, output, problem = _call(["squeue", "-h", "-u", _user(), "-o", "%i|%T|%j"])
    if code:
        raise TdiffError(f"squeue failed: {_last_line(problem) or f'status {code}'}")
    rows = [line.strip().split("|", 2) for line in output.splitlines() if line.count("|") >= 2]
    rows = [row for row in rows if not name or row[2] == name]
    if not rows:
        said = f"you have no job named {name!r} in Slurm's queue" if name else "you have no job in Slurm's queue"
        raise NoJob(f"{said}{_own_jobs() if name else ''}; {word!r} names a job by its number or its name")
    rows.sort(key=lambda row: (row[1] == "RUNNING", [int(part) for part in re.findall(r"\d+", row[0])]))
    job = query(re.sub(r"_\[.*", "", rows[-1][0]))
    if job is None:
        raise NoJob(f"job {rows[-1][0]} has left Slurm's queue just now")
    return replace(job, others=(*job.others, *(row[0] for row in rows[-2::-1]))[:_MAX_OTHERS])


def _own_jobs() -> str:
    """The jobs that the user has, for a message."""
    with suppress(TdiffError):
        code, output, _ = _call(["squeue", "-h", "-u", _user(), "-o", "%i (%j)"])
        jobs = [visible_line(line.strip()[:80]) for line in output.splitlines() if line.strip()]
        if not code and jobs:
            more = f" and {len(jobs) - _MAX_OTHERS} more" if len(jobs) > _MAX_OTHERS else ""
            return f"; your jobs are: {', '.join(jobs[:_MAX_OTHERS])}{more}"
    return ""


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name
        return str(os.getuid())


def _date(text: str) -> float | None:
    """A local date as Slurm writes it, in seconds since the epoch; None where it writes that there is none."""
    with suppress(ValueError, OverflowError, OSError):
        return datetime.fromisoformat(text).timestamp()
    return None


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return visible_line(lines[-1][:200]) if lines else ""


def _call(words: Sequence[str]) -> tuple[int, str, str]:
    """(status, stdout, stderr) of a program of Slurm. Raises TdiffError if it is missing or does not answer."""
    environment = os.environ | {"SLURM_TIME_FORMAT": "standard", "LC_ALL": "C.UTF-8"}
    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, timeout=_TIMEOUT, env=environment, check=False
        )
    except subprocess.TimeoutExpired:
        raise TdiffError(f"Slurm's {words[0]} did not answer within {_TIMEOUT:.0f} s") from None
    except OSError as error:
        raise TdiffError(f"Slurm's {words[0]} cannot be run: {error.strerror}") from None
    return done.returncode, done.stdout.decode("utf-8", "surrogateescape"), done.stderr.decode("utf-8", "replace")
