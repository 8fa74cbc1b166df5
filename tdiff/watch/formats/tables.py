"""Tables of text with a header: fields apart by commas, semicolons, tabs, bars or blanks."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from typing import NamedTuple

from tdiff.patterns import lazy
from tdiff.watch.formats.fields import Fields
from tdiff.watch.formats.long_form import long_form
from tdiff.watch.formats.names import Meaning, Role, is_split
from tdiff.watch.formats.numbers import (
    decoded,
    dots_for_thousands,
    has_decimal_comma,
    parsed,
    seconds,
    with_decimal_comma,
)
from tdiff.watch.formats.splits import is_key, split_of_cell
from tdiff.watch.formats.structured import MOST

BLANKS = " "
"""The delimiter of columns apart by any number of blanks."""
_NAME = lazy(r"(?:[^\W\d]|#)[\w ./%()\[\]:@#+'-]{0,63}")
_RULE = lazy(r"[\s|+:=\u2500-\u257f-]*")
_VALUE = lazy(r"[:=]\s*[-+]?\.?\d|\s[-+]?\d*\.\d|\d\s*/\s*\d")  # which no name of a column holds
_ALIGNED = lazy(r"\S\s{2,}\S")
_NORM = lazy(r"(?<=\s)\|{1,2}(\w{1,12})\|{1,2}(?=\s|$)")  # `|grad|`
_PROGRESS = lazy(r":?\s*(\d{1,3})%\|.*$")  # a bar of tqdm after the fields
_BARS = lazy(r"[\u2502\u2503\u2551]")  # of box-drawing characters


class Header(NamedTuple):
    """The first row of a table."""

    delimiter: str
    names: tuple[str, ...]


def header(line: str, meaning: Callable[[str], Meaning], *, first: bool) -> Header | None:
    """The header that a line may be: names that differ, one of them known unless the line is the first."""
    if _VALUE.search(line):
        return None
    text = _BARS.sub("|", line.strip("\ufeff \t\r"))
    if not text.startswith("|"):
        text = _NORM.sub(r"norm_\1", text)
    if text.startswith("#"):
        text = text.lstrip("# ")
    for delimiter in ("\t", ";", ",", "|", BLANKS):
        if delimiter not in text[:10_000]:
            continue
        names = split(text if delimiter != "," else line.strip("\ufeff\r\n").lstrip("# "), delimiter)[:MOST]
        if len(names) < 2:
            continue
        named = [name or "index" if n == 0 else name for n, name in enumerate(names)]
        if not all(map(_NAME.fullmatch, named)) or len({name.lower() for name in named}) != len(named):
            continue
        known = [meaning(name) for name in named]
        losses = any(kind.role is Role.LOSS for kind in known) or (
            {kind.split for name, kind in zip(named, known, strict=True) if is_split(name)} == {"train", "eval"}
        )
        counted = any(kind.role in (Role.STEP, Role.EPOCH) for kind in known)
        if delimiter in (BLANKS, "|"):
            fine = losses and (counted or len(named) > 2) and len(named) <= 40
        else:
            fine = losses or counted or (first and " " not in "".join(named))
        if fine:
            return Header(delimiter, tuple(named))
    return None


def split(line: str, delimiter: str) -> list[str]:
    """The fields of a line."""
    if delimiter == "|":
        line = _BARS.sub("|", line)
    if delimiter == BLANKS:
        text = _PROGRESS.sub("", line).strip() if "%|" in line else line.strip()
        return re.split(r"\s{2,}|\t", text) if _ALIGNED.search(text) else text.split()
    if delimiter == "|":
        return [field.strip() for field in line.strip().strip("|").split("|")]
    if '"' not in line:
        return [field.strip() for field in line.split(delimiter)]
    try:
        return [field.strip() for field in next(csv.reader([line], delimiter=delimiter, skipinitialspace=True))]
    except (csv.Error, StopIteration):
        return []


def is_rule(line: str) -> bool:
    """Whether a line only separates a header from its rows (`|---|---|`)."""
    return bool(line.strip()) and _RULE.fullmatch(line) is not None


def rules_off(line: str, heading: str, head: Header) -> bool:
    """Whether a line is the ruler under a header: one stroke for each column, or one below all aligned columns."""
    if not is_rule(line):
        return False
    if head.delimiter != BLANKS:
        return head.delimiter == "|"
    return len(line.split()) in (1, len(head.names)) and _ALIGNED.search(heading.strip()) is not None


def is_other_header(line: str, head: Header) -> bool:
    """Whether a line holds words in as many columns apart by blanks, whose rows are not those of this header."""
    if head.delimiter != BLANKS or _ALIGNED.search(line.strip()) is None or is_rule(line):
        return False
    cells = split(line, BLANKS)
    return len(cells) == len(head.names) and all(parsed(cell) is None for cell in cells)


class Rows:
    """Reads the rows under a header."""

    def __init__(self, head: Header, meaning: Callable[[str], Meaning]) -> None:
        self.head = head
        self._meaning = meaning
        self._exact = head.delimiter in (BLANKS, "|")
        self._counts = {name for name in head.names if meaning(name).role in (Role.STEP, Role.EPOCH)}
        self._splits = {name for name in head.names if is_key(name)}
        self._commas = head.delimiter == ";"  # commas are decimal signs
        self._split = ""
        form = long_form(head.names)
        self._long = form and (head.names.index(form[0]), form[1])

    def read(self, line: str) -> Fields | None:
        """The values of a row; None where it has none, or is text between the rows."""
        names, delimiter = self.head.names, self.head.delimiter
        if "%|" in line and (bar := _PROGRESS.search(line)) is not None and bar[1] != "100":
            return None  # the row is drawn again
        plain = '"' not in line and not self._exact  # float() allows blanks around a number
        cells = line.split(delimiter) if plain else split(line, delimiter)
        if self._exact and len(cells) != len(names):
            return None
        values, totals = dict[str, float](), dict[str, float]()
        self._split = ""
        for name, cell in zip(names, cells, strict=False):
            try:
                values[name] = float(cell)
            except ValueError:
                if cell := cell.strip():
                    self._cell(name, cell, values, totals)
        if self._long and len(cells) > self._long[0] and (value := values.pop(self._long[1], None)) is not None:
            values[cells[self._long[0]].strip().strip('"')] = value
        if self._commas and "," in line and "." in line:
            self._undot(cells, values)
        return Fields(values, totals, self._split, None, None, None, None, True, line) if values else None

    def _undot(self, cells: list[str], values: dict[str, float]) -> None:
        """Read counts again in a row with decimal commas, where dots divide thousands."""
        for name, cell in zip(self.head.names, cells, strict=False):
            if name in self._counts and (count := dots_for_thousands(cell)) is not None:
                values[name] = count

    def _cell(self, name: str, cell: str, values: dict[str, float], totals: dict[str, float]) -> None:
        """A field that Python does not read as a number."""
        if name in self._splits and (split := split_of_cell(name, cell)):
            self._split = split
            return
        cell, total = _of_total(cell) if name in self._counts else (cell.rstrip(" *%"), None)
        if total is not None:
            totals[name] = total
        comma = "," in cell and name not in self._counts
        if comma and not self._commas:
            self._commas = has_decimal_comma(cell)
        value = with_decimal_comma(cell) if comma and self._commas else None
        if value is None:
            value = decoded(cell, name, self._meaning)
        if value is None and self._meaning(name).role is Role.TIME:
            value = seconds(cell)
        if value is not None:
            values[name] = value


def _of_total(cell: str) -> tuple[str, float | None]:
    """A count without its mark (`4*`), and the total after a slash (`3/20`)."""
    count, slash, total = cell.partition("/")
    if slash and (number := parsed(total)) is not None:
        return count.strip(), number
    return cell.rstrip(" *%"), None
