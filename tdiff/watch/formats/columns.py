"""Rows of named numbers: which column is the step, which the time, and which metric each of the others is.

This module knows columns only, neither JSON nor CSV nor any program's output.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from tdiff.protocol.metrics import ALIASES
from tdiff.visible import visible_line
from tdiff.watch.formats.base import MAX_STEP, Sink
from tdiff.watch.formats.names import PART, Role, meaning

STEPS = ("step", "global_step", "iteration", "iter", "it", "epoch")
"""Columns that count steps, in order of preference."""
TIMES = ("time", "timestamp", "wall_time", "_timestamp")
ELAPSED = ("elapsed", "elapsed_time", "elapsed_seconds", "time_elapsed", "total_time", "runtime", "_runtime")
"""Columns with the seconds since the start, which show how long a record takes."""
TOKENS = ("tokens", "tokens_seen", "num_tokens", "num_input_tokens_seen")
_EARLIEST, _LATEST = 1e8, 1e11
_MAX_PLANS, _MAX_EPOCHS = 64, 10_000


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
    """Turns rows into points of a sink, and counts rows that have no step column."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._plans: dict[tuple[str, ...], Plan] = {}
        self._count = 0
        self._last = -math.inf  # the newest step
        self._epoch = -1.0
        self._offsets: dict[float, float] = {}  # epoch -> its first step, where steps restart with each epoch

    def plan(self, names: tuple[str, ...]) -> Plan:
        """What columns with these names mean."""
        plan = self._plans.get(names)
        if plan is None:
            if len(self._plans) >= _MAX_PLANS:
                self._plans.clear()
            plan = self._plans[names] = _plan(names)
        return plan

    def take(self, row: Mapping[str, float]) -> None:
        """Read the next row: its numeric columns, which may be non-finite."""
        if not row:
            return
        plan = self.plan(tuple(row))
        self._count += 1
        column = next((name for name in plan.steps if abs(row[name]) < MAX_STEP), None)
        step = self._global_step(row[column], row, plan, column) if column is not None else float(self._count)
        time = epoch_seconds(row[plan.time]) if plan.time is not None else None
        values = {name: row[key] for key, name in plan.metrics if key != column}
        if plan.time is not None and time is None:
            values[visible_line(plan.time)] = row[plan.time]  # not a date: seconds since something else
        since_start = plan.elapsed or (plan.time if time is None else None)
        if since_start is not None:
            self._sink.elapsed(row[since_start])
        self._sink.points(
            [step],
            {name: [value] for name, value in values.items()},
            None if time is None else [time],
            None if plan.tokens is None else [row[plan.tokens]],
        )

    def _global_step(self, step: float, row: Mapping[str, float], plan: Plan, column: str) -> float:
        """The step, counted across epochs where the column restarts with each epoch."""
        if plan.epoch is None or column == plan.epoch or not abs(row[plan.epoch]) < MAX_STEP:
            return step
        epoch = float(math.floor(row[plan.epoch]))
        if epoch not in self._offsets:
            offset = self._offsets.get(self._epoch, 0.0) if epoch > self._epoch else 0.0
            if len(self._offsets) >= _MAX_EPOCHS:
                self._offsets.clear()
            restarts = epoch > self._epoch and step + offset < self._last
            self._offsets[epoch] = self._last if restarts else offset
        self._epoch = epoch
        self._last = step + self._offsets[epoch]
        return self._last


def _plan(names: tuple[str, ...]) -> Plan:
    by_name = {normalized(name): name for name in reversed(names)}
    counts = sorted((name for name in names if _counts(name)), key=lambda name: meaning(name).precedence)
    known = [by_name[name] for name in STEPS if name in by_name]
    steps = tuple(dict.fromkeys([*(name for name in known if normalized(name) != "epoch"), *counts, *known]))
    time = next((by_name[name] for name in TIMES if name in by_name), None)
    tokens = next((by_name[name] for name in TOKENS if name in by_name), None)
    metrics, used, aliases = [], set(), list(ALIASES)
    # Where two columns are aliases of one metric, the one listed first in ALIASES gets the metric's name.
    order = sorted(names, key=lambda name: aliases.index(normalized(name)) if normalized(name) in ALIASES else -1)
    for name in order:
        if name in (time, tokens) or normalized(name) in STEPS[:-1] or (name in steps and normalized(name) != "epoch"):
            continue
        alias = _alias(name, names)
        metric = alias if alias and alias not in used else visible_line(name[:100])
        used.add(metric)
        metrics.append((name, metric))
    elapsed = next((by_name[name] for name in ELAPSED if name in by_name), None)
    return Plan(steps, time, tokens, by_name.get("epoch"), elapsed, tuple(metrics))


def _counts(name: str) -> bool:
    """Whether a column counts steps of training."""
    known = meaning(name)
    return known.role is Role.STEP and known.split != "eval"


def _alias(name: str, names: tuple[str, ...]) -> str | None:
    """The shared name of the metric in a column: by the list, else by what its name means if no other fits better."""
    if (alias := ALIASES.get(normalized(name))) is not None:
        return alias
    known = meaning(name)
    if known.role is Role.LEARNING_RATE:
        return "train/lr"
    if known.role is Role.GRAD_NORM:
        return "train/grad_norm"
    if known.role is not Role.LOSS or known.precedence >= PART:
        return None
    split = known.split or "train"
    rivals = (meaning(other) for other in names if other != name)
    better = any(
        rival.role is Role.LOSS and (rival.split or "train") == split and rival.precedence < known.precedence
        for rival in rivals
    )
    return None if better else f"{split}/loss"


def normalized(name: str) -> str:
    """A column's name as it is looked up: lower case, with underscores for blanks."""
    return name[:100].lower().replace(" ", "_")


def json_number(value: Any) -> float | None:
    """A JSON number, finite or not; None for other types and for integers beyond the range of a double."""
    if type(value) is float:
        return value
    if type(value) is not int:
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def epoch_seconds(value: Any) -> float | None:
    """Seconds since the epoch, from seconds, milli-, micro- or nanoseconds; None for a number that cannot be a date."""
    if not isinstance(value, (int, float)) or not _EARLIEST <= value < 1e20:
        return None
    while value >= _LATEST:
        value /= 1e3
    return float(value) if value >= _EARLIEST else None
