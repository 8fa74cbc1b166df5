"""The live view as a whole: what stands on the screen at each size and depth of colour, and what each key does."""

from __future__ import annotations

import asyncio
import json
import math
import os
import re
import time
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console
from rich.style import Style
from test_live import END, HEADER, Process, ready

from tdiff.draw import terminal
from tdiff.errors import TdiffError
from tdiff.records import TraceHeader, TraceStep
from tdiff.requests import Begin, Cancel, Generate
from tdiff.runs import Run
from tdiff.tui.app import WatchApp
from tdiff.tui.keys import KEYS, remapped
from tdiff.watch.live import Live
from tdiff.watch.places import Target
from tdiff.watch.preferences import Preferences
from tdiff.watch.sources import Status
from tdiff.watch.story import Story

GOLDEN = Path(__file__).parent / "golden"
NOW = 1_700_000_000.0
TEXT = "Once upon a time there was a little girl called Lucy who lived near the edge of a deep green forest. "


class Source:
    """Something watched, whose story a test tells."""

    def __init__(self, story: Story, folder: Path | None = None) -> None:
        self.story, self.filling, self.closed = story, None, False
        self.target = Target("run", story.name, run=Run(folder) if folder else None)

    def poll(self) -> bool:
        return False

    def status(self) -> Status:
        return Status(True)

    def close(self) -> None:
        self.closed = True


def train_line(step: int, loss: float, **more) -> str:
    record = {
        "kind": "train", "time": NOW - 1000 + step, "step": step, "tokens": step * 2048, "loss": loss,
        "loss_by_mask": [round(loss * (n + 1) / 10, 3) for n in range(10)], "lr": 2.7e-4, "grad_norm": 0.91,
        "tokens_per_second": 87_400.0, "progress": step / 2000, "eta": 2000.0 - step, "gpu_load": 97.0,
        "gpu_memory": 41.2, "gpu_temperature": 63.0, "gpu_power": 402.0,
    }  # fmt: skip
    return json.dumps(record | more)


def run_lines(steps: int = 1000, every: int = 10) -> list[str]:
    """The events of a run with a falling loss, a spike, three samples and evaluations."""
    start = {
        "kind": "start", "time": NOW - 1001, "run": "mine", "version": "1", "settings": {}, "corpus": "tale",
        "tokens": 9, "vocabulary": 9, "parameters": 9, "device": "cuda", "threads": 1, "pid": 1, "host": "elsewhere",
        "steps": 2000,
    }  # fmt: skip
    lines = [json.dumps(start)]
    for step in range(every, steps + 1, every):
        loss = 1.5 + 3 * math.exp(-step / 200) + (2.5 if step == 700 else 0.02 * math.sin(step))
        lines.append(train_line(step, loss))
        if step % 300 == 0:
            sample = {"kind": "sample", "time": NOW - 1000 + step, "step": step, "prompt": "Once"}
            text = {"text": f"Once at step {step} there was", "path": f"samples/{step:08d}.jsonl"}
            lines.append(json.dumps(sample | text))
        if step % 250 == 0:
            held = {"kind": "eval", "time": NOW - 1000 + step, "step": step, "nats_per_token": loss + 0.2}
            lines.append(json.dumps(held | {"nats_per_char": loss + 0.2, "interval_95": [1.0, 2.0], "tokens": 99}))
    return lines


def told(lines: list[str], name: str = "mine") -> Story:
    story = Story(name)
    story.feed(lines)
    return story


def header(text: str = TEXT) -> TraceHeader:
    given = [(place, character, 1) for place, character in enumerate("Once")]
    fields = {
        "version": "1",
        "model": "mine",
        "decoder": "confidence",
        "settings": {"threshold": 0.7},
        "seed": 7,
        "row": 0,
    }
    return TraceHeader(**fields, prompt="Once", cells=len(text), given=given)


def steps(count: int, text: str = TEXT) -> list[TraceStep]:
    """Steps that reveal every third place first; their confidence goes through all levels."""
    order = sorted(range(4, len(text)), key=lambda place: (place % 3, place))
    made = []
    for n in range(count):
        places = order[n * 4 : n * 4 + 4]
        cells = [(place, text[place], 1, (place * 37 % 100) / 100, "commit") for place in places]
        made.append(TraceStep(index=n + 1, t=1 - (n + 1) / count, calls=n + 1, cells=cells))
    return made


