"""JSON Lines. Other lines, such as progress bars, go to the parser of program output."""

from __future__ import annotations

from collections.abc import Sequence

from tdiff.watch.formats.assemble import Assembler, holds_record
from tdiff.watch.formats.base import Candidate, Decision, Parser, Sink
from tdiff.watch.formats.text import read
from tdiff.watch.formats.text_log import Curves


class JsonLines(Parser):
    """Reads an object per line as a row of named numbers; nested names are joined by `/`."""

    def __init__(self, sink: Sink, others: Parser) -> None:
        """`others` reads the lines that are not JSON objects."""
        self._sink, self._others = sink, others
        self._assembler = Assembler(Curves(sink), counts_rows=True)

    def feed(self, lines: Sequence[str]) -> None:
        """Read the next lines."""
        for line in lines:
            fields = read(line.strip("\ufeff \t\r")) if "{" in line else None
            if fields is None or not fields.structured:
                self._others.feed([line])
                continue
            self._sink.write(line)
            self._assembler.take(fields)

    def settle(self) -> bool:
        """Report what waits for the next line among the other lines."""
        return self._others.settle()


def recognize(candidate: Candidate) -> Parser | Decision:
    """JSON Lines have an object that is a record; the settings that come before a log are none."""
    if candidate.pairs and holds_record(read(candidate.text)):
        return JsonLines(candidate.sink, candidate.fallback)
    return Decision.NO
