"""A process that computes beside a run: on the CPU only, in one thread, and at the lowest priority."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from tdiff.errors import TdiffError


def cpu_only(device: str) -> str:
    """Hide the GPU and use one thread. Has no effect once torch is imported."""
    if device not in ("auto", "cpu"):
        raise TdiffError(f"--share computes on the CPU only, next to the run on the device; got --device {device}")
    os.environ.update(CUDA_VISIBLE_DEVICES="", OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")
    return "cpu"


def lower_priority() -> None:
    """Set this process to idle priority, and make it the first to be killed when memory runs out."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    # Linux may first divide the CPU among sessions; then idle priority has no effect outside of the process's session.
    if os.getsid(0) != os.getpid():
        with suppress(OSError):
            os.setsid()
    if os.getsid(0) == os.getpid():
        with suppress(OSError):
            Path("/proc/self/autogroup").write_text("19")
    try:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))  # its disk priority follows
    except (AttributeError, OSError):
        with suppress(OSError):
            os.nice(19)
