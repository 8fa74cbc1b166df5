"""What is known of the GPUs of a host and of the processes of a job, at one moment. All texts are safe to print."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from tdiff.patterns import lazy
from tdiff.visible import visible_line

_NAME_LENGTH = 60
_PROBLEM_LENGTH = 200
GIB = 1 << 30
_NUMBER = lazy(r"\s*([-+]?\d{1,18}(?:\.\d{0,18})?)\s*(?:%|[A-Za-z°]{0,4})\s*")


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuProcess:
    """A process that uses a GPU."""

    pid: int
    memory: int | None = None
    """Bytes; None if the driver does not report them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One GPU, or one instance of a partitioned GPU. A value that the driver does not report is None."""

    index: str
    """Its number; that of an instance has two parts, such as 0:1."""
    name: str = "GPU"
    uuid: str = ""
    load: float | None = None
    """Percent of the time in which a kernel ran, 0..100."""
    memory: int | None = None
    """Bytes in use."""
    total: int | None = None
    """Bytes of memory."""
    temperature: float | None = None
    """Degrees Celsius."""
    power: float | None = None
    """Watts."""
    power_limit: float | None = None
    """Watts."""
    hot: bool = False
    """Whether the driver reports that it is slowed down because of its temperature."""
    processes: tuple[GpuProcess, ...] = ()

    @property
    def memory_share(self) -> float | None:
        """The share of its memory in use, 0..1."""
        return self.memory / self.total if self.memory is not None and self.total else None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobProcess:
    """A process of a job."""

    pid: int
    name: str
    cpu: float
    """Cores in use: 1 is one core. Since the last sample, or since its start in the first one."""
    memory: int
    """Bytes that are resident."""
    threads: int


@dataclass(frozen=True, slots=True)
class RunProcesses:
    """The processes of a watched run: the one that writes its log, its descendants and its process group."""

    processes: tuple[JobProcess, ...] = ()

    @property
    def pids(self) -> frozenset[int]:
        """The ids of the processes."""
        return frozenset(process.pid for process in self.processes)

    @property
    def cpu(self) -> float:
        """Cores in use."""
        return sum(process.cpu for process in self.processes)

    @property
    def memory(self) -> int:
        """Bytes that are resident. What processes share is counted several times."""
        return sum(process.memory for process in self.processes)

    @property
    def threads(self) -> int:
        """Threads of all processes."""
        return sum(process.threads for process in self.processes)

    @property
    def main(self) -> JobProcess | None:
        """The process with the most memory."""
        return max(self.processes, key=lambda process: process.memory, default=None)


@dataclass(frozen=True, slots=True)
class Devices:
    """The newest reading of a host."""

    host: str = ""
    """Its name; "" for this host."""
    source: str = ""
    """What reported the GPUs: nvml, nvidia-smi, amd-smi or rocm-smi; "" if nothing did."""
    gpus: tuple[Gpu, ...] = ()
    jobs: tuple[RunProcesses, ...] = ()
    """The job of each watched file, in their order."""
    problem: str = ""
    """Why there is no reading, or why the reading is old, on one line."""
    elsewhere: str = ""
    """Why the GPUs of this host are not those of the runs, on one line; "" if they may be."""
    read_at: float | None = None
    """When the GPUs were read, in seconds by the clock of the monitor; None if they never were."""
    histories: Mapping[str, Sequence[tuple[float, float]]] = field(default_factory=dict)
    """By index: times as `read_at` and loads in percent, oldest first; NaN where unknown."""

    @property
    def pids(self) -> frozenset[int]:
        """The processes of all jobs."""
        return frozenset[int]().union(*(job.pids for job in self.jobs))


def number(text: object) -> float | None:
    """A finite number from a driver's text, with or without a unit; None for N/A, "[Not Supported]" and the like."""
    if isinstance(text, bool):
        return None
    if isinstance(text, (int, float)):
        return float(text) if math.isfinite(text) else None
    match = _NUMBER.fullmatch(text) if isinstance(text, str) else None
    return float(match[1]) if match else None


def positive(text: object, unit: float = 1.0) -> int | None:
    """A number that is not negative, times `unit`, as an integer; None if it is unknown."""
    value = number(text)
    return None if value is None or not 0 <= value * unit < 1e18 else round(value * unit)


def percent(text: object) -> float | None:
    """A percentage within 0..100; None if it is unknown."""
    value = number(text)
    return None if value is None or value < 0 else min(value, 100.0)


def safe_name(text: str) -> str:
    """The name of a GPU or of a process, short and safe to print."""
    return visible_line(" ".join(text.split()))[:_NAME_LENGTH]


def one_line(text: str) -> str:
    """The first line of a message with words in it, short and safe to print."""
    lines = [" ".join(line.split()) for line in text.splitlines()]
    line = next((line for line in lines if re.search(r"\w", line)), "")
    return visible_line(line[: _PROBLEM_LENGTH - 1] + "…" if len(line) > _PROBLEM_LENGTH else line)


def size_text(size: int) -> str:
    """A number of bytes of memory: 13 MiB, 4.1 GiB."""
    return f"{size / GIB:.1f} GiB" if size >= GIB / 10 else f"{size / (1 << 20):.0f} MiB"


def as_data(gpu: Gpu, job: RunProcesses) -> dict[str, Any]:
    """A GPU ready for JSON; `run` says of each process whether it belongs to the job."""
    values = asdict(gpu)
    values["processes"] = [{**asdict(process), "run": process.pid in job.pids} for process in gpu.processes]
    return values
