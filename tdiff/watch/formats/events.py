"""The records of a run of tdiff, read fast: many train records at once, the others one by one.

It tells a story what they mean, and keeps nothing but the count that thins the losses by share masked.
"""

from __future__ import annotations

import json
import math
import time
from array import array
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any, assert_never

from tdiff.protocol.events import (
    Alert,
    Checkpoint,
    End,
    Eval,
    Event,
    Heartbeat,
    Resume,
    Sample,
    Start,
    Train,
    Verdicts,
    parse,
)
from tdiff.protocol.trace import TraceEnd, TraceHeader, TraceStep
from tdiff.report.events import describe
from tdiff.visible import visible_line
from tdiff.watch.formats.columns import FARTHEST, number

if TYPE_CHECKING:
    from tdiff.watch.run_state import RunState

LATEST = 1e11
"""Seconds since the epoch at and beyond which a record tells no time."""
_BLOCK = 128
"""Train records taken in together: much faster than one by one; more would not stay in the processor's cache."""
_BEGIN = '{"kind":"train",'
_MASK_BEGIN = ',"loss_by_mask":['
_METRICS = {
    "train/loss": "loss",
    "train/lr": "lr",
    "train/grad_norm": "grad_norm",
    "train/tokens_per_second": "tokens_per_second",
}
_GPU = {
    "gpu/load": "gpu_load",
    "gpu/memory": "gpu_memory",
    "gpu/temperature": "gpu_temperature",
    "gpu/power": "gpu_power",
}
_NUMBERS = ("time", "tokens", *_METRICS.values(), "progress", "eta")
_FIELDS = ("kind", "step", *_NUMBERS)
_fields = itemgetter(*_FIELDS)
_MASKS = [f"mask/{n / 10 + 0.05:.2f}" for n in range(10)]
_FULL = 4096
"""Train records of which all losses by share masked are kept; then of every second, from twice as many every fourth."""


