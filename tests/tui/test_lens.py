"""The lens, drafts, colours and branches in the live view."""

from __future__ import annotations

from dataclasses import replace

from tdiff.protocol.detail import DetailWriter
from tdiff.protocol.messages import Begin, Branch, Refused
from tdiff.protocol.trace import TraceEnd, TraceHeader, TraceStep
from tdiff.tui.panes.lens import Lens
from tdiff.watch.generation.recording import Recording
from tests.support.stage import TEXT, Stage, golden, header, in_utc, play, run_lines, run_state, steps  # noqa: F401

HOSTILE = "\x1b[31m\x07\u202e"
_IDS = {character: n for n, character in enumerate(sorted(set(TEXT)))} | {HOSTILE: 99}


def detailed(count: int) -> tuple[TraceHeader, list[TraceStep]]:
    """The text of the stage with predictions: the likeliest token of a position is right from the middle on."""
    writer = DetailWriter(lambda token: next(text for text, n in _IDS.items() if n == token))
    writer.earn(10**6)
    masked, lines = set(range(4, len(TEXT))), []
    for line in steps(count):
        predictions = {}
        for position in sorted(masked):
            right, wrong = _IDS[TEXT[position]], 99 if position == 40 else _IDS["e"]
            p = min(0.9, 0.2 + 0.04 * line.index + position % 5 / 50)
            order = (
                [(p, right), (0.9 - p, wrong)]
                if right != wrong
                else [(p, right), (0.05, _IDS["x" if "x" in _IDS else "h"])]
            )
            order.sort(reverse=True)
            predictions[position] = [token for _, token in order], [p for p, _ in order], 2.5 - 2 * p
        cells = [(n, TEXT[n], _IDS[TEXT[n]], c, "commit") for n, _, _, c, _ in line.cells]
        detail, tokens = writer.pack(predictions, {cell[0] for cell in cells})
        lines.append(replace(line, cells=cells, detail=detail, tokens=tokens or None))
        masked -= {cell[0] for cell in cells}
    given = [(n, character, _IDS[character]) for n, character in enumerate("Once")]
    return replace(header(), given=given), lines


async def begin(stage: Stage, count: int) -> None:
    first, lines = detailed(count)
    identity = await stage.begin(0)
    stage.app.canvases.pane.recording = None
    await stage.says(Begin(id=identity), first, *lines)


def test_the_lens_at_80x24_is_in_the_frame_and_follows_the_arrows_and_the_steps():
    async def scene(stage: Stage) -> None:
        await begin(stage, 9)
        await stage.press("c")
        pane = stage.app.canvases.pane
        at = pane.lens.cursor
        assert at in pane.canvas.fresh and f"@{at} " in stage.text() and "H=" in stage.text()
        golden("lens-80x24", stage.text())
        await stage.press("right", "right", "left", "down", "up")
        assert pane.lens.cursor == at + 1 and pane.at == 9, "the arrows move the cursor"
        await stage.press("h", "h")
        assert pane.at == 7
        await stage.press("c")
        assert pane.lens.cursor is None and "H=" not in stage.text()
        await stage.press("left")
        assert pane.at == 6, "without a cursor the arrows step again"

    play(scene, run_state(run_lines()))


def test_lens_order_and_drafts_at_160x48_and_hostile_tokens_are_inert():
    async def scene(stage: Stage) -> None:
        await begin(stage, 9)
        assert "tau" not in stage.text() and "τ" in stage.text() and "order" in stage.text()
        await stage.press("c", "D", "o")
        text = stage.text()
        assert "p over steps" in text and "entropy 2.5" in text and "best guess" in text
        golden("lens-160x48", text)
        pane = stage.app.canvases.pane
        pane.look_at(40)
        await stage.settle()
        assert "\x1b" not in stage.text() and "\u202e" not in stage.text()
        assert "[31m" in stage.text(), "the token is shown, and does nothing"
        row = next(y for y, line in enumerate(stage.rows()) if "Once" in line)
        column = stage.rows()[row].index("Once")
        await stage.pilot.click(offset=(column + 6, row))
        assert pane.lens.cursor == 6, "a click looks at the position under the mouse"
        for mode in ("margin", " of 9 ", "rank", "confidence"):
            await stage.press("o")
            assert mode in stage.text()

    play(scene, run_state(run_lines()), size=(160, 48))


