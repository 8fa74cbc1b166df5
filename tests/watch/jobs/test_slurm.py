"""Slurm is asked about jobs, through programs that pretend to be its own."""

import os
import shutil
import time
from pathlib import Path

import pytest

from tdiff.errors import TdiffError
from tdiff.watch.follow import Watched
from tdiff.watch.jobs import slurm
from tdiff.watch.jobs.job import UNKNOWN
from tdiff.watch.jobs.monitor import JobMonitor
from tdiff.watch.targets import locate
from tests.support.slurm import PretendedSlurm, path_with, pretend_slurm

LOG = "".join(f"step {n}/1000 loss {3 - n / 400:.3f}\n" for n in range(10, 110, 10))


@pytest.fixture
def cluster(tmp_path, monkeypatch) -> PretendedSlurm:
    pretended = pretend_slurm(tmp_path / "slurm")
    monkeypatch.setenv("PATH", path_with(pretended))
    monkeypatch.chdir(tmp_path)
    return pretended


def refusal(word: str) -> str:
    with pytest.raises(TdiffError) as refused:
        locate(word)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_job_is_found_with_its_output_its_node_and_its_limit(cluster, tmp_path):
    cluster.show("4711", "RUNNING", tmp_path / "my run-4711.out", name="my long job")
    target = locate("slurm:4711")
    assert (target.kind, target.label, target.path) == ("slurm", "my long job", tmp_path / "my run-4711.out")
    job = target.job
    assert (job.state, job.nodes, job.limit, job.reason) == ("RUNNING", "gpu01", 3600.0, "None")
    assert 2990 < job.left(time.time()) <= 3000


def test_patterns_that_an_old_slurm_leaves_are_replaced(cluster):
    cluster.show("9", "RUNNING", "logs/%x-%j-%4A_%a-%u.out", name="tiny")
    assert slurm.find("slurm:9").output == Path("/home/me/logs/tiny-9-9_0-me.out")


def test_task_of_an_array_is_found_and_of_all_the_one_that_runs(cluster, tmp_path):
    blocks = []
    for task, number, state in (("0", 50, "COMPLETED"), ("1", 51, "RUNNING"), ("2-9", 50, "PENDING")):
        cluster.show("x", state, tmp_path / f"a_{task}", more=f"ArrayJobId=50 ArrayTaskId={task} ")
        blocks.append((cluster.folder / "jobs" / "x").read_text().replace("JobId=x", f"JobId={number}", 1))
    (cluster.folder / "jobs" / "50").write_text("".join(blocks))
    job = slurm.find("slurm:50")
    assert (job.id, job.output, job.others) == ("50_1", tmp_path / "a_1", ("50_0", "50"))


def test_job_is_found_by_its_name(cluster, tmp_path):
    for number, state in (("8", "PENDING"), ("5", "RUNNING"), ("6", "RUNNING")):
        cluster.show(number, state, tmp_path / f"{number}.out")
    cluster.queue("8|PENDING|train", "5|RUNNING|train", "6|RUNNING|train", "7|RUNNING|other")
    job = slurm.find("slurm:train")
    assert (job.id, job.others) == ("6", ("5", "8"))
    cluster.show("7", "RUNNING", tmp_path / "7.out")
    assert slurm.find("slurm:").id == "7"


def test_unknown_job_is_refused_with_the_jobs_that_there_are(cluster):
    assert refusal("slurm:9") == "Slurm knows no job '9'; for another cluster, set SLURM_CLUSTERS"
    cluster.queue("7|RUNNING|train", "8|PENDING|other")
    assert refusal("slurm:9").startswith("Slurm knows no job '9'; your jobs are: 7 (train), 8 (other); ")
    assert refusal("slurm:tarin").startswith("you have no job named 'tarin' in Slurm's queue; your jobs are: 7 (train)")
    cluster.queue()
    assert refusal("slurm:").startswith("you have no job in Slurm's queue")


def test_job_without_an_output_file_is_refused(cluster):
    cluster.show("9", "RUNNING", None, name="bash")
    assert refusal("slurm:9").startswith("job 9 (bash) has no output file")
    cluster.show("9", "RUNNING", "/dev/null", name="quiet")
    assert refusal("slurm:9").startswith("job 9 (quiet) has no output file")


def test_machine_without_slurm_and_a_controller_that_is_down_are_refused(cluster, monkeypatch, tmp_path):
    cluster.fail()
    assert refusal("slurm:9") == (
        "scontrol failed: slurm_load_jobs error: Unable to contact slurm controller (connect failure)"
    )
    monkeypatch.setenv("PATH", str(tmp_path))
    assert refusal("slurm:9").startswith("'slurm:9' requires Slurm, and its program scontrol was not found")


def test_program_that_does_not_answer_is_given_up(cluster, monkeypatch):
    monkeypatch.setattr(slurm, "_TIMEOUT", 0.2)
    script = cluster.folder / "bin" / "scontrol"
    script.write_text("#!/bin/sh\nexec sleep 30\n")
    assert refusal("slurm:9").startswith("Slurm's scontrol did not answer within")
    script.write_text("no script")
    assert "scontrol" in refusal("slurm:9")


