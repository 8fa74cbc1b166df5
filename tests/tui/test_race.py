"""The screen of a race, the grid of a batch, and the heat map of mask ratios."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rich.style import Style

from tdiff.protocol.messages import Begin, Branch, Lanes, Measured, Refused
from tdiff.protocol.trace import TraceEnd, TraceStep
from tdiff.tui.race_screen import RaceScreen, columns_of, has_room
from tdiff.watch.generation.race import entries
from tests.support.stage import TEXT, Stage, golden, header, in_utc, play, run_lines, run_state, steps  # noqa: F401
from tests.tui.test_lens import detailed
from tests.watch.generation.test_session import ready

HOSTILE = "\x1b[31m\x07\u202e"


async def answer(stage: Stage, count: int, done: bool = False) -> None:
    """Every lane gets the first `count` steps of the text, the second one with another letter and hostile text."""
    await stage.says(ready()) if not any(isinstance(one, Lanes) for one in stage.process.asked) else None
    await frame(stage)
    request = [one for one in stage.process.asked if isinstance(one, Lanes)][-1]
    for n, row in enumerate(request.rows):
        lines = [replace(header(), row=row), *steps(count)]
        if n == 1:
            lines[1] = replace(
                lines[1], cells=[(p, HOSTILE if p == 6 else "z", t, c, e) for p, _, t, c, e in lines[1].cells]
            )
        if done:
            lines.append(TraceEnd(text=TEXT, model_calls=count, forced=0, tokens=96, seconds=0.5))
        for line in lines:
            stage.process.says += [Begin(id=request.id + 1 + n, seconds=0.25), line]
    await frame(stage)


async def frame(stage: Stage) -> None:
    screen = stage.app.screen
    screen.frame()
    screen.draw()
    await stage.pilot.pause()


async def raced(stage: Stage) -> RaceScreen:
    """The screen of a complete race of two decoders, which nothing judges."""
    await stage.begin()
    stage.app._open_race(entries(["confidence", "remdm"]))
    await stage.pilot.pause()
    screen = stage.app.screen
    screen.race._measures = False
    await answer(stage, 9, done=True)
    return screen


def frame_colours(stage: Stage, pane) -> set:
    """The colours of the frame of a pane as it is drawn: of its corners, and of the middle of its sides."""
    region, rows = pane.region, stage.strips()
    columns, lines = (region.x, region.right - 1), (region.y, region.y + region.height // 2, region.bottom - 1)
    cells = [[segment.style for segment in rows[y] for _ in range(segment.cell_length)] for y in lines]
    colours = [row[x].color for row in cells for x in columns]
    return {colour.get_truecolor() if colour is not None else None for colour in colours}


def test_settings_that_are_marked_race_beside_each_other_and_the_winner_is_named():
    async def scene(stage: Stage) -> None:
        await stage.begin()
        await stage.press("d", "tab")
        stage.app.picker._line.value = "conf threshold=0.9"
        await stage.press("tab", "enter")
        assert stage.app.racing.screen is stage.app.screen and stage.processes[0].asked[-1] == "halt"
        await answer(stage, 9)
        text = stage.text()
        assert "A confidence" in text and "B confidence threshold=0.9" in text and "differs @6" in text
        assert "\x1b" not in text and "\u202e" not in text and "in step by calls · call 9" in text
        await stage.press("left")
        assert "paused" in stage.text() and "call 8" in stage.text()
        await stage.press("t")
        assert "in step by time" in stage.text()
        await stage.press("t", "end")
        await answer(stage, 9, done=True)
        measure = stage.process.asked[-1]
        facts = {"corpus": "tale", "distances": [3.0, 0.0], "nats": [2.0, 1.5], "distinct": [0.9, 0.8]}
        stage.process.says.append(Measured(id=measure.id, words=[1.0, 0.9], real=[1.5, 0.8, 0.9], **facts))
        await frame(stage)
        assert "B reads best · decided by n-grams of tale: 1.50 nats/char (real text 1.50)" in stage.text()
        golden("race-100x30", stage.text())
        by_model = {"model": "tale", "distances": [3.0, 0.0], "nats": [0.8, 1.31], "real": [1.24]}
        stage.app.screen.race.measured = Measured(id=measure.id, **by_model)
        stage.app.screen.draw()
        line = " B is nearest to real text by the bound of tale: 1.31 nats/char (1.24)"
        assert f"{line} · A 0.80" in stage.text() and len(line) <= 80
        assert not stage.app.screen._frames._active.is_set(), "a complete race costs nothing"
        winner, other = stage.app.screen.panes[1], stage.app.screen.panes[0]
        green = {Style.parse("color(71)").color.get_truecolor()}
        assert frame_colours(stage, winner) == green, "all four sides of its frame are green"
        assert green.isdisjoint(frame_colours(stage, other))
        await stage.press("left")
        assert green.isdisjoint(frame_colours(stage, winner)), "no text has won before the end"
        await stage.press("end")
        assert frame_colours(stage, winner) == green
        await stage.pilot.resize_terminal(42, 30)
        assert "✓ winner" in stage.text(), "however narrow, and the figures are left out"
        await stage.pilot.resize_terminal(100, 30)
        await stage.press("tab", "enter")
        assert [pane.display for pane in stage.app.screen.panes] == [False, True]
        await stage.press("q", "q")
        assert len(stage.app.screen_stack) == 1 and stage.processes[1].closed
        assert stage.processes[0].asked[-1] == "resume"

    play(scene, run_state(run_lines()), size=(100, 30))


@pytest.mark.slow
def test_a_race_of_the_command_line_begins_before_the_model_and_q_starts_it():
    async def scene(stage: Stage) -> None:
        assert [process.model for process in stage.processes] == ["mine"] and stage.live.state == "off"
        await answer(stage, 5)
        assert "race of 3" in stage.text() and "C topk k=4" in stage.text()
        await stage.press("q")
        assert stage.processes[0].closed and stage.live.state == "loading"

    stage_options = {"size": (80, 24)}
    original = Stage.__init__

    def with_racers(self, *stories, **options):
        original(self, *stories, **options)
        self.app.racers = entries(["confidence", "remdm steps=8", "topk k=4"])

    Stage.__init__ = with_racers
    try:
        play(scene, run_state(run_lines()), **stage_options)
    finally:
        Stage.__init__ = original


def test_a_batch_has_four_texts_or_nine_where_there_is_room():
    async def scene(stage: Stage) -> None:
        await stage.begin()
        await stage.press("s")
        await answer(stage, 5)
        (request,) = [one for one in stage.process.asked if isinstance(one, Lanes)]
        assert request.rows == [0, 1, 2, 3] and request.prompt == "Once" and request.length == len(TEXT) - 4
        golden("texts-80x24", stage.text())
        await answer(stage, 9, done=True)
        assert stage.app.screen.race.complete and not stage.app.screen.race.busy, "rows of a batch do not compete"
        assert "winner" not in stage.text() and "reads best" not in stage.text()
        await stage.press("s")
        assert "9 texts need a window of 100 columns and 32 rows" in stage.text()

    play(scene, run_state(run_lines()))


@pytest.mark.slow
def test_nine_texts_replace_four_in_a_large_window():
    async def scene(stage: Stage) -> None:
        await stage.begin()
        await stage.press("s")
        await stage.pilot.resize_terminal(120, 40)
        await stage.press("s")
        assert len(stage.app.screen.panes) == 9 and stage.processes[1].closed
        await answer(stage, 3)
        assert "9 texts of one batch" in stage.text() and "I row 8" in stage.text()

    play(scene, run_state(run_lines()))


async def detailed_race(stage: Stage, count: int) -> None:
    """Both texts have predictions; the second one begins two steps later."""
    await stage.says(ready())
    await frame(stage)
    request = [one for one in stage.process.asked if isinstance(one, Lanes)][-1]
    assert request.detail
    first, lines = detailed(count)
    for n, settings in enumerate(request.settings):
        for line in [replace(first, settings=settings), *lines[2 * n :]]:
            stage.process.says += [Begin(id=request.id + 1 + n, seconds=0.25), line]
    await frame(stage)


@pytest.mark.parametrize("size", [(80, 24), (120, 30)], ids=lambda size: f"{size[0]}x{size[1]}")
def test_the_lens_of_a_race_shows_one_position_of_every_text(size):
    async def scene(stage: Stage) -> None:
        await stage.begin()
        stage.app._open_race(entries(["confidence", "remdm"]))
        await stage.pilot.pause()
        await detailed_race(stage, 9)
        screen = stage.app.screen
        await stage.press("c")
        at = screen.selection.cursor
        assert stage.text().count(f"@{at} ") == 2, "both texts say what was predicted there"
        golden(f"race-lens-{size[0]}x{size[1]}", stage.text())
        await stage.press("right", "down", "up", "left", "left")
        assert screen.selection.cursor == at - 1 and screen.following, "the arrows move the cursor"
        await stage.press("h")
        assert screen.point == 8 and screen.selection.cursor == at - 1, "h steps"
        await stage.press("enter")
        assert f"@{at - 1} " in stage.text() and "alternatives" not in stage.text()
        await stage.press("escape")
        assert screen.selection.cursor is None and screen._zoomed, "esc removes the cursor first"
        await stage.press("q", "left")
        assert screen.point == 7, "without a cursor the arrows step again"
        first = screen.panes[1]._canvas_view.region
        await stage.pilot.click(offset=(first.x + 8, first.y))
        await stage.settle()
        assert screen.selection.cursor is not None and screen._chosen == 1
        await stage.press("q", "q")
        assert len(stage.app.screen_stack) == 1

    play(scene, run_state(run_lines()), size=size)


@pytest.mark.parametrize("size", [(80, 24), (120, 36), (160, 48)], ids=lambda size: f"{size[0]}x{size[1]}")
def test_a_text_of_a_race_is_changed_and_its_branch_is_beside_it(size):
    async def scene(stage: Stage) -> None:
        screen = await raced(stage)
        await stage.press("u")
        assert "A is no branch" in stage.text()
        await stage.press("tab", "h", "h", "c", "v", "right", "right")
        selected = sorted(screen.selection.selected)
        await stage.press("m")
        await stage.pilot.pause()
        assert [lane.letter for lane in screen.race.lanes] == ["A", "B", "C"]
        assert len(screen.panes) == len(screen.query("LanePane")) == 3
        await frame(stage)
        (request,) = [one for one in stage.process.asked if isinstance(one, Branch)]
        chosen = [n for n, token in enumerate(request.tokens) if token < 0]
        texts = screen.race.lanes[1].recording.canvas(7).texts
        assert request.steps == 7 and {0, 1, 2, 3}.isdisjoint(chosen) and len(selected) == 3
        assert set(selected) <= set(chosen)
        given = [(n, texts[n], token) for n, token in enumerate(request.tokens) if token >= 0]
        step = TraceStep(index=1, t=0.2, calls=1, cells=[(n, "Q" + HOSTILE, 50, 0.4, "commit") for n in selected])
        for line in (replace(header(), given=given), step):
            stage.process.says += [Begin(id=request.id), line]
        await frame(stage)
        assert "m remask" in stage.text() and screen.selection.cursor == selected[-1], "the lens stays"
        await stage.press("c")
        text = stage.text()
        assert "race of 2 · 1 branch" in text and "C branch of B at step 7" in text
        assert f"differs @{selected[0]}" in text and "\x1b" not in text and "\u202e" not in text
        assert screen._chosen == 2 and screen.following
        golden(f"race-branch-{size[0]}x{size[1]}", text)
        await stage.press("u")
        await stage.pilot.pause()
        assert len(screen.panes) == len(screen.query("LanePane")) == 2 and screen._chosen == 1
        await stage.press("q")
        assert len(stage.app.screen_stack) == 1

    play(scene, run_state(run_lines()), size=size)


def test_an_edit_in_a_race_asks_for_the_text_and_a_refusal_is_in_its_pane():
    async def scene(stage: Stage) -> None:
        screen = await raced(stage)
        await stage.press("e")
        assert len(screen.selection.selected) == 1, "without a selection it begins one"
        await stage.press("right", "e")
        at = min(screen.selection.selected)
        assert f"text for positions {at} to {at + 1}" in stage.text()
        await stage.press("ctrl+u", "q", "v", "enter")
        await frame(stage)
        (request,) = [one for one in stage.process.asked if isinstance(one, Branch)]
        assert (request.at, request.room, request.text) == (at, 2, "qv"), "keys are text while the line is open"
        stage.process.says.append(Refused(id=request.id, text="the text has 3 tokens, too many"))
        screen.frame()
        await stage.pilot.pause(0.2)  # what is drawn once the new pane has a size
        assert "too many" in stage.text() and screen.race.complete
        await stage.press("e", "e", "escape")
        assert not screen._ask.display and len(screen.race.lanes) == 3
        await stage.press("n")
        await stage.pilot.pause()
        assert len(screen.panes) == len(screen.race.lanes) == 2, "another row has no branches yet"
        await stage.press("q")
        assert len(stage.app.screen_stack) == 1

    play(scene, run_state(run_lines()))


async def branched(stage: Stage, calls: int) -> RaceScreen:
    """A race of two texts with a branch of the first, which is selected and complete after so many more calls."""
    screen = await raced(stage)
    await stage.press("c", "v", "right", "m")
    await frame(stage)
    (request,) = [one for one in stage.process.asked if isinstance(one, Branch)]
    texts = screen.race.lanes[0].recording.canvas(9).texts
    given = [(n, texts[n], token) for n, token in enumerate(request.tokens) if token >= 0]
    (first, *_) = [n for n, token in enumerate(request.tokens) if token < 0]
    made = [TraceStep(index=n + 1, t=0.2, calls=n + 1, cells=[(first, "Q", 50, 0.4, "commit")]) for n in range(calls)]
    end = TraceEnd(text=TEXT, model_calls=calls, forced=0, tokens=96, seconds=0.5)
    stage.process.says += [Begin(id=request.id), replace(header(), given=given), *made, end]
    await frame(stage)
    assert [lane.letter for lane in screen.race.lanes] == ["A", "C", "B"] and screen._chosen == 1
    return screen


def test_other_texts_keep_the_zoom_and_select_the_root_of_a_branch_and_no_positions():
    async def scene(stage: Stage) -> None:
        screen = await branched(stage, 1)
        await stage.press("enter", "v", "right", "right")
        assert len(screen.selection.selected) == 3
        await stage.press("n")
        await stage.pilot.pause()
        assert screen.race.lanes[screen._chosen].letter == "A", "the text that the branch continued"
        assert [pane.display for pane in screen.panes] == [True, False], "it is still shown alone"
        assert not screen.selection.selected and screen.selection.anchor is None, (
            "m remasks no positions of the former text"
        )
        await stage.press("escape", "q", "tab", "enter", "n")
        await stage.pilot.pause()
        assert screen._chosen == 1 and [pane.display for pane in screen.panes] == [False, True]

    play(scene, run_state(run_lines()), size=(120, 36))


def test_removing_the_longest_text_of_a_paused_race_returns_to_the_end_of_the_others():
    async def scene(stage: Stage) -> None:
        screen = await branched(stage, 5)
        await stage.press("space")
        assert screen.point == screen.race.end("calls") == 14 and "call 14" in stage.text()
        await stage.press("enter", "u")
        await stage.pilot.pause()
        assert screen.point == 9 and "call 9" in stage.text() and "call 14" not in stage.text()
        assert [pane.display for pane in screen.panes] == [True, True], "without its branch it is not alone"

    play(scene, run_state(run_lines()), size=(120, 36))


def test_columns_follow_the_window():
    assert [columns_of(count, 80, 24) for count in (2, 3, 4, 9)] == [1, 1, 2, 3]
    assert [columns_of(count, 160, 48) for count in (2, 3, 4, 9)] == [2, 3, 2, 3]
    assert has_room(4, 80, 24) and not has_room(9, 80, 24) and has_room(9, 120, 36)


def test_v_shows_the_loss_by_mask_ratio_and_the_curves_again():
    async def scene(stage: Stage) -> None:
        await stage.press("tab", "v")
        text = stage.text()
        assert "loss by mask ratio" in text and "t .95" in text and "t .05" in text and "loss 4.29" in text
        golden("heat-80x24", text)
        await stage.press("left")
        assert "┊" in stage.text(), "the cursor of the curve"
        await stage.press("v")
        assert "t .95" not in stage.text()

    play(scene, run_state(run_lines()), colour="none", model=False)
