"""What the view says is true: how far a text is, how old its weights are, which numbers are averages."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tdiff.draw.render import plain
from tdiff.protocol.messages import Begin, Generate
from tdiff.tui.figures import figures
from tdiff.tui.key_table import KEYS
from tdiff.tui.panes.generation import scrub_line
from tdiff.tui.widgets.lines import fold, line_width
from tests.support.stage import Stage, header, in_utc, play, run_lines, run_state, steps, train_line  # noqa: F401
from tests.watch.generation.test_session import END, ready


def line(*numbers: int, ended: bool = False, width: int = 60, **more) -> str:
    drawn = scrub_line(*numbers, ended, width, **more)
    assert line_width(drawn) == width
    return plain([drawn])


def test_the_line_of_steps_is_full_only_when_the_text_is_complete():
    assert line(4, 4, share=4 / 68, cap=68).startswith(" ◀ 0 ━━━╸4┄┄┄┄┄") and " 68 … " in line(4, 4, cap=68)
    assert "┄" not in line(68, 68, share=1.0, cap=68)
    paused = line(2, 30, share=30 / 68, cap=68)
    assert 0 < paused.count("━") < 3 and 15 < paused.count("─") < 22 and paused.count("┄") > 20
    assert line(30, 30, ended=True).count("━") > 45 and line(30, 30, ended=True).endswith(" 30 ▶ ")
    assert 20 < line(9, 9, share=0.5).count("━") < 30  # the number of steps is unknown: half of the positions


def test_the_line_of_steps_uses_the_decoders_steps_else_the_positions_left():
    async def scene(stage: Stage) -> None:
        await stage.begin(9)  # 37%
        [row] = [row for row in stage.rows() if "◀ 0" in row]
        assert 0.3 < row.count("━") / (row.count("━") + row.count("┄")) < 0.45
        await stage.says(END)
        await stage.press("n")
        asked = [request for request in stage.process.asked if isinstance(request, Generate)][-1]
        await stage.says(Begin(id=asked.id), replace(header(), steps=68), *steps(4))
        [row] = [row for row in stage.rows() if "◀ 0" in row]
        assert row.count("━") < 6 and "╸4┄" in row and " 68 … " in row

    play(scene, run_state(run_lines()))


def test_the_age_of_the_weights_is_shown_while_the_run_trains():
    story = run_state([*run_lines()[:1], train_line(7, 3.0)])

    async def scene(stage: Stage) -> None:
        stage.process.says += [replace(ready(), step=0)]
        await stage.says()
        asked = [request for request in stage.process.asked if isinstance(request, Generate)][-1]
        await stage.says(Begin(id=asked.id), header(), *steps(4))
        assert "mine@0 · 7 steps ago" in stage.text()
        story.feed([train_line(8, 2.9)])
        await stage.settle()
        assert "mine@0 · 8 steps ago" in stage.text()

    play(scene, story)


def test_an_unknown_training_step_is_not_shown_as_zero():
    async def scene(stage: Stage) -> None:
        await stage.says(replace(ready(), model="gpt2", step=0))
        asked = [request for request in stage.process.asked if isinstance(request, Generate)][-1]
        await stage.says(Begin(id=asked.id), header(), *steps(4))
        assert "─ gpt2 ─" in stage.text() and "@0" not in stage.text()

    play(scene, run_state(run_lines()))


def test_averages_and_single_values_have_different_labels():
    story = run_state([train_line(step, loss) for step, loss in ((1, 4.0), (2, 2.0), (3, 3.0))])
    shown = dict(figures(story, 0.6))
    assert (shown["train"], shown["best"]) == ("3.0000", "2.0000 @2")
    assert 2.0 < float(shown["EMA .6"]) < 3.0
    assert "EMA .6" not in dict(figures(story, 0.0))
    assert {"train", "val", "best val"} <= dict(figures(run_state(run_lines()), 0.0)).keys()


@pytest.mark.parametrize("width", [20, 40, 60, 80, 160])
def test_no_line_of_the_help_is_cut(width):
    async def scene(stage: Stage) -> None:
        await stage.press("question_mark")
        page = stage.app.screen.query_one("#page")
        rows = [plain([row]) for row in page._lines]
        inside = stage.app.screen.query_one("VerticalScroll").scrollable_content_region.width
        assert page.size.width <= inside and max(map(len, rows)) <= page.size.width
        words = " ".join(rows).split()
        if width >= 40:
            assert {word for key in KEYS for word in key.does.split()} <= set(words)
        await stage.pilot.resize_terminal(width + 7, 24)
        assert max(line_width(row) for row in page._lines) <= page.size.width

    play(scene, run_state(run_lines()), size=(width, 24))


def test_a_folded_line_keeps_its_words_and_its_indent():
    rows = fold([("  ? f1    ", "bold"), (" show the keys that act", "")], 24)
    assert plain(rows) == "  ? f1     show the keys\n           that act"
    assert plain(fold([("short", "")], 9)) == "short"


COMMANDS = "tdiff train --run mine a run on Tiny Shakespeare", "ssh://host/path one on another machine"
COMMAND = ("No run in this folder yet: tdiff train --run mine starts one",)


@pytest.mark.parametrize(
    ("size", "shown"),
    [((80, 24), COMMAND), ((100, 20), COMMAND), ((120, 30), COMMAND), ((60, 40), COMMANDS), ((200, 50), COMMANDS)],
)
def test_the_words_of_the_empty_pane_are_complete(size, shown):
    async def scene(stage: Stage) -> None:
        await stage.settle()
        rows = [
            row.split("││")[-1].strip("│ ") for row in stage.rows()
        ]  # of the right pane, where two are side by side
        text = " ".join(" ".join(rows).split())
        for words in shown:
            assert words in text

    play(scene, size=size, model=False)


def test_the_label_of_a_model_that_died_is_its_error():
    async def scene(stage: Stage) -> None:
        await stage.begin()
        stage.process.reason = "exit 1: no space left"
        stage.app._frame()
        await stage.settle()
        [row] = [row for row in stage.rows() if "conf 0.53" in row]
        assert row.startswith("╰─ the model's process ended: e")

    play(scene, run_state(run_lines()), size=(120, 30))
