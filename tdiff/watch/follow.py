"""Follow a target: read its source into a run state, and move on where the target moves.

A big file is read twice: its newest lines at once, and the entire file in a thread. When the thread has caught up, its
run state replaces the first one.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tdiff.errors import TdiffError
from tdiff.watch.place import Place
from tdiff.watch.reader import Reader
from tdiff.watch.run_state import RunState
from tdiff.watch.sight import Lookout
from tdiff.watch.sources.local import FileSource, PipeSource, Read, Source, Status, where_newest
from tdiff.watch.sources.transcode import FileSplitter, is_text
from tdiff.watch.targets import Target

if TYPE_CHECKING:  # most sources are one file here
    from tdiff.watch.sources.event_files import EventFilesSource
    from tdiff.watch.sources.ssh import SshSource

BIG = 8 << 20
"""Bytes of a file from which on its newest lines are read first."""
NEWEST = 20_000
"""How many newest lines."""
_PIECE = 1 << 18
"""Bytes read in one go, so that other threads get their turn soon."""
_PAUSE = 0.0005
"""Seconds that the thread pauses between two pieces of a file."""
_AT_REST = 1.0
"""Seconds without a change after which parsers report what waits for the next line."""
_SETTLED = 5.0
"""Seconds without a change after which a last line without its line end may count as complete."""
EVENTS_HELD_BACK = 120.0
"""Seconds after which TensorBoard's writers write at the latest, unless they are set otherwise."""


def open_source(target: Target) -> Source:
    """Open the source of a target. Raises TdiffError if standard input is a terminal or there is no ssh client."""
    if target.address:
        from tdiff.watch.sources.ssh import SshSource

        return SshSource(target.address)
    if target.kind == "pipe" and target.path:
        try:
            return PipeSource(os.open(target.path, os.O_RDONLY | os.O_NONBLOCK), target.label, FileSplitter)
        except OSError as error:
            raise TdiffError(f"{str(target.path)!r} cannot be read: {error.strerror}") from None
    if target.path and target.folder_choice is not None and target.folder_choice.candidate.kind == "events":
        from tdiff.watch.sources.event_files import EventFilesSource

        return EventFilesSource(target.path)
    return FileSource(target.path, splitter=FileSplitter) if target.path else PipeSource(splitter=FileSplitter)


