"""The cost of drawing a generation: `python -m tests.benchmarks.canvas`.

The widget runs in a separate process on a pseudo-terminal that is read at once: bytes are those that a terminal would
get, and CPU time is that of the complete app (textual, the widget and the writing thread). Two kinds of text are
measured: one character per token, as in the shipped model, and words of one to twelve characters, where each unmasked
token moves the text behind it. CPU time grows on a busy machine: the loop in the last row shows by how much.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import pty
import random
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from tdiff.protocol.trace import TraceHeader, TraceLine, TraceStep
from tdiff.terminal import detect
from tdiff.watch.generation.recording import Recording

_SCREENS = ((80, 24), (160, 48))
_WORDS = (
    " the",
    " of",
    ",",
    " a",
    " hurry",
    " forest",
    " grandmother",
    " basket",
    " deep",
    " girl",
    "s",
    " once",
    " upon",
)


def trace(cells: int, steps: int, *, words: bool, prompt_length: int = 16) -> Iterator[TraceLine]:
    """The trace of a generation that unmasks its positions in random order."""
    draw = random.Random(7)
    texts = [draw.choice(_WORDS) if words else draw.choice("etaoin shrdlu ") for _ in range(cells)]
    prompt = [(position, texts[position], 0) for position in range(prompt_length)]
    header = {"version": "", "model": "", "decoder": "", "settings": {}, "seed": 0, "row": 0, "prompt": ""}
    yield TraceHeader(**header, cells=cells, given=prompt, steps=steps)
    order = draw.sample(range(prompt_length, cells), cells - prompt_length)
    for step in range(steps):
        now = order[len(order) * step // steps : len(order) * (step + 1) // steps]
        sure = [draw.choice((draw.uniform(0.15, 0.45), draw.random())) for _ in now]
        change = [(position, texts[position], 0, c, "commit") for position, c in zip(now, sure, strict=True)]
        yield TraceStep(index=step + 1, t=0.5, calls=step + 1, cells=change)


def record(cells: int, steps: int, *, words: bool, detail: bool = False) -> Recording:
    """The recording of such a trace, with predictions if it is in `detail`."""
    from tests.benchmarks.looking import detailed

    written = trace(cells, steps, words=words)
    header, *lines = detailed(written) if detail else written
    assert isinstance(header, TraceHeader)
    recording = Recording(header)
    for line in lines:
        recording.take(line)
    return recording


def child(report: str, cells: int, steps: int, words: bool, rate: float, frames: int, looking: str = "") -> None:
    """Show a generation in a loop at `rate` frames per second until `frames` were shown; write the cost as JSON.

    `looking`: show it in a pane, which has the lens and drafts if they are named.
    """
    detected = detect.detect(os.environ, encoding="utf-8")
    detect.prepare(detected, os.environ)
    from tdiff.tui.panes.generation import GenerationPane
    from tdiff.tui.terminal_app import TerminalApp
    from tdiff.tui.widgets.canvas import CanvasView

    recording = record(cells, steps, words=words, detail=bool(looking))
    shown = [(recording.canvas(step), recording.changed(step)) for step in range(steps + 1)]

    class Shown(TerminalApp):
        """An app with only the canvas widget."""

        frame, started, spent = 0, 0.0, 0.0

        def compose(self) -> Iterator[CanvasView | GenerationPane]:
            self.view = CanvasView(detected.theme)
            self.pane = GenerationPane(detected.theme)
            yield self.pane if looking else self.view

        def on_mount(self) -> None:
            if looking:
                self.pane.show(recording, caption="", follow=False, at=0)
                if "lens" in looking:
                    self.pane.look_at(cells // 2)
                if "drafts" in looking:
                    self.pane.action_drafts()
            else:
                self.view.show(shown[0][0])
            self.set_timer(1.0, self.begin)  # starting is not counted

        def begin(self) -> None:
            self.cpu, self.wall = time.process_time(), time.monotonic()
            self.spent = 0.0
            self.set_interval(1 / rate, self.tick)

        def tick(self) -> None:
            if self.frame == frames:
                figures = {
                    "cpu": time.process_time() - self.cpu,
                    "seconds": time.monotonic() - self.wall,
                    "drawing": self.spent / frames,
                }
                Path(report).write_text(json.dumps(figures), "utf-8")
                self.exit()
                return
            self.frame += 1
            canvas, changed = shown[self.frame % (steps + 1)]
            self.started = time.thread_time()
            if looking:
                self.pane.at = self.frame % (steps + 1)
                self.pane.draw()
            else:
                self.view.show(canvas, changed if self.frame % (steps + 1) else None)

        def post_display_hook(self) -> None:
            if self.started:
                self.spent, self.started = self.spent + time.thread_time() - self.started, 0.0

    Shown(detected).run()


def measure(
    screen: tuple[int, int],
    cells: int,
    steps: int,
    *,
    words: bool,
    rate: float = 30.0,
    frames: int,
    looking: str = "",
) -> dict[str, float]:
    """CPU seconds and seconds of all frames, CPU seconds of drawing one, and the bytes that reached the terminal.

    `looking` is that of `child`.
    """
    columns, lines = screen
    terminal, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    inherited = {k: v for k, v in os.environ.items() if k not in ("COLORTERM", "NO_COLOR", "TMUX", "STY")}
    with tempfile.NamedTemporaryFile("r", encoding="utf-8") as report:
        settings = {
            "report": report.name,
            "cells": cells,
            "steps": steps,
            "words": words,
            "rate": rate,
            "frames": frames,
            "looking": looking,
        }
        command = [sys.executable, "-m", "tests.benchmarks.canvas", "--child", json.dumps(settings)]
        running = subprocess.Popen(
            command, stdin=side, stdout=side, stderr=side, env=inherited | {"TERM": "xterm-256color"}
        )
        os.close(side)
        written = 0

        def drain() -> None:
            nonlocal written
            try:
                while piece := os.read(terminal, 1 << 16):
                    written += len(piece)
            except OSError:  # the other end is closed
                return

        reader = threading.Thread(target=drain)
        reader.start()
        running.wait()
        reader.join()
        os.close(terminal)
        figures: dict[str, float] = json.load(report)
    return figures | {"bytes": written}


def scrubbing() -> tuple[float, float]:
    """CPU seconds of moving by a step or a jump in a recording of 257 steps and 1,025 positions: mean and maximum."""
    recording, draw, took = record(1025, 257, words=False), random.Random(1), []
    for n in range(2000):
        started = time.process_time()
        recording.canvas(n % 258 if n < 1000 else draw.randrange(258))
        took.append(time.process_time() - started)
    return sum(took) / len(took), max(took)


def reference() -> float:
    """CPU seconds of a fixed loop: the minimum of five runs."""
    took = []
    for _ in range(5):
        started, total = time.process_time(), 0
        for n in range(200_000):
            total += n * n % 7
        took.append(time.process_time() - started)
    return min(took)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(**json.loads(options.child))
        return
    rows: list[tuple[str, str, str]] = []
    big = measure((160, 48), 4096, 64, words=False, frames=300)
    rows += [
        ("4,096 cells, 64 new a frame, 30 frames/s, 160x48: CPU", f"{big['cpu'] / big['seconds']:.1%}", "< 20 %"),
        ("  drawing one of its frames: CPU", f"{big['drawing'] * 1e3:.2f} ms", ""),
        ("  bytes a frame", f"{big['bytes'] / 300:,.0f}", ""),
    ]
    for words in (False, True):
        for screen in _SCREENS:
            figures = measure(screen, 1025, 257, words=words, frames=257)
            what = f"1,025 {'words' if words else 'characters'} in 257 steps, {screen[0]}x{screen[1]}"
            rows.append((f"{what}: written", f"{figures['bytes'] / 1e3:,.0f} kB", "< 450 kB"))
            rows.append(("  CPU at 30 steps/s", f"{figures['cpu'] / figures['seconds']:.1%}", ""))
    mean, worst = scrubbing()
    rows.append(
        ("going to a step of a recording of that: CPU", f"{mean * 1e3:.2f} ms, worst {worst * 1e3:.2f}", "< 2 ms")
    )
    rows.append(("a loop of 200,000 multiplications (idle: about 9 ms)", f"{reference() * 1e3:.1f} ms", ""))
    for what, value, target in rows:
        print(f"{what:<62} {value:>24}   {target}")


if __name__ == "__main__":
    main()
