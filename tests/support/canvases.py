"""A canvas drawn in one call, as the tests compare it, and what the rows of a layout must hold."""

import math
from collections import deque
from collections.abc import Sequence
from itertools import takewhile

from tdiff.draw.canvas_layout import CanvasLayout, Piece, lay_out
from tdiff.draw.palettes import Theme
from tdiff.draw.render import DEFAULT_THEME, Line, drawn_texts, row_line
from tdiff.protocol.canvas import Canvas


def canvas_lines(
    canvas: Canvas, width: int, theme: Theme = DEFAULT_THEME, laid: CanvasLayout | None = None
) -> list[Line]:
    """The canvas, broken at line feeds and at `width` cells; `laid` is its layout if the caller has it."""
    laid = laid or lay_out(drawn_texts(canvas, theme), width)
    return [row_line(canvas, row, theme) for row in laid.rows]


def assert_rows_keep_text(rows: Sequence[Sequence[Piece]], texts: Sequence[str]) -> None:
    """Assert that rows hold each character of the texts at its position, in order.

    Only blanks may be missing, and only where a row begins that continues another one, as opposed to the first row and
    to those that a line feed begins.
    """
    left = deque((n, character) for n, text in enumerate(texts) for character in text.replace("\t", "    "))
    for number, row in enumerate(rows):
        if number and left and left[0][1] == "\n":
            left.popleft()
        elif number:
            _drop_missing_blanks(left, row)
        for position, part in row:
            found = [left.popleft() for _ in range(min(len(part), len(left)))]
            assert found == [(position, character) for character in part], (number, row)
    assert not left


def _drop_missing_blanks(left: deque[tuple[int, str]], row: Sequence[Piece]) -> None:
    """Remove from `left` the blanks that are missing at the beginning of a row: all of the positions without a piece
    in it, and those of its first piece.
    """
    first, part = row[0] if row else (math.inf, "")
    while left and left[0][1] == " " and left[0][0] < first:
        left.popleft()
    if not part.strip(" "):  # blanks that fill a row are not left out
        return
    blanks = sum(1 for _ in takewhile(lambda item: item == (first, " "), left))
    for _ in range(blanks - (len(part) - len(part.lstrip(" ")))):
        left.popleft()
