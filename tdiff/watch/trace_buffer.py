"""The newest lines of a trace, in bounded memory."""

from __future__ import annotations

from collections import deque
from typing import assert_never

from tdiff.protocol.trace import TraceEnd, TraceHeader, TraceLine, TraceStep

MAX_CHARACTERS = 1 << 24
"""Characters of a trace that are stored, about."""


class TraceBuffer:
    """The newest lines of one generation, or of several in a row."""

    def __init__(self) -> None:
        self.lines: deque[TraceLine] = deque()
        self.count = 0
        """Lines so far, including those that are no longer stored."""
        self._size = 0

    def add(self, line: TraceLine) -> None:
        """Add a line, and drop the oldest ones if there are too many characters."""
        self.lines.append(line)
        self.count += 1
        self._size += _size(line)
        while self._size > MAX_CHARACTERS and len(self.lines) > 1:
            self._size -= _size(self.lines.popleft())


def _size(line: TraceLine) -> int:
    """The approximate number of characters in a line."""
    match line:
        case TraceHeader():
            return 64 + len(line.prompt) + 32 * len(line.given)
        case TraceStep():
            cells = sum(16 + len(str(cell[1:2])) for cell in line.cells if isinstance(cell, (list, tuple)))
            return 64 + cells + len(line.detail or "") + 32 * len(line.tokens or ())
        case TraceEnd():
            return 64 + len(line.text)
        case _:
            assert_never(line)
