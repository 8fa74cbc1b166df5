"""Sources of lines on this host: a growing file, or a pipe. No line is lost or repeated, and no read blocks.

A source turns bytes into complete lines and does not interpret them: the text is raw, and not safe to print. A line
feed, a carriage return, or both together end one line. An unfinished line is held back.
"""

from __future__ import annotations

import os
import select
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Protocol

from tdiff.errors import TdiffError
from tdiff.visible import visible_line

LONGEST = 1 << 20
"""Bytes of one line that are stored."""
CUT = " …(cut)"
"""Appended to a longer line."""
_HEAD, _TAIL = 1024, 4096
"""Bytes at the beginning of a file, and before the offset, that are compared to detect that it was rewritten. They are
longer than most lines, so that they contain a number or a time."""
_BLOCK = 1 << 18
_SEARCH_LIMIT = 1 << 26
"""Bytes from the end within which the newest lines are searched."""
_SETTLED = 2.0
"""Seconds after which a change must show in a file's modification time: file system clocks are coarse."""


@dataclass(frozen=True, slots=True)
class Read:
    """The result of one read."""

    lines: list[str] = field(default_factory=list)
    """Complete lines, without their line ends."""
    reset: bool = False
    """The file was replaced or rewritten: forget all earlier lines."""
    has_more: bool = False
    """More is available right now."""
    done: bool = False
    """Nothing more will ever come."""


@dataclass(frozen=True, slots=True)
class Status:
    """The status of a source."""

    connected: bool
    text: str = ""
    """One line for the user, safe to print."""
    lost: int = 0
    """Lines that were cut."""
    bytes: int = 0
    """Bytes of the file or the stream that have been read."""
    age: float | None = None
    """Seconds since the newest byte came or was written; None before the first."""
    current: bool = True
    """Everything available now has been read."""


class Source(Protocol):
    """Anything that yields lines."""

    name: str

    def read(self, limit: int = 1 << 20) -> Read:
        """Read what is available, at most about `limit` bytes. Returns at once."""

    def status(self) -> Status:
        """The current status."""

    def close(self) -> None:
        """Close the file, the pipe or the process."""


class Splitter(Protocol):
    """Turns bytes that come in pieces of any size into lines; a binary format needs its own."""

    cut: int
    """Lines that were cut."""

    def feed(self, data: bytes) -> list[str]:
        """Return the lines that end in `data`."""

    def unfinished(self) -> str:
        """The unfinished line, as far as it has come."""

    def finish(self) -> list[str]:
        """Return the unfinished line: nothing more will come."""

    def note(self) -> str:
        """A remark for the status of the source; "" if there is none."""


class LineSplitter:
    """Splits UTF-8 text into lines; invalid bytes become U+FFFD."""

    def __init__(self) -> None:
        self.cut = 0  # lines longer than LONGEST
        self.dropped = 0  # bytes of them that were not stored
        self._unfinished = bytearray()  # the unfinished line: at most LONGEST + 1 bytes
        self._over = 0  # further bytes of it
        self._returned = False  # whether the last byte was a carriage return, which a line feed may follow

    def feed(self, data: bytes) -> list[str]:
        """Return the lines that end in `data`."""
        if self._returned and data:
            self._returned = False
            data = data.removeprefix(b"\n")
        if not data:
            return []
        self._returned = data.endswith(b"\r")
        if b"\r" in data:
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        first, *others = data.split(b"\n")
        self._hold(first)
        if not others:
            return []
        lines = [self._take()]
        last = others.pop()
        lines += [line.decode("utf-8", "replace") if len(line) <= LONGEST else self._cut(line, 0) for line in others]
        self._hold(last)
        return lines

    def unfinished(self) -> str:
        """The unfinished line, as far as it has come."""
        return self._unfinished[:LONGEST].decode("utf-8", "replace")

    def finish(self) -> list[str]:
        """Return the unfinished line: nothing more will come."""
        return [self._take()] if self._unfinished else []

    def note(self) -> str:
        """What was dropped, for the status; "" if nothing was."""
        if not self.cut:
            return ""
        return f"{self.cut} line{'s' * (self.cut > 1)} cut after 1 MiB, {self.dropped:,} bytes dropped"

    def _hold(self, piece: bytes) -> None:
        self._unfinished += piece
        over = len(self._unfinished) - LONGEST - 1
        if over > 0:
            del self._unfinished[-over:]
            self._over += over

    def _take(self) -> str:
        line, over = bytes(self._unfinished), self._over
        self._unfinished, self._over = bytearray(), 0
        return line.decode("utf-8", "replace") if len(line) <= LONGEST else self._cut(line, over)

    def _cut(self, line: bytes, over: int) -> str:
        end = LONGEST
        while end > LONGEST - 4 and line[end] & 0xC0 == 0x80:  # not inside a character
            end -= 1
        self.cut += 1
        self.dropped += len(line) - end + over
        return line[:end].decode("utf-8", "replace") + CUT


