"""The sizes of panes: presets, the keys and the mouse that move borders, and what of it is remembered."""

from __future__ import annotations

import pytest

from tdiff.tui.layout import NAMES, arrange, shown_panes
from tdiff.tui.panes.registry import CANVASES, Situation
from tdiff.tui.sizes import PRESETS, Division, default_shares, divisions, kind_of, moved, shares
from tests.support.stage import Stage, golden, in_utc, play, run_lines, run_state  # noqa: F401

BOTH = ["generation", "training"]


def test_presets_show_what_they_name():
    window = Situation(160, 48)
    shown = {preset.name: shown_panes(window, preset.wanted(window)) for preset in PRESETS}
    assert shown["text"] == shown["curves"] == shown["equal"] == BOTH
    assert shown["everything"] == list(NAMES[:4])
    with_gpus = Situation(80, 24, gpus=True)
    assert shown_panes(with_gpus, PRESETS[3].wanted(with_gpus)) == list(NAMES)
    for preset in PRESETS:
        trace, log = Situation(160, 48, only_traces=True), Situation(160, 48, only_curves=True)
        assert shown_panes(trace, preset.wanted(trace)) == ["generation"], "a trace has no curve"
        assert "generation" not in shown_panes(log, preset.wanted(log)), "a log of another program has no text"
        assert {"training", "log"} <= set(shown_panes(log, preset.wanted(log)))


def test_each_layout_is_divided_into_what_is_beside_each_other():
    def of(width: int, height: int, shown: list[str], two: bool = False, **options) -> list[Division]:
        return divisions(arrange(width, height, shown, shown[0], False, two, **options), two)

    assert of(80, 24, BOTH) == [Division("rows", ("generation", "training"))]
    assert of(80, 24, ["training", "log"], only_curves=True) == [Division("rows", ("training", "log"))]
    assert of(120, 40, BOTH) == [Division("columns", ("left", "right"))]
    assert of(160, 48, list(NAMES[:4])) == [
        Division("columns", ("left", "right")),
        Division("rows", ("generation", "log")),
        Division("rows", ("training", "details")),
    ]
    two = [*CANVASES, "training", "log", "details"]
    assert of(160, 48, two, True) == [
        Division("rows", ("left", "right")),
        Division("columns", CANVASES),
        Division("columns", ("training", "more")),
        Division("rows", ("log", "details")),
    ]
    assert of(80, 15, BOTH) == of(80, 4, BOTH) == [], "one pane has no border"


def test_a_border_stops_at_the_minimum_of_both_sides():
    assert moved([10, 10], 0, 3, [5, 5]) == [13, 7]
    assert moved([10, 10], 0, 9, [5, 5]) == [15, 5]
    assert moved([10, 6, 9], 1, -9, [5, 5, 5]) == [10, 5, 10]
    assert moved([3, 10], 0, -1, [5, 5]) == [3, 10], "a pane that is already smaller stays as it is"


def test_a_pane_without_a_weight_gets_the_mean_of_the_others_and_a_group_what_is_in_it():
    arrangement = arrange(80, 40, ["generation", "training", "log"], "log", False)
    found = shares(arrangement, divisions(arrangement, False), {"generation": 20, "training": 10}, False)
    assert found["log", "rows"] == 15 and found["left", "rows"] == 35 and found["right", "rows"] == 10
    default = default_shares(arrangement, False, True)
    assert (default["left", "rows"], default["right", "rows"]) == (2, 1)


def sizes(stage: Stage) -> dict[str, tuple[int, int]]:
    panes = stage.app.panes.by_name
    return {name: tuple(pane.outer_size) for name, pane in panes.items() if pane.display}


SHARES = {  # the generation's columns or rows by each of the presets
    (80, 24): (14, 6, 10, 7),
    (120, 40): (84, 36, 60, 72),
    (160, 48): (112, 48, 80, 96),
}


