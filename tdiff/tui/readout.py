"""The values of the curves at one x, with the step and the time, as a line."""

from __future__ import annotations

from collections.abc import Sequence

from tdiff.draw.axes import x_label
from tdiff.draw.curves import Curve, readout
from tdiff.draw.palettes import Theme
from tdiff.draw.render import Line
from tdiff.formatting import duration
from tdiff.protocol.metrics import value_text
from tdiff.tui.run_curves import RunCurve, Selection
from tdiff.watch.log import clock_time
from tdiff.watch.run_state import RunState


def cursor_line(
    run_curves: Sequence[RunCurve],
    drawn: Sequence[Curve],
    x: float,
    smoothing: float,
    selection: Selection,
    theme: Theme,
) -> Line:
    """The values of the `drawn` curves at x, and the step and the time of the first run there.

    `run_curves` are the curves of the runs, the first run last; `drawn` may be a comparison of them.
    """
    first = readout([one.curve for one in run_curves], x)
    values = readout(drawn, x, smoothing)
    if not first or not values:
        return []
    step = first[-1][2]
    styles = {curve.label: curve.style if theme.colour != "none" else "" for curve in drawn}
    epoch = f" epoch {x_label(x, 'epoch', 0.01)}" if selection.axis == "epoch" else ""
    line: Line = [(f"@{step:,.0f}{epoch}", "bold")]
    for label, value, _ in reversed(values):
        line.append((f"  {label} {value_text(selection.metric, value)}", styles[label]))
    run = run_curves[-1].run
    line += [(f" · {part}", "dim") for part in _times(run, step)]
    return line


def _times(run: RunState, step: float) -> list[str]:
    """The time of day at a step, and the time since the start, where they are known."""
    time = run.timing.time_of(step)
    parts = [] if time is None else [clock_time(time)]
    if run.clock.steps:
        since = Curve(run.clock, "", "", run.clock, run.clock.high[0]).x(step)
        parts.append(f"{duration(max(0.0, since))} in")
    return parts
