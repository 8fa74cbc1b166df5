"""The live view as a whole: what stands on the screen at each size and depth of colour, from its start to its end."""

from __future__ import annotations

import json
import re
from functools import cache

import pytest
from rich.cells import cell_len

from tdiff.errors import TdiffError
from tdiff.protocol.messages import Begin, Generate
from tdiff.tui.key_table import remapped
from tdiff.tui.widgets.lines import shortened, whole_figures
from tests.support.stage import (
    NOW,
    Source,
    Stage,
    golden,
    header,
    play,
    run_lines,
    run_state,
    steps,
    train_line,
)
from tests.watch.generation.test_session import END, HEADER, ready

# What stands there

SIZES = [(60, 15), (80, 11), (80, 24), (100, 30), (160, 48)]
CODES = {
    "truecolor": r"[345][0-9](;.*)?|9[0-9]|10[0-9]|\d",
    "256": r"(38|48);5;\d+|[34][0-79]|9[0-7]|10[0-7]|\d",
    "16": r"[34][0-79]|9[0-7]|10[0-7]|\d",
    "none": r"\d",
}


@pytest.mark.parametrize("colour", ["truecolor", "256", "16", "none"])
@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_the_screen_at_each_size_and_depth(size, colour):
    seen = {}

    async def scene(stage: Stage) -> None:
        await stage.begin()
        seen["text"], seen["styles"], seen["rows"] = stage.text(), stage.styles(), stage.rows()

    play(scene, run_state(run_lines()), size=size, colour=colour)
    assert len(seen["rows"]) == size[1]
    assert {cell_len(row) for row in seen["rows"]} == {size[0]}
    golden(f"watch-{size[0]}x{size[1]}-{colour}", seen["text"])
    system = {"truecolor": 3, "256": 2, "16": 1, "none": 1}[colour]
    from rich.color import ColorSystem

    for style in seen["styles"]:
        codes = style._make_ansi_codes(ColorSystem(system))
        for code in re.findall(r"(?:38|48);(?:5;\d+|2;\d+;\d+;\d+)|\d+", codes):
            assert re.fullmatch(CODES[colour], code), (style, codes)


def test_80x24_shows_both_panes_with_blocks_and_a_chart_of_at_least_60_columns():
    async def scene(stage: Stage) -> None:
        await stage.begin()
        rows = stage.rows()
        assert any("█a██i██l██g██" in row for row in rows)
        assert stage.app.training._curves_view.size.width >= 60
        assert any("train/loss" in row for row in rows)
        assert any("step 9 · 37% · 61 left" in row for row in rows)

    play(scene, run_state(run_lines()))


def test_without_a_run_the_empty_pane_says_what_to_type():
    async def scene(stage: Stage) -> None:
        await stage.settle()
        assert "tdiff train --run mine" in stage.text()
        assert "no run" in stage.rows()[0]

    play(scene, size=(80, 24))


def test_a_run_that_starts_later_is_added():
    later = []

    async def scene(stage: Stage) -> None:
        later.append(Source(run_state(run_lines(), "later")))
        await stage.settle()
        assert "later" in stage.rows()[0]
        assert "train/loss" in stage.text()

    play(scene, find_run=lambda: later[0] if later else None)


@pytest.mark.parametrize("size", [(1, 1), (2, 30), (39, 5), (20, 3), (10, 40), (300, 3), (40, 6), (79, 7), (250, 80)])
def test_every_window_size_is_drawn(size):
    async def scene(stage: Stage) -> None:
        await stage.begin()
        await stage.press("tab", "right", "z", "tab", "left", "z")
        assert len(stage.rows()) == size[1]

    play(scene, run_state(run_lines()), size=size)


@pytest.mark.parametrize("pane", ["generation", "training"])
@pytest.mark.parametrize("size", [(20, 6), (20, 30), (39, 24)])
def test_a_narrow_window_shows_one_pane_whole(size, pane):
    async def scene(stage: Stage) -> None:
        await stage.begin()
        if pane == "training":
            await stage.press("tab")
        [panes] = [[row for row in stage.rows() if row.startswith("╭") and row.endswith("╮")]]
        assert len(panes) == 1 and stage.app.focused.id == pane
        assert ("▶ live" in panes[0]) is (pane == "generation")
        assert sum(row.startswith("╰") and row.endswith("╯") for row in stage.rows()) == 1

    play(scene, run_state(run_lines()), size=size)


