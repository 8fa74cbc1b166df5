"""Traces: the lines of one generation, or of several in a row."""

from __future__ import annotations

from collections.abc import Sequence

from tdiff.protocol.events import parse
from tdiff.protocol.trace import TraceHeader, TraceLine
from tdiff.watch.formats.base import Candidate, Decision, Parser, Sink


class Trace(Parser):
    """Reads the lines of a trace and ignores all others."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def feed(self, lines: Sequence[str]) -> None:
        """Read the next lines."""
        for line in lines:
            record = parse(line)
            if isinstance(record, TraceLine):
                self._sink.trace_line(record)


def recognize(candidate: Candidate) -> Parser | Decision:
    """A trace begins with its header. Without the header its lines cannot be drawn."""
    record = candidate.record
    if isinstance(record, TraceHeader):
        return Trace(candidate.sink)
    return Decision.SKIP if isinstance(record, TraceLine) else Decision.NO
