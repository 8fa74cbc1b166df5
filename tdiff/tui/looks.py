"""Theme and palette of a view: those of the options, else what is remembered, else those of watch.toml."""

from __future__ import annotations

from dataclasses import replace

from tdiff.draw.palettes import PALETTES
from tdiff.tui.terminal_app import TerminalApp
from tdiff.watch import view_settings
from tdiff.watch.options import Options
from tdiff.watch.preferences import Preferences
from tdiff.watch.view_settings import ViewSettings


def chosen(options: Options, preferences: Preferences) -> ViewSettings:
    """The settings that a view begins with."""
    remembered = view_settings.load(preferences)
    return replace(
        remembered,
        theme=options.theme or remembered.theme or preferences.theme,
        palette=options.palette or remembered.palette or preferences.palette,
    )


def background_of(app: TerminalApp, theme: str) -> str:
    """The background of a theme: dark or light."""
    return "dark" if app.available_themes[theme].dark else "light"


def dress(app: TerminalApp, settings: ViewSettings) -> None:
    """Use a theme and a palette in an app that draws with the theme of its terminal and has no keys for them.

    The palette follows the background of the theme; a theme or a palette that does not exist is left out.
    """
    background = app.terminal.background
    palette = app.terminal.palette
    if settings.theme in app.available_themes:
        app.theme = settings.theme
        background = background_of(app, settings.theme)
        palette = palette if palette == "traffic" else background
    if settings.palette in PALETTES:
        palette = settings.palette
    app.terminal = replace(app.terminal, background=background, palette=palette)
