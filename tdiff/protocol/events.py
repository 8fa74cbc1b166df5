"""The records of a training run, a JSON line each in the run's `events.jsonl`.

An event kind is one class: its `kind` is the name on the line, its fields are the line's fields, and their types are
what a reader accepts. To add a kind, write the class and add it to `Event`; each `match` over events ends in
`assert_never`, so that mypy reports every one that does not handle it.

Readers ignore kinds and fields that they do not know, so that newer writers do not break them.
"""

from __future__ import annotations

import typing
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from tdiff import schema
from tdiff.protocol.trace import FORMAT, TraceEnd, TraceHeader, TraceLine, TraceStep
from tdiff.visible import visible


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """A run begins."""

    kind: ClassVar[str] = "start"
    time: float
    """Seconds since the epoch, in every record."""
    run: str
    version: str
    settings: dict[str, Any]
    """All settings of the run, as in its config.toml."""
    corpus: str
    """The name of the text that was used."""
    tokens: int
    """Tokens of the training part."""
    vocabulary: int
    parameters: int
    device: str
    threads: int
    pid: int
    host: str
    steps: int | None = None
    """Number of steps, if the budget is steps or epochs."""
    minutes: float | None = None
    """The budget, if it is minutes."""
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
    """The likelihood bound in nats per token, mean over the steps since the last record; with clipped mask ratios, the
    part of the bound that is trained on."""
    loss_by_mask: list[float | None]
    """Mean -log p of masked positions in nats, for each tenth of the mask ratio (0-10 % first); None without data."""
    lr: float
    grad_norm: float
    """Mean norm before clipping."""
    tokens_per_second: float
    progress: float
    """Share of the training budget that is used up, 0..1."""
    eta: float
    """Remaining seconds."""
    gpu_load: float | None = None
    """Percent."""
    gpu_memory: float | None = None
    """GiB in use."""
    gpu_temperature: float | None = None
    """Degrees Celsius."""
    gpu_power: float | None = None
    """Watts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Eval:
    """The likelihood bound of the averaged weights on held-out text."""

    kind: ClassVar[str] = "eval"
    time: float
    step: int
    nats_per_token: float
    nats_per_char: float
    interval_95: tuple[float, float]
    """95% Monte Carlo interval of nats_per_token."""
    tokens: int
    final: bool = False
    """True for the evaluation that ends a run."""
    part: float = 1.0
    """Share of the held-out text that a final evaluation scored; below 1 it is a random part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdicts:
    """Quality of the classification of held-out texts."""

    kind: ClassVar[str] = "verdicts"
    time: float
    step: int
    texts: int
    accuracy: float
    interval_95: tuple[float, float]
    """95% interval of the accuracy."""
    ece: float
    """Expected calibration error at `temperature`."""
    temperature: float
    """Calibration temperature, fitted to these texts: log-likelihoods are divided by it and by the square root of a
    text's number of tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A text that the averaged weights generated during training."""

    kind: ClassVar[str] = "sample"
    time: float
    step: int
    prompt: str
    text: str
    path: str
    """Its trace, relative to the run folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The weights and the resume state were saved."""

    kind: ClassVar[str] = "checkpoint"
    time: float
    step: int
    path: str
    """The model folder, relative to the run folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """A problem to show to whoever watches the run."""

    kind: ClassVar[str] = "alert"
    time: float
    step: int
    what: str
    """A short name, such as nan."""
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume:
    """The run resumes at `step`: earlier records of later steps no longer count."""

    kind: ClassVar[str] = "resume"
    time: float
    step: int
    pid: int
    host: str
    steps: int | None = None
    """The budget from now on, as in `Start`; None if it is the clock, or in logs of an older version."""
    minutes: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """The run is alive, and busy with something that writes no other record."""

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


Event = Start | Train | Eval | Verdicts | Sample | Checkpoint | Alert | Resume | Heartbeat | End
Record = Event | TraceLine
"""Any line of a run or a trace."""

_LINES = schema.Lines(typing.get_args(Record), lambda _name, text: visible(text))


def to_line(record: Record) -> str:
    """One line of JSON, with its line feed; see `schema.to_line`."""
    return schema.to_line(record)


def parse(line: str) -> Record | None:
    """The record on a line, or None if it is torn, of an unknown kind, or a field is missing or of another type.

    Its text is safe to print. A number that was not finite is None.
    """
    return typing.cast(Record | None, _LINES.parse(line))


def fold(records: Iterable[Record | None]) -> Iterator[Event]:
    """The events of a run without those that a later resume undid, so that no step occurs twice."""
    events: list[Event] = []
    for record in records:
        match record:
            case None | TraceHeader() | TraceStep() | TraceEnd():
                continue
            case Resume():
                events = [event for event in events if isinstance(event, Start) or event.step <= record.step]
                events.append(record)
            case Start() | Train() | Eval() | Verdicts() | Sample() | Checkpoint() | Alert() | Heartbeat() | End():
                events.append(record)
            case _:
                typing.assert_never(record)
    yield from events
