"""What each key of the live view does."""

from __future__ import annotations

import json
import platform

import pytest
from textual import events

from tdiff.protocol.messages import Cancel
from tdiff.tui.key_table import KEYS
from tdiff.watch.preferences import Preferences
from tests.support.stage import NOW, TEXT, Stage, header, in_utc, play, run_lines, run_state, steps  # noqa: F401


def test_every_key_of_the_table_has_its_action_and_the_help_and_palette_name_it():
    async def scene(stage: Stage) -> None:
        app = stage.app
        for key in KEYS:
            node = app if key.where == "app" else app.query_one(f"#{key.where}")
            assert callable(getattr(node, f"action_{key.runs.partition('(')[0]}", None)), key
        await stage.press("colon")
        assert sorted(key.id for key in app.palette._matches) == sorted(key.id for key in KEYS)
        await stage.press("escape")
        await stage.press("question_mark")
        page = stage.app.screen.query_one("#page")
        shown = "\n".join("".join(text for text, _ in line) for line in page._lines)
        assert all(key.does in shown for key in KEYS)
        await stage.press("q")
        assert len(app.screen_stack) == 1

    play(scene, run_state(run_lines()))


def test_the_help_is_one_page_that_begins_at_its_top():
    async def scene(stage: Stage) -> None:
        await stage.press("question_mark")
        page = stage.app.screen
        await stage.press("pagedown", "pagedown", "q")
        assert stage.app.screen is not page
        await stage.press("exclamation_mark", "q", "question_mark")
        assert stage.app.screen is page and "Everywhere" in stage.text()

    play(scene)


def test_time_alone_draws_nothing_while_a_text_is_written():
    async def scene(stage: Stage) -> None:
        await stage.begin()
        stage.clock.now += 1
        drawn = []
        stage.app.canvases.pane.frame = lambda *titles: drawn.append(titles)
        stage.app._frame()
        assert not drawn
        await stage.says(*steps(11)[9:])
        assert "tok/s" in str(drawn[-1])

    play(scene, run_state(run_lines()))


def test_no_key_is_reserved_by_screen_tmux_or_terminals():
    from tdiff.tui.key import NEVER

    for key in KEYS:
        # ctrl+z does what it does everywhere.
        assert not NEVER & set(key.keys.split(",")) or key.id == "suspend_process", key
        assert "escape" not in key.keys, "Esc is never the only way"


def test_pause_keeps_the_step_while_generation_continues_and_end_returns_to_the_live_edge():
    async def scene(stage: Stage) -> None:
        await stage.begin(5)
        await stage.press("space")
        assert "paused" in stage.text()
        await stage.says(*steps(9)[5:])
        assert stage.app.canvases.pane.at == 5
        assert stage.live.recording.steps == 9
        await stage.press("end")
        assert stage.app.canvases.pane.at == 9
        assert "live" in stage.rows()[1]

    play(scene, run_state(run_lines()))


def test_stepping_back_masks_positions_that_were_unmasked_later():
    async def scene(stage: Stage) -> None:
        await stage.begin(9)
        pane = stage.app.canvases.pane
        await stage.press("left", "left")
        assert (pane.at, pane.canvas.index) == (7, 7)
        await stage.press("H")
        assert pane.at == 0
        assert pane.canvas.left == len(TEXT) - 4
        await stage.press("l", "L")
        assert pane.at == 9
        await stage.press("home")
        assert pane.at == 0
        assert "Once██████" in stage.text()

    play(scene, run_state(run_lines()))


def test_a_replay_goes_from_the_first_step_to_the_last_by_the_clock():
    async def scene(stage: Stage) -> None:
        await stage.begin(9)
        await stage.press("r")
        assert stage.app.canvases.pane.at == 0
        stage.clock.now += 0.2
        stage.app._frame()
        assert 0 < stage.app.canvases.pane.at < 9
        stage.clock.now += 5
        stage.app._frame()
        assert stage.app.canvases.pane.at == 9
        assert not stage.app.canvases.pane.moving

    play(scene, run_state(run_lines()))


