"""A shell on another host that takes commands and answers them, through one `ssh` process that is started again.

The shell reads a script from stdin, then commands. The script first writes a banner, before which a login shell may
write anything; nothing is sent until the banner has come, since some shells read ahead.
"""

from __future__ import annotations

import math
import os
import secrets
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress

from tdiff.visible import visible_line
from tdiff.watch.generation import processes
from tdiff.watch.sources.address import Address

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0
_SILENCE = 60.0
"""Seconds without an answer after which a connection counts as dead."""
_MAX_LINE = 16 << 10
_MAX_PAYLOAD = 8 << 20


class Connection:
    """The shell. `receive` connects where there is no connection and the pause after the last one is over."""

    def __init__(self, address: Address, script: str) -> None:
        """`script` contains `{banner}`, in place of which the banner comes. Raises TdiffError for no ssh client."""
        self._command = [*address.command(), "exec sh"]
        self._script = script
        self.problem = f"connecting to {address.host}"
        """Why nothing comes, in words; "" while connected."""
        self.started = False
        """Whether the shell takes commands."""
        self._process: subprocess.Popen[bytes] | None = None
        self._banner = b""
        self._buffer = bytearray()
        self._unsent = bytearray()
        self._errors = bytearray()
        self._attempts = 0
        self._reconnect_at = -math.inf  # by the monotonic clock
        self._last_answer = 0.0
        self._asked = False  # whether an answer is due

    @property
    def status(self) -> str:
        """Why nothing comes, and when the next attempt is made; safe to print; "" while connected."""
        text = self.problem
        if text and not self._process and (wait := self._reconnect_at - time.monotonic()) > 0:
            text += f"; reconnecting in {math.ceil(wait)} s"
        return visible_line(text)

    @property
    def has_more(self) -> bool:
        """Whether more has come already."""
        return bool(self._process and self._process.stdout and select.select([self._process.stdout], [], [], 0)[0])

    def send(self, data: bytes) -> None:
        """Send commands, or what the pipe takes of them now; the rest follows at the next `receive`."""
        if not self._asked:
            self._last_answer = time.monotonic()
        self._unsent += data
        self._asked = True
        self._flush()

    def receive(self) -> Iterator[tuple[list[str], bytes]]:
        """Yield the words and the bytes of each answer that has come: `D n` has n bytes, and `F` the rest of its line.

        Raises ValueError for an invalid answer.
        """
        if not self._process:
            if time.monotonic() < self._reconnect_at:
                return
            self._connect()
            if not self._process:
                return
        self._flush()
        ended = self._read()
        yield from self._answers()
        if ended:
            self.drop()
        elif (self._asked or not self.started) and time.monotonic() - self._last_answer > _SILENCE:
            self.drop(f"no answer for {_SILENCE:.0f} s")

    def close(self) -> None:
        """End the ssh process."""
        self._reconnect_at = math.inf
        self._end()

    def answered(self) -> None:
        """All answers have come."""
        self._asked = False

    def drop(self, problem: str = "") -> None:
        """The connection has ended: store the reason, and schedule the next attempt."""
        messages = [line for line in self._errors.decode("utf-8", "replace").splitlines() if line.strip()]
        code = self._process.poll() if self._process else None
        self._end()
        self.problem = problem or (messages[-1].strip() if messages else f"ssh ended with status {code}")
        self._reconnect_at = time.monotonic() + min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**self._attempts)
        self._attempts = min(self._attempts + 1, 10)

    def _connect(self) -> None:
        banner = f"tdiff-{secrets.token_hex(8)}"
        pipe = subprocess.PIPE
        try:
            # In its own session ssh neither uses our terminal nor receives its Ctrl-C.
            self._process = subprocess.Popen(
                self._command, stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0, start_new_session=True
            )
        except OSError as error:
            self.drop(f"ssh cannot be started: {error.strerror}")
            return
        processes.started(self._process.pid)
        assert self._process.stdin and self._process.stdout and self._process.stderr
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            os.set_blocking(stream.fileno(), False)
        self._banner = banner.encode() + b"\n"
        self._buffer.clear()
        self._errors.clear()
        self._unsent = bytearray(self._script.replace("{banner}", banner).encode("utf-8", "surrogateescape"))
        self._last_answer, self._asked = time.monotonic(), False
        self._flush()

    def _flush(self) -> None:
        if not self._process or not self._process.stdin or not self._unsent:
            return
        with suppress(OSError):  # a full pipe, or a closed one, whose stderr gives the reason
            del self._unsent[: os.write(self._process.stdin.fileno(), self._unsent)]

    def _read(self) -> bool:
        """Read what has come. Returns whether the stream has ended."""
        assert self._process and self._process.stdout and self._process.stderr
        ended = False
        with suppress(BlockingIOError):
            for _ in range(64):
                part = os.read(self._process.stdout.fileno(), 1 << 16)
                self._buffer += part
                if part:
                    self._last_answer = time.monotonic()
                elif not ended:
                    ended = True
                    break
        if ended:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(0.05)
        with suppress(BlockingIOError):
            while part := os.read(self._process.stderr.fileno(), 4096):
                self._errors = (self._errors + part)[-4096:]
        return ended

    def _answers(self) -> Iterator[tuple[list[str], bytes]]:
        if not self.started:
            at = self._buffer.find(self._banner)
            if at < 0:
                del self._buffer[: -len(self._banner)]
                return
            del self._buffer[: at + len(self._banner)]
            self.started, self.problem = True, ""
            self._errors.clear()
            yield ["hello"], b""
        while (end := self._buffer.find(b"\n", 0, _MAX_LINE)) >= 0:
            line = bytes(self._buffer[:end])
            if line.startswith(b"F "):
                del self._buffer[: end + 1]
                yield ["F"], line[2:]
                continue
            words = line.decode("ascii", "replace").split()
            size = int(words[1]) if words[0] == "D" else 0
            if not 0 <= size <= _MAX_PAYLOAD:
                raise ValueError(size)
            if len(self._buffer) < end + 1 + size:
                return
            payload = bytes(self._buffer[end + 1 : end + 1 + size])
            del self._buffer[: end + 1 + size]
            self._attempts = 0
            yield words, payload
        if len(self._buffer) >= _MAX_LINE and not self._buffer.startswith(b"D "):
            raise ValueError("a line that is too long")

    def _end(self) -> None:
        process, self._process = self._process, None
        self.started = False
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
