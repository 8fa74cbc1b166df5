"""Rows of which only the changed cells are written: they make a live view cheap, and usable over a slow link.

Textual rebuilds a row when any part of it changes, and writes it from its left end. A `Sparse` widget remembers what
the terminal shows of its rows and, when one is drawn again, writes the cells that differ and moves the cursor over the
others. It writes complete rows whenever their content on the terminal is unknown: after another widget or screen was
on top of it, after it moved, and when everything is drawn again.

The gain, as bytes to the terminal and CPU time to draw, per frame of a text of 1,025 tokens of one character that is
unmasked in 257 steps (two busy CPU cores, November 2026, textual 8.2; the CPU time varies with the load):

    what is drawn             80x24               160x48
    the widget           8,859 B, 5.6 ms     12,535 B, 7.4 ms
    changed rows         5,904 B, 4.1 ms      8,048 B, 4.6 ms
    changed cells          271 B, 2.5 ms        324 B, 2.7 ms

At 30 frames a second that is 177 kB/s for changed rows of 80x24 and 8 kB/s for changed cells. Where tokens are words,
which move the text behind them, changed cells take 318 B a frame, changed rows 1,183 B and the widget 7,185 B; the CPU
time of cells and rows is the same there (5.9 and 5.4 ms). An earlier version that rebuilt every line took 12 to 24 ms.

It depends on how textual renders: part of a row with `crop(0, n)` and `render` at the row's first cell, a complete row
with `render` alone, and a row that another widget cuts with `divide`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import repeat

from rich.cells import cell_len
from rich.color import ColorSystem
from rich.console import COLOR_SYSTEMS, Console
from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from tdiff.draw.render import Line
from tdiff.tui.widgets.abstract import AbstractWidgetMeta
from tdiff.tui.widgets.paint import base_style, paint

Cell = tuple[str, Style | None]
"""The text of a cell ("" in the second cell of a wide character) and its style."""
_NEAR = 4
"""Unchanged cells up to which writing them again takes no more bytes than moving over them."""
_KNOWN = 8192
"""Runs whose cells are cached."""


class Sparse(Widget, metaclass=AbstractWidgetMeta):
    """A widget of lines that writes only changed cells. It may have padding, but no border and no links."""

    ALLOW_SELECT = False  # textual would copy something else than what is shown

    _rows: dict[int, Strip]
    _shown: dict[int, list[Cell | None]]  # what the terminal shows of the rows; None: not known
    _known: dict[tuple[str, str], tuple[str, list[Cell]]]  # cells of runs, as `learn` returns them
    _cut: frozenset[int] = frozenset()  # rows on which another widget lies
    _sides: tuple[list[Cell], list[Cell]] | None = None  # the cells of the padding
    _place: object = None
    _filters: object = None

    @abstractmethod
    def line(self, y: int) -> Line:
        """A row of the widget, at most as wide as the widget; cells beyond its end are blank."""

    def refresh_rows(self, rows: Iterable[int]) -> None:
        """Draw these rows again; rows out of view are skipped."""
        width, height = self.size
        regions = []
        for y in set(rows):
            if 0 <= y < height:
                # Less than a row, else textual writes it completely; a row that is cut can be cut anywhere.
                first = 0 if y + self.gutter.top in self._cut else min(1, width - 1)
                regions.append(Region(first, y, width - first, 1))
        if regions:
            self.refresh(*regions)

    def render_line(self, y: int) -> Strip:
        """A complete row."""
        return paint(self.line(y), self.size.width, base_style(self))

    def render_lines(self, crop: Region) -> list[Strip]:
        """Rows that render themselves when they are written."""
        region, padding = self.region, self.gutter
        if (region, padding) != self._place:
            self._place, self._rows, self._shown, self._cut = (region, padding), {}, {}, frozenset()
            self._sides = None
        filters = (self.colors, *self.get_line_filters())
        if filters != self._filters:
            self._filters = filters
            self.forget()
        if crop.column_span != (0, region.width) or padding != self.styles.padding or self.opacity < 1:
            for y in crop.line_range:
                self._shown.pop(y, None)
            return super().render_lines(crop)
        return [self._row(y, region.width) for y in crop.line_range]

    def _row(self, y: int, width: int) -> Strip:
        if not 0 <= y - self.gutter.top < self.size.height:
            return self.full_row(y)
        if y not in self._rows:
            self._rows[y] = _Row(self, y, width)
        return self._rows[y]

    def full_row(self, y: int) -> Strip:
        """A complete row, as any widget renders it."""
        return super().render_lines(Region(0, y, self.region.width, 1))[0]

    def write(self, y: int, size: int, console: Console, *, complete: bool = False) -> str:
        """The output that updates the first `size` cells of a row on the terminal; all of them where `complete`."""
        cells, shown = self._padded(y), self._shown.get(y)
        if shown is None or len(shown) != len(cells):
            shown = self._shown[y] = [None] * len(cells)
        text = _written(cells[:size], repeat(None) if complete else shown, console)
        shown[:size] = cells[:size]
        return text

    def divide(self, y: int, cuts: list[int]) -> Sequence[Strip]:
        """A row in pieces: another widget is on top of it."""
        self._shown.pop(y, None)
        if y not in self._cut:
            self._cut = self._cut | {y}
            # A pending refresh may start at its second cell.
            self.call_later(self.refresh_rows, (y - self.gutter.top,))
        return self.full_row(y).divide(cuts)

    def cells(self, y: int) -> list[Cell]:
        """The cells of a row, as many as the widget is wide. The caller must not change them."""
        width = self.size.width
        cells: list[Cell] = []
        for run in self.line(y):
            marks, cells_of_run = self.learn(run)
            if marks and cells:
                at = -1 if cells[-1][0] else -2
                cells[at] = (cells[at][0] + marks, cells[at][1])
            cells += cells_of_run
        if len(cells) > width:
            split = not cells[width][0]
            del cells[width:]
            if split:  # half of a wide character
                cells[-1] = (" ", cells[-1][1])
        if len(cells) < width:
            cells += self.learn((" ", ""))[1] * (width - len(cells))
        return cells

    def learn(self, run: tuple[str, str]) -> tuple[str, list[Cell]]:
        """The cells of a run; before them, combining marks that belong to the character before the run."""
        known = self._known.get(run)
        if known is None:
            if len(self._known) > _KNOWN:
                self._known.clear()
            known = self._known[run] = self._learn(*run)
        return known

    def lose(self) -> None:
        """Forget what the terminal shows: it no longer shows it."""
        self._shown = {}

    def forget(self) -> None:
        """Forget the cells of runs: their styles have changed."""
        self._known, self._sides = {}, None

    def _padded(self, y: int) -> list[Cell]:
        """The cells of a row with its padding."""
        left, top, right = self.gutter.left, self.gutter.top, self.gutter.right
        if not left and not right:
            return self.cells(y - top)
        if self._sides is None:
            cells = [(text, style) for piece, style, _ in self.full_row(y) for text in " " * cell_len(piece)]
            self._sides = cells[:left], cells[len(cells) - right :]
        return [*self._sides[0], *self.cells(y - top), *self._sides[1]]

    def _learn(self, text: str, style: str) -> tuple[str, list[Cell]]:
        strip = paint([(text, style)], cell_len(text), base_style(self))
        background = self.background_colors[1]
        for line_filter in self.get_line_filters():
            strip = strip.apply_filter(line_filter, background)
        marks, cells = "", list[Cell]()
        for character, face in ((character, face) for piece, face, _ in strip for character in piece):
            size = cell_len(character)
            if size:
                cells += [(character, face), ("", face)][:size]
            elif cells:
                at = -1 if cells[-1][0] else -2
                cells[at] = (cells[at][0] + character, face)
            else:
                marks += character
        return marks, cells


class _Row(Strip):
    """A row of a widget, rendered when it is used."""

    __slots__ = ("size", "widget", "y")

    def __init__(self, widget: Sparse, y: int, size: int) -> None:
        super().__init__((), size)
        self.widget, self.y, self.size = widget, y, size

    @property
    def _segments(self) -> list[Segment]:
        return self.widget.full_row(self.y)._segments

    @_segments.setter
    def _segments(self, segments: list[Segment]) -> None:
        pass

    def crop(self, start: int, end: int | None = None) -> Strip:
        if start > 0 or end is None or end <= 0:
            return self.widget.full_row(self.y).crop(start, end)
        return _Part(self.widget, self.y, min(end, self.size))

    def divide(self, cuts: Iterable[int]) -> Sequence[Strip]:
        cuts = list(cuts)
        if cuts != [self.size]:
            return self.widget.divide(self.y, cuts)
        self.widget._cut -= {self.y}
        return [self]

    def render(self, console: Console) -> str:
        return self.widget.write(self.y, self.size, console, complete=True)


class _Part(_Row):
    """The first cells of a row, of which only the changed ones are written."""

    __slots__ = ()

    @property
    def _segments(self) -> list[Segment]:
        return self.widget.full_row(self.y).crop(0, self.size)._segments

    @_segments.setter
    def _segments(self, segments: list[Segment]) -> None:
        pass

    def render(self, console: Console) -> str:
        return self.widget.write(self.y, self.size, console)


def _written(cells: Sequence[Cell], shown: Iterable[Cell | None], console: Console) -> str:
    """The output that turns a row of `shown` into `cells`, with the cursor at its first cell and no style set."""
    system = COLOR_SYSTEMS.get(console.color_system or "", ColorSystem.TRUECOLOR)
    pieces: list[str] = []
    style: Style | None = None
    at = 0  # the cell of the cursor
    for n, (cell, old) in enumerate(zip(cells, shown, strict=False)):
        if cell == old or not cell[0]:
            continue
        text, face = cell
        if n > at:
            between = cells[at:n]
            if n - at <= _NEAR and all(near and other == style for near, other in between):
                pieces += [near for near, _ in between]
            else:
                pieces.append(f"\x1b[{n - at}C")
        if face is not style:
            pieces.append(_change(style, face, system))
            style = face
        pieces.append(text)
        at = n + (2 if cells[n + 1 : n + 2] and not cells[n + 1][0] else 1)
    pieces.append(_change(style, None, system))
    return "".join(pieces)


@lru_cache(maxsize=4096)
def _change(before: Style | None, after: Style | None, system: ColorSystem) -> str:
    """The escape sequence that turns one style into another."""
    old, new = (Strip.render_ansi(style, system) if style else "" for style in (before, after))
    if old == new:
        return ""
    if not new:
        return "\x1b[0m"
    # A lone colour is replaced by another; everything else must be reset.
    lone = before is not None and before.bgcolor is None and not before.without_color
    return f"\x1b[{new}m" if not old or (lone and after and after.color) else f"\x1b[0;{new}m"
