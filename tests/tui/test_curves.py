"""The training pane: labels, axes, comparisons, a target, strips, and the values under the mouse."""

from __future__ import annotations

import json

import pytest
from textual import events

from tdiff.draw.run_styles import run_styles
from tdiff.tui.figures import figures
from tests.support.fed import FedState
from tests.support.stage import (
    NOW,
    Stage,
    in_utc,  # noqa: F401
    play,
    run_lines,
    run_state,
    train_line,
)


def epochs(name: str = "epochs.jsonl"):
    lines = [{"step": n, "loss": 3 - n / 500, "epoch": n / 100, "eval_loss": 3.1 - n / 500} for n in range(1, 301)]
    return run_state([json.dumps(line) for line in lines], name)


def two_runs():
    return run_state(run_lines(), "one"), run_state(run_lines(600), "other")


@pytest.mark.parametrize("colour", ["256", "16", "none"])
def test_the_curves_are_labelled_and_readouts_have_their_colours(colour):
    async def scene(stage: Stage) -> None:
        rows = [row.rstrip(" │") for row in stage.rows()]
        assert [row.split()[-1] for row in rows if row.endswith((" val", " train"))] == ["val", "train"]
        figures = next(line for line in stage.app.training._figures._lines if line)
        styles = {text.strip(): style for text, style in figures}
        train, held = run_styles(0, stage.app.training.theme)
        assert (train != held) is (colour != "none")
        assert styles["train"] == (train or "dim") and styles["val"] == (held or "dim")

    play(scene, run_state(run_lines()), size=(80, 24), model=False, colour=colour)


def test_runs_are_labelled_with_their_names():
    async def scene(stage: Stage) -> None:
        rows = [row.rstrip(" │") for row in stage.rows()]
        assert any(row.endswith(" A one") for row in rows) and any(row.endswith(" B other") for row in rows)
        assert any(row.endswith(" A val") for row in rows) and any(row.endswith(" B val") for row in rows)

    play(scene, *two_runs(), size=(100, 30), model=False)


def test_the_curve_has_more_rows_than_the_log_below_it():
    async def scene(stage: Stage) -> None:
        panes = stage.app.panes.by_name
        assert panes["training"].region.y == 1 and panes["log"].region.y == panes["training"].region.bottom
        assert panes["training"].size.height > 1.5 * panes["log"].size.height

    play(scene, epochs(), size=(100, 30), model=False)


def test_x_is_the_epoch_where_it_is_known():
    async def scene(stage: Stage) -> None:
        pane = stage.app.training
        pane.focus()
        await stage.press("a")
        assert "by epoch" in stage.text()
        assert pane._curves()[-1].x(150) == pytest.approx(1.5, abs=0.01)
        await stage.press("left", "left")
        assert "epoch 2.9" in stage.text()
        await stage.press("a")
        assert "by step" in stage.text()

    play(scene, epochs(), size=(100, 30), model=False)


def test_a_run_without_the_selected_axis_is_left_out_and_named():
    async def scene(stage: Stage) -> None:
        pane = stage.app.training
        pane.focus()
        while "by epoch" not in stage.text():
            await stage.press("a")
        assert {id(one.run) for one in pane._curves_of()} == {id(stage.watched[1].run_state)}
        assert "A has no epoch" in stage.text()

    play(scene, run_state(run_lines(), "one"), epochs(), size=(160, 48), model=False)


def test_from_start_each_run_begins_at_zero():
    late = run_state([train_line(step, 2.0) for step in range(5000, 6000, 10)], "late")

    async def scene(stage: Stage) -> None:
        pane = stage.app.training
        pane.focus()
        await stage.press("s")
        assert "from start" in stage.text()
        assert {curve.x(curve.series.steps[0]) for curve in pane._curves() if "val" not in curve.label} == {0.0}
        await stage.press("s")
        assert pane._curves()[0].x(5000) == 5000

    play(scene, run_state(run_lines(), "one"), late, size=(160, 30), model=False)


@pytest.mark.parametrize(("align", "axis", "start"), [("step", "step", 10), ("time", "time", 0), ("start", "step", 0)])
def test_align_selects_how_runs_lie_on_one_axis(align, axis, start):
    async def scene(stage: Stage) -> None:
        pane = stage.app.training
        pane.begin_with(0.9, None, align)
        pane.redraw()
        assert "EMA .9" in stage.text() or pane.smoothing == 0.9
        assert pane._drawn_view().axis == axis
        assert pane._curves()[-1].x(10) == start

    play(scene, *two_runs(), size=(100, 30), model=False)


def test_the_comparisons_are_the_differences_of_the_curves():
    one, other = two_runs()

    async def scene(stage: Stage) -> None:
        pane = stage.app.training
        pane.focus()
        await stage.press("0", "c")
        [curve] = pane._curves()
        assert "A-B of train/loss" in stage.text() and curve.label == "A-B"
        assert set(curve.series.mean) == {0.0} and curve.series.steps[-1] == 600  # runs with the same records
        await stage.press("c")
        gaps = pane._curves()
        assert [gap.label for gap in gaps] == ["B val-train", "A val-train"]
        assert list(gaps[-1].series.mean) == pytest.approx([0.2] * 4)
        await stage.press("c")
        assert "val/train" in stage.text() and pane._curves()[-1].series.mean[-1] == pytest.approx(
            1.7368 / 1.5368, abs=1e-4
        )
        await stage.press("left")
        assert "@1,000" in stage.text()
        await stage.press("c")
        assert pane._selection.comparison == "" and len(pane._curves()) == 4

    play(scene, one, other, size=(100, 30), model=False)