def test_moving_along_the_curve_shows_the_sample_of_that_step():
    async def scene(stage: Stage) -> None:
        await stage.begin()
        await stage.press("tab")
        for _ in range(20):
            await stage.press("shift+left")
        assert "at step 300" in stage.text()
        for _ in range(7):
            await stage.press("shift+right")
        assert "at step 600" in stage.text()
        await stage.press("f")
        assert "live" in stage.rows()[1]

    play(scene, run_state(run_lines()), size=(80, 24))


def test_brackets_step_through_the_samples_and_move_the_cursor():
    async def scene(stage: Stage) -> None:
        await stage.begin()
        await stage.press("[")
        assert "at step 900" in stage.text()
        assert "@900" in stage.text()
        await stage.press("[", "[")
        assert "at step 300" in stage.text()
        await stage.press("[")
        assert "at step 300" in stage.text()
        await stage.press("]")
        assert "at step 600" in stage.text()
        await stage.press("]", "]")
        assert "Once" in stage.text()

    play(scene, run_state(run_lines()))


def test_the_prompt_is_edited_in_place_and_the_next_text_starts_with_it():
    async def scene(stage: Stage) -> None:
        running = await stage.begin()
        await stage.press("i")
        await stage.press(*"Ho", "enter")
        assert Cancel(id=running) in stage.process.asked
        await stage.settle()
        assert stage.process.asked[-1].prompt == "Ho"
        assert stage.app.focused.id == "generation"
        await stage.press("i", "x", "ctrl+g")
        assert stage.live.prompt == "Ho"
        assert stage.app.focused.id == "generation"
        await stage.press("i", "x", "escape")
        assert stage.live.prompt == "Ho"
        assert not stage.app.query_one("#ask").display

    play(scene, run_state(run_lines()))


def test_decoder_and_threshold_change_on_the_fly():
    async def scene(stage: Stage) -> None:
        await stage.begin()
        await stage.press(">", ">")
        assert stage.live.settings.threshold == pytest.approx(0.8)
        assert "threshold 0.8" in stage.text()
        await stage.press(",")
        assert stage.live.settings.threshold == pytest.approx(0.75)
        await stage.press("d", *"topk", "enter")
        assert stage.live.settings.decoder == "topk"
        assert "decoder topk" in stage.text()
        await stage.press(">")
        assert "topk has no threshold" in stage.text()
        assert stage.live.settings.threshold == pytest.approx(0.75)

    play(scene, run_state(run_lines()))


def test_a_dead_model_is_reported_and_restarted_by_a_key():
    async def scene(stage: Stage) -> None:
        await stage.begin()
        stage.process.reason = "killed by signal 9 (out of memory, or kill -9)"
        stage.clock.now += 1
        stage.app._frame()
        await stage.settle()
        assert "killed by signal 9" in stage.text()
        assert "R" in stage.text()
        await stage.press("R")
        assert len(stage.processes) == 2
        assert stage.processes[0].closed
        await stage.begin()
        assert stage.live.state == "generating"

    play(scene, run_state(run_lines()), size=(120, 30))


def test_panes_are_zoomed_hidden_and_shown():
    async def scene(stage: Stage) -> None:
        await stage.begin()
        panes = {name: stage.app.query_one(f"#{name}") for name in ("generation", "training", "log", "details")}

        def shown() -> set[str]:
            return {name for name, pane in panes.items() if pane.display}

        assert shown() == {"generation", "training"}
        await stage.press("z")
        assert shown() == {"generation"}
        await stage.press("tab")
        assert shown() == {"training"}
        await stage.press("z", "7")
        assert shown() == {"generation", "training", "log"}
        assert "loss" in stage.text()
        await stage.press("5", "6", "7")
        assert shown() == {"log"}
        await stage.pilot.resize_terminal(60, 11)
        await stage.settle()
        assert shown() == {"log"}
        await stage.pilot.resize_terminal(100, 30)
        await stage.press("5", "6", "8")
        assert {"generation", "training", "details"} <= shown()

    play(scene, run_state(run_lines()), size=(100, 30))