@pytest.mark.parametrize(
    ("size", "words"),
    [
        ((19, 24), "needs 20x6"),
        ((80, 5), "tdiff needs 6 rows  tdiff watch  mine ● running"),
        ((20, 5), "tdiff needs 6 rows"),
        ((8, 3), "20x6"),
    ],
)
def test_a_window_with_no_room_for_a_pane_says_what_is_needed(size, words):
    async def scene(stage: Stage) -> None:
        await stage.begin()
        assert stage.rows()[0].strip().startswith(words)
        assert not "".join(stage.rows()[1:]).strip()

    play(scene, run_state(run_lines()), size=size)


def test_where_one_pane_has_room_a_number_brings_its_pane_and_hides_it_again():
    async def scene(stage: Stage) -> None:
        await stage.begin()
        for key, name in (("7", "log"), ("8", "details"), ("6", "training"), ("5", "generation")):
            await stage.press(key)
            assert {
                pane for pane in ("generation", "training", "log", "details") if stage.app.query_one(f"#{pane}").display
            } == {name}
            assert stage.app.focused.id == name
        await stage.press("8", "8")
        assert stage.app.focused.id != "details" and not stage.app.panes.by_name["details"].display

    play(scene, run_state(run_lines()), size=(60, 15))


def test_panes_are_never_stacked_with_less_than_six_rows_each():
    async def scene(stage: Stage) -> None:
        await stage.begin()
        for height in (16, 22, 30):
            await stage.pilot.resize_terminal(59, height)
            await stage.press("7", "8")
            panes = [pane for pane in stage.app.query("Pane") if pane.display]
            assert len(panes) >= 2 and min(pane.size.height for pane in panes) >= 6, (height, panes)
            await stage.press("7", "8")

    play(scene, run_state(run_lines()), size=(59, 16))


def test_after_many_resizes_the_screen_is_that_of_the_last_size():
    async def scene(stage: Stage) -> None:
        await stage.begin()
        calm = stage.text()
        for width, height in [(30, 8), (160, 50), (80, 11), (1, 1), (100, 30), (45, 20)] * 3:
            await stage.pilot.resize_terminal(width, height)
        await stage.pilot.resize_terminal(80, 24)
        await stage.pilot.pause(0.1)
        await stage.settle()
        assert stage.text() == calm

    play(scene, run_state(run_lines()))


@pytest.mark.parametrize("last", [(80, 24), (39, 5), (60, 15), (100, 30), (160, 48), (80, 11)])
@pytest.mark.parametrize("first", [(1, 1), (80, 24), (39, 5), (160, 48)])
def test_after_one_resize_the_screen_is_that_of_its_size(first, last):
    assert screen_after_a_resize(first, last) == screen_of(last)


@cache
def screen_of(size: tuple[int, int]) -> str:
    """The screen of a run in a window that has had this size from the start."""
    return screen_after_a_resize(size, size)


def screen_after_a_resize(first: tuple[int, int], last: tuple[int, int]) -> str:
    async def scene(stage: Stage) -> None:
        await stage.begin()
        if stage.app.size != last:
            await stage.pilot.resize_terminal(*last)
            await stage.pilot.pause(0.05)
        await stage.settle()
        seen.append(stage.text())

    seen: list[str] = []
    play(scene, run_state(run_lines()), size=first)
    return seen[0]


def test_redraw_forgets_what_every_widget_has_written():
    async def scene(stage: Stage) -> None:
        await stage.begin()
        lines = [widget for widget in stage.app.screen.walk_children() if hasattr(widget, "lose")]
        assert len(lines) > 9
        for widget in lines:
            widget._shown = {0: [("x", None)]}
        stage.app.redraw_screen()
        assert not any(widget._shown for widget in lines)

    play(scene, run_state(run_lines()))


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ({"pause": "ctrl+a"}, "keys.pause: 'ctrl\\+a' cannot be used"),
        ({"pause": ""}, "keys.pause: an empty name cannot be used"),
        ({"pauze": "p"}, "unknown key id 'pauze'; did you mean pause"),
        ({"pause": "nonsensekey"}, "unknown key of keys.pause 'nonsensekey'"),
        ({"pause": "q"}, "'q' already belongs to quit"),
        ({"pause": "left"}, "'left' already belongs to"),
    ],
)
def test_invalid_keys_are_refused_before_the_screen_opens(keys, why):
    with pytest.raises(TdiffError, match=why):
        remapped(keys)


def test_ctrl_c_always_quits():
    assert remapped({"quit": "Q"}) == {"quit": "Q,ctrl+c"}
    assert remapped({"pause": "p", "quit": "Q,ctrl+c"}) == {"pause": "p", "quit": "Q,ctrl+c"}


