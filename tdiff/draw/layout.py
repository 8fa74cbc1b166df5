"""Where each place of a canvas stands when its texts are broken into rows of a width. It knows no colours.

A token stays on one row where it fits, a line feed begins a row, a tab is four spaces, and a character that is two
cells wide is never split.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.cells import cell_len

Piece = tuple[int, str]
"""(place, the part of its text that stands in this row)."""


@dataclass(frozen=True, slots=True)
class CanvasLayout:
    """The rows of some texts."""

    width: int
    rows: list[list[Piece]]
    """From the top; places rise from left to right. At least one row."""
    row: list[int]
    """Of each place: the row in which it begins."""
    column: list[int]
    """Of each place: the cell in which it begins, 0..width; `width` where it begins with a line feed on a full row."""

    def stale(self, before: CanvasLayout, places: Iterable[int]) -> set[int]:
        """Rows to draw again where `before` was drawn: those that differ, and those that hold one of `places`.

        Rows that only `before` had are among them: they are blank now.
        """
        old, new = before.rows, self.rows
        common = min(len(old), len(new))
        stale = {n for n in range(common) if old[n] != new[n]}
        stale.update(range(common, max(len(old), len(new))))
        for place in places:
            for laid in (self, before):
                if place < len(laid.row):
                    last = laid.row[place + 1] if place + 1 < len(laid.row) else len(laid.rows) - 1
                    stale.update(range(laid.row[place], last + 1))
        return stale


def layout(texts: Sequence[str], width: int) -> CanvasLayout:
    """Lay out the texts of the places in rows of `width` cells, at least 1.

    A row is wider only where a character alone is wider than it.
    """
    rows: list[list[Piece]] = [[]]
    begins: list[int] = []
    columns: list[int] = []
    sizes: dict[str, int] = {}  # cells of the texts that stand whole in a row; -1: to be broken
    row, column = rows[0], 0
    for place, text in enumerate(texts):
        size = sizes.get(text)
        if size is None:
            size = cell_len(text)
            sizes[text] = size = -1 if size > width or "\n" in text or "\t" in text else size
        if size < 0:
            begin, start, column = _broken(rows, column, place, text, width)
            row = rows[-1]
            begins.append(begin)
            columns.append(start)
            continue
        if column + size > width:
            row = []
            rows.append(row)
            column = 0
        begins.append(len(rows) - 1)
        columns.append(column)
        if text:
            row.append((place, text))
        column += size
    return CanvasLayout(width, rows, begins, columns)


def _broken(rows: list[list[Piece]], column: int, place: int, text: str, width: int) -> tuple[int, int, int]:
    """Add a text that may need several rows; the row and the column in which it begins, and the column after it."""
    begin: tuple[int, int] | None = None

    def put(part: str) -> None:
        nonlocal begin, column
        size = cell_len(part)
        if column + size > width and column:
            rows.append([])
            column = 0
        begin = begin or (len(rows) - 1, column)
        row = rows[-1]
        if row and row[-1][0] == place:
            row[-1] = (place, row[-1][1] + part)
        else:
            row.append((place, part))
        column += size

    for n, line in enumerate(text.split("\n")):
        if n:
            begin = begin or (len(rows) - 1, column)
            rows.append([])
            column = 0
        line = line.replace("\t", "    ")
        if cell_len(line) <= width:
            if line:
                put(line)
            continue
        if column:  # what no row can hold begins on a row of its own
            rows.append([])
            column = 0
        for character in line:
            put(character)
    assert begin, "a text to be broken is not empty"
    return *begin, column
