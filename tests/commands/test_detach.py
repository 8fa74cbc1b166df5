"""`--detach`: a training in a session of its own, in real tmux and GNU screen; most with a program that trains nothing.

The server of tmux is one of the test's own, and so are the sockets of screen.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tdiff.commands import detach, detached, sessions
from tests.support.paths import ROOT
from tests.support.ptys import soon
from tests.support.runs import COMMAND, SET_TINY, environment

PROGRAM = """\
import os, signal, sys, time
from pathlib import Path
from tdiff.commands import detached
what = sys.argv[-1]
print("first line", os.environ.get("MINE"), sys.stdin.read() == "", flush=True)
if what == "fail":
    print("more\\n" * 3 + "tdiff: the data is missing\\ntdiff: second", file=sys.stderr, flush=True)
    sys.exit(2)
if what == "crash":
    raise ValueError("no such thing")
if what == "vanish":
    os.kill(os.getppid(), signal.SIGKILL)
    sys.exit(0)
run = Path("checkpoints/tale").absolute()
run.mkdir(parents=True, exist_ok=True)
signal.signal(signal.SIGHUP, lambda *_: (print("hung up, saved", flush=True), sys.exit(0)))
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
detached.report(run=str(run), pid=os.getpid())
print("-> checkpoints/tale", flush=True)
if what == "finish":
    print("done", flush=True)
    sys.exit(0)
detached.report(first_step="step 1, loss 3.5")
while True:
    print("step", flush=True)
    time.sleep(0.2)
