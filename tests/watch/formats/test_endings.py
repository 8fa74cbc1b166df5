"""A log tells how its program died: the last line of a traceback, no memory, a scheduler's limit; else nothing does."""

import pytest

from tdiff.watch.formats.endings import Ending
from tests.support.fed import FedState

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
        ([SLURM, *TRACEBACK, "SystemExit: 15"], "JOB 7 ON gpu01 CANCELLED DUE TO TIME LIMIT"),
        (TRACEBACK, "Traceback (most recent call last)"),
    ],
)
def test_traceback_gives_its_last_line_as_the_reason(lines, reason):
    assert read("epoch 3 begins", *lines).reason == reason


@pytest.mark.parametrize(
    "line",
    [
        TASK,
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB",
        "slurmstepd: error: Detected 1 oom_kill event in StepId=7.0.",
        "=>> PBS: job killed: walltime 3636 exceeded limit 3600",
        "TERM_RUNLIMIT: job killed after reaching LSF run time limit.",
        "Segmentation fault (core dumped)",
        "run.sh: line 3: 4711 Killed                  python fit.py",
        "Fatal Python error: Segmentation fault",
        "Killed",
        "Bus error (core dumped)",
        "W0102 03:04:05.1 77 torch/distributed/elastic/agent/server/api.py:741] Received 15 death signal",
        "torch.distributed.elastic.multiprocessing.api.SignalException: Process 77 got signal: 15",
        "Received signal SIGTERM, exiting",
        "#launch job 883120 signal TERM: time limit",
        "#launch gx15 rank 2 exit 143",
        "job 12 was killed: it exceeded its time limit",
        "ERROR: LoadError: DomainError with -1.0:",
        "[rank1]:[E1 ProcessGroupNCCL.cpp:607] [Rank 1] Watchdog caught collective operation timeout: WorkNCCL",
        "[rank0]:[E1 ProcessGroupNCCL.cpp:1414] Process group watchdog thread terminated with exception: NCCL error",
        "RuntimeError: DataLoader worker (pid 4711) is killed by signal: Bus error. It is possible that",
        "jaxlib.xla_extension.XlaRuntimeError: RESOURCE_EXHAUSTED: Out of memory while trying to allocate 17 bytes.",
        "torch.OutOfMemoryError: HIP out of memory. Tried to allocate 20.00 MiB",
        "RuntimeError: CUDA error: device-side assert triggered",
        "thread 'main' panicked at src/main.rs:10:5:",
        "command terminated with exit code 137",
        "ERROR: LoadError: Out of GPU memory trying to allocate 2.000 GiB",
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
        "the job will be killed when the time limit is reached",
        "terminated early: the loss did not improve",
        "will retry on NCCL error",
        "WARNING: NCCL error handling is experimental",
    ],
)
def test_harmless_lines_are_not_an_end(line):
    assert read(line).reason == ""


def test_the_root_cause_is_the_reason_where_a_launcher_reports_one():
    torchrun = [*TRACEBACK, LAUNCHER, "Root Cause (first observed failure):", "  exitcode  : -9 (pid: 77)"]
    assert read(*torchrun, "  traceback : Signal 9 (SIGKILL) received by PID 77", "====").reason == (
        "traceback : Signal 9 (SIGKILL) received by PID 77"
    )
    thrown = ["terminate called after throwing an instance of 'c10::Error'", "  what():  CUDA error: bad", "Aborted"]
    assert read(*thrown).reason == "what():  CUDA error: bad"


@pytest.mark.parametrize(
    "lines",
    [
        ["step 2 loss 2.5", "step 3 loss 2.25"],
        ['{"step": 2, "loss": 2.5}', '{"step": 3, "loss": 2.25}'],
        ["2,2.5", "3,2.25"],
        ["{'loss': 2.5, 'step': 2}", "{'loss': 2.25, 'step': 3}"],
        ["  20%|##  | 2/10 [00:02<00:08, 1it/s, loss=2.5]", "  30%|### | 3/10 [00:03<00:07, 1it/s, loss=2.25]"],
    ],
    ids=["text", "JSON", "CSV", "dictionaries", "bars"],
)
def test_records_after_an_error_show_that_it_was_caught_in_every_format(lines):
    first = "step,loss" if lines[0] == "2,2.5" else lines[0].replace("2", "1", 1)
    run = FedState("log")
    run.feed([first, *lines[:1], *TRACEBACK, "RuntimeError: CUDA error: x", "Killed"], 1e9)
    assert (run.state(1e9), run.failure) == ("failed", "Killed")
    run.feed(lines[1:], 1e9 + 1)
    assert (run.state(1e9 + 1), run.failure) == ("running", "")


def test_an_error_in_a_record_of_json_is_the_reason():
    run = FedState("log")
    run.feed(['{"step": 1, "loss": 2.5}', '{"level": "error", "message": "CUDA error: out of memory", "time": 5}'], 1e9)
    assert run.state(1e9) == "failed" and "out of memory" in run.failure


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


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (SLURM, "JOB 7 ON gpu01 CANCELLED DUE TO TIME LIMIT"),
        ("slurmstepd: error: *** STEP 7.0 ON n1 CANCELLED AT 2026-01-02T03:04:05 ***", "STEP 7.0 ON n1 CANCELLED"),
        ("srun: error: *** JOB 7 ON n1 CANCELLED DUE TO PREEMPTION ***", "JOB 7 ON n1 CANCELLED DUE TO PREEMPTION"),
        (f"0: {SLURM} and more", f"0: {SLURM} and more"),
    ],
)
def test_reason_of_slurm_is_short_enough_to_be_read(line, reason):
    assert read("step 3", line).reason == reason
