"""Where lines come from: a file that grows, a pipe. Whole lines, nothing lost, nothing twice, and never a wait.

A source turns bytes into lines and knows nothing of what they say: its text is raw, not yet safe to print. Line feed,
carriage return and the two together each end one line. A line that has not ended is held back.
"""

from __future__ import annotations

import os
import select
import stat
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Protocol

from tdiff.errors import TdiffError
from tdiff.visible import visible_line

LONGEST = 1 << 20
"""Bytes of one line that are kept."""
CUT = " …(cut)"
"""What stands at the end of a longer one."""
_HEAD, _TAIL = 1024, 4096
"""Bytes at the beginning, and before the place reached, by which a file that was written anew is told from its past;
more than most lines have, so that a number or a time is among them."""
_BLOCK = 1 << 18
_FARTHEST = 1 << 26
"""How far back the newest lines are looked for, bytes."""
_SETTLED = 2.0
"""Seconds after which a change of a file must show in its time of change: clocks of file systems tick slowly."""


@dataclass(frozen=True, slots=True)
class Read:
    """What one look at a source brought."""

    lines: list[str] = field(default_factory=list)
    """Whole lines, without their ends."""
    reset: bool = False
    """Forget all that came before these lines: they are from another beginning."""
    more: bool = False
    """There is more right now."""
    done: bool = False
    """Nothing will ever come again."""


@dataclass(frozen=True, slots=True)
class Status:
    """How a source is doing."""

    connected: bool
    text: str = ""
    """What a person should know: one line, safe to print."""
    lost: int = 0
    """Lines that did not come whole."""
    bytes: int = 0
    """How far into the file, or the stream, it has read."""
    age: float | None = None
    """Seconds since the newest byte came, or was written; None before the first."""
    current: bool = True
    """All that is there now has been read."""


class Source(Protocol):
    """Anything that yields lines."""

    name: str

    def read(self, limit: int = 1 << 20) -> Read:
        """What is there now, of at most about `limit` bytes; returns at once."""

    def status(self) -> Status:
        """How it is doing."""

    def close(self) -> None:
        """Let go of the file, the pipe or the process."""


