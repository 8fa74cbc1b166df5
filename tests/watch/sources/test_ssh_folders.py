"""Folders, packed files and Slurm jobs on another host."""

import gzip
import json
import os
import signal
import time
from pathlib import Path

import pytest

from tdiff.errors import TdiffError
from tdiff.watch.sources import ssh
from tdiff.watch.sources.address import Address
from tests.support.event_files import write_events
from tests.support.slurm import path_with, pretend_slurm
from tests.support.ssh import follow as follow
from tests.support.ssh import local as local
from tests.support.ssh import quick as quick
from tests.support.ssh import write as write


def in_folder(folder: Path, name: str, lines: list[str], age: float = 0.0) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, lines)
    os.utime(path, (time.time() - age, time.time() - age))
    return path


def test_folder_on_the_other_host_is_its_newest_log_with_a_loss(local, follow):
    folder = local / "a 'folder'"
    folder.mkdir()
    follower = follow(f"ssh://host{folder}")
    follower.until_text("has no log with a loss in it yet; waiting for one")
    in_folder(folder, "checkpoint-5/trainer_state.json", ['{"log_history": [', '{"loss": 3}]}'], 5)
    in_folder(folder, "old.log", ["loss 4"], 900)
    in_folder(folder, "noise.log", ["installing"], 1)
    in_folder(folder, "wandb/debug.log", ["loss"], 1)
    in_folder(folder, "version 1/metrics.csv", ["step,loss", "1,3"], 60)
    follower.until_lines(["step,loss", "1,3"])
    assert follower.source.choice.startswith("reading version 1/metrics.csv; also there: noise.log, old.log")
    assert follower.source.short == "version 1/metrics.csv"
    write(folder / "version 1/metrics.csv", ["2,2"])
    follower.until_lines(["step,loss", "1,3", "2,2"])
    assert follower.resets == 0


def test_newer_file_of_the_folder_is_read_once_the_present_one_is_silent(local, follow, monkeypatch):
    monkeypatch.setattr(ssh, "_IDLE", 10)
    folder = local / "folder"
    in_folder(folder, "version_0/metrics.csv", ["step,loss", "1,3"], 60)
    follower = follow(f"ssh://host{folder}")
    follower.until_lines(["step,loss", "1,3"])
    in_folder(folder, "version_1/metrics.csv", ["step,loss", "7,1"])
    follower.until_lines(["step,loss", "7,1"])
    assert follower.resets == 1
    assert follower.source.choice == "reading version_1/metrics.csv; also there: version_0/metrics.csv"


def test_folder_continues_with_its_file_after_a_dropped_connection(local, follow):
    folder = local / "folder"
    log = in_folder(folder, "a.log", [f"step {n} loss 3" for n in range(200)], 60)
    follower = follow(f"ssh://host{folder}")
    follower.until(lambda: follower.source.status().current and len(follower.lines) == 200)
    in_folder(folder, "b.log", ["step 1 loss 9"])
    write(log, ["step 200 loss 3"])
    os.killpg(follower.source._process.pid, signal.SIGKILL)
    follower.until(lambda: len(follower.lines) == 201)
    assert follower.resets == 0


def test_trainer_state_is_read_where_there_is_no_log(local, follow):
    folder = local / "folder"
    in_folder(folder, "checkpoint-5/trainer_state.json", ['{"log_history": [', '{"loss": 3}]}'])
    in_folder(folder, "config.json", ["{}"])
    follower = follow(f"ssh://host{folder}")
    follower.until_lines(['{"log_history": [', '{"loss": 3}]}'])


def test_event_file_and_gzip_on_the_other_host_are_read(local, follow):
    path = local / "board/events.out.tfevents.1.h"
    write_events(path, [(n, {"train/loss": 3.0 - n}) for n in range(3)])
    os.utime(path, (time.time() - 60, time.time() - 60))
    follower = follow(f"ssh://host{path.parent}")
    follower.until(lambda: len(follower.lines) == 3)
    assert [json.loads(line)["train/loss"] for line in follower.lines] == [3.0, 2.0, 1.0]
    (local / "a.csv").write_bytes(gzip.compress(b"step,loss\n1,2\n"))
    follow(f"ssh://host{local}/a.csv").until_lines(["step,loss", "1,2"])