class FileSource:
    """A file on this host, followed through growth, truncation, replacement, deletion and return.

    A file that was rewritten in place is detected by the first and the last bytes read: if both are unchanged, the file
    counts as grown. A read without news costs one `stat`.
    """

    def __init__(self, path: Path | str, start: int = 0, splitter: Callable[[], Splitter] = LineSplitter) -> None:
        """Follow `path`, which need not exist yet, from byte `start` on, where a line begins."""
        self.path = Path(path)
        self.name = visible_line(str(path))
        self.offset = start
        """Bytes read, from the beginning of the file."""
        self.size = 0
        """The size of the file at the last read."""
        self._new_splitter = splitter
        self._lines = splitter()
        self._file: IO[bytes] | None = None
        self._inode: tuple[int, int] | None = None
        self._head = self._tail = b""
        self._quiet: tuple[int, ...] | None = None
        self._problem = ""
        self._changed: float | None = None
        self._has_more = True
        self._reset = False  # to be reported with the next lines

    def read(self, limit: int = 1 << 20) -> Read:
        """Read at most `limit` more bytes."""
        try:
            now = self.path.stat()
            seen = (now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns)
            if seen == self._quiet:
                return Read()
            if not stat.S_ISREG(now.st_mode):
                raise OSError(0, "not a file")
            if self._file is None or seen[:2] != self._inode:
                self._open()
            data = self._at(self.offset, limit)
            if self._rewritten():  # checked after reading: what was read is then known to follow the earlier bytes
                self._restart()
                data = self._at(0, limit)
        except (OSError, ValueError) as error:
            return self._unreadable(error, limit)
        lines = self._take(data)
        self._problem, self._changed, self.size = "", now.st_mtime, now.st_size
        self._has_more = self.offset < self.size
        settled = not self._has_more and now.st_mtime < time.time() - _SETTLED
        self._quiet = seen if settled else None
        reset, self._reset = self._reset, False
        return Read(lines, reset, self._has_more)

    def torn(self) -> str:
        """The last line if it has no line end: a part of a line, or the last line of a finished file."""
        return self._lines.unfinished()

    def status(self) -> Status:
        """Connected while the file exists."""
        age = None if self._changed is None else max(0.0, time.time() - self._changed)
        text = visible_line(self._problem or self._lines.note())
        return Status(self._file is not None, text, self._lines.cut, self.offset, age, not self._has_more)

    def close(self) -> None:
        """Close the file; a further read opens it again, from its beginning."""
        if self._file:
            self._file.close()
        self._file = self._quiet = None

    def _open(self) -> None:
        """Open the file, at its beginning unless it is the first one and reaches the first offset."""
        first = self._inode is None
        self.close()
        self._file = self.path.open("rb", buffering=0)
        info = os.fstat(self._file.fileno())
        self._inode = (info.st_dev, info.st_ino)
        if not first or info.st_size < self.offset:
            self._restart()
        self._head = self._at(0, min(_HEAD, self.offset))
        self._tail = self._at(max(0, self.offset - _TAIL), min(_TAIL, self.offset))

    def _rewritten(self) -> bool:
        """Whether the file no longer begins with what was read."""
        last = self._at(self.offset - len(self._tail), len(self._tail))
        return last != self._tail or self._at(0, len(self._head)) != self._head

    def _restart(self) -> None:
        self._reset = self._reset or self.offset > 0
        self.offset, self._lines, self._head, self._tail = 0, self._new_splitter(), b"", b""

    def _at(self, offset: int, count: int) -> bytes:
        assert self._file is not None
        self._file.seek(offset)
        return self._file.read(count)

    def _take(self, data: bytes) -> list[str]:
        self.offset += len(data)
        if len(self._head) < _HEAD:
            self._head = (self._head + data)[:_HEAD]
        self._tail = (self._tail + data[-_TAIL:])[-_TAIL:]
        return self._lines.feed(data)

    def _unreadable(self, error: Exception, limit: int) -> Read:
        """There is no readable file: read what the last one still contains, then nothing."""
        if isinstance(error, (FileNotFoundError, NotADirectoryError)):
            self._problem = f"{self.path} is {'not there yet' if self._inode is None else 'gone'}; waiting for it"
        else:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            self._problem = f"{self.path} cannot be read: {reason}"
        self._quiet, data = None, b""
        with suppress(OSError):
            data = self._at(self.offset, limit) if self._file else b""
        self._has_more = len(data) == limit
        if not self._has_more:
            self.close()
        return Read(self._take(data), has_more=self._has_more)


