"""What happened while nobody looked, in a few short lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tdiff.formatting import duration

if TYPE_CHECKING:
    from tdiff.watch.run_state import RunState


def told(story: RunState, since: float, begin: float) -> list[str]:
    """What happened after `since`, seconds since the epoch, when the step was `begin`: up to four lines."""
    lines = []
    if story.last_time is not None and story.metrics and story.step > begin:
        loss, moved = story.metrics.get("train/loss"), ""
        if loss is not None and loss.last is not None:
            at = min(loss.index(begin), len(loss.steps) - 1)
            moved = f", train loss {loss.mean[at]:.4g} to {loss.last[1]:.4g}"
        lines.append(f"{story.step - begin:,.0f} steps in {duration(story.last_time - since)}{moved}")
    held = story.metrics.get("eval/loss")
    if held is not None and held.best is not None and held.best[1] > begin:
        lines.append(f"best validation loss {held.best[0]:.4g} at step {held.best[1]:,.0f}")
    notices = [notice for notice in story.alerts if notice.time is not None and notice.time > since]
    if notices:
        more = f" (and {len(notices) - 1} more)" if len(notices) > 1 else ""
        lines.append(f"{notices[-1].what}: {notices[-1].text}{more}")
    samples = sum(sample.time > since for sample in story.samples)
    if samples:
        lines.append(f"{samples} sample{'s' * (samples > 1)}, the newest at step {story.samples[-1].step:,}")
    return lines
