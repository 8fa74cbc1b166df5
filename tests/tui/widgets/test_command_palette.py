"""Commands by name: which ones a typed word means, and the box in which they are looked for."""

from __future__ import annotations

import pytest
from textual.widgets import Input

from tdiff.tui.command_search import ranked
from tdiff.tui.key_table import KEYS
from tests.support.stage import Stage, in_utc, play, run_lines, run_state  # noqa: F401


def ids(typed: str, here: str = "generation", used: tuple[str, ...] = ()) -> list[str]:
    return [key.id for key in ranked(typed, KEYS, here, used)]


@pytest.mark.parametrize(
    ("typed", "first"),
    [
        ("thres", ["threshold_down", "threshold_up"]),
        ("raise thr", ["threshold_up"]),
        ("zoom", ["zoom_in", "zoom_out"]),
        ("prompt", ["prompt"]),
        ("quit", ["quit"]),
        ("the help", ["help"]),
        ("treshold", ["threshold_down", "threshold_up"]),
    ],
)
def test_a_word_ranks_the_matching_commands_first(typed, first):
    assert ids(typed)[: len(first)] == first


@pytest.mark.parametrize("typed", ["thres", "treshold", "thr lower"])
def test_scattered_letters_do_not_match_a_command(typed):
    assert all(name.startswith("threshold") for name in ids(typed))


def test_an_unknown_word_matches_nothing():
    assert not ids("xyzzyx")


def test_used_commands_come_first_then_those_of_the_pane():
    assert ids("")[0] == "pause" and ids("", "log")[0] == "log_up"
    assert ids("", used=("help", "zoom"))[:3] == ["help", "zoom", "pause"]
    assert ids("thres", used=("threshold_up",)) == ["threshold_up", "threshold_down"]
    assert sorted(ids("")) == sorted(key.id for key in KEYS)


def shown(stage: Stage) -> list[str]:
    return [row for row in stage.rows() if row.startswith("│  ")]


def test_a_command_is_found_by_name_run_and_listed_first_the_next_time():
    async def scene(stage: Stage) -> None:
        await stage.begin()
        await stage.press("colon", *"smooth the")
        assert stage.app.palette._matches[0].id == "smoother"
        await stage.press("down", "enter")
        await stage.settle()
        assert stage.app.training.smoothing == 0.3 and stage.app.focused.id == "generation"
        await stage.press("ctrl+p")
        assert stage.app.palette._matches[0].id == "rougher"

    play(scene, run_state(run_lines()))


@pytest.mark.parametrize("size", [(20, 6), (60, 15), (80, 24), (160, 48)])
def test_the_box_has_the_width_of_the_window_and_the_selected_row_is_in_view(size):
    async def scene(stage: Stage) -> None:
        await stage.begin()
        await stage.press("colon", *["down"] * 9)
        chosen = stage.app.palette._matches[9].does
        assert any(row.startswith(f"│  {chosen[:12]}") for row in stage.rows())
        await stage.press(*["pagedown"] * 9)
        assert stage.app.palette._selected == len(KEYS) - 1
        await stage.press("x", "y", "z")
        assert "no command has" in stage.text()
        await stage.press("enter")
        assert not stage.app.palette.display

    play(scene, run_state(run_lines()), size=size)


def test_the_palette_opens_without_another_screen_and_gets_the_keys_typed_after_its_key():
    async def scene(stage: Stage) -> None:
        await stage.begin()
        from textual import events

        for key in ("colon", *"thres"):
            stage.app.post_message(events.Key(key, ":" if key == "colon" else key))
        await stage.settle()
        assert len(stage.app.screen_stack) == 1
        assert stage.app.query_one("#palette-line", Input).value == "thres"
        assert [key.id for key in stage.app.palette._matches] == ["threshold_down", "threshold_up"]

    play(scene, run_state(run_lines()))


@pytest.mark.parametrize("opens", ["colon", "i"])
@pytest.mark.parametrize("leaves", ["ctrl+c", "escape", "ctrl+g"])
def test_ctrl_c_closes_an_open_line_and_not_the_program(opens, leaves):
    async def scene(stage: Stage) -> None:
        await stage.begin()
        await stage.press(opens, *"abc", leaves)
        assert stage.app.is_running and not stage.app._exit
        assert stage.app.focused is stage.app.canvases.pane
        assert not stage.app.palette.display and not stage.app.lines.ask.display
        assert stage.live.prompt is None
        await stage.press("ctrl+c")
        assert stage.app._exit

    play(scene, run_state(run_lines()))


def test_the_palette_uses_no_icons_and_no_colours():
    async def scene(stage: Stage) -> None:
        await stage.begin()
        await stage.press("o", "colon")
        text = stage.text()
        assert all(ord(character) < 0x2E80 for character in text)
        box = stage.app.palette.region
        rows = stage.strips()[box.y : box.bottom]
        for row in rows:
            for segment in row:
                style = segment.style
                assert style is None or all(c is None or c.is_default for c in (style.color, style.bgcolor)), segment

    play(scene, run_state(run_lines()))
