"""A shell on another host that takes commands and answers them, through one `ssh` process that is started again.

The shell reads a script from stdin, then commands. The script first writes a banner, before which a login shell may
write anything; nothing is sent until the banner has come, since some shells read ahead.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator

from tdiff.visible import visible_line
from tdiff.watch.sources.address import Address
from tdiff.watch.sources.ssh_process import SshProcess

_SILENCE = 60.0
"""Seconds without an answer after which a connection counts as dead."""
_MAX_LINE = 16 << 10
_MAX_READ = 4 << 20
_MAX_PAYLOAD = 8 << 20


class Connection:
    """The shell. `receive` connects where there is no connection and the pause after the last one is over."""

    def __init__(self, address: Address, script: str) -> None:
        """`script` contains `{banner}`, in place of which the banner comes. Raises TdiffError for no ssh client."""
        self._process = SshProcess(address)
        self._script = script
        self.problem = f"connecting to {address.host}"
        """Why nothing comes, in words; "" while connected."""
        self.started = False
        """Whether the shell takes commands."""
        self._banner = b""
        self._buffer = bytearray()
        self._unsent = bytearray()
        self._last_answer = 0.0
        self._asked = False  # whether an answer is due

    @property
    def status(self) -> str:
        """Why nothing comes, and when the next attempt is made; safe to print; "" while connected."""
        return visible_line("; ".join(filter(None, (self.problem, self._process.pause))))

    @property
    def has_more(self) -> bool:
        """Whether more has come already."""
        return self._process.has_more

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
        if self._process.pid is None:
            if time.monotonic() < self._process.reconnect_at:
                return
            self._connect()
            if self._process.pid is None:
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
        self._process.close()
        self.started = False

    def answered(self) -> None:
        """All answers have come."""
        self._asked = False

    def drop(self, problem: str = "") -> None:
        """The connection has ended: store the reason, and schedule the next attempt."""
        self.problem = self._process.fail(problem)
        self.started = False

    def _connect(self) -> None:
        banner = f"tdiff-{secrets.token_hex(8)}"
        if problem := self._process.start():
            self.drop(problem)
            return
        self._banner = banner.encode() + b"\n"
        self._buffer.clear()
        self._unsent = bytearray(self._script.replace("{banner}", banner).encode("utf-8", "surrogateescape"))
        self._last_answer, self._asked = time.monotonic(), False
        self._flush()

    def _flush(self) -> None:
        if self._unsent:
            del self._unsent[: self._process.write(bytes(self._unsent))]

    def _read(self) -> bool:
        """Read what has come. Returns whether the stream has ended."""
        data, ended = self._process.read(_MAX_READ)
        self._buffer += data
        if data:
            self._last_answer = time.monotonic()
        self._process.note_error(self._process.read_errors())
        return ended

    def _answers(self) -> Iterator[tuple[list[str], bytes]]:
        if not self.started:
            at = self._buffer.find(self._banner)
            if at < 0:
                del self._buffer[: -len(self._banner)]
                return
            del self._buffer[: at + len(self._banner)]
            self.started, self.problem = True, ""
            self._process.forget_errors()
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
            self._process.works()
            yield words, payload
        if len(self._buffer) >= _MAX_LINE and not self._buffer.startswith(b"D "):
            raise ValueError("a line that is too long")
