"""The process that holds the model, as a view sees it: requests go in, answers come out, and its death has a reason.

Nothing here waits: a view asks `take` as often as it draws. Threads read, and wait for the end. It knows neither what
the requests mean nor where the process runs: that is in the command.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

import tdiff
from tdiff.errors import TdiffError
from tdiff.protocol.messages import Answer, Request, parse_answer, to_line
from tdiff.protocol.trace import TraceHeader, TraceLine, TraceStep
from tdiff.visible import visible_line
from tdiff.watch.generation import processes

_ROOM = 1 << 18
"""Bytes of lines that wait for `take`; the process then waits too."""
_LONGEST = 1 << 22
"""Bytes of a line; a longer one is no answer."""
_UNSENT = 1 << 20
"""Bytes of requests that wait for the process to read them."""
_LINES_KEPT = 20
_SHOWN = 400
"""Bytes of a line of stderr that are kept."""


def command(model: str, device: str = "auto", *, share: bool = False, program: Sequence[str] = ()) -> list[str]:
    """What starts `tdiff serve` for a model's folder or name; `program` is this very tdiff unless given."""
    if not program:
        # Python looks into the folder one stands in first; what lies there must not take the place of a library.
        source_tree = Path(tdiff.__file__).resolve().parent.parent.samefile(".")
        program = [sys.executable, *([] if source_tree else ["-P"]), "-m", "tdiff"]
    return [*program, "serve", f"--model={model}", f"--device={device}", *(["--share"] if share else [])]


class Child:
    """A running `tdiff serve`. Its owner calls `take` regularly, and `close` in the end."""

    def __init__(self, command: Sequence[str]) -> None:
        """Start it. Raises TdiffError where the program is not there."""
        try:
            # A session of its own: what the terminal sends to the view, an interrupt or a hang-up, is not for it.
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except (OSError, ValueError) as why:
            raise TdiffError(f"cannot start {command[0]!r}: {getattr(why, 'strerror', None) or why}") from None
        processes.started(self._process.pid)
        assert self._process.stdin and self._process.stdout and self._process.stderr
        self._stdin = self._process.stdin
        os.set_blocking(self._stdin.fileno(), False)
        self._unsent = bytearray()
        self._said: deque[str] = deque(maxlen=_LINES_KEPT)
        self._taken = threading.Condition()
        self._waiting: list[Answer | TraceLine] = []
        self._size = 0
        self._closing = False
        self._guard: subprocess.Popen[bytes] | None = None  # while it is halted
        self._reason: str | None = None
        listen = threading.Thread(target=self._listen, args=(self._process.stdout,), daemon=True)
        talk = threading.Thread(target=self._overhear, args=(self._process.stderr,), daemon=True)
        for thread in (listen, talk, threading.Thread(target=self._await, args=(listen, talk), daemon=True)):
            thread.start()

    @property
    def pid(self) -> int:
        """Its process id; with ssh, that of ssh."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it runs still. Answers from before its death may yet be taken."""
        return self._reason is None

    @property
    def reason(self) -> str | None:
        """Why it ended, on one line; None while it runs."""
        return self._reason

    @property
    def said(self) -> list[str]:
        """The last lines that it wrote to stderr, or to stdout without their being answers, safe to print."""
        return list(self._said)

    def take(self) -> list[Answer | TraceLine]:
        """The answers since the last call, oldest first. Does not wait."""
        self._flush()
        with self._taken:
            answers, self._waiting, self._size = self._waiting, [], 0
            self._taken.notify()
        return answers

    def send(self, request: Request) -> bool:
        """Ask for something. Does not wait; False where it has ended, or has not read what it was sent for long."""
        if not self.alive or self._closing or len(self._unsent) > _UNSENT:
            return False
        self._unsent += to_line(request).encode()
        self._flush()
        return True

    def halt(self) -> None:
        """Stop it where it is, with all that it has started, until `go_on` or the end of whoever halted it."""
        if self._guard is not None or self._closing or not self.alive:
            return
        with suppress(OSError):  # without a guard it would outlive a view that is killed while both are stopped
            self._guard = subprocess.Popen(
                ["/bin/sh", "-c", f"read _; kill -CONT -{self.pid}"],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            os.killpg(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it go on where it was halted."""
        guard, self._guard = self._guard, None
        if guard is None:
            return
        if self.alive:
            with suppress(OSError):
                os.killpg(self.pid, signal.SIGCONT)
        guard.kill()
        guard.communicate()

    def close(self, patience: float = 2.0) -> None:
        """End it: by the end of its stdin, else by force after so many seconds. Does not wait; may be called twice."""
        if self._closing:
            return
        self._closing = True
        self.go_on()  # it could not heed the end of its stdin
        with suppress(OSError):
            self._stdin.close()
        with self._taken:
            self._taken.notify()
        # Not a daemon: a view that leaves leaves nothing behind.
        threading.Thread(target=self._end, args=(patience,)).start()

    def _flush(self) -> None:
        """Send what waits, as far as the pipe takes it."""
        with suppress(OSError, ValueError):  # the pipe is full, or it has ended, or was closed
            while self._unsent:
                del self._unsent[: os.write(self._stdin.fileno(), self._unsent)]

    def _end(self, patience: float) -> None:
        for end in (self._process.terminate, self._process.kill):
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(patience / 2)
                return
            end()
        self._process.wait()

    def _listen(self, stdout: IO[bytes]) -> None:
        cells = 0
        with stdout:
            for line in _lines(stdout):
                answer = parse_answer(line.decode("utf-8", "replace"))
                if isinstance(answer, TraceHeader):
                    cells = answer.cells
                if answer is None:
                    if not line.startswith(b"{"):  # a shell's greeting or refusal
                        self._hear(line)
                    continue
                if isinstance(answer, TraceStep) and any(cell[0] >= cells for cell in answer.cells):
                    continue
                with self._taken:
                    self._taken.wait_for(lambda: self._closing or self._size < _ROOM)
                    if self._closing:
                        return
                    self._waiting.append(answer)
                    self._size += len(line)

    def _overhear(self, stderr: IO[bytes]) -> None:
        with stderr:
            for line in _lines(stderr):
                self._hear(line)

    def _hear(self, line: bytes) -> None:
        if text := line[:_SHOWN].decode("utf-8", "replace").strip():
            self._said.append(visible_line(text))

    def _await(self, *readers: threading.Thread) -> None:
        status = self._process.wait()
        processes.ended(self._process.pid)
        for reader in readers:
            # What it said last comes before its end; but a process that it left behind may keep a pipe open for ever.
            reader.join(0.2)
        self._reason = "closed" if self._closing else why_ended(status, self._said[-1] if self._said else "")


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    """Lines up to the end of the file. One that is too long is passed over."""
    while line := file.readline(_LONGEST):
        if line.endswith(b"\n") or len(line) < _LONGEST:
            yield line
            continue
        while line and not line.endswith(b"\n"):
            line = file.readline(_LONGEST)


def why_ended(status: int, last_words: str) -> str:
    """Why a process ended, on one line: `status` is its exit code, or -n where signal n killed it."""
    number = -status if status < 0 else status - 128  # 128 + n is how a shell tells of signal n
    if number in signal.valid_signals():
        name = "out of memory, or kill -9" if number == signal.SIGKILL else signal.strsignal(number)
        return f"killed by signal {number} ({name})"
    return f"exit {status}" + (f": {last_words}" if last_words else "")
