"""A shell on another host: one `ssh` process, which is started again after a pause that grows."""

from __future__ import annotations

import math
import os
import select
import signal
import subprocess
import time
from contextlib import suppress

from tdiff.watch.generation import processes
from tdiff.watch.sources.address import Address

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0
"""Seconds before the first new attempt, and the most."""
_MAX_ERRORS = 4096
"""Bytes of the errors of ssh that are stored."""


class SshProcess:
    """The process. Its owner starts it, exchanges bytes with it, and reports what fails."""

    def __init__(self, address: Address) -> None:
        """Raises TdiffError if there is no ssh client."""
        self._command = [*address.command(), "exec sh"]
        self._process: subprocess.Popen[bytes] | None = None
        self._errors = bytearray()
        self._attempts = 0
        self.reconnect_at = -math.inf
        """When the next attempt is due, by the monotonic clock."""

    @property
    def pid(self) -> int | None:
        """The process id of ssh; None while none runs."""
        return self._process.pid if self._process else None

    @property
    def pause(self) -> str:
        """When the next attempt is made, in words; "" while ssh runs or the attempt is due."""
        wait = self.reconnect_at - time.monotonic()
        return f"reconnecting in {math.ceil(wait)} s" if not self._process and wait > 0 else ""

    @property
    def has_more(self) -> bool:
        """Whether more bytes have come already."""
        return bool(self._process and self._process.stdout and select.select([self._process.stdout], [], [], 0)[0])

    def start(self) -> str:
        """Start ssh. Returns why that is impossible, and "" where it was started."""
        pipe = subprocess.PIPE
        self._errors.clear()
        try:
            # In its own session ssh neither uses our terminal nor receives its Ctrl-C.
            self._process = subprocess.Popen(
                self._command, stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0, start_new_session=True
            )
        except OSError as error:
            return f"ssh cannot be started: {error.strerror}"
        processes.started(self._process.pid)
        assert self._process.stdout and self._process.stderr
        for stream in (self._process.stdout, self._process.stderr):
            os.set_blocking(stream.fileno(), False)
        return ""

    def write(self, data: bytes, *, wait: bool = False) -> int:
        """Write to the shell's stdin; without `wait` only what fits into the pipe. Returns the number of bytes."""
        if not self._process or not self._process.stdin:
            return 0
        os.set_blocking(self._process.stdin.fileno(), wait)
        try:
            return os.write(self._process.stdin.fileno(), data) if not wait else self._process.stdin.write(data) or 0
        except OSError:  # a full pipe, or a closed one, whose stderr gives the reason
            return 0

    def read(self, limit: int) -> tuple[bytes, bool]:
        """At most about `limit` new bytes of stdout, and whether it has ended."""
        assert self._process and self._process.stdout
        data, ended = bytearray(), False
        with suppress(BlockingIOError):
            while len(data) < limit and not ended:
                part = os.read(self._process.stdout.fileno(), min(limit - len(data), 1 << 16))
                data, ended = data + part, not part
        if ended:  # so that its last messages are read
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(0.05)
        return bytes(data), ended

    def read_errors(self) -> bytes:
        """The new bytes of stderr; `note_error` stores those that are messages."""
        assert self._process and self._process.stderr
        data = bytearray()
        with suppress(BlockingIOError):
            while part := os.read(self._process.stderr.fileno(), _MAX_ERRORS):
                data += part
        return bytes(data)

    def note_error(self, data: bytes) -> None:
        """Store a message of ssh, the last of which becomes the reason of a failure."""
        self._errors = (self._errors + data)[-_MAX_ERRORS:]

    def forget_errors(self) -> None:
        """The connection stands: what ssh wrote before is no reason of a failure."""
        self._errors.clear()

    def works(self) -> None:
        """An answer has come: the next pause is short again."""
        self._attempts = 0

    def fail(self, problem: str = "") -> str:
        """End the connection, and schedule the next attempt. Returns the reason: `problem`, or the last error."""
        messages = [line for line in self._errors.decode("utf-8", "replace").splitlines() if line.strip()]
        code = self._process.poll() if self._process else None
        self.end()
        self.reconnect_at = time.monotonic() + min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**self._attempts)
        self._attempts = min(self._attempts + 1, 10)
        return problem or (messages[-1].strip() if messages else f"ssh ended with status {code}")

    def close(self) -> None:
        """End the process for good."""
        self.reconnect_at = math.inf
        self.end()

    def end(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if not process:
            return
        if process.poll() is None:
            with suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
            with suppress(subprocess.TimeoutExpired):
                process.wait(1)
        if process.returncode is not None:
            processes.ended(process.pid)
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream:
                with suppress(OSError):
                    stream.close()