def look(colour: str = "256", **more) -> terminal.Terminal:
    return terminal.detect({"TERM": "xterm-256color"}, color=colour, **more)


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


class Stage:
    """A view, its clock, the processes of its model, and what it watches."""

    def __init__(self, *stories: Story, folder: Path | None = None, colour: str = "256", model: bool = True, **more):
        self.clock, self.processes = Clock(), []
        self.watched = [Source(story, folder) for story in stories]
        self.live = Live(self._start, "mine", seed=7, every=5.0) if model else None
        self.app = WatchApp(
            self.watched, self.live, look(colour), more.pop("liked", Preferences()), clock=self.clock, **more
        )
        self.app._pacer.ready = lambda: not self.app._pacer.paused  # by this clock no frame is too early

    def _start(self, model: str) -> Process:
        self.processes.append(Process(model))
        return self.processes[-1]

    @property
    def process(self) -> Process:
        return self.processes[-1]

    @asynccontextmanager
    async def at(self, width: int, height: int):
        async with self.app.run_test(size=(width, height)) as pilot:
            self.pilot = pilot
            await pilot.pause()
            yield self

    async def says(self, *answers) -> None:
        self.process.says += answers
        self.app._frame()
        await self.settle()

    async def settle(self) -> None:
        self.app._look()
        await self.pilot.pause()

    async def begin(self, count: int = 9) -> int:
        """The model is ready and has begun a text of so many steps; the request's id."""
        await self.says(ready())
        asked = [request for request in self.process.asked if isinstance(request, Generate)][-1]
        await self.says(Begin(id=asked.id), header(), *steps(count))
        return asked.id

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.settle()

    def strips(self):
        console = Console(width=self.app.size.width, force_terminal=True, color_system="truecolor")
        assert console is not None
        screen = self.app.screen
        return [
            [segment for segment in strip if not segment.control]
            for strip in screen._compositor.render_strips(self.app.size)
        ]

    def rows(self) -> list[str]:
        return ["".join(segment.text for segment in row) for row in self.strips()]

    def text(self) -> str:
        return "\n".join(row.rstrip() for row in self.rows()) + "\n"

    def styles(self) -> set[Style]:
        filters = self.app.get_line_filters()
        found = set()
        for row in self.strips():
            for one in filters:
                row = one.apply(row, self.app.screen.background_colors[1])
            found |= {segment.style for segment in row if segment.style}
        return found


def play(scene, *stories: Story, size=(80, 24), **more) -> Stage:
    """Play a scene, a coroutine function of a stage."""
    stage = Stage(*stories, **more)

    async def run() -> None:
        async with stage.at(*size):
            await scene(stage)

    asyncio.run(run())
    return stage


def golden(name: str, text: str) -> None:
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, "utf-8")
    assert text == path.read_text("utf-8"), f"{path.name} differs; UPDATE_GOLDEN=1 writes it anew: look at it then"


