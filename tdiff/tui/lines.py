"""Widgets of plain lines: what is drawn is a list of `render.Line`, and only rows that changed are drawn again."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from tdiff.render import Line
from tdiff.tui.painting import ground, paint


class Lines(Widget):
    """A widget that shows lines; rows beyond them are blank."""

    DEFAULT_CSS = "Lines { height: 1; width: 1fr; }"

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._lines: list[Line] = []
        self._strips: dict[int, Strip] = {}
        self._width = 0

    def show(self, lines: Sequence[Line]) -> None:
        """Show these lines from the top."""
        before, self._lines = self._lines, [list(line) for line in lines]
        for y in range(max(len(before), len(self._lines))):
            old = before[y] if y < len(before) else None
            new = self._lines[y] if y < len(self._lines) else None
            if old != new:
                self._strips.pop(y, None)
                self.refresh(Region(0, y, max(1, self.size.width), 1))

    def render_line(self, y: int) -> Strip:
        """A row, painted once until it changes."""
        if self.size.width != self._width:
            self._width = self.size.width
            self._strips.clear()
        if y not in self._strips:
            self._strips[y] = paint(self._lines[y] if y < len(self._lines) else [], self.size.width, ground(self))
        return self._strips[y]


def line_width(line: Line) -> int:
    """Cells that a line takes."""
    return sum(cell_len(text) for text, _ in line)


def clip(line: Line, width: int) -> Line:
    """The first `width` cells of a line."""
    kept: Line = []
    for text, style in line:
        room = width - line_width(kept)
        if room <= 0:
            break
        kept.append((text if cell_len(text) <= room else set_cell_size(text, room), style))
    return kept


def two_ends(left: Line, right: Line, width: int, fill: str = " ", style: str = "") -> Line:
    """A line of exactly `width` cells: `left`, `fill`, `right`; what does not fit is cut from the left part."""
    right = clip(right, width)
    left = clip(left, width - line_width(right))
    gap = width - line_width(left) - line_width(right)
    return [*left, *([(fill * gap, style)] if gap else []), *right]