def test_a_recorded_sample_is_shown_before_the_model_has_loaded(tmp_path):
    from tdiff.protocol.events import to_line

    (tmp_path / "samples").mkdir()
    lines = [to_line(header()), *map(to_line, steps(20))]
    (tmp_path / "samples" / "00000900.jsonl").write_text("".join(lines))

    async def scene(stage: Stage) -> None:
        assert stage.live.state == "loading"
        assert "Once" in stage.text()
        assert stage.app.canvases.pane.recording.steps == 20

    play(scene, run_state(run_lines()), folder=tmp_path)


def test_a_path_of_a_sample_that_leaves_the_runs_folder_is_not_read(tmp_path):
    secret = tmp_path / "secret.jsonl"
    secret.write_text("secret")
    run = tmp_path / "run"
    run.mkdir()
    lines = [line.replace("samples/00000900.jsonl", "../secret.jsonl") for line in run_lines()]

    async def scene(stage: Stage) -> None:
        await stage.press("[")
        assert "at step 900" in stage.text()  # its text, from the log
        assert "secret" not in stage.text()

    play(scene, run_state(lines), folder=run)


def test_quitting_closes_processes_and_sources():
    async def scene(stage: Stage) -> None:
        await stage.begin()
        await stage.press("q")

    stage = play(scene, run_state(run_lines()))
    assert stage.process.closed
    assert all(source.closed for source in stage.watched)


def test_a_detached_view_draws_nothing_and_reports_the_news_on_return(monkeypatch):
    there = [True]

    async def scene(stage: Stage) -> None:
        monkeypatch.setattr(stage.app.attached, "now", lambda: there[0])
        stage.clock.now = NOW
        await stage.begin(5)
        there[0] = False
        await stage.settle()
        before = stage.text()
        assert "mine ● running at 22:13 " in before  # and not how long ago: it stays there
        stage.watched[0].run_state.feed([train_line(step, 1.2) for step in range(1010, 1100, 10)])
        await stage.says(*steps(9)[5:])
        assert stage.text() == before
        stage.clock.now += 3600
        there[0] = True
        await stage.settle()
        await stage.settle()
        assert "while you were away" in stage.text()
        assert "90 steps" in stage.text()
        assert stage.app.canvases.pane.at == 9
        await stage.press("question_mark", "q")
        assert "while you were away" not in stage.text()

    play(scene, run_state(run_lines()), size=(120, 30))


def test_records_read_while_detached_are_drawn_after_attaching(monkeypatch):
    there = [False]

    async def scene(stage: Stage) -> None:
        monkeypatch.setattr(stage.app.attached, "now", lambda: there[0])
        stage.watched[0].run_state.feed([train_line(1010, 1.2)])
        news = [True]
        stage.watched[0].poll = lambda: bool(news) and news.pop()
        await stage.settle()
        assert "step 1,010" not in stage.text()
        there[0] = True
        await stage.settle()
        assert "step 1,010" in stage.text()

    play(scene, run_state(run_lines()), model=False)


def test_after_a_text_the_pause_before_the_next_is_shown():
    async def scene(stage: Stage) -> None:
        await stage.begin()
        await stage.says(END)
        assert "next text in 5 s" in stage.text()
        stage.clock.now += 6
        await stage.settle()
        assert sum(isinstance(request, Generate) for request in stage.process.asked) == 2

    play(scene, run_state(run_lines()))


@pytest.mark.parametrize("before", [(), ("question_mark",), ("colon",), ("i",)])
def test_ctrl_z_halts_the_model_which_resumes_with_the_view(before):
    async def scene(stage: Stage) -> None:
        await stage.begin()
        await stage.pilot.press(*before, "ctrl+z")
        await stage.pilot.pause()
        assert "halt" in stage.process.asked
        await stage.settle()
        assert stage.process.asked[-1] == "resume"

    play(scene, run_state(run_lines()))


def test_without_input_the_model_generates_seldom_until_a_key_is_pressed():
    async def scene(stage: Stage) -> None:
        def asked() -> list[Generate]:
            return [request for request in stage.process.asked if isinstance(request, Generate)]

        async def minute() -> None:
            for _ in range(7):
                stage.clock.now += 10
                await stage.settle()

        await stage.begin()
        await minute()
        await stage.says(END)
        assert stage.live.slow and "next text in 22 min · any key: now" in stage.text()
        await minute()
        assert len(asked()) == 1
        await stage.press("shift+tab")
        assert not stage.live.slow and len(asked()) == 2

    play(scene, run_state(run_lines()))


