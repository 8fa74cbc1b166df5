"""The figures of a run beside its curves: short pairs of name and value, wrapped into lines."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tdiff.draw.render import Line
from tdiff.formatting import duration
from tdiff.tui.widgets.lines import line_width
from tdiff.watch.run_state import RunState

Figure = tuple[str, str]
"""(name, value)."""


def number(value: float | None, digits: int = 4) -> str:
    """A number of so many digits, zeros at its end too: 2.284, 3.000, 91.00, 2.7e-04, 87.4k, 12.3M."""
    if value is None or not math.isfinite(value):
        return "n/a"
    size = abs(value)
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if size >= unit:
            scale = 1e3 if name == "k" else unit
            return f"{value / scale:.{max(0, digits - 1 - len(str(int(size / scale))))}f}{name}"
    if size >= 1e3 and digits < 4:
        return f"{value:,.0f}"
    if size and size < 1e-3:
        return f"{value:.1e}"
    return f"{value:#.{digits}g}".removesuffix(".")


def figures(story: RunState, smoothing: float) -> list[Figure]:
    """The figures of a run, the most important first."""
    pairs: list[Figure] = []

    def last(name: str) -> float | None:
        series = story.metrics.get(name)
        return series.last[1] if series is not None and series.last else None

    train, held = story.metrics.get("train/loss"), story.metrics.get("eval/loss")
    if train is not None and train.last:
        pairs.append(("train", number(train.last[1])))
        if smoothing and len(smooth := train.smoothed(smoothing)):
            pairs.append((average(smoothing), number(smooth[-1])))
    if held is not None and held.last:
        pairs.append(("val", number(held.last[1])))
    evaluated = held if held is not None else train
    best = evaluated.best if evaluated is not None else None
    if best:
        pairs.append(("best val" if evaluated is held else "best", f"{number(best[0])} @{best[1]:,.0f}"))
    if (right := last("eval/accuracy")) is not None and story.verdicts is not None:
        pairs.append(("right", f"{right:.1%}"))
    for label, name in (("grad", "train/grad_norm"), ("lr", "train/lr")):
        if (value := last(name)) is not None:
            pairs.append((label, number(value, 3)))
    if (speed := last("train/tokens_per_second")) is not None:
        pairs.append(("tok/s", number(speed, 3)))
    if (load := last("gpu/load")) is not None:
        pairs.append(("GPU", f"{load:.0f}%"))
    if (memory := last("gpu/memory")) is not None:
        pairs.append(("mem", f"{memory:.1f}G"))
    if (heat := last("gpu/temperature")) is not None:
        pairs.append(("", f"{heat:.0f}°C"))
    if (power := last("gpu/power")) is not None:
        pairs.append(("", f"{power:.0f}W"))
    return pairs


def average(smoothing: float) -> str:
    """The label of the smoothed curve: EMA .6."""
    return f"EMA {smoothing:g}".replace("0.", ".")


def progress(story: RunState, now: float) -> str:
    """Step k of n, percent, and the remaining time."""
    total = f"/{story.total:,}" if story.total and story.total < 100_000 else f"/{number(story.total)}"
    parts = [f"step {story.step:,}{total if story.total else ''}"]
    if story.progress is not None:
        parts.append(f"{story.progress:.0%}")
    if (left := story.left(now)) is not None:
        parts.append(f"ETA {duration(left)}")
    if story.job is not None and (limit := story.job.limit_line(now)):
        parts.append(limit)
    return " · ".join(parts)


def flow(pairs: Sequence[Figure], width: int, rows: int) -> list[Line]:
    """The figures in at most `rows` lines of `width` cells; figures that do not fit are left out."""
    lines: list[Line] = [[]]
    for name, value in pairs:
        pair: Line = [(f" {name} " if name else " ", "dim"), (value, "bold"), (" ", "")]
        if line_width(lines[-1]) + line_width(pair) > width and lines[-1]:
            if len(lines) == rows:
                break
            lines.append([])
        lines[-1] += pair
    return lines
