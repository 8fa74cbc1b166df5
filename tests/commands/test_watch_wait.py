"""`tdiff watch --wait` ends with its runs, and its exit code says how they ended."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.support.ptys import PATIENCE, soon
from tests.support.runs import COMMAND, environment

LINES = "".join(f"step {n}/9 loss {3 - n / 10}\n" for n in range(1, 6))
FAILURE = "Traceback (most recent call last):\nValueError: no\n"


def waited(folder: Path, *options: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, "watch", "--wait", *options],
        cwd=folder,
        env=environment(),
        input=text,
        capture_output=True,
        text=True,
        timeout=3 * PATIENCE,
    )


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        (LINES + "".join(f"step {n}/9 loss 2.0\n" for n in range(6, 10)), 0, "-: finished at step 9 of 9, loss 2.0000"),
        (LINES, 1, "-: stopped at step 5 of 9, loss 2.5000"),
        (LINES + FAILURE, 1, "-: failed at step 5 of 9, loss 2.5000: ValueError: no"),
    ],
    ids=["finished", "stopped", "failed"],
)
def test_exit_code_and_line_say_how_a_run_has_ended(tmp_path, text, code, said):
    done = waited(tmp_path, "-", text=text)
    assert (done.returncode, done.stdout) == (code, f"{said}\n"), done.stderr


def test_a_running_log_is_waited_for_and_its_failure_runs_the_command(tmp_path):
    log = tmp_path / "job.log"
    log.write_text(LINES)
    command = [*COMMAND, "watch", "job.log", "--wait", "--json", "--on-alert", "cat >> alerts; exit 3"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=tmp_path, env=environment(), stdout=pipe, stderr=pipe, text=True) as process:
        try:
            assert not soon(lambda: process.poll() is not None, 3.0), "it still runs"
            with log.open("a") as file:
                file.write(FAILURE)
            out, err = process.communicate(timeout=3 * PATIENCE)
        finally:
            process.kill()
    assert process.returncode == 1
    assert json.loads(out)["reason"] == "ValueError: no"
    said = "job.log: failed: ValueError: no (step 5)"
    assert err == f"tdiff: {said}\ntdiff: the alert command failed with exit code 3\n"
    assert (tmp_path / "alerts").read_text() == f"{said}\n"


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--once", "--wait"], "--wait waits for the end"),
        (["--once", "--on-alert", "x"], "--on-alert runs a command for new alerts"),
        (["--on-alert", " "], "--on-alert requires a command"),
        (["--notify", "loud"], "--notify"),
    ],
)
def test_options_that_contradict_are_one_line(tmp_path, options, why):
    (tmp_path / "job.log").write_text(LINES)
    done = subprocess.run(
        [*COMMAND, "watch", "job.log", *options], cwd=tmp_path, env=environment(), capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (2, "") and why in done.stderr and done.stderr.count("\n") == 1
