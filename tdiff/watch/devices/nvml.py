"""A program that reads the NVIDIA GPUs of this host by NVML: `python -m tdiff.watch.devices.nvml TOKEN`.

It is a process of its own, because a call of a driver that hangs cannot be ended in any other way. It answers each line
on standard input with an answer as `script` describes it: a section `nvml` with a JSON list, or, with status 1, the
reason why there is none.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

_DEVICES = ("/dev/nvidiactl", "/proc/driver/nvidia", "/dev/dxg")
"""Files of which one exists where a driver of NVIDIA is loaded; the last one on WSL."""


def plausible() -> bool:
    """Whether this host appears to have a driver of NVIDIA."""
    return any(Path(path).exists() for path in _DEVICES)


def command(token: str) -> list[str]:
    """The command that starts the program."""
    import tdiff

    # Python searches the current folder first; files there must not replace a library.
    source_tree = Path(tdiff.__file__).resolve().parent.parent.samefile(".")
    return [sys.executable, *([] if source_tree else ["-P"]), "-m", "tdiff.watch.devices.nvml", token]


def main() -> None:
    """Answer requests until standard input ends."""
    token = sys.argv[1]
    nvml: Any = None
    for line in sys.stdin:
        if not line.strip():
            continue
        try:
            if nvml is None:
                import pynvml  # type: ignore[import-untyped]

                pynvml.nvmlInit()
                nvml = pynvml
            status, text = 0, json.dumps(read(nvml))
        except Exception as error:  # whatever a driver or another version of the library does
            status, text = 1, f"NVML: {error}"
        spent = os.times()
        seconds = f"0m{spent.user:.3f}s 0m{spent.system:.3f}s"
        print(f"{token} begin\n{token} nvml {status}\n{text}\n{token} spent 0\n{seconds}\n{token} end", flush=True)


def read(nvml: Any) -> list[dict[str, Any]]:
    """All GPUs, each followed by its instances if it is partitioned; `nvml` is the module, initialized."""
    found = []
    for index in range(nvml.nvmlDeviceGetCount()):
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
        except nvml.NVMLError as error:  # it has fallen off the bus; the others are still there
            found.append({"index": str(index), "name": f"not readable: {error}"})
            continue
        device = _read_one(nvml, handle, str(index))
        parts = _instances(nvml, handle)
        if parts:
            device["name"] = f"{device['name']} (MIG)"
        found.append(device)
        found += [_read_one(nvml, part, f"{index}:{number}") for number, part in parts]
    return found


def _instances(nvml: Any, handle: Any) -> list[tuple[int, Any]]:
    try:
        enabled, _ = nvml.nvmlDeviceGetMigMode(handle)
        if not enabled:
            return []
        count = nvml.nvmlDeviceGetMaxMigDeviceCount(handle)
    except Exception:  # a GPU or a library without partitions
        return []
    parts = []
    for number in range(count):
        try:
            parts.append((number, nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, number)))
        except Exception:  # an unused number
            continue
    return parts


def _read_one(nvml: Any, handle: Any, index: str) -> dict[str, Any]:
    """One GPU. A value that the driver does not report is null."""

    def ask(read: Callable[[], Any]) -> Any:
        try:
            return read()
        except Exception:  # a GPU that does not support it, or a library that does not have it
            return None

    def text(value: Any) -> str:
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value or "")

    load = ask(lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu)
    memory = ask(lambda: nvml.nvmlDeviceGetMemoryInfo(handle))
    reasons = ask(lambda: nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle))
    processes = ask(lambda: nvml.nvmlDeviceGetComputeRunningProcesses(handle)) or []
    return {
        "index": index,
        "name": text(ask(lambda: nvml.nvmlDeviceGetName(handle))),
        "uuid": text(ask(lambda: nvml.nvmlDeviceGetUUID(handle))),
        "load": load,
        "memory": ask(lambda: memory.used),
        "total": ask(lambda: memory.total),
        "temperature": ask(lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)),
        "power": ask(lambda: nvml.nvmlDeviceGetPowerUsage(handle) / 1000),
        "power_limit": ask(lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1000),
        "reasons": reasons,
        "processes": [[process.pid, process.usedGpuMemory] for process in processes],
    }


if __name__ == "__main__":
    main()
