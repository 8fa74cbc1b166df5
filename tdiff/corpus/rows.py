"""Texts to be weighed, from a file or a folder: each with its number, and a bad one with what is wrong with it."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import re
import sys
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tdiff.corpus import corpus
from tdiff.errors import TdiffError

_SURROGATE = re.compile("[\ud800-\udfff]")  # what stands for a byte that is not UTF-8, or JSON spells


@dataclass(frozen=True, slots=True)
class Text:
    """A row of the input."""

    number: int
    """Of the line it begins in; of a folder's files, their place."""
    given: Any
    """What it says."""
    text: str
    label: str | None = None
    """The class it is said to be of, where that was asked for."""
    wrong: str = ""
    """Why it cannot be weighed; its text is empty then."""


def read(source: str, text_field: str = "text", label_field: str | None = None) -> list[Text]:
    """The rows of `source` that are not blank, with labels where there is a `label_field`.

    Objects or strings of .jsonl, rows of .csv, lines of other files, which have no labels; files of a folder, whose
    labels are the folders in it; `-` is stdin, as .jsonl where its first character is { or ". .gz is unpacked.
    Raises TdiffError where it cannot be read, holds nothing, or no row has such a field.
    """
    if source != "-" and os.path.isdir(source):  # noqa: PTH112 - which does not raise for a name that cannot be
        rows = list(_folder(Path(source), label_field is not None))
    else:
        content, kind = _content(source)
        if kind == ".csv":
            rows = list(_csv(content, text_field, label_field))
        elif kind == ".jsonl":
            rows = [_json(n, line, text_field, label_field) for n, line in _lines(content)]
        elif label_field is not None:
            raise TdiffError(f"{source!r} has no labels: they are fields of .jsonl and .csv rows, or folders of files")
        else:
            rows = [checked(n, line, line, None) for n, line in _lines(content)]
    if not rows:
        raise TdiffError(f"the input {source!r} holds no text")
    lacking = next((row.given for row in rows if isinstance(row.given, dict)), None)
    if lacking is not None and all(row.wrong for row in rows):
        for name, option in ((text_field, "--text-field"), (label_field, "--label-field")):
            if name is not None and not any(isinstance(row.given, dict) and name in row.given for row in rows):
                raise corpus.no_field(f"{source!r}", name, list(lacking), option)
    return rows


def _content(source: str) -> tuple[str, str]:
    """The text of a file, and the suffix that says what it is. What is not UTF-8 is kept as lone surrogates."""
    try:
        content = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
        if source.lower().endswith(".gz"):
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as why:
        raise TdiffError(f"the input {source!r} cannot be read: {getattr(why, 'strerror', None) or why}") from None
    text = content.decode("utf-8", "surrogateescape").removeprefix("\ufeff")
    if source == "-":
        return text, ".jsonl" if text.lstrip()[:1] in ("{", '"') else ""
    return text, _suffix(source)


def _suffix(name: str) -> str:
    return Path(name.lower().removesuffix(".gz")).suffix


def _lines(content: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(content.split("\n"), 1):
        if line.strip():
            yield number, line.removesuffix("\r")


def _json(number: int, line: str, text_field: str, label_field: str | None) -> Text:
    try:
        given = json.loads(line)
    except (ValueError, RecursionError) as why:
        return Text(number, None, "", wrong=f"it is not JSON ({why})")
    if isinstance(given, str) and label_field is None:
        return checked(number, given, given, None)
    if not isinstance(given, Mapping):
        kinds = "an object" if label_field is not None else "an object or a string"
        return Text(number, given, "", wrong=f"a line is {kinds}")
    return _row(number, given, text_field, label_field)


def _row(number: int, given: Mapping[str, Any], text_field: str, label_field: str | None) -> Text:
    for name in (text_field, label_field):
        if name is not None and name not in given:
            return Text(number, given, "", wrong=f"it has no field {name!r}")
    if not isinstance(given[text_field], str):
        return Text(number, given, "", wrong=f"its field {text_field!r} is not text")
    try:
        label = corpus.label_of(given[label_field], "it", label_field) if label_field is not None else None
    except TdiffError as why:
        return Text(number, given, "", wrong=str(why))
    return checked(number, given, given[text_field], label)


def checked(number: int, given: Any, text: str, label: str | None) -> Text:
    """A text, if it is one."""
    text = text.replace("\r\n", "\n")
    if not text.strip():
        return Text(number, given, "", label, "its text is empty")
    if _SURROGATE.search(text):
        return Text(number, None, "", label, "it is not UTF-8")
    return Text(number, given, text, label)


def _csv(content: str, text_field: str, label_field: str | None) -> Iterator[Text]:
    csv.field_size_limit(2**31 - 1)
    rows = csv.reader(io.StringIO(content, newline=""), strict=True)
    header: list[str] = []
    line = 1
    while True:
        number = line
        try:
            row = next(rows, None)
        except csv.Error as why:
            yield Text(number, None, "", wrong=f"it is not CSV: {why}")
            line = rows.line_num + 1
            continue
        line = rows.line_num + 1
        if row is None:
            return
        if row and not header:
            header = row
        elif row and len(row) != len(header):
            yield Text(number, None, "", wrong=f"it has {len(row)} fields and the header {len(header)}")
        elif row:
            yield _row(number, dict(zip(header, row, strict=True)), text_field, label_field)


def _folder(path: Path, labelled: bool) -> Iterator[Text]:
    for number, file in enumerate(corpus.files(str(path)), 1):
        inside = file.relative_to(path)
        label = inside.parts[0] if len(inside.parts) > 1 else None
        if labelled and label is None:
            yield Text(number, str(inside), "", wrong=f"{inside} is in no folder that says its class")
            continue
        if _suffix(file.name) in (".jsonl", ".csv"):
            yield Text(number, str(inside), "", label, f"{inside} holds rows: give it by itself")
            continue
        try:
            content, _ = _content(str(file))
        except TdiffError as why:
            yield Text(number, str(inside), "", label, str(why))
            continue
        yield checked(number, str(inside), content, label if labelled else None)
