"""The messages between a view and the process that holds the model, one JSON line each. No torch.

A view sends requests (`Generate`, `Branch`, `Lanes`, `Measure`, `Classify`, `Cancel`, `Load`); the process sends
answers (`Ready`, `Begin`, `Scores`, `Measured`, `Cancelled`, `Refused`, and the lines of a trace). A request is read
exactly as it was written, since its text goes to the model. An answer is checked down to the items of its lists and its
text is made safe to print, since a screen is drawn from it.
"""

from __future__ import annotations

import typing
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from tdiff import schema
from tdiff.protocol import events
from tdiff.protocol.trace import TraceEnd, TraceHeader, TraceLine, TraceStep
from tdiff.schema import LARGEST, MOST, Bounds, Share
from tdiff.visible import visible, visible_line

Finite = Annotated[float, Bounds(-LARGEST, LARGEST, above=True, below=True)]
"""A number that can be drawn: neither null nor infinite nor huge."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Generate:
    """Generate a text. It cancels the current request and a waiting one.

    The answer is `Begin` and a trace, or `Refused`; `Cancelled` or `Refused` may end the trace at any moment.
    """

    kind: ClassVar[str] = "generate"
    id: int
    """A number that the sender chooses; the answers repeat it."""
    prompt: str | None = None
    """Text to continue; None: one of the model's default prompts, by seed and row."""
    length: int = 0
    """Tokens to generate; 0: fill the model's context."""
    seed: int = 0
    row: int = 0
    """Together with the seed, the key of the noise."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Fields of `config.DecodeSettings`; the others have their defaults."""
    detail: bool = False
    """Whether the steps have the predictions at masked positions; see `protocol.detail`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """Continue a text from a canvas that the user has changed. It cancels other requests, as `Generate` does.

    The answer is that of `Generate`; the header of the trace gives all tokens of the canvas.
    """

    kind: ClassVar[str] = "branch"
    id: int
    tokens: list[int]
    """The token id at each position; -1 where it is masked."""
    frozen: list[int]
    """Positions that no decoder may change; none of them is masked."""
    prompt: str = ""
    """Repeated in the header."""
    at: int = 0
    """Where `text` begins."""
    room: int = 0
    """The positions that `text` has; those that it does not need are masked. 0: there is no text."""
    text: str = ""
    """Text to write over the canvas. Its positions may not be changed either."""
    steps: int = 0
    """Steps of the decoder that were taken before."""
    seed: int = 0
    row: int = 0
    settings: dict[str, Any] = field(default_factory=dict)
    """As in `Generate`."""


MAX_LANES = 9
"""Generations of one request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lanes:
    """Generate several texts from one prompt at once. It cancels other requests, as `Generate` does.

    With equal settings they are rows of one batch; else a step of each follows in turn, so that all have made as many
    model calls. Text n (from 0) has the id `id + 1 + n`, which a `Begin` before each of its lines, or a `Refused`, has.
    """

    kind: ClassVar[str] = "lanes"
    id: int
    """Names the request in `Cancel`, `Cancelled` and a `Refused` of all texts."""
    settings: list[dict[str, Any]]
    """For each text, as in `Generate`."""
    rows: list[int]
    """For each text: with the seed, the key of the noise."""
    prompt: str | None = None
    length: int = 0
    seed: int = 0
    detail: bool = False
    """As in `Generate`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """Measure texts against the text that the model was trained on, or against its bound on held-out text.

    The answer is `Measured` or `Refused`.
    """

    kind: ClassVar[str] = "measure"
    id: int
    prompt: str
    texts: list[str]
    """Each begins with the prompt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Classify:
    """Classify a text. It cancels the current request and a waiting one, as `Generate` does.

    The answers are `Scores`, one after each round of mask samples, or `Refused`; `Cancelled` may end them.
    """

    kind: ClassVar[str] = "weigh"
    id: int
    text: str
    seed: int = 0
    confidence: float = 0.99
    """Stop sampling masks at this confidence level."""
    draws: int = 32
    """Maximum number of mask samples."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    """Cancel the request with that id. If it has ended already, there is no answer."""

    kind: ClassVar[str] = "cancel"
    id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Load the newest weights of a model after the current generation; if that fails, the old weights stay."""

    kind: ClassVar[str] = "load"
    model: str
    """A model's folder, the name of a run, or a name on the Hugging Face Hub."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """A model is loaded."""

    kind: ClassVar[str] = "ready"
    model: str
    window: int
    """Context length in tokens."""
    device: str
    threads: int
    vocabulary: int
    """Number of tokens."""
    step: int
    """Optimizer steps that the weights were trained for."""
    weights: Finite
    """Modification time of the weights' file, seconds since the epoch: a file with a later time has newer weights."""
    decoders: list[str]
    decoding: dict[str, Any] = field(default_factory=dict)
    """Fields of `config.DecodeSettings` that the model uses for a request without a decoder."""
    presets: dict[str, Any] = field(default_factory=dict)
    """Fields of `config.DecodeSettings` of each decoding preset that the model has, by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Begin:
    """The trace lines that follow, until its end, `Cancelled` or `Refused`, belong to this request."""

    kind: ClassVar[str] = "begin"
    id: int
    seconds: Finite | None = None
    """For `Lanes`: seconds that this text has been computed for so far."""


Word = tuple[str, Finite]
"""(text, nats) of a token: what it adds to the log odds of the likeliest class."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """The probabilities of a text's classes so far."""

    kind: ClassVar[str] = "standing"
    id: int
    classes: list[str]
    posterior: list[Share]
    """Probability of each class."""
    interval: list[Share]
    """95% interval of the likeliest class's probability."""
    draws: int
    """Mask samples so far."""
    sure: bool
    """Whether the confidence level is reached."""
    final: bool
    """Whether this is the last answer."""
    words: list[Word] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """How near texts are to held-out text: by `core.evaluation.quality`, or by a model's likelihood bound.

    Lists have an item a text.
    """

    kind: ClassVar[str] = "measured"
    id: int
    corpus: str = ""
    """The corpus whose text decides; "" if a model does."""
    model: str = ""
    """The model whose bound decides; "" if a corpus does."""
    distances: list[Finite]
    """From held-out text over all measures; 1 is the least that counts as a difference."""
    nats: list[Finite]
    """Nats a character of an n-gram model of the training text, or of `model`."""
    distinct: list[Share] = field(default_factory=list)
    """Share of distinct 4-grams; empty if a model decides."""
    words: list[Share] = field(default_factory=list)
    """Share of words that occur in the training text; empty if a model decides."""
    real: list[Finite]
    """The measures of held-out text: the three, or only the nats."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancelled:
    """The request was cancelled before its text was complete, or before it started."""

    kind: ClassVar[str] = "cancelled"
    id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The request is invalid; the process continues."""

    kind: ClassVar[str] = "refused"
    text: str
    """The reason, on one line."""
    id: int | None = None
    """The request's id; None: it was to load a model, or the line was not a request."""


