"""Milliseconds of drawing a canvas of 4,096 cells, the best of 30: `python -m tests.benchmarks.drawing`."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import replace

from textual.color import Color

from tdiff.draw.canvas_layout import lay_out
from tdiff.draw.palettes import DEPTHS
from tdiff.draw.render import drawn_texts, row_line
from tdiff.protocol.canvas import Canvas
from tdiff.protocol.trace import TraceHeader, TraceStep
from tdiff.terminal.detect import detect, this_terminal
from tdiff.tui.line_filters import filters
from tdiff.tui.widgets.paint import paint
from tests.support.canvases import canvas_lines

CELLS, WIDTH, NEW = 4096, 78, 64
TEXTS = {"characters": list("the quick\nbrown fox"), "tokens": ["the", " quick", " brown", " fox", ".", "\n", " 日本"]}


def best(work: Callable[[], object]) -> str:
    """The shortest of 30 runs, in milliseconds."""
    seconds = []
    for _ in range(30):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return f"{1e3 * min(seconds):7.3f}"


def half_unmasked(kind: str, seed: int = 1) -> tuple[Canvas, Canvas]:
    """A canvas with half of its positions unmasked, and the same canvas after a step that unmasks 64 more."""
    draw, texts = random.Random(seed), TEXTS[kind]
    header = TraceHeader(version="", model="", decoder="", settings={}, seed=0, row=0, prompt="", cells=CELLS, given=[])
    order = draw.sample(range(CELLS), CELLS // 2 + NEW)

    def step(positions: list[int]) -> TraceStep:
        cells = [(position, draw.choice(texts), 0, draw.random(), "commit") for position in positions]
        return TraceStep(index=1, t=0.5, calls=1, cells=cells)  # type: ignore[arg-type]

    after = Canvas.begin(header)
    after.apply(step(order[NEW:]))
    before = replace(after, texts=[*after.texts], confidence=[*after.confidence], fresh={*after.fresh})
    after.apply(step(order[:NEW]))
    return before, after


def table(kind: str) -> None:
    """Print the time of each stage for one canvas; a frame is the first four stages and the filter of its depth."""
    before, after = half_unmasked(kind)
    old, new = lay_out(drawn_texts(before), WIDTH), lay_out(drawn_texts(after), WIDTH)
    stale = sorted(new.stale(old, after.fresh))[:48]  # the rows that fit a screen
    lines = [row_line(after, new.rows[n]) for n in stale]
    strips = [paint(line, WIDTH) for line in lines]

    def filtered(depth: str) -> Callable[[], object]:
        line_filters = filters(detect({"TERM": "xterm"}, color=depth))
        return lambda: [
            line_filter.apply(list(strip), Color(0, 0, 0)) for strip in strips for line_filter in line_filters
        ]

    print(f"{CELLS} {kind}, {NEW} of them new, in {len(new.rows)} rows of {WIDTH}; {len(stale)} stale rows in sight")
    print(best(lambda: lay_out(drawn_texts(after), WIDTH)), "layout")
    print(best(lambda: new.stale(old, after.fresh)), "finding the stale rows")
    print(best(lambda: [row_line(after, new.rows[n]) for n in stale]), "their lines")
    print(best(lambda: [paint(line, WIDTH) for line in lines]), "their strips")
    for depth in DEPTHS:
        print(best(filtered(depth)), f"their filter at depth {depth}")
    print(best(lambda: canvas_lines(after, WIDTH)), "layout and lines of all rows")


def main() -> None:
    """Print the tables."""
    for kind in TEXTS:
        table(kind)
    print(best(lambda: this_terminal(ask=False)), "finding out about the terminal, without asking it")


if __name__ == "__main__":
    main()
