"""Tables with a heading: CSV with commas, semicolons or tabs."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence

from tdiff.watch.formats.base import Candidate, Decision, Parser, Sink
from tdiff.watch.formats.columns import KNOWN, MAX_COLUMNS, RowReader, date_seconds, normalized

_HEADING_WITHIN = 200
"""Non-blank lines within which a heading must appear."""
_NAME = re.compile(r"[A-Za-z_][\w ./%()\[\]:@-]{0,63}")


class Table(Parser):
    """Reads rows under a heading. A later heading, of a job that was started again, may name other columns."""

    def __init__(self, sink: Sink, delimiter: str, names: list[str]) -> None:
        self._sink, self._delimiter, self._names = sink, delimiter, names
        self._rows = RowReader(sink)

    def feed(self, lines: Sequence[str]) -> None:
        """Read the next lines."""
        for line in lines:
            fields = _split(line, self._delimiter)
            numbers = {}
            for name, field in zip(self._names, fields, strict=False):
                if (value := _decimal(field, self._delimiter)) is not None or (
                    value := date_seconds(name, field)
                ) is not None:
                    numbers[name] = value
            if numbers:
                self._sink.write(line)
                self._rows.take(numbers)
                continue
            self._sink.output(line)
            if (heading := _heading(line.strip(), False)) and heading[0] == self._delimiter:
                self._names = heading[1]


def recognize(candidate: Candidate) -> Parser | Decision:
    """A table begins with a heading and a row that has as many fields, one of them a number."""
    if candidate.before is not None and (heading := _heading_of(candidate.before)):
        delimiter, names = heading
        fields = _split(candidate.line, delimiter)
        if len(fields) == len(names) and any(_decimal(field, delimiter) is not None for field in fields):
            return Table(candidate.sink, delimiter, names)
    return Decision.WAIT if _heading_of(candidate) else Decision.NO


def _heading_of(candidate: Candidate) -> tuple[str, list[str]] | None:
    if candidate.number > _HEADING_WITHIN or candidate.text.startswith("{"):
        return None
    return _heading(candidate.text, candidate.number == 1)


def _heading(text: str, first: bool) -> tuple[str, list[str]] | None:
    """(delimiter, names) of a possible heading: distinct names, one of them known unless it is the first line."""
    for delimiter in "\t;,":
        if delimiter not in text[:10_000]:
            continue
        names = _split(text, delimiter)[:MAX_COLUMNS]
        if len(names) < 2 or not all(map(_NAME.fullmatch, names)):
            continue
        distinct = {normalized(name) for name in names}
        if len(distinct) == len(names) and (distinct & KNOWN or (first and " " not in "".join(names))):
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
    """The number in a field. In a table with semicolons the decimal separator may be a comma."""
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
