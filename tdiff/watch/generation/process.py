"""The process that holds the model: requests go in, answers come out, and its end has a reason.

Nothing here blocks: a view calls `take` as often as it draws, and threads read the pipes and wait for the end. This
module knows neither what the requests mean nor where the process runs; the command decides that.
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

_MAX_WAITING = 1 << 18
"""Bytes of answers that wait for `take`; beyond that the process has to wait."""
_MAX_LINE = 1 << 22
"""Bytes of a line; a longer one is not an answer."""
_MAX_UNSENT = 1 << 20
"""Bytes of requests that wait until the process reads them."""
_MAX_MESSAGES, _MAX_MESSAGE = 20, 400
"""Lines of stderr that are stored, and bytes of each."""


def command(model: str, device: str = "auto", *, share: bool = False, program: Sequence[str] = ()) -> list[str]:
    """The command that starts `tdiff serve` for a model's folder or name; `program` defaults to this installation."""
    if not program:
        # Python searches the current folder first; files there must not replace a library.
        source_tree = Path(tdiff.__file__).resolve().parent.parent.samefile(".")
        program = [sys.executable, *([] if source_tree else ["-P"]), "-m", "tdiff"]
    return [*program, "serve", f"--model={model}", f"--device={device}", *(["--share"] if share else [])]


class Child:
    """A running `tdiff serve`. Its owner calls `take` regularly, and `close` at the end."""

    def __init__(self, command: Sequence[str]) -> None:
        """Start it. Raises TdiffError if the program cannot be started."""
        try:
            # In its own session it does not receive the interrupts and hang-ups that the terminal sends to the view.
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            raise TdiffError(f"cannot start {command[0]!r}: {getattr(error, 'strerror', None) or error}") from None
        processes.started(self._process.pid)
        assert self._process.stdin and self._process.stdout and self._process.stderr
        self._stdin = self._process.stdin
        os.set_blocking(self._stdin.fileno(), False)
        self._unsent = bytearray()
        self._messages: deque[str] = deque(maxlen=_MAX_MESSAGES)
        self._changed = threading.Condition()
        self._waiting: list[Answer | TraceLine] = []
        self._size = 0
        self._closing = False
        self._guard: subprocess.Popen[bytes] | None = None  # while it is halted
        self._reason: str | None = None
        read_stdout = threading.Thread(target=self._read_stdout, args=(self._process.stdout,), daemon=True)
        read_stderr = threading.Thread(target=self._read_stderr, args=(self._process.stderr,), daemon=True)
        readers = (read_stdout, read_stderr)
        for thread in (*readers, threading.Thread(target=self._await, args=readers, daemon=True)):
            thread.start()

    @property
    def pid(self) -> int:
        """Its process id, or that of ssh."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it still runs. Answers from before its end remain available."""
        return self._reason is None

    @property
    def reason(self) -> str | None:
        """Why it ended, on one line; None while it runs."""
        return self._reason

    @property
    def messages(self) -> list[str]:
        """Its last lines on stderr, and those on stdout that were not answers, safe to print."""
        return list(self._messages)

    def take(self) -> list[Answer | TraceLine]:
        """Return the answers since the last call, oldest first. Does not block."""
        self._flush()
        with self._changed:
            answers, self._waiting, self._size = self._waiting, [], 0
            self._changed.notify()
        return answers

    def send(self, request: Request) -> bool:
        """Send a request. Does not block. Returns False if it has ended, or if too many requests are unread."""
        if not self.alive or self._closing or len(self._unsent) > _MAX_UNSENT:
            return False
        self._unsent += to_line(request).encode()
        self._flush()
        return True

    def halt(self) -> None:
        """Stop it and its children, until `resume` or the end of this process."""
        if self._guard is not None or self._closing or not self.alive:
            return
        with suppress(OSError):  # without the guard it would stay stopped if the view is killed while both are stopped
            self._guard = subprocess.Popen(
                ["/bin/sh", "-c", f"read _; kill -CONT -{self.pid}"],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            os.killpg(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Continue it after `halt`."""
        guard, self._guard = self._guard, None
        if guard is None:
            return
        if self.alive:
            with suppress(OSError):
                os.killpg(self.pid, signal.SIGCONT)
        guard.kill()
        guard.communicate()

    def close(self, patience: float = 2.0) -> None:
        """End it by closing its stdin, and by force after `patience` seconds. Does not block; may be called twice."""
        if self._closing:
            return
        self._closing = True
        self.resume()  # a halted process does not notice the end of its stdin
        with suppress(OSError):
            self._stdin.close()
        with self._changed:
            self._changed.notify()
        # Not a daemon thread: when the view ends, no process must remain.
        threading.Thread(target=self._end, args=(patience,)).start()

    def _flush(self) -> None:
        """Write the unsent requests, as far as the pipe accepts them."""
        with suppress(OSError, ValueError):  # the pipe is full or closed
            while self._unsent:
                del self._unsent[: os.write(self._stdin.fileno(), self._unsent)]

    def _end(self, patience: float) -> None:
        for end in (self._process.terminate, self._process.kill):
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(patience / 2)
                return
            end()
        self._process.wait()

    def _read_stdout(self, stdout: IO[bytes]) -> None:
        cells = 0
        with stdout:
            for line in _lines(stdout):
                answer = parse_answer(line.decode("utf-8", "replace"))
                if isinstance(answer, TraceHeader):
                    cells = answer.cells
                if answer is None:
                    if not line.startswith(b"{"):  # a shell's greeting or error
                        self._store_message(line)
                    continue
                if isinstance(answer, TraceStep) and any(cell[0] >= cells for cell in answer.cells):
                    continue
                with self._changed:
                    self._changed.wait_for(lambda: self._closing or self._size < _MAX_WAITING)
                    if self._closing:
                        return
                    self._waiting.append(answer)
                    self._size += len(line)

    def _read_stderr(self, stderr: IO[bytes]) -> None:
        with stderr:
            for line in _lines(stderr):
                self._store_message(line)

    def _store_message(self, line: bytes) -> None:
        if text := line[:_MAX_MESSAGE].decode("utf-8", "replace").strip():
            self._messages.append(visible_line(text))

    def _await(self, *readers: threading.Thread) -> None:
        status = self._process.wait()
        processes.ended(self._process.pid)
        for reader in readers:
            # Read its last words before its end is reported; but a child that it left may keep a pipe open forever.
            reader.join(0.2)
        self._reason = "closed" if self._closing else why_ended(status, self._messages[-1] if self._messages else "")


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    """The lines of a file; lines that are too long are skipped."""
    while line := file.readline(_MAX_LINE):
        if line.endswith(b"\n") or len(line) < _MAX_LINE:
            yield line
            continue
        while line and not line.endswith(b"\n"):
            line = file.readline(_MAX_LINE)


def why_ended(status: int, last_words: str) -> str:
    """Why a process ended, on one line. `status` is its exit code, or -n if signal n killed it."""
    number = -status if status < 0 else status - 128  # a shell reports signal n as 128 + n
    if number in signal.valid_signals():
        name = "out of memory, or kill -9" if number == signal.SIGKILL else signal.strsignal(number)
        return f"killed by signal {number} ({name})"
    return f"exit {status}" + (f": {last_words}" if last_words else "")