Request = Generate | Branch | Lanes | Measure | Classify | Cancel | Load
Answer = Ready | Begin | Scores | Measured | Cancelled | Refused


def _safe(name: str, text: str) -> str:
    """A field's text, safe to print: on one line, except for `words`, whose text may have several lines."""
    return visible(text) if name == "words" else visible_line(text)


_REQUESTS = schema.Lines(typing.get_args(Request))
_ANSWERS = schema.Lines(typing.get_args(Answer), _safe)


def to_line(message: Request | Answer | TraceLine) -> str:
    """One line of JSON, with its line feed; see `schema.to_line`."""
    return schema.to_line(message)


def parse_request(line: str) -> Request | None:
    """The request on a line, its text as it was sent; None if it is torn, unknown, or a field has another type."""
    return typing.cast(Request | None, _REQUESTS.parse(line))


def parse_answer(line: str) -> Answer | TraceLine | None:
    """The answer on a line, safe to print and to draw; None if it is not a valid answer."""
    record = events.parse(line)
    if record is None:
        answer = _ANSWERS.parse(line)
        return answer if _consistent(answer) else None
    return record if isinstance(record, TraceLine) and _consistent(record) else None


def _consistent(answer: Answer | TraceLine | None) -> bool:
    """Whether the fields of an answer match one another, and a trace's numbers can be drawn."""
    match answer:
        case TraceHeader():
            positions = {position for position, _, _ in answer.given if 0 <= position < answer.cells}
            return 0 <= answer.cells <= MOST and len(answer.given) == len(positions)
        case TraceStep():
            return _is_share(answer.t) and all(0 <= cell[0] < MOST and _is_share(cell[3]) for cell in answer.cells)
        case TraceEnd():
            return answer.seconds is not None and -LARGEST < answer.seconds < LARGEST
        case Scores():
            return len(answer.posterior) == len(answer.classes) > 1 and len(answer.interval) == 2
        case Measured():
            count, by_model = len(answer.distances), bool(answer.model)
            shares = len(answer.distinct), len(answer.words)
            expected = (0, 0) if by_model else (count, count)
            return len(answer.nats) == count and shares == expected and len(answer.real) == (1 if by_model else 3)
        case Ready() | Begin() | Cancelled() | Refused():
            return True
        case None:
            return False
        case _:
            typing.assert_never(answer)


def _is_share(value: Any) -> bool:
    return value is not None and 0 <= value <= 1