def test_a_selection_is_remasked_and_continues_as_a_branch_beside_its_text_and_undo_returns():
    async def scene(stage: Stage) -> None:
        await begin(stage, 9)
        pane, process = stage.app.canvases.pane, stage.process
        await stage.press("space", "h", "c", "v", "right", "right", "m")
        assert not any(isinstance(request, Branch) for request in process.asked), "the text in progress is not ended"
        end = TraceEnd(text=TEXT, model_calls=9, forced=0, tokens=96, seconds=1.0)
        await stage.says(end)
        (request,) = [request for request in process.asked if isinstance(request, Branch)]
        first = pane.canvas.texts
        chosen = [n for n, token in enumerate(request.tokens) if token < 0]
        assert request.steps == 8 and request.frozen == [0, 1, 2, 3] and request.prompt == "Once"
        parent = pane.recording
        given = [(n, first[n], token) for n, token in enumerate(request.tokens) if token >= 0]
        await stage.says(Begin(id=request.id), replace(header(), given=given))
        cells = [(n, "Z", 50, 0.4, "commit") for n in chosen[:3]]
        await stage.says(TraceStep(index=1, t=0.2, calls=1, cells=cells))
        assert pane.recording is not parent and pane.node.name == "B"
        assert "A above, B from step 8 below" in stage.text() and f"first difference @{chosen[0]}" in stage.text()
        assert "step 9 · 35% · 63 left" in stage.text(), "counted from the first step of what it continues"
        assert "Z" in "".join(pane.canvas.texts) and "Z" not in "".join(parent.canvas(parent.steps).texts)
        golden("branch-120x36", stage.text())
        for size in ((80, 36), (160, 36), (60, 22), (42, 30), (60, 16)):
            await stage.pilot.resize_terminal(*size)
            await stage.settle()
            rows = pane.size.height - 4
            assert pane._canvas_view.size.height >= min(3, rows), "the branch has the room where there is little"
            assert pane._parent_view.display is (rows >= 7)
            if pane._rule.display:
                rule = "".join(text for text, _ in pane._rule._lines[0])
                assert len(rule) == pane.size.width - 2 and rule[-1] == "─" and f"@{chosen[0]} " in rule
                assert ("above" in rule or "B from step 8 " in rule) is pane._parent_view.display, rule
        await stage.pilot.resize_terminal(120, 36)
        await stage.settle()
        await stage.press("u")
        assert pane.recording is parent and pane.at == 8 and "A above" not in stage.text()
        await stage.press("b")
        assert pane.recording is not parent and "A above" in stage.text()
        stage.clock.now += 10_000
        await stage.settle()
        assert len([r for r in process.asked if r.kind == "generate"]) == 1, "no text replaces a branch by itself"

    play(scene, size=(120, 36))


def test_an_edit_asks_for_the_text_and_a_refusal_is_said():
    async def scene(stage: Stage) -> None:
        await begin(stage, 9)
        end = TraceEnd(text=TEXT, model_calls=9, forced=0, tokens=96, seconds=1.0)
        await stage.says(end)
        pane = stage.app.canvases.pane
        await stage.press("e")
        assert len(pane.lens.selected) == 1, "without a selection it begins one"
        await stage.press("right", "e")
        await stage.press("ctrl+u", "H", "i", "enter")
        await stage.settle()
        (request,) = [request for request in stage.process.asked if isinstance(request, Branch)]
        assert (request.room, request.text) == (2, "Hi") and request.at == min(pane.lens.cursor, pane.lens.cursor - 1)
        await stage.says(Refused(id=request.id, text="the text has 2 tokens, too many"))
        assert "too many" in stage.text() and pane.node.name == "A"
        assert not pane.lens.selected
        await stage.press("e")
        assert stage.app.lines.ask.value == "Hi" and len(pane.lens.selected) == 2, "nothing that was typed is lost"
        assert "enter accept" in stage.rows()[-1] and "zoom" not in stage.rows()[-1]
        await stage.press("escape", "escape")
        assert pane.lens.cursor is None and "space pause" in stage.rows()[-1]

    play(scene)


def test_enter_forces_an_alternative_in_the_step_before_its_position_was_unmasked():
    async def scene(stage: Stage) -> None:
        await begin(stage, 9)
        await stage.says(TraceEnd(text=TEXT, model_calls=9, forced=0, tokens=96, seconds=1.0))
        pane = stage.app.canvases.pane
        await stage.press("space", "c")
        hints = stage.rows()[-1]
        assert "enter force  v select  m remask  e edit  c off  D drafts  o colours" in hints and "zoom" not in hints
        insight = pane.lens.insight(pane.recording)
        at, committed = next((n, k) for n in range(4, 90) if (k := insight.committed(n, pane.at)) and k > 2)
        pane.look_at(at)
        facts = pane.lens.facts(pane.recording, pane.at)
        await stage.press("enter")
        other = 1 if facts.chosen == 0 else 0
        wanted = facts.alternatives[other]
        assert selected_text(pane) == wanted[0] and "enter force it" in stage.rows()[-1]
        await stage.press("down", "down", "down")
        assert pane.lens.cursor == at and selected_text(pane) == facts.alternatives[1][0], "the arrows select"
        await stage.press(*["up"] * (1 - other))
        await stage.press("enter")
        (request,) = [request for request in stage.process.asked if isinstance(request, Branch)]
        assert request.tokens[at] == _IDS[wanted[0]] and at in request.frozen and request.steps == committed - 1
        now = {n: (n, TEXT[n], token) for n, token in enumerate(request.tokens) if token >= 0} | {
            at: (at, wanted[0], request.tokens[at])
        }
        await stage.says(Begin(id=request.id), replace(header(), given=list(now.values())))
        pane.look_at(at)
        await stage.settle()
        assert pane.lens.facts(pane.recording, pane.at).state == f"forced at step {committed - 1}"
        assert f"forced at step {committed - 1}" in stage.text()
        await stage.press("escape")
        assert pane.lens.cursor is None

    play(scene)