"""
KINDS = [
    pytest.param(kind, marks=pytest.mark.skipif(not sessions.available(kind), reason=f"{kind} is not installed"))
    for kind in sessions.KINDS
]


@pytest.fixture
def begin(here, monkeypatch, tmp_path_factory):
    """A function that detaches the program; sessions that it left are ended at the end."""
    sockets = tmp_path_factory.mktemp("s")
    sockets.chmod(0o700)
    monkeypatch.setenv("TMUX_TMPDIR", str(sockets))
    monkeypatch.setenv("SCREENDIR", str(sockets))
    monkeypatch.delenv("TMUX", raising=False)
    monkeypatch.delenv("STY", raising=False)
    monkeypatch.setenv("MINE", "of the caller")
    monkeypatch.setattr(detach, "_PAUSE", 0.02)
    (here / "program.py").write_text(PROGRAM)
    program = [sys.executable, str(here / "program.py")]
    yield lambda kind, what, name="tale": detach.start(kind, ["--detach", what], name, program)
    if shutil.which("tmux"):
        subprocess.run(["tmux", "kill-server"], capture_output=True)
    if shutil.which("screen"):
        subprocess.run(["screen", "-S", "tdiff-tale", "-X", "quit"], capture_output=True)


@pytest.mark.parametrize("kind", KINDS)
def test_a_detached_run_is_left_in_its_session_with_a_log_and_the_words_that_reach_it(kind, begin, here, capsys):
    begin(kind, "train")
    out, err = capsys.readouterr()
    assert out == "checkpoints/tale\n"
    lines = err.splitlines()
    attach = {"tmux": "attach  tmux attach -t tdiff-tale", "screen": "attach  screen -r tdiff-tale"}
    where = "a session without a terminal" if kind == "setsid" else f"{kind} session tdiff-tale"
    assert lines[0].startswith(f"tale trains in {where}, process ")
    assert lines[0].endswith(": step 1, loss 3.5")
    assert lines[1:] == [
        "  watch   tdiff watch tale",
        f"  {attach.get(kind, 'follow  tail -f checkpoints/tale/log')}",
        "  stop    tdiff stop tale     (saves first; tdiff resume tale continues)",
        "  log     checkpoints/tale/log",
    ]
    pid = int(lines[0].partition("process ")[2].partition(":")[0])
    log = here / "checkpoints/tale/log"
    assert os.getsid(pid) != os.getsid(0)
    assert soon(lambda: log.read_text().count("step") > 1)
    assert log.read_text().startswith("first line of the caller True\n-> checkpoints/tale\nstep\n")
    assert not list((here / "checkpoints").glob(".*"))
    if kind == "tmux":
        subprocess.run(["tmux", "kill-session", "-t", "tdiff-tale"], check=True)
    elif kind == "screen":
        subprocess.run(["screen", "-S", "tdiff-tale", "-X", "quit"], check=True)
    else:
        os.kill(pid, signal.SIGHUP)
    assert soon(lambda: log.read_text().endswith("hung up, saved\n")), log.read_text()


def test_a_training_that_fails_gives_its_first_error_and_its_exit_code(begin, here, capsys):
    with pytest.raises(SystemExit) as ended:
        begin("setsid", "fail")
    assert ended.value.code == 2
    assert capsys.readouterr() == ("", "tdiff: the data is missing\n")
    assert not list((here / "checkpoints").iterdir())


def test_a_training_that_crashes_gives_its_last_line_and_leaves_its_log(begin, here, capsys):
    with pytest.raises(SystemExit) as ended:
        begin("setsid", "crash")
    assert ended.value.code == 1
    err = capsys.readouterr().err
    [log] = (here / "checkpoints").iterdir()
    assert err == (
        "tdiff: the training failed (exit code 1): ValueError: no such thing\n"
        f"its log is checkpoints/{log.name}\n"
    )  # fmt: skip
    assert "Traceback" in log.read_text()


def test_a_session_that_vanishes_is_noticed(begin, capsys, monkeypatch):
    monkeypatch.setattr(detach, "_LOOK", 0.05)
    with pytest.raises(SystemExit) as ended:
        begin("setsid", "vanish")
    assert ended.value.code == 1
    assert "the session ended before the training began" in capsys.readouterr().err


def test_a_training_that_is_already_over_is_said_to_be(begin, here, capsys):
    begin("setsid", "finish")
    assert capsys.readouterr() == ("checkpoints/tale\n", "tale has ended already: done\n")
    begin("setsid", "finish")  # the log of a resumed run continues
    assert (here / "checkpoints/tale/log").read_text().count("done\n") == 2


@pytest.mark.parametrize(
    ("arguments", "left"),
    [
        ("train --detach", "train"),
        ("train --detach tmux --run x", "train --run x"),
        ("train --detach=screen --run x", "train --run x"),
        ("resume --detach tale", "resume tale"),
        ("train --run tmux --detach --steps 3", "train --run tmux --steps 3"),
    ],
)
def test_the_flag_and_its_value_are_left_out_of_the_command_of_the_session(arguments, left):
    assert detach.without_flag(arguments.split()) == left.split()


def test_errors_of_the_options_are_one_line(cli_fast, here, monkeypatch):
    assert "unknown detach 'tmx'; did you mean tmux?" in cli_fast("train", "--detach", "tmx").refused()
    assert "unknown detach 'x'" in cli_fast("train", "--detach=x").refused()
    assert "has no stdin" in cli_fast("train", "--data=-", "--detach").refused()
    assert "no run 'x' to resume" in cli_fast("train", "--resume=x", "--detach").refused()
    monkeypatch.setattr(sessions, "available", lambda kind: kind == "setsid")
    with pytest.raises(detach.TdiffError, match=r"--detach tmux: tmux is not installed; this machine has setsid"):
        detach.start("tmux", [], "")
    assert not list(here.iterdir())


def test_private_folder_is_read_and_its_environment_removed(tmp_path):
    assert detached.read(tmp_path / "status.json") == {}
    (tmp_path / "status.json").write_text('{"run": "x')
    assert detached.read(tmp_path / "status.json") == {}


def test_nothing_is_reported_to_a_caller_that_has_gone(tmp_path, monkeypatch):
    folder = tmp_path / "tdiff-private"
    monkeypatch.setenv(detached.FOLDER, str(folder))
    detached.report(run="x")
    assert not folder.exists()
    folder.mkdir()
    detached.report(run="x")
    detached.report(pid=3)
    assert detached.read(folder / detached.STATUS) == {"run": "x", "pid": 3}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_real_training_survives_its_terminal_stops_and_resumes(kind, begin, here, corpus_file):
    tiny = [*SET_TINY, "--device=cpu", "--eval-every=0", "--sample-every=0", "--set=train.log_every=0.2"]
    command = [*COMMAND, "train", f"--data={corpus_file}", "--run=tale", "--steps=1000000", *tiny, "--detach", kind]
    started = environment(PYTHONPATH=str(ROOT))
    done = subprocess.run(command, capture_output=True, text=True, env=started, timeout=120, start_new_session=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "checkpoints/tale\n"
    pid = json.loads((here / "checkpoints/tale/process.json").read_text())["pid"]
    os.kill(pid, 0)
    again = subprocess.run([*command[:3], "train", "--resume=tale"], capture_output=True, text=True, env=started)
    assert f"is being trained by another process: process {pid}" in again.stderr
    stopped = subprocess.run([*COMMAND, "stop", "tale"], capture_output=True, text=True, env=started, timeout=60)
    assert "everything is saved" in stopped.stderr
    resumed = subprocess.run(
        [*COMMAND, "resume", "tale", "--detach", kind], capture_output=True, text=True, env=started
    )
    assert resumed.returncode == 0, resumed.stderr
    subprocess.run([*COMMAND, "stop", "tale"], capture_output=True, env=started, timeout=60)
    log = Path("checkpoints/tale/log").read_text()
    assert log.count("everything is saved") == 2
    assert "resumed at step" in log
