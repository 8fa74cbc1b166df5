"""`tdiff runs`, `watch --all --once`, `stop`, `resume` and `rm`: what they do to a run and what they refuse."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from tdiff.config.settings import Settings
from tdiff.protocol.events import End, to_line
from tdiff.runs import index
from tdiff.runs.process import FILE, ThisMachine, this_process
from tdiff.runs.run import Run, create
from tests.support.events import start_of, train_at
from tests.support.ptys import Pty, soon
from tests.support.runs import COMMAND, SET_TINY, environment

END = End(time=9.0, step=30, reason="finished")


@pytest.fixture(autouse=True)
def own_index(tmp_path, monkeypatch):
    """An index of runs for each test."""
    monkeypatch.setenv("TDIFF_STATE", str(tmp_path / "state"))


@pytest.fixture
def made(here):
    """Make a run that has ended, or whose process is this one or another."""

    def make(name: str, *, ended: bool = True, **process) -> Run:
        run = create(name, Settings())
        run.events.write_text("".join(map(to_line, [start_of(), train_at(30, 8.0), *([END] if ended else [])])))
        if process:
            (run.path / FILE).write_text(json.dumps(asdict(replace(this_process(), **process))))
        index.remember(run)
        return run

    return make


@pytest.fixture
def training(here, corpus_file):
    """A run that trains in a child process until it is stopped."""
    options = [f"--data={corpus_file}", *SET_TINY, "--steps=9999999", "--device=cpu", "--eval-every=0"]
    child = subprocess.Popen(
        [*COMMAND, "train", "--run=mine", *options, "--sample-every=0", "--set=train.save_every=60"],
        cwd=here,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    run = Run(Path("checkpoints") / "mine")
    assert soon(lambda: child.poll() is None and '"train"' in run.events.read_text() if run.events.exists() else 0, 100)
    yield run, child
    child.kill()
    child.communicate()


def test_runs_are_listed_as_a_table_and_as_json(made, cli_fast, here):
    made("old")
    made("mine", ended=False, pid=os.getpid(), device="cuda", gpu="0: H200")
    (here / "elsewhere").mkdir()
    done = cli_fast("runs")
    assert done.returncode == 0 and done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["name", "state", "step", "loss", "trend", "ETA", "age", "host", "pid", "GPU", "size"]
    assert "0: H200" in lines[1] and str(os.getpid()) in lines[1] and "finished" in lines[2]
    rows = [json.loads(line) for line in cli_fast("runs", "--json").stdout.splitlines()]
    assert [(row["name"], row["state"]) for row in rows] == [("mine", "stalled"), ("old", "finished")]
    assert [row["step"] for row in rows] == [30, 30]
    assert rows[0]["pid"] == os.getpid() and rows[0]["host"] == ThisMachine().host and rows[0]["bytes"] > 0
    assert [json.loads(line)["name"] for line in cli_fast("runs", "checkpoints", "--json").stdout.splitlines()] == [
        "mine",
        "old",
    ]


def test_runs_of_other_folders_are_listed_by_their_names(made, cli_fast, tmp_path, monkeypatch):
    run = made("mine").path.absolute()
    (tmp_path / "else").mkdir()
    monkeypatch.chdir(tmp_path / "else")
    rows = [json.loads(line) for line in cli_fast("runs", "--json").stdout.splitlines()]
    assert ("mine", str(run)) in [(row["name"], row["where"]) for row in rows]


def test_watch_all_prints_the_same_table_without_a_terminal(made, cli_fast):
    made("mine")
    assert cli_fast("watch", "--all", "--once").stdout.splitlines()[1].startswith("mine")
    assert json.loads(cli_fast("watch", "--all", "checkpoints", "--json").stdout)["name"] == "mine"
    assert "--once prints the table" in cli_fast("watch", "--all").refused()
    assert "takes one folder" in cli_fast("watch", "--all", "a", "b").refused()


@pytest.mark.parametrize("command", [("runs", "absent"), ("watch", "--all", "absent", "--once")])
def test_a_folder_that_does_not_exist_is_refused(command, cli_fast):
    assert "'absent'" in cli_fast(*command).refused()


def test_stop_saves_the_run_and_says_its_step(training, cli_fast):
    run, child = training
    line = cli_fast("rm", "mine", "--yes").refused()
    assert "is being trained by process" in line and "tdiff stop mine" in line
    os.kill(child.pid, signal.SIGSTOP)  # a suspended run stops too
    done = cli_fast("stop", "mine")
    assert done.returncode == 0, done
    end = run.history()[-1]
    assert isinstance(end, End) and end.reason == "stopped"
    assert done.stderr.splitlines()[-1] == (
        f"stopped at step {end.step:,}; everything is saved. Resume with: tdiff resume mine"
    )
    assert child.wait(30) == 0
    assert f"it was stopped (step {end.step:,})" in cli_fast("stop", "mine").refused()
    more = end.step + 1
    resumed = cli_fast("resume", "mine", f"--steps={more}")
    assert resumed.returncode == 0, resumed
    assert run.history()[-1].step == more
    assert "is finished" in cli_fast("resume", "mine").refused()


def test_stop_now_ends_the_run_without_a_save(training, cli_fast):
    run, child = training
    done = cli_fast("stop", "mine", "--now")
    assert done.returncode == 0 and "has ended without saving" in done.stderr
    assert child.wait(30) != 0
    assert not isinstance(run.history()[-1], End)
    assert json.loads(cli_fast("runs", "--json").stdout.splitlines()[0])["state"] == "died"


def test_stop_names_the_host_of_a_run_that_trains_elsewhere(made, cli_fast):
    run = made("mine", ended=False, host="gpu 2", pid=1)
    line = cli_fast("stop", "mine").refused()
    assert line == (f"run 'mine' is trained on gpu 2, not on this machine: ssh 'gpu 2' tdiff stop {run.path.resolve()}")
    assert "trained on gpu 2" not in cli_fast("stop", str(made("over", host="gpu 2", pid=1).path)).refused()
    assert "ssh -p 22 me@host tdiff stop /a/b" in cli_fast("stop", "ssh://me@host:22/a/b").refused()


def test_stop_never_signals_another_process_with_the_same_id(made, cli_fast):
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    made("mine", ended=False, pid=child.pid, began="another moment")
    assert "its process has ended without an end" in cli_fast("stop", "mine").refused()
    assert child.poll() is None
    child.communicate(b"\n")
    assert child.returncode == 0


@pytest.mark.parametrize("command", ["stop", "resume", "rm"])
def test_an_unknown_run_names_the_nearest(command, made, cli_fast):
    made("mine")
    assert "did you mean mine?" in cli_fast(command, "mime").refused()


def test_rm_removes_the_folder_and_its_line_in_the_index_and_nothing_else(made, cli_fast, here):
    run, other = made("mine"), made("other")
    outside = here / "outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    (run.path / "link").symlink_to(outside)
    done = cli_fast("rm", "mine", "--yes")
    assert done.returncode == 0 and "removed" in done.stderr
    assert sorted(path.name for path in Path("checkpoints").iterdir()) == ["other"]
    assert (outside / "precious").exists() and other.path.exists()
    lines = (index.state_folder() / "runs.jsonl").read_text().splitlines()
    assert [json.loads(line)["name"] for line in lines] == ["other"]


def test_rm_asks_on_a_terminal(made):
    made("mine")
    for answer, stays in ((b"n\r", True), (b"y\r", False)):
        pty = Pty([*COMMAND, "rm", "mine"], **environment())
        pty.until(b"remove checkpoints/mine (")
        pty.send(answer)
        assert pty.end(60) == 0
        assert Path("checkpoints/mine").exists() is stays


def test_rm_refuses_what_it_must_not_remove(made, cli_fast, here, monkeypatch):
    run = made("mine")
    assert "--yes" in cli_fast("rm", "mine").refused()
    (here / "link").symlink_to(run.path)
    assert "is a link" in cli_fast("rm", "link", "--yes").refused()
    (here / "project").mkdir()
    (here / "project" / "config.toml").write_text("[tool]\nx = 1\n")
    assert "not a run of tdiff" in cli_fast("rm", "project", "--yes").refused()
    (here / "logs").mkdir()
    (here / "logs" / "events.jsonl").write_text('{"loss": 1}\n')
    assert "not a run of tdiff" in cli_fast("rm", "mine", "logs", "--yes").refused()
    made("far", ended=False, host="gpu2", pid=1)
    assert "on gpu2" in cli_fast("rm", "far", "--yes").refused()
    with run.locked():
        assert "by another process" in cli_fast("rm", "mine", "--yes").refused()
    monkeypatch.chdir(run.path)
    assert "the current folder" in cli_fast("rm", ".", "--yes").refused()
    monkeypatch.chdir(here)
    assert run.path.exists() and (here / "project").exists()
