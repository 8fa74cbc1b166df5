"""The hosts of all watched runs, each with its monitor. Until the first reading nothing that reads GPUs is loaded."""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from tdiff.visible import visible_line
from tdiff.watch.follow import Watched

if TYPE_CHECKING:
    from tdiff.watch.devices.device_alerts import DeviceAlerts
    from tdiff.watch.devices.monitor import Monitor
    from tdiff.watch.devices.reading import Devices, RunProcesses


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
        from tdiff.watch.devices.monitor import HIDDEN, VISIBLE

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
        if not self.monitors:
            return []
        from tdiff.watch.devices.device_alerts import job_at

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
        from tdiff.watch.devices.device_alerts import job_at
        from tdiff.watch.devices.reading import Devices, RunProcesses

        for key, members in self._members.items():
            if run in members:
                devices = self._with_gpus(self.monitors[key])
                processes = job_at(devices.jobs, members.index(run))
                return replace(devices, elsewhere=_elsewhere(run, self.monitors[key], processes)), processes
        return Devices(), RunProcesses()

    def read_once(self, watched: Sequence[Watched], seconds: float) -> None:
        """Read all hosts once, for at most so many seconds; the reading of one that has not answered says so."""
        from tdiff.watch.sources.ssh import SshSource

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
        from tdiff.watch.devices.monitor import Monitor
        from tdiff.watch.devices.readers import LocalReader, RemoteReader
        from tdiff.watch.sources.ssh import SshSource

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
        from tdiff.watch.devices.device_alerts import DeviceAlerts, job_at

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
    from tdiff.watch.devices.readers import writable_path
    from tdiff.watch.sources.local import PipeSource

    return writable_path(run.source.fd) if isinstance(run.source, PipeSource) else ""