def test_end_of_a_big_file_that_is_no_text_is_not_read(local, follow, monkeypatch):
    monkeypatch.setattr(ssh, "_NEWEST", 1000)
    path = local / "events.out.tfevents.1.h"
    write_events(path, [(n, {"train/loss": 3.0 - n}) for n in range(100)])
    follower = follow(f"ssh://host{path}")
    follower.until(
        lambda: follower.source.status().current and "that are not plain text" in follower.source.status().text
    )
    assert follower.lines == []


def test_job_on_the_other_host_is_followed_from_its_start_to_its_end(local, follow, monkeypatch):
    cluster = pretend_slurm(local / "slurm")
    monkeypatch.setenv("PATH", path_with(cluster))
    output = local / "my output.log"
    cluster.show("7", "PENDING", output, reason="Resources")
    follower = follow("ssh://host/slurm:7")
    follower.until_text(f"{output} on host is not there yet")
    assert follower.source.job.waits
    write(output, ["step 1 loss 3"])
    cluster.show("7", "RUNNING", output)
    follower.until_lines(["step 1 loss 3"])
    follower.until(lambda: follower.source.job.runs)
    cluster.show("7", "TIMEOUT", output)
    follower.until(lambda: follower.source.job.outcome == "failed")
    assert follower.source.job.failure == "Slurm job 7 reached its time limit of 1 h 00 min"


def test_scheduler_that_does_not_answer_ends_neither_the_job_nor_its_file(local, follow, monkeypatch):
    cluster = pretend_slurm(local / "slurm")
    monkeypatch.setenv("PATH", path_with(cluster))
    monkeypatch.setattr(ssh, "SCRIPT", ssh.SCRIPT.replace("ask=40", "ask=1"))
    output = local / "it's my output.log"
    cluster.show("7", "RUNNING", output)
    write(output, ["step 1 loss 3"])
    follower = follow("ssh://host/slurm:7")
    follower.until_lines(["step 1 loss 3"])
    cluster.fail()
    os.killpg(follower.source._process.pid, signal.SIGKILL)
    asked = len(cluster.calls)
    follower.until(lambda: len(cluster.calls) > asked)
    write(output, ["step 2 loss 2"])
    follower.until_lines(["step 1 loss 3", "step 2 loss 2"])
    assert follower.source.job.runs and follower.resets == 0
    cluster.recover()
    cluster.show("7", "TIMEOUT", output)
    follower.until(lambda: follower.source.job.over)
    cluster.forget("7")  # Slurm forgets a job minutes after its end
    os.killpg(follower.source._process.pid, signal.SIGKILL)
    asked = len(cluster.calls)
    follower.until(lambda: len(cluster.calls) > asked)
    write(output, ["step 3 loss 1"])
    follower.until_lines(["step 1 loss 3", "step 2 loss 2", "step 3 loss 1"])
    assert follower.source.job.failure == "Slurm job 7 reached its time limit of 1 h 00 min"


def test_job_that_the_other_host_does_not_know_is_one_line_of_status(local, follow, monkeypatch):
    follow("ssh://host/slurm:8").until_text("Slurm on host: ")
    cluster = pretend_slurm(local / "slurm")
    monkeypatch.setenv("PATH", path_with(cluster))
    follow("ssh://host/slurm:8").until_text("Slurm on host: slurm_load_jobs error: Invalid job id specified")
    cluster.show("9", "RUNNING", None)
    follow("ssh://host/slurm:9").until_text("job 9 has no output file: Slurm on host reports none")
    with pytest.raises(TdiffError, match="named by its number"):
        Address.parse("ssh://host/slurm:train")