def test_the_curve_is_zoomed_panned_smoothed_and_its_axes_changed():
    async def scene(stage: Stage) -> None:
        await stage.begin()
        await stage.press("tab")
        pane = stage.app.training
        await stage.press("up", "up")
        assert pane._view.x0 == pytest.approx(752.5)
        await stage.press("<")
        assert pane._view.x0 < 752
        assert "zoomed" in stage.text()
        await stage.press("f")
        assert pane._view.x0 is None
        await stage.press("0")
        assert "raw" in stage.text()
        await stage.press("+", "+")
        assert "EMA .6" in stage.text()
        await stage.press("a")
        assert "by time" in stage.text()
        await stage.press("a")
        assert "by tokens" in stage.text()
        await stage.press("A")
        assert "log" in stage.text()
        await stage.press("/")
        await stage.press(*"grad", "enter")
        assert "train/grad_norm" in stage.text()
        await stage.press("/")
        await stage.press(*"nothing", "enter")
        assert "no metric name contains 'nothing'" in stage.text()

    play(scene, run_state(run_lines()), size=(100, 30))


def test_the_log_follows_scrolls_and_finds():
    async def scene(stage: Stage) -> None:
        await stage.begin()
        await stage.press("7", "tab", "tab")
        assert stage.app.focused.id == "log"
        assert "step 1,000" in stage.text()
        await stage.press("home")
        assert "following" not in stage.text()
        await stage.press("/")
        await stage.press(*"step 700", "enter")
        assert "step 700" in stage.text()
        assert "matching" in stage.text()
        await stage.press("G")
        assert "following" in stage.text()

    play(scene, run_state(run_lines()), size=(120, 40))


def test_up_to_four_runs_are_overlaid_each_with_its_letter():
    async def scene(stage: Stage) -> None:
        await stage.begin()
        text = stage.text()
        assert all(f"{letter} run{letter}" in text for letter in "ABCD")

    play(scene, *(run_state(run_lines(), f"run{letter}") for letter in "ABCD"), size=(120, 30))


def test_an_alert_is_in_the_bottom_line_and_in_the_list():
    async def scene(stage: Stage) -> None:
        await stage.settle()
        assert "spike" in stage.rows()[-2]
        assert "[!] 1 alert" in stage.rows()[-2]
        await stage.press("!")
        assert "spike" in stage.text()
        await stage.press("q")
        assert len(stage.app.screen_stack) == 1

    play(scene, run_state(run_lines()))


def test_user_keys_replace_the_default_keys():
    async def scene(stage: Stage) -> None:
        await stage.begin()
        await stage.press("p")
        assert "paused" in stage.text()
        await stage.press("question_mark")
        assert "p " in "\n".join(stage.rows())

    play(scene, run_state(run_lines()), preferences=Preferences(keys={"pause": "p"}))


def test_an_exported_trace_is_read_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    from tdiff.watch.generation.recording import Recording

    async def scene(stage: Stage) -> None:
        await stage.begin(9)
        await stage.press("x")
        assert "trace-1.jsonl" in stage.text()
        read = Recording.read((tmp_path / "trace-1.jsonl").read_text().splitlines())
        assert read.steps == 9
        assert read.canvas(9) == stage.app.canvases.pane.canvas
        assert read.canvas(4) == stage.live.recording.canvas(4)
        assert '<pre class="canvas">' in (tmp_path / "trace-1.html").read_text()

    play(scene, run_state(run_lines()))


def test_an_open_line_survives_another_window_but_not_another_pane():
    async def scene(stage: Stage) -> None:
        from textual.events import AppBlur, AppFocus

        await stage.begin()
        await stage.press("i", "a", "b")
        ask = stage.app.query_one("#ask")
        for event in (AppBlur(), AppFocus()):
            stage.app.post_message(event)
            await stage.settle()
        assert ask.display and ask.value.endswith("ab") and stage.app.focused is ask
        await stage.pilot.click("#curves")
        await stage.settle()
        assert not ask.display and stage.app.focused.id == "training"

    play(scene, run_state(run_lines()), size=(120, 30))


