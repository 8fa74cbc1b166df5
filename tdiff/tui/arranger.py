"""Which panes are on the screen and which one has the focus, after what the user shows, hides and zooms."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tdiff.tui.layout import Arrangement, arrange, shown_panes
from tdiff.tui.panes.base import Pane
from tdiff.tui.panes.registry import CANVASES, Situation
from tdiff.tui.panes.sides import Panes
from tdiff.tui.sizes import PRESETS, Axis, Preset, groups, kind_of, preset_named


class Arranger:
    """Arranges the panes of a screen."""

    def __init__(
        self, panes: Panes, situation: Callable[[], Situation], arranged: Callable[[Arrangement], None]
    ) -> None:
        """`situation` is asked before every arrangement, and `arranged` is called after it."""
        self._panes, self._get_situation, self._arranged = panes, situation, arranged
        self._wanted: dict[str, bool] = {}  # panes that the user has shown or hidden
        self._zoomed = False
        self.preset: Preset | None = None
        """The preset that the user has chosen; None: what is shown depends on the size of the window."""
        self.sizes: dict[str, dict[str, int]] = {}
        """The weights of the panes in each kind of layout (`sizes.kind_of`) that the user has resized."""
        self._kind = kind_of()
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
        self._kind = kind_of(beside=arrangement.side_by_side, two=situation.two)
        self._panes.display_panes(arrangement, situation.watched, self.sizes.get(self._kind, {}))
        self._arranged(arrangement)
        self.displayed = arrangement.panes
        app = self._panes.app
        over_the_panes = app.screen is not self._panes.screen  # then the focus belongs to what lies over them
        if not over_the_panes and app.focused is None and self.last is not None and self.last.display:
            app.screen.set_focus(self.last)  # the focused widget was hidden, which takes the focus away

    def _shown(self) -> list[str]:
        situation = self._get_situation()
        preset = self.preset.wanted(situation) if self.preset is not None else {}
        return shown_panes(situation, preset | self._wanted)

    # Sizes

    def restore(self, preset: str, sizes: Mapping[str, Mapping[str, int]]) -> None:
        """Begin with a preset by its name, "" for none, and with weights."""
        self.preset = preset_named(preset)
        self.sizes = {kind: dict(weights) for kind, weights in sizes.items()}

    def use_preset(self, n: int) -> str:
        """Use a preset by its number, or none where it is used already; a notice."""
        chosen = PRESETS[n] if self.preset is not PRESETS[n] else None
        self.preset, self._wanted, self._zoomed = chosen, {}, False
        self.sizes = chosen.sizes() if chosen else {}
        self.arrange()
        if self.focused is None or not self.focused.display:
            self.step_focus(1)
        return f"{chosen.name}: {chosen.does}; {n + 1} again: the default" if chosen else "the default arrangement"

    def grow(self, axis: Axis, by: int) -> str:
        """Give the focused pane `by` rows or columns of the pane beside it; a notice where it is alone."""
        pane = self.current
        if pane is None or (cells := self._panes.grown(str(pane.id), axis, by)) is None:
            return f"no pane shares its {axis} with this one"
        self.resize(cells)
        return ""

    def resize(self, cells: Mapping[str, int]) -> None:
        """Give panes beside each other these cells; a pane that is shown later has the mean of those beside it."""
        weights, parts = self.sizes.get(self._kind, {}), {*self.displayed, *groups(self._panes.two)}
        self.sizes[self._kind] = {name: weight for name, weight in weights.items() if name in parts} | dict(cells)
        self.arrange()

    # What is shown

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
