"""A class prediction while its mask samples arrive: the records that a view folds and a drawing function reads."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PredictionRound:
    """The class probabilities of one text after a round of mask samples."""

    draws: int
    """Mask samples so far."""
    posterior: tuple[float, ...]
    """The probability of each class; they sum to 1."""
    interval: tuple[float, float]
    """95% interval of the probability of the most likely class."""
    sure: bool
    """Whether the stopping rule has decided the class."""
    final: bool
    """Whether this is the last round of the text."""


@dataclass(frozen=True, slots=True)
class Contribution:
    """A part of a text (a token or a word) and what it adds to the log odds of the most likely class."""

    text: str
    nats: float
    """Above 0: it supports the class; below 0: it opposes it."""
