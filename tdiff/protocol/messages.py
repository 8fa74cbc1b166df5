"""What a view and the process that holds the model say to one another, and its JSON lines. No torch.

A view asks (`Generate`, `Weigh`, `Cancel`, `Load`); the process answers (`Ready`, `Begin`, `Standing`, `Cancelled`,
`Refused`, and the lines of a trace). A request is read exactly as it was written, since its text goes to the model; an
answer's text is made safe to print, and what its lists hold is looked at, since a screen is drawn from it.
"""

from __future__ import annotations

import json
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from tdiff.protocol import events
from tdiff.protocol.events import TraceEnd, TraceHeader, TraceLine, TraceStep
from tdiff.schema import MOST
from tdiff.visible import visible, visible_line


@dataclass(frozen=True, slots=True, kw_only=True)
class Generate:
    """Generate a text. It ends the one that is being generated, and any that waits.

    Its answer is `Begin` and a trace, of which `Cancelled` or `Refused` may take the place at any moment.
    """

    kind: ClassVar[str] = "generate"
    id: int
    """A name for the request, the asker's choice; its answers bear it."""
    prompt: str | None = None
    """Text to go on from; None: one of the model's openings, by seed and row."""
    length: int = 0
    """Tokens to generate; 0: as many as fill the model's window."""
    seed: int = 0
    row: int = 0
    """With the seed, the key of the noise."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Fields of `config.DecodeSettings`; what is left out has its default."""
    canvas: list[Any] | None = None
    """Reserved for going on from a canvas; anything but None is refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weigh:
    """Tell the class of a text. It ends what is going on, and any that waits, as a generation does.

    Its answers are `Standing`, one after each round of draws, or `Refused`; `Cancelled` may end them at any moment.
    """

    kind: ClassVar[str] = "weigh"
    id: int
    text: str
    seed: int = 0
    confidence: float = 0.99
    draws: int = 32
    """At most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    """End the generation of that id. One that has ended is no error and has no answer."""

    kind: ClassVar[str] = "cancel"
    id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Take the newest weights of a model, after the generation that runs; where that fails the old ones stay."""

    kind: ClassVar[str] = "load"
    model: str
    """A model's folder, the name of a run, or a name on the Hugging Face hub."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """A model is loaded."""

    kind: ClassVar[str] = "ready"
    model: str
    window: int
    """Tokens it sees at once."""
    device: str
    threads: int
    vocabulary: int
    """Tokens it knows."""
    step: int
    """Optimizer steps that the weights were trained for."""
    weights: float
    """When their file was last written, seconds since the epoch: a file with a later time holds newer ones."""
    decoders: list[str]
    decoding: dict[str, Any] = field(default_factory=dict)
    """Fields of `config.DecodeSettings` by which it writes where a request names no decoder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Begin:
    """The lines of the trace that follow, up to its end, `Cancelled` or `Refused`, are those of this request."""

    kind: ClassVar[str] = "begin"
    id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """How the classes of a text stand."""

    kind: ClassVar[str] = "standing"
    id: int
    classes: list[str]
    posterior: list[float]
    """Of each class."""
    interval: list[float]
    """95% interval of the likeliest one's."""
    draws: int
    sure: bool
    """Whether it is decided."""
    final: bool
    """Whether no more is drawn."""
    words: list[Any] = field(default_factory=list)
    """(text, nats) of each token: what it adds to the log odds of the likeliest class."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancelled:
    """The generation has ended before its text was whole, or never began."""

    kind: ClassVar[str] = "cancelled"
    id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The request cannot be met; the process goes on."""

    kind: ClassVar[str] = "refused"
    text: str
    """Why, on one line."""
    id: int | None = None
    """The generation that was asked for; None: a model, or a line that is no request."""


Request = Generate | Weigh | Cancel | Load
Answer = Ready | Begin | Scores | Cancelled | Refused

_REQUESTS: dict[str, Any] = {kind.kind: kind for kind in typing.get_args(Request)}
_ANSWERS: dict[str, Any] = {kind.kind: kind for kind in typing.get_args(Answer)}


def to_line(message: Request | Answer | TraceLine) -> str:
    """One line of JSON, with its line feed; see `records.to_line`."""
    return events.to_line(typing.cast(TraceLine, message))


def parse_request(line: str) -> Request | None:
    """The request on a line, its text as it was sent; None where it is torn, unknown, or a field is not as promised."""
    return typing.cast(Request | None, _parse(line, _REQUESTS, lambda _name, value: value))


def parse_answer(line: str) -> Answer | TraceLine | None:
    """The answer on a line, safe to print; None where it is none, or anything in it is not as promised."""
    record = events.parse(line)
    if record is None:
        record = _parse(line, _ANSWERS, _safe)
    return record if isinstance(record, Answer | TraceLine) and _sound(record) else None


def _parse(line: str, kinds: Mapping[str, Any], read: Callable[[str, Any], Any]) -> Any:
    try:
        pairs = json.loads(line)
        kind = kinds[pairs.pop("kind")]
        hints = events._hints(kind)
        values = {name: read(name, value) for name, value in pairs.items() if name in hints}
        return kind(**values) if all(events._fits(value, hints[name]) for name, value in values.items()) else None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _safe(name: str, value: Any) -> Any:
    """What a field holds, safe to print: on one line, but for the words of a text, which may have several."""
    if isinstance(value, list):
        return [_safe(name, item) for item in value]
    if not isinstance(value, str):
        return value
    return visible(value) if name == "words" else visible_line(value)


def _sound(answer: Answer | TraceLine) -> bool:
    """Whether numbers and the items of lists are what a screen can be drawn from."""
    values = [getattr(answer, f.name) for f in fields(answer)]
    if not all(_drawable(value) for value in values if isinstance(value, (int, float))):
        return False
    match answer:
        case TraceHeader():
            given = [item[0] for item in answer.given if _given(item, answer.cells)]
            return 0 <= answer.cells <= MOST and len(answer.given) == len(set(given))
        case TraceStep():
            return _share(answer.t) and all(map(_cell, answer.cells))
        case TraceEnd():
            return answer.seconds is not None
        case Scores():
            numbers = len(answer.posterior) == len(answer.classes) > 1 and len(answer.interval) == 2
            named = all(isinstance(name, str) for name in answer.classes)
            shares = all(map(_share, [*answer.posterior, *answer.interval]))
            return numbers and named and shares and all(map(_word, answer.words))
        case Ready():
            return answer.weights is not None and all(isinstance(name, str) for name in answer.decoders)
        case Begin() | Cancelled() | Refused():
            return True
        case _:
            typing.assert_never(answer)


def _given(item: Any, cells: int) -> bool:
    match item:
        case [int(place), str(), int()]:
            return 0 <= place < cells
    return False


def _cell(item: Any) -> bool:
    match item:
        case [int(place), str(), int(), confidence, "commit" | "remask"]:
            return 0 <= place < MOST and _share(confidence)
    return False


def _word(item: Any) -> bool:
    match item:
        case [str(), int() | float() as nats]:
            return -events.LARGEST < nats < events.LARGEST
    return False


def _share(value: Any) -> bool:
    return isinstance(value, (int, float)) and 0 <= value <= 1


def _drawable(number: float) -> bool:
    return -events.LARGEST < number < events.LARGEST