def selected_text(pane) -> str | None:
    """The text of the selected alternative as it is drawn at this step; None where none is."""
    facts = pane.lens.facts(pane.recording, pane.at)
    return None if facts.selected is None else facts.alternatives[facts.selected][0]


def test_the_selected_alternative_stays_the_same_token_while_the_predictions_change():
    async def scene(stage: Stage) -> None:
        await begin(stage, 3)
        pane = stage.app.canvases.pane
        at = next(n for n in range(60, 96) if TEXT[n] not in "e" and n % 3 == 2)
        pane.look_at(at)
        await stage.press("enter")
        assert pane.lens.facts(pane.recording, 3).selected == 0 and selected_text(pane) == "e"
        await stage.says(*detailed(9)[1][3:])
        assert pane.at == 9 and pane.lens.facts(pane.recording, 9).alternatives[0][0] == TEXT[at]
        assert pane.lens.facts(pane.recording, 9).selected == 1 and selected_text(pane) == "e"
        pane.lens.facts(pane.recording, 0)
        assert selected_text(pane) == "e", "asking about another step changes nothing"
        await stage.press("home")
        assert pane.lens.alternative is None and "enter force it" not in stage.rows()[-1], "it is not predicted there"
        await stage.press("end")
        assert selected_text(pane) is None
        await stage.press("enter", "down", "enter")
        await stage.says(TraceEnd(text=TEXT, model_calls=9, forced=0, tokens=96, seconds=1.0))
        (request,) = [request for request in stage.process.asked if isinstance(request, Branch)]
        assert request.tokens[at] == _IDS["e"]

    play(scene)


def test_enter_says_why_nothing_is_forced():
    async def scene(stage: Stage) -> None:
        await begin(stage, 9)
        pane = stage.app.canvases.pane
        pane.look_at(1)
        await stage.press("enter")
        assert "no predictions here: this is a position of the prompt" in stage.text()
        insight = pane.lens.insight(pane.recording)
        pane.look_at(next(n for n in range(4, 90) if insight.look(n, 9).rank == 1))
        token = pane.canvas.texts[pane.lens.cursor]
        await stage.press("enter", "up")
        assert selected_text(pane) == token and "no predictions" not in stage.text()
        await stage.press("enter")
        assert "that token stands there already" in stage.text() and "enter force it" in stage.rows()[-1]
        await stage.press("home", "enter")
        assert "no predictions here: before the first step" in stage.text()
        assert not any(isinstance(request, Branch) for request in stage.process.asked)

    async def without_predictions(stage: Stage) -> None:
        await stage.begin()
        await stage.press("c")
        assert "records them" not in stage.rows()[-2]
        await stage.press("enter")
        assert "no predictions in this trace · tdiff generate --detail records them" in stage.rows()[-2]

    play(scene)
    play(without_predictions)


def test_an_untraced_text_is_looked_at_by_position_in_whatever_order_it_is_given():
    recording = Recording(replace(header(), cells=3, given=[(2, "c", 3), (0, "a", 1), (1, "b", 2)]))
    recording.take(TraceEnd(text="abc", model_calls=0, forced=0, tokens=0, seconds=0.0))
    assert recording.untraced
    lens = Lens()
    for lens.selection.cursor, text in enumerate("abc"):
        facts = lens.facts(recording, 0)
        assert (facts.text, facts.state) == (text, "recorded")


def test_the_picker_of_decoders_names_its_own_keys():
    async def scene(stage: Stage) -> None:
        await stage.begin()
        await stage.press("d")
        stage.app.lines.draw(0.0)
        await stage.settle()
        assert stage.rows()[-1].split() == [
            "↑↓",
            "select",
            "enter",
            "use",
            "tab",
            "mark",
            "for",
            "a",
            "race",
            "esc",
            "close",
        ]

    play(scene)
