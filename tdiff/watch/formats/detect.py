"""What a source speaks, found out by what it says and never by its name; traces, JSON lines and tables are read here.

A parser takes raw lines and tells a story what they mean; it keeps no curves. Runs of tdiff are read by `events`, the
output of training programs by `console`.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

from tdiff.protocol.events import parse
from tdiff.protocol.trace import TraceHeader, TraceLine
from tdiff.watch.formats.columns import KNOWN, MOST_COLUMNS, RowReader, clock, number, spelled
from tdiff.watch.formats.events import Events
from tdiff.watch.formats.hf_console import Console

if TYPE_CHECKING:
    from tdiff.watch.run_state import RunState

_HEADER_WITHIN = 200
"""Lines in which a table may begin."""
_NAME = re.compile(r"[A-Za-z_][\w ./%()\[\]:@-]{0,63}")


class Parser(Protocol):
    """Reads one format."""

    def feed(self, lines: Sequence[str]) -> None:
        """The next lines, whole, without their ends."""
        ...


class Reader:
    """Finds out the format, then reads it. A log that nothing is known of is looked at on and on."""

    def __init__(self, story: RunState) -> None:
        self._story = story
        self._console = Console(story)
        self._parser: Parser = self._console
        self._known = False
        self._seen = 0
        self._header: tuple[str, str, list[str]] | None = None  # a line that may head a table, its delimiter and fields

    def feed(self, lines: Sequence[str]) -> None:
        """The next lines."""
        n = 0
        while not self._known and n < len(lines):
            self._look(lines[n])
            n += 1
        if n < len(lines):
            self._parser.feed(lines[n:] if n else lines)

    def settle(self, over: bool) -> bool:
        """Take in what waits for the next line; where all is over, also what only such a line would have told."""
        if over and self._header is not None:
            held, self._header = self._header[0], None
            self._plain(held)
            return True
        return self._console.settle()

    def _look(self, line: str) -> None:
        text = line.strip("\ufeff \t\r")
        if self._header is not None:
            held, delimiter, names = self._header
            self._header = None
            fields = _split(line, delimiter)
            if len(fields) == len(names) and any(_decimal(field, delimiter) is not None for field in fields):
                self._settle("csv", Table(self._story, delimiter, names), line)
                return
            self._console.feed([held])
        self._seen += bool(text)
        if text.startswith("{"):
            self._object(text, line)
        elif self._seen <= _HEADER_WITHIN and (head := _header(text, self._seen == 1)):
            self._header = (line, *head)
        elif text:
            self._plain(line)

    def _object(self, text: str, line: str) -> None:
        """A line that begins as an object of JSON does, or a dictionary of Python."""
        pairs = load(text)
        record = parse(text) if "kind" in pairs else None
        if isinstance(record, TraceHeader):
            self._settle("trace", Trace(self._story), line)
        elif isinstance(record, TraceLine):
            pass  # a trace that lost its beginning cannot be drawn
        elif record is not None:
            self._settle("tdiff", Events(self._story), line)
        elif any(number(value) is not None for value in pairs.values()):
            self._settle("json", Objects(self._story, self._console), line)
        else:
            self._plain(line)

    def _plain(self, line: str) -> None:
        self._story.format = self._story.format or "log"
        self._console.feed([line])
        self._known = self._story.format != "log"

    def _settle(self, name: str, parser: Parser, line: str) -> None:
        self._story.format, self._parser, self._known = name, parser, True
        parser.feed([line])


class Trace:
    """One generation, or several one after the other."""

    def __init__(self, story: RunState) -> None:
        self._story = story

    def feed(self, lines: Sequence[str]) -> None:
        """The next lines."""
        for line in lines:
            record = parse(line)
            if isinstance(record, TraceLine):
                self._story.traced(record)


class Objects:
    """JSON lines with any numeric columns; other lines are for the log, and for the bars of tqdm in them."""

    def __init__(self, story: RunState, console: Console) -> None:
        self._story, self._console = story, console
        self._rows = RowReader(story)

    def feed(self, lines: Sequence[str]) -> None:
        """The next lines."""
        for line in lines:
            pairs = load(line.strip("\ufeff \t\r")) if "{" in line else {}
            if not pairs:
                self._console.text(line)
                continue
            self._story.write(line)
            numbers = {}
            for key, value in islice(pairs.items(), MOST_COLUMNS):
                if (found := number(value)) is not None or (found := clock(key, value)) is not None:
                    numbers[key] = found
            self._rows.take(numbers)


class Table:
    """CSV with a header; a later header, of a job that was started again, may name other columns."""

    def __init__(self, story: RunState, delimiter: str, names: list[str]) -> None:
        self._story, self._delimiter, self._names = story, delimiter, names
        self._rows = RowReader(story)

    def feed(self, lines: Sequence[str]) -> None:
        """The next lines."""
        for line in lines:
            fields = _split(line, self._delimiter)
            numbers = {}
            for name, field in zip(self._names, fields, strict=False):
                if (found := _decimal(field, self._delimiter)) is not None or (found := clock(name, field)) is not None:
                    numbers[name] = found
            if numbers:
                self._story.write(line)
                self._rows.take(numbers)
                continue
            self._story.remark(line)
            if (head := _header(line.strip(), False)) and head[0] == self._delimiter:
                self._names = head[1]


def load(text: str) -> dict[str, Any]:
    """The object of JSON on a line; empty where it is none."""
    try:
        pairs = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return pairs if isinstance(pairs, dict) else {}


def _header(text: str, first: bool) -> tuple[str, list[str]] | None:
    """(delimiter, names) of a line that may head a table: words that differ, one of them known unless it is first."""
    for delimiter in "\t;,":
        if delimiter not in text[:10_000]:
            continue
        names = _split(text, delimiter)[:MOST_COLUMNS]
        if len(names) < 2 or not all(map(_NAME.fullmatch, names)):
            continue
        lowered = {spelled(name) for name in names}
        if len(lowered) == len(names) and (lowered & KNOWN or (first and " " not in "".join(names))):
            return delimiter, names
    return None


def _split(line: str, delimiter: str) -> list[str]:
    if '"' not in line:
        return [field.strip() for field in line.split(delimiter)]
    try:
        return [field.strip() for field in next(csv.reader([line], delimiter=delimiter, skipinitialspace=True))]
    except (csv.Error, StopIteration):
        return []


def _decimal(field: str, delimiter: str) -> float | None:
    """The number in a field; where commas do not divide the fields, they may divide the digits."""
    try:
        return float(field)
    except ValueError:
        pass
    if delimiter != ";" or "," not in field:
        return None
    try:
        return float(field.replace(",", "."))
    except ValueError:
        return None
