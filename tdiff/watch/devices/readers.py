"""Ask a host for its GPUs and jobs: this host through processes of its own, another one through its ssh connection.

No call blocks. A request is answered once; until then there is no other one.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

from tdiff.watch.devices import nvml, script
from tdiff.watch.devices.answers import Answer, Answers
from tdiff.watch.devices.readings import Interpreter, seconds_spent
from tdiff.watch.generation import processes

_LONGEST_WAIT = 3.0 * script.TIMEOUT
"""Seconds after which a process that does not answer is killed: it may run several programs, which have time limits."""
_RETRY = 60.0
"""Seconds after which a process that had to be killed is started again."""


class Reader(Protocol):
    """Reads one host."""

    interpreter: Interpreter
    """Everything that it has read."""

    @property
    def spent(self) -> float:
        """Seconds of CPU that its reading has cost so far."""

    @property
    def waiting(self) -> bool:
        """Whether a request is not answered yet."""

    def ask(self, now: float, *, gpus: bool, find: bool, known: Sequence[int]) -> bool:
        """Send a request; see `script`. Returns whether it was sent."""

    def poll(self, now: float) -> bool:
        """Take in what has come. Returns whether the request is answered, or has failed."""

    def close(self) -> None:
        """End it."""


class Child:
    """A process that answers requests: a shell, or the program `nvml`."""

    def __init__(self, command: Sequence[str], token: str) -> None:
        """Start it. Raises OSError if that is not possible."""
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
        )
        processes.started(self._process.pid)
        assert self._process.stdin and self._process.stdout
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        for stream in (self._stdin, self._stdout):
            os.set_blocking(stream.fileno(), False)
        self._answers = Answers(token)
        self._asked: float | None = None
        self.spent = 0.0
        """Seconds of CPU that it has used."""

    @property
    def waiting(self) -> bool:
        """Whether a request is not answered yet."""
        return self._asked is not None

    def overdue(self, now: float, seconds: float) -> bool:
        """Whether it has not answered for so long."""
        return self._asked is not None and now - self._asked > seconds

    def ask(self, line: str, now: float) -> None:
        """Send a request."""
        self._asked = now
        with suppress(OSError):  # it has ended, which `take` finds
            os.write(self._stdin.fileno(), line.encode())

    def take(self) -> tuple[list[Answer], bool]:
        """The answers since the last call, and whether it has ended."""
        data, ended = bytearray(), False
        with suppress(BlockingIOError):
            while part := os.read(self._stdout.fileno(), 1 << 16):
                data += part
            ended = True
        answers, _ = self._answers.take(bytes(data))
        if answers:
            self._asked = None
            self.spent = seconds_spent(answers[-1])
        return answers, ended

    def close(self) -> None:
        """Kill it and all that it has started."""
        process = self._process
        with suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.2)  # a driver may hold it; it is not waited for then
        if process.returncode is not None:
            processes.ended(process.pid)
        for stream in (self._stdin, self._stdout):
            with suppress(OSError):
                stream.close()


class LocalReader:
    """Reads this host: the GPUs by NVML where that works, else by the programs of their makers; jobs from /proc."""

    def __init__(self, files: Sequence[str]) -> None:
        """`files`: the watched files; what has one open for writing is its job. Starts at the first request."""
        self.interpreter = Interpreter()
        self._files = list(files)
        self._shell: Child | None = None
        self._nvml: Child | None = None
        self._use_nvml = nvml.plausible()
        self._start_at = -_RETRY  # of a process that had to be killed
        self._spent_before = 0.0  # by processes that have ended
        self._all_by_shell = ""  # the last request as one for the shell alone
        self._asked_again = ""  # it, to be sent after NVML has failed

    @property
    def spent(self) -> float:
        """Seconds of CPU that its reading has cost so far."""
        return self._spent_before + sum(child.spent for child in self._children)

    @property
    def waiting(self) -> bool:
        """Whether a request is not answered yet."""
        return bool(self._asked_again) or any(child.waiting for child in self._children)

    @property
    def _children(self) -> list[Child]:
        return [child for child in (self._shell, self._nvml) if child is not None]

    def ask(self, now: float, *, gpus: bool, find: bool, known: Sequence[int]) -> bool:
        """Send a request; see `script`. Returns whether it was sent."""
        if now < self._start_at:
            return False
        try:
            if self._shell is None:
                token = script.new_token()
                self._shell = Child(["sh", "-c", script.local_script(token, self._files, os.getpid())], token)
            if gpus and self._use_nvml and self._nvml is None:
                token = script.new_token()
                self._nvml = Child(nvml.command(token), token)
        except OSError as error:
            self.interpreter.problem = f"a process that reads the GPUs cannot be started: {error.strerror}"
            self._start_at = now + _RETRY
            return False
        by_nvml = gpus and self._nvml is not None
        if self._nvml is not None and by_nvml:
            self._nvml.ask("read\n", now)
        self._all_by_shell = script.request(gpus=gpus, find=find, processes=list(known))
        line = script.request(gpus=gpus and not by_nvml, find=find, processes=list(known))
        self._shell.ask(line, now)
        return True

    def poll(self, now: float) -> bool:
        """Take in what has come. Returns whether the request is answered, or has failed."""
        before = self.waiting
        if self._shell is not None:
            answers, ended = self._shell.take()
            for answer in answers:
                self.interpreter.take(answer, len(self._files), asked=self._nvml is None)
            if ended or self._shell.overdue(now, _LONGEST_WAIT):
                self._give_up("the program that reads the GPUs does not answer", now)
        if self._nvml is not None:
            answers, ended = self._nvml.take()
            for answer in answers:
                if (section := answer.get("nvml")) and section.status:
                    self._end_nvml()
                    self._use_nvml = False
                    self._asked_again = self._all_by_shell  # the programs may know more
                self.interpreter.take(answer, len(self._files), asked=False)
            if self._nvml is not None and (ended or self._nvml.overdue(now, script.TIMEOUT)):
                self._end_nvml()
                if ended:
                    self._use_nvml = False
                else:
                    self._give_up(f"NVML did not answer within {script.TIMEOUT} s and was ended", now)
        if self._asked_again and self._shell is not None and not self._shell.waiting:
            self._shell.ask(self._asked_again, now)
            self._asked_again = ""
        return before and not self.waiting

    def close(self) -> None:
        """End the processes."""
        self._asked_again = ""
        self._end_nvml()
        if self._shell is not None:
            self._spent_before += self._shell.spent
            self._shell.close()
            self._shell = None

    def _end_nvml(self) -> None:
        if self._nvml is not None:
            self._spent_before += self._nvml.spent
            self._nvml.close()
            self._nvml = None

    def _give_up(self, problem: str, now: float) -> None:
        self.close()
        self.interpreter.problem = problem
        self._start_at = now + _RETRY


class Connection(Protocol):
    """A source on another host whose connection also carries requests of this package and their answers."""

    def ask_devices(self, line: str) -> bool:
        """Send a request. Returns whether it was sent."""

    def device_answers(self) -> list[Answer]:
        """The answers since the last call."""

    @property
    def connections(self) -> int:
        """How often it has connected."""

    @property
    def file(self) -> bytes | None:
        """The file that is read in a folder, or that a job writes; None where the user named the file."""


class RemoteReader:
    """Reads another host, through the connection of a watched source."""

    def __init__(self, connection: Connection) -> None:
        self.interpreter = Interpreter()
        self._spent = 0.0
        self._connection = connection
        self._asked: float | None = None
        self._asked_gpus = True
        self._connected = connection.connections
        self._searched: bytes | None = None  # the file whose processes were searched for

    @property
    def spent(self) -> float:
        """Seconds of CPU there since it has connected."""
        return self._spent

    @property
    def waiting(self) -> bool:
        """Whether a request is not answered yet."""
        return self._asked is not None

    def ask(self, now: float, *, gpus: bool, find: bool, known: Sequence[int]) -> bool:
        """Send a request; see `script`. Returns whether it was sent."""
        file = self._connection.file
        find = find or file != self._searched
        if not self._connection.ask_devices(script.request(gpus=gpus, find=find, processes=list(known))):
            return False
        self._searched = file
        self._asked, self._asked_gpus, self._connected = now, gpus, self._connection.connections
        return True

    def poll(self, now: float) -> bool:
        """Take in what has come. Returns whether the request is answered, or has failed."""
        answers = self._connection.device_answers()
        for answer in answers:
            self.interpreter.take(answer, 1, asked=self._asked_gpus)
            self._spent = seconds_spent(answer)
        if answers:
            self._asked = None
            return True
        if self._asked is None:
            return False
        if self._connection.connections != self._connected:  # the answer was lost with the connection
            self._asked = None
            return True
        if now - self._asked > _LONGEST_WAIT:  # there it cannot be killed; an answer may still come
            self.interpreter.problem = f"no answer from the GPUs of that host for {now - self._asked:.0f} s"
        return False

    def close(self) -> None:
        """The connection belongs to the source."""


def writable_path(fd: int) -> str:
    """The path under which other processes find the file or the pipe that this process has open as `fd`."""
    return f"/proc/{os.getpid()}/fd/{fd}" if sys.platform == "linux" else ""
