"""A table that fits any width: the least important columns are left out, then the first one is shortened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size

_GAP = 2
_MORE = "…"


@dataclass(frozen=True, slots=True)
class Column:
    """One column, with a cell for each row."""

    title: str
    cells: Sequence[str]
    rank: int = 0
    """The columns with the highest rank are left out first; those of rank 0 always stay."""
    left: bool = False
    """Whether its cells begin at the left."""
    least: int = 0
    """The least width of a column that may be shortened; 0 for one that may not."""

    @property
    def width(self) -> int:
        """Cells of its widest cell."""
        return max(map(cell_len, (self.title, *self.cells)))


def fit(columns: Sequence[Column], width: int) -> list[tuple[Column, int]]:
    """The columns that fit into `width` cells, each with its width."""
    chosen = [(column, column.width) for column in columns]

    def needed(shortened: bool) -> int:
        widths = (min(size, column.least) if shortened and column.least else size for column, size in chosen)
        return sum(widths) + _GAP * (len(chosen) - 1)

    while needed(True) > width and (worst := max(chosen, key=lambda item: item[0].rank))[0].rank:
        chosen = [item for item in chosen if item is not worst]
    over = max(0, needed(False) - width)
    widths = []
    for column, size in chosen:
        cut = min(over, size - min(size, column.least)) if column.least else 0
        over -= cut
        widths.append((column, size - cut))
    return widths


def lines(columns: Sequence[Column], width: int) -> list[str]:
    """The titles, then a line for each row; none is wider than `width` cells, as far as the columns of rank 0 fit."""
    fitted = fit(columns, width)
    rows = [[column.title for column, _ in fitted], *zip(*(column.cells for column, _ in fitted), strict=True)]
    return [
        (" " * _GAP)
        .join(_cell(text, size, left=column.left) for text, (column, size) in zip(row, fitted, strict=True))
        .rstrip()
        for row in rows
    ]


def _cell(text: str, size: int, *, left: bool) -> str:
    if cell_len(text) > size:
        text = set_cell_size(text, max(0, size - 1)) + _MORE
    blank = " " * (size - cell_len(text))
    return text + blank if left else blank + text
