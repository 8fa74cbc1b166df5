"""The trace of one generation, a JSON line per step: it holds text, so that no reader needs a tokenizer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

FORMAT = 1
"""Version of the lines of traces and runs, in every header and start record."""

Cell = tuple[int, str, int, float, Literal["commit", "remask"]]
"""(position, text, token id, confidence, event). The id is opaque: only the model that wrote it can read it."""


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
    """Positions of the canvas, including the prompt."""
    given: list[tuple[int, str, int]]
    """(position, text, token id) of the prompt's positions."""
    steps: int = 0
    """Maximum number of steps; 0: no limit."""
    format: int = FORMAT


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceStep:
    """The changes of one step. Steps without a change are not written."""

    kind: ClassVar[str] = "step"
    index: int
    t: float
    """Mask ratio after the step: masked positions as a share of those that were not given."""
    calls: int
    """Model calls so far."""
    cells: list[Cell]
    """The changed positions."""
    detail: str | None = None
    """On request: the predictions at masked positions, as `protocol.detail` packs them."""
    tokens: list[tuple[int, str]] | None = None
    """(token id, text) of the tokens that `detail` names for the first time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceEnd:
    """The last line of a trace."""

    kind: ClassVar[str] = "text"
    text: str
    model_calls: int
    forced: int
    """Positions that were unmasked only because the steps ran out."""
    tokens: int
    """Generated positions."""
    seconds: float


TraceLine = TraceHeader | TraceStep | TraceEnd
