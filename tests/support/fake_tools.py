"""Programs that pretend to be nvidia-smi, amd-smi and rocm-smi, and a module that pretends to be NVML."""

from __future__ import annotations

import json
from pathlib import Path

NVIDIA_GPUS = """\
0, GPU-aaaa, NVIDIA GeForce RTX 4090, 97, 42189, 49140, 63, 402.31, 450.00, 0x0000000000000004
1, GPU-bbbb, NVIDIA GeForce RTX 4090, 0, 3, 49140, 35, [N/A], 450.00, 0x0000000000000000
"""
AMD_METRIC = [
    {
        "gpu": 0,
        "usage": {"gfx_activity": {"value": 88, "unit": "%"}, "umc_activity": {"value": 2, "unit": "%"}},
        "power": {"socket_power": {"value": 402, "unit": "W"}, "throttle_status": "UNTHROTTLED"},
        "temperature": {"edge": "N/A", "hotspot": {"value": 63, "unit": "C"}, "mem": {"value": 50, "unit": "C"}},
        "mem_usage": {"total_vram": {"value": 196592, "unit": "MB"}, "used_vram": {"value": 98296, "unit": "MB"}},
    }
]
AMD_STATIC = [{"gpu": 0, "asic": {"market_name": "AMD Instinct MI300X"}}]
ROCM = {
    "card0": {
        "Temperature (Sensor edge) (C)": "44.0",
        "Temperature (Sensor junction) (C)": "47.0",
        "Average Graphics Package Power (W)": "41.0",
        "GPU use (%)": "12",
        "VRAM Total Memory (B)": "68702699520",
        "VRAM Total Used Memory (B)": "17175674880",
        "Card series": "Instinct MI210",
        "Card model": "0x0c34",
    },
    "system": {"PID4242": "python3, 1, 8589934592, 0, unknown"},
}


def program(folder: Path, name: str, body: str) -> Path:
    """Write a shell program of that name; a number for each call is appended to NAME.calls."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\necho \"$*\" >>'{folder}/{name}.calls'\n{body}\n")
    path.chmod(0o755)
    return path


def calls(folder: Path, name: str) -> list[str]:
    """The arguments of all calls of such a program."""
    log = folder / f"{name}.calls"
    return log.read_text().splitlines() if log.exists() else []


def nvidia_smi(folder: Path, gpus: str = NVIDIA_GPUS, apps: str = "") -> None:
    """An nvidia-smi that prints these lines; `apps` may contain $(commands)."""
    (folder / "gpus.csv").write_text(gpus)
    text = "".join(f'echo "{line}";' for line in apps.splitlines()) or ":"
    program(folder, "nvidia-smi", f"case \"$*\" in *compute-apps*) {text} ;; *) cat '{folder}/gpus.csv' ;; esac")


def amd_smi(folder: Path, pid: str = "4242") -> None:
    """An amd-smi with one GPU, used by one process."""
    info = {"name": "python3", "pid": "PID", "memory_usage": {"vram_mem": {"value": 8589934592, "unit": "B"}}}
    listed = json.dumps([{"gpu": 0, "process_list": [{"process_info": info}]}]).replace('"PID"', pid)
    for name, document in (("metric", json.dumps(AMD_METRIC)), ("static", json.dumps(AMD_STATIC)), ("process", listed)):
        (folder / f"{name}.json").write_text(document)
    program(folder, "amd-smi", f"echo 'WARNING: [odd] settings' >&2\ncat '{folder}'/\"$1\".json")


def rocm_smi(folder: Path) -> None:
    """A rocm-smi with one card, used by process 4242."""
    (folder / "rocm.json").write_text(json.dumps(ROCM))
    program(folder, "rocm-smi", f"cat '{folder}/rocm.json'")


NVML = '''
"""A module that pretends to be NVML: one whole GPU, one in two parts, one that cannot be read."""
import os
import time
from types import SimpleNamespace

NVML_TEMPERATURE_GPU = 0


class NVMLError(Exception):
    pass


def nvmlInit():
    if os.environ.get("FAKE_NVML") == "fails":
        raise NVMLError("Driver/library version mismatch")


def nvmlDeviceGetCount():
    if os.environ.get("FAKE_NVML") == "hangs":
        time.sleep(600)
    return 3


def nvmlDeviceGetHandleByIndex(index):
    if index == 2:
        raise NVMLError("GPU is lost")
    return str(index)


def nvmlDeviceGetMigMode(handle):
    return int(handle == "1"), 0


def nvmlDeviceGetMaxMigDeviceCount(handle):
    return 7


def nvmlDeviceGetMigDeviceHandleByIndex(handle, number):
    if number > 1:
        raise NVMLError("Not Found")
    return f"{handle}:{number}"


def nvmlDeviceGetName(handle):
    return b"NVIDIA H200" if handle == "0" else "NVIDIA A100\\x1b[31m MIG"


def nvmlDeviceGetUUID(handle):
    return f"GPU-{handle}"


def nvmlDeviceGetUtilizationRates(handle):
    if handle != "0":
        raise NVMLError("Not Supported")
    return SimpleNamespace(gpu=97, memory=50)


def nvmlDeviceGetMemoryInfo(handle):
    return SimpleNamespace(used=8 << 30, total=64 << 30)


def nvmlDeviceGetTemperature(handle, sensor):
    return 63


def nvmlDeviceGetPowerUsage(handle):
    return 402310


def nvmlDeviceGetEnforcedPowerLimit(handle):
    return 700000


def nvmlDeviceGetCurrentClocksThrottleReasons(handle):
    return 0x40


def nvmlDeviceGetComputeRunningProcesses(handle):
    pid = int(os.environ.get("FAKE_PID", "0"))
    return [SimpleNamespace(pid=pid, usedGpuMemory=None)] if handle == "0" and pid else []
'''


def nvml_module(folder: Path) -> None:
    """A module that pretends to be NVML, to be found first on PYTHONPATH."""
    folder.mkdir(exist_ok=True)
    (folder / "pynvml.py").write_text(NVML)
