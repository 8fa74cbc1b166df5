"""The texts around the curves: what is drawn and how, the figures of a run, and the newest values of several."""

from __future__ import annotations

from collections.abc import Sequence

from tdiff.draw.axes import Axis
from tdiff.draw.curves import View
from tdiff.draw.palettes import Theme
from tdiff.draw.run_styles import run_styles
from tdiff.errors import TdiffError
from tdiff.protocol.metrics import METRICS, value_text
from tdiff.series.series import LIMIT
from tdiff.tui.figures import BEST, Figure, average, figures, target_figure
from tdiff.tui.run_curves import HELD_OUT, LOSS, SIGNS, Selection, run_label
from tdiff.watch.run_state import RunState
from tdiff.watch.trend import loss_arrival


def title(selection: Selection, runs: int) -> str:
    """What is drawn, of so many runs."""
    metric, comparison = selection.metric, selection.comparison
    text = f"A-B of {metric}" if comparison == "runs" else f"{SIGNS[comparison]} loss" if comparison else metric
    return f"{text} · {runs} runs" if runs > 1 else text


def waiting(run: RunState, now: float) -> str:
    """Why a run has no curve so far: what its reader did not find, its job, its source, or nothing in particular."""
    if run.note:
        return run.note
    if run.job is not None and not run.format:
        return run.job.line(now) + (f"; {run.absence}" if run.absence else "")
    return run.absence or "waiting for the first record ..."


def state(view: View, selection: Selection, axis: Axis, left_out: Sequence[int]) -> str:
    """How the curves are drawn; `left_out` are the numbers of the runs whose values on the x axis are unknown."""
    parts = [average(view.smoothing) if view.smoothing else "raw"]
    parts.append(("log" if view.log_y else "lin") + (" · log x" if view.log_x else ""))
    parts.append(f"by {axis}" + (" from start" if selection.from_start and axis != "time" else ""))
    if view.x0 is not None or view.x1 is not None:
        parts.append("zoomed")
    if view.y0 is not None or view.y1 is not None:
        parts.append("y zoomed")
    elif not view.robust:
        parts.append("all values")
    return " · ".join([*parts, *(f"{chr(65 + number)} has no {axis}" for number in left_out)])


def number_of(text: str) -> float | None:
    """The target that a user typed; None for an empty text. Raises TdiffError for what is no finite number."""
    try:
        target = float(text) if text.strip() else None
    except ValueError:
        raise TdiffError(f"a target is a number, such as 2.5; got {text!r}") from None
    if target is not None and not abs(target) < LIMIT:
        raise TdiffError(f"a target is a finite number; got {text!r}")
    return target


def run_figures(run: RunState, smoothing: float, target: float | None) -> list[Figure]:
    """The figures of a run, with when it reaches a target before its best value."""
    values = figures(run, smoothing)
    if target is not None:
        names = [name for name, _ in values]
        at = next((names.index(name) for name in (BEST, "best") if name in names), 0)
        values.insert(at, _target_figure(run, smoothing, target))
    return values


def _target_figure(run: RunState, smoothing: float, target: float) -> Figure:
    arrival = loss_arrival(run.metrics, run.clock, target, smoothing)
    return (f"target {target:g}", "no loss yet") if arrival is None else target_figure(target, arrival)


def figure_styles(selection: Selection, smoothing: float, theme: Theme) -> dict[str, str]:
    """The styles of the figures whose curves are drawn: name -> style."""
    if selection.metric != LOSS or selection.comparison:
        return {}
    train, held = run_styles(0, theme)
    return {METRICS[LOSS].curve: train, average(smoothing): train, METRICS[HELD_OUT].curve: held, BEST: held}


def newest_values(runs: Sequence[RunState], metric: str, theme: Theme) -> tuple[list[Figure], dict[str, str]]:
    """The newest value of each of several runs, and the styles of their names."""
    pairs, styles = [], {}
    for number, run in enumerate(runs):
        series = run.metrics.get(metric)
        value = value_text(metric, series.last[1]) if series is not None and series.last else "n/a"
        name = run_label(number, run)
        pairs.append((name, value))
        styles[name] = run_styles(number, theme)[0]
    return pairs, styles
