"""The state of a log from its first lines and its last ones, whatever its size; the lines that follow are read once.

This module reads nothing: it says which bytes it needs and takes them, so that they may come from another host.
"""

from __future__ import annotations

from tdiff.watch.formats.documents import begins
from tdiff.watch.listing.entries import FileInfo
from tdiff.watch.reader import Reader
from tdiff.watch.run_state import RunState
from tdiff.watch.sources.local import LineSplitter
from tdiff.watch.sources.transcode import HEAD as MARK
from tdiff.watch.sources.transcode import FileSplitter, Transcoder

WHOLE = 48 << 10
"""Bytes of a file up to which it is read entirely."""
HEAD, TAIL = 8 << 10, 32 << 10
"""Bytes that are read at the beginning and at the end of a bigger one."""
_HEAD_LINES = 30
"""Lines of the beginning that are read: a heading, settings, the start of a run."""
_PIECE = 1 << 18
_MAX_ENTIRE = 4 << 20
"""Bytes of a file that cannot be read from its end, such as a gzip file or a JSON document, up to which it is read."""
_MAX_FOLLOWED = 1 << 20
"""Bytes after which the file is read from its end again, which bounds the memory of a state."""
_AT_REST, _SETTLED = 1.0, 5.0
"""Seconds without a change after which what waits for the next line is reported, and a last line counts as complete."""


class TailLog:
    """The end of one log."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.problem = ""
        """Why the log is not read, in words."""
        self.skipped = False
        """Whether lines between the beginning and the end were not read."""
        self.version = 0
        """A number that changes with what is known."""
        self._info: FileInfo | None = None  # of the last bytes taken
        self._forget()

    def _forget(self) -> None:
        self._reader = Reader(self.name)
        self._splitter: LineSplitter = FileSplitter()
        self._offset = self._since = 0  # where the next bytes begin, and where those since the end was found
        self._phase = "new"  # new, head, entire, tail
        self._torn = False  # whether the next line began before the first byte
        self._settled, self._early = False, ""
        self._unreadable: tuple[int, int] | None = None  # inode and size of a file that cannot be read
        self.problem, self.skipped = "", False

    @property
    def state(self) -> RunState:
        """What is known."""
        return self._reader.state

    @property
    def is_read(self) -> bool:
        """Whether its end has been read; until then its state is that of its first lines."""
        return self._phase in ("entire", "tail")

    @property
    def has_loss(self) -> bool:
        """Whether a loss was found."""
        return any("loss" in name.lower() for name in self.state.metrics) or self.state.format == "tdiff"

    def needs(self, info: FileInfo) -> tuple[int, int] | None:
        """The offset and the number of the bytes to take next from the file as it is now; None if there are none."""
        if self._info is not None and (info.inode != self._info.inode or info.size < self._offset):
            self._info = None
            self._forget()
        if self._unreadable == (info.inode, info.size):
            return None
        if self._unreadable:
            self._forget()
        if self._phase == "new":
            return (0, info.size if info.size <= WHOLE else HEAD) if info.size else None
        if self._phase == "head" and info.size <= WHOLE:
            self._forget()
            return self.needs(info)
        if self._phase == "head":
            return info.size - TAIL, TAIL
        if info.size <= self._offset:
            return None
        if self._phase == "tail" and (info.size - self._since > _MAX_FOLLOWED):
            self._info = None
            self._forget()
            return self.needs(info)
        return self._offset, min(info.size - self._offset, _PIECE)

    def take(self, info: FileInfo, offset: int, data: bytes) -> None:
        """Take the bytes that `needs` named, or fewer if the file has become shorter."""
        self._info, self._settled = info, False
        self.version += 1
        if not data:
            self._give_up(info, "it cannot be read")
            return
        if self._phase == "new":
            self._begin(info, data)
            return
        if self._phase == "head":
            self._splitter, self._torn = LineSplitter(), True
            self._phase, self.skipped, self._since = "tail", True, offset
        self._offset = offset + len(data)
        lines = self._splitter.feed(data)
        if self._torn and lines:
            self._torn, lines = False, lines[1:]
        if self._early and lines:
            lines = lines[1:] if lines[0] == self._early else lines
            self._early = ""
        damage = self._splitter.note() if self._phase == "entire" and not lines and not self._splitter.cut else ""
        if damage:  # such as damaged gzip data
            self._give_up(info, damage)
        self._reader.feed(lines, info.modified if self._offset >= info.size else None)

    def _give_up(self, info: FileInfo, problem: str) -> None:
        """Read no more of the file as it is now."""
        self.problem, self._unreadable = problem, (info.inode, info.size)

    def settle(self, now: float) -> None:
        """Report what waits for the next line, if the file has been at rest; `now` is by the clock of its host."""
        info = self._info
        if info is None or self._settled or self._phase in ("new", "head") or now - info.modified < _AT_REST:
            return
        self.version += 1
        if now - info.modified > _SETTLED:
            self._settled = True
            last = self._splitter.unfinished().rstrip()
            if last.endswith(("}", "]")) and not self._torn and last != self._early:
                self._early = last
                self._reader.feed([last])
        self._reader.settle()

    def _begin(self, info: FileInfo, data: bytes) -> None:
        """Take the beginning, which shows whether the file can be read from its end."""
        kind = Transcoder()
        kind.feed(data[:MARK])
        text = data.decode("utf-8", "replace").lstrip("\ufeff \r\n\t")
        # A document has no lines that could be read without the others.
        plain = kind.is_plain and not begins(text.partition("\n")[0])
        if plain and len(data) < info.size:
            lines = LineSplitter().feed(data)
            if info.size > WHOLE:
                self._phase = "head"
                self._reader.feed(lines[:_HEAD_LINES])
                return
        elif not plain and info.size > _MAX_ENTIRE:
            self._give_up(info, "it is too big to be read in a table; tdiff watch reads it alone")
            return
        self._phase, self._offset = ("tail" if plain else "entire"), len(data)
        self._reader.feed(self._splitter.feed(data), info.modified if len(data) >= info.size else None)
