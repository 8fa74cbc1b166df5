"""The log of a run: its newest lines, safe to print, rendered only when they are read."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from itertools import repeat
from typing import Any

from tdiff.protocol.describe import describe
from tdiff.protocol.events import End, Event
from tdiff.visible import visible_line
from tdiff.watch.formats.base import MAX_TIME

MAX_LINES, MAX_WIDTH = 5_000, 1_000
"""Lines of the log that are stored, and characters of each."""


class Log:
    """The newest 5,000 lines."""

    def __init__(self) -> None:
        self.count = 0
        """Lines written so far, including those that are no longer stored."""
        self._lines: deque[str] = deque(maxlen=MAX_LINES)
        self._pending: deque[tuple[Callable[[tuple[Any, ...]], str], tuple[Any, ...]]] = deque(maxlen=MAX_LINES)

    def write(self, text: str) -> None:
        """Add a raw line."""
        self._pending.append((_shown, (text if len(text) <= MAX_WIDTH else f"{text[:MAX_WIDTH]} …",)))
        self.count += 1

    def write_later(
        self, render: Callable[[tuple[Any, ...]], str], rows: Iterable[tuple[Any, ...]], count: int
    ) -> None:
        """Add `count` lines, which `render` makes of their rows once they are read; it returns lines safe to print."""
        self._pending.extend(zip(repeat(render), rows, strict=False))
        self.count += count

    @property
    def lines(self) -> deque[str]:
        """The newest lines, oldest first."""
        if self._pending:
            self._lines.extend(render(row) for render, row in self._pending)
            self._pending.clear()
        return self._lines


def _shown(row: tuple[Any, ...]) -> str:
    """A raw line, safe to print."""
    return visible_line(row[0])


def event_line(event: Event) -> str:
    """An event as one line of the log, with the time of day; "" for an event that the log omits."""
    try:
        text = describe(event) or (f"ended: {event.reason}" if isinstance(event, End) else "")
    except (TypeError, ValueError, OverflowError):  # a null or a huge number in the record
        text = f"{event.kind}: not all of its numbers are finite"
    if not text:
        return ""
    return f"{clock_time(event.time)}  {visible_line(' '.join(text.split(chr(10))))}"


def clock_time(seconds: float | None) -> str:
    """The local time of day, as 14:02:11."""
    known = seconds is not None and 0 <= seconds < MAX_TIME
    return time.strftime("%H:%M:%S", time.localtime(seconds)) if known else "--:--:--"
