"""Texts to classify, from a file or a folder: every row with its number, and bad rows with their errors."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tdiff.corpus.readers import (
    Fields,
    Row,
    csv_rows,
    file_row,
    files,
    json_rows,
    line_row,
    missing_field,
    read_bytes,
    suffix,
)
from tdiff.errors import TdiffError


def read(source: str, text_field: str = "text", label_field: str | None = None) -> list[Row]:
    """Return the rows of `source` that are not blank, with labels if there is a `label_field`.

    Rows are the objects or strings of .jsonl, the rows of .csv, the lines of other files (which have no labels), or the
    files of a folder, whose labels are the names of its subfolders. `-` is stdin, which is .jsonl if its first
    character is { or ". A file that ends in .gz is unpacked.

    Raises TdiffError if the source cannot be read or is empty, or if no row has one of the fields.
    """
    fields = Fields(text_field, label_field)
    if source != "-" and os.path.isdir(source):  # noqa: PTH112 - Path's own raises for an impossible name
        rows = list(_folder_rows(Path(source), is_labelled=label_field is not None))
    else:
        content = _content(source)
        is_json = content.lstrip()[:1] in ("{", '"') if source == "-" else suffix(source) == ".jsonl"
        if is_json:
            rows = list(json_rows(content, fields, strings=True))
        elif source != "-" and suffix(source) == ".csv":
            rows = list(csv_rows(content, fields))
        elif label_field is not None:
            raise TdiffError(
                f"{source!r} has no labels: labels are fields of .jsonl and .csv rows, or folders of files"
            )
        else:
            lines = enumerate(content.split("\n"), 1)
            rows = [line_row(n, line.removesuffix("\r")) for n, line in lines if line.strip()]
    if not rows:
        raise TdiffError(f"the input {source!r} contains no text")
    _check_fields(source, rows, fields)
    return [_not_blank(row) for row in rows]


def rows_of(texts: list[str]) -> list[Row]:
    """Return texts of the command line as rows, numbered from 1."""
    return [_not_blank(line_row(n, text)) for n, text in enumerate(texts, 1)]


def _not_blank(row: Row) -> Row:
    return row if row.error or row.text.strip() else replace(row, text="", error="the text is empty")


def _check_fields(source: str, rows: list[Row], fields: Fields) -> None:
    """Raises TdiffError if every row has an error and no row has one of the fields: the option is wrong."""
    tables = [row.value for row in rows if isinstance(row.value, dict)]
    if tables and all(row.error for row in rows):
        for name in (fields.text, fields.label):
            if name is not None and not any(name in table for table in tables):
                raise TdiffError(f"{source!r}: {missing_field(name, list(tables[0]), fields)}")


def _content(source: str) -> str:
    """Return the text of a file; bytes that are not UTF-8 become lone surrogates, which rows report."""
    return read_bytes(source, f"the input {source!r}").decode("utf-8", "surrogateescape").removeprefix("\ufeff")


def _folder_rows(folder: Path, *, is_labelled: bool) -> Iterator[Row]:
    for number, file in enumerate(files(str(folder)), 1):
        path = file.relative_to(folder)
        name, label = str(path), path.parts[0] if len(path.parts) > 1 else None
        try:
            if is_labelled and label is None:
                raise TdiffError(f"{name} is not in a subfolder, whose name would be its class")
            if suffix(file) in (".jsonl", ".csv"):
                raise TdiffError(f"{name} contains rows: use it as an input of its own")
            yield file_row(number, name, _content(str(file)), label if is_labelled else None)
        except TdiffError as error:
            yield Row(number, name, "", label, str(error))