@pytest.fixture(autouse=True)
def in_utc(monkeypatch):
    """Times of day are those of one place."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


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

    play(scene, told(run_lines()), size=size, colour=colour)
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

    play(scene, told(run_lines()))


def test_without_a_run_the_empty_pane_says_what_to_type():
    async def scene(stage: Stage) -> None:
        await stage.settle()
        assert "tdiff train --run mine" in stage.text()
        assert "no run" in stage.rows()[0]

    play(scene, size=(80, 24))


def test_a_run_that_begins_later_is_found():
    later = []

    async def scene(stage: Stage) -> None:
        later.append(Source(told(run_lines(), "later")))
        await stage.settle()
        assert "later" in stage.rows()[0]
        assert "train/loss" in stage.text()

    play(scene, look_for=lambda: later[0] if later else None)


@pytest.mark.parametrize("size", [(1, 1), (2, 30), (39, 5), (20, 3), (10, 40), (300, 3), (40, 6), (79, 7), (250, 80)])
def test_no_size_is_too_small_or_too_large(size):
    async def scene(stage: Stage) -> None:
        await stage.begin()
        await stage.press("tab", "right", "z", "tab", "left", "z")
        assert len(stage.rows()) == size[1]

    play(scene, told(run_lines()), size=size)


def test_a_storm_of_sizes_ends_with_the_screen_of_the_last():
    async def scene(stage: Stage) -> None:
        await stage.begin()
        calm = stage.text()
        for width, height in [(30, 8), (160, 50), (80, 11), (1, 1), (100, 30), (45, 20)] * 3:
            await stage.pilot.resize_terminal(width, height)
        await stage.pilot.resize_terminal(80, 24)
        await stage.pilot.pause(0.1)
        await stage.settle()
        assert stage.text() == calm

    play(scene, told(run_lines()))


@pytest.mark.parametrize("last", [(80, 24), (39, 5), (60, 15), (100, 30), (160, 48), (80, 11)])
@pytest.mark.parametrize("first", [(1, 1), (80, 24), (39, 5), (160, 48)])
def test_after_one_resize_the_screen_is_that_of_its_size(first, last):
    async def scene(stage: Stage) -> None:
        await stage.begin()
        if stage.app.size != last:
            await stage.pilot.resize_terminal(*last)
            await stage.pilot.pause(0.05)
        await stage.settle()
        seen.append(stage.text())

    seen: list[str] = []
    play(scene, told(run_lines()), size=first)
    play(scene, told(run_lines()), size=last)
    assert seen[0] == seen[1]


def test_a_terminal_that_was_somebody_elses_meanwhile_is_drawn_anew():
    async def scene(stage: Stage) -> None:
        await stage.begin()
        lines = [widget for widget in stage.app.screen.walk_children() if hasattr(widget, "lose")]
        assert len(lines) > 9
        for widget in lines:
            widget._shown = {0: [("x", None)]}
        stage.app.taken_back = True
        stage.app._look()
        assert not any(widget._shown for widget in lines)
        assert not stage.app.taken_back

    play(scene, told(run_lines()))


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ({"pause": "ctrl+a"}, "keys.pause: 'ctrl\\+a' cannot be bound"),
        ({"pause": ""}, "keys.pause: 'an empty key' cannot be bound"),
        ({"pauze": "p"}, "unknown key id 'pauze'; did you mean pause"),
        ({"pause": "nonsensekey"}, "unknown key of keys.pause 'nonsensekey'"),
        ({"pause": "q"}, "'q' is that of quit already"),
        ({"pause": "left"}, "'left' is that of"),
    ],
)
def test_keys_that_cannot_be_are_refused_before_the_screen_opens(keys, why):
    with pytest.raises(TdiffError, match=why):
        remapped(keys)


def test_ctrl_c_always_leaves():
    assert remapped({"quit": "Q"}) == {"quit": "Q,ctrl+c"}
    assert remapped({"pause": "p", "quit": "Q,ctrl+c"}) == {"pause": "p", "quit": "Q,ctrl+c"}


# The keys


def test_every_key_of_the_table_has_its_action_and_the_help_and_palette_name_it():
    async def scene(stage: Stage) -> None:
        app = stage.app
        for key in KEYS:
            node = app if key.where == "app" else app.query_one(f"#{key.where}")
            assert callable(getattr(node, f"action_{key.id}", None)), key
        offered = [command.title for command in app.get_system_commands(app.screen)]
        assert all(any(key.does in title for title in offered) for key in KEYS)
        await stage.press("question_mark")
        page = stage.app.screen.query_one("#page")
        shown = "\n".join("".join(text for text, _ in line) for line in page._lines)
        assert all(key.does in shown for key in KEYS)
        await stage.press("q")
        assert len(app.screen_stack) == 1

    play(scene, told(run_lines()))


def test_no_key_is_one_that_screen_tmux_or_a_terminal_keeps():
    from tdiff.tui.keys import NEVER

    for key in KEYS:
        assert not NEVER & set(key.keys.split(",")), key
        assert "escape" not in key.keys, "Esc is never the only way"


def test_pausing_keeps_the_step_while_generation_goes_on_and_end_returns_to_the_live_edge():
    async def scene(stage: Stage) -> None:
        await stage.begin(5)
        await stage.press("space")
        assert "paused" in stage.text()
        await stage.says(*steps(9)[5:])
        assert stage.app.generation.at == 5
        assert stage.live.recording.steps == 9
        await stage.press("end")
        assert stage.app.generation.at == 9
        assert "live" in stage.rows()[1]

    play(scene, told(run_lines()))


def test_one_goes_back_and_forth_step_by_step_and_what_was_revealed_later_is_masked_again():
    async def scene(stage: Stage) -> None:
        await stage.begin(9)
        pane = stage.app.generation
        await stage.press("left", "left")
        assert (pane.at, pane.canvas.index) == (7, 7)
        await stage.press("H")
        assert pane.at == 0
        assert pane.canvas.left == len(TEXT) - 4
        await stage.press("l", "L")
        assert pane.at == 9
        await stage.press("g")
        assert pane.at == 0
        assert "Once██████" in stage.text()

    play(scene, told(run_lines()))


def test_a_replay_goes_from_the_first_step_to_the_last_by_the_clock():
    async def scene(stage: Stage) -> None:
        await stage.begin(9)
        await stage.press("r")
        assert stage.app.generation.at == 0
        stage.clock.now += 0.2
        stage.app._frame()
        assert 0 < stage.app.generation.at < 9
        stage.clock.now += 5
        stage.app._frame()
        assert stage.app.generation.at == 9
        assert not stage.app.generation.moving

    play(scene, told(run_lines()))


def test_moving_along_the_curve_shows_what_the_model_wrote_then():
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

    play(scene, told(run_lines()), size=(80, 24))


def test_brackets_go_through_the_samples_and_carry_the_cursor_along():
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

    play(scene, told(run_lines()))


def test_the_prompt_is_edited_in_place_and_the_next_text_goes_on_from_it():
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

    play(scene, told(run_lines()))


def test_decoder_and_threshold_change_on_the_fly():
    async def scene(stage: Stage) -> None:
        await stage.begin()
        await stage.press(">", ">")
        assert stage.live.settings.threshold == pytest.approx(0.8)
        assert "threshold 0.8" in stage.text()
        await stage.press(",")
        assert stage.live.settings.threshold == pytest.approx(0.75)
        await stage.press("d")
        assert stage.live.settings.decoder == "topk"
        assert "decoder topk" in stage.text()
        await stage.press(">")
        assert "topk has no threshold" in stage.text()
        assert stage.live.settings.threshold == pytest.approx(0.75)

    play(scene, told(run_lines()))


def test_a_model_that_dies_is_told_and_started_again_by_a_key():
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

    play(scene, told(run_lines()), size=(120, 30))


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
        await stage.press("z", "3")
        assert shown() == {"generation", "training", "log"}
        assert "loss" in stage.text()
        await stage.press("1", "2", "3")
        assert shown() == {"log"} or len(shown()) == 1
        await stage.press("1", "2", "4")
        assert {"generation", "training", "details"} <= shown()

    play(scene, told(run_lines()), size=(100, 30))


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
        assert "no metric has 'nothing' in its name" in stage.text()

    play(scene, told(run_lines()), size=(100, 30))


def test_the_log_follows_stands_still_and_is_searched():
    async def scene(stage: Stage) -> None:
        await stage.begin()
        await stage.press("3", "tab", "tab")
        assert stage.app.focused.id == "log"
        assert "step 1,000" in stage.text()
        await stage.press("g")
        assert "following" not in stage.text()
        await stage.press("/")
        await stage.press(*"step 700", "enter")
        assert "step 700" in stage.text()
        assert "found" in stage.text()
        await stage.press("G")
        assert "following" in stage.text()

    play(scene, told(run_lines()), size=(120, 40))


def test_up_to_four_runs_are_overlaid_each_with_its_letter():
    async def scene(stage: Stage) -> None:
        await stage.begin()
        text = stage.text()
        assert all(f"{letter} run{letter}" in text for letter in "ABCD")

    play(scene, *(told(run_lines(), f"run{letter}") for letter in "ABCD"), size=(120, 30))


def test_an_alert_stands_below_and_in_the_list():
    async def scene(stage: Stage) -> None:
        await stage.settle()
        assert "spike" in stage.rows()[-2]
        assert "[!] 1 alert" in stage.rows()[-2]
        await stage.press("!")
        assert "spike" in stage.text()
        await stage.press("q")
        assert len(stage.app.screen_stack) == 1

    play(scene, told(run_lines()))


def test_keys_of_the_users_own_take_the_place_of_ours():
    async def scene(stage: Stage) -> None:
        await stage.begin()
        await stage.press("p")
        assert "paused" in stage.text()
        await stage.press("question_mark")
        assert "p " in "\n".join(stage.rows())

    play(scene, told(run_lines()), liked=Preferences(keys={"pause": "p"}))


def test_an_exported_trace_is_read_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    from tdiff.watch.recording import Recording

    async def scene(stage: Stage) -> None:
        await stage.begin(9)
        await stage.press("x")
        assert "trace-1.jsonl" in stage.text()
        read = Recording.read((tmp_path / "trace-1.jsonl").read_text().splitlines())
        assert read.steps == 9
        assert read.canvas(9) == stage.app.generation.canvas
        assert read.canvas(4) == stage.live.recording.canvas(4)

    play(scene, told(run_lines()))


def test_a_recorded_sample_is_there_before_the_model_is(tmp_path):
    from tdiff.records import to_line

    (tmp_path / "samples").mkdir()
    lines = [to_line(header()), *map(to_line, steps(20))]
    (tmp_path / "samples" / "00000900.jsonl").write_text("".join(lines))

    async def scene(stage: Stage) -> None:
        assert stage.live.state == "loading"
        assert "Once" in stage.text()
        assert stage.app.generation.recording.steps == 20

    play(scene, told(run_lines()), folder=tmp_path)


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

    play(scene, told(lines), folder=run)


HOSTILE = [
    "\x1b[31mred\x1b[0m",
    "\x1b]52;c;AAAA\x07",
    "\x9b31m\x90q\x9c",
    "\u202eevil\u202c\u2066",
    "[/x] [bold]b[/] [link=file:///]",
    "你好" * 40,
    "\x00\x07\x08\x7f",
    "x" * 1_000_000,
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_is_inert_in_every_pane(text):
    lines = run_lines()
    evil = {"kind": "sample", "time": NOW, "step": 950, "prompt": text, "text": text, "path": text}
    alert = {"kind": "alert", "time": NOW, "step": 960, "what": text, "text": text}
    lines += [json.dumps(evil), json.dumps(alert), text, json.dumps({"kind": text})]

    async def scene(stage: Stage) -> None:
        await stage.says(ready())
        asked = stage.process.asked[-1]
        # A process's answers are made safe where they are read; here a view is shown them as they are.
        from tdiff.requests import parse_answer, to_line

        given = header()
        cells = [(place, text[:2000], 1, 0.5, "commit") for place in (4, 9)]
        trace = [given, TraceStep(index=1, t=0.5, calls=1, cells=cells)]
        safe = [parse_answer(to_line(line)) for line in trace]
        await stage.says(Begin(id=asked.id), *safe)
        for keys in ([], ["["], ["end"], ["3"], ["4"], ["!"], ["q"], ["question_mark"], ["q"]):
            await stage.press(*keys)
            for row in stage.rows():
                assert cell_len(row) == 160
                assert not re.search("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", row), row

    play(scene, told(lines, name=text[:200]), size=(160, 48))


def test_nothing_stays_behind_when_one_leaves():
    async def scene(stage: Stage) -> None:
        await stage.begin()
        await stage.press("q")

    stage = play(scene, told(run_lines()))
    assert stage.process.closed
    assert all(source.closed for source in stage.watched)


def test_while_nobody_looks_nothing_is_drawn_and_then_one_is_told_what_happened(monkeypatch):
    there = [True]

    async def scene(stage: Stage) -> None:
        monkeypatch.setattr(stage.app.attached, "now", lambda: there[0])
        stage.clock.now = NOW
        await stage.begin(5)
        before = stage.text()
        there[0] = False
        await stage.settle()
        stage.watched[0].story.feed([train_line(step, 1.2) for step in range(1010, 1100, 10)])
        await stage.says(*steps(9)[5:])
        assert stage.text() == before
        stage.clock.now += 3600
        there[0] = True
        await stage.settle()
        await stage.settle()
        assert "while you were away" in stage.text()
        assert "90 steps" in stage.text()
        assert stage.app.generation.at == 9
        await stage.press("question_mark", "q")
        assert "while you were away" not in stage.text()

    play(scene, told(run_lines()), size=(120, 30))


def test_end_of_a_text_waits_and_says_so():
    async def scene(stage: Stage) -> None:
        await stage.begin()
        await stage.says(END)
        assert "next text in 5 s" in stage.text()
        stage.clock.now += 6
        await stage.settle()
        assert sum(isinstance(request, Generate) for request in stage.process.asked) == 2

    play(scene, told(run_lines()))


def test_without_a_model_the_recorded_sample_stays_and_keys_say_so():
    async def scene(stage: Stage) -> None:
        await stage.press("[")
        assert "at step" in stage.text()
        await stage.press("d")
        assert "no model here" in stage.text()

    play(scene, told(run_lines()), model=False)


assert HEADER