def test_a_prompt_of_several_lines_is_edited_on_one():
    async def scene(stage: Stage) -> None:
        await stage.begin()
        await stage.press("i", *"ab\\nc", "enter", "i")
        assert stage.app.canvases.live.prompt == "ab\nc"
        assert stage.app.query_one("#ask").value == "ab\\nc"

    play(scene, run_state(run_lines()))


def test_a_notice_is_shown_even_when_the_model_has_died(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    async def scene(stage: Stage) -> None:
        await stage.begin()
        stage.process.reason = "killed by signal 9"
        stage.app._frame()
        await stage.press("x")
        assert "saved trace-1.jsonl" in stage.text()

    play(scene, run_state(run_lines()))


def test_the_palette_names_the_users_own_keys():
    async def scene(stage: Stage) -> None:
        await stage.press("colon")
        assert any("pause or resume" in row and row.endswith(" p  │") for row in stage.rows())

    play(scene, run_state(run_lines()), preferences=Preferences(keys={"pause": "p"}))


def test_a_trace_with_decreasing_step_numbers_can_be_stepped_through():
    from tdiff.protocol.trace import TraceStep
    from tdiff.tui.panes.generation import scrub_line

    assert sum(len(text) for text, _ in scrub_line(10**9, 1, True, 60)) <= 60 + 10
    backwards = [TraceStep(index=n, t=0.5, calls=n, cells=[(n % 7 + 5, "a", 1, 0.5, "commit")]) for n in (10**9, 1)]

    async def scene(stage: Stage) -> None:
        number = await stage.begin(0)
        await stage.says(*backwards)
        await stage.press("left", "left", "right")
        assert number and all(len(row) <= 80 for row in stage.rows())

    play(scene, run_state(run_lines()))


def test_each_alert_marks_the_curve_of_its_run():
    one, other = run_state(run_lines(), name="one"), run_state(run_lines(300), name="other")
    other.start = None

    async def scene(stage: Stage) -> None:
        await stage.press("tab", "a")  # by time, where each run has its own beginning
        pane = stage.app.training
        marks = pane._drawn_view().marks
        curves = {id(one.run): one.curve for one in pane._curves_of()}
        expected = [curves[id(story)].x(n.step) for story in (other, one) for n in story.alerts if n.what != "ended"]
        assert sorted(x for x, _ in marks) == sorted(expected) and 690.0 in expected

    play(scene, one, other, size=(120, 30), model=False)


def test_the_newest_alert_of_all_runs_is_in_the_bottom_line():
    def alert(minutes: int, text: str) -> str:
        return json.dumps({"kind": "alert", "time": NOW + 60 * minutes, "step": 9, "what": "note", "text": text})

    async def scene(stage: Stage) -> None:
        assert "newer of two" in stage.rows()[-2]

    stories = (
        run_state([*run_lines(100), alert(1, "older of one")], name="one"),
        run_state([*run_lines(100), alert(2, "newer of two")], name="two"),
    )
    play(scene, *stories, model=False)


def test_a_stalled_run_has_no_remaining_time():
    async def scene(stage: Stage) -> None:
        assert "ETA" in stage.text()
        stage.clock.now += 7200
        await stage.settle()
        assert "stalled" in stage.text() and "ETA" not in stage.text()

    story = run_state(run_lines())
    play(scene, story, model=False)


@pytest.mark.parametrize(("pane", "keys"), [("generation", "iKING R: quit"), ("log", "/iq:z"), ("training", "/saved")])
def test_keys_typed_right_after_a_key_that_opens_a_line_go_into_it(pane, keys):
    from textual.events import Key

    async def scene(stage: Stage) -> None:
        await stage.begin()
        stage.app.screen.set_focus(stage.app.query_one(f"#{pane}"))
        await stage.pilot.pause()
        names = {"/": "slash", " ": "space", ":": "colon"}
        for character in keys:  # all in one packet, as a slow link brings them
            stage.app.post_message(Key(names.get(character, character), character))
        await stage.settle()
        await stage.settle()
        ask = stage.app.query_one("#ask")
        assert stage.app.is_running and ask.display and ask.value == keys[1:]
        assert len(stage.processes) == 1 and len(stage.app.screen_stack) == 1

    play(scene, run_state(run_lines()), size=(160, 48))


def test_a_pasted_prompt_of_several_lines_keeps_them():
    from textual.events import Paste

    async def scene(stage: Stage) -> None:
        await stage.begin()
        await stage.press("i")
        stage.app.query_one("#ask").post_message(Paste("ROMEO:\nO she\n"))
        await stage.settle()
        assert "prompt" in stage.rows()[-2]  # the question is still shown
        await stage.press("enter")
        assert stage.app.canvases.live.prompt == "ROMEO:\nO she"

    play(scene, run_state(run_lines()))


def test_of_several_runs_the_most_serious_alert_is_shown_and_all_states():
    def ended(name: str):
        return run_state(
            [*run_lines(100), json.dumps({"kind": "end", "time": NOW, "step": 100, "reason": "finished"})], name
        )

    dead = run_state(run_lines(50), "a run that died")
    dead.process = (2**22 + 1, platform.node())

    async def scene(stage: Stage) -> None:
        rows = stage.rows()
        assert all(mark in rows[0] for mark in ("first ✓", "second ✓", "third ✓", "a run that died ✗"))
        assert "a run that died died" in rows[-2]
        await stage.press("exclamation_mark")
        assert "first ended" in stage.text() and "a run that died" in stage.text()

    play(scene, ended("first"), ended("second"), ended("third"), dead, model=False)


def test_the_cursor_reads_only_runs_that_cover_its_step():
    async def scene(stage: Stage) -> None:
        await stage.press("tab", "left", "left")
        assert "B long 1" in stage.text() and "A short 1" not in stage.text()

    play(scene, run_state(run_lines(100), "short"), run_state(run_lines(), "long"), size=(120, 30), model=False)


def test_a_long_message_continues_in_the_next_line_with_the_key_first():
    async def scene(stage: Stage) -> None:
        await stage.begin()
        stage.process.reason = "killed by signal 9 (out of memory, or kill -9), as far as anybody can tell from here"
        stage.app._frame()
        await stage.settle()
        assert "R starts the model again" in stage.rows()[-2] and "tell from here" in stage.rows()[-1]

    play(scene, run_state(run_lines()))


def test_texts_keep_their_numbers_when_the_oldest_are_dropped():
    async def scene(stage: Stage) -> None:
        from tdiff.watch.generation.recording import Recording

        for _ in range(20):
            stage.app.canvases.current.gallery.add_live(Recording(header()), 9)
        labels = [entry.label for entry in stage.app.canvases.current.gallery.entries]
        assert len(set(labels)) == len(labels) == 16 and labels[-1] == "text 20 by step 9"

    play(scene, model=False)


def burst(stage: Stage, *keys: str) -> None:
    """Type keys at once, as a paste or a slow link delivers them."""
    names = {".": "full_stop", ":": "colon", "/": "slash", "?": "question_mark"}
    for key in keys:
        character = key if len(key) == 1 else "\r" if key == "enter" else None
        stage.app.post_message(events.Key(names.get(key, key), character))


def test_keys_that_arrive_at_once_act_in_their_order():
    async def scene(stage: Stage) -> None:
        burst(stage, "tab", "u", "K", "t", *"2.5", "enter", "A", "0")
        await stage.settle()
        assert "raw · log · by step · y zoomed" in stage.text() and "target 2.5" in stage.text()
        burst(stage, "/", *"grad", "enter", "A", "/", *"KtX", "escape")
        await stage.settle()
        assert "train/grad_norm" in stage.text() and "raw · lin · by step" in stage.text()
        burst(stage, "/", "enter", ":", *"at a target", "enter", *"1.9", "enter", "J")
        await stage.settle()
        assert "target 1.9" in stage.text() and not stage.app.lines.ask.display and "y zoomed" in stage.text()
        burst(stage, "?", "q", "z")
        await stage.settle()
        assert stage.app.arranger.displayed == {"training"}

    play(scene, run_state(run_lines()))
