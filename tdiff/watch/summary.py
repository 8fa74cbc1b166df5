"""What happened while the user was away, in a few short lines."""

from __future__ import annotations

from tdiff.formatting import duration
from tdiff.watch.run_state import RunState


def since(run: RunState, time: float) -> list[str]:
    """What happened after `time` (s since the epoch), in up to four lines; none if nothing did or times are unknown."""
    if not run.timing.known or run.last_time is None or run.last_time <= time:
        return []
    lines = []
    before = run.timing.step_at(time)
    if run.metrics and run.step > before:
        loss, change = run.metrics.get("train/loss"), ""
        if loss is not None and loss.last is not None:
            index = min(loss.index(before), len(loss.steps) - 1)
            change = f", train loss {loss.mean[index]:.4g} to {loss.last[1]:.4g}"
        lines.append(f"{run.step - before:,.0f} steps in {duration(run.last_time - time)}{change}")
    held_out = run.metrics.get("eval/loss")
    if held_out is not None and held_out.best is not None and held_out.best[1] > before:
        lines.append(f"best validation loss {held_out.best[0]:.4g} at step {held_out.best[1]:,.0f}")
    notices = [notice for notice in run.alerts if notice.time is not None and notice.time > time]
    if notices:
        others = f" (and {len(notices) - 1} more)" if len(notices) > 1 else ""
        lines.append(f"{notices[-1].what}: {notices[-1].text}{others}")
    samples = sum(sample.time > time for sample in run.samples)
    if samples:
        lines.append(f"{samples} sample{'s' * (samples > 1)}, the newest at step {run.samples[-1].step:,}")
    return lines
