"""JSON Lines with any numeric fields. Other lines, such as progress bars, go to the parser of program output."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from tdiff.watch.formats.base import Candidate, Decision, Parser, Sink, json_object
from tdiff.watch.formats.columns import MAX_COLUMNS, RowReader, date_seconds, json_number


class JsonLines(Parser):
    """Reads an object per line as a row of named numbers."""

    def __init__(self, sink: Sink, others: Parser) -> None:
        """`others` reads the lines that are not JSON objects."""
        self._sink, self._others = sink, others
        self._rows = RowReader(sink)

    def feed(self, lines: Sequence[str]) -> None:
        """Read the next lines."""
        for line in lines:
            pairs = json_object(line.strip("\ufeff \t\r")) if "{" in line else {}
            if not pairs:
                self._others.feed([line])
                continue
            self._sink.write(line)
            numbers = {}
            for name, field in islice(pairs.items(), MAX_COLUMNS):
                if (value := json_number(field)) is not None or (value := date_seconds(name, field)) is not None:
                    numbers[name] = value
            self._rows.take(numbers)

    def settle(self) -> bool:
        """Report what waits for the next line among the other lines."""
        return self._others.settle()


def recognize(candidate: Candidate) -> Parser | Decision:
    """JSON Lines have an object with a number."""
    if any(json_number(field) is not None for field in candidate.pairs.values()):
        return JsonLines(candidate.sink, candidate.fallback)
    return Decision.NO
