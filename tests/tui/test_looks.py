"""Theme and palette of every view: those of the options, else what is remembered, else those of watch.toml."""

from __future__ import annotations

import pytest

from tdiff.draw.palettes import styles
from tdiff.terminal import detect
from tdiff.tui.classify_app import ClassifyApp
from tdiff.tui.looks import chosen, dress
from tdiff.watch import view_settings
from tdiff.watch.generation.live_prediction import LivePrediction
from tdiff.watch.options import Options
from tdiff.watch.preferences import Preferences
from tests.support.stage import Stage, in_utc, play, run_lines, run_state  # noqa: F401


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("TDIFF_STATE", str(tmp_path / "state"))


def dressed(preferences: Preferences | None = None, colour: str = "256", **options) -> ClassifyApp:
    environ = {"TERM": "xterm-256color"} | ({"NO_COLOR": "1"} if colour == "none" else {})
    terminal = detect.detect(environ, encoding="utf-8", tty=True)
    app = ClassifyApp(LivePrediction(lambda: None, ["a text"]), terminal)
    dress(app, chosen(Options(**options), preferences or Preferences()))
    return app


def test_a_classification_has_the_theme_and_colours_that_can_be_read_on_it():
    app = dressed()
    assert app.theme == "ansi-dark" and app.terminal.theme.palette == "dark"
    app = dressed(theme="solarized-light")
    assert app.theme == "solarized-light"
    assert (app.terminal.theme.background, app.terminal.theme.palette) == ("light", "light")
    assert styles(app.terminal.theme).shades == styles(dressed(palette="light").terminal.theme).shades
    assert dressed(theme="solarized-light", palette="traffic").terminal.theme.palette == "traffic"


def test_an_option_comes_before_what_is_remembered_and_that_before_the_file():
    file = Preferences(theme="nord", palette="traffic")
    app = dressed(file)
    assert (app.theme, app.terminal.theme.palette) == ("nord", "traffic")
    view_settings.remember(file, theme="textual-light", palette="light")
    app = dressed(file)
    assert (app.theme, app.terminal.theme.palette) == ("textual-light", "light")
    assert dressed(file, theme="dracula").theme == "dracula"
    view_settings.remember(file, theme="own", palette="no such")
    app = dressed(file)
    assert (app.theme, app.terminal.theme.palette) == ("ansi-dark", "dark"), "the colours of the terminal"


def test_without_colours_a_theme_adds_none():
    app = dressed(theme="nord", colour="none")
    assert app.terminal.theme.colour == "none"
    assert not any("color" in shade for shade in styles(app.terminal.theme).shades)


def test_the_player_that_a_key_saves_has_the_colours_of_the_screen(here):
    async def scene(stage: Stage) -> None:
        await stage.begin()
        await stage.press("P", "P", "x")
        assert stage.app.canvases.pane.theme.palette == "traffic"

    play(scene, run_state(run_lines()))
    (player,) = here.glob("*.html")
    from tdiff.draw.palettes import Theme
    from tdiff.report.export.colours import colours, hexadecimal

    for shade in styles(Theme(palette="traffic")).shades:
        assert hexadecimal(colours(shade, "dark").text) in player.read_text("utf-8")
