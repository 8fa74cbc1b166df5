"""A log tells how its program died: the last line of a traceback, no memory, a scheduler's limit; else nothing does."""

import pytest

from tdiff.watch.formats.endings import Ending

TRACEBACK = ["Traceback (most recent call last):", '  File "fit.py", line 7, in <module>', "    run()"]


def read(*lines: str) -> Ending:
    ending = Ending()
    for line in lines:
        ending.take(line)
    return ending


SLURM = "slurmstepd: error: *** JOB 7 ON gpu01 CANCELLED AT 2026-01-02T03:04:05 DUE TO TIME LIMIT ***"
TASK = "srun: error: gpu01: task 0: Exited with exit code 1"
LAUNCHER = "torch.distributed.elastic.multiprocessing.errors.ChildFailedError: "
AGAIN = "During handling of the above exception, another exception occurred:"


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ([*TRACEBACK, "RuntimeError: CUDA error: out of memory"], "RuntimeError: CUDA error: out of memory"),
        ([*TRACEBACK, "AssertionError"], "AssertionError"),
        ([*TRACEBACK, "torch.OutOfMemoryError: too much"], "torch.OutOfMemoryError: too much"),
        ([f"[rank3]: {line}" for line in (*TRACEBACK, "ValueError: bad")], "ValueError: bad"),
        ([*TRACEBACK, "RuntimeError: one", "Compile with `X` to see more", "wandb: synced"], "RuntimeError: one"),
        ([*TRACEBACK, "KeyError: 1", "", AGAIN, "", *TRACEBACK, "ValueError: two"], "ValueError: two"),
        ([*TRACEBACK, "ValueError: mine", *TRACEBACK, LAUNCHER], "ValueError: mine"),
        ([*TRACEBACK, "ValueError: mine", TASK], "ValueError: mine"),
        ([*TRACEBACK, LAUNCHER], LAUNCHER.strip()),
        ([SLURM, *TRACEBACK, "SystemExit: 15"], SLURM),
        (TRACEBACK, "Traceback (most recent call last)"),
    ],
)
def test_traceback_gives_its_last_line_as_the_reason(lines, reason):
    assert read("epoch 3 begins", *lines).reason == reason


@pytest.mark.parametrize(
    "line",
    [
        SLURM,
        TASK,
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB",
        "slurmstepd: error: Detected 1 oom_kill event in StepId=7.0.",
        "=>> PBS: job killed: walltime 3636 exceeded limit 3600",
        "TERM_RUNLIMIT: job killed after reaching LSF run time limit.",
        "Segmentation fault (core dumped)",
        "run.sh: line 3: 4711 Killed                  python fit.py",
        "Fatal Python error: Segmentation fault",
    ],
)
def test_single_lines_that_report_an_end(line):
    assert read("epoch 3 begins", line, "cleaning up").reason == line


@pytest.mark.parametrize(
    "line",
    [
        "WARNING: CUDA out of memory error, retrying with a batch of 4",
        "set PYTORCH_ALLOC to avoid an out of memory error",
        "the error is 0.3",
        "saved after an Error: none",
        "no time limit is set",
    ],
)
def test_harmless_lines_are_not_an_end(line):
    assert read(line).reason == ""


def test_survived_errors_are_not_an_end():
    ending = read(*TRACEBACK, "ConnectionError: try again")
    ending.moved()  # a bar may be drawn once more by a program that dies
    assert ending.reason
    ending.moved()
    assert ending.reason == ""
    assert read(*TRACEBACK, "ConnectionError: x", *(["all is well"] * 100)).reason == "ConnectionError: x"
    assert read(*TRACEBACK, "ConnectionError: x", *(["all is well"] * 101)).reason == ""


def test_ctrl_c_is_not_a_failure():
    assert read(*TRACEBACK, "KeyboardInterrupt").interrupted
    assert not read(*TRACEBACK, "ValueError: x").interrupted
