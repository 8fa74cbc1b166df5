"""The panes on the screen: two sides, and what an arrangement displays of them.

With one model, the sides are columns or halves. With two, their canvases are the upper side, with one legend for both,
and all other panes are below.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from textual import events
from textual.app import ComposeResult
from textual.containers import Container, Vertical
from textual.message import Message
from textual.widget import Widget

from tdiff.draw.overlay import MODES
from tdiff.draw.palettes import Theme
from tdiff.draw.render import legend
from tdiff.tui.layout import COLUMNS_OF_TWO, SIDES, SIDES_OF_TWO, Arrangement
from tdiff.tui.panes.base import Pane
from tdiff.tui.panes.borders import Border, Borders, Held, Requested
from tdiff.tui.panes.generation import GenerationPane
from tdiff.tui.panes.registry import CANVASES, PANES
from tdiff.tui.sizes import LEAST, Axis, Weights, default_shares, divisions, groups, shares, stacked_in
from tdiff.tui.widgets.lines import Lines


class Panes(Container):
    """All panes; those that an arrangement names are displayed. The mouse moves the borders between them."""

    class Resized(Message):
        """The mouse moved a border: the cells of the panes beside it, and whether the button was released."""

        def __init__(self, cells: Mapping[str, int], *, done: bool) -> None:
            super().__init__()
            self.cells, self.done = cells, done

    def __init__(self, theme: Theme, *, two: bool) -> None:
        super().__init__(id="panes")
        self.two = two
        """Whether two models generate."""
        self.canvases = [GenerationPane(theme, id=name, of_two=two) for name in CANVASES[: 1 + two]]
        others = {pane.name: pane.pane_class(theme, id=pane.name) for pane in PANES[1:]}
        self.by_name: dict[str, Pane] = {str(canvas.id): canvas for canvas in self.canvases} | others
        """The panes by name, in the order in which Tab goes through them."""
        self._curves_first = False  # whether the right side is before the left one
        self._mode = MODES[0]  # what the colours of positions mean
        self._theme, self._legend = theme, Lines(id="legend-of-two")
        self._sides = SIDES_OF_TWO if two else SIDES
        self._stacked = [name for name in SIDES_OF_TWO["right"] if name not in COLUMNS_OF_TWO]
        self._borders = Borders((), {})
        self._held: Held | None = None
        self._requested = Requested()

    def compose(self) -> ComposeResult:
        """The two sides."""
        if not self.two:
            for side, names in self._sides.items():
                yield Vertical(*(self.by_name[name] for name in names), id=side)
            return
        yield Vertical(Container(*self.canvases, id="canvases"), self._legend, id="left")
        columns = [self.by_name[name] for name in COLUMNS_OF_TWO]
        yield Vertical(*columns, Vertical(*(self.by_name[name] for name in self._stacked), id="more"), id="right")

    def display_panes(self, arrangement: Arrangement, watched: bool, weights: Weights) -> None:
        """Display the panes of an arrangement, which share its room by `weights`.

        Without weights, those below two canvases are small where no run is `watched`.
        """
        for name, pane in self.by_name.items():
            pane.display = name in arrangement.panes
        for side, names in self._sides.items():
            self.query_one(f"#{side}").display = not arrangement.panes.isdisjoint(names)
        if arrangement.curves_first != self._curves_first:
            self._curves_first = arrangement.curves_first
            left, right = self.query_one("#left"), self.query_one("#right")
            first, second = (right, left) if self._curves_first else (left, right)
            self.move_child(first, before=second)
        across = "horizontal" if arrangement.side_by_side else "vertical"
        if self.two:
            self.query_one("#more").display = not arrangement.panes.isdisjoint(self._stacked)
            self.styles.layout = "vertical"
            for part in ("canvases", "right"):
                self.query_one(f"#{part}").styles.layout = across
        else:
            self.styles.layout = across
        self.display = not arrangement.tiny
        parts: dict[str, Widget] = {**self.by_name, **{name: self.query_one(f"#{name}") for name in groups(self.two)}}
        found = divisions(arrangement, self.two)
        self._borders = Borders(found, parts)
        chosen = default_shares(arrangement, self.two, watched)
        self._requested.keep(weights)
        if weights:
            chosen = shares(arrangement, found, weights, self.two)
        several = len(arrangement.panes) > 1
        for name, widget in parts.items():
            styles = widget.styles
            styles.width = f"{chosen.get((name, 'columns'), 1):g}fr"
            styles.height = f"{chosen.get((name, 'rows'), 1):g}fr"
            styles.min_width = LEAST["columns"] if several and arrangement.side_by_side else 0
            styles.min_height = LEAST["rows"] * stacked_in(name, arrangement, self.two) if several else 0

    # The borders

    def grown(self, name: str, axis: Axis, by: int) -> dict[str, int] | None:
        """The cells of a pane and of those beside it after it got `by` rows or columns; None where it is alone."""
        if (found := self._borders.beside(name, axis)) is None:
            return None
        border, direction = found
        shown = self._borders.cells(border)
        cells = self._moved(border, self._requested.cells(border.division, shown), direction * by)
        self._requested.put(border.division, shown, [cells[name] for name in border.division.members])
        return cells

    def _moved(self, border: Border, cells: Sequence[int], by: int) -> dict[str, int]:
        """The cells beside a border that has moved; the legend of two stacked canvases has a row in the same room."""
        legend = {"legend": 1} if self.two and CANVASES[0] in border.division.members else {}
        return self._borders.moved(border, cells, by) | legend

    def on_mouse_down(self, event: events.MouseDown) -> None:
        """Hold the border under the mouse."""
        border = self._borders.at(event.screen_x, event.screen_y) if event.button == 1 else None
        if border is not None:
            self._held = Held(border, self._borders.cells(border), _along(border, event))
            self.capture_mouse()
            event.stop()

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """Move the border that is held."""
        if (held := self._held) is not None:
            event.stop()
            cells = self._moved(held.border, held.cells, _along(held.border, event) - held.at)
            self.post_message(self.Resized(cells, done=False))

    def on_mouse_up(self, event: events.MouseUp) -> None:
        """Release the border."""
        if (held := self._held) is not None:
            self._held = None
            self.release_mouse()
            event.stop()
            cells = self._moved(held.border, held.cells, _along(held.border, event) - held.at)
            self.post_message(self.Resized(cells, done=True))

    def reveal(self, name: str) -> Pane:
        """That pane, displayed with all containers around it: what is not displayed cannot have the focus."""
        pane = self.by_name[name]
        part: Widget = pane
        while part is not self:
            part.display = True
            assert isinstance(part.parent, Widget)
            part = part.parent
        return pane

    def set_mode(self, mode: str) -> None:
        """Use the colours of positions for `mode`, one of `overlay.MODES`, on every canvas."""
        self._mode = mode
        for canvas in self.canvases:
            canvas.set_mode(mode)
        self._draw_legend()

    def set_theme(self, theme: Theme) -> None:
        """Draw all panes, and the legend of two canvases, with another theme."""
        self._theme = theme
        for pane in self.by_name.values():
            if pane.theme is not theme:
                pane.set_theme(theme)
        self._draw_legend()

    def on_mount(self) -> None:
        """The legend changes with the palette only."""
        self._draw_legend()

    def on_resize(self) -> None:
        """The legend has as many words as fit."""
        self._draw_legend()

    def _draw_legend(self) -> None:
        self._legend.show([[("  ", ""), *legend(self._theme, max(1, self.size.width - 4), self._mode)]])


def _along(border: Border, event: events.MouseEvent) -> int:
    """Where the mouse is on the axis of a border."""
    return event.screen_y if border.division.axis == "rows" else event.screen_x
