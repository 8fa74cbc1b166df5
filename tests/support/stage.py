"""The live view in a test, with a fake clock, fake model processes and fake sources."""

from __future__ import annotations

import asyncio
import json
import math
import os
import time
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from rich.style import Style

from tdiff.protocol.messages import Begin, Generate
from tdiff.protocol.trace import TraceHeader, TraceStep
from tdiff.runs.run import Run
from tdiff.terminal import detect
from tdiff.tui.app import WatchApp
from tdiff.watch.generation.pair import ModelPair
from tdiff.watch.generation.session import Live
from tdiff.watch.preferences import Preferences
from tdiff.watch.run_state import RunState
from tdiff.watch.sources.local import Status
from tdiff.watch.targets import Target
from tdiff.watch.view_settings import QUIET
from tests.support.fed import FedState
from tests.watch.generation.test_session import Process, ready

GOLDEN = Path(__file__).parents[1] / "golden"
NOW = 1_700_000_000.0
TEXT = "Once upon a time there was a little girl called Lucy who lived near the edge of a deep green forest. "


class Source:
    """A watched source with the run state of a test."""

    file_name = ""

    def __init__(self, story: RunState, folder: Path | None = None) -> None:
        self.run_state, self.filling, self.closed, self.behind = story, None, False, False
        self.target = Target("run", story.name, run=Run(folder) if folder else None)

    def poll(self) -> bool:
        return False

    def take_news(self) -> str:
        return ""

    def status(self) -> Status:
        return Status(True)

    def close(self) -> None:
        self.closed = True


def train_line(step: int, loss: float, **fields) -> str:
    record = {
        "kind": "train", "time": NOW - 1000 + step, "step": step, "tokens": step * 2048, "loss": loss,
        "loss_by_mask": [round(loss * (n + 1) / 10, 3) for n in range(10)], "lr": 2.7e-4, "grad_norm": 0.91,
        "tokens_per_second": 87_400.0, "progress": step / 2000, "eta": 2000.0 - step, "gpu_load": 97.0,
        "gpu_memory": 41.2, "gpu_temperature": 63.0, "gpu_power": 402.0,
    }  # fmt: skip
    return json.dumps(record | fields)


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


def run_state(lines: list[str], name: str = "mine") -> FedState:
    story = FedState(name)
    story.feed(lines)
    return story


def header(text: str = TEXT) -> TraceHeader:
    prompt = [(position, character, 1) for position, character in enumerate("Once")]
    fields = {
        "version": "1",
        "model": "mine",
        "decoder": "confidence",
        "settings": {"threshold": 0.7},
        "seed": 7,
        "row": 0,
    }
    return TraceHeader(**fields, prompt="Once", cells=len(text), given=prompt)


def steps(count: int, text: str = TEXT) -> list[TraceStep]:
    """Steps that unmask every third position first, with confidences of all levels."""
    order = sorted(range(4, len(text)), key=lambda position: (position % 3, position))
    trace_steps = []
    for n in range(count):
        positions = order[n * 4 : n * 4 + 4]
        cells = [(position, text[position], 1, (position * 37 % 100) / 100, "commit") for position in positions]
        trace_steps.append(TraceStep(index=n + 1, t=1 - (n + 1) / count, calls=n + 1, cells=cells))
    return trace_steps


def terminal_with(colour: str = "256", **options) -> detect.Terminal:
    return detect.detect({"TERM": "xterm-256color"}, color=colour, **options)


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


class Stage:
    """A view with its clock, the processes of one model or two, and its sources."""

    def __init__(
        self,
        *stories: RunState,
        folder: Path | None = None,
        colour: str = "256",
        model: bool = True,
        second_model: str = "",
        **options,
    ):
        """`second_model` names a second model."""
        self.clock, self.processes = Clock(), []
        self.watched = [Source(story, folder) for story in stories]
        self.live = Live(self._start, "mine", seed=7, every=5.0) if model else None
        lives = [self.live] if self.live else []
        if second_model:
            lives.append(Live(self._start, second_model, seed=7, every=5.0))
        preferences = options.pop("preferences", Preferences())
        models = ModelPair(*lives)
        self.app = WatchApp(self.watched, models, terminal_with(colour), preferences, clock=self.clock, **options)
        self.app._pacer.ready = lambda: not self.app._pacer.paused  # with the fake clock no frame is too early

    def _start(self, model: str) -> Process:
        self.processes.append(Process(model))
        return self.processes[-1]

    @property
    def process(self) -> Process:
        return self.processes[-1]

    def of(self, model: str) -> Process:
        """The newest process of a model."""
        return [process for process in self.processes if process.model == model][-1]

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
        self.app._update()
        await self.pilot.pause()

    async def quiet(self) -> None:
        """Let so much time pass that the view stores what has changed."""
        self.clock.now += QUIET
        await self.settle()

    async def begin(self, count: int = 9) -> int:
        """Make the model ready, with the first `count` steps of a text; the request's id."""
        await self.says(ready())
        request = [request for request in self.process.asked if isinstance(request, Generate)][-1]
        await self.says(Begin(id=request.id), header(), *steps(count))
        return request.id

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.settle()

    def strips(self):
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
        styles = set()
        for row in self.strips():
            for line_filter in filters:
                row = line_filter.apply(row, self.app.screen.background_colors[1])
            styles |= {segment.style for segment in row if segment.style}
        return styles


def play(scene, *stories: RunState, size=(80, 24), **options) -> Stage:
    """Run a scene (a coroutine function) on a stage."""
    stage = Stage(*stories, **options)

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
    assert text == path.read_text("utf-8"), f"{path.name} differs; UPDATE_GOLDEN=1 writes it again"


@pytest.fixture(autouse=True)
def in_utc(monkeypatch):
    """Use UTC for times of day in every test module that imports this."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
