"""Lines that match a pattern of the user's, whose groups are the numbers."""

from __future__ import annotations

from collections.abc import Sequence

from tdiff.watch.formats.assemble import Assembler
from tdiff.watch.formats.base import Candidate, Decision, Parser, Sink
from tdiff.watch.formats.choice import compiled
from tdiff.watch.formats.curves import Curves
from tdiff.watch.formats.fields import Fields
from tdiff.watch.formats.names import meaning
from tdiff.watch.formats.numbers import decoded
from tdiff.watch.formats.prefix import without_colours

LONGEST = 1_000
"""Characters of a line that are searched: some patterns take a time that grows fast with them."""
_NAMES = {"val": "val_loss", "total": "total_steps", "time": "timestamp"}
"""Group -> the name by which other formats know it."""


class Matcher:
    """Finds the numbers of a pattern on a line."""

    def __init__(self, pattern: str) -> None:
        """Raises TdiffError for an invalid pattern."""
        self._search = compiled(pattern).search

    def read(self, line: str) -> Fields | None:
        """The numbers of the first match; None where nothing matches, or no group is a number."""
        text = without_colours(line)[:LONGEST]
        match = self._search(text)
        if match is None:
            return None
        values = {}
        for group, part in (match.groupdict() or {"loss": match[1]}).items():
            name = _NAMES.get(group, group)
            if part is not None and (number := decoded(part.strip(), name, meaning)) is not None:
                values[name] = number
        return Fields(values=values, structured=True, text=text) if values else None


class PatternLog(Parser):
    """Reads the lines that match; all lines go to the log."""

    def __init__(self, sink: Sink, matcher: Matcher) -> None:
        self._sink, self._matcher = sink, matcher
        self._curves = Curves(sink)
        self._assembler = Assembler(self._curves, counts_rows=True)

    def feed(self, lines: Sequence[str]) -> None:
        """Read the next lines."""
        for line in lines:
            fields = self._matcher.read(line)
            if fields is not None:
                self._sink.write(fields.text)
                self._assembler.take(fields)
            elif line and not line.isspace():
                self._curves.flush()
                self._sink.output(without_colours(line))
        self._curves.flush()


def recognize(candidate: Candidate) -> Parser | Decision:
    """The first line that matches shows the format, where the user gave a pattern."""
    pattern = candidate.reader.names.choice.pattern
    if not pattern:
        return Decision.NO
    matcher = Matcher(pattern)  # the compiled pattern is cached
    return PatternLog(candidate.sink, matcher) if matcher.read(candidate.line) is not None else Decision.NO