class Watched:
    """A target that is followed by calls of `poll`, which never wait for it."""

    def __init__(
        self, target: Target, reader: Callable[[], Reader] | None = None, source: Source | None = None
    ) -> None:
        """`reader` creates an empty reader; `source` replaces the target's own. Raises as `open_source`."""
        self.target = target
        self._new_reader = reader or (lambda: Reader(target.label, choice=target.choice))
        self._reader = self._new_reader()
        self.behind = False
        """Whether the last poll left something that is already available."""
        self._source = source or open_source(target)
        self._place = Place(target)
        self._lookout = Lookout(target.run)
        self._reported = ""  # the sentence about the place that `take_news` returned last
        self._fill: _Fill | None = None
        self._polled = self._settled = False  # settled: whether nothing waits for the next line
        self._early = ""  # a last line that was read before its line end came

    @property
    def run_state(self) -> RunState:
        """What is known. Another object replaces it once a big file has been read completely."""
        return self._reader.state

    @property
    def missing(self) -> str:
        """What the user named that the lines so far do not have, in words; "" where nothing is missing."""
        return self._reader.missing

    @property
    def source(self) -> Source:
        """What it reads from. Another object replaces it once a big file has been read completely."""
        return self._source

    @property
    def _remote(self) -> SshSource | None:
        """The source, if it is on another host."""
        if self.target.address is None:
            return None
        from tdiff.watch.sources.ssh import SshSource

        return self._source if isinstance(self._source, SshSource) else None

    @property
    def _event_files(self) -> EventFilesSource | None:
        """The source, if it is several event files."""
        if self.target.folder_choice is None:
            return None
        from tdiff.watch.sources.event_files import EventFilesSource

        return self._source if isinstance(self._source, EventFilesSource) else None

    @property
    def filling(self) -> float | None:
        """The share (0..1) of a big file that its thread has read; None when that is over."""
        return self._fill.share if self._fill else None

    def poll(self, seconds: float = 0.05) -> bool:
        """Read what is new, for about `seconds` at most. Returns whether there was anything."""
        end = time.monotonic() + seconds
        new = self._place.poll()
        if self._place.target is not self.target:
            self._move()
        written, sight = False, self._lookout.look()  # before the lines: a process that has ended has written its end
        self._describe()
        if self._swap() if self._polled else self._open():
            new = True
            self._describe()
        while True:
            read = self._source.read(_PIECE)
            if self._early and (read.reset or read.lines):
                repeated = not read.reset and read.lines[0] == self._early
                read, self._early = (replace(read, lines=read.lines[1:]) if repeated else read), ""
            changed = _pass_on(read, self._source, self._reader)
            new, written = new | changed, written or changed
            self._settled &= not read.lines
            self.behind = read.has_more
            if self._fill and not self.behind and not self._fill.ident:
                self._fill.start()  # not before: it would take half of the time that the newest lines need
            if not self.behind or time.monotonic() >= end:
                if not self.behind and not self._fill:
                    self._lookout.note(self.run_state, sight, written)
                return self._settle() or new

    def _settle(self) -> bool:
        """If nothing has come for a while, report what waits for the next line. Returns whether anything did.

        A last line without its line end is read too if it is visibly complete: a progress bar ends with the next one.
        """
        age = self.status().age
        if age is None or age < _AT_REST or self.behind:
            return False
        last = self._source.torn().rstrip() if isinstance(self._source, FileSource) and age > _SETTLED else ""
        new = last.endswith(("}", "]")) and self._read_early()
        if not self._settled or new:
            self._settled = True
            new |= self._reader.settle()
        return new

    def _read_early(self) -> bool:
        """Read the last line of a file, which has no line end. Returns whether it is new."""
        assert isinstance(self._source, FileSource)
        last = self._source.torn()
        if not last or last == self._early:
            return False
        self._reader.feed([last])
        self._early = last
        return True

    def finish(self, seconds: float) -> bool:
        """Read everything there is now, for a snapshot after which nothing is polled. Returns whether all of it came.

        A pipe is read to its end. After `seconds`, only what is already available is still read, however long that
        takes, and what another host continues to send.
        """
        end, sight = time.monotonic() + seconds, self._lookout.look()
        self._place.settle()
        while True:
            new = self.poll()
            self._describe()  # the other host may have said something about the job
            status = self.status()
            if not self.behind and not self._fill:
                if status.current:
                    break
                if new and self._remote is not None:
                    end = max(end, time.monotonic() + min(seconds, 1.0))
                if time.monotonic() >= end:
                    self._reader.settle()
                    return False
            if not self.behind:
                time.sleep(0.01)
        if isinstance(self._source, FileSource) and (status.age or 0) > _SETTLED:
            self._read_early()
        if (event_files := self._event_files) is not None:
            self._reader.feed(event_files.flush())
        self._reader.settle()
        self._lookout.note(self.run_state, sight, written=False)
        return True

    def status(self) -> Status:
        """The status of the source."""
        return self._source.status()

    def close(self) -> None:
        """Close the source, and end the thread."""
        self._place.close()
        self._close_reading()

    @property
    def file_name(self) -> str:
        """The file that is read where a folder was named, short and safe to print; otherwise ""."""
        if (remote := self._remote) is not None:
            return remote.short
        return self.target.folder_choice.short if self.target.folder_choice is not None else ""

    def _line(self) -> str:
        """Which file is read and what else there is; "" where the user named the file."""
        return self._place.line if (remote := self._remote) is None else remote.choice

    def take_news(self) -> str:
        """Which file is read and what else there is, if that is new since the last call; otherwise ""."""
        line = self._line()
        news, self._reported = ("" if line == self._reported else line), line
        return news

    def _describe(self) -> None:
        """Note in the run what is known of its file apart from the lines in it."""
        state = self._reader.state
        state.job = self._place.job if (remote := self._remote) is None else remote.job
        state.source = self._line()
        path = self.target.path
        events = path is not None and "tfevents" in path.name
        if (event_files := self._event_files) is not None:
            event_files.total, events = self._place.total, True
        state.held_back = EVENTS_HELD_BACK if events else 0.0
        waits = state.job is not None and state.job.waits
        state.absence = "" if state.format or waits else self._source.status().text
        # What a host that cannot be reached has written meanwhile is unknown: its silence says nothing.
        unseen = remote is not None and not remote.status().current
        state.seen_until = (state.seen_until or time.time()) if unseen else None

    def _move(self) -> None:
        """Read another file, in another place, from its beginning."""
        self._close_reading()
        self.target = self._place.target
        self._source, self._lookout = open_source(self.target), Lookout(self.target.run)
        self._reader.forget()
        self._polled = self._settled = False
        self._early = ""

    def _close_reading(self) -> None:
        if self._fill:
            self._fill.stopped = True
            if self._fill.ident:
                self._fill.join(1)
            self._fill.source.close()
            self._fill = None
        self._source.close()

    def _open(self) -> bool:
        """If the file is big: read its first line, which may be a heading, and continue with its newest lines."""
        self._polled = True
        if not isinstance(self._source, FileSource):
            return False
        try:
            path = self._source.path
            big = path.stat().st_size > BIG and is_text(path)
            if not big or not (offset := where_newest(path, NEWEST)):
                return False
        except (OSError, ValueError):
            return False  # the source reports the reason
        beginning = self._source
        self._reader.feed(beginning.read(1 << 16).lines[:1])
        beginning.close()
        self._source = FileSource(path, offset)
        self._fill = _Fill(path, self._new_reader())
        return True

    def _swap(self) -> bool:
        """Continue with the state of the entire file, once that has been read."""
        fill = self._fill
        if not fill or not fill.ident or fill.is_alive():
            return False
        self._fill = None
        if fill.failure:
            raise fill.failure
        self._source.close()
        self._source, self._reader = fill.source, fill.reader
        self._settled, self._early = False, ""
        return True


class _Fill(threading.Thread):
    """Reads an entire file into a state of its own."""

    def __init__(self, path: Path, reader: Reader) -> None:
        super().__init__(daemon=True, name="fill")
        self.source = FileSource(path, splitter=FileSplitter)
        self.reader = reader
        self.share = 0.0
        self.stopped = False
        self.failure: Exception | None = None

    def run(self) -> None:
        """Read up to the first known size of the file; the thread that polls reads what is written meanwhile."""
        try:
            goal, has_more = 0, True
            while has_more and not self.stopped:
                read = self.source.read(_PIECE)
                _pass_on(read, self.source, self.reader)
                goal = goal or self.source.size
                has_more = read.has_more and self.source.offset < goal
                self.share = min(1.0, self.source.offset / max(1, goal))
                time.sleep(_PAUSE)
        except Exception as error:
            self.failure = error  # for the thread that polls


def _pass_on(read: Read, source: Source, reader: Reader) -> bool:
    """Feed the reader what was read, the newest lines with the time at which they were written, if it is known."""
    if read.reset:
        reader.reset()
    if read.lines:
        age = None if read.has_more else source.status().age
        reader.feed(read.lines, None if age is None else time.time() - age)
    if read.done:
        reader.close()
    return read.reset or bool(read.lines)
