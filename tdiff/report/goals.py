"""A snapshot's answers to `--target`, and to several runs: when a loss is reached, and how far apart the runs are."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Any

from tdiff import formatting
from tdiff.series.series import Series
from tdiff.visible import visible_line
from tdiff.watch.run_state import RunState
from tdiff.watch.trend import loss_arrival

_METRICS = (("loss", "train/loss"), ("validation loss", "eval/loss"))


def goals(runs: Sequence[RunState], target: float | None, smoothing: float) -> list[dict[str, Any]]:
    """For each run what belongs to its data: `target`, if there is one, and `difference` from the first run.

    Both are absent where they have no use. `smoothing`: the weight of the past in the training loss, 0..1.
    """
    return [
        ({} if target is None else {"target": _target(run, target, smoothing)})
        | ({} if run is runs[0] else {"difference": _differences(run, runs[0], smoothing)})
        for run in runs
    ]


def goal_lines(runs: Sequence[RunState], target: float | None, smoothing: float) -> Iterator[str]:
    """The same in words, a line each."""
    for run, goal in zip(runs, goals(runs, target, smoothing), strict=True):
        name = f"{visible_line(run.name)}: " if len(runs) > 1 else ""
        if target is not None:
            yield f"{name}target {target:g}: {_in_words(goal['target'])}"
        for label, metric in _METRICS:
            if (apart := goal.get("difference", {}).get(metric)) is not None:
                first = visible_line(runs[0].name)
                yield f"{name}{label} {apart['value']:+.4g} from {first} at step {apart['step']:,.0f}"


def _target(run: RunState, target: float, smoothing: float) -> dict[str, Any]:
    arrival = loss_arrival(run.metrics, run.clock, target, smoothing)
    if arrival is None:
        return {"value": target, "step": None, "reached": False, "seconds": None}
    return {"value": target, "step": arrival.step, "reached": arrival.reached, "seconds": arrival.seconds}


def _in_words(target: dict[str, Any]) -> str:
    step, seconds = target["step"], target["seconds"]
    if step is None:
        return "no trend towards it"
    if target["reached"]:
        return f"reached at step {step:,.0f}"
    ahead = f", in {formatting.duration(seconds)}" if seconds is not None else ""
    return f"about step {float(f'{step:.2g}'):,.0f}{ahead}"


def _differences(run: RunState, first: RunState, smoothing: float) -> dict[str, Any]:
    """Metric -> the newest step that both have reached, and the value of `run` less that of `first` there."""
    apart = {}
    for _, metric in _METRICS:
        mine, other = run.metrics.get(metric), first.metrics.get(metric)
        if mine is None or other is None or not (mine.steps and other.steps):
            continue
        step = min(mine.steps[-1], other.steps[-1])
        weight = smoothing if metric == "train/loss" else 0.0
        values = [_value_at(series, step, weight) for series in (mine, other)]
        if values[0] is not None and values[1] is not None:
            apart[metric] = {"step": step, "value": values[0] - values[1]}
    return apart


def _value_at(series: Series, step: float, smoothing: float) -> float | None:
    """The newest value up to a step."""
    at = bisect_right(series.steps, step) - 1
    return None if at < 0 else series.smoothed(smoothing)[at]
