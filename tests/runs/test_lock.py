"""The lock of a run's folder: who holds it, and what replaces it where a file system has none."""

import errno
import fcntl
import json
import os
import subprocess
import sys
from dataclasses import asdict, replace

import pytest

from tdiff.config.settings import Settings
from tdiff.errors import TdiffError
from tdiff.files import CannotWrite
from tdiff.runs import lock, process
from tdiff.runs.run import Run, create


@pytest.fixture
def run(tmp_path) -> Run:
    return create("tale", Settings(), tmp_path)


def name(run: Run, **values) -> None:
    """Name a process in the run's folder."""
    named = replace(process.this_process(), **values)
    (run.path / process.FILE).write_text(json.dumps(asdict(named)))


def refusal(run: Run, **how) -> str:
    with pytest.raises(TdiffError) as error, lock.held(run.path, **how):
        pass
    return str(error.value)


def test_a_lock_dies_with_its_process_and_names_it_before(run):
    program = f"""
import sys, time
from pathlib import Path
from tdiff.runs import lock, process
with lock.held(Path({str(run.path)!r})), process.beating(Path({str(run.path)!r})):
    print("held", flush=True)
    sys.stdin.read()
"""
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        assert run.is_locked
        assert refusal(run).startswith(
            f"run 'tale' is being trained by another process: process {other.pid} of this machine, for 0 s; tdiff watch"
        )
        other.kill()
    assert not run.is_locked
    with run.locked():
        assert run.is_locked
    with run.locked():
        pass


def test_a_folder_without_locks_is_guarded_by_the_process_that_it_names(run, monkeypatch):
    def flock(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    said: list[str] = []
    with lock.held(run.path, say=said.append):
        pass
    assert said == [
        f"the file system of {run.path} has no locks ({os.strerror(errno.ENOLCK)}); process.json guards the run instead"
    ]
    parent = process.ThisMachine().began(os.getppid())
    name(run, pid=os.getppid(), began=parent)
    assert f"by another process: process {os.getppid()} of this machine" in refusal(run, say=said.append)
    name(run, pid=os.getppid(), began=parent, ended=1.0)
    with lock.held(run.path, say=said.append):
        pass


@pytest.mark.parametrize("beats", [True, False])
def test_a_process_of_another_host_is_observed_until_its_next_heartbeat(beats, run):
    name(run, host="gpu7", pid=12)
    said: list[str] = []
    waited: list[float] = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        if beats and sum(waited) >= process.BEAT:
            os.utime(run.path / process.FILE, ns=(0, 0))  # by a clock that is far behind

    if beats:
        assert "by another process: process 12 on gpu7, whose last heartbeat was" in refusal(
            run, say=said.append, sleep=sleep
        )
        assert sum(waited) == process.BEAT
    else:
        with lock.held(run.path, say=said.append, sleep=sleep):
            assert sum(waited) == lock.OBSERVED
    assert said == ["process 12 on gpu7 trained this run; waiting 25 s for its next heartbeat"]


@pytest.mark.parametrize("state", ["ended", "lost", "this process"])
def test_a_process_that_is_certainly_gone_is_not_waited_for(state, run):
    name(run, host="gpu7", pid=12, ended=float(state == "ended"))
    if state == "lost":
        os.utime(run.path / process.FILE, (1, 1))
    elif state == "this process":
        name(run)
    with lock.held(run.path, say=pytest.fail, sleep=pytest.fail):
        pass


def test_a_read_only_folder_is_one_line(run, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("pathlib.Path.open", refuse)
    with pytest.raises(CannotWrite) as error, run.locked():
        pass
    folder = run.path / "resume"
    assert str(error.value) == (
        f"{folder}/lock cannot be written: the folder {folder} is read-only or belongs to another user "
        f"({os.strerror(errno.EROFS)})"
    )
