"""The GPUs under a run, and its processes, in lines of plain text."""

from __future__ import annotations

from tdiff.report.flow import flow
from tdiff.watch.devices.reading import GIB, Devices, Gpu, RunProcesses, size_text
from tdiff.watch.devices.readings import NO_TOOL


def device_lines(devices: Devices, job: RunProcesses, width: int) -> list[str]:
    """A line for each GPU and one for the processes of the run, in lines of about `width` columns."""
    lines: list[str] = []
    for gpu in devices.gpus:
        lines += flow(f"GPU {gpu.index}", [part for part in _parts(gpu, job) if part], width)
    if devices.problem and devices.problem != NO_TOOL:
        lines += flow("GPU", [devices.problem], width)
    if devices.elsewhere and devices.gpus:
        lines += flow("", [devices.elsewhere], width)
    if (main := job.main) is not None:
        more = len(job.processes) - 1
        name = f"{main.name} {main.pid}" + (f" and {more} more" if more else "")
        threads = f"{job.threads} thread{'s' * (job.threads != 1)}"
        lines += flow("job", [name, f"CPU {job.cpu:.0%}", size_text(job.memory), threads], width)
    return lines


def _parts(gpu: Gpu, job: RunProcesses) -> list[str]:
    memory = "" if gpu.memory is None else f"{gpu.memory / GIB:.1f}"
    if gpu.total is not None:
        memory = f"{memory or 'n/a'} of {gpu.total / GIB:.1f}"
    own = [str(process.pid) for process in gpu.processes if process.pid in job.pids]
    return [
        gpu.name,
        "" if gpu.load is None else f"{gpu.load:.0f}%",
        f"{memory} GiB" if memory else "",
        "" if gpu.temperature is None else f"{gpu.temperature:.0f} °C",
        "" if gpu.power is None else f"{gpu.power:.0f} W",
        f"this run: process {', '.join(own[:4])}" if own else "",
    ]
