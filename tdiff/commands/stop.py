"""`tdiff stop RUN`: ask the process that trains a run to save and stop, and wait until it has."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tdiff.config.options import argument, option
from tdiff.errors import TdiffError
from tdiff.formatting import age as age_text
from tdiff.protocol.events import Checkpoint, End, Event, Resume, Start
from tdiff.runs import process as processes
from tdiff.runs.named import members, named_run
from tdiff.runs.process import LOST, ThisMachine, TrainingProcess
from tdiff.runs.run import Run
from tdiff.visible import visible

EXAMPLES = ("tdiff stop tale", "tdiff stop tale --now", "tdiff stop ssh://me@gpu01/runs/checkpoints/tale")
_FAILED = 1
_PAUSE = 0.1
_REMINDER = 20.0
"""Seconds after which the wait is explained."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The options of the command."""

    run: str = argument(
        help="The run: its name, its folder, or ssh://host/folder/checkpoints/RUN.", metavar="RUN", complete="runs"
    )
    now: bool = option(False, "Quit at once, without saving what came after the last save.", flag="--now")


def run(request: Request) -> None:
    """Stop the run. Raises TdiffError if no process of its machine trains it."""
    name = request.run
    if name.startswith("ssh://"):
        _stop_there(name, now=request.now)
        return
    from tdiff.commands import on_run

    if (number := on_run.local_job(name)) and on_run.stop_local_job(number, now=request.now):
        return
    folder, process = _training(named_run(name), name)
    before = len(folder.history())
    with _handle(process) as handle:
        if request.now:
            handle.send(signal.SIGKILL)  # saves are atomic, so the last one stays whole
            _wait(handle)
        else:
            handle.send(signal.SIGTERM)  # a second Ctrl-C would quit at once; a second SIGTERM does not
            handle.send(signal.SIGCONT)  # it may be suspended
            _say(f"asked {folder.name!r} (process {process.pid}) to save and stop; waiting for it")
            _wait(handle)
    _report(folder, folder.history()[before:], now=request.now)


class _handle:
    """A process that signals reach, and no later process with the same id."""

    def __init__(self, process: TrainingProcess) -> None:
        self.process = process
        self._machine = ThisMachine()
        self._fd = -1

    def __enter__(self) -> _handle:
        with suppress(OSError, AttributeError):  # AttributeError: not on Linux
            self._fd = os.pidfd_open(self.process.pid)
        if not self.alive:  # checked once the descriptor is open: it then stands for this process
            self.__exit__()
            raise TdiffError(f"process {self.process.pid} has just ended")
        return self

    def __exit__(self, *_: object) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    @property
    def alive(self) -> bool:
        """Whether the process exists."""
        return processes.presence(self.process, self._machine) == "alive"

    def send(self, number: signal.Signals) -> None:
        """Send a signal. Raises TdiffError for the process of another user."""
        try:
            if self._fd >= 0:
                signal.pidfd_send_signal(self._fd, number)
            elif self.alive:
                os.kill(self.process.pid, number)
        except ProcessLookupError:
            pass
        except PermissionError:
            raise TdiffError(
                f"process {self.process.pid} belongs to another user; only that user can stop it"
            ) from None


def _training(folder: Path, name: str) -> tuple[Run, TrainingProcess]:
    """The run that is trained in a folder, and its process. Raises TdiffError with the reason if there is none."""
    machine = ThisMachine()
    for path in members(folder):
        found = processes.read(path)
        if found is None:
            continue
        process, heartbeat = found
        presence = processes.presence(process, machine)
        if presence == "alive":
            return Run(path), process
        if presence == "unknown" and not _has_ended(Run(path)):
            if process.host != machine.host:
                late = f"; its last heartbeat was {age_text(heartbeat)} ago" if heartbeat > LOST else ""
                raise TdiffError(
                    f"run {name!r} is trained on {process.host}, not on this machine{late}: "
                    f"ssh {shlex.quote(process.host)} tdiff stop {shlex.quote(str(path.resolve()))}"
                )
            if heartbeat <= LOST:
                raise TdiffError(
                    f"run {name!r} is trained by process {process.pid}, which cannot be seen from here, as in a "
                    "container; stop it there"
                )
    if any(Run(path).is_locked for path in members(folder)):
        raise TdiffError(f"run {name!r} is trained by a process that has not left its name; press Ctrl-C there")
    raise TdiffError(f"run {name!r} is not being trained: {_how_it_ended(members(folder))}")


def _has_ended(folder: Run) -> bool:
    last = next((e for e in reversed(folder.history()) if isinstance(e, (End, Start, Resume))), None)
    return isinstance(last, End)


def _how_it_ended(folders: list[Path]) -> str:
    for path in reversed(folders):
        if history := Run(path).history():
            end = next((e for e in reversed(history) if isinstance(e, (End, Start, Resume))), None)
            if isinstance(end, End):
                words = {"finished": "it is finished", "stopped": "it was stopped", "nan": "its loss was not finite"}
                return f"{words[end.reason]} (step {end.step:,})"
            return "its process has ended without an end; tdiff resume continues it from its last save"
    return "it has not recorded anything yet"


def _wait(handle: _handle, clock: Callable[[], float] = time.monotonic) -> None:
    """Wait until the process is gone."""
    remind = clock() + _REMINDER
    while handle.alive:
        time.sleep(_PAUSE)
        if clock() > remind:
            _say("it finishes its step and saves; Ctrl-C ends this wait, and the run still stops")
            remind = float("inf")


def _report(folder: Run, events: list[Event], *, now: bool) -> None:
    """Say how the run ended, and which step was saved."""
    end = next((event for event in reversed(events) if isinstance(event, End)), None)
    if end is not None and end.reason == "stopped":
        _say(f"stopped at step {end.step:,}; everything is saved. Resume with: tdiff resume {folder.called}")
    elif end is not None and end.reason == "finished":
        _say(f"{folder.name!r} has finished by itself, at step {end.step:,}")
    else:
        saved = next((event for event in reversed(folder.history()) if isinstance(event, Checkpoint)), None)
        last = f"its last save is of step {saved.step:,}" if saved is not None else "it has saved no step"
        _say(f"{folder.name!r} has ended without saving; {last}")
        if not now:
            sys.exit(_FAILED)


def _stop_there(address: str, *, now: bool) -> None:
    from tdiff.commands import on_run
    from tdiff.remote import place

    try:
        place.split_run(address)
    except TdiffError:
        raise TdiffError(_by_ssh(address)) from None
    try:
        on_run.stop(address, now=now)
    except on_run.NoTdiff:
        raise TdiffError(_by_ssh(address)) from None


def _by_ssh(address: str) -> str:
    from tdiff.watch.sources.address import Address

    parsed = Address.parse(address)
    host = f"{parsed.user}@{parsed.host}" if parsed.user else parsed.host
    port = f"-p {parsed.port} " if parsed.port else ""
    return f"tdiff stop acts on this machine: ssh {port}{host} tdiff stop {shlex.quote(parsed.path)}"


def _say(text: str) -> None:
    print(visible(text), file=sys.stderr, flush=True)