def newest(path: Path | str, lines: int = 20_000) -> tuple[list[str], int]:
    """The last `lines` complete lines of a file, and the byte at which they begin; fewer if they exceed 64 MiB.

    Raises OSError if the file cannot be read.
    """
    offset = where_newest(path, lines)
    source, last = FileSource(path, offset), list[str]()
    has_more = True
    while has_more:
        read = source.read()
        last, has_more = (read.lines if read.reset else last + read.lines), read.has_more
    source.close()
    return last, offset


def where_newest(path: Path | str, lines: int = 20_000) -> int:
    """The byte at which the last `lines` complete lines of a file begin, searched backwards from its end."""
    with Path(path).open("rb", buffering=0) as file:
        end = nearest = size = file.seek(0, os.SEEK_END)
        left = lines + 1  # with the end of the line before them
        while end > 0:
            begin = max(0, end - _BLOCK)
            file.seek(begin)
            block = file.read(end - begin + 1)  # one byte more: "\r" before "\n" does not end a line
            if b"\r" in block:
                block = block.replace(b"\r\n", b" \n").replace(b"\r", b"\n")
            block = block[: end - begin]
            if (count := block.count(b"\n")) >= left:
                return begin + len(block.rsplit(b"\n", left)[0]) + 1
            left -= count
            nearest = begin + block.index(b"\n") + 1 if count else nearest
            end = begin
            if size - end >= _SEARCH_LIMIT:
                return nearest
    return 0


class PipeSource:
    """What is piped into this process, until the writer closes it; the last line needs no line end."""

    def __init__(self, fd: int = 0, name: str = "-", splitter: Callable[[], Splitter] = LineSplitter) -> None:
        """Read from an open descriptor. Raises TdiffError if it is a terminal."""
        if os.isatty(fd):
            raise TdiffError(
                f"{name!r} reads a pipe, and nothing is piped in: pipe a log, as in `tail -f train.log | tdiff watch -`"
            )
        self.name = name
        self.fd = fd
        """The descriptor; -1 once it is closed."""
        self._lines = splitter()
        self._bytes = 0
        self._done = False
        self._last_arrival: float | None = None

    def read(self, limit: int = 1 << 20) -> Read:
        """Read at most `limit` more bytes; done once the writer has closed the pipe."""
        data = bytearray()
        while len(data) < limit and self._ready():
            try:
                part = os.read(self.fd, min(limit - len(data), 1 << 16))
            except BlockingIOError:
                break
            except OSError:  # the descriptor was closed
                part = b""
            self._done = not part
            data += part
        if data:
            self._last_arrival = time.monotonic()
            self._bytes += len(data)
        lines = self._lines.feed(bytes(data))
        if self._done:
            lines += self._lines.finish()
        return Read(lines, has_more=self._ready(), done=self._done)

    def status(self) -> Status:
        """Connected until the writer closes the pipe; current only then, since more may always come."""
        age = None if self._last_arrival is None else time.monotonic() - self._last_arrival
        text = self._lines.note() or ("the pipe has closed" if self._done else "")
        return Status(not self._done, text, self._lines.cut, self._bytes, age, self._done)

    def close(self) -> None:
        """Close the pipe, unless it is this process's own stdin."""
        self._done = True
        if self.fd > 2:
            with suppress(OSError):
                os.close(self.fd)
            self.fd = -1

    def _ready(self) -> bool:
        if self._done:
            return False
        try:
            return bool(select.select([self.fd], [], [], 0)[0])
        except (OSError, ValueError):
            return True  # the read reports the reason
