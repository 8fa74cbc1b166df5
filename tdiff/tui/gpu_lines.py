"""The lines of the GPU pane: a row for each GPU of the runs' hosts, and the processes of the runs."""

from __future__ import annotations

import math
import textwrap
from collections import Counter
from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size

from tdiff.draw.palettes import Theme
from tdiff.draw.render import Line
from tdiff.formatting import age
from tdiff.tui.gpu_figures import memory_text
from tdiff.watch.devices.device_alerts import FULL, HOT
from tdiff.watch.devices.reading import Devices, Gpu, RunProcesses, size_text

MARK = "●"
"""Marks the processes of a watched run."""
_EIGHTHS = " ▏▎▍▌▋▊▉"
_LEVELS = "▁▂▃▄▅▆▇█"
_COLUMN_SECONDS = 5.0
"""Seconds of a column of the history."""
_STALE = 20.0
"""Seconds from which the age of a reading is shown."""
_NAME, _SHORTEST_BAR = 16, 6
_MAKERS = ("NVIDIA ", "GeForce ", "AMD ", "Instinct ", "Tesla ", "Radeon ")
"""Parts that a short name of a GPU omits."""


def device_lines(hosts: Sequence[Devices], now: float, width: int, theme: Theme, *, histories: bool) -> list[Line]:
    """All lines of the pane: for each host its GPUs, their loads over time if asked for, and the runs' processes."""
    if not hosts:
        return [[("nothing is watched whose GPUs could be read", "dim")]]
    lines: list[Line] = []
    for host in hosts:
        if len(hosts) > 1:
            lines.append([(f"{host.host or 'this host'}", "bold"), (f"  {_models(host.gpus)}", "dim")])
        if host.problem:
            lines += [[(part, "bold" if host.source else "")] for part in _wrapped(host.problem, width)]
        columns = _Columns(host, width)
        for gpu in host.gpus:
            lines.append(columns.row(gpu, theme))
            history = _history(host.histories.get(gpu.index, ()), now, columns.bar)
            if histories and history.strip():
                lines.append([(" " * columns.before, ""), (history, "dim")])
        for job in host.jobs:
            lines += _job_lines(job, width, alone=not host.gpus)
        if host.read_at is None and not host.problem:
            lines.append([("reading the GPUs ...", "dim")])
        elif host.elsewhere:
            lines += [[(part, "")] for part in _wrapped(host.elsewhere, width)]
        elif host.jobs and not any(job.processes for job in host.jobs):
            lines.append([("no process has the log open for writing", "dim")])
    return lines


class _Columns:
    """The columns that fit into a width, the same for all GPUs of a host."""

    def __init__(self, host: Devices, width: int) -> None:
        gpus = host.gpus
        self._pids = host.pids
        self._index = max((cell_len(gpu.index) for gpu in gpus), default=1)
        self._memory = max((len(memory_text(gpu.memory, gpu.total)) for gpu in gpus), default=0)
        processes = max((len(self._process_text(gpu)) for gpu in gpus), default=0)
        name = min(_NAME, max((cell_len(_short_name(gpu.name)) for gpu in gpus), default=0))
        self._sizes = {"name": name, "processes": processes, "power": 5, "heat": 4}
        fixed = self._index + 1 + 5 + 2 + self._memory
        for least in ("", "name", "processes", "power", "heat"):  # left out in this order until the bar has room
            if least:
                self._sizes[least] = min(1, processes) if least == "processes" else 0
            self.bar = width - fixed - sum(size + 1 for size in self._sizes.values() if size)
            if self.bar >= _SHORTEST_BAR:
                break
        self.bar = max(0, self.bar)
        """Columns of the bar."""
        self.before = self._index + 1 + (self._sizes["name"] + 1 if self._sizes["name"] else 0)
        """Columns before it."""

    def row(self, gpu: Gpu, theme: Theme) -> Line:
        """The row of a GPU."""
        share = gpu.memory_share
        hot = gpu.hot or (gpu.temperature is not None and gpu.temperature >= HOT)
        alarm = {"none": "bold reverse", "16": "bold color(9)"}.get(theme.colour, "bold color(203)")
        usual = "color(80)" if theme.background == "dark" else "color(25)"
        colour = {"none": "", "16": "color(6)"}.get(theme.colour, usual)
        ours = any(process.pid in self._pids for process in gpu.processes)
        line: Line = [(f"{gpu.index:>{self._index}} ", "bold" if ours else "")]
        sizes = self._sizes
        if sizes["name"]:
            line.append((set_cell_size(_short_name(gpu.name), sizes["name"]) + " ", ""))
        line.append((_bar(gpu.load, self.bar), colour if ours or not self._pids else "dim"))
        load = "n/a" if gpu.load is None else f"{gpu.load:.0f}%"
        line.append((f"{load:>5}", "bold"))
        memory = f"{memory_text(gpu.memory, gpu.total):>{self._memory}}"
        line += [("  ", ""), (memory, alarm if share is not None and share >= FULL else "")]
        if sizes["heat"]:
            heat = "" if gpu.temperature is None else f"{gpu.temperature:.0f}°C"
            line += [(" ", ""), (f"{heat:>{sizes['heat']}}", alarm if hot else "")]
        if sizes["power"]:
            power = "" if gpu.power is None else f"{gpu.power:.0f}W"
            line.append((f" {power:>{sizes['power']}}", ""))
        if sizes["processes"]:
            text = self._process_text(gpu)
            text = text if len(text) <= sizes["processes"] else MARK * ours
            line.append((f" {text}", "bold" if ours else "dim"))
        return line

    def _process_text(self, gpu: Gpu) -> str:
        """The processes of the run, and the number of the others."""
        ours = [process.pid for process in gpu.processes if process.pid in self._pids]
        others = len(gpu.processes) - len(ours)
        own = f"{MARK} {ours[0]}" + (f" +{len(ours) - 1}" if len(ours) > 1 else "") if ours else ""
        return " ".join(filter(None, (own, f"{others} other{'s' * (others > 1)}" if others else "")))


