"""The GPUs of another host, through the connection that follows its file: a real sshd on loopback, and a local sh."""

import os
import signal
import stat
import time
from pathlib import Path

import pytest

from tdiff.watch.devices import script
from tdiff.watch.devices.readers import RemoteReader
from tests.support import fake_tools
from tests.support.slurm import pretend_slurm
from tests.support.ssh import (  # noqa: F401
    children,
    far,
    follow,
    kill_all_under,
    local,
    quick,
    server,
    write,
)


def with_path(folder: Path, command: str, wrapper: Path) -> str:
    """An ssh command that puts `folder` first on PATH on the other side."""
    lines = ["#!/usr/bin/env bash", 'words=("$@")', f"words[-1]=\"PATH='{folder}':$PATH ${{words[-1]}}\""]
    wrapper.write_text("\n".join([*lines, f'exec {command} "${{words[@]}}"\n']))
    wrapper.chmod(wrapper.stat().st_mode | stat.S_IXUSR)
    return str(wrapper)


@pytest.fixture
def tools(far, tmp_path, monkeypatch):  # noqa: F811
    """A folder of programs that comes first on PATH of the other host."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("TDIFF_SSH", with_path(folder, os.environ["TDIFF_SSH"], tmp_path / "wrapper"))
    return folder


def read(follower, reader: RemoteReader, *, find: bool = True) -> None:
    """Ask once, and wait for the answer."""
    follower.until(lambda: reader.ask(time.monotonic(), gpus=True, find=find, known=[0]))
    follower.until(lambda: reader.poll(time.monotonic()))


def test_gpus_and_the_writer_of_the_log_are_read_over_the_same_connection(tools, far, server, follow, tmp_path):  # noqa: F811
    fake_tools.nvidia_smi(tools, apps=f"GPU-aaaa, $(cat {tmp_path}/pid), 42000")
    log = tmp_path / "it's a log"
    with log.open("w") as file:
        file.write("step 1 loss 2\n")
        file.flush()
        (tmp_path / "pid").write_text(str(os.getpid()))
        follower = follow(f"{far}{log}")
        reader = RemoteReader(follower.source)
        read(follower, reader)
        assert [gpu.name for gpu in reader.interpreter.gpus] == ["NVIDIA GeForce RTX 4090"] * 2
        assert (reader.interpreter.source, reader.interpreter.problem) == ("nvidia-smi", "")
        [job] = reader.interpreter.jobs
        assert os.getpid() in job.pids
        assert reader.interpreter.gpus[0].processes[0].pid == os.getpid()
        assert reader.interpreter.host == os.uname().nodename
        assert follower.source.connections == 1
        write(log, ["step 2 loss 1"])
        follower.until_lines(["step 1 loss 2", "step 2 loss 1"])
        assert follower.source.status().text == ""


@pytest.mark.parametrize("named", ["job", "folder"])
def test_writer_of_the_log_of_a_job_or_in_a_folder_is_found(tools, far, follow, tmp_path, named):  # noqa: F811
    fake_tools.nvidia_smi(tools)
    cluster = pretend_slurm(tmp_path / "slurm")
    for program in (cluster.folder / "bin").iterdir():
        (tools / program.name).symlink_to(program)
    log = tmp_path / "runs" / "it's 100% $HOME \\0101.log"
    log.parent.mkdir()
    cluster.show("7", "RUNNING", log)
    with log.open("w") as file:
        file.write("step 1 loss 2\n")
        file.flush()
        follower = follow(f"{far}/slurm:7" if named == "job" else f"{far}{log.parent}")
        reader = RemoteReader(follower.source)
        read(follower, reader)  # possibly before the file is known
        follower.until_lines(["step 1 loss 2"])
        read(follower, reader, find=False)
        assert os.getpid() in reader.interpreter.jobs[0].pids


def test_a_host_without_gpus_still_has_the_job(tools, far, follow, tmp_path):  # noqa: F811
    log = tmp_path / "log"
    with log.open("w"):
        follower = follow(f"{far}{log}")
        reader = RemoteReader(follower.source)
        read(follower, reader)
        assert "no GPU is visible" in reader.interpreter.problem
        assert os.getpid() in reader.interpreter.jobs[0].pids


def test_a_program_that_hangs_there_does_not_delay_the_file(tools, far, follow, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr(script, "TIMEOUT", 2)
    fake_tools.program(tools, "nvidia-smi", "exec sleep 600")
    log = tmp_path / "log"
    write(log, ["a"])
    follower = follow(f"{far}{log}")
    reader = RemoteReader(follower.source)
    follower.until(lambda: reader.ask(time.monotonic(), gpus=True, find=False, known=[0]))
    follower.until(lambda: fake_tools.calls(tools, "nvidia-smi"))
    write(log, ["b"])
    follower.until_lines(["a", "b"])
    assert not reader.poll(time.monotonic())
    follower.until(lambda: reader.poll(time.monotonic()))
    assert "nvidia-smi did not answer" in reader.interpreter.problem


def test_it_is_asked_again_after_a_dropped_connection(tools, far, server, follow, tmp_path):  # noqa: F811
    fake_tools.nvidia_smi(tools)
    log = tmp_path / "log"
    write(log, ["a"])
    follower = follow(f"{far}{log}")
    reader = RemoteReader(follower.source)
    read(follower, reader)
    os.kill(follower.source._process.pid, signal.SIGKILL)
    follower.until(lambda: not follower.source.status().connected)
    read(follower, reader, find=False)
    assert len(reader.interpreter.gpus) == 2 and follower.source.connections >= 2


def test_nothing_remains_on_the_other_host(tools, far, server, follow, tmp_path):  # noqa: F811
    fake_tools.nvidia_smi(tools)
    write(tmp_path / "log", ["a"])
    before = set(children(server[2]))
    follower = follow(f"{far}{tmp_path}/log")
    read(follower, RemoteReader(follower.source))
    there = set(children(server[2])) - before
    assert there
    follower.source.close()
    follower.until(lambda: not there & set(children(server[2])))


def test_messages_of_ssh_are_still_the_reason_of_a_failure(local, follow):  # noqa: F811
    (local / "fake").write_text("#!/bin/sh\nprintf 'tdiff-x begin\\nHost key verification failed.' >&2\nexit 255\n")
    follower = follow("ssh://host/a")
    follower.until_text("Host key verification failed.; reconnecting")
    assert not follower.source.ask_devices("1 1 0\n")
