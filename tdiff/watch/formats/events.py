"""The event log of a tdiff run, read fast: many train records at once, other records one by one.

The parser stores nothing but the count by which it thins the losses by mask ratio.
"""

from __future__ import annotations

import json
import math
from array import array
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any, assert_never

from tdiff.protocol.events import Alert, Checkpoint, End, Eval, Heartbeat, Resume, Sample, Start, Train, Verdicts, parse
from tdiff.protocol.trace import TraceEnd, TraceHeader, TraceLine, TraceStep
from tdiff.watch.formats.base import MAX_STEP, Candidate, Decision, Parser, Sink
from tdiff.watch.log import event_line

_BLOCK = 128
"""Train records read together, which is much faster than one by one; more would not stay in the processor's cache."""
_TRAIN_BEGIN = '{"kind":"train",'
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
"""Train records whose losses by mask ratio are all stored; after that those of every second record, after twice as many
those of every fourth, and so on."""


class Events(Parser):
    """Reads the events of a tdiff run. Torn lines and unknown kinds are skipped."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._count = 0  # train records

    def feed(self, lines: Sequence[str]) -> None:
        """Read the next lines."""
        block: list[str] = []
        for line in lines:
            # With one brace at either end, lines that parse when joined are one object each.
            if line.startswith(_TRAIN_BEGIN) and line.endswith("}") and line.count("{") == 1 and _MASK_BEGIN in line:
                block.append(line)
                if len(block) < _BLOCK:
                    continue
                line = ""
            if block:
                self._block(block)
                block = []
            if line:
                self._single(line)
        if block:
            self._block(block)

    def _block(self, lines: list[str]) -> None:
        """Read consecutive train records; if one is malformed, read each by itself."""
        masks: list[str] = []
        rests: list[str] = []
        for line in lines:  # most losses by mask ratio are thinned out: not parsing them saves a quarter of the time
            before, _, after = line.partition(_MASK_BEGIN)
            mask, _, after = after.partition("]")
            masks.append(mask)
            rests.append(before + after)
        text = ",".join(rests)
        try:
            rows = json.loads(f"[{text}]")
            columns: dict[str, Sequence[Any]] = dict(zip(_FIELDS, zip(*map(_fields, rows), strict=True), strict=True))
        except (ValueError, KeyError, RecursionError):
            columns = {}
        if columns and set(columns["kind"]) == {"train"}:
            if '"gpu_' in text:
                columns |= {name: tuple([row.get(name) for row in rows]) for name in _GPU.values()}
            if self._train_columns(columns, lambda n: _list(masks[n])):
                return
        for line in lines:
            if len(lines) > 1:
                self._block([line])
            else:
                self._single(line)

    def _single(self, line: str) -> None:
        record = parse(line)
        match record:
            case Train():
                names = (*_FIELDS, *_GPU.values())
                self._train_columns({name: (getattr(record, name),) for name in names}, lambda _: record.loss_by_mask)
            case Start() | Eval() | Verdicts() | Sample() | Checkpoint() | Alert() | Resume() | Heartbeat() | End():
                self._sink.record(record)
            case TraceHeader() | TraceStep() | TraceEnd() | None:
                pass
            case _:
                assert_never(record)

    def _train_columns(self, columns: Mapping[str, Sequence[Any]], masks: Callable[[int], list[Any]]) -> bool:
        """Report train records, given by field. Reports nothing and returns False if one is invalid or steps fall.

        `masks(n)` returns the losses by mask ratio of record n.
        """
        steps = columns["step"]
        if set(map(type, steps)) != {int} or list(steps) != sorted(steps):
            return False
        if steps[0] < 0 or steps[-1] >= MAX_STEP or set(map(type, columns["tokens"])) != {int}:
            return False
        gpu_columns = {metric: columns[name] for metric, name in _GPU.items() if columns.get(name)}
        parsed = {name: _numbers(columns[name]) for name in _NUMBERS}
        gpu = {metric: _numbers(column) for metric, column in gpu_columns.items()}
        if None in (*parsed.values(), *gpu.values()):
            return False
        numbers: dict[str, array[float]] = {name: column for name, column in parsed.items() if column is not None}
        sink = self._sink
        values = {metric: numbers[name] for metric, name in _METRICS.items()}
        sink.points(steps, values, numbers["time"], numbers["tokens"])
        for metric, column in gpu.items():
            present = [n for n, value in enumerate(gpu_columns[metric]) if value is not None]
            if column is not None and present:
                sink.extra_points(metric, [steps[n] for n in present], [column[n] for n in present])
        self._report_masks(steps, masks)
        sink.set_progress(numbers["progress"][-1], numbers["eta"][-1])
        sink.write_later(_train_line, zip(steps, *numbers.values(), strict=True), len(steps))
        return True

    def _report_masks(self, steps: Sequence[int], masks: Callable[[int], list[Any]]) -> None:
        """Report the losses by mask ratio of the records whose number the present stride divides."""
        first, self._count = self._count, self._count + len(steps)
        n = first
        while True:
            stride = 1 << (n // _FULL).bit_length()
            n = -(-n // stride) * stride
            if n >= self._count:
                return
            for name, field in zip(_MASKS, masks(n - first), strict=False):
                loss = _json_number(field)
                if loss is not None:
                    self._sink.extra_points(name, (steps[n - first],), (loss,))
            n += 1


def recognize(candidate: Candidate) -> Parser | Decision:
    """A tdiff run has an event on the line."""
    record = candidate.record
    return Decision.NO if record is None or isinstance(record, TraceLine) else Events(candidate.sink)


def _json_number(value: Any) -> float | None:
    """A JSON number, finite or not; None for other types and for integers beyond the range of a double."""
    if type(value) is float:
        return value
    if type(value) is not int:
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def _list(text: str) -> list[Any]:
    try:
        items: list[Any] = json.loads(f"[{text}]")
    except (ValueError, RecursionError):
        return []
    return items


def _numbers(column: Sequence[Any]) -> array[float] | None:
    """The column as numbers, with null as NaN; None if a value has another type."""
    types = set(map(type, column))
    if type(None) in types:
        column = [math.nan if value is None else value for value in column]
        types.discard(type(None))
    if not types <= {int, float}:
        return None
    try:
        return array("d", column)
    except OverflowError:
        return None


def _train_line(row: tuple[Any, ...]) -> str:
    """A train record as one line of the log, from its step and the fields of _NUMBERS."""
    values = dict(zip(_NUMBERS, row[1:], strict=True))
    return event_line(Train(step=row[0], loss_by_mask=[], **values))
