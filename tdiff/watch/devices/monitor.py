"""Reads the hosts of the watched runs again and again: at most once a second, seldom while they are not shown."""

from __future__ import annotations

import math
import platform
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from tdiff.visible import visible_line
from tdiff.watch.devices.device_alerts import DeviceAlerts, job_at
from tdiff.watch.devices.readers import LocalReader, Reader, RemoteReader, writable_path
from tdiff.watch.devices.reading import Devices, RunProcesses
from tdiff.watch.follow import Watched
from tdiff.watch.sources.local import PipeSource
from tdiff.watch.sources.ssh import SshSource

VISIBLE, HIDDEN = 1.0, 15.0
"""Seconds between readings while they are shown, and while only the alerts need them."""
FIND = 30.0
"""Seconds between searches for the processes of a job; between them only their figures are read."""
_HOLD = 4.0
"""A host that takes long to answer is asked seldom: the pause is this many times as long as the answer takes."""
_SHARE, _SHARE_ELSEWHERE = 0.01, 0.05
"""The share of a core that reading may cost, on this host and on another; it is read less often if it costs more."""
_LONGEST_PAUSE, _LONGEST_FIND = 30.0, 600.0
_HISTORY = 1024
"""Loads that are stored for each GPU."""


class Monitor:
    """The readings of one host."""

    def __init__(self, reader: Reader, host: str = "") -> None:
        """`host`: its name; "" for this host."""
        self.host = host
        self.devices = Devices(host)
        """The newest reading."""
        self.read_gpus = True
        """False where another monitor reads the GPUs of the same host."""
        self.answered = False
        """Whether a reading has come, or has failed."""
        self._reader = reader
        self._share = _SHARE_ELSEWHERE if host else _SHARE
        self._asked = self._found = -math.inf
        self._pause = self._find_pause = 0.0
        self._finding = False
        self._cost_known = False
        self._spent = 0.0
        self._read_at: float | None = None
        self._histories: dict[str, deque[tuple[float, float]]] = {}

    @property
    def own_host(self) -> str:
        """The name that the host gives itself; "" while unknown."""
        return self._reader.interpreter.host

    def replace_reader(self, reader: Reader) -> None:
        """Use another reader from now on."""
        self._reader.close()
        self._reader, self._asked, self._found, self._cost_known, self._spent = reader, -math.inf, -math.inf, False, 0.0

    def update(self, now: float, interval: float | None, known: Sequence[int]) -> bool:
        """Take in what has come, and ask again after `interval` seconds; None: do not ask. Returns whether it is new.

        `known`: for each watched file the process that writes it, or 0.
        """
        new = self._reader.poll(now)
        if new:
            self._take(now)
        elif self._reader.waiting and self._reader.interpreter.problem != self.devices.problem:
            self._publish(now)
            new = True
        early = self._asked <= now < self._asked + max(interval or 0.0, self._pause)
        if interval is None or self._reader.waiting or early:
            return new
        find = not self._found <= now < self._found + max(FIND, self._find_pause)
        if self._reader.ask(now, gpus=self.read_gpus, find=find, known=known):
            self._asked, self._finding = now, find
            self._found = now if find else self._found
        return new

    def close(self) -> None:
        """End the reading."""
        self._reader.close()

    def _take(self, now: float) -> None:
        self.answered = True
        spent, self._spent = self._reader.spent - self._spent, self._reader.spent
        cost = max(0.0, spent) if self._cost_known else 0.0  # the first one includes the start
        self._cost_known = True
        if self._finding:
            self._find_pause = min(_LONGEST_FIND, cost / self._share)
        else:
            self._pause = min(_LONGEST_PAUSE, max(_HOLD * (now - self._asked), cost / self._share))
        interpreter = self._reader.interpreter
        if not interpreter.problem:
            self._read_at = now
            for gpu in interpreter.gpus:
                history = self._histories.setdefault(gpu.index, deque(maxlen=_HISTORY))
                history.append((now, math.nan if gpu.load is None else gpu.load))
        self._publish(now)

    def _publish(self, now: float) -> None:
        interpreter = self._reader.interpreter
        self.devices = Devices(
            self.host,
            interpreter.source,
            interpreter.gpus if self.read_gpus else (),
            interpreter.jobs,
            interpreter.problem if self.read_gpus else "",
            read_at=self._read_at,
            histories=self._histories,
        )


