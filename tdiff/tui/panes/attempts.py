"""The curves of earlier attempts, which restarts have discarded: faint, below those of the runs."""

from __future__ import annotations

from collections.abc import Sequence

from tdiff.draw.axes import Axis
from tdiff.draw.curves import Curve
from tdiff.watch.run_state import RunState


def attempt_curves(runs: Sequence[RunState], metric: str, axis: Axis, styles: Sequence[str]) -> list[Curve]:
    """One curve for each stored attempt of each run that has the metric; `styles` has a style for each run."""
    curves = []
    for n, run in enumerate(runs):
        now = {"time": run.clock, "tokens": run.tokens}.get(axis)
        origin = now.high[0] if now and now.steps and axis == "time" else 0.0
        for attempt in run.attempts.stored:
            series = attempt.metrics.get(metric)
            if series is not None and series.steps:
                clock = {"time": attempt.clock, "tokens": attempt.tokens}.get(axis)
                curves.append(
                    Curve(series, styles[n % len(styles)], f"attempt {attempt.number}", clock, origin, faint=True)
                )
    return curves