@pytest.mark.parametrize("size", SHARES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_a_digit_arranges_the_panes_and_again_restores_the_default(size):
    async def scene(stage: Stage) -> None:
        await stage.begin()
        before = stage.text()
        for digit, share in zip("1234", SHARES[size], strict=True):
            await stage.press(digit)
            assert sizes(stage)["generation"][size[0] < 100] == share, (digit, sizes(stage))
            assert f"{digit} again: the default" in stage.rows()[-2]
        await stage.press("4", "tab", "shift+tab")  # a key removes the notice
        assert stage.text() == before

    play(scene, run_state(run_lines()), size=size)


@pytest.mark.parametrize("digit", "124")
@pytest.mark.parametrize("size", [(80, 24), (120, 40), (160, 48)], ids=lambda size: f"{size[0]}x{size[1]}")
def test_the_screen_of_each_preset(size, digit):
    async def scene(stage: Stage) -> None:
        await stage.begin()
        await stage.press(digit)
        golden(f"preset-{digit}-{size[0]}x{size[1]}", stage.text())

    play(scene, run_state(run_lines()), size=size)


@pytest.mark.parametrize("size", [(1, 1), (20, 6), (39, 16), (40, 16), (60, 11), (100, 7), (101, 16), (300, 5)])
def test_presets_and_sizes_are_drawn_in_tiny_windows(size):
    async def scene(stage: Stage) -> None:
        await stage.begin()
        for digit in "1234":
            await stage.press(digit, "right_parenthesis", "right_curly_bracket", "tab", "left_parenthesis")
            rows = stage.rows()
            assert len(rows) == size[1] and {len(row) for row in rows} == {size[0]}
            for name, (width, height) in sizes(stage).items():
                assert stage.app.panes.by_name[name].region in stage.app.panes.region, (name, width, height)

    play(scene, run_state(run_lines()), size=size)


def test_keys_move_the_border_of_the_focused_pane_until_the_other_is_at_its_minimum():
    async def scene(stage: Stage) -> None:
        await stage.begin()
        await stage.press("right_parenthesis", "right_parenthesis")
        assert sizes(stage) == {"generation": (80, 12), "training": (80, 9)}
        await stage.press("tab", "ctrl+down")
        assert sizes(stage) == {"generation": (80, 11), "training": (80, 10)}
        await stage.press(*["left_parenthesis"] * 9)
        assert sizes(stage) == {"generation": (80, 16), "training": (80, 5)}
        await stage.press("right_curly_bracket")
        assert "no pane shares its columns with this one" in stage.text()
        await stage.pilot.resize_terminal(120, 40)
        await stage.settle()
        assert sizes(stage) == {"generation": (60, 37), "training": (60, 37)}, "another layout has its own sizes"
        await stage.press("right_curly_bracket", "right_curly_bracket")
        assert sizes(stage) == {"generation": (56, 37), "training": (64, 37)}
        await stage.pilot.resize_terminal(80, 24)
        await stage.settle()
        assert sizes(stage) == {"generation": (80, 16), "training": (80, 5)}

    play(scene, run_state(run_lines()))


async def drag(stage: Stage, first: tuple[int, int], *then: tuple[int, int]) -> None:
    await stage.pilot.mouse_down(offset=first)
    for place in then:
        await stage.pilot.hover(offset=place)
    await stage.pilot.mouse_up(offset=then[-1])
    await stage.settle()


def test_the_mouse_drags_borders_between_rows_and_columns():
    async def scene(stage: Stage) -> None:
        await stage.begin()
        kept = []
        stage.app.remember = lambda **changes: kept.append(changes)
        before = sizes(stage)
        assert before["generation"] == (80, 22) and before["log"] == (80, 23)
        await drag(stage, (30, 22), (30, 25), (30, 30))
        assert sizes(stage)["generation"] == (80, 30) and sizes(stage)["log"] == (80, 15)
        await stage.quiet()
        await drag(stage, (80, 40), (99, 39))  # the left border of the right side
        assert sizes(stage)["generation"] == (99, 30) and sizes(stage)["training"] == (61, before["training"][1])
        await stage.quiet()
        await drag(stage, (30, 31), (30, 47))
        assert sizes(stage)["log"] == (99, 5), "the minimum"
        await stage.quiet()
        await drag(stage, (30, 10), (30, 12))
        assert sizes(stage)["log"] == (99, 5), "the text is no border"
        assert [list(change) for change in kept] == [["sizes"]] * 3
        assert kept[-1]["sizes"]["beside"] == {
            "generation": 40, "log": 5, "left": 99, "right": 61
        }  # fmt: skip

    play(scene, run_state(run_lines()), size=(160, 48))


def test_each_of_several_keys_before_the_next_frame_moves_the_border():
    async def scene(stage: Stage) -> None:
        await stage.begin()
        kept = []
        stage.app.remember = lambda **changes: kept.append(changes)
        before = sizes(stage)["generation"][1]
        for _ in range(5):
            stage.app.action_resize("rows", 1)  # without a frame between them
        await stage.settle()
        assert sizes(stage)["generation"][1] == before + 5
        await stage.press("left_parenthesis")
        assert sizes(stage)["generation"][1] == before + 4
        for _ in range(50):
            stage.app.action_resize("rows", 1)
        stage.app.action_resize("rows", -1)
        await stage.settle()
        assert sizes(stage)["training"][1] == 6, "it stops at the minimum of 5, from which the last key moves it back"
        stage.app.action_resize("rows", -1)
        stage.app.action_preset(0)
        await stage.settle()
        stage.app.action_resize("rows", -1)
        await stage.settle()
        assert sizes(stage)["generation"][1] == SHARES[80, 24][0] - 1, "from where the preset has put it"
        assert kept == []
        await stage.quiet()
        assert len(kept) == 1 and kept[0]["preset"] == "text"
        assert kept[0]["sizes"]["stacked"]["generation"] == SHARES[80, 24][0] - 1

    play(scene, run_state(run_lines()))


def test_borders_of_two_models_move_with_their_legend():
    async def scene(stage: Stage) -> None:
        await stage.settle()
        before = sizes(stage)
        await stage.press("tab", "tab", "right_parenthesis")  # the training pane
        after = sizes(stage)
        assert after["training"][1] == before["training"][1] + 1 and after["generation"] == before["generation"]
        assert after["second"][1] == before["second"][1] - 1

    play(scene, run_state(run_lines()), size=(80, 40), second_model="other")

    async def beside(stage: Stage) -> None:
        await stage.settle()
        before = sizes(stage)
        await stage.press("right_curly_bracket", "right_parenthesis")
        after = sizes(stage)
        assert after["generation"] == (before["generation"][0] + 2, before["generation"][1] + 1)
        assert after["second"] == (before["second"][0] - 2, before["second"][1] + 1)

    play(beside, run_state(run_lines()), size=(160, 48), second_model="other")


def test_another_pane_joins_panes_that_were_resized():
    async def scene(stage: Stage) -> None:
        await stage.begin()
        await stage.press(*["right_parenthesis"] * 4, "7")
        assert {name: height for name, (_, height) in sizes(stage).items()} == {
            "generation": 9, "training": 5, "log": 7
        }  # fmt: skip
        assert set(stage.app.arranger.sizes) == {kind_of()}

    play(scene, run_state(run_lines()))


def test_without_a_run_the_text_has_the_room_and_the_last_preset_shows_no_empty_log():
    alone = arrange(80, 24, ["generation", "training"], "generation", False)
    assert default_shares(alone, False, False) == {("left", "rows"): 3.0}
    assert default_shares(arrange(120, 36, ["generation", "training"], "generation", False), False, False) == {
        ("left", "columns"): 3.0
    }
    everything = PRESETS[3]
    assert not everything.wanted(Situation(80, 24, watched=False))["log"]
    assert everything.wanted(Situation(80, 24, watched=True))["log"]
