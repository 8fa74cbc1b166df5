"""The theme and the palette that change while the view runs."""

from __future__ import annotations

from tdiff.draw.palettes import styles
from tdiff.tui import session
from tdiff.tui.adjustable import THEMES
from tdiff.watch.options import Options
from tdiff.watch.preferences import Preferences
from tdiff.watch.view_settings import ViewSettings, load
from tests.support.stage import Stage, in_utc, play, run_lines, run_state, terminal_with  # noqa: F401


def colours(stage: Stage) -> set[int]:
    return {style.color.number for style in stage.styles() if style.color is not None and style.color.number}


def shades(stage: Stage) -> set[int]:
    """The colours of confidence that the theme of the generation pane has."""
    theme = stage.app.canvases.pane.theme
    return {int(shade.removeprefix("color(").removesuffix(")")) for shade in styles(theme).shades}


def test_each_theme_is_drawn_at_once_with_a_palette_for_its_background():
    async def scene(stage: Stage) -> None:
        await stage.begin()
        kept = []
        stage.app.remember = lambda **changes: kept.append(changes)
        dark = shades(stage)
        assert dark <= colours(stage)
        seen = []
        for name in THEMES[1:]:
            await stage.press("T")
            assert f"theme: {name}" in stage.text()
            seen.append(stage.app.theme)
            theme = stage.app.canvases.pane.theme
            assert theme.palette == theme.background == ("dark" if stage.app.current_theme.dark else "light")
            assert shades(stage) <= colours(stage), "canvas and legend have the new colours"
            assert stage.app.training.theme == theme
            written = [
                style for row in stage.strips() for text, style, _ in row if style and style.bgcolor and text.strip()
            ]
            assert all(style.color is not None and not style.color.is_default for style in written), "readable text"
        assert seen == list(THEMES[1:])
        await stage.press("T")
        assert "the colours of the terminal" in stage.text() and stage.app.theme == "ansi-dark"
        assert shades(stage) == dark
        assert kept == [], "keys in quick succession are stored together"
        await stage.quiet()
        assert kept == [{"theme": THEMES[0]}]

    play(scene, run_state(run_lines()), size=(120, 40))


def test_a_palette_chosen_by_the_user_stays_with_another_theme():
    async def scene(stage: Stage) -> None:
        await stage.begin()
        kept = []
        stage.app.remember = lambda **changes: kept.append(changes)
        await stage.press("P")
        await stage.quiet()
        await stage.press("P")
        assert "colours of confidence: traffic" in stage.text()
        await stage.quiet()
        await stage.press("T", "T")
        theme = stage.app.canvases.pane.theme
        assert (stage.app.theme, theme.palette, theme.background) == ("textual-light", "traffic", "light")
        assert kept[:2] == [{"palette": "light"}, {"palette": "traffic"}]
        assert shades(stage) <= colours(stage)
        seen = []
        for _ in range(3):
            await stage.press("P")
            seen.append(stage.app.canvases.pane.theme.palette)
        assert seen == ["light", "traffic", "light"], "shades for a dark background cannot be read on this one"

    play(scene, run_state(run_lines()))


def test_the_command_palette_changes_the_theme_and_names_the_presets():
    async def scene(stage: Stage) -> None:
        await stage.begin()
        await stage.press("colon", *"next theme", "enter")
        assert stage.app.theme == THEMES[1]
        await stage.press("colon", *"curves large", "enter")
        assert stage.app.arranger.preset.name == "curves"

    play(scene, run_state(run_lines()))


def test_without_colours_there_is_no_theme():
    async def scene(stage: Stage) -> None:
        before = stage.app.theme
        await stage.press("T")
        assert stage.app.theme == before and "no colours" in stage.text()

    play(scene, run_state(run_lines()), colour="none")


def test_a_view_begins_as_the_last_one_ended(tmp_path, monkeypatch):
    monkeypatch.setenv("TDIFF_STATE", str(tmp_path))

    def view(preferences: Preferences | None = None, **options):
        return session.view([], Options(**options), terminal_with(), preferences or Preferences())

    async def scene(stage: Stage) -> None:
        stage.app.remember = view().remember
        await stage.press("2", "right_parenthesis", "T", "P")

    play(scene, run_state(run_lines()))
    app = view()
    assert app.arranger.preset.name == "curves" and app.theme == THEMES[1]
    assert app.arranger.sizes["stacked"] == {"generation": 7, "training": 14}
    assert app.canvases.pane.theme.palette == "traffic"
    app = view(theme="nord", palette="dark")
    assert app.theme == "nord" and app.canvases.pane.theme.palette == "dark", "an option comes first"
    app = view(Preferences(theme="dracula"))
    assert app.theme == "dracula", "watch.toml was changed since"
    assert load(Preferences()).theme == THEMES[1]


def test_unknown_names_in_the_remembered_settings_are_left_out():
    async def scene(stage: Stage) -> None:
        stage.app.begin_with(ViewSettings(preset="x", theme="\x1b[31m", palette="y", sizes={"stacked": {"zz": 3}}))
        await stage.press("7")
        assert stage.app.theme == "ansi-dark" and stage.app.arranger.preset is None

    play(scene, run_state(run_lines()))