def test_a_detached_screen_shows_no_outdated_state(monkeypatch):
    there = [True]

    async def scene(stage: Stage) -> None:
        monkeypatch.setattr(stage.app.attached, "now", lambda: there[0])
        await stage.settle()
        assert "loading mine" in stage.text()
        there[0] = False
        await stage.settle()
        assert "loading mine" in stage.text()
        await stage.says(ready())
        await stage.settle()
        assert "loading mine" not in stage.text(), stage.text()
        assert "idle: detached" in stage.text()
        there[0] = True
        await stage.settle()
        request = stage.process.asked[-1]
        await stage.says(Begin(id=request.id), header(), *steps(3))
        there[0] = False
        await stage.settle()
        await stage.says(*steps(9)[3:], END)
        await stage.settle()
        assert "idle: detached" in stage.text() and "step 9" in stage.text()
        story = stage.watched[0].run_state
        ended = {"kind": "end", "time": NOW, "step": 1000, "reason": "finished"}
        story.feed([json.dumps(ended)])
        await stage.settle()
        assert story.state(stage.clock.now) in stage.rows()[0] and "running" not in stage.rows()[0]
        assert not [request for request in stage.process.asked[1:] if isinstance(request, Generate)]

    play(scene, run_state(run_lines()), size=(100, 30))


def test_without_a_model_the_recorded_sample_stays_and_model_keys_give_a_notice():
    async def scene(stage: Stage) -> None:
        await stage.press("[")
        assert "at step" in stage.text()
        await stage.press("d")
        assert "no model's process" in stage.text()

    play(scene, run_state(run_lines()), model=False)


assert HEADER


def test_panes_hidden_in_a_large_window_leave_one_in_a_small_one():
    async def scene(stage: Stage) -> None:
        await stage.press("5", "6")  # log and details are left
        for size in ((80, 11), (80, 24), (160, 48)):
            await stage.pilot.resize_terminal(*size)
            await stage.press("tab")
            assert any(stage.app.query_one(f"#{name}").display for name in ("generation", "training", "log", "details"))

    play(scene, run_state(run_lines()), size=(160, 48))


@pytest.mark.parametrize("path", ["x" * 300, "circle", "../x", "samples", "no/such", "\0"])
def test_a_sample_with_any_path_shows_its_text(path, tmp_path):
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    (tmp_path / "samples").mkdir()
    sample = {"kind": "sample", "time": NOW, "step": 990, "prompt": "Once", "text": "Once and again", "path": path}

    async def scene(stage: Stage) -> None:
        assert "Once and again" in stage.text()

    play(scene, run_state([*run_lines(), json.dumps(sample)]), folder=tmp_path, model=False)


def test_of_a_sample_without_a_trace_only_the_text_is_shown():
    sample = {"kind": "sample", "time": NOW, "step": 990, "prompt": "Once", "text": "Once and again", "path": ""}

    async def scene(stage: Stage) -> None:
        text = stage.text()
        assert "Once and again" in text
        for unknown in ("conf ", "calls", "tok/s", "left", "τ", "commits", "order"):
            assert unknown not in text.replace("confidence", ""), unknown
        await stage.press("c")
        assert "was recorded without its steps" in stage.text() and "prompt ·" not in stage.text()
        await stage.press("m")
        assert "this sample was recorded without its steps" in stage.rows()[-2], "nothing can continue it"

    play(scene, run_state([*run_lines(), json.dumps(sample)]), size=(80, 48))


def test_non_finite_or_huge_numbers_are_not_records():
    huge = 10**400
    lines = [
        {"kind": "eval", "time": NOW, "step": 990, "nats_per_token": huge, "nats_per_char": 1, "interval_95": [1, 2]},
        {"kind": "start", "time": NOW, "run": "x", "version": "", "settings": {"a": [huge]}, "corpus": "", "tokens": 1},
        {"kind": "train", "step": huge, "loss": 1.0},
        {"loss": huge, "step": 3},
    ]

    async def scene(stage: Stage) -> None:
        assert "train/loss" in stage.text()

    play(scene, run_state([*run_lines(), *map(json.dumps, lines)]), size=(160, 48))


def test_a_pane_that_is_shown_again_is_up_to_date():
    async def scene(stage: Stage) -> None:
        await stage.press("z", "7")
        assert "╭─ log" in stage.text() and "step 1,000  loss" in stage.text()

    play(scene, run_state(run_lines()), model=False)


