"""Lines that match a pattern of the user's, whose groups are the numbers."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache, partial

from tdiff.watch.formats.assemble import Assembler
from tdiff.watch.formats.base import Candidate, Decision, Parser, Sink
from tdiff.watch.formats.choice import Names, compiled, quoted
from tdiff.watch.formats.curves import Curves
from tdiff.watch.formats.fields import Fields
from tdiff.watch.formats.names import meaning
from tdiff.watch.formats.numbers import decoded
from tdiff.watch.formats.prefix import without_colours

LONGEST = 1_000
"""Characters of a line that are searched: some patterns take a time that grows fast with them."""
LIMIT = 0.5
"""Seconds that the search of one line may take. The time of `(a+)+$` doubles with each character."""
_NAMES = {"val": "val_loss", "total": "total_steps", "time": "timestamp"}
"""Group -> the name by which other formats know it."""


@lru_cache(8)
def searcher(pattern: str) -> Callable[[str], re.Match[str] | None]:
    """The search for a pattern, which raises TimeoutError where it takes too long. Raises TdiffError as `compiled`."""
    search = compiled(pattern).search
    try:
        import regex  # type: ignore[import-untyped] # it takes 30 ms
    except ImportError:
        return search
    try:
        limited = regex.compile(pattern)
    except regex.error:  # the two differ in rare cases, in which no time is limited
        return search
    in_time: Callable[[str], re.Match[str] | None] = partial(limited.search, timeout=LIMIT)
    return in_time


class Matcher:
    """Finds the numbers of a pattern on a line."""

    def __init__(self, pattern: str, names: Names) -> None:
        """Raises TdiffError for an invalid pattern. A pattern that is too slow is given up, and `names` says so."""
        self._pattern, self._names = pattern, names
        self._search = searcher(pattern)

    def read(self, line: str) -> Fields | None:
        """The numbers of the first match; None where nothing matches, or no group is a number."""
        text = without_colours(line)[:LONGEST]
        if self._names.trouble:
            return None
        try:
            match = self._search(text)
        except TimeoutError:
            self._names.trouble = (
                f"--pattern {quoted(self._pattern)} needs more than {LIMIT:g} s for a line of {len(text)} characters; "
                "avoid repeats within repeats, such as (a+)+"
            )
            return None
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
    matcher = Matcher(pattern, candidate.reader.names)  # the compiled pattern is cached
    return PatternLog(candidate.sink, matcher) if matcher.read(candidate.line) is not None else Decision.NO
