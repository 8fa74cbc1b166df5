"""Tables with a heading: fields apart by commas, semicolons, tabs, bars or blanks; see `tables`."""

from __future__ import annotations

from collections.abc import Sequence

from tdiff.watch.formats import tables
from tdiff.watch.formats.assemble import Assembler
from tdiff.watch.formats.base import Candidate, Decision, Parser, Sink
from tdiff.watch.formats.text_log import Curves

_HEADING_WITHIN = 200
"""Non-blank lines within which a heading must appear."""


class Table(Parser):
    """Reads rows under a heading. A later heading, of a job that was started again, may name other columns."""

    def __init__(self, sink: Sink, head: tables.Header) -> None:
        self._sink, self._head = sink, head
        self._assembler = Assembler(Curves(sink), counts_rows=True)

    def feed(self, lines: Sequence[str]) -> None:
        """Read the next lines."""
        for line in lines:
            fields = tables.row(line, self._head)
            if fields is not None:
                self._sink.write(line)
                self._assembler.take(fields)
                continue
            self._sink.output(line)
            head = tables.header(line, first=False)
            if head is not None and head.delimiter == self._head.delimiter:
                self._head = head


def recognize(candidate: Candidate) -> Parser | Decision:
    """A table begins with a heading and a row that has as many fields, one of them a number."""
    before = candidate.before
    if before is not None and (head := _heading_of(before)) is not None:
        if tables.is_rule(candidate.line) and head.delimiter == "|":
            return Table(candidate.sink, head)
        fields = tables.split(candidate.line, head.delimiter)
        if len(fields) == len(head.names) and tables.row(candidate.line, head) is not None:
            return Table(candidate.sink, head)
    return Decision.WAIT if _heading_of(candidate) is not None else Decision.NO


def _heading_of(candidate: Candidate) -> tables.Header | None:
    if candidate.number > _HEADING_WITHIN or candidate.text.startswith(("{", "[")):
        return None
    return tables.header(candidate.line, first=candidate.number == 1)
