"""The view whose looks the user changes while it runs: which panes it shows, their sizes, the theme and the palette."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tdiff.draw.palettes import BACKGROUNDS, PALETTES, Theme
from tdiff.tui.looks import background_of
from tdiff.tui.panes.generation import GenerationPane
from tdiff.tui.panes.sides import Panes
from tdiff.tui.sizes import Axis
from tdiff.tui.view import WatchView
from tdiff.watch.view_settings import Unsaved, ViewSettings

OWN_THEME = "own"
"""The name of the terminal's own colours among the themes."""
THEMES = (
    OWN_THEME,
    "textual-dark",
    "textual-light",
    "nord",
    "gruvbox",
    "dracula",
    "solarized-dark",
    "solarized-light",
    "catppuccin-latte",
)
"""The themes that a key goes through."""


class AdjustableView(WatchView):
    """The view, with the keys that change its looks. What they change is remembered."""

    remember: Callable[..., None] = staticmethod(lambda **changes: None)
    """Stores settings, by the names of `ViewSettings`."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """As that of `WatchView`."""
        super().__init__(*arguments, **options)
        self._unsaved = Unsaved(lambda **changes: self.remember(**changes))

    def begin_with(self, settings: ViewSettings) -> None:
        """Begin with these settings; a theme or an arrangement that does not exist is left out."""
        self.arranger.restore(settings.preset, settings.sizes)
        if settings.theme == OWN_THEME or settings.theme in self.available_themes:
            self._use_theme(settings.theme)
        if settings.palette in PALETTES:
            self.panes.set_theme(replace(self._theme_of_panes, palette=settings.palette))

    def _note(self, **changes: object) -> None:
        """Store these settings once the user changes nothing more."""
        self._unsaved.change(self._clock(), **changes)

    def _update(self) -> None:
        super()._update()
        self._unsaved.poll(self._clock())

    def suspending(self) -> None:
        """Store what has changed: a stopped job may never continue."""
        self._unsaved.save()
        super().suspending()

    def on_unmount(self) -> None:
        """Store what has changed."""
        self._unsaved.save()

    # Panes

    def action_step_focus(self, count: int) -> None:
        """Move the focus `count` panes forward."""
        self.arranger.step_focus(count)

    def action_zoom(self) -> None:
        """Show the focused pane alone, or all panes again."""
        self.arranger.zoom()

    def action_toggle_pane(self, name: str) -> None:
        """Show or hide a pane."""
        self.arranger.toggle(name)
        self.draw_all()

    def action_preset(self, n: int) -> None:
        """Arrange the panes by preset number `n`, or by default where they are."""
        self.say(self.arranger.use_preset(n))
        self.draw_all()
        preset = self.arranger.preset
        self._note(preset=preset.name if preset else "", sizes=self.arranger.sizes)

    def action_resize(self, axis: Axis, by: int) -> None:
        """Give the focused pane so many more rows or columns; fewer where negative."""
        if notice := self.arranger.grow(axis, by):
            self.say(notice)
        else:
            self._note(sizes=self.arranger.sizes)

    def on_panes_resized(self, message: Panes.Resized) -> None:
        """Follow the mouse."""
        self.arranger.resize(message.cells)
        if message.done:
            self._note(sizes=self.arranger.sizes)

    # Colours

    @property
    def _theme_of_panes(self) -> Theme:
        return self.canvases.pane.theme

    @property
    def _is_own(self) -> bool:
        """Whether the colours are those of the terminal."""
        return self.theme.startswith("ansi-")

    def on_generation_pane_theme_changed(self, message: GenerationPane.ThemeChanged) -> None:
        """Use the palette everywhere; where the background is a theme's, the next one that can be read on it."""
        theme = message.theme
        # The terminal's own background may be another than was detected.
        if not self._is_own and theme.palette in BACKGROUNDS and theme.palette != theme.background:
            following = PALETTES[(PALETTES.index(theme.palette) + 1) % len(PALETTES)]
            theme = replace(theme, palette=following)
        self.panes.set_theme(theme)
        self.draw_all()
        self.say(f"colours of confidence: {theme.palette}")
        self._note(palette=theme.palette)

    def action_theme(self, count: int) -> None:
        """Use the theme that is `count` further; the palette of confidence follows its background."""
        if self.terminal.colour == "none":
            self.say("this terminal shows no colours, so no theme")
            return
        now = OWN_THEME if self._is_own else self.theme
        at = THEMES.index(now) if now in THEMES else 0
        name = THEMES[(at + count) % len(THEMES)]
        self._use_theme(name)
        self.draw_all()
        self.say(f"theme: {'the colours of the terminal' if name == OWN_THEME else name}")
        self._note(theme=name)

    def _use_theme(self, name: str) -> None:
        own = self.terminal.theme
        if name == OWN_THEME:
            self.theme, background, palette = f"ansi-{own.background}", own.background, own.palette
        else:
            self.theme = name
            background = palette = background_of(self, name)
        before = self._theme_of_panes
        if before.palette == "traffic":
            palette = before.palette
        self.panes.set_theme(replace(before, background=background, palette=palette))