def test_the_help_keeps_the_keys_while_the_window_changes():
    async def scene(stage: Stage) -> None:
        await stage.press("question_mark")
        await stage.pilot.resize_terminal(100, 30)
        await stage.settle()
        await stage.press("q")
        assert stage.app.is_running and len(stage.app.screen_stack) == 1

    play(scene, run_state(run_lines()))


def test_two_traces_of_one_name_are_two_texts():
    def trace(text: str):
        from tdiff.protocol.events import to_line

        given = header(text)
        return run_state(
            [to_line(given).strip(), *(to_line(step).strip() for step in steps(3, text))], name="trace.jsonl"
        )

    one, other = trace("Once aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"), trace("Once bbbbbbbbbbbbbbbbbbbbbbbbbbbbbb")

    async def scene(stage: Stage) -> None:
        count = len(stage.app.canvases.current.gallery.entries)
        await stage.settle()
        await stage.settle()
        assert len(stage.app.canvases.current.gallery.entries) == count == 1  # the newest of what was there
        shown = stage.app.canvases.traces.newest.canvas(9)
        assert "a" not in "".join(shown.texts) and "b" in "".join(shown.texts)

    play(scene, one, other, model=False)


def test_a_text_in_a_frame_is_shortened_part_by_part():
    line = [("step 9", "bold"), (" · 37% · 61 left", "")]
    widths = [30, 22, 21, 12, 11, 6, 4]
    texts = ["".join(text for text, _ in shortened(line, width)) for width in widths]
    assert texts == ["step 9 · 37% · 61 left"] * 2 + ["step 9 · 37%"] * 2 + ["step 9"] * 2 + ["step"]


def test_a_figure_at_the_right_end_of_a_frame_is_never_cut_to_another_number():
    line = [("step 10/64 · 37%", "")]
    texts = ["".join(text for text, _ in whole_figures(line, width)) for width in (16, 10, 9, 5, 4, 0)]
    assert texts == ["step 10/64 · 37%", "step 10/64", "10/64", "10/64", "", ""]


FOREIGN = ["step,loss,val_loss", *(f"{n},{3 - n / 50:.3f},{3.2 - n / 50:.3f}" for n in range(1, 60))]


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (160, 48), (80, 12), (60, 18)])
def test_a_log_without_a_model_shows_only_curve_and_log(size):
    async def scene(stage):
        app = stage.app
        assert not app.canvases.pane.display and app.training.display
        assert app.panes.by_name["log"].display is (size[1] >= 16)
        assert app.focused is app.training
        shown = stage.text()
        assert "shakespeare" not in shown and "generation" not in shown.replace("1 generation", "")
        assert "59,1.820" in shown, "the newest line, in the pane or in a line below the curve"
        await stage.press("5")
        assert app.canvases.pane.display or size[1] < 16, "whoever wants the pane has it"

    play(scene, run_state(FOREIGN, "metrics.csv"), size=size, model=False)


def test_samples_in_a_log_are_shown_without_a_model():
    lines = run_lines()
    samples = [n for n, line in enumerate(lines) if '"sample"' in line]

    async def scene(stage):
        app, story = stage.app, stage.watched[0].run_state
        assert not app.canvases.pane.display, "nothing to show yet"
        for begin, end in zip([samples[0], samples[0] + 1], [samples[0] + 1, samples[1] + 1], strict=True):
            story.feed(lines[begin:end])
            await stage.settle()
        assert app.canvases.pane.display
        assert "Once at step 600 there was" in stage.text()
        await stage.press("[")
        story.feed(lines[samples[1] + 1 :])
        await stage.settle()
        assert "Once at step 900 there was" not in "\n".join(row[:40] for row in stage.rows()[:12]), (
            "one looks at another"
        )

    play(scene, run_state(lines[: samples[0]]), model=False)


def test_an_unavailable_model_of_a_remote_log_is_reported_and_its_samples_are_shown():
    async def scene(stage):
        stage.process.reason = "exit 127: tdiff: not found"
        stage.app._frame()
        await stage.settle()
        assert stage.app.canvases.pane.display
        assert "Once at step 900 there was" in stage.text()
        assert "starts the model again" in stage.text() and "not found" in stage.text()

    play(scene, run_state(run_lines()), size=(120, 30))


def test_a_remote_log_of_another_program_has_no_canvas_after_its_model_failed():
    async def scene(stage):
        assert stage.app.canvases.pane.display
        stage.process.reason = "exit 2: no model is called so"
        stage.app._frame()
        await stage.settle()
        assert not stage.app.canvases.pane.display and stage.app.panes.by_name["log"].display
        assert "no model is called so" in stage.text()

    play(scene, run_state(FOREIGN), size=(120, 30))
