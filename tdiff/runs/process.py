"""The process that trains a run: its name in the run's process.json, and its heartbeat.

A process id alone is not enough to recognize a process: the system gives it to another one later, a container counts
its own, and another host has the same ids. So the file also holds the host, the boot of the host, the namespace of the
id, and the moment at which the process began. The heartbeat is the file's modification time, which the training renews
every few seconds, also during a long evaluation: it tells a slow run from a dead one on another host.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Literal, Protocol

from tdiff.files import write_atomic

FILE = "process.json"
"""The file's name in a run's folder."""
BEAT = 10.0
"""Seconds between heartbeats."""
LOST = 120.0
"""Seconds without a heartbeat after which a process that cannot be seen counts as lost."""
_MAX_BYTES = 1 << 16

Presence = Literal["alive", "gone", "unknown"]
"""Whether a process exists; unknown if it cannot be seen from here, as on another host."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingProcess:
    """The process that trains, or has trained, a run."""

    pid: int
    host: str
    began: str = ""
    """The moment at which the process began, in the words of the system; "" if the system does not say."""
    boot: str = ""
    """The id of the host's boot; "" if unknown."""
    namespace: str = ""
    """The namespace of `pid`, which differs between containers; "" if unknown."""
    time: float = 0.0
    """When the training began or was resumed, seconds since the epoch."""
    device: str = ""
    """cuda, mps or cpu."""
    gpu: str = ""
    """The number and the name of the GPU; "" without one."""
    ended: float = 0.0
    """When the process stopped training this run, seconds since the epoch; 0 if it did not say so."""


class Machine(Protocol):
    """A machine on which processes can be looked up."""

    host: str
    boot: str
    namespace: str

    def began(self, pid: int) -> str | None:
        """The moment at which a process began; "" if the process exists and that is unknown, None if it is gone."""


class ThisMachine:
    """The machine that this process runs on."""

    def __init__(self) -> None:
        self.host = platform.node()
        self.boot, self.namespace = "", ""
        with suppress(OSError):
            self.boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii", "replace").strip()
        with suppress(OSError):
            self.namespace = os.readlink("/proc/self/ns/pid")  # noqa: PTH115  (Path.readlink makes a path of it)

    def began(self, pid: int) -> str | None:
        """See `Machine.began`."""
        try:
            text = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
        except OSError:
            return self._began_without_proc(pid)
        values = text.rpartition(")")[2].split()  # the name before it may contain anything
        ended = not values or values[0] in "ZX"  # its parent has not waited for it
        return None if ended else values[19] if len(values) > 19 else ""

    def _began_without_proc(self, pid: int) -> str | None:
        try:
            os.kill(pid, 0)
        except (ProcessLookupError, OverflowError):
            return None
        except OSError:  # another user's, which this user may not see
            return ""
        if Path("/proc/self/stat").exists():  # it is not shown to this user, or began just now
            return ""
        command = ["ps", "-o", "lstart=", "-p", str(pid)]
        with suppress(OSError, subprocess.SubprocessError):
            done = subprocess.run(command, capture_output=True, text=True, timeout=5, env={**os.environ, "LC_ALL": "C"})
            return " ".join(done.stdout.split())
        return ""


def presence(process: TrainingProcess, machine: Machine) -> Presence:
    """Whether `process` exists and trains its run, as far as that can be seen from `machine`."""
    if process.ended:
        return "gone"  # from this run: it may train another one
    if process.host != machine.host or process.pid <= 0:
        return "unknown"
    if process.boot and machine.boot and process.boot != machine.boot:
        return "gone"  # the machine was restarted
    if process.namespace and machine.namespace and process.namespace != machine.namespace:
        return "unknown"
    began = machine.began(process.pid)
    if began is None:
        return "gone"
    if not began or not process.began:
        return "unknown"
    return "alive" if began == process.began else "gone"


def this_process(device: str = "", gpu: str = "") -> TrainingProcess:
    """This process, which begins to train now."""
    machine = ThisMachine()
    return TrainingProcess(
        pid=os.getpid(),
        host=machine.host,
        began=machine.began(os.getpid()) or "",
        boot=machine.boot,
        namespace=machine.namespace,
        time=time.time(),
        device=device,
        gpu=gpu,
    )


def parse(data: bytes) -> TrainingProcess | None:
    """The process that a file names; None if the file is damaged."""
    try:
        values = json.loads(data)
    except (ValueError, RecursionError):
        return None
    kinds: Mapping[str, type] = {"pid": int, "time": float, "ended": float}
    if not isinstance(values, dict):
        return None
    known = {f.name: values[f.name] for f in fields(TrainingProcess) if f.name in values}
    known |= {name: float(known[name]) for name in ("time", "ended") if type(known.get(name)) is int}
    if not {"pid", "host"} <= known.keys() or any(type(v) is not kinds.get(name, str) for name, v in known.items()):
        return None
    return TrainingProcess(**known)


def read(folder: Path) -> tuple[TrainingProcess, float] | None:
    """The process of a run's folder, and the seconds since its last heartbeat; None if there is no readable file."""
    try:
        with (folder / FILE).open("rb") as file:
            process = parse(file.read(_MAX_BYTES))
            age = time.time() - os.fstat(file.fileno()).st_mtime
    except OSError:
        return None
    return None if process is None else (process, max(0.0, age))


@contextmanager
def beating(folder: Path, device: str = "", gpu: str = "") -> Iterator[None]:
    """Name this process in a run's folder, and renew its heartbeat until the end of the context."""
    path, process = folder / FILE, this_process(device, gpu)
    write_atomic(path, _text(process))
    ended = threading.Event()
    file = os.open(path, os.O_RDONLY)  # the folder may be renamed
    place: int | Path = file if os.utime in os.supports_fd else path

    def beat() -> None:
        while not ended.wait(BEAT):
            with suppress(OSError):  # a full disk or a lost server must not end the training
                os.utime(place)

    thread = threading.Thread(target=beat, daemon=True, name="heartbeat")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(1)
        with suppress(OSError):
            if os.path.samestat(os.fstat(file), path.stat()):  # the folder has not been moved
                write_atomic(path, _text(replace(process, ended=time.time())))
        os.close(file)


def _text(process: TrainingProcess) -> bytes:
    return (json.dumps(asdict(process), indent=2) + "\n").encode()
