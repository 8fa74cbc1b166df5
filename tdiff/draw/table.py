"""A text table: columns of equal width, text to the left and numbers to the right."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len

from tdiff.draw.render import Line


def table(rows: Sequence[Sequence[str]], left: int = 1, styles: Sequence[str] = ()) -> list[Line]:
    """One line for each row; the first `left` columns are aligned left, the others right.

    All rows have the same number of columns. `styles` holds a style for each row; without it all lines are plain.
    """
    widths = [max(cell_len(row[n]) for row in rows) for n in range(len(rows[0]))]

    def cell(n: int, text: str) -> str:
        blank = " " * (widths[n] - cell_len(text))
        return text + blank if n < left else blank + text

    texts = ["  ".join(cell(n, text) for n, text in enumerate(row)).rstrip() for row in rows]
    return [[(text, style)] for text, style in zip(texts, styles or [""] * len(texts), strict=True)]