class LineSplitter:
    """Bytes in pieces of any size, cut into lines of UTF-8; what is not UTF-8 becomes U+FFFD."""

    def __init__(self) -> None:
        self.cut = 0  # lines longer than LONGEST
        self.dropped = 0  # bytes of theirs that were not kept
        self._held = bytearray()  # of the line that has not ended: never more than LONGEST + 1 bytes
        self._over = 0  # bytes of it beyond those
        self._returned = False  # whether the last byte was a carriage return, to which a line feed may still belong

    def feed(self, data: bytes) -> list[str]:
        """The lines that end in `data`."""
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

    def held(self) -> str:
        """The line that has not ended, as far as it came."""
        return self._held[:LONGEST].decode("utf-8", "replace")

    def finish(self) -> list[str]:
        """The line that has not ended, where nothing more will come."""
        return [self._take()] if self._held else []

    def note(self) -> str:
        """What was dropped, for a status; empty where nothing was."""
        if not self.cut:
            return ""
        return f"{self.cut} line{'s' * (self.cut > 1)} cut after 1 MiB, {self.dropped:,} bytes dropped"

    def _hold(self, piece: bytes) -> None:
        self._held += piece
        over = len(self._held) - LONGEST - 1
        if over > 0:
            del self._held[-over:]
            self._over += over

    def _take(self) -> str:
        line, over = bytes(self._held), self._over
        self._held, self._over = bytearray(), 0
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

    A file that was written anew in place is told by its first and its last bytes read; one whose beginning and whose
    bytes just before the place reached are as they were counts as grown. An idle look costs one `stat`.
    """

    def __init__(self, path: Path | str, start: int = 0) -> None:
        """Follow `path`, which need not be there yet, from the byte `start` on, where a line begins."""
        self.path = Path(path)
        self.name = visible_line(str(path))
        self.offset = start
        """Bytes read, from the beginning of the file."""
        self.size = 0
        """Bytes that were there at the last look."""
        self._lines = LineSplitter()
        self._file: IO[bytes] | None = None
        self._inode: tuple[int, int] | None = None
        self._head = self._tail = b""
        self._quiet: tuple[int, ...] | None = None
        self._why = ""
        self._changed: float | None = None
        self._more = True
        self._reset = False  # to be told with the next lines

    def read(self, limit: int = 1 << 20) -> Read:
        """The lines of at most `limit` bytes more."""
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
            if self._altered():  # asked after reading, so that whatever was read is known to follow on the past
                self._begin_again()
                data = self._at(0, limit)
        except (OSError, ValueError) as why:
            return self._without(why, limit)
        lines = self._take(data)
        self._why, self._changed, self.size = "", now.st_mtime, now.st_size
        self._more = self.offset < self.size
        settled = not self._more and now.st_mtime < time.time() - _SETTLED
        self._quiet = seen if settled else None
        reset, self._reset = self._reset, False
        return Read(lines, reset, self._more)

    def torn(self) -> str:
        """The last line, where it has no end: a part of one, or the last of a finished file."""
        return self._lines.held()

    def status(self) -> Status:
        """How the file is; connected while it is there."""
        age = None if self._changed is None else max(0.0, time.time() - self._changed)
        text = visible_line(self._why or self._lines.note())
        return Status(self._file is not None, text, self._lines.cut, self.offset, age, not self._more)

    def close(self) -> None:
        """Close the file; reading again would open it again, from its beginning."""
        if self._file:
            self._file.close()
        self._file = self._quiet = None

    def _open(self) -> None:
        """Open what the path names now, at its beginning unless it is the first and as long as was promised."""
        first = self._inode is None
        self.close()
        self._file = self.path.open("rb", buffering=0)
        info = os.fstat(self._file.fileno())
        self._inode = (info.st_dev, info.st_ino)
        if not first or info.st_size < self.offset:
            self._begin_again()
        self._head = self._at(0, min(_HEAD, self.offset))
        self._tail = self._at(max(0, self.offset - _TAIL), min(_TAIL, self.offset))

    def _altered(self) -> bool:
        """Whether the file is no longer one that begins with what was read."""
        last = self._at(self.offset - len(self._tail), len(self._tail))
        return last != self._tail or self._at(0, len(self._head)) != self._head

    def _begin_again(self) -> None:
        self._reset = self._reset or self.offset > 0
        self.offset, self._lines, self._head, self._tail = 0, LineSplitter(), b"", b""

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

    def _without(self, why: Exception, limit: int) -> Read:
        """The path names no file that can be read: what the last one still holds, then nothing."""
        if isinstance(why, (FileNotFoundError, NotADirectoryError)):
            self._why = f"{self.path} is {'not there yet' if self._inode is None else 'gone'}; waiting for it"
        else:
            reason = why.strerror if isinstance(why, OSError) else str(why)
            self._why = f"{self.path} cannot be read: {reason}"
        self._quiet, data = None, b""
        with suppress(OSError):
            data = self._at(self.offset, limit) if self._file else b""
        self._more = len(data) == limit
        if not self._more:
            self.close()
        return Read(self._take(data), more=self._more)


def newest(path: Path | str, lines: int = 20_000) -> tuple[list[str], int]:
    """The last `lines` whole lines of a file, and the byte they begin at; fewer where they are longer than 64 MiB.

    Raises OSError where the file cannot be read.
    """
    offset = where_newest(path, lines)
    source, found = FileSource(path, offset), list[str]()
    more = True
    while more:
        read = source.read()
        found, more = (read.lines if read.reset else found + read.lines), read.more
    source.close()
    return found, offset


def where_newest(path: Path | str, lines: int = 20_000) -> int:
    """The byte at which the last `lines` whole lines of a file begin, looked for from its end backwards."""
    with Path(path).open("rb", buffering=0) as file:
        end = nearest = size = file.seek(0, os.SEEK_END)
        left = lines + 1  # with the end of the line before them
        while end > 0:
            begin = max(0, end - _BLOCK)
            file.seek(begin)
            block = file.read(end - begin + 1)  # a byte more: before a line feed, a carriage return is no end
            if b"\r" in block:
                block = block.replace(b"\r\n", b" \n").replace(b"\r", b"\n")
            block = block[: end - begin]
            if (count := block.count(b"\n")) >= left:
                return begin + len(block.rsplit(b"\n", left)[0]) + 1
            left -= count
            nearest = begin + block.index(b"\n") + 1 if count else nearest
            end = begin
            if size - end >= _FARTHEST:
                return nearest
    return 0


class PipeSource:
    """What is piped into this process, until it closes; its last line counts though it may have no end."""

    def __init__(self, fd: int = 0, name: str = "-") -> None:
        """Read from an open descriptor. Raises TdiffError where it is a terminal."""
        if os.isatty(fd):
            raise TdiffError(
                f"{name!r} is what is piped in, and nothing is: pipe a log, such as `tail -f train.log | tdiff watch -`"
            )
        self.name = name
        self._fd = fd
        self._lines = LineSplitter()
        self._bytes = 0
        self._done = False
        self._came: float | None = None

    def read(self, limit: int = 1 << 20) -> Read:
        """The lines of at most `limit` bytes more; done once the writer has closed."""
        data = bytearray()
        while len(data) < limit and self._ready():
            try:
                part = os.read(self._fd, min(limit - len(data), 1 << 16))
            except BlockingIOError:
                break
            except OSError:  # closed under us
                part = b""
            self._done = not part
            data += part
        if data:
            self._came = time.monotonic()
            self._bytes += len(data)
        lines = self._lines.feed(bytes(data))
        if self._done:
            lines += self._lines.finish()
        return Read(lines, more=self._ready(), done=self._done)

    def status(self) -> Status:
        """Connected until the writer closes; current only then, since more is always to be expected."""
        age = None if self._came is None else time.monotonic() - self._came
        text = self._lines.note() or ("the pipe has closed" if self._done else "")
        return Status(not self._done, text, self._lines.cut, self._bytes, age, self._done)

    def close(self) -> None:
        """Close the pipe, unless it is this process's own stdin."""
        self._done = True
        if self._fd > 2:
            with suppress(OSError):
                os.close(self._fd)
            self._fd = -1

    def _ready(self) -> bool:
        if self._done:
            return False
        try:
            return bool(select.select([self._fd], [], [], 0)[0])
        except (OSError, ValueError):
            return True  # the read will say why
