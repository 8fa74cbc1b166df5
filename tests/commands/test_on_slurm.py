"""`tdiff train --on slurm://`: the batch script, what submits it, and what it does, with a pretended Slurm."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tdiff.remote.slurm_job import Job
from tests.support.batch import pretend_batch
from tests.support.far import sh_as_ssh as sh_as_ssh
from tests.support.far import small_wheel as small_wheel
from tests.support.far import stub_environment
from tests.support.ptys import soon

# In place of the Python of a job: notes its words, takes steps until it is asked to save, and finishes if told to.
TRAINING = """\
#!/bin/sh
for word; do printf '%s\\n' "$word"; done >>words
run=checkpoints/tale
mkdir -p "$run/resume"
touch "$run/config.toml"
trap 'echo "{\\"kind\\":\\"end\\",\\"step\\":5,\\"reason\\":\\"stopped\\"}" >>"$run/events.jsonl"; exit 0' TERM
if [ -e finish ]; then
    echo '{"kind":"end","time":1.0,"step":9,"reason":"finished"}' >>"$run/events.jsonl"
    exit 0
fi
[ ! -e fail ] || exit 7
touch steps
while :; do sleep 0.02; done
"""


@pytest.fixture
def slurm(tmp_path, monkeypatch) -> Path:
    """The folder of the pretended Slurm."""
    programs = pretend_batch(tmp_path / "slurm")
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    return tmp_path / "slurm"


@pytest.fixture
def job(tmp_path):
    """A job in a folder with a difficult name, whose training is a stand-in; its script is job.sh there."""
    folder = tmp_path / "it's $(touch hacked)"
    folder.mkdir()
    (folder / "python").write_text(TRAINING)
    (folder / "python").chmod(0o755)
    start = ("train", "--run=tale", '--set=data.sources=["$(touch hacked) it\'s"]')
    made = Job(str(folder), str(folder / "python"), "checkpoints/tale", "tale", start)
    (folder / "job.sh").write_text(made.script())
    return folder


def run(job: Path, **variables: str) -> subprocess.Popen:
    (job / "steps").unlink(missing_ok=True)
    (job / "words").unlink(missing_ok=True)
    return subprocess.Popen(["sh", job / "job.sh"], env={**os.environ, "SLURM_JOB_ID": "4711", **variables})


def test_a_job_saves_before_its_limit_goes_back_into_the_queue_and_resumes(job, slurm):
    first = run(job)
    soon((job / "steps").exists)
    first.send_signal(signal.SIGUSR1)
    assert first.wait(20) == 0
    start = ["-P", "-m", "tdiff", "train", "--run=tale", '--set=data.sources=["$(touch hacked) it\'s"]']
    assert (job / "words").read_text().splitlines() == start
    assert (slurm / "calls").read_text() == "scontrol requeue 4711\n"

    (job / "finish").touch()
    second = run(job)
    assert second.wait(20) == 0
    assert (job / "words").read_text().splitlines()[3:] == ["train", "--resume", "checkpoints/tale"]
    third = run(job)
    assert third.wait(20) == 0
    assert not (job / "words").exists()  # it is finished
    assert (slurm / "calls").read_text() == "scontrol requeue 4711\n"
    assert not list(job.parent.rglob("hacked"))


def test_a_job_that_is_asked_to_stop_or_fails_does_not_go_back(job, slurm):
    stopped = run(job)
    soon((job / "steps").exists)
    stopped.send_signal(signal.SIGTERM)
    assert stopped.wait(20) == 0
    (job / "fail").touch()
    assert run(job).wait(20) == 7
    assert not (slurm / "calls").exists()


def test_several_gpus_get_a_process_each(job, slurm):
    (job / "finish").touch()
    assert run(job, SLURM_GPUS_ON_NODE="4").wait(20) == 0
    assert (job / "words").read_text().splitlines()[:9] == (
        ["-P", "-m", "torch.distributed.run", "--nproc-per-node", "4", "-m", "--", "tdiff", "train"]
    )


def test_a_training_is_submitted_here_and_stopped_by_its_name(cli_fast, here, slurm):
    (here / "t.txt").write_text("a tale")
    done = cli_fast(
        *("train", "--data", "t.txt", "--run", "tale", "--on", "slurm://gpu"),
        *("--sbatch", "time=4:00:00", "--sbatch", "--gpus=1"),
    )
    assert (done.returncode, done.stdout) == (0, "checkpoints/tale\n"), done
    assert done.stderr.splitlines()[:3] == [
        "tale is job 4711: it saves before the limit of 4:00:00, goes back into the queue, and resumes",
        "  watch   tdiff watch slurm:4711",
        "  stop    tdiff stop tale     (saves first)",
    ]
    words = (slurm / "sbatch").read_text().splitlines()
    assert words == [
        *("--parsable", "--job-name=tale", f"--chdir={here}", f"--output={here}/.tdiff/jobs/tale/log"),
        f"{here}/.tdiff/jobs/tale/job.sh",
    ]
    script = (slurm / "script").read_text().splitlines()
    directives = {line.removeprefix("#SBATCH ") for line in script if line.startswith("#SBATCH")}
    assert directives == {
        *("--requeue", "--open-mode=append", "--partition=gpu", "--time=4:00:00", "--gpus=1"),
        "--signal=B:USR1@180",
    }
    assert subprocess.run(["sh", "-n", slurm / "script"]).returncode == 0
    for state, call in (("RUNNING", "scancel --batch --signal=TERM 4711"), ("PENDING", "scancel 4711")):
        (slurm / "state").write_text(f"{state}\n")
        assert "is job 4711" in cli_fast("resume", "tale").refused()
        assert cli_fast("stop", "tale").returncode == 0
        assert (slurm / "calls").read_text().splitlines()[-1] == call


def test_what_slurm_refuses_is_one_line(cli_fast, here, slurm, monkeypatch):
    (slurm / "refuse").touch()
    on = ("train", "--data", "t.txt", "--on")
    assert "invalid partition specified: gpux" in cli_fast(*on, "slurm://gpux").refused()
    assert "--detach is not for Slurm" in cli_fast(*on, "slurm://", "--detach").refused()
    assert "an option of sbatch" in cli_fast(*on, "slurm://", "--sbatch", "time=1\n2").refused()
    monkeypatch.setenv("PATH", "/nowhere")
    assert "which has no sbatch" in cli_fast(*on, "slurm://").refused()


def test_a_training_is_submitted_on_another_machine(cli_fast, here, slurm, sh_as_ssh, small_wheel, tmp_path):
    there = tmp_path / "there it's"
    stub_environment(there, tmp_path / "notes")
    (here / "t.txt").write_text("a tale")
    url = f"ssh://login{tmp_path}/there%20it%27s"
    done = cli_fast("train", "--data", "t.txt", "--run", "tale", "--on", f"slurm+{url}")
    assert (done.returncode, done.stdout) == (0, f"{url}/checkpoints/tale\n"), done
    [pip] = [call for call in (tmp_path / "notes/calls").read_text().splitlines() if "install" in call]
    assert "--extra-index-url" not in pip  # the login node has no GPU, the others do
    assert "  watch   tdiff watch ssh://login/slurm:4711" in done.stderr.splitlines()
    assert (slurm / "script").read_text() == (there / ".tdiff/jobs/tale/job.sh").read_text()
    (slurm / "state").write_text("RUNNING\n")
    assert cli_fast("stop", f"{url}/checkpoints/tale").stderr == "asked job 4711 to save and stop\n"
    assert "still in the queue" in cli_fast("resume", f"{url}/checkpoints/tale").refused()
    (slurm / "state").write_text("")
    assert "which resumes it" in cli_fast("resume", f"{url}/checkpoints/tale").stderr


@pytest.mark.slow
def test_a_real_training_saves_at_the_signal_and_resumes(here, slurm, corpus_file):
    from tests.support.runs import SET_TINY

    start = ("train", "--run=tale", "--data", str(corpus_file), *SET_TINY, "--steps", "100000", "--device", "cpu")
    (here / "job.sh").write_text(Job(str(here), sys.executable, "checkpoints/tale", "tale", start).script())
    log = here / "checkpoints/tale/events.jsonl"

    def size() -> int:
        return log.stat().st_size if log.exists() else 0

    for _ in range(2):
        before = size()
        running = run(here)
        try:
            soon(lambda n=before: size() > n + 2000, 120)
            running.send_signal(signal.SIGUSR1)
            assert running.wait(120) == 0
        finally:
            running.kill()
    assert (slurm / "calls").read_text() == "scontrol requeue 4711\n" * 2
    assert '"kind":"resume"' in log.read_text()
