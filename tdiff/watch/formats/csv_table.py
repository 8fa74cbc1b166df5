"""Tables with a heading: fields apart by commas, semicolons, tabs, bars or blanks; see `tables`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tdiff.watch.formats import tables
from tdiff.watch.formats.assemble import Assembler
from tdiff.watch.formats.base import Candidate, Decision, Parser, Sink
from tdiff.watch.formats.choice import Names
from tdiff.watch.formats.curves import Curves
from tdiff.watch.formats.fields import Fields

_HEADING_WITHIN = 200
"""Non-blank lines within which a heading must appear."""


class Table(Parser):
    """Reads rows under a heading. A later heading, of a job that was started again, may name other columns."""

    def __init__(self, sink: Sink, names: Names, head: tables.Header, earlier: Iterable[Fields] = ()) -> None:
        """`earlier` lines may tell how many steps there will be."""
        self._sink, self._names = sink, names
        self._rows = tables.Rows(head, names.meaning)
        self._elsewhere = False  # the lines belong to a table with another header
        self._curves = Curves(sink)
        self._assembler = Assembler(self._curves, names, counts_rows=True)
        self._assembler.prepare(earlier)

    def feed(self, lines: Sequence[str]) -> None:
        """Read the next lines."""
        read, take, write = self._rows.read, self._assembler.take, self._sink.write
        for line in lines:
            fields = read(line) if not self._elsewhere else None
            if fields is not None:
                write(line)
                take(fields)
                continue
            self._curves.flush()
            self._sink.output(line)
            head = tables.header(line, self._names.meaning, first=False)
            if head is not None and head.delimiter == self._rows.head.delimiter:
                self._rows, self._elsewhere = tables.Rows(head, self._names.meaning), False
                read = self._rows.read
            elif tables.is_other_header(line, self._rows.head):
                self._elsewhere = True
        self._curves.flush()


def recognize(candidate: Candidate) -> Parser | Decision:
    """A table begins with a heading and a row that has as many fields, one of them a number."""
    before, names = candidate.before, candidate.reader.names
    if before is not None and (head := _heading_of(before)) is not None:
        earlier = map(candidate.reader.read, list(candidate.recent))
        if tables.rules_off(candidate.line, before.line, head):
            return Table(candidate.sink, names, head, earlier)
        fields = tables.split(candidate.line, head.delimiter)
        if len(fields) == len(head.names) and tables.Rows(head, names.meaning).read(candidate.line) is not None:
            return Table(candidate.sink, names, head, earlier)
    return Decision.WAIT if _heading_of(candidate) is not None else Decision.NO


def _heading_of(candidate: Candidate) -> tables.Header | None:
    if candidate.number > _HEADING_WITHIN or candidate.text.startswith(("{", "[")):
        return None
    return tables.header(candidate.line, candidate.reader.names.meaning, first=candidate.number == 1)