def test_a_target_is_drawn_and_says_when_it_is_reached():
    async def scene(stage: Stage) -> None:
        stage.app.training.focus()
        await stage.press("t", *"2.5", "enter")
        assert "target 2.5 " in stage.text() and "reached @" in stage.text()
        await stage.press("t", "backspace", "backspace", "backspace", *"x", "enter")
        assert "a target is a number" in stage.text()
        await stage.press("t", "backspace", "backspace", "backspace", "enter")
        assert "target" not in stage.text()

    play(scene, run_state(run_lines()), size=(100, 34), model=False)


def test_one_outlier_does_not_flatten_the_curve_unless_all_values_are_shown():
    lines = run_lines()
    lines.insert(next(n for n, line in enumerate(lines) if '"step": 510' in line), train_line(505, 5e4))

    async def scene(stage: Stage) -> None:
        pane = stage.app.training
        pane.focus()
        await stage.settle()
        assert pane._layout(pane._curves()).y.high < 8
        assert any("│▲" in row or " ▲ " in row for row in stage.rows()[:4])
        await stage.press("e")
        assert pane._layout(pane._curves()).y.high > 4e4 and "all values" in stage.text()
        await stage.press("e", "K", "K", "u", "d", "J")
        assert "y zoomed" in stage.text()
        await stage.press("e")
        assert "y zoomed" not in stage.text() and pane._view.robust

    play(scene, run_state(lines), size=(120, 30), model=False)


def test_strips_are_shown_where_there_is_room_and_on_request():
    async def scene(stage: Stage) -> None:
        stage.app.training.focus()
        strip = "│grad"
        assert (strip in stage.text()) is (stage.app.size.height >= 30)
        await stage.press("w")
        assert strip not in stage.text()

    for size in ((80, 24), (100, 34), (160, 48)):
        play(scene, run_state(run_lines()), size=size, model=False)


def test_the_values_under_the_mouse_are_shown_with_step_and_time():
    async def scene(stage: Stage) -> None:
        pane = stage.app.training
        view = pane._curves_view
        column = pane._layout(pane._curves()).column_of(500)
        view.on_mouse_move(events.MouseMove(view, column, 3, 0, 0, 0, False, False, False, screen_x=column, screen_y=3))
        await stage.settle()
        shown = stage.rows()
        below = next(row for row in shown if "@5" in row or "@49" in row)
        assert " train 1." in below and " val 1." in below and " in " in below and "22:0" in below
        assert any("┊" in row for row in shown)
        assert pane._view.cursor is None
        view.on_leave()
        await stage.settle()
        assert not any("┊" in row for row in stage.rows())

    play(scene, run_state(run_lines()), size=(160, 48), model=False)


def test_the_wheel_zooms_around_the_mouse():
    async def scene(stage: Stage) -> None:
        pane = stage.app.training
        pane._wheel(pane._layout(pane._curves()).column_of(500), 1)
        assert 150 < pane._view.x0 < 200 and 800 < pane._view.x1 < 850
        pane._wheel(40, -3)
        assert pane._view.x0 is None

    play(scene, run_state(run_lines()), size=(120, 30), model=False)


def test_figures_have_the_names_units_and_formats_of_the_table_of_metrics():
    run = run_state([train_line(1, 2.5, time=NOW)])
    assert figures(run, 0.0) == [
        ("train", "2.5000"),
        ("best", "2.5000 @1"),
        ("grad", "0.9100"),
        ("lr", "2.70e-04"),
        ("speed", "87,400 tokens/s"),
        ("GPU", "97%"),
        ("mem", "41.2 GiB"),
        ("temp", "63 °C"),
        ("power", "402 W"),
    ]


def test_the_log_shows_what_the_curve_cannot():
    state = FedState("train.log")
    state.feed([*(f"step {n} loss {3 - n / 100}" for n in range(1, 60)), "saved a checkpoint", "UserWarning: slow"])
    state.feed(["step 60 loss 2.4", "RuntimeError: no"])

    async def scene(stage: Stage) -> None:
        stage.app.panes.by_name["log"].focus()
        await stage.settle()
        await stage.press("w")
        text = stage.text()
        assert "without records 3 of 63" in text and "step 60 loss" not in text and "saved a checkpoint" in text
        await stage.press("w")
        assert "saved a checkpoint" not in stage.text() and "UserWarning: slow" in stage.text()
        await stage.press("w")
        assert "UserWarning" not in stage.text() and "RuntimeError: no" in stage.text()
        await stage.press("w")
        assert "step 60 loss" in stage.text() and "following" in stage.text()

    play(scene, state, size=(120, 30), model=False)
