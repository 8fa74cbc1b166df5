"""Provenance: what a model records of its training, besides its weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tdiff.config.decoding import decoding as parse_decoding
from tdiff.core.models.files import build_table
from tdiff.errors import TdiffError


@dataclass(frozen=True, slots=True)
class Origin:
    """How and on what a model was trained. Saved as the table `origin` of its config."""

    corpus: str
    """Name of the training text."""
    sources: tuple[str, ...]
    """The settings' data.sources, from which the held-out part can be loaded again."""
    text_field: str
    timesteps: int
    schedule: str
    context: int
    """Longest prompt in training, tokens."""
    context_mode: str
    """"fixed": every training row had a prompt of `context` tokens, so the model cannot generate without a prompt."""
    openings: tuple[str, ...]
    """Beginnings of training windows, used as default prompts."""
    steps: int
    tokens: int
    """Tokens seen in training."""
    corpus_sha256: str = ""
    """Hash of the training text in UTF-8; empty if not recorded."""
    held_out: str = "tenth"
    """Part of the text that was not trained on: "tenth", the last tenth, or "tuning", that and the part before it."""
    decoding: tuple[str, ...] = ()
    """Decoding settings with which the model generates best, as in `train.decoding`."""
    rows: str = "packed"
    """Format of the training rows, as in `data.rows`."""
    classes: tuple[str, ...] = ()
    """Names of the classes that the model can be conditioned on, in the order of their labels; empty for none."""
    counts: tuple[int, ...] = ()
    """Training texts of each class."""
    label_field: str = "label"
    """The settings' data.label_field."""
    only: str = ""
    """The single class whose texts it was trained on; empty for all texts."""
    evaluation: tuple[str, ...] = ()
    """The settings' data.evaluation."""
    temperature: float = 0.0
    """Calibration temperature of its class predictions, see `sequential.divisor`; 0 if not calibrated."""


def read_origin(config: Mapping[str, Any], path: Path) -> Origin:
    """Return the origin in the table `config` of the file `path`. Raises TdiffError if it is not valid."""
    origin: Origin = build_table(Origin, config.get("origin", {}), path)
    try:
        parse_decoding(origin.decoding)
    except TdiffError as error:
        raise TdiffError(f"model config {str(path)!r}: {error}") from None
    counted = len(origin.counts) == len(origin.classes) and all(count >= 0 for count in origin.counts)
    if not counted or len(set(origin.classes)) != len(origin.classes) or (origin.classes and not sum(origin.counts)):
        raise TdiffError(f"model config {str(path)!r}: classes and counts do not go together")
    if not 0 <= origin.temperature < math.inf:
        raise TdiffError(f"model config {str(path)!r}: temperature cannot be {origin.temperature!r}")
    if origin.held_out not in ("tenth", "tuning"):
        raise TdiffError(f"model config {str(path)!r}: held_out cannot be {origin.held_out!r}")
    return origin


def origin_unknown(context: int, steps: int = 0) -> Origin:
    """Return the origin of a model from elsewhere, of which only `steps` may be known.

    `context` is the number of tokens that one window of a sliding canvas shares with the next.
    """
    return Origin(
        corpus="",
        sources=(),
        text_field="text",
        timesteps=0,
        schedule="linear",
        context=context,
        context_mode="random",
        openings=(),
        steps=steps,
        tokens=0,
    )
