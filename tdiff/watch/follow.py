"""One watched thing: a source, and the story of what it says.

A big file is told twice: its newest lines at once, and, by a thread, the whole of it; when that has caught up, its
story takes the place of the first. Nothing here knows what a line means or how it is drawn.
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
from tdiff.watch.sources.local import FileSource, PipeSource, Read, Source, Status, where_newest
from tdiff.watch.sources.ssh import SshSource
from tdiff.watch.targets import Target

if TYPE_CHECKING:
    from tdiff.watch.run_state import RunState

BIG = 8 << 20
"""Bytes of a file from which its newest lines come first."""
NEWEST = 20_000
"""How many of them."""
_PIECE = 1 << 18
"""Bytes read in one go, so that whoever shares the interpreter has its turn soon."""
_PAUSE = 0.0005
"""Seconds between two pieces of the whole file."""
_AT_REST = 1.0
"""Seconds without a change after which what waits for the next line waits no more."""
_SETTLED = 5.0
"""Seconds without a change after which a last line without its end is taken for a whole one."""


def open_source(target: Target) -> Source:
    """What reads a target. Raises TdiffError where standard input is a terminal, or there is no ssh client."""
    if target.address:
        return SshSource(target.address)
    if target.kind == "pipe" and target.path:
        try:
            return PipeSource(os.open(target.path, os.O_RDONLY | os.O_NONBLOCK), target.label)
        except OSError as why:
            raise TdiffError(f"{str(target.path)!r} cannot be read: {why.strerror}") from None
    return FileSource(target.path) if target.path else PipeSource()


class Watched:
    """A target, followed by calls of `poll`, which never wait for it."""

    def __init__(
        self, target: Target, story: Callable[[], RunState] | None = None, source: Source | None = None
    ) -> None:
        """`story` makes an empty story, `source` is read in place of the target's own. Raises as `open_source`."""
        self.target = target
        self._new = story or (lambda: _story(target.label))
        self.story = self._new()
        """What is known. Another object takes its place when a big file has been read as a whole."""
        self.behind = False
        """Whether the last poll left something that is there already."""
        self._source = source or open_source(target)
        self._fill: _Fill | None = None
        self._begun = False
        self._settled = False  # whether nothing waits for the next line
        self._early = ""  # a last line without its end that was told before that came

    @property
    def filling(self) -> float | None:
        """The share of a big file that has been read behind its newest lines, 0..1; None when that is over."""
        return self._fill.share if self._fill else None

    def poll(self, seconds: float = 0.05) -> bool:
        """Read what is new into the story, for about `seconds` at most; whether there was anything."""
        end = time.monotonic() + seconds
        new = self._swap() if self._begun else self._begin()
        while True:
            read = self._source.read(_PIECE)
            if self._early and (read.reset or read.lines):
                told = not read.reset and read.lines[0] == self._early
                read, self._early = (replace(read, lines=read.lines[1:]) if told else read), ""
            new |= _tell(self.story, read, self._source)
            self._settled &= not read.lines
            self.behind = read.more
            if self._fill and not self.behind and not self._fill.ident:
                self._fill.start()  # not before: it would take half of the time that the newest lines need
            if not self.behind or time.monotonic() >= end:
                return self._settle() or new

    def _settle(self) -> bool:
        """Where nothing has come for a while, tell the story so; whether that told it anything new.

        A last line that has no end is told too where one can see that it is whole: bars are ended by the next one.
        """
        age = self.status().age
        if age is None or age < _AT_REST or self.behind:
            return False
        last = self._source.torn().rstrip() if isinstance(self._source, FileSource) and age > _SETTLED else ""
        new = last.endswith(("}", "]")) and self._tell_early()
        if not self._settled or new:
            self._settled = True
            new |= self.story.settle()
        return new

    def _tell_early(self) -> bool:
        """Tell the last line of a file, which has no end; whether it was not told before."""
        assert isinstance(self._source, FileSource)
        last = self._source.torn()
        if not last or last == self._early:
            return False
        self.story.feed([last])
        self._early = last
        return True

    def finish(self, seconds: float) -> bool:
        """Read all that there is now, for a snapshot after which nothing is polled; whether it could be had.

        A pipe is read to its end. After `seconds` only what is there already is still read, however long that takes,
        and what another host goes on sending.
        """
        end = time.monotonic() + seconds
        while True:
            new = self.poll()
            status = self.status()
            if not self.behind and not self._fill:
                if status.current:
                    break
                if new and isinstance(self._source, SshSource):
                    end = max(end, time.monotonic() + min(seconds, 1.0))
                if time.monotonic() >= end:
                    self.story.settle()
                    return False
            if not self.behind:
                time.sleep(0.01)
        if isinstance(self._source, FileSource) and (status.age or 0) > _SETTLED:
            self._tell_early()
        self.story.settle()
        return True

    def status(self) -> Status:
        """How the source is doing."""
        return self._source.status()

    def close(self) -> None:
        """Let go of the source, and end the thread."""
        if self._fill:
            self._fill.stopped = True
            if self._fill.ident:
                self._fill.join(1)
            self._fill.source.close()
            self._fill = None
        self._source.close()

    def _begin(self) -> bool:
        """Where the file is big: its first line, which may be a heading, and a source for its newest."""
        self._begun = True
        if not isinstance(self._source, FileSource):
            return False
        try:
            path = self._source.path
            if path.stat().st_size <= BIG or not (offset := where_newest(path, NEWEST)):
                return False
        except (OSError, ValueError):
            return False  # the source will say why
        start = self._source
        self.story.feed(start.read(1 << 16).lines[:1])
        start.close()
        self._source = FileSource(path, offset)
        self._fill = _Fill(path, self._new())
        return True

    def _swap(self) -> bool:
        """Go on with the story of the whole, where it has been read."""
        fill = self._fill
        if not fill or not fill.ident or fill.is_alive():
            return False
        self._fill = None
        if fill.failure:
            raise fill.failure
        self._source.close()
        self._source, self.story = fill.source, fill.story
        self._settled, self._early = False, ""
        return True


class _Fill(threading.Thread):
    """Reads a whole file into a story of its own."""

    def __init__(self, path: Path, story: RunState) -> None:
        super().__init__(daemon=True, name="fill")
        self.source = FileSource(path)
        self.story = story
        self.share = 0.0
        self.stopped = False
        self.failure: Exception | None = None

    def run(self) -> None:
        """As far as the file reached at first: what is written meanwhile is left to whoever polls."""
        try:
            goal, more = 0, True
            while more and not self.stopped:
                read = self.source.read(_PIECE)
                _tell(self.story, read, self.source)
                goal = goal or self.source.size
                more = read.more and self.source.offset < goal
                self.share = min(1.0, self.source.offset / max(1, goal))
                time.sleep(_PAUSE)
        except Exception as why:
            self.failure = why  # for the thread that polls


def _tell(story: RunState, read: Read, source: Source) -> bool:
    """Pass on what was read; the newest lines with the time when they were written, so far as that is known."""
    if read.reset:
        story.reset()
    if read.done:
        story.closed = True
    if read.lines:
        age = None if read.more else source.status().age
        story.feed(read.lines, None if age is None else time.time() - age)
    if read.done:
        story.settle(over=True)
    return read.reset or bool(read.lines)


def _story(name: str) -> RunState:
    from tdiff.watch.run_state import RunState

    return RunState(name)
