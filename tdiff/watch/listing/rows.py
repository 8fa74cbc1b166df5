"""The rows of a table of runs: what is known of each run at one moment, their order, and a filter."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tdiff.runs import process as processes
from tdiff.runs.process import Machine, TrainingProcess
from tdiff.series.series import Series
from tdiff.visible import finite, visible_line
from tdiff.watch import lifecycle
from tdiff.watch.run_state import RunState
from tdiff.watch.sight import Sight, sight_of

READING = "reading"
"""The state of a run whose log, process.json or process has not been read yet: any other could be wrong."""
ACTIVE = ("running", "stalled")
"""States of runs that are at work, which come first."""
_TREND_POINTS = 120
"""The newest points by which the trend is measured."""
_LEAST_POINTS = 6
_SURE = 2.0
"""Standard errors by which two means must differ to be a trend."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One run. Its texts are safe to print; unknown values are None."""

    name: str
    where: str
    """The path or the address by which `tdiff watch` opens it; it may contain anything."""
    format: str
    """As `RunState.format`."""
    state: str
    """One of `lifecycle.State`, or READING."""
    reason: str
    """Why it is not at work, or what it is doing; "" if there is nothing to say."""
    step: int | None
    total: int | None
    progress: float | None
    """The share of the work done, 0..1."""
    loss: float | None
    """The newest training loss; NaN if it was not finite."""
    eval_loss: float | None
    trend: float | None
    """The relative change of the loss from the older to the newer half of its newest points; 0 if it is only noise."""
    eta: float | None
    """Remaining seconds."""
    age: float | None
    """Seconds since the newest record."""
    time: float
    """The time of the newest record, or of the newest change of the file, seconds since the epoch."""
    host: str
    pid: int | None
    device: str
    gpu: str
    """The number and the name of its GPU; "" if unknown."""
    heartbeat: float | None
    """Seconds since its last heartbeat."""
    size: int
    """Bytes on disk: of the run's folder, if that was measured, else of the log."""


def row(
    state: RunState,
    *,
    name: str,
    where: str,
    now: float,
    machine: Machine | None,
    process: TrainingProcess | None = None,
    heartbeat: float | None = None,
    modified: float = 0.0,
    skipped: bool = False,
    size: int = 0,
    problem: str = "",
    reading: bool = False,
) -> Row:
    """The row of a run at `now` (s since the epoch, by the clock of its host).

    `reading`: what its state depends on has not been read completely.
    `machine` is the one on which the files lie; None if no process can be looked up there. `skipped` says that only the
    beginning and the end of its log were read.
    """
    kind, reason = (READING, "") if reading else _state(state, now, machine, process, heartbeat, skipped)
    total = _total(state, skipped)
    train, held_out = state.metrics.get("train/loss"), state.metrics.get("eval/loss")
    curve = train or held_out or next((s for n, s in state.metrics.items() if "loss" in n.lower()), None)
    last = state.last_time
    time = modified if last is None else last
    has_steps = state.format not in ("", "log") or state.step > 0
    return Row(
        name=visible_line(name),
        where=where,
        format=state.format,
        state=kind,
        reason=visible_line(problem or reason),
        step=state.step if has_steps else None,
        total=total,
        progress=state.progress,
        loss=None if curve is None else newest(curve),
        eval_loss=None if held_out is None else newest(held_out),
        trend=None if curve is None else trend(curve),
        eta=_eta(state, total, now) if kind == "running" else None,
        age=max(0.0, now - time) if time else None,
        time=time,
        host=visible_line(process.host if process else state.process[1] if state.process else ""),
        pid=process.pid if process else state.process[0] if state.process else None,
        device=visible_line(process.device if process else state.start.device if state.start else ""),
        gpu=visible_line(process.gpu if process else ""),
        heartbeat=heartbeat,
        size=size,
    )


