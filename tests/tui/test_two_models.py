"""Two models side by side in the live view: what stands where at each size, and what the keys do to which."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rich.cells import cell_len

from tdiff.protocol.messages import Begin, Cancel, Generate
from tdiff.protocol.trace import TraceStep
from tests.support.stage import (  # noqa: F401
    TEXT,
    Stage,
    golden,
    header,
    in_utc,
    play,
    run_lines,
    run_state,
    steps,
)
from tests.watch.generation.test_session import END, ready

FROM_THE_LEFT = {"decoder": "autoregressive", "temperature": 0.7}
OF_GPT = [
    TraceStep(index=n + 1, t=1 - n / 96, calls=n + 1, cells=[(n + 4, TEXT[n + 4], 1, (n * 37 % 100) / 100, "commit")])
    for n in range(80)
]


def asked(stage: Stage, model: str) -> list[Generate]:
    return [request for request in stage.of(model).asked if isinstance(request, Generate)]


async def says(stage: Stage, model: str, *answers) -> None:
    stage.of(model).says += answers
    stage.app._frame()
    await stage.settle()


async def write(stage: Stage, model: str, *lines) -> None:
    """It begins what it was asked for last, with these lines."""
    own = {"decoder": "autoregressive", "settings": {}} if model == "gpt" else {}
    last = asked(stage, model)[-1]
    await says(stage, model, Begin(id=last.id), replace(header(), row=last.row, model=model, **own), *lines)


async def begin(stage: Stage) -> None:
    """Make both ready and start both: one with 9 steps that unmask four positions each, the other with 27 of one."""
    await says(stage, "mine", ready())
    await says(stage, "gpt", replace(ready(decoding=FROM_THE_LEFT), model="gpt-tiny", step=0))
    await write(stage, "mine", *steps(9))
    await write(stage, "gpt", *OF_GPT[:27])


def of_two(scene, *stories, **more) -> Stage:
    return play(scene, *stories, second_model="gpt", **more)


@pytest.mark.parametrize("colour", ["truecolor", "none"])
@pytest.mark.parametrize("size", [(60, 15), (80, 24), (100, 30), (160, 48)], ids=lambda size: f"{size[0]}x{size[1]}")
def test_the_screen_at_each_size_and_depth(size, colour):
    async def scene(stage: Stage) -> None:
        await begin(stage)
        rows = stage.rows()
        assert len(rows) == size[1] and {cell_len(row) for row in rows} == {size[0]}
        golden(f"two-{size[0]}x{size[1]}-{colour}", stage.text())

    of_two(scene, run_state(run_lines()), size=size, colour=colour)


def test_without_a_run_the_canvases_are_larger_with_commands_below():
    async def scene(stage: Stage) -> None:
        await begin(stage)
        golden("two-160x48-no-run", stage.text())

    of_two(scene, size=(160, 48), colour="none")


@pytest.mark.parametrize(
    "size",
    [
        (1, 1),
        (44, 24),
        (80, 21),
        *(pytest.param(size, marks=pytest.mark.slow) for size in ((39, 5), (40, 6), (80, 18), (300, 3), (250, 80))),
    ],
)
def test_every_window_size_is_drawn(size):
    async def scene(stage: Stage) -> None:
        await begin(stage)
        await stage.press("tab", "z", "tab", "left", "z", "tab", "5", "tab", "6", "tab", "5")
        await stage.press(*"1234", "tab", "right_parenthesis", "right_curly_bracket")
        assert len(stage.rows()) == size[1]

    of_two(scene, run_state(run_lines()), size=size)


def test_after_a_resize_the_screen_is_that_of_its_size():
    seen: list[str] = []

    async def scene(stage: Stage) -> None:
        await begin(stage)
        for size in [(160, 48), (60, 15), (80, 18), (100, 30), (80, 24)]:
            await stage.pilot.resize_terminal(*size)
            await stage.pilot.pause(0.05)
        await stage.settle()
        seen.append(stage.text())

    of_two(scene, run_state(run_lines()), size=(1, 1))
    of_two(scene, run_state(run_lines()), size=(80, 24))
    assert seen[0] == seen[1]


def test_each_canvas_shows_model_decoder_and_progress_with_one_legend():
    async def scene(stage: Stage) -> None:
        await begin(stage)
        text = stage.text()
        assert "▶ mine@5 · conf ≥ 0.7" in text and "step 9 · 37% · 61 left" in text
        assert "▶ gpt-tiny · autoregressive" in text and "step 27 · 28% · 70 left" in text
        assert "conf 0.53 · 9 calls" in text and "conf 0.48 · 27 calls" in text
        assert text.count("confidence low") == 1

    of_two(scene, run_state(run_lines()), size=(160, 48))


def test_a_number_distinguishes_the_same_model_twice():
    async def scene(stage: Stage) -> None:
        assert "mine (1)" in stage.text() and "mine (2)" in stage.text()

    play(scene, second_model="mine", size=(80, 24))


def test_tab_goes_through_both_canvases_and_then_to_the_curves():
    async def scene(stage: Stage) -> None:
        await begin(stage)
        seen = []
        for _ in range(4):
            seen.append(stage.app.focused.id)
            await stage.press("tab")
        assert seen == ["generation", "second", "training", "generation"]

    of_two(scene, run_state(run_lines()))


def test_stepping_affects_only_the_focused_canvas():
    async def scene(stage: Stage) -> None:
        await begin(stage)
        one, other = (writing.pane for writing in stage.app.canvases.controllers)
        await stage.press("tab", "left", "left")
        assert (one.at, other.at) == (9, 25)
        assert one.following and not other.following
        await stage.press("end")
        assert other.at == 27 and other.following

    of_two(scene, run_state(run_lines()))


def test_space_pauses_and_resumes_both():
    async def scene(stage: Stage) -> None:
        await begin(stage)
        one, other = (writing.pane for writing in stage.app.canvases.controllers)
        await stage.press("tab", "space")
        await says(stage, "mine", *steps(12)[9:])
        await says(stage, "gpt", *OF_GPT[27:30])
        assert (one.at, other.at) == (9, 27)
        assert stage.text().count("‖ paused") == 2
        await stage.press("space")
        assert (one.at, other.at) == (12, 30)
        assert "paused" not in stage.text()

    of_two(scene, run_state(run_lines()))


def test_resume_does_not_affect_a_canvas_with_an_older_text():
    async def scene(stage: Stage) -> None:
        await begin(stage)
        one, other = stage.app.canvases.controllers
        await stage.press("[", "tab", "space", "space")
        assert one.gallery.selected is not None and not one.pane.following
        assert other.pane.following

    of_two(scene, run_state(run_lines()))


def test_the_prompt_goes_to_both():
    async def scene(stage: Stage) -> None:
        await begin(stage)
        running = {model: asked(stage, model)[-1].id for model in ("mine", "gpt")}
        await stage.press("tab", "i")
        assert "prompt of both" in stage.text()
        await stage.press(*"Ho", "enter")
        assert all(Cancel(id=number) in stage.of(model).asked for model, number in running.items())
        await write(stage, "mine")
        assert [asked(stage, model)[-1].prompt for model in ("mine", "gpt")] == ["Ho", "Ho"]
        assert stage.app.focused.id == "second"

    of_two(scene, run_state(run_lines()))


def test_decoder_and_threshold_are_those_of_the_focused_model():
    async def scene(stage: Stage) -> None:
        await begin(stage)
        await stage.press(">")
        assert asked(stage, "mine")[-1].settings == {"threshold": 0.75}
        assert asked(stage, "mine")[-1].row == 0, "the same text, so that it can be compared"
        assert "mine@5: threshold 0.75" in stage.text()
        assert len(asked(stage, "gpt")) == 1
        await stage.press("tab", ">")
        assert "gpt-tiny: the decoder autoregressive has no threshold" in stage.text()

    of_two(scene, run_state(run_lines()))


def test_a_new_text_starts_for_both():
    async def scene(stage: Stage) -> None:
        await begin(stage)
        await stage.press("tab", "n")
        await write(stage, "mine")
        assert [asked(stage, model)[-1].row for model in ("mine", "gpt")] == [1, 1]

    of_two(scene, run_state(run_lines()))


def test_a_finished_model_waits_for_the_other_before_the_pause():
    async def scene(stage: Stage) -> None:
        await begin(stage)
        await says(stage, "mine", END)
        assert "waits for gpt-tiny" in stage.text()
        await says(stage, "gpt", END)
        assert stage.text().count("next text in 5 s") == 2
        stage.clock.now += 6
        await stage.settle()
        assert len(asked(stage, "mine")) == 2

    of_two(scene, run_state(run_lines()))


def test_one_dead_model_is_restarted_by_a_key_while_the_other_continues():
    async def scene(stage: Stage) -> None:
        await begin(stage)
        stage.of("gpt").reason = "killed by signal 9"
        await says(stage, "mine", END)
        assert "R starts gpt-tiny again · gpt-tiny: the model's process ended: killed by signal 9" in stage.text()
        assert "─ ended " in stage.text()
        stage.clock.now += 6
        await stage.settle()
        assert len(asked(stage, "mine")) == 2
        await stage.press("R")
        assert [process.model for process in stage.processes] == ["mine", "gpt", "gpt"]
        assert "killed by signal 9" not in stage.text()

    of_two(scene, run_state(run_lines()), size=(120, 30))


def test_the_palette_applies_to_both():
    async def scene(stage: Stage) -> None:
        await begin(stage)
        await stage.press("tab", "P")
        one, other = (writing.pane for writing in stage.app.canvases.controllers)
        assert one.theme == other.theme and one.theme.palette == "light"

    of_two(scene, run_state(run_lines()))


def test_in_a_small_window_the_focused_canvas_is_shown_and_a_line_sums_up_the_other():
    async def scene(stage: Stage) -> None:
        await begin(stage)
        assert "╭─ ▶ mine@5" in stage.text() and " not shown: gpt-tiny  step 27" in stage.text()
        await stage.press("tab")
        assert "╭─ ▶ gpt-tiny" in stage.text() and " not shown: mine@5  step 9" in stage.text()
        await stage.press("tab")
        assert " not shown: mine@5  step 9 · 37% · 61 left  gpt-tiny  step 27" in stage.text()

    of_two(scene, run_state(run_lines()), size=(80, 15))


def test_the_canvases_are_shown_and_hidden_together():
    async def scene(stage: Stage) -> None:
        await begin(stage)
        panes = [writing.pane for writing in stage.app.canvases.controllers]
        await stage.press("5")
        assert not any(pane.display for pane in panes) and stage.app.focused.id == "training"
        await stage.press("5", "6")
        assert all(pane.display for pane in panes) and not stage.app.training.display
        await stage.press("5")
        assert all(pane.display for pane in panes), "the last ones stay"

    of_two(scene, run_state(run_lines()))


def test_each_canvas_steps_through_the_texts_of_its_model():
    async def scene(stage: Stage) -> None:
        await begin(stage)
        for model in ("mine", "gpt"):
            await says(stage, model, END)
        stage.clock.now += 6
        await stage.settle()
        await write(stage, "mine")
        await write(stage, "gpt")
        await stage.press("tab", "[")
        one, other = stage.app.canvases.controllers
        assert "gpt-tiny, text 1" in stage.text()
        assert one.gallery.selected is None and other.pane.recording is other.live.recordings[0]

    of_two(scene)


def test_the_help_explains_which_keys_apply_to_both():
    async def scene(stage: Stage) -> None:
        await stage.press("question_mark")
        assert "Two models side by side" in stage.text()
        widest = max(len("".join(text for text, _ in line)) for line in stage.app.screen.query_one("#page")._lines)
        assert widest <= 80

    of_two(scene, size=(80, 24))


def test_a_watched_trace_uses_one_canvas_and_starts_no_model():
    from tdiff.protocol.events import to_line

    trace = run_state([to_line(header()).strip(), *(to_line(step).strip() for step in steps(3))], name="trace.jsonl")

    async def scene(stage: Stage) -> None:
        assert stage.processes == []
        assert [pane.display for pane in (writing.pane for writing in stage.app.canvases.controllers)] == [True, False]
        assert "▶ text 1 · conf ≥ 0.7" in stage.text()

    of_two(scene, trace)


def test_both_processes_end_with_the_view():
    async def scene(stage: Stage) -> None:
        await begin(stage)
        await stage.press("q")

    stage = of_two(scene, run_state(run_lines()))
    assert len(stage.processes) == 2 and all(process.closed for process in stage.processes)
