"""From answers to readings: the GPUs, the processes of the jobs, and what went wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tdiff.watch.devices import amd, nvidia
from tdiff.watch.devices.answers import Answer, Section
from tdiff.watch.devices.reading import (
    Gpu,
    GpuProcess,
    JobProcess,
    RunProcesses,
    number,
    one_line,
    percent,
    positive,
    safe_name,
)
from tdiff.watch.devices.script import KILLED, TIMEOUT

_MOST_GPUS = 64
_PROGRAMS = {"nvml": "nvml", "nvidia": "nvidia-smi", "amd": "amd-smi", "rocm": "rocm-smi"}
"""The sections that hold GPUs, and what reports them."""
NO_TOOL = "no GPU is visible: NVML, nvidia-smi, amd-smi and rocm-smi are not available"


class Interpreter:
    """Interprets the answers of one host. It remembers what is not in every answer."""

    def __init__(self) -> None:
        self.source = ""
        """What reported the GPUs: nvml, nvidia-smi, amd-smi or rocm-smi."""
        self.gpus: tuple[Gpu, ...] = ()
        self.problem = ""
        """Why the newest answer has no GPUs, on one line; "" if it has."""
        self.host = ""
        """The name of the host."""
        self.jobs: tuple[RunProcesses, ...] = ()
        self._names: dict[str, str] = {}
        self._processes: dict[str, tuple[GpuProcess, ...]] = {}
        self._ticks: dict[int, tuple[float, int, int]] = {}  # pid -> time (s), ticks, start

    def take(self, answer: Answer, files: int, *, asked: bool = True) -> None:
        """Interpret an answer about `files` watched files; `asked`: the request asked for GPUs."""
        if (host := answer.get("host")) and host.lines:
            self.host = safe_name(host.lines[0])
        if "job" in answer:
            self._read_jobs(answer, files)
        sections = [section for name, section in answer.items() if name in _PROGRAMS]
        if sections:
            self._read_gpus(sections, answer)
        elif asked and not self.problem.startswith("NVML"):
            self.gpus, self.source, self.problem = (), "", NO_TOOL

    def _read_gpus(self, sections: Sequence[Section], answer: Answer) -> None:
        """Several programs have answered if the first ones failed."""
        for section in sections:
            if section.status == 0 and (gpus := self._gpus_of(section, answer)):
                self.gpus, self.source, self.problem = gpus[:_MOST_GPUS], _PROGRAMS[section.name], ""
                return
        section = sections[0]
        program = _PROGRAMS[section.name]
        if section.status == KILLED:
            self.problem = f"{program} did not answer within {TIMEOUT} s and was killed"
        elif message := one_line(section.text):
            self.problem = message if message.lower().startswith(program) else f"{program}: {message}"
        else:
            self.problem = f"{program} reports no GPU"
            self.gpus = ()

    def _gpus_of(self, section: Section, answer: Answer) -> tuple[Gpu, ...]:
        match section.name:
            case "nvml":
                return nvml_gpus(section.text)
            case "nvidia":
                if (apps := answer.get("apps")) and apps.status == 0:
                    self._processes = nvidia.processes(apps.lines)
                return nvidia.gpus(section.lines, self._processes)
            case "amd":
                if (static := answer.get("amd-static")) and static.status == 0:
                    self._names = amd.names(amd.document(static.text))
                if (listed := answer.get("amd-process")) and listed.status == 0:
                    self._processes = amd.processes(amd.document(listed.text))
                return amd.gpus(amd.document(section.text), self._names, self._processes)
            case _:
                return amd.rocm_gpus(amd.document(section.text))

    def _read_jobs(self, answer: Answer, files: int) -> None:
        clock = answer.get("clock")
        words = clock.lines[0].split() if clock and clock.lines else []
        per_second, page, now = (number(word) for word in words) if len(words) == 3 else (None, None, None)
        if not per_second or not page or now is None:
            self.jobs = ()
            return
        jobs: list[list[JobProcess]] = [[] for _ in range(files)]
        ticks: dict[int, tuple[float, int, int]] = {}
        for line in answer["job"].lines:
            match = re.fullmatch(r"(\d{1,3}) (\d{1,9}) (\d{1,18}) (\d{1,9}) (\d{1,15}) (\d{1,18}) (.*)", line)
            if match is None or (file := int(match[1])) >= files:
                continue
            pid, used, threads, pages, start = map(int, match.groups()[1:6])
            before = self._ticks.get(pid, (start / per_second, 0, start))
            if before[2] != start:  # another process has that id now
                before = (start / per_second, 0, start)
            seconds = now - before[0]
            cpu = max(0.0, (used - before[1]) / per_second / seconds) if seconds > 0 else 0.0
            ticks[pid] = (now, used, start)
            jobs[file].append(
                JobProcess(pid=pid, name=safe_name(match[7]), cpu=cpu, memory=pages * round(page), threads=threads)
            )
        self._ticks = ticks
        self.jobs = tuple(RunProcesses(tuple(processes)) for processes in jobs)


def seconds_spent(answer: Answer) -> float:
    """Seconds of CPU that the shell and its children have used so far, as `times` prints them."""
    section = answer.get("spent")
    times = re.findall(r"(\d{1,9})m(\d{1,2}[.,]\d{1,6})s", section.text) if section else []
    return sum(60 * int(minutes) + float(seconds.replace(",", ".")) for minutes, seconds in times)


def nvml_gpus(text: str) -> tuple[Gpu, ...]:
    """The GPUs of the program `nvml`."""
    try:
        entries = json.loads(text)
    except ValueError:
        return ()
    found = entries if isinstance(entries, list) else []
    return tuple(_nvml_gpu(entry) for entry in found if isinstance(entry, dict))


def _nvml_gpu(entry: Mapping[str, Any]) -> Gpu:
    reasons = entry.get("reasons")
    return Gpu(
        index=safe_name(str(entry.get("index"))),
        name=safe_name(str(entry.get("name") or "GPU")),
        uuid=safe_name(str(entry.get("uuid") or "")),
        load=percent(entry.get("load")),
        memory=positive(entry.get("memory")),
        total=positive(entry.get("total")),
        temperature=number(entry.get("temperature")),
        power=number(entry.get("power")),
        power_limit=number(entry.get("power_limit")),
        hot=isinstance(reasons, int) and bool(reasons & nvidia.HOT),
        processes=tuple(
            GpuProcess(pid=int(pid), memory=positive(memory)) for pid, memory in entry.get("processes") or ()
        ),
    )
