"""Rows of text from .jsonl and .csv files, and the bytes and the files that they come from.

Every row is read to its end: a row that cannot be used has an `error` instead of a text. Callers decide whether the
first error stops them.
"""

from __future__ import annotations

import csv
import difflib
import glob
import gzip
import io
import json
import os
import re
import reprlib
import sys
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tdiff.errors import TdiffError
from tdiff.visible import visible_line

SUFFIXES: tuple[str, ...] = (".txt", ".md", ".py", ".jsonl", ".csv")
"""The suffixes of text in a folder; .gz may follow."""
_NOT_TEXT = re.compile("[\0\ud800-\udfff]")  # JSON can spell these; a text file cannot contain them
_UNDECODED = range(0xDC80, 0xDD00)  # what stands for a byte that is not UTF-8 after `surrogateescape`
_short = reprlib.Repr()  # a value may be as long as a book: an error shows its start
_short.maxlist, _short.maxstring = 12, 40


@dataclass(frozen=True, slots=True)
class Fields:
    """The names of the fields that are read."""

    text: str = "text"
    label: str | None = None
    """None: rows have no labels."""

    def missing(self, names: Iterable[str]) -> str | None:
        """Return the first field that `names` lacks."""
        present = set(names)
        return next((name for name in (self.text, self.label) if name is not None and name not in present), None)

    def option(self, name: str) -> str:
        """Return the command-line option that sets the field `name`."""
        return "--label-field" if name == self.label else "--text-field"


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the input."""

    number: int
    """The line on which it starts, from 1; for the files of a folder, their position."""
    value: Any
    """The row as it was read: a JSON value, the fields of a CSV row, a line, or the name of a file."""
    text: str
    """Empty if there is an error."""
    label: str | None = None
    """The name of its class, if labels are read."""
    error: str = ""
    """Why it cannot be used."""


def json_rows(content: str, fields: Fields, *, strings: bool = False) -> Iterator[Row]:
    """Yield the rows of JSON Lines: an object a line or, with `strings` and without labels, a string."""
    for number, line in enumerate(content.split("\n"), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            yield Row(number, None, "", error=f"not JSON: {error.msg} at column {error.colno}")
            continue
        except (ValueError, RecursionError) as error:  # a number of 5,000 digits is a ValueError
            yield Row(number, None, "", error=f"not JSON: {error}")
            continue
        if isinstance(value, Mapping):
            yield _row(number, value, fields)
        elif isinstance(value, str) and strings and fields.label is None:
            yield _checked(number, value, value, None, "the string")
        else:
            kinds = f"an object with a field {fields.text!r}" + " or a string" * (strings and fields.label is None)
            yield Row(number, value, "", error=f"must be {kinds}; got {_short.repr(value)}")


def csv_rows(content: str, fields: Fields) -> Iterator[Row]:
    """Yield the rows of a CSV file with a header. A header without a field that is read is the only row."""
    csv.field_size_limit(2**31 - 1)  # by default a text above 128 KiB is refused; this fits every platform's C long
    records = csv.reader(io.StringIO(content, newline=""), strict=True)  # strict: an open quote would swallow the rest
    header: list[str] = []
    next_line = 1
    while True:
        number = next_line
        try:
            record = next(records, None)
        except csv.Error as error:
            yield Row(number, None, "", error=f"not CSV: {error}")
            next_line = records.line_num + 1
            continue
        next_line = records.line_num + 1
        if record is None:
            return
        if record and not header:
            header = record
            if fields.missing(header) is not None:
                yield _row(number, dict.fromkeys(header, ""), fields)
                return
        elif record and len(record) != len(header):
            counts = f"{len(record)} fields, but the header has {len(header)}"
            yield Row(number, None, "", error=f"{counts}; text that contains commas must be quoted")
        elif record:
            yield _row(number, dict(zip(header, record, strict=True)), fields)


def _row(number: int, value: Mapping[str, Any], fields: Fields) -> Row:
    if (name := fields.missing(value)) is not None:
        return Row(number, value, "", error=missing_field(name, list(value), fields))
    text, label = value[fields.text], None
    if not isinstance(text, str):
        return Row(number, value, "", error=f"field {fields.text!r} must be text; got {_short.repr(text)}")
    if fields.label is not None:
        label = value[fields.label]
        if isinstance(label, bool) or not isinstance(label, (str, int)) or not str(label).strip():
            problem = f"field {fields.label!r} must be the name of a class; got {_short.repr(label)}"
            return Row(number, value, "", error=problem)
        label = str(label).strip()
    return _checked(number, value, text, label, f"field {fields.text!r}")


def line_row(number: int, line: str) -> Row:
    """Return a line of plain text as a row."""
    return _checked(number, line, line, None, "the line")


def file_row(number: int, name: str, text: str, label: str | None) -> Row:
    """Return a file of a folder as a row."""
    return _checked(number, name, text, label, "the file")


def _checked(number: int, value: Any, text: str, label: str | None, subject: str) -> Row:
    if bad := _NOT_TEXT.search(text):
        if ord(bad[0]) in _UNDECODED:
            return Row(number, None, "", label, "not UTF-8")
        return Row(number, None, "", label, f"{subject} contains U+{ord(bad[0]):04X}, which is not text")
    return Row(number, value, text.replace("\r\n", "\n"), label)


def missing_field(name: str, names: list[str], fields: Fields) -> str:
    """Return the error for rows without the field `name`: it names the nearest field of `names` and its option."""
    nearest = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean {fields.option(name)} {nearest[0]!r}?" if nearest else ""
    return f"no field {name!r}, only {_short.repr(names)}{hint}"


def read_bytes(source: str, label: str) -> bytes:
    """Return the bytes of a file, or of stdin for `-`; .gz is unpacked. Raises TdiffError that starts with `label`."""
    try:
        data = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
        return gzip.decompress(data) if source.lower().endswith(".gz") else data
    except (OSError, EOFError, zlib.error) as error:
        raise unreadable(label, error) from None


def unreadable(label: str, error: Exception) -> TdiffError:
    """Return the error for a file or folder that cannot be read."""
    return TdiffError(f"{label} cannot be read: {getattr(error, 'strerror', None) or error}")


def suffix(path: Path | str) -> str:
    """Return the suffix in lower case, without .gz."""
    return Path(Path(path).name.lower().removesuffix(".gz")).suffix


def files(source: str) -> list[Path]:
    """Return the files of a folder or a glob, sorted by path. Raises TdiffError if there are none.

    A folder is searched for files with one of SUFFIXES, without hidden files and linked folders. A glob means the files
    that it matches, with one of SUFFIXES unless the pattern ends in another suffix.
    """
    path, suffixes = Path(source), SUFFIXES
    if path.is_dir():
        paths = _walk(path)
    else:
        paths = map(Path, glob.iglob(source, recursive=True))  # noqa: PTH207 - Path.glob takes no absolute pattern
        pattern_suffix = suffix(path)
        if pattern_suffix and not glob.has_magic(pattern_suffix):
            suffixes = (pattern_suffix,)
    matches = {path for path in paths if suffix(path) in suffixes and path.is_file()}
    if not matches:
        raise TdiffError(f"{source!r}: no file in it ends in {', '.join(suffixes)} (with or without .gz)")
    return sorted(matches, key=lambda path: path.parts)


def _walk(folder: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:  # os.walk would skip what it cannot list
        raise unreadable(visible_line(str(error.filename)), error)

    for parent, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(parent, name) for name in names if not name.startswith("."))
