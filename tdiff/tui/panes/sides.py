"""The panes on the screen: two sides, and what an arrangement displays of them.

With one model, the sides are columns or halves. With two, their canvases are the upper side, with one legend for both,
and all other panes are below.
"""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Container, Vertical
from textual.widget import Widget

from tdiff.draw.overlay import MODES
from tdiff.draw.palettes import Theme
from tdiff.draw.render import legend
from tdiff.tui.layout import COLUMNS_OF_TWO, SIDES, SIDES_OF_TWO, Arrangement
from tdiff.tui.panes.base import Pane
from tdiff.tui.panes.generation import GenerationPane
from tdiff.tui.panes.registry import CANVASES, PANES
from tdiff.tui.widgets.lines import Lines


class Panes(Container):
    """All panes; those that an arrangement names are displayed."""

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

    def compose(self) -> ComposeResult:
        """The two sides."""
        if not self.two:
            for side, names in self._sides.items():
                yield Vertical(*(self.by_name[name] for name in names), id=side)
            return
        yield Vertical(Container(*self.canvases, id="canvases"), self._legend, id="left")
        columns = [self.by_name[name] for name in COLUMNS_OF_TWO]
        yield Vertical(*columns, Vertical(*(self.by_name[name] for name in self._stacked), id="more"), id="right")

    def display_panes(self, arrangement: Arrangement, watched: bool) -> None:
        """Display the panes of an arrangement; those below two canvases are small where no run is `watched`."""
        for name, pane in self.by_name.items():
            pane.display = name in arrangement.panes
        for side, names in self._sides.items():
            count = len(arrangement.panes.intersection(names))
            self.query_one(f"#{side}").display = count > 0
            if not self.two:  # stacked panes have the same number of rows, but curves that come first have more
                more = arrangement.curves_first and "training" in arrangement.panes.intersection(names)
                rows = 1 if arrangement.side_by_side else max(1, count + more)
                self.query_one(f"#{side}").styles.height = f"{rows}fr"
        if arrangement.curves_first != self._curves_first:
            self._curves_first = arrangement.curves_first
            left, right = self.query_one("#left"), self.query_one("#right")
            first, second = (right, left) if self._curves_first else (left, right)
            self.move_child(first, before=second)
            self.by_name["training"].styles.height = "2fr" if self._curves_first else "1fr"
        across = "horizontal" if arrangement.side_by_side else "vertical"
        if self.two:
            self.query_one("#more").display = not arrangement.panes.isdisjoint(self._stacked)
            self.styles.layout = "vertical"
            for part in ("canvases", "right"):
                self.query_one(f"#{part}").styles.layout = across
            self.query_one("#left").styles.height = "1fr" if arrangement.side_by_side and watched else "2fr"
        else:
            self.styles.layout = across
        self.display = not arrangement.tiny

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