def ordered(rows: Iterable[Row]) -> list[Row]:
    """Runs at work first, then the newest."""

    def key(row: Row) -> tuple[bool, float, str]:  # those at work by name: the order by time would change all the time
        at_work = row.state in ACTIVE
        return not at_work, 0.0 if at_work else -row.time, row.name

    return sorted(rows, key=key)


def matching(rows: Sequence[Row], words: str) -> list[Row]:
    """The rows that contain each of the words in their name, state, format or host, in upper or lower case."""
    wanted = words.lower().split()

    def text(row: Row) -> str:
        return f"{row.name} {row.state} {row.format} {row.host}".lower()

    return [row for row in rows if all(word in text(row) for word in wanted)]


def data(row: Row) -> dict[str, Any]:
    """The row, ready for `json_line`: unknown and non-finite values are None."""
    values = asdict(row)
    names = {"eta": "eta_seconds", "age": "age_seconds", "heartbeat": "heartbeat_age_seconds", "size": "bytes"}
    values = {names.get(name, name): None if value == "" else value for name, value in values.items()}
    values["where"] = visible_line(row.where)
    result: dict[str, Any] = finite(values)
    return result


def newest(series: Series) -> float | None:
    """The newest value of a metric; NaN if it was not finite."""
    broken, last = series.broken, series.last
    if broken and (last is None or broken[-1] > last[0]):
        return math.nan
    return None if last is None else last[1]


def trend(series: Series) -> float | None:
    """The relative change of a metric from the older to the newer half of its newest points.

    0 if the two means differ by less than two standard errors; None if there are too few points.
    """
    values = list(series.mean[-_TREND_POINTS:])
    half = len(values) // 2
    if len(values) < _LEAST_POINTS:
        return None
    older, newer = values[:half], values[-half:]
    before, after = sum(older) / half, sum(newer) / half
    squares = sum((value - before) ** 2 for value in older) + sum((value - after) ** 2 for value in newer)
    error = math.sqrt(squares) / half
    if not before or abs(after - before) <= _SURE * error:
        return 0.0
    change = (after - before) / abs(before)
    return change if math.isfinite(change) else None


def _state(
    state: RunState,
    now: float,
    machine: Machine | None,
    process: TrainingProcess | None,
    heartbeat: float | None,
    skipped: bool,
) -> tuple[str, str]:
    """The state with its reason; see `lifecycle.judged`."""
    # The process id of the log may be that of an earlier start, or of another host.
    by_id = process is None and isinstance(machine, processes.ThisMachine) and not skipped
    sight = None
    if process is not None:
        seen = processes.presence(process, machine) if machine is not None else "unknown"
        sight = sight_of(process, seen, None if heartbeat is None else now - heartbeat)
    kind, reason = lifecycle.judged(_Vitals(state, state.process if by_id else None, sight), now)
    return kind, reason or state.failure or state.doing


class _Vitals:
    """The vitals of a run with another process."""

    def __init__(self, state: RunState, process: tuple[int, str] | None, sight: Sight | None) -> None:
        self.format, self.closed, self.ended, self.complete = state.format, state.closed, state.ended, state.complete
        self.doing, self.ending, self.timing = state.doing, state.ending, state.timing
        self.job, self.held_back, self.seen_until = state.job, state.held_back, state.seen_until
        self.process, self.sight = process, sight


def _total(state: RunState, skipped: bool) -> int | None:
    """The number of steps. A resume with another end may lie among the lines that were skipped."""
    if skipped and state.total and state.progress and state.step:
        share = state.step / state.progress
        if math.isfinite(share) and abs(share - state.total) > 0.01 * state.total:
            return round(share)
    return state.total


def _eta(state: RunState, total: int | None, now: float) -> float | None:
    """Seconds left at `now`: see `RunState.eta`; None if unknown."""
    since = max(0.0, now - (state.last_time or now))
    left = state.eta
    if left is None and total and not state.failure and state.ended is None:
        left = state.timing.left(state.step, total)
    return None if left is None or not math.isfinite(left) else max(0.0, left - since)
