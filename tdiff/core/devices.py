"""The choice of the device, its precision, and measurements of its load."""

from __future__ import annotations

import ctypes
import functools
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from tdiff.config.decoding import PRODUCTS
from tdiff.errors import TdiffError, unknown


def choose(name: str) -> str:
    """Return the device of that name; auto is the first available one of cuda, mps and cpu.

    Raises TdiffError if the device is unknown or not available.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return next(device for device, present in available.items() if present)
    if name not in available:
        raise TdiffError(f"unknown device {name!r}; known: auto, cuda, mps, cpu")
    if not available[name]:
        raise TdiffError(
            f"device {name!r} is not available on this machine; available: "
            f"{', '.join(device for device, present in available.items() if present)}"
        )
    return name


def keep_memory(device: str) -> None:
    """On a CPU, make the C library keep the memory of freed tensors for later ones.

    glibc returns blocks above 32 MiB, such as the logits of a batch, to the system, and each new block arrives with all
    its pages to be zeroed: a third of a training step. Has no effect with another C library.
    """
    if device != "cpu":
        return
    with suppress(OSError, AttributeError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        if not mallopt(_MMAP_THRESHOLD, _MOST):
            mallopt(_MMAP_MAX, 0)
        mallopt(_TRIM_THRESHOLD, _MOST)
        mallopt(_TOP_PAD, 1 << 26)


def release_memory(device: str) -> None:
    """Give the memory of freed tensors back to the device."""
    if device == "cuda":
        torch.cuda.empty_cache()
    elif device == "mps":
        torch.mps.empty_cache()
    else:
        with suppress(OSError, AttributeError, TypeError):
            ctypes.CDLL(None).malloc_trim(0)


_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -2, -3, -4  # malloc.h of glibc
_MOST = (1 << 31) - 1


def free_memory() -> int | None:
    """The bytes that this process can still have on the CPU; None where the system does not report them."""
    try:
        import resource

        fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        free = 1024 * int(fields["MemAvailable"].split()[0])
        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit != resource.RLIM_INFINITY:
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            free = min(free, max(0, limit - pages * resource.getpagesize()))
    except (ImportError, OSError, ValueError, KeyError):  # Windows has no such limits, macOS no such files
        return None
    return free


def in_bfloat16(precision: str, device: str) -> bool:
    """Whether to compute matrix products in bfloat16; `precision` is auto, float32 or bfloat16.

    auto is bfloat16 on CUDA GPUs that have it. Raises TdiffError for a GPU without bfloat16, and for a CPU without fast
    bfloat16 products: they can take a hundred times as long there.
    """
    if precision != "bfloat16":
        return precision == "auto" and device == "cuda" and not _lacks_bfloat16(device)
    _check_bfloat16(device)
    if device == "cpu" and (slower := _slowdown()) > _SLOW:
        raise TdiffError(
            f"precision bfloat16: on this CPU its products take {slower:.1f} times as long as those of float32, which "
            "is the default here"
        )
    return True


def _check_bfloat16(device: str) -> None:
    """Raise TdiffError for a GPU without bfloat16."""
    if _lacks_bfloat16(device):
        name = torch.cuda.get_device_name() if device == "cuda" else "MPS before macOS 14"
        raise TdiffError(f"precision bfloat16: {name} has no bfloat16 products: use float32")


def _lacks_bfloat16(device: str) -> bool:
    if device == "cuda" and torch.cuda.is_available():
        return not torch.cuda.is_bf16_supported(including_emulation=False)
    return device == "mps" and torch.backends.mps.is_available() and not torch.backends.mps.is_macos_or_newer(14, 0)


def lower_precision(network: Any, precision: str, device: str) -> None:
    """Make a loaded network on CUDA compute its products in tf32 or bfloat16, if that is `precision`.

    On other devices nothing changes: a seed gives the same text on every CPU. Sums, probabilities and sampling stay
    float32 and float64. tf32 is a setting of the entire process. Raises TdiffError for an unknown precision, and for a
    GPU without bfloat16.
    """
    if precision not in PRODUCTS:
        raise unknown("precision", precision, PRODUCTS)
    if device in ("cpu", "mps"):
        return
    if precision == "tf32":
        torch.set_float32_matmul_precision("high")
    elif precision == "bfloat16":
        _check_bfloat16(device)
        for name in ("logits", "log_likelihood"):
            if (method := getattr(network, name, None)) is not None:
                setattr(network, name, _in_bfloat16(method, device))


def _in_bfloat16(function: Callable[..., Any], device: str) -> Callable[..., Any]:
    @functools.wraps(function)
    def cast(*args: Any, **options: Any) -> Any:
        with torch.autocast(device, torch.bfloat16):
            return function(*args, **options)

    return cast


_SLOW = 2.0
"""A CPU without fast products is ten or a hundred times slower; a busy CPU may measure a little above 1."""


def _slowdown() -> float:
    """The time of a bfloat16 product divided by that of a float32 product, on this CPU."""
    times = {}
    for dtype in (torch.float32, torch.bfloat16):
        a = torch.ones(256, 256, dtype=dtype)
        a @ a
        seconds = []
        for _ in range(5):
            start_time = time.perf_counter()
            a @ a
            seconds.append(time.perf_counter() - start_time)
        times[dtype] = min(seconds)
    return times[torch.bfloat16] / times[torch.float32]


def gpu_report(device: str) -> dict[str, float]:
    """Load (%), memory (GiB), temperature (C) and power (W) of a CUDA device; omits what it does not report."""
    report: dict[str, float] = {}
    if device != "cuda":
        return report
    free, total = torch.cuda.mem_get_info()
    report["gpu_memory"] = round((total - free) / 2**30, 2)
    # All need the NVML library; a driver may refuse one reading and grant the others.
    readings = (
        ("gpu_load", torch.cuda.utilization, 1.0),
        ("gpu_temperature", torch.cuda.temperature, 1.0),
        ("gpu_power", torch.cuda.power_draw, 1e-3),
    )
    for key, read, unit in readings:
        with suppress(Exception):
            report[key] = float(read()) * unit
    return report


def gpu_name(device: str) -> str:
    """The number of the GPU as nvidia-smi counts it, and its name: "2: NVIDIA H100"; "" for other devices."""
    if device != "cuda":
        return ""
    with suppress(Exception):  # a driver may refuse any question
        number = str(torch.cuda.current_device())
        if visible := os.environ.get("CUDA_VISIBLE_DEVICES"):
            number = visible.split(",")[int(number)].strip()
        return f"{number}: {torch.cuda.get_device_name()}"
    return ""


@contextmanager
def compiling() -> Iterator[None]:
    """Suppress the log messages of torch.compile within the context; its failures are raised."""
    import torch._dynamo

    logger = logging.getLogger("torch")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    torch._dynamo.config.suppress_errors = False
    try:
        yield
    finally:
        logger.setLevel(level)
        # A compilation that fails later, in a step of another shape, must not end a run.
        torch._dynamo.config.suppress_errors = True
