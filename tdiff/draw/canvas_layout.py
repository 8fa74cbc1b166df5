"""The layout of a canvas: its texts broken into rows of a width, without colours.

A token stays on one row if it fits, a line feed begins a row, a tab is four spaces, and a character that is two cells
wide is never split. A row that continues the one above begins without the blanks of its first token, and, where the
word before it is one token, without punctuation.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.cells import cell_len

Piece = tuple[int, str]
"""(position, the part of its text in this row)."""

_CLOSING = frozenset(",.;:!?)]}%'\"’”…»")
"""What does not begin a row where its word can come along."""
LOOKAHEAD = 2
"""How many tokens of punctuation come along with the word before them."""
_NEAR_END = 8
"""Cells before the end of a row within which punctuation is looked for."""


@dataclass(frozen=True, slots=True)
class CanvasLayout:
    """The rows of the texts of a canvas."""

    width: int
    rows: list[list[Piece]]
    """From the top; positions rise from left to right. At least one row."""
    row: list[int]
    """For each position: the row in which it begins."""
    column: list[int]
    """For each position: the cell in which it begins, 0..width; `width` for a line feed after a full row."""

    def stale(self, before: CanvasLayout, positions: Iterable[int]) -> set[int]:
        """The rows to redraw after `before`: those that differ, and those that contain one of `positions`.

        Rows that only `before` had are included: they are blank now.
        """
        old, new = before.rows, self.rows
        common = min(len(old), len(new))
        stale = {n for n in range(common) if old[n] != new[n]}
        stale.update(range(common, max(len(old), len(new))))
        for position in positions:
            for layout in (self, before):
                if position < len(layout.row):
                    last = layout.row[position + 1] if position + 1 < len(layout.row) else len(layout.rows) - 1
                    stale.update(range(layout.row[position], last + 1))
        return stale


def lay_out(texts: Sequence[str], width: int, *, wrapped: bool = False) -> CanvasLayout:
    """Lay out the texts of all positions in rows of `width` cells, at least 1.

    A row is wider only if a single character is wider. `wrapped`: the first row continues another one.
    """
    rows: list[list[Piece]] = [[]]
    begins: list[int] = []
    columns: list[int] = []
    sizes: dict[str, int] = {}  # cells of the texts that fit in a row; -1: to be broken
    row, column = rows[0], 0
    for position, text in enumerate(texts):
        size = sizes.get(text)
        if size is None:
            size = cell_len(text)
            sizes[text] = size = -1 if size > width or "\n" in text or "\t" in text else size
        if size < 0:
            begin, start, column = _broken(rows, column, position, text, width)
            row = rows[-1]
            begins.append(begin)
            columns.append(start)
            wrapped = False
            continue
        room = width - column
        if size > room or (column and size + _NEAR_END > room and size + _closing(texts, position) > room):
            row = []
            rows.append(row)
            column, wrapped = 0, True
        if wrapped and not column and text[:1] == " ":
            text = text.lstrip(" ")
            size = cell_len(text)
        begins.append(len(rows) - 1)
        columns.append(column)
        if text:
            row.append((position, text))
        column += size
    return CanvasLayout(width, rows, begins, columns)


def is_closing(text: str) -> bool:
    """Whether a text begins with punctuation that belongs to the word before it."""
    return text[:1] in _CLOSING


def _closing(texts: Sequence[str], position: int) -> int:
    """The cells of the punctuation that stays with the word of a position; 0 where it is not the whole word."""
    if texts[position][:1] != " ":
        return 0
    size = 0
    for text in texts[position + 1 : position + 1 + LOOKAHEAD]:
        if not is_closing(text) or not text.isprintable():
            break
        size += cell_len(text)
    return size if size <= _NEAR_END else 0


def _broken(rows: list[list[Piece]], column: int, position: int, text: str, width: int) -> tuple[int, int, int]:
    """Add a text that may need several rows; returns its first row and column, and the column after it."""
    begin: tuple[int, int] | None = None

    def put(part: str) -> None:
        nonlocal begin, column
        size = cell_len(part)
        if column + size > width and column:
            rows.append([])
            column = 0
            if text[0] == " " and part.strip(" "):
                part = part.lstrip(" ")
                size = cell_len(part)
        begin = begin or (len(rows) - 1, column)
        row = rows[-1]
        if row and row[-1][0] == position:
            row[-1] = (position, row[-1][1] + part)
        else:
            row.append((position, part))
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
        if column:  # a part longer than any row begins on a new row
            rows.append([])
            column = 0
            line = line.lstrip(" ") if text[0] == " " else line
        for character in line:
            put(character)
    begin = begin or (len(rows) - 1, column)  # blanks that are left out begin where the next text does
    return *begin, column
