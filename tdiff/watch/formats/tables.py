"""Tables of text with a header: fields apart by commas, semicolons, tabs, bars or blanks."""

from __future__ import annotations

import csv
import re
from typing import NamedTuple

from tdiff.watch.formats.names import Role, meaning
from tdiff.watch.formats.text import MOST, Fields, decoded, parsed, seconds

BLANKS = " "
"""The delimiter of columns apart by any number of blanks."""
_NAME = re.compile(r"[A-Za-z_#][\w ./%()\[\]:@#+-]{0,63}")
_RULE = re.compile(r"[\s|+:=\u2500-\u257f-]*")
_VALUE = re.compile(r"[:=]\s*[-+]?\.?\d|\s[-+]?\d*\.\d|\d\s*/\s*\d")  # which no name of a column holds
_BARS = re.compile(r"[\u2502\u2503\u2551]")  # of box-drawing characters


class Header(NamedTuple):
    """The first row of a table."""

    delimiter: str
    names: tuple[str, ...]


def header(line: str, *, first: bool) -> Header | None:
    """The header that a line may be: names that differ, one of them known unless the line is the first."""
    if _VALUE.search(line):
        return None
    text = _BARS.sub("|", line.strip("\ufeff \t\r"))
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
        losses = any(kind.role is Role.LOSS for kind in known)
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
        text = line.strip()
        return re.split(r"\s{2,}|\t", text) if re.search(r"\S\s{2,}\S", text) else text.split()
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


def row(line: str, head: Header) -> Fields | None:
    """The values of a row; None where it has none, or is text between the rows."""
    fields = split(line, head.delimiter)
    if head.delimiter in (BLANKS, "|") and len(fields) != len(head.names):
        return None
    values, totals = dict[str, float](), dict[str, float]()
    for name, field in zip(head.names, fields, strict=False):
        if not field:
            continue
        field, total = _of_total(field, name)
        if total is not None:
            totals[name] = total
        value = decoded(field, name)
        if value is None and head.delimiter == ";" and "," in field:
            value = parsed(field.replace(",", "."))
        if value is None and meaning(name).role is Role.TIME:
            value = seconds(field)
        if value is not None:
            values[name] = value
    return Fields(values=values, totals=totals, structured=True, text=line) if values else None


def _of_total(field: str, name: str) -> tuple[str, float | None]:
    """A field without its mark (`4.06*`, `12 %`), and the total after a slash (`3/20`) of a count."""
    count, slash, total = field.partition("/")
    if slash and meaning(name).role in (Role.STEP, Role.EPOCH) and (number := parsed(total)) is not None:
        return count.strip(), number
    return field.rstrip(" *%"), None