def test_ended_job_is_known_by_the_accounting(cluster, tmp_path):
    cluster.account("9", f"9|CANCELLED by 1000|0:15|61|60|gpu01|train|{tmp_path}")
    assert refusal("slurm:9") == (
        "job 9 (train) has ended (CANCELLED) and its output file is no longer known; name the file"
    )
    (tmp_path / "slurm-9.out").write_text(LOG)
    job = slurm.find("slurm:9")
    assert (job.output, job.outcome, job.limit) == (tmp_path / "slurm-9.out", "failed", 3600.0)
    assert job.failure == "Slurm job 9 was cancelled (by 1000)"


def test_hostile_names_are_harmless(cluster, tmp_path):
    cluster.show("9", "RUNNING", tmp_path / "x.out", name="a\x1b[31mb", node="g\x07")
    target = locate("slurm:9")
    assert "\x1b" not in target.label
    assert "\x07" not in target.job.line(0.0)


def followed(word: str) -> Watched:
    watched = Watched(locate(word))
    watched.finish(5)
    return watched


def ask(watched: Watched) -> None:
    """The next question to the scheduler, at once."""
    monitor = watched._place._monitor
    monitor._questions.soon()
    watched.poll()
    monitor.wait(20)
    watched.poll()


def test_pending_job_is_waited_for_and_followed_when_it_starts(cluster, tmp_path):
    output = tmp_path / "late.out"
    cluster.show("9", "PENDING", output, reason="Priority", node="(null)", ran="00:00:00", starts="Unknown")
    watched = followed("slurm:9")
    run = watched.run_state
    assert run.state(time.time()) == "waiting"
    assert run.job.line(time.time()) == "job 9 is pending (Priority)"
    output.write_text(LOG)
    cluster.show("9", "RUNNING", output)
    ask(watched)
    assert run.state(time.time()) == "running"
    assert run.step == 100
    assert run.job.nodes == "gpu01"
    watched.close()


@pytest.mark.parametrize(
    ("state", "shown", "failure"),
    [
        ("TIMEOUT", "failed", "Slurm job 9 reached its time limit of 1 h 00 min"),
        ("COMPLETED", "finished", ""),
    ],
)
def test_end_of_the_job_is_the_end_of_the_run(cluster, tmp_path, state, shown, failure):
    (tmp_path / "a.out").write_text(LOG)
    cluster.show("9", "RUNNING", tmp_path / "a.out")
    watched = followed("slurm:9")
    assert watched.run_state.state(time.time()) == "running"
    cluster.show("9", state, tmp_path / "a.out")
    ask(watched)
    run, now = watched.run_state, time.time()
    assert run.state(now) == shown
    assert run.failure == failure
    assert [(notice.what, notice.text) for notice in run.check(now)] == [
        ("failed", failure) if failure else ("ended", "finished: Slurm job 9 is complete")
    ]
    asked = len(cluster.calls)
    ask(watched)
    assert len(cluster.calls) == asked, "an ended job is not asked for any more"
    watched.close()


def test_reason_in_the_log_precedes_that_of_the_job(cluster, tmp_path):
    (tmp_path / "a.out").write_text(LOG + "Traceback (most recent call last):\n  x\nRuntimeError: no GPU\n")
    cluster.show("9", "FAILED", tmp_path / "a.out", exit_code="1:0")
    watched = followed("slurm:9")
    assert watched.run_state.failure == "RuntimeError: no GPU"
    watched.close()


def test_limit_before_the_eta_is_an_alert(cluster, tmp_path):
    bar = "  5%|▌         | 50/1000 [{}<{}, 1.00s/it, loss=2.5]\r"
    (tmp_path / "a.out").write_text("".join(bar.format(f"{n:02}:00", "5:00:00") for n in range(5)) + "\n")
    cluster.show("9", "RUNNING", tmp_path / "a.out", ran="00:50:00")
    watched = followed("slurm:9")
    run, now = watched.run_state, time.time()
    alerts = [notice.text for notice in run.check(now) if notice.what == "alert"]
    assert len(alerts) == 1
    assert alerts[0].startswith("time limit in ")
    assert run.check(now + 1) == []
    watched.close()


def test_output_in_a_folder_knows_its_job_if_slurm_does(cluster, tmp_path):
    folder = tmp_path / "runs"
    folder.mkdir()
    (folder / "slurm-9.out").write_text(LOG)
    cluster.show("9", "RUNNING", folder / "slurm-9.out")
    watched = followed(str(folder))
    assert watched.run_state.job is not None
    assert watched.run_state.job.id == "9"
    watched.close()
    cluster.show("9", "RUNNING", "/elsewhere/slurm-9.out")  # the job of another cluster with this number
    watched = followed(str(folder / "slurm-9.out"))
    assert watched.run_state.job is None
    watched.close()


def test_job_that_slurm_forgets_and_a_failed_question(cluster, tmp_path):
    (tmp_path / "a.out").write_text(LOG)
    os.utime(tmp_path / "a.out", (time.time() - 10, time.time() - 10))
    cluster.show("9", "RUNNING", tmp_path / "a.out")
    watched = followed("slurm:9")
    cluster.fail()
    ask(watched)
    monitor: JobMonitor = watched._place._monitor
    assert "Unable to contact" in monitor.problem
    assert watched.run_state.job.runs
    (cluster.folder / "down").unlink()
    cluster.forget("9")
    ask(watched)
    assert watched.run_state.job.state == UNKNOWN
    assert watched.run_state.job.line(time.time()) == "job 9 is no longer known to Slurm"
    assert watched.run_state.state(time.time()) == "running"
    watched.close()


def test_scripts_pretend_the_programs(cluster):
    assert shutil.which("scontrol") == str(cluster.folder / "bin" / "scontrol")
