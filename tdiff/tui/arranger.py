"""Which panes are on the screen and which one has the focus, after what the user shows, hides and zooms."""

from __future__ import annotations

from collections.abc import Callable

from tdiff.tui.layout import Arrangement, arrange, shown_panes
from tdiff.tui.panes.base import Pane
from tdiff.tui.panes.registry import CANVASES, Situation
from tdiff.tui.panes.sides import Panes


class Arranger:
    """Arranges the panes of a screen."""

    def __init__(
        self, panes: Panes, situation: Callable[[], Situation], arranged: Callable[[Arrangement], None]
    ) -> None:
        """`situation` is asked before every arrangement, and `arranged` is called after it."""
        self._panes, self._get_situation, self._arranged = panes, situation, arranged
        self._wanted: dict[str, bool] = {}  # panes that the user has shown or hidden
        self._zoomed = False
        self.situation = Situation(0, 0)
        """The situation of the last arrangement."""
        self.displayed: frozenset[str] = frozenset()
        """Names of the panes that are displayed."""
        self.last: Pane | None = None
        """The pane that had the focus last."""

    @property
    def focused(self) -> Pane | None:
        """The pane that has the focus."""
        widget = self._panes.app.focused
        return widget if isinstance(widget, Pane) else None

    @property
    def current(self) -> Pane | None:
        """The pane that has the focus, or had it last."""
        return self.focused or self.last

    def focus_back(self) -> None:
        """Give the focus back to the pane that had it last, where it is displayed."""
        self._panes.screen.set_focus(self.last if self.last is not None and self.last.display else None)

    def arrange(self) -> None:
        """Display the panes that have room: side by side, stacked, one alone, or none."""
        situation = self._get_situation()
        if not situation.width or not situation.height:
            return
        self.situation = situation
        name = str(self.current.id) if self.current else ""
        size = situation.width, situation.height
        arrangement = arrange(*size, self._shown(), name, self._zoomed, situation.two, situation.only_curves)
        self._panes.display_panes(arrangement, situation.watched)
        self._arranged(arrangement)
        self.displayed = arrangement.panes
        app = self._panes.app
        over_the_panes = app.screen is not self._panes.screen  # then the focus belongs to what lies over them
        if not over_the_panes and app.focused is None and self.last is not None and self.last.display:
            app.screen.set_focus(self.last)  # the focused widget was hidden, which takes the focus away

    def _shown(self) -> list[str]:
        return shown_panes(self._get_situation(), self._wanted)

    def zoom(self) -> None:
        """Show the focused pane alone, or all panes again."""
        self._zoomed = not self._zoomed
        self.arrange()

    def toggle(self, name: str) -> None:
        """Hide a pane that is displayed, unless it is the last one; show one that is not."""
        before = set(self._shown())
        together = set(CANVASES) if name in CANVASES else {name}
        show = self.displayed.isdisjoint(together) or not before - together
        self._wanted[name] = show
        self.arrange()
        if show and self.displayed.isdisjoint(together):  # no room beside the others
            self.focus_on(name)
        elif self.focused is None or not self.focused.display:
            self.step_focus(1)

    def step_focus(self, count: int) -> None:
        """Move the focus `count` panes forward."""
        names = self._shown()
        focused = self.focused
        at = names.index(str(focused.id)) if focused is not None and focused.id in names else -count
        self.focus_on(names[(at + count) % len(names)])

    def focus_on(self, name: str) -> None:
        """Give the focus to a pane, and room if it needs it."""
        self._panes.screen.set_focus(self._panes.reveal(name))
        self.arrange()
