"""A field of dots that becomes lines of text: braille, two by four dots a cell, or one plain character a cell."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Sequence

from tdiff.draw.render import Line
from tdiff.patterns import lazy

_BRAILLE = " " + "".join(chr(0x2800 + dots) for dots in range(1, 256))
_BITS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
# The bits of the dots in one half of a cell from row a to row b.
_REACH = tuple(tuple(tuple(sum(half[a : b + 1]) for b in range(4)) for a in range(4)) for half in _BITS)
_SAME = lazy(rb"(?s)(.)\1*")
_MOST_PENS = 255


class Dots:
    """A field of `columns` by `rows` cells."""

    def __init__(self, columns: int, rows: int, *, ascii: bool = False) -> None:
        self.columns, self.rows, self.ascii = columns, rows, ascii
        self.across, self.down = (1, 1) if ascii else (2, 4)
        self._bits = bytearray(columns * rows)
        self._pen = bytearray(columns * rows)
        self._pens = [("", " ")]
        self._behind, self._faint = bytearray(_MOST_PENS + 1), bytearray(_MOST_PENS + 1)
        self._over: dict[int, dict[int, tuple[str, str]]] = {}

    def pen(self, style: str, glyph: str, behind: bool = False, faint: bool = False) -> int:
        """Add a pen: its style, its character without braille, and what later pens replace in a cell that has both:
        its dots (`behind`), or its style (`faint`).
        """
        if len(self._pens) <= _MOST_PENS:
            self._pens.append((style, glyph))
        self._behind[len(self._pens) - 1], self._faint[len(self._pens) - 1] = behind, behind or faint
        return len(self._pens) - 1

    def strokes(self, tops: Sequence[int], bottoms: Sequence[int], pen: int) -> None:
        """Draw a stroke in each column of dots, from its top to its bottom; none if the top is below the bottom.

        A cell has one style but may have the dots of two pens. If the later pen always set the style, a curve close
        below another one would have its colour over a long stretch and seem to be missing. So two pens alternate, two
        columns of cells each. A faint pen does not set the style of a cell that has the dots of one that is not faint,
        whichever is drawn first.
        """
        width, bits, pens, behind, faint = self.columns, self._bits, self._pen, self._behind, self._faint
        alternates = not faint[pen]
        for column, (top, bottom) in enumerate(zip(tops, bottoms, strict=True)):
            if top > bottom:
                continue
            if self.ascii:
                for cell in range(top * width + column, bottom * width + column + 1, width):
                    if not pens[cell] or faint[pens[cell]] or (alternates and column & 2):
                        pens[cell] = pen
                continue
            reach = _REACH[column & 1]
            cell, last = (top >> 2) * width + (column >> 1), (bottom >> 2) * width + (column >> 1)
            while cell <= last:
                if pens[cell] != pen:
                    if behind[pens[cell]]:
                        bits[cell] = 0
                    if not pens[cell] or faint[pens[cell]] or (alternates and column & 4):
                        pens[cell] = pen
                bits[cell] |= reach[top & 3][bottom & 3 if cell == last else 3]
                cell += width
                top = 0

    def put(self, row: int, column: int, character: str, style: str) -> None:
        """Put a character into a cell, over anything that is drawn there."""
        self._over.setdefault(row, {})[column] = (character, style)

    def upright(self, column: int, character: str, style: str) -> None:
        """Draw a line down a column of cells; a cell that is not empty keeps its content, in reverse."""
        for row in range(self.rows):
            cell = row * self.columns + column
            if column in self._over.get(row, {}):
                continue
            if self._pen[cell]:
                pen_style, glyph = self._pens[self._pen[cell]]
                self.put(
                    row, column, glyph if self.ascii else _BRAILLE[self._bits[cell]], f"{pen_style} reverse".strip()
                )
            else:
                self.put(row, column, character, style)

    def level(self, row: int, character: str, style: str) -> None:
        """Draw a line across the empty cells of a row of cells."""
        for column in range(self.columns):
            if not self._pen[row * self.columns + column] and column not in self._over.get(row, {}):
                self.put(row, column, character, style)

    def free(self, row: int, size: int) -> int:
        """The first column of cells from which `size` cells of a row have no stroke; 0 if there is none."""
        empty = bytes(size)
        begin = self._pen.find(empty, row * self.columns, (row + 1) * self.columns)
        return begin - row * self.columns if begin >= 0 else 0

    def line(self, row: int) -> Line:
        """A row as runs of text."""
        begin = row * self.columns
        pens = self._pen[begin : begin + self.columns]
        drawn = codecs.charmap_decode(bytes(self._bits[begin : begin + self.columns]), "strict", _BRAILLE)[0]
        runs: Line = []
        for same in _SAME.finditer(pens):
            style, glyph = self._pens[pens[same.start()]]
            runs.append((glyph * len(same[0]) if self.ascii else drawn[same.start() : same.end()], style))
        over = self._over.get(row)
        if over is None:
            return runs
        cells = [(character, style) for text, style in runs for character in text]
        for column, cell in over.items():
            cells[column] = cell
        return joined(cells)


def joined(cells: Iterable[tuple[str, str]]) -> Line:
    """Cells of one character each as runs of text."""
    runs: Line = []
    for character, style in cells:
        if runs and runs[-1][1] == style:
            runs[-1] = (runs[-1][0] + character, style)
        else:
            runs.append((character, style))
    return runs
