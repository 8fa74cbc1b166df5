"""The loss by mask ratio over the steps of a run, as a heat map over the x axis of its curves."""

from __future__ import annotations

from collections.abc import Sequence

from tdiff.draw.curves import ChartLayout, Curve
from tdiff.draw.heat import HeatRow, fitting, heat_legend, heat_lines
from tdiff.draw.palettes import Theme
from tdiff.draw.render import Line
from tdiff.tui.widgets.lines import clip, two_ends
from tdiff.watch.run_state import RunState

PREFIX = "mask/"
"""The names of the metrics begin with it; the middle of the mask ratios follows."""
LEFT = 7
"""Cells of the labels."""
RIGHT = 6
"""Cells of the newest values."""
MIN_ROWS = 4


def has_ratios(run: RunState) -> bool:
    """Whether the run reports its loss by mask ratio."""
    return any(name.startswith(PREFIX) and series.steps for name, series in run.metrics.items())


def draw(
    run: RunState, curve: Curve, frame: ChartLayout, width: int, height: int, x: float | None, theme: Theme
) -> list[Line]:
    """The map in so many lines, the highest mask ratio above. `curve` gives the x of a step; `x` is the cursor's."""
    columns = max(1, width - LEFT - RIGHT)
    names = sorted((name for name, s in run.metrics.items() if name.startswith(PREFIX) and s.steps), reverse=True)
    chosen, lines_each = fitting(len(names), max(1, height - 1))
    rows = []
    for name in (names[n] for n in chosen):
        series = run.metrics[name]
        values = _columns([frame.x.share(curve.x(step)) for step in series.steps], series.mean, columns)
        ratio = name.removeprefix(PREFIX).removeprefix("0")
        rows.append(HeatRow(f"t {ratio}", values, f"{series.mean[-1]:.2f}"))
    share = None if x is None else frame.x.share(x)
    cursor = min(columns - 1, int(share * columns)) if share is not None and 0 <= share <= 1 else None
    lines = heat_lines(rows, lines_each, LEFT, theme, cursor=cursor)
    steps = run.metrics[names[0]].steps
    ends: Line = [(" " * LEFT, ""), (f"step {steps[0]:,.0f}", "dim")]
    drawn = [*lines, two_ends(ends, [*heat_legend(rows, theme), (" ", "")], width)][-height:]
    return [clip(line, width) for line in drawn]


def _columns(shares: Sequence[float], values: Sequence[float], count: int) -> list[float | None]:
    """The mean of the values in each column, by their shares of the width; a column without one repeats the last."""
    sums, numbers = [0.0] * count, [0] * count
    for share, value in zip(shares, values, strict=True):
        if 0 <= share <= 1:
            column = min(count - 1, int(share * count))
            sums[column] += value
            numbers[column] += 1
    means: list[float | None] = []
    last = max((n for n, number in enumerate(numbers) if number), default=-1)
    for n, (total, number) in enumerate(zip(sums, numbers, strict=True)):
        means.append(total / number if number else means[-1] if means and n <= last else None)
    return means
