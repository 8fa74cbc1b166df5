"""`tdiff stop` and `tdiff resume` for a run on another machine, or of a Slurm job."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tdiff.commands import on_host
from tdiff.commands.on_host import say
from tdiff.errors import TdiffError
from tdiff.remote import place
from tdiff.remote.link import Link
from tdiff.remote.slurm_job import job_id
from tdiff.visible import visible_line

_FAILED = 1
_TIMEOUT = 120.0
Runner = Callable[[Sequence[str]], tuple[int, str]]
"""Runs a command, and returns its exit code and what it printed."""


def stop(text: str, *, now: bool) -> None:
    """Stop the run at an ssh:// address; it saves first unless `now`. Raises TdiffError where tdiff is not there."""
    address, name = place.split_run(text)
    with Link(address) as link:
        _check(link, name)
        if number := _job(link, name):
            stop_job(number, lambda command: link.run(command)[:2], now=now)
            return
        command = [place.TDIFF, "stop", f"{place.RUNS}/{name}", *(["--now"] if now else [])]

        def take(_: str, line: str) -> None:
            said, found, _name = line.partition("Resume with: ")
            again = f"{found}tdiff resume {shlex.quote(place.of_run(address, name))}" if found else ""
            say(f"{link.host}: {said.removeprefix('tdiff: ')}{again}")

        code, _, _ = link.run(command, take)
    if code:
        sys.exit(code)


def resume(text: str, options: Sequence[str]) -> None:
    """Resume the run at an ssh:// address, detached, or submit its Slurm job again.

    `options` are those of `tdiff resume`. Raises TdiffError where tdiff is not there.
    """
    address, name = place.split_run(text)
    with Link(address) as link:
        _check(link, name)
        if number := _job(link, name):
            if [option for option in options if not option.startswith("--detach")]:
                raise TdiffError("a job of Slurm resumes with the settings of its batch script; got another budget")
            if _state(number, lambda command: link.run(command)[:2]):
                raise TdiffError(f"job {number} of run {name!r} is still in the queue")
            path = f"{link.root}/{place.JOBS}/{name}"
            words = ["sbatch", "--parsable", f"--chdir={link.root}", f"--output={path.replace('%', '%%')}/log"]
            code, out, last = link.run([*words, f"{path}/job.sh"])
            if code:
                raise TdiffError(f"{link.host}: sbatch refuses the job: {visible_line((last or [''])[-1])}")
            link.ask("put", f"{job_id(out)}\n".encode(), path=f"{place.JOBS}/{name}/id", mode=0o644)
            say(f"{name} is job {job_id(out)}, which resumes it")
            return
        on_host.begin(link, address, ["resume", f"{place.RUNS}/{name}", *options])


def local_job(name: str) -> str:
    """The number of the Slurm job that was submitted here for a run; "" if there is none."""
    try:
        number = (Path(place.JOBS) / Path(name).name / "id").read_text().strip()
    except (OSError, ValueError):
        return ""
    return number if number.isdecimal() else ""


def is_queued_here(number: str) -> bool:
    """Whether a job that was submitted here waits or runs."""
    return shutil.which("squeue") is not None and bool(_state(number, _run_here))


def stop_local_job(number: str, *, now: bool) -> bool:
    """Stop a job that was submitted here. Returns False if it is not in the queue."""
    if not is_queued_here(number):
        return False
    stop_job(number, _run_here, now=now)
    return True


def stop_job(number: str, run: Runner, *, now: bool) -> None:
    """Ask a job to save and stop, or cancel it. Raises TdiffError if it is not in the queue."""
    state = _state(number, run)
    if not state:
        raise TdiffError(f"job {number} is not in the queue of Slurm: it has ended")
    running = state == "RUNNING" and not now
    code, said = run(["scancel", *(["--batch", "--signal=TERM"] if running else []), number])
    if code:
        raise TdiffError(f"scancel {number} failed: {visible_line(said)}")
    say(f"asked job {number} to save and stop" if running else f"cancelled job {number} ({visible_line(state)})")


def _state(number: str, run: Runner) -> str:
    """The state of a job in the queue; "" if it is not there."""
    code, out = run(["squeue", "--noheader", f"--jobs={number}", "--format=%T"])
    return out.strip().splitlines()[0].strip() if code == 0 and out.strip() else ""


def _run_here(command: Sequence[str]) -> tuple[int, str]:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.SubprocessError) as error:
        return _FAILED, str(error)
    return done.returncode, done.stdout or done.stderr


def _check(link: Link, name: str) -> None:
    if not link.ask("exists", paths=[place.TDIFF])["there"][0]:
        raise NoTdiff(f"{link.root} on {link.host} has no tdiff that tdiff train --on installed")
    run, job = link.ask("exists", paths=[f"{place.RUNS}/{name}", f"{place.JOBS}/{name}"])["there"]
    if not run and not job:
        raise TdiffError(f"no run {name!r} in {link.root}/{place.RUNS} on {link.host}")


def _job(link: Link, name: str) -> str:
    path = f"{place.JOBS}/{name}/id"
    if not link.ask("exists", paths=[path])["there"][0]:
        return ""
    data: bytes = link.ask("read", path=path, offset=0, count=64)["data"]
    text = data.decode("ascii", "replace").strip()
    return text if text.isdecimal() else ""


class NoTdiff(TdiffError):
    """The folder was not prepared by `tdiff train --on`."""
