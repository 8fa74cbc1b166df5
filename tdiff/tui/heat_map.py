"""The loss by mask ratio over the steps of a run, as a heat map over the x axis of its curves."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tdiff.draw.curves import ChartLayout, Curve
from tdiff.draw.heat import HeatRow, fitting, heat_legend, heat_lines
from tdiff.draw.palettes import Theme
from tdiff.draw.render import Line
from tdiff.tui.widgets.lines import clip, line_width, two_ends
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
    names = _names(run)
    chosen, lines_each = fitting(len(names), max(1, height - 1))
    rows = [_row(run, names[n], lambda step: frame.x.share(curve.x(step)), columns) for n in chosen]
    share = None if x is None else frame.x.share(x)
    cursor = min(columns - 1, int(share * columns)) if share is not None and 0 <= share <= 1 else None
    lines = heat_lines(rows, lines_each, LEFT, theme, cursor=cursor)
    steps = run.metrics[names[0]].steps
    ends: Line = [(" " * LEFT, ""), (f"step {steps[0]:,.0f}", "dim")]
    drawn = [*lines, two_ends(ends, [*heat_legend(rows, theme), (" ", "")], width)][-height:]
    return [clip(line, width) for line in drawn]


def small(run: RunState, width: int, theme: Theme) -> list[Line]:
    """The map without a chart: a heading with its legend, then a line for each mask ratio; no line without ratios.

    Its colours are those of the large map, but dim: beside a text it is not what one looks at.
    """
    if not (names := _names(run)):
        return []
    columns = max(1, width - LEFT - RIGHT)
    every = [run.metrics[name].steps for name in names]
    first, last = min(steps[0] for steps in every), max(steps[-1] for steps in every)
    span = last - first or 1.0
    rows = [_row(run, name, lambda step: (step - first) / span, columns) for name in names]
    heading: Line = [("loss by mask ratio", "bold"), ("   over the steps", "dim")]
    legend = _dimmed(heat_legend(rows, theme))
    for shown in (heading, heading[:1]):
        if line_width(shown) + line_width(legend) + 2 <= width:
            heading = two_ends(shown, legend, width)
            break
    return [heading, *(_dimmed(line) for line in heat_lines(rows, 1, LEFT, theme))]


def _dimmed(line: Line) -> Line:
    """The line with its colours dim."""
    return [(text, f"dim {style}" if style.startswith("color") else style) for text, style in line]


def _names(run: RunState) -> list[str]:
    """The metrics of the mask ratios that have values, the highest ratio first."""
    return sorted((name for name, s in run.metrics.items() if name.startswith(PREFIX) and s.steps), reverse=True)


def _row(run: RunState, name: str, share: Callable[[float], float], columns: int) -> HeatRow:
    """The values of a mask ratio; `share` is the place of a step, 0 at the left end to 1 at the right."""
    series = run.metrics[name]
    ratio = name.removeprefix(PREFIX).removeprefix("0")
    return HeatRow(
        f"t {ratio}", _columns([share(step) for step in series.steps], series.mean, columns), f"{series.mean[-1]:.2f}"
    )


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
