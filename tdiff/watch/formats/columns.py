"""Rows of named numbers: which column is the step, which the time, and what the others are called.

It knows neither JSON nor CSV nor a program's output, only their columns.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from tdiff.visible import visible_line

if TYPE_CHECKING:
    from tdiff.watch.run_state import RunState

STEPS = ("step", "global_step", "iteration", "iter", "it", "epoch")
"""Columns that count steps, the best first."""
TIMES = ("time", "timestamp", "wall_time", "_timestamp")
ELAPSED = ("elapsed", "elapsed_time", "elapsed_seconds", "time_elapsed", "total_time", "runtime", "_runtime")
"""Columns of the seconds since the start, by which one knows how long a record takes."""
TOKENS = ("tokens", "tokens_seen", "num_tokens", "num_input_tokens_seen")
ALIASES = {
    "loss": "train/loss",
    "train_loss": "train/loss",
    "val_loss": "eval/loss",
    "eval_loss": "eval/loss",
    "valid_loss": "eval/loss",
    "validation_loss": "eval/loss",
    "learning_rate": "train/lr",
    "lr": "train/lr",
    "grad_norm": "train/grad_norm",
    "tokens_per_second": "train/tokens_per_second",
}
"""What columns are called here; one that is not listed keeps its name."""
KNOWN = {*STEPS, *TIMES, *TOKENS, *ALIASES}
FARTHEST = 2.0**53
"""Steps and tokens at or beyond this are no counts."""
_EARLIEST, _LATEST = 1e8, 1e11
_PLANS, _EPOCHS = 64, 10_000
MOST_COLUMNS = 512
"""Of one row; the others are passed over."""


class Plan(NamedTuple):
    """What the columns of a row mean."""

    steps: tuple[str, ...]
    time: str | None
    tokens: str | None
    epoch: str | None
    elapsed: str | None
    metrics: tuple[tuple[str, str], ...]
    """(column, metric)."""


class RowReader:
    """Turns rows into points of a story, and counts them where no column does."""

    def __init__(self, story: RunState) -> None:
        self._story = story
        self._plans: dict[tuple[str, ...], Plan] = {}
        self._count = 0
        self._last = -math.inf  # the newest step
        self._epoch = -1.0
        self._offsets: dict[float, float] = {}  # where an epoch begins, for steps that count anew in each

    def plan(self, names: tuple[str, ...]) -> Plan:
        """What columns of these names mean."""
        found = self._plans.get(names)
        if found is None:
            if len(self._plans) >= _PLANS:
                self._plans.clear()
            found = self._plans[names] = _plan(names)
        return found

    def take(self, row: Mapping[str, float]) -> None:
        """The next row: its numeric columns, which may be not finite."""
        if not row:
            return
        plan = self.plan(tuple(row))
        self._count += 1
        column = next((name for name in plan.steps if abs(row[name]) < FARTHEST), None)
        step = self._place(row[column], row, plan, column) if column is not None else float(self._count)
        time = when(row[plan.time]) if plan.time is not None else None
        values = {name: row[key] for key, name in plan.metrics if key != column}
        if plan.time is not None and time is None:
            values[visible_line(plan.time)] = row[plan.time]  # seconds of something else
        since_start = plan.elapsed or (plan.time if time is None else None)
        if since_start is not None:
            self._story.elapse(row[since_start])
        self._story.points(
            [step],
            {name: [value] for name, value in values.items()},
            None if time is None else [time],
            None if plan.tokens is None else [row[plan.tokens]],
        )

    def _place(self, step: float, row: Mapping[str, float], plan: Plan, column: str) -> float:
        """The step, counted through where it begins anew with each epoch."""
        if plan.epoch is None or column == plan.epoch or not abs(row[plan.epoch]) < FARTHEST:
            return step
        epoch = float(math.floor(row[plan.epoch]))
        if epoch not in self._offsets:
            offset = self._offsets.get(self._epoch, 0.0) if epoch > self._epoch else 0.0
            if len(self._offsets) >= _EPOCHS:
                self._offsets.clear()
            anew = epoch > self._epoch and step + offset < self._last
            self._offsets[epoch] = self._last if anew else offset
        self._epoch = epoch
        self._last = step + self._offsets[epoch]
        return self._last


def _plan(names: tuple[str, ...]) -> Plan:
    lowered = {spelled(name): name for name in reversed(names)}
    steps = tuple(lowered[name] for name in STEPS if name in lowered)
    time = next((lowered[name] for name in TIMES if name in lowered), None)
    tokens = next((lowered[name] for name in TOKENS if name in lowered), None)
    metrics, used, aliases = [], set(), list(ALIASES)
    # A column with an alias goes before one that has another for the same.
    order = sorted(names, key=lambda name: aliases.index(spelled(name)) if spelled(name) in ALIASES else -1)
    for name in order:
        if name in (time, tokens) or spelled(name) in STEPS[:-1]:
            continue
        alias = ALIASES.get(spelled(name))
        called = alias if alias and alias not in used else visible_line(name[:100])
        used.add(called)
        metrics.append((name, called))
    elapsed = next((lowered[name] for name in ELAPSED if name in lowered), None)
    return Plan(steps, time, tokens, lowered.get("epoch"), elapsed, tuple(metrics))


def spelled(name: str) -> str:
    """A column's name as it is looked up: small letters, no blanks."""
    return name[:100].lower().replace(" ", "_")


def number(value: Any) -> float | None:
    """A number of JSON, finite or not; None for what is none, and for whole numbers too large to draw."""
    if type(value) is float:
        return value
    if type(value) is not int:
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def clock(name: str, value: Any) -> float | None:
    """Seconds since the epoch where a column that tells the time holds a date; a date without a zone is of here."""
    if not isinstance(value, str) or len(value) > 40 or spelled(name) not in TIMES:
        return None
    try:
        return datetime.fromisoformat(value).timestamp()
    except (ValueError, OverflowError, OSError):
        return None


def when(value: Any) -> float | None:
    """Seconds since the epoch, from those or from milli-, micro- or nanoseconds; None for what can be no date."""
    if not isinstance(value, (int, float)) or not _EARLIEST <= value < 1e20:
        return None
    while value >= _LATEST:
        value /= 1e3
    return float(value) if value >= _EARLIEST else None