class Events:
    """A run of tdiff. Lines that are torn or of a kind not known are passed over."""

    def __init__(self, story: RunState) -> None:
        self._story = story
        self._count = 0

    def feed(self, lines: Sequence[str]) -> None:
        """The next lines."""
        block: list[str] = []
        for line in lines:
            # With one brace at either end, lines that parse when joined are an object each.
            if line.startswith(_BEGIN) and line.endswith("}") and line.count("{") == 1 and _MASK_BEGIN in line:
                block.append(line)
                if len(block) < _BLOCK:
                    continue
                line = ""
            if block:
                self._block(block)
                block = []
            if line:
                self._one(line)
        if block:
            self._block(block)

    def _block(self, lines: list[str]) -> None:
        """Train records that follow one another; where one is not as it should be, each by itself."""
        masks: list[str] = []
        rest: list[str] = []
        for line in lines:  # most losses by share masked are not kept, and need not be parsed: a quarter of the time
            before, _, after = line.partition(_MASK_BEGIN)
            mask, _, after = after.partition("]")
            masks.append(mask)
            rest.append(before + after)
        text = ",".join(rest)
        try:
            rows = json.loads(f"[{text}]")
            columns: dict[str, Sequence[Any]] = dict(zip(_FIELDS, zip(*map(_fields, rows), strict=True), strict=True))
        except (ValueError, KeyError, RecursionError):
            columns = {}
        if columns and set(columns["kind"]) == {"train"}:
            if '"gpu_' in text:
                columns |= {name: tuple([row.get(name) for row in rows]) for name in _GPU.values()}
            if self._trains(columns, lambda n: _list(masks[n])):
                return
        for line in lines:
            if len(lines) > 1:
                self._block([line])
            else:
                self._one(line)

    def _one(self, line: str) -> None:
        record = parse(line)
        match record:
            case Train():
                names = (*_FIELDS, *_GPU.values())
                self._trains({name: (getattr(record, name),) for name in names}, lambda _: record.loss_by_mask)
            case Start() | Eval() | Verdicts() | Sample() | Checkpoint() | Alert() | Resume() | Heartbeat() | End():
                self._story.record(record)
            case TraceHeader() | TraceStep() | TraceEnd() | None:
                pass
            case _:
                assert_never(record)

    def _trains(self, columns: Mapping[str, Sequence[Any]], masks: Callable[[int], list[Any]]) -> bool:
        """Take in train records by field. False, and nothing taken in, where one is odd or they do not ascend.

        `masks` tells the losses by share masked of any of them.
        """
        steps = columns["step"]
        if set(map(type, steps)) != {int} or list(steps) != sorted(steps):
            return False
        if steps[0] < 0 or steps[-1] >= FARTHEST or set(map(type, columns["tokens"])) != {int}:
            return False
        numbers = {name: _numbers(columns[name]) for name in _NUMBERS}
        given = {metric: columns[name] for metric, name in _GPU.items() if columns.get(name)}
        gpu = {metric: _numbers(column) for metric, column in given.items()}
        if None in (*numbers.values(), *gpu.values()):
            return False
        known: dict[str, array[float]] = {name: column for name, column in numbers.items() if column is not None}
        values = {metric: known[name] for metric, name in _METRICS.items()}
        story = self._story
        story.points(steps, values, known["time"], known["tokens"])
        for metric, column in gpu.items():
            there = [n for n, value in enumerate(given[metric]) if value is not None]
            if column is not None and there:
                story.add(metric, [steps[n] for n in there], [column[n] for n in there])
        self._masks(steps, masks)
        progress, eta = known["progress"][-1], known["eta"][-1]
        story.progress = min(1.0, max(0.0, progress)) if math.isfinite(progress) else None
        story.expect(eta)
        story.write_trains(zip(steps, *known.values(), strict=True), len(steps))
        return True

    def _masks(self, steps: Sequence[int], losses: Callable[[int], list[Any]]) -> None:
        """Losses by share masked: of the records whose number the present stride divides."""
        begin, self._count = self._count, self._count + len(steps)
        at = begin
        while True:
            stride = 1 << (at // _FULL).bit_length()
            at = -(-at // stride) * stride
            if at >= self._count:
                return
            for name, value in zip(_MASKS, losses(at - begin), strict=False):
                loss = number(value)
                if loss is not None:
                    self._story.add(name, (steps[at - begin],), (loss,))
            at += 1


def _list(text: str) -> list[Any]:
    try:
        found: list[Any] = json.loads(f"[{text}]")
    except (ValueError, RecursionError):
        return []
    return found


def _numbers(column: Sequence[Any]) -> array[float] | None:
    """The column as numbers, null as NaN; None where one is of another kind."""
    kinds = set(map(type, column))
    if type(None) in kinds:
        column = [math.nan if value is None else value for value in column]
        kinds.discard(type(None))
    if not kinds <= {int, float}:
        return None
    try:
        return array("d", column)
    except OverflowError:
        return None


def line_of(event: Event) -> str:
    """An event as one line of a log, with the time of day; "" for one that a log need not have."""
    try:
        text = describe(event) or (f"ended: {event.reason}" if isinstance(event, End) else "")
    except (TypeError, ValueError, OverflowError):  # a number that is none
        text = f"{event.kind}: not all of its numbers are finite"
    if not text:
        return ""
    return f"{clock_of(event.time)}  {visible_line(' '.join(text.split(chr(10))))}"


def train_line(told: Sequence[Any]) -> str:
    """A train record as one line of a log: its step, then the fields of _NUMBERS."""
    values = dict(zip(_NUMBERS, told[1:], strict=True))
    return line_of(Train(step=told[0], loss_by_mask=[], **values))


def clock_of(when: float | None) -> str:
    """The time of day here, as 14:02:11."""
    return time.strftime("%H:%M:%S", time.localtime(when)) if when is not None and 0 <= when < LATEST else "--:--:--"
