"""The panes on the screen: two sides, and what an arrangement says of them.

With one model that writes, the sides are columns or halves. With two, their canvases are the upper side, with one
legend for both, and all else is below.
"""

from __future__ import annotations

from collections.abc import Sequence

from textual.app import ComposeResult
from textual.containers import Container, Vertical
from textual.widget import Widget

from tdiff.draw.palettes import Theme
from tdiff.draw.render import legend
from tdiff.tui.layout import PANES, PANES_OF_TWO, SIDES, SIDES_OF_TWO, Arrangement
from tdiff.tui.panes.details import DetailsPane
from tdiff.tui.panes.generation import GenerationPane
from tdiff.tui.panes.log import LogPane
from tdiff.tui.panes.training import TrainingPane
from tdiff.tui.widgets.lines import Lines


class Panes(Container):
    """All panes; those that an arrangement names are displayed."""

    def __init__(
        self,
        canvases: Sequence[GenerationPane],
        training: TrainingPane,
        log: LogPane,
        details: DetailsPane,
        look: Theme,
    ) -> None:
        super().__init__(id="panes")
        self._canvases, self._training, self._log_pane, self._details = canvases, training, log, details
        self.two = len(canvases) > 1
        """Whether two models write."""
        self._look, self._legend = look, Lines(id="legend-of-two")

    def compose(self) -> ComposeResult:
        """The two sides."""
        with Vertical(id="left"):
            if self.two:
                yield Container(*self._canvases, id="canvases")
                yield self._legend
            else:
                yield from self._canvases
                yield self._log_pane
        with Vertical(id="right"):
            yield self._training
            if self.two:
                yield Vertical(self._log_pane, self._details, id="more")
            else:
                yield self._details

    def stand(self, how: Arrangement, watched: bool) -> None:
        """Display what it says; what is beside two canvases is small where nothing is `watched`."""
        for name in PANES_OF_TWO if self.two else PANES:
            self.pane(name).display = name in how.panes
        for side, names in (SIDES_OF_TWO if self.two else SIDES).items():
            count = len(how.panes.intersection(names))
            self.query_one(f"#{side}").display = count > 0
            if not self.two:  # of panes above one another, each has as many rows as another
                self.query_one(f"#{side}").styles.height = "1fr" if how.beside else f"{max(1, count)}fr"
        across = "horizontal" if how.beside else "vertical"
        if self.two:
            self.query_one("#more").display = not how.panes.isdisjoint(("log", "details"))
            self.styles.layout = "vertical"
            for part in ("canvases", "right"):
                self.query_one(f"#{part}").styles.layout = across
            self.query_one("#left").styles.height = "1fr" if how.beside and watched else "2fr"
        else:
            self.styles.layout = across
        self.display = not how.tiny

    def pane(self, name: str) -> Widget:
        """The pane of that name."""
        return self.query_one(f"#{name}")

    def reveal(self, name: str) -> Widget:
        """That pane, displayed with all that it stands in: what is not displayed cannot have the focus."""
        pane: Widget | None = self.pane(name)
        assert pane is not None
        part = pane
        while part is not self:
            part.display = True
            assert isinstance(part.parent, Widget)
            part = part.parent
        return pane

    def set_look(self, look: Theme) -> None:
        """Draw all canvases, and the legend of two, with another look."""
        self._look = look
        for canvas in self._canvases:
            if canvas.look is not look:
                canvas.set_look(look)
        self._draw_legend()

    def on_mount(self) -> None:
        """The legend never changes but for the palette."""
        self._draw_legend()

    def on_resize(self) -> None:
        """It has as many words as fit."""
        self._draw_legend()

    def _draw_legend(self) -> None:
        self._legend.show([[("  ", ""), *legend(self._look, max(1, self.size.width - 4))]])