def _job_lines(job: RunProcesses, width: int, *, alone: bool) -> list[Line]:
    """A job in one line; where nothing else is known, a line for each of its larger processes too."""
    main = job.main
    if main is None:
        return []
    count = len(job.processes)
    parts = [
        f"{main.name} {main.pid}" + (f" and {count - 1} more" if count > 1 else ""),
        f"CPU {job.cpu:.0%}",
        size_text(job.memory),
        f"{job.threads} threads" if job.threads != 1 else "1 thread",
    ]
    lines: list[Line] = [[("job ", "dim"), (" · ".join(parts), "")]]
    if alone and count > 1:
        for process in sorted(job.processes, key=lambda process: -process.memory)[:8]:
            figures = f"{process.cpu:>6.0%} {size_text(process.memory):>9} {process.threads:>4} threads"
            lines.append([(f"  {process.pid:>8} ", "dim"), (f"{process.name[:24]:<24} ", ""), (figures, "")])
    return lines


def _history(loads: Sequence[tuple[float, float]], now: float, columns: int) -> str:
    """The loads of the last minutes, a character for each five seconds; a reading stands until the next one."""
    cells = [math.nan] * max(0, columns)
    newest = math.floor(now / _COLUMN_SECONDS)
    ends = [*(time for time, _ in loads), now][1:]
    for (time, load), until in zip(loads, ends, strict=True):
        first = math.floor(time / _COLUMN_SECONDS)
        last = min(math.floor(until / _COLUMN_SECONDS), first + 12)
        for column in range(max(first, newest - columns + 1), last + 1):
            cells[column - newest - 1] = load
    return "".join(" " if math.isnan(load) else _LEVELS[min(7, int(load * 8 / 100))] for load in cells)


def _bar(load: float | None, width: int) -> str:
    eighths = round((load or 0.0) / 100 * width * 8)
    full, part = divmod(min(eighths, width * 8), 8)
    return f"{'█' * full + (_EIGHTHS[part] if part else ''):<{width}}"


def _short_name(name: str) -> str:
    for maker in _MAKERS:
        name = name.removeprefix(maker)
    return name


def _models(gpus: Sequence[Gpu]) -> str:
    """What GPUs there are: 2× RTX 4090."""
    counts = Counter(_short_name(gpu.name) for gpu in gpus)
    return ", ".join(f"{count}× {name}" if count > 1 else name for name, count in counts.items())


def title(hosts: Sequence[Devices]) -> str:
    """What the pane shows: the only host and its GPUs, or those of several."""
    if len(hosts) != 1:
        return "GPUs"
    return " · ".join(filter(None, (hosts[0].host or "GPUs", _models(hosts[0].gpus))))


def sources(hosts: Sequence[Devices], now: float) -> str:
    """What reports the GPUs, and how old the oldest reading is."""
    names = dict.fromkeys(f"{host.source}{' via ssh' * bool(host.host)}" for host in hosts if host.source)
    ages = [now - host.read_at for host in hosts if host.read_at is not None and host.gpus]
    old = f"{age(max(ages))} old" if ages and max(ages) >= _STALE else ""
    return " · ".join(filter(None, (*names, old)))


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, max(10, width)) or [""]
