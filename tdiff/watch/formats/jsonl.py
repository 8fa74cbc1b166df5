"""JSON Lines. Other lines, such as progress bars, go to the parser of program output."""

from __future__ import annotations

from collections.abc import Sequence

from tdiff.watch.formats.assemble import Assembler
from tdiff.watch.formats.base import Candidate, Decision, Parser, Sink
from tdiff.watch.formats.curves import Curves
from tdiff.watch.formats.plan import holds_record
from tdiff.watch.formats.text import LineReader


class JsonLines(Parser):
    """Reads an object per line as a row of named numbers; nested names are joined by `/`."""

    def __init__(self, sink: Sink, reader: LineReader, others: Parser, earlier: Sequence[str] = ()) -> None:
        """`others` reads the lines that are not JSON objects; `earlier` ones may tell how many steps there will be."""
        self._sink, self._reader, self._others = sink, reader, others
        self._curves = Curves(sink)
        self._assembler = Assembler(self._curves, reader.names, counts_rows=True)
        self._assembler.prepare(map(reader.read, list(earlier)))

    def feed(self, lines: Sequence[str]) -> None:
        """Read the next lines."""
        read, take, write = self._reader.read, self._assembler.take, self._sink.write
        for line in lines:
            fields = read(line.strip("\ufeff \t\r")) if "{" in line else None
            if fields is None or not fields.structured:
                self._curves.flush()
                self._others.feed([line])
                continue
            if take(fields):
                write(line)
                continue
            self._curves.flush()
            self._sink.output(line)
        self._curves.flush()

    def settle(self) -> bool:
        """Report what waits for the next line among the other lines."""
        return self._others.settle()


def recognize(candidate: Candidate) -> Parser | Decision:
    """JSON Lines have an object that is a record; the settings that come before a log are none."""
    if candidate.pairs and holds_record(candidate.fields, candidate.reader.names.meaning):
        return JsonLines(candidate.sink, candidate.reader, candidate.fallback, candidate.recent)
    return Decision.NO
