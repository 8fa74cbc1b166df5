"""The records that cross between the engine and the terminal, and their JSON lines.

A run's `events.jsonl` holds the records of training; a trace holds those of one generation. Both are text: no token id
needs a tokenizer to be shown. A reader ignores kinds and fields it does not know, so newer writers do not break it.
"""

from __future__ import annotations

import functools
import json
import types
import typing
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

from tdiff.visible import json_line, visible

LARGEST = 1 << 63
"""Whole numbers are below it, and above its negative."""
FORMAT = 1
"""Version of the lines, in every header and start record."""

Cell = tuple[int, str, int, float, Literal["commit", "remask"]]
"""(place, text, id, confidence, what happened). The id is opaque: it only goes back to the model that wrote it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """A run begins."""

    kind: ClassVar[str] = "start"
    time: float
    """Seconds since the epoch, here and in every record of a run."""
    run: str
    version: str
    settings: dict[str, Any]
    """The run's whole settings, as in its config.toml."""
    corpus: str
    """What was really trained on."""
    tokens: int
    """Tokens of the training part."""
    vocabulary: int
    parameters: int
    device: str
    threads: int
    pid: int
    host: str
    steps: int | None = None
    """Steps to go, where the budget is steps or epochs."""
    minutes: float | None = None
    """The budget, where it is minutes."""
    format: int = FORMAT