class Board:
    """The hosts of all watched runs."""

    def __init__(self) -> None:
        self.monitors: dict[str, Monitor] = {}
        """By host; "" is this host. A host that is watched through two connections has two entries."""
        self._members: dict[str, list[Watched]] = {}
        self._alerts: dict[int, DeviceAlerts] = {}
        self._files: tuple[str, ...] = ()

    def update(self, watched: Sequence[Watched], now: float, *, visible: bool = False, attached: bool = True) -> bool:
        """Read what has come, and ask again where it is time. Returns whether anything is new.

        `now`: seconds by any clock. Nothing is asked while the view is not `attached`.
        """
        self._arrange(watched)
        interval = None if not attached else VISIBLE if visible else HIDDEN
        new = False
        for key, monitor in self.monitors.items():
            members = self._members[key]
            here = monitor.own_host if monitor.host else platform.node()
            known = [_known_process(run, here) for run in members]
            if monitor.update(now, interval, known):
                new = True
                self._examine(monitor, members, now)
        return new

    @property
    def readings(self) -> list[Devices]:
        """The newest reading of each host, with the jobs of all its runs."""
        hosts: dict[str, Devices] = {}
        for key, monitor in self.monitors.items():
            runs = enumerate(self._members[key])
            elsewhere = [_elsewhere(run, monitor, job_at(monitor.devices.jobs, n)) for n, run in runs]
            new = replace(monitor.devices, elsewhere=elsewhere[0] if elsewhere and all(elsewhere) else "")
            first = hosts.get(monitor.host)
            hosts[monitor.host] = new if first is None else replace(first, jobs=(*first.jobs, *new.jobs))
        return list(hosts.values())

    def of(self, run: Watched) -> tuple[Devices, RunProcesses]:
        """The reading of the host of a run, and its job."""
        for key, members in self._members.items():
            if run in members:
                devices = self._with_gpus(self.monitors[key])
                processes = job_at(devices.jobs, members.index(run))
                return replace(devices, elsewhere=_elsewhere(run, self.monitors[key], processes)), processes
        return Devices(), RunProcesses()

    def read_once(self, watched: Sequence[Watched], seconds: float) -> None:
        """Read all hosts once, for at most so many seconds; the reading of one that has not answered says so."""
        end = time.monotonic() + seconds
        while True:
            now = time.monotonic()
            self.update(watched, now, visible=True)
            for run in watched:
                if isinstance(run.source, SshSource):
                    run.poll(0.0)
            late = [monitor for monitor in self.monitors.values() if not monitor.answered]
            if not late or now >= end:
                break
            time.sleep(0.01)
        for monitor in late:
            monitor.devices = replace(monitor.devices, problem=f"the GPUs could not be read within {seconds:g} s")

    def close(self) -> None:
        """End all readings."""
        for monitor in self.monitors.values():
            monitor.close()
        self.monitors.clear()

    def _with_gpus(self, monitor: Monitor) -> Devices:
        """The reading of a monitor, with the GPUs that another one has read on the same host."""
        if monitor.read_gpus:
            return monitor.devices
        first = next(each for each in self.monitors.values() if each.host == monitor.host and each.read_gpus)
        return replace(first.devices, jobs=monitor.devices.jobs)

    def _arrange(self, watched: Sequence[Watched]) -> None:
        """One monitor for this host, and one for each connection to another."""
        local = [run for run in watched if not isinstance(run.source, SshSource)]
        files = tuple(_path_of(run) for run in local)
        if local and files != self._files:
            reader = LocalReader(files)
            if "" in self.monitors:
                self.monitors[""].replace_reader(reader)
            else:
                self.monitors[""] = Monitor(reader)
            self._files = files
        if local:
            self._members[""] = local
        hosts: set[str] = set()
        for number, run in enumerate(watched):
            if not isinstance(run.source, SshSource) or run.target.address is None:
                continue
            key = f"{run.target.address.host}#{number}"
            if key not in self.monitors:
                self.monitors[key] = Monitor(RemoteReader(run.source), run.target.address.host)
                self.monitors[key].read_gpus = run.target.address.host not in hosts
            hosts.add(run.target.address.host)
            self._members[key] = [run]

    def _examine(self, monitor: Monitor, members: Sequence[Watched], now: float) -> None:
        devices = self._with_gpus(monitor)
        if devices.problem or not devices.gpus:
            return
        for index, run in enumerate(members):
            if _elsewhere(run, monitor, job_at(devices.jobs, index)):
                continue
            alerts = self._alerts.setdefault(id(run), DeviceAlerts())
            awaited = run.run_state.state(time.time()) in ("running", "stalled")
            for text in alerts.examine(devices, job_at(devices.jobs, index), now, awaited=awaited):
                run.run_state.add_alert("gpu", text, time=time.time())


def _elsewhere(run: Watched, monitor: Monitor, processes: RunProcesses) -> str:
    """Why the GPUs of a host are not those of a run: its job is on another node; "" if they may be."""
    job = run.run_state.job
    here = monitor.own_host if monitor.host else platform.node()
    if job is None or not job.runs or processes.processes or job.on(here):
        return ""
    return f"job {job.id} runs on {job.nodes}; these are the GPUs of {visible_line(here)}"


def _known_process(run: Watched, host: str) -> int:
    """The process of a tdiff run on that host; 0 if it is unknown."""
    process = run.run_state.process
    if process is None or process[1] != host or not 0 < process[0] < 1 << 31:
        return 0
    return process[0]


def _path_of(run: Watched) -> str:
    """The path of the file or the pipe that is read; "" if it has none."""
    if run.target.path is not None:
        path = run.target.path
        with suppress(OSError):
            path = path.absolute()
        return str(path)
    return writable_path(run.source.fd) if isinstance(run.source, PipeSource) else ""
