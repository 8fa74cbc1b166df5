"""Whatever a run, a log or a model says, the view shows it as text: no pane hands the terminal a command."""

from __future__ import annotations

import json
import random
import re
from dataclasses import replace

import pytest
from rich.cells import cell_len

from tdiff.protocol.messages import Begin, Generate, Refused, parse_answer, to_line
from tdiff.protocol.trace import TraceStep
from tdiff.tui.app import WatchApp
from tests.support.fed import FedState
from tests.support.stage import NOW, Stage, header, in_utc, play, run_lines, run_state, terminal_with  # noqa: F401
from tests.watch.generation.test_session import END, ready

PIECES = [
    "\x1b[31mred\x1b[0m", "\x1b]52;c;QUJD\x07", "\x1b]0;title\x1b\\", "\x1bP1$r0m\x1b\\", "\x1b[?1049l", "\x1bc",
    "\x1b", "\x9b31m", "\x90q\x9c", "\x9d52;c;QUJD\x9c", "\x85", "\u202eevil\u202c", "\u2066x\u2069",
    "\u200b\u200d\ufeff\u00ad",
    "[/x]", "[bold]b[/]", "[@click=app.quit]q[/]", "[link=file:///etc]l[/link]", "\\[", "\x00\x07\x08\x7f\x0b\x0c\x0e",
    "\r", "\t", "\n", "\u2028\u2029", "你好", "👩‍👩‍👧‍👦", "e\u0301\u0301\u0301", "\ud800", "\U000e0041",
    "w" * 300, " ", "plain",
]  # fmt: skip
INERT = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
OURS = re.compile(
    r"\x1b\[\d*(;\d+)?[HC]"  # the cursor goes somewhere
    r"|\x1b\[[\d;]*m"  # a colour
    r"|\x1b\[\?(25|1000|1002|1003|1004|1006|1015|2004|2026|2048)[hl]"  # a mode of the terminal
    r"|\x1b\]22;[a-z]*\x07"  # the shape of the mouse's pointer
)


def evil(draw: random.Random) -> str:
    return "".join(draw.choice(PIECES) for _ in range(draw.choice([1, 1, 2, 3, 8])))


def events(draw: random.Random) -> list[str]:
    """Records with something evil wherever a record holds text, and lines that are none."""
    start = {
        "kind": "start", "time": NOW - 9, "run": evil(draw), "version": evil(draw),
        "settings": {evil(draw): evil(draw)},
        "corpus": evil(draw), "tokens": 9, "vocabulary": 9, "parameters": 9, "device": evil(draw), "threads": 1,
        "pid": 1, "host": evil(draw), "steps": 2000,
    }  # fmt: skip
    known = {"time": NOW, "step": draw.randrange(990, 1200)}
    made = [
        start,
        known | {"kind": "sample", "prompt": evil(draw), "text": evil(draw), "path": evil(draw)},
        known | {"kind": "alert", "what": evil(draw), "text": evil(draw)},
        known | {"kind": "checkpoint", "path": evil(draw), "kept": evil(draw)},
        known | {"kind": "heartbeat", "doing": evil(draw)},
        known | {"kind": evil(draw), evil(draw): evil(draw)},
        {"loss": 1.0, "step": 9, evil(draw): 2.0},
    ]
    lines = [json.dumps(one) for one in draw.sample(made, draw.randrange(1, len(made) + 1))]
    return [*lines, evil(draw), f"{{'loss': 1.2, '{evil(draw)}': 3}}"]


def table(draw: random.Random) -> list[str]:
    """A table whose metrics have evil names."""
    names = [re.sub(r"[,\n\r]", "", evil(draw)) or "x" for _ in range(3)]
    return [",".join(["step", "loss", *names]), *(f"{n},1.{n},2,3,4" for n in range(20))]


def answers(draw: random.Random, asked: int) -> list:
    """What a model's process may say, as it comes through the pipe."""
    given = header()
    cells = [(place, evil(draw), 1, 0.5, draw.choice(["commit", "remask"])) for place in draw.sample(range(4, 90), 9)]
    other = [replace(ready(), model=evil(draw), device=evil(draw))] if draw.random() < 0.3 else []
    said = [
        *other,
        Begin(id=asked),
        given,
        TraceStep(index=1, t=0.5, calls=1, cells=cells),
        Refused(text=evil(draw)) if draw.random() < 0.2 else replace(END, text=evil(draw)),
    ]
    through = [parse_answer(to_line(one).encode("utf-8", "replace").decode()) for one in said]
    return [one for one in through if one is not None]


@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in range(1, 40))])
def test_hostile_text_is_inert_in_every_pane(seed, monkeypatch, tmp_path):
    draw = random.Random(seed)
    monkeypatch.chdir(tmp_path)
    size = draw.choice([(160, 48), (160, 48), (80, 24), (100, 30), (60, 15)])
    depth = draw.choice(["truecolor", "256", "16", "none"])
    stories = [run_state(run_lines(200), name=evil(draw))]
    if seed % 3 == 0:
        stories += [run_state(table(draw), name=evil(draw)), FedState(evil(draw))]
    monkeypatch.setattr(WatchApp, "is_headless", False)  # so that what would be written is made
    written: list[str] = []

    def check(stage: Stage) -> None:
        for row in stage.rows():
            assert cell_len(row) == size[0] and not INERT.search(row), repr(row)
        text = OURS.sub("", "".join(written)).replace("\n", "")
        assert not INERT.search(text), repr(text[max(0, INERT.search(text).start() - 40) :][:120])
        written.clear()

    two = {"second_model": evil(draw)} if seed % 2 else {}

    async def answered(stage: Stage) -> None:
        for process in stage.processes:
            asked = [one for one in process.asked if isinstance(one, Generate)]
            process.says += answers(draw, asked[-1].id) if asked else [ready()]
        await stage.says()

    async def scene(stage: Stage) -> None:
        stage.app._driver.write = written.append
        await stage.says(ready())
        for _ in range(4):
            stories[0].feed(events(draw))
            stories[-1].feed([evil(draw), "{'loss': 1.5, 'learning_rate': 1e-4, 'epoch': 0.1}"])
            await answered(stage)
            check(stage)
            for keys in draw.sample([*"[]78123!?ST", "4", "end", "tab", "m", "z", "home", "left", "5", "o"], 6):
                await stage.press({"!": "exclamation_mark", "?": "question_mark"}.get(keys, keys))
                check(stage)
            while len(stage.app.screen_stack) > 1:
                await stage.press("q")
            stage.clock.now += 6
            await stage.press("6", "slash", *"ab", "enter")
            check(stage)

    play(scene, *stories, size=size, colour=depth, **two)


def test_a_line_of_a_megabyte_is_cut_and_inert():
    async def scene(stage: Stage) -> None:
        await stage.press("7")
        assert max(map(len, stage.watched[0].run_state.log)) < 2000
        assert all(cell_len(row) == 160 for row in stage.rows())

    sample = {"kind": "sample", "time": NOW, "step": 990, "prompt": "x", "text": "\x1b[2J" * 200_000, "path": "y"}
    play(scene, run_state([*run_lines(), "x\x1b[31m" * 200_000, json.dumps(sample)]), size=(160, 48))
