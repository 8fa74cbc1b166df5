"""The figures of a run beside its curves: short pairs of name and value, wrapped into lines.

Names, units and formats are those of the table of metrics.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tdiff import formatting
from tdiff.draw.render import Line
from tdiff.protocol.metrics import METRICS
from tdiff.tui.widgets.lines import line_width
from tdiff.watch.run_state import RunState
from tdiff.watch.trend import Arrival

Figure = tuple[str, str]
"""(name, value)."""

_TRAIN, _VALIDATION = METRICS["train/loss"], METRICS["eval/loss"]
_OTHERS = tuple(
    METRICS[name]
    for name in (
        "train/grad_norm",
        "train/lr",
        "train/tokens_per_second",
        "gpu/load",
        "gpu/memory",
        "gpu/temperature",
        "gpu/power",
    )
)
"""Metrics of which the newest value is a figure, the most important first."""
BEST = f"best {_VALIDATION.curve}"
"""The name of the lowest validation loss among the figures."""


def figures(run: RunState, smoothing: float) -> list[Figure]:
    """The figures of a run, the most important first."""
    pairs: list[Figure] = []

    def last(name: str) -> float | None:
        series = run.metrics.get(name)
        return series.last[1] if series is not None and series.last else None

    train, held = run.metrics.get(_TRAIN.name), run.metrics.get(_VALIDATION.name)
    if train is not None and train.last:
        pairs.append((_TRAIN.curve, _TRAIN.text(train.last[1])))
        if smoothing and len(smooth := train.smoothed(smoothing)):
            pairs.append((average(smoothing), _TRAIN.text(smooth[-1])))
    if held is not None and held.last:
        pairs.append((_VALIDATION.curve, _VALIDATION.text(held.last[1])))
    evaluated = held if held is not None else train
    best = evaluated.best if evaluated is not None else None
    if best:
        pairs.append((BEST if evaluated is held else "best", f"{_TRAIN.text(best[0])} @{best[1]:,.0f}"))
    accuracy = METRICS["eval/accuracy"]
    if (right := last(accuracy.name)) is not None and run.verdicts is not None:
        pairs.append((accuracy.label, accuracy.text(right)))
    pairs += [(metric.label, metric.full_text(value)) for metric in _OTHERS if (value := last(metric.name)) is not None]
    return pairs


def target_figure(target: float, arrival: Arrival) -> Figure:
    """When a target is reached."""
    name = f"target {target:g}"
    if arrival.step is None:
        return name, "no trend towards it"
    if arrival.reached:
        return name, f"reached @{arrival.step:,.0f}"
    ahead = f", in {formatting.duration(arrival.seconds)}" if arrival.seconds is not None else ""
    return name, f"~@{float(f'{arrival.step:.2g}'):,.0f}{ahead}"


def average(smoothing: float) -> str:
    """The label of the smoothed curve: EMA .6."""
    return f"EMA {smoothing:g}".replace("0.", ".")


def progress(run: RunState, now: float) -> str:
    """Step k of n, percent, and the remaining time."""
    total = f"/{formatting.short(run.total)}" if run.total else ""
    parts = [f"step {run.step:,}{total}"]
    if run.progress is not None:
        parts.append(f"{run.progress:.0%}")
    if (left := run.left(now)) is not None:
        parts.append(f"ETA {formatting.duration(left)}")
    over = run.ended is not None or bool(run.failure)  # the scheduler may report that later
    if run.job is not None and not over and (limit := run.job.limit_line(now)):
        parts.append(limit)
    return " · ".join(parts)


def flow(pairs: Sequence[Figure], width: int, rows: int, styles: Mapping[str, str] | None = None) -> list[Line]:
    """The figures in at most `rows` lines of `width` cells; figures that do not fit are left out.

    `styles` (name -> style) are the colours of the curves that some figures belong to.
    """
    lines: list[Line] = [[]]
    for name, value in pairs:
        colour = (styles or {}).get(name, "")
        pair: Line = [(f" {name} " if name else " ", colour or "dim"), (value, f"bold {colour}".rstrip()), (" ", "")]
        if line_width(lines[-1]) + line_width(pair) > width and lines[-1]:
            if len(lines) == rows:
                break
            lines.append([])
        lines[-1] += pair
    return lines