@dataclass(frozen=True, slots=True, kw_only=True)
class Train:
    """Training since the last record of this kind."""

    kind: ClassVar[str] = "train"
    time: float
    step: int
    """Optimizer steps done."""
    tokens: int
    """Tokens seen."""
    loss: float
    """The bound that is minimised, nats a token, mean over the steps since the last record; with clipped mask rates the
    part of it that is."""
    loss_by_mask: list[float | None]
    """Mean -log p of masked places, nats, by tenth of the share masked (0-10 % first); None where none fell."""
    lr: float
    grad_norm: float
    """Mean norm before clipping."""
    tokens_per_second: float
    progress: float
    """Share of the training budget spent, 0..1."""
    eta: float
    """Seconds to go."""
    gpu_load: float | None = None
    """Percent."""
    gpu_memory: float | None = None
    """GiB in use on the device."""
    gpu_temperature: float | None = None
    """Degrees Celsius."""
    gpu_power: float | None = None
    """Watts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Eval:
    """The bound of the averaged weights on held-out text."""

    kind: ClassVar[str] = "eval"
    time: float
    step: int
    nats_per_token: float
    nats_per_char: float
    interval_95: tuple[float, float]
    """Monte Carlo interval of nats_per_token."""
    tokens: int
    final: bool = False
    """True for the evaluation that ends a run."""
    part: float = 1.0
    """Of a final evaluation: the share of the held-out text that was scored, drawn at random."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdicts:
    """How well a model that knows classes tells those of held-out texts."""

    kind: ClassVar[str] = "verdicts"
    time: float
    step: int
    texts: int
    accuracy: float
    interval_95: tuple[float, float]
    """Of the accuracy."""
    ece: float
    """Expected calibration error, with that temperature."""
    temperature: float
    """By which they are doubted from now on, fitted to these texts: log-likelihoods are divided by it and by the square
    root of a text's tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A text written by the averaged weights during training."""

    kind: ClassVar[str] = "sample"
    time: float
    step: int
    prompt: str
    text: str
    path: str
    """Its trace, relative to the run folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """Weights and state were written."""

    kind: ClassVar[str] = "checkpoint"
    time: float
    step: int
    path: str
    """The model folder, relative to the run folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """Something a watcher should be told."""

    kind: ClassVar[str] = "alert"
    time: float
    step: int
    what: str
    """nan, or another short name."""
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume:
    """The run goes on from `step`: earlier records of later steps are of a time that did not happen."""

    kind: ClassVar[str] = "resume"
    time: float
    step: int
    pid: int
    host: str
    steps: int | None = None
    """The budget from now on, as in `Start`; None where it is the clock, or a log of an older version."""
    minutes: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """The run is alive and busy with something that gives no other record."""

    kind: ClassVar[str] = "heartbeat"
    time: float
    step: int
    doing: str


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """The run has ended."""

    kind: ClassVar[str] = "end"
    time: float
    step: int
    reason: Literal["finished", "stopped", "nan"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceHeader:
    """The first line of a trace."""

    kind: ClassVar[str] = "trace"
    version: str
    model: str
    decoder: str
    settings: dict[str, Any]
    seed: int
    row: int
    prompt: str
    cells: int
    """Places of the canvas, the prompt included."""
    given: list[tuple[int, str, int]]
    """(place, text, id) of the places that were given: the prompt."""
    steps: int = 0
    """Steps it takes at most; 0: as many as it needs."""
    format: int = FORMAT


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceStep:
    """What one step changed. Steps in which nothing changed are not written."""

    kind: ClassVar[str] = "step"
    index: int
    t: float
    """Share of the maskable places that are masked after the step."""
    calls: int
    """Model calls so far."""
    cells: list[Cell]
    """Only the cells that changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceEnd:
    """The last line of a trace."""

    kind: ClassVar[str] = "text"
    text: str
    model_calls: int
    forced: int
    """Places committed only because the steps ran out."""
    tokens: int
    """Places that were generated."""
    seconds: float


Event = Start | Train | Eval | Verdicts | Sample | Checkpoint | Alert | Resume | Heartbeat | End
TraceLine = TraceHeader | TraceStep | TraceEnd
Record = Event | TraceLine

_KINDS: dict[str, Any] = {kind.kind: kind for kind in typing.get_args(Record)}


def to_line(record: Record) -> str:
    """One line of JSON, with its line feed. Fields that are None are left out; numbers that are not finite are null."""
    values = {f.name: getattr(record, f.name) for f in fields(record)}
    pairs = {"kind": record.kind} | {k: v for k, v in values.items() if v is not None}
    return json_line(pairs, compact=True) + "\n"


def parse(line: str) -> Record | None:
    """The record on a line, or None where it is torn, of an unknown kind, or a field is missing or of another type.

    Its text is made safe. A number that is null was not finite.
    """
    try:
        pairs = json.loads(line)
        kind = _KINDS[pairs.pop("kind")]
        hints = _hints(kind)
        values = {k: _read(v) for k, v in pairs.items() if k in hints}
        if not all(_fits(value, hints[name]) for name, value in values.items()):
            return None
        record: Record = kind(**values)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return record


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {f.name: hints[f.name] for f in fields(kind)}


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value read from JSON is of the kind a field promises; what a list or table holds is not looked at."""
    origin = typing.get_origin(hint)
    if origin is types.UnionType:
        return any(_fits(value, part) for part in typing.get_args(hint))
    if origin is Literal:
        return value in typing.get_args(hint)
    if hint is float:
        return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))
    kind = list if origin is tuple else origin or hint
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def _read(value: Any) -> Any:
    """Strings made safe to print; null as NaN inside a number's place is left to the reader as None.

    Raises ValueError for a whole number that no machine counts to, with which arithmetic and formats would fail.
    """
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, int) and not -LARGEST < value < LARGEST:
        raise ValueError("a number is too large")
    if isinstance(value, dict):
        return {visible(k): _read(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_read(v) for v in value]
    return value


def fold(records: Iterable[Record | None]) -> Iterator[Event]:
    """The events of a run as they really happened: what a resume took back is dropped, nothing is twice."""
    kept: list[Event] = []
    for record in records:
        match record:
            case None | TraceHeader() | TraceStep() | TraceEnd():
                continue
            case Resume():
                kept = [r for r in kept if isinstance(r, Start) or r.step <= record.step]
                kept.append(record)
            case Start() | Train() | Eval() | Verdicts() | Sample() | Checkpoint() | Alert() | Heartbeat() | End():
                kept.append(record)
            case _:
                typing.assert_never(record)
    yield from kept
