"""A log that is one JSON document, read when it is complete, or objects of several lines, one below the other.

See `documents` for the shapes that it may have.
"""

from __future__ import annotations

from collections.abc import Sequence

from tdiff.watch.formats import documents
from tdiff.watch.formats.assemble import Assembler
from tdiff.watch.formats.base import Candidate, Decision, Parser, Sink
from tdiff.watch.formats.choice import Names
from tdiff.watch.formats.curves import Curves


class Document(Parser):
    """Holds the lines until they form a document."""

    def __init__(self, sink: Sink, names: Names) -> None:
        self._sink, self._names = sink, names
        self._curves = Curves(sink)
        self._assembler = Assembler(self._curves, names, counts_rows=True)  # of objects, one below the other
        self._lines: list[str] = []
        self._size = 0

    def feed(self, lines: Sequence[str]) -> None:
        """Read the next lines."""
        for line in lines:
            self._sink.write(line)
            self._size += len(line)
            if self._size <= documents.LARGEST:
                self._lines.append(line)
            if line.strip() in ("}", "]", "]}"):
                self._read()

    def settle(self) -> bool:
        """Read the document if it is complete. Returns whether it was."""
        return self._read()

    def _read(self) -> bool:
        if not self._lines or (rows := documents.records("\n".join(self._lines), self._names.heard)) is None:
            return False
        if not rows and (row := documents.record("\n".join(self._lines), self._names.heard)) is not None:
            self._lines, self._size = [], 0
            self._assembler.take(row)
            self._curves.flush()
            return True
        self._lines = []
        curves = Curves(self._sink)
        assembler = Assembler(curves, self._names)
        for row in rows:
            assembler.take(row)
        curves.flush()
        return True


def recognize(candidate: Candidate) -> Parser | Decision:
    """A document begins on the first line, and goes on over further lines."""
    if candidate.number == 1 and documents.begins(candidate.line):
        return Document(candidate.sink, candidate.reader.names)
    return Decision.NO
