"""What a tracker is, and how the records of a run reach it."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import suppress
from typing import Protocol

from tdiff.protocol.events import Eval, Event, Start, Train, Verdicts
from tdiff.protocol.metrics import METRICS


class Tracker(Protocol):
    """Takes the records of one run, in order."""

    name: str
    """What messages call it."""

    def record(self, event: Event) -> None:
        """Take a record. It may raise any exception, after which it gets no more records."""

    def close(self) -> None:
        """Write what is still held back. Called once, also where a record has failed."""


def measurements(event: Event) -> dict[str, float]:
    """The numbers of a record by the names of METRICS; what was not measured is absent, what was not finite is NaN.

    The losses by mask ratio are called `train/loss at mask ratio 0.05` and so on, by the middle of their interval.
    """
    match event:
        case Train():
            fields = [m for m in METRICS.values() if m.field and hasattr(event, m.field)]
            values = {metric.name: _number(getattr(event, metric.field), metric.name) for metric in fields}
            width = 1 / max(len(event.loss_by_mask), 1)
            for index, loss in enumerate(event.loss_by_mask):
                values[f"train/loss at mask ratio {(index + 0.5) * width:.2f}"] = loss
            return {name: value for name, value in values.items() if value is not None}
        case Eval():
            return {
                "eval/loss": _finite(event.nats_per_token),
                "eval/nats_per_char": _finite(event.nats_per_char),
            }
        case Verdicts():
            return {"eval/accuracy": event.accuracy, "eval/calibration_error": event.ece}
        case _:
            return {}


def step_of(event: Event) -> int:
    """The step of a record; 0 for the start of a run."""
    return 0 if isinstance(event, Start) else event.step


def tracked(
    records: Iterable[Event], trackers: Sequence[Tracker], say: Callable[[str], None]
) -> Generator[Event, None, None]:
    """Yield `records` as they come, each after all trackers have it.

    Training goes on without a tracker that fails: `say` gets one line about it. All trackers are closed at the end.
    """
    active = list(trackers)
    try:
        for record in records:
            for tracker in list(active):
                try:
                    tracker.record(record)
                except Exception as error:  # of another program's library, or of a full disk
                    active.remove(tracker)
                    say(f"{tracker.name} gets no more records: {_reason(error)}")
                    with suppress(Exception):
                        tracker.close()
            yield record
    finally:
        for tracker in active:
            try:
                tracker.close()
            except Exception as error:
                say(f"{tracker.name} was not closed: {_reason(error)}")


def _number(value: float | None, name: str) -> float | None:
    if value is None:
        return None if name.startswith("gpu/") else math.nan
    return float(value)


def _finite(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _reason(error: Exception) -> str:
    words = str(error).strip().splitlines()
    return f"{type(error).__name__}: {words[0]}" if words else type(error).__name__
