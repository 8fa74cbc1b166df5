"""The canvas of a generation as a widget, of which only changed rows are drawn again.

It maintains a layout of the positions. It does not know where canvases come from, nor when to draw.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Sequence

from rich.cells import cell_len
from textual import events
from textual.geometry import Size
from textual.message import Message

from tdiff.draw.canvas_layout import LOOKAHEAD, CanvasLayout, is_closing, lay_out
from tdiff.draw.masks import WIDEST, adjust_mask_widths
from tdiff.draw.overlay import NOTHING, Overlay
from tdiff.draw.palettes import Theme
from tdiff.draw.render import Line, drawn_texts, row_line
from tdiff.protocol.canvas import MASKED, Canvas
from tdiff.tui.widgets.sparse import Cell, Sparse

_WHEEL = 3
"""Rows for a notch of the mouse wheel."""
_ENOUGH = 4
"""Minimum unmasked positions for a typical width."""


class CanvasView(Sparse):
    """A canvas, wrapped at the widget's width, at the first masked position or where the user scrolled."""

    DEFAULT_CSS = "CanvasView { width: 1fr; height: 1fr; }"

    class Pressed(Message):
        """The mouse was pressed on a position, or dragged to it."""

        def __init__(self, position: int, dragged: bool) -> None:
            super().__init__()
            self.position, self.dragged = position, dragged

    def __init__(self, theme: Theme, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._theme = theme
        self._canvas: Canvas | None = None
        self._overlay = NOTHING
        self._texts: list[str] = []  # what is drawn at each position
        self._marks: set[int] = set()  # positions that are drawn as new, or as remasked
        self._canvas_layout = lay_out([], 1)
        self._drawn: dict[int, list[Cell]] = {}  # cells of rows of the layout
        self._mask_width = 1  # glyphs of each mask at first
        self._masks: dict[int, int] = {}  # glyphs of each masked position, where more than one
        self._top = 0  # the first row of the layout that is in view
        self._fitted = Size(0, 0)  # the size of the layout
        self._following = True

    # What is shown

    def show(self, canvas: Canvas, changed: Collection[int] | None = None, overlay: Overlay = NOTHING) -> None:
        """Show a canvas, which must not change afterwards, and what lies over it.

        `changed` contains at least the positions that differ from the previous canvas of the same generation; None:
        any position may differ, and following starts at the top.
        """
        before, self._canvas = self._canvas, canvas
        overlay_before, self._overlay = self._overlay, overlay
        if not overlay.same_kind(overlay_before):
            self._begin()
            return
        if changed is None or before is None or len(before.texts) != len(canvas.texts):
            if self._following:
                self._top = 0
            self._mask_width = typical_width(canvas) or (before and typical_width(before)) or self._mask_width
            self._begin()
            return
        marks = canvas.fresh | canvas.remasked
        positions = {position for position in changed if 0 <= position < len(canvas.texts)} | self._marks | marks
        positions.update(n for n in overlay.changed(overlay_before) if 0 <= n < len(canvas.texts))
        if self._masks:
            self._adjust_masks(canvas, positions)
        old, self._texts = self._texts, self._drawn_texts(canvas)
        if old != self._texts:
            positions.update(n for n, (was, text) in enumerate(zip(old, self._texts, strict=True)) if was != text)
        self._marks = marks
        layout = self._canvas_layout
        rows = self._update_layout(old, positions)
        if self._canvas_layout is layout:
            self._redraw(positions)
        else:
            self._drop(rows)
        self._draw_again(rows)

    def clear(self) -> None:
        """Show nothing."""
        self._canvas, self._overlay, self._top, self._following = None, NOTHING, 0, True
        self._begin()

    @property
    def theme(self) -> Theme:
        """The theme."""
        return self._theme

    @theme.setter
    def theme(self, theme: Theme) -> None:
        self._theme = theme
        self._begin()

    # Positions

    def position_at(self, x: int, y: int) -> int | None:
        """The position that is drawn at a cell of the widget; None where there is none."""
        row = self._top + y
        if self._canvas is None or not 0 <= row < len(self._canvas_layout.rows):
            return None
        at = 0
        for position, text in self._canvas_layout.rows[row]:
            at += cell_len(text)
            if x < at:
                return position
        return None

    def beside(self, position: int, rows: int) -> int:
        """The position that is drawn `rows` below a position, in the same column or left of it; above where negative.

        It is the position itself where there is no such row.
        """
        layout = self._canvas_layout
        if not 0 <= position < len(layout.row):
            return position
        row, column = layout.row[position] + rows, layout.column[position]
        while 0 <= row < len(layout.rows) and not layout.rows[row]:
            row += 1 if rows > 0 else -1
        if not 0 <= row < len(layout.rows):
            return position
        return next((n for n, _ in reversed(layout.rows[row]) if layout.column[n] <= column), layout.rows[row][0][0])

    def reveal(self, position: int) -> None:
        """Scroll to a position; following pauses while the followed row is out of view."""
        if not 0 <= position < len(self._canvas_layout.row):
            return
        row, height = self._canvas_layout.row[position], self._fitted.height
        if not self._top <= row < self._top + height:
            self.scroll_rows(row - self._top if row < self._top else row - self._top - height + 1)

    # Scrolling

    @property
    def rows(self) -> tuple[int, int, int]:
        """The first row in view, the rows in view, and all rows."""
        return self._top, self._fitted.height, len(self._canvas_layout.rows)

    def scroll_rows(self, rows: int) -> None:
        """Scroll down by so many rows; up where negative. Following pauses while the followed row is out of view."""
        self._go_to(self._top + rows)
        target = self._target()
        self._following = target is None or self._top <= target < self._top + self._fitted.height

    def follow(self) -> None:
        """Keep the first masked position in view from now on."""
        self._following = True
        self._follow()

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """Scroll by a notch of the wheel."""
        event.stop()
        self.scroll_rows(_WHEEL)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """Scroll by a notch of the wheel."""
        event.stop()
        self.scroll_rows(-_WHEEL)

    def on_mouse_down(self, event: events.MouseDown) -> None:
        """Tell which position was pressed."""
        position = self.position_at(event.x - self.gutter.left, event.y - self.gutter.top)
        if event.button == 1 and position is not None:
            self.post_message(self.Pressed(position, False))

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """Tell over which position the pressed mouse is dragged."""
        position = self.position_at(event.x - self.gutter.left, event.y - self.gutter.top)
        if event.button == 1 and position is not None and (event.delta_x or event.delta_y):
            self.post_message(self.Pressed(position, True))

    # Drawing

    def line(self, y: int) -> Line:
        """A row of the widget."""
        if self.size != self._fitted:
            self._fit()
        return self._line(self._top + y)

    def cells(self, y: int) -> list[Cell]:
        """The cells of a row of the widget, from a cache."""
        if self.size != self._fitted:
            self._fit()
        row = self._top + y
        cells = self._drawn.get(row)
        if cells is None:
            cells = super().cells(y)
            if all(len(text) < 2 for text, _ in cells):  # no combining marks, which belong to two positions
                self._drawn[row] = cells
        return cells

    def forget(self) -> None:
        """Forget the cells of the rows too."""
        super().forget()
        self._drawn.clear()

    def _line(self, row: int) -> Line:
        if self._canvas is None or row >= len(self._canvas_layout.rows):
            return []
        return row_line(self._canvas, self._canvas_layout.rows[row], self._theme, self._overlay)

    def on_resize(self) -> None:
        """Compute the layout for the new size."""
        self._fit()

    def _begin(self) -> None:
        """Compute the layout, and draw everything."""
        canvas = self._canvas
        # Drafts have their own widths.
        wide = canvas.confidence if canvas and self._mask_width > 1 and not self._overlay.drafts else []
        self._masks = {position: self._mask_width for position, confidence in enumerate(wide) if confidence == MASKED}
        self._texts = self._drawn_texts(canvas) if canvas else []
        self._marks = canvas.fresh | canvas.remasked if canvas else set()
        self._canvas_layout = lay_out([], 1)
        self._drawn.clear()
        self._fit()
        self.refresh_rows(range(self.size.height))

    def _drawn_texts(self, canvas: Canvas) -> list[str]:
        texts = drawn_texts(canvas, self._theme, self._overlay)
        for position, width in self._masks.items():
            texts[position] *= width
        return texts

    def _adjust_masks(self, canvas: Canvas, positions: set[int]) -> None:
        """Make masks wider and narrower, so that unmasked text moves little."""
        masks, changed = self._masks, set()
        for position in positions:
            masked = canvas.confidence[position] == MASKED
            if masked and position not in masks:
                masks[position] = min(WIDEST, max(1, cell_len(self._texts[position])))
            elif not masked and position in masks:
                del masks[position]
            elif masked:
                continue
            changed.add(position)
        adjust_mask_widths(self._canvas_layout, canvas.texts, masks, changed)

    def _fit(self) -> None:
        self._fitted = self.size
        width = max(1, self.size.width)
        if self._canvas_layout.width != width or len(self._canvas_layout.row) != len(self._texts):
            self._canvas_layout = lay_out(self._texts, width)
            self._drawn.clear()
        self._go_to(self._top)
        self._follow()

    def _update_layout(self, old: Sequence[str], positions: set[int]) -> set[int]:
        """Update the layout; the rows that must be drawn again."""
        layout, texts = self._canvas_layout, self._texts
        first: int | None = None
        for position in sorted(positions):
            if old[position] != texts[position] and not replace_in_place(
                layout, position, old[position], texts[position]
            ):
                first = position
                break
        if first is None:
            return layout.stale(layout, positions)
        self._canvas_layout = lay_out_from(layout, texts, first)
        return self._canvas_layout.stale(layout, positions)

    def _redraw(self, positions: set[int]) -> None:
        """Draw these positions into the cells of their rows; the layout has not changed."""
        canvas, layout = self._canvas, self._canvas_layout
        assert canvas is not None
        for position in positions:
            row, at, text = layout.row[position], layout.column[position], self._texts[position]
            trimmed = not at and text[:1] == " "  # its row may begin without its blanks
            if trimmed or not text.isprintable() or at + cell_len(text) > layout.width:
                self._drop(layout.stale(layout, (position,)))  # it is drawn with other characters, or wraps
                continue
            cells = self._drawn.get(row)
            if cells is None or not text:
                continue
            for run in row_line(canvas, [(position, text)], self._theme, self._overlay):
                _, new_cells = self.learn(run)  # a row with combining marks is not cached
                cells[at : at + len(new_cells)] = new_cells
                at += len(new_cells)

    def _drop(self, rows: set[int]) -> None:
        for row in rows:
            self._drawn.pop(row, None)

    def _draw_again(self, rows: set[int]) -> None:
        self.refresh_rows(row - self._top for row in rows)
        if self._following:
            self._follow()
        else:
            self._go_to(self._top)

    def _target(self) -> int | None:
        """The row of the first masked position."""
        if self._canvas is None or MASKED not in self._canvas.confidence or not self._canvas_layout.row:
            return None
        return self._canvas_layout.row[self._canvas.confidence.index(MASKED)]

    def _follow(self) -> None:
        """Bring the first masked position into the upper two thirds, if there is one."""
        target = self._target() if self._following else None
        if target is not None and not self._top <= target <= self._top + 2 * self._fitted.height // 3:
            self._go_to(target - self._fitted.height // 3)

    def _go_to(self, top: int) -> None:
        top = max(0, min(top, len(self._canvas_layout.rows) - self._fitted.height))
        if top != self._top:
            self._top = top
            self.refresh_rows(range(self._fitted.height))


def typical_width(canvas: Canvas) -> int:
    """Typical width in cells of a position of this canvas, 1..8; 0 where too few are unmasked.

    Masks as wide as the text under them keep the text from moving while it resolves.
    """
    pairs = zip(canvas.texts, canvas.confidence, strict=True)
    widths = [max(1, cell_len(text)) for text, confidence in pairs if confidence != MASKED]
    return min(WIDEST, round(sum(widths) / len(widths))) if len(widths) >= _ENOUGH else 0


def replace_in_place(layout: CanvasLayout, position: int, old: str, new: str) -> bool:
    """Put the new text of a position into the layout if it takes the same cells of one row; whether it does."""
    row = layout.rows[layout.row[position]]
    at = bisect_left(row, (position, ""))
    if is_closing(old) or is_closing(new) or (old[:1] == " ") != (new[:1] == " "):
        return False  # the word before it may move
    if at == len(row) or row[at] != (position, old):
        return False
    if not new or cell_len(new) != cell_len(old) or cell_len(new) > layout.width or "\n" in new or "\t" in new:
        return False
    row[at] = (position, new)
    return True


def lay_out_from(before: CanvasLayout, texts: Sequence[str], first: int) -> CanvasLayout:
    """The layout of texts that differ from those of `before` from position `first` on: the rows above it stay."""
    # A word moves with the punctuation after it, so the change may move the words just before it too.
    for row in range(before.row[max(0, first - LOOKAHEAD)] - 1, 0, -1):
        position = bisect_left(before.row, row)
        pieces = before.rows[row]
        wrapped = texts[position][:1] == " " and pieces[:1] != [(position, texts[position])]
        if wrapped and (not texts[position].isprintable() or cell_len(texts[position]) > before.width):
            continue  # a text of several rows
        # Where an unchanged position starts a row, the rest can be laid out alone.
        alone = not pieces or pieces[0][0] >= position
        if before.row[position] == row and before.column[position] == 0 and alone:
            rest = lay_out(texts[position:], before.width, wrapped=wrapped)
            return CanvasLayout(
                before.width,
                before.rows[:row] + [[(n + position, text) for n, text in pieces] for pieces in rest.rows],
                before.row[:position] + [n + row for n in rest.row],
                before.column[:position] + rest.column,
            )
    return lay_out(texts, before.width)
