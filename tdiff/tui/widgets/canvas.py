"""The canvas of a generation as a widget: only rows that changed are drawn again.

It keeps a layout of the places. It knows neither where canvases come from nor when to draw.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Sequence

from rich.cells import cell_len
from textual import events
from textual.geometry import Size

from tdiff.draw.layout import CanvasLayout, layout
from tdiff.draw.masks import WIDEST, make_room
from tdiff.draw.palettes import Theme
from tdiff.draw.render import Line, drawn_texts, row_line
from tdiff.protocol.canvas import MASKED, Canvas
from tdiff.tui.widgets.sparse import Cell, Sparse

_WHEEL = 3
"""Rows for a notch of the mouse's wheel."""
_ENOUGH = 4
"""Places that tell how wide a place typically is."""


class CanvasView(Sparse):
    """A canvas, broken at the widget's width; the rows around the first masked place, or those the user went to."""

    DEFAULT_CSS = "CanvasView { width: 1fr; height: 1fr; }"

    def __init__(self, look: Theme, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._look = look
        self._canvas: Canvas | None = None
        self._texts: list[str] = []  # what is drawn in each place
        self._marks: set[int] = set()  # places that are drawn as new, or as masked again
        self._laid = layout([], 1)
        self._drawn: dict[int, list[Cell]] = {}  # cells of rows of the layout
        self._mask_width = 1  # glyphs of each mask before any gives way
        self._masks: dict[int, int] = {}  # glyphs of each place that is masked, where that is more than one
        self._top = 0  # the first row of the layout that is in view
        self._fitted = Size(0, 0)  # the size that all this is for
        self._following = True

    # What is shown

    def show(self, canvas: Canvas, changed: Collection[int] | None = None) -> None:
        """Show a canvas, which must not change afterwards.

        `changed` holds at least the places that differ from the canvas shown before, where that was of the same
        generation; None: any may, and what is followed is followed from the top.
        """
        before, self._canvas = self._canvas, canvas
        if changed is None or before is None or len(before.texts) != len(canvas.texts):
            if self._following:
                self._top = 0
            self._mask_width = typical_width(canvas) or (before and typical_width(before)) or self._mask_width
            self._begin()
            return
        marks = canvas.fresh | canvas.remasked
        places = {place for place in changed if 0 <= place < len(canvas.texts)} | self._marks | marks
        if self._masks:
            self._give_way(canvas, places)
        old, self._texts = self._texts, self._drawn_texts(canvas)
        if old != self._texts:
            places.update(n for n, (was, text) in enumerate(zip(old, self._texts, strict=True)) if was != text)
        self._marks = marks
        laid = self._laid
        rows = self._lay_again(old, places)
        if self._laid is laid:
            self._redraw(places)
        else:
            self._drop(rows)
        self._draw_again(rows)

    def clear(self) -> None:
        """Show nothing."""
        self._canvas, self._top, self._following = None, 0, True
        self._begin()

    @property
    def look(self) -> Theme:
        """How it is drawn."""
        return self._look

    @look.setter
    def look(self, look: Theme) -> None:
        self._look = look
        self._begin()

    # Where one is

    @property
    def rows(self) -> tuple[int, int, int]:
        """The first row in view, the rows in view, and all rows."""
        return self._top, self._fitted.height, len(self._laid.rows)

    def scroll_rows(self, rows: int) -> None:
        """Go down by so many rows, or up. What is followed is left while it is out of view."""
        self._go_to(self._top + rows)
        target = self._target()
        self._following = target is None or self._top <= target < self._top + self._fitted.height

    def follow(self) -> None:
        """Keep the first masked place in view from now on."""
        self._following = True
        self._follow()

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """The wheel."""
        event.stop()
        self.scroll_rows(_WHEEL)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """The wheel."""
        event.stop()
        self.scroll_rows(-_WHEEL)

    # Drawing

    def line(self, y: int) -> Line:
        """A row of the widget."""
        if self.size != self._fitted:
            self._fit()
        return self._line(self._top + y)

    def cells(self, y: int) -> list[Cell]:
        """The cells of a row of the widget, kept from one time to the next."""
        if self.size != self._fitted:
            self._fit()
        row = self._top + y
        cells = self._drawn.get(row)
        if cells is None:
            cells = super().cells(y)
            if all(len(text) < 2 for text, _ in cells):  # no marks, which belong to two places
                self._drawn[row] = cells
        return cells

    def forget(self) -> None:
        """Nor do the rows look as they did."""
        super().forget()
        self._drawn.clear()

    def _line(self, row: int) -> Line:
        if self._canvas is None or row >= len(self._laid.rows):
            return []
        return row_line(self._canvas, self._laid.rows[row], self._look)

    def on_resize(self) -> None:
        """Lay it out anew, before it is asked for."""
        self._fit()

    def _begin(self) -> None:
        """Lay out and paint everything."""
        canvas = self._canvas
        wide = canvas.confidence if canvas and self._mask_width > 1 else []
        self._masks = {place: self._mask_width for place, confidence in enumerate(wide) if confidence == MASKED}
        self._texts = self._drawn_texts(canvas) if canvas else []
        self._marks = canvas.fresh | canvas.remasked if canvas else set()
        self._laid = layout([], 1)
        self._drawn.clear()
        self._fit()
        self.refresh_rows(range(self.size.height))

    def _drawn_texts(self, canvas: Canvas) -> list[str]:
        texts = drawn_texts(canvas, self._look)
        for place, width in self._masks.items():
            texts[place] *= width
        return texts

    def _give_way(self, canvas: Canvas, places: set[int]) -> None:
        """Make the masks wider and narrower, so that what is revealed moves little."""
        masks, changed = self._masks, set()
        for place in places:
            masked = canvas.confidence[place] == MASKED
            if masked and place not in masks:
                masks[place] = min(WIDEST, max(1, cell_len(self._texts[place])))
            elif not masked and place in masks:
                del masks[place]
            elif masked:
                continue
            changed.add(place)
        make_room(self._laid, canvas.texts, masks, changed)

    def _fit(self) -> None:
        self._fitted = self.size
        width = max(1, self.size.width)
        if self._laid.width != width or len(self._laid.row) != len(self._texts):
            self._laid = layout(self._texts, width)
            self._drawn.clear()
        self._go_to(self._top)
        self._follow()

    def _lay_again(self, old: Sequence[str], places: set[int]) -> set[int]:
        """Bring the layout up to date; the rows that are to be painted again."""
        laid, texts = self._laid, self._texts
        first: int | None = None
        for place in sorted(places):
            if old[place] != texts[place] and not replaced(laid, place, old[place], texts[place]):
                first = place
                break
        if first is None:
            return laid.stale(laid, places)
        self._laid = relaid(laid, texts, first)
        return self._laid.stale(laid, places)

    def _redraw(self, places: set[int]) -> None:
        """Draw these places into the cells of their rows; the layout is as it was."""
        canvas, laid = self._canvas, self._laid
        assert canvas is not None
        for place in places:
            row, at, text = laid.row[place], laid.column[place], self._texts[place]
            if not text.isprintable() or at + cell_len(text) > laid.width:
                self._drop(laid.stale(laid, (place,)))  # it is drawn otherwise, or stands in several rows
                continue
            cells = self._drawn.get(row)
            if cells is None or not text:
                continue
            for run in row_line(canvas, [(place, text)], self._look):
                _, more = self.learn(run)  # a row with marks is not kept
                cells[at : at + len(more)] = more
                at += len(more)

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
        """The row of the first masked place."""
        if self._canvas is None or MASKED not in self._canvas.confidence or not self._laid.row:
            return None
        return self._laid.row[self._canvas.confidence.index(MASKED)]

    def _follow(self) -> None:
        """Bring the first masked place into the upper two thirds, if anything is masked."""
        target = self._target() if self._following else None
        if target is not None and not self._top <= target <= self._top + 2 * self._fitted.height // 3:
            self._go_to(target - self._fitted.height // 3)

    def _go_to(self, top: int) -> None:
        top = max(0, min(top, len(self._laid.rows) - self._fitted.height))
        if top != self._top:
            self._top = top
            self.refresh_rows(range(self._fitted.height))


def typical_width(canvas: Canvas) -> int:
    """Cells that a place of this canvas typically takes, 1..8; 0 where too few are revealed to tell.

    Masks as wide as what they hide keep the text in its place while it resolves.
    """
    pairs = zip(canvas.texts, canvas.confidence, strict=True)
    widths = [max(1, cell_len(text)) for text, confidence in pairs if confidence != MASKED]
    return min(WIDEST, round(sum(widths) / len(widths))) if len(widths) >= _ENOUGH else 0


def replaced(laid: CanvasLayout, place: int, old: str, new: str) -> bool:
    """Put the new text of a place into the layout if it takes the same cells of one row as the old; whether it did."""
    row = laid.rows[laid.row[place]]
    at = bisect_left(row, (place, ""))
    if at == len(row) or row[at] != (place, old):
        return False
    if not new or cell_len(new) != cell_len(old) or cell_len(new) > laid.width or "\n" in new or "\t" in new:
        return False
    row[at] = (place, new)
    return True


def relaid(before: CanvasLayout, texts: Sequence[str], first: int) -> CanvasLayout:
    """The layout of texts that differ from those of `before` from place `first` on: the rows above it stay."""
    for row in range(before.row[first] - 1, 0, -1):
        place = bisect_left(
            before.row, row
        )  # where an unchanged place begins a row, what follows can be laid out alone
        alone = not before.rows[row] or before.rows[row][0][0] >= place
        if before.row[place] == row and before.column[place] == 0 and alone:
            rest = layout(texts[place:], before.width)
            return CanvasLayout(
                before.width,
                before.rows[:row] + [[(n + place, text) for n, text in pieces] for pieces in rest.rows],
                before.row[:place] + [n + row for n in rest.row],
                before.column[:place] + rest.column,
            )
    return layout(texts, before.width)
