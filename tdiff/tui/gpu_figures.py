"""The GPUs of a run as short figures, for the training pane."""

from __future__ import annotations

from tdiff.tui.figures import Figure
from tdiff.tui.panes.base import Scene
from tdiff.watch.devices.reading import GIB, Devices, RunProcesses


def gpu_figures(scene: Scene) -> list[Figure]:
    """The GPUs of the first run as short pairs, such as "GPU" "97%"; none if its own log reports them."""
    if not scene.runs or not scene.devices or "gpu/load" in scene.runs[0].metrics:
        return []
    return figures_of(*scene.devices[0])


def figures_of(devices: Devices, job: RunProcesses) -> list[Figure]:
    """The GPUs of a job as pairs of name and value: mean load, memory and power in total, the highest temperature.

    If it is unknown which GPUs it uses, that is the only GPU of the host; none if there are several.
    """
    used = [gpu for gpu in devices.gpus if job.pids & {process.pid for process in gpu.processes}]
    used = used or list(devices.gpus if len(devices.gpus) == 1 else ())
    if not used or devices.problem or devices.elsewhere:
        return []
    loads = [gpu.load for gpu in used if gpu.load is not None]
    heats = [gpu.temperature for gpu in used if gpu.temperature is not None]
    powers = [gpu.power for gpu in used if gpu.power is not None]
    memory = [gpu.memory for gpu in used if gpu.memory is not None]
    total = [gpu.total for gpu in used if gpu.total is not None]
    count = f"{len(used)}× " if len(used) > 1 else ""
    pairs = [("GPU", count + (f"{sum(loads) / len(loads):.0f}%" if loads else "n/a"))]
    if memory:
        pairs.append(("", memory_text(sum(memory), sum(total) if len(total) == len(memory) else None)))
    if heats:
        pairs.append(("", f"{max(heats):.0f}°C"))
    if powers:
        pairs.append(("", f"{sum(powers):.0f}W"))
    return pairs


def memory_text(used: int | None, total: int | None) -> str:
    """Memory in use, of the total, in GiB: 41.2/48G."""
    if used is None:
        return "n/a" if total is None else f"n/a/{total / GIB:.0f}G"
    return f"{used / GIB:.1f}G" if total is None else f"{used / GIB:.1f}/{total / GIB:.0f}G"
