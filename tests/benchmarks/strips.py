"""Drawing the strips below a chart, beside the same chart without them: `python -m tests.benchmarks.strips`.

In one run, alternately: a redraw after a new record, one after a move of the cursor, and one of the same values.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count

from tdiff.draw.chart import draw
from tdiff.draw.curves import Curve, View, layout
from tdiff.draw.strips import Strip, StripCache, draw_strip
from tdiff.series.series import Series

WIDTH, HEIGHT = 110, 30
"""The chart's columns and rows in a window of 160x48."""


class Run:
    """A loss, its learning rate and its gradient norm."""

    def __init__(self, records: int) -> None:
        self.noise = random.Random(1)
        self.step = 0
        self.series = {name: Series() for name in ("loss", "lr", "grad norm")}
        for _ in range(records):
            self.add()

    def add(self) -> None:
        """Record one more step."""
        self.step += 1
        at = self.step / 1000
        values = (2 + 4 / (1 + at) + self.noise.gauss(0, 0.1), 1e-3 / (1 + at), 1 + abs(self.noise.gauss(0, 0.3)))
        for series, value in zip(self.series.values(), values, strict=True):
            series.append(self.step, value)

    def redraw(self, view: View, strips: int, cache: StripCache | None) -> None:
        """Draw the chart, and so many strips below it."""
        curves = [Curve(self.series["loss"], "color(215)", "train")]
        frame = layout(curves, view, WIDTH, HEIGHT - 2 * strips, ascii=False)
        draw(curves, view, WIDTH, HEIGHT - 2 * strips, ascii=False, colour=True, frame=frame)
        for name in ("lr", "grad norm")[:strips]:
            strip = Strip(Curve(self.series[name], "dim", name), name, "1e-3")
            draw_strip(strip, view, frame, 2, ascii=False, colour=True, cache=cache)


def main() -> None:
    """Print the milliseconds of each kind of redraw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=200)
    times = parser.parse_args().times
    print(f"{time.strftime('%Y-%m-%d')}  milliseconds of CPU a redraw, {WIDTH}x{HEIGHT}, the least and the median")
    print(f"{'':<34}{'no strips':>16}{'two strips':>16}{'two, cached':>16}")
    for records in (800, 100_000):
        run, cache = Run(records), StripCache()
        cursors = count()

        def grown(strips: int, cache: StripCache | None, run: Run = run) -> None:
            run.redraw(View(smoothing=0.6), strips, cache)

        def moved(strips: int, cache: StripCache | None, run: Run = run, cursors: Iterator[int] = cursors) -> None:
            run.redraw(replace(View(smoothing=0.6), cursor=float(next(cursors) % run.step)), strips, cache)

        for what, redraw, before in (("a new record", grown, run.add), ("the cursor moved", moved, None)):
            _row(f"{records:,} records, {what}", times, redraw, before, cache)


def _row(
    what: str,
    times: int,
    redraw: Callable[[int, StripCache | None], None],
    before: Callable[[], None] | None,
    cache: StripCache,
) -> None:
    took: list[list[float]] = [[], [], []]
    for _ in range(times):
        if before is not None:
            before()
        for column, (strips, used) in enumerate(((0, None), (2, None), (2, cache))):
            started = time.process_time()
            redraw(strips, used)
            took[column].append(1e3 * (time.process_time() - started))
    print(f"{what:<34}" + "".join(f"{min(one):>8.2f}{statistics.median(one):>8.2f}" for one in took), flush=True)


if __name__ == "__main__":
    main()
