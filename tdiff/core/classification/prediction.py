"""What every classifier returns and accepts: predictions, their progress, and how much work to spend on a text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How much work to spend on a text. Classifiers that sample no masks read `explain` alone."""

    confidence: float = 0.99
    """Sampling stops at this confidence in the decision; 1: it never stops before `draws`."""
    draws: int = 32
    """The maximum number of mask samples."""
    seed: int = 0
    explain: bool = False
    """Whether a prediction has the contributions of the tokens."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """The class of a text, with its probability."""

    label: int
    """The most likely class."""
    posterior: tuple[float, ...]
    """The probability of each class."""
    interval: tuple[float, float]
    """95% interval of the probability of `label` over mask samples alone: another seed gives another value in it."""
    nats: tuple[float, ...]
    """-log p of the text under each class, before the temperature: a mean over mask samples, or exact."""
    draws: int
    """Mask samples; 1 where none are drawn."""
    sure: bool
    """Whether sampling ended because the class was decided, and not because the samples ran out."""
    contributions: Tensor | None = None
    """(L,) float64: what each token adds to the log odds of `label` against the second most likely class, without the
    priors."""


@dataclass(frozen=True, slots=True)
class Progress:
    """The prediction for a text after a round of mask samples."""

    text: int
    """The position of the text among the texts."""
    prediction: Prediction
    final: bool
    """Whether this is the last update of the text."""
    seconds: float
    """The text's part of the time so far."""


def divisor(temperature: float, tokens: int) -> float:
    """The number by which the log-likelihoods of a text of `tokens` tokens are divided: `temperature` x sqrt(tokens).

    The errors of a model add up over a text, as its evidence does; if they were independent, their sum would grow
    with the square root. 1 if the temperature is 0, which means that it is unknown.
    """
    return temperature * math.sqrt(tokens) if temperature else 1.0


def log_priors(priors: Sequence[float]) -> Tensor:
    """(C,) float64: log p of each class; -inf for a class with probability 0."""
    return torch.tensor([math.log(p) if p > 0 else -math.inf for p in priors], dtype=torch.float64)


def second_best(scores: Tensor, best: int) -> int:
    """The class with the highest score, except `best`."""
    return int(scores.index_fill(0, torch.tensor(best), -math.inf).argmax())


def exact_prediction(
    nats: Tensor, priors: Sequence[float], temperature: float, tokens: int, token_nats: Tensor | None = None
) -> Prediction:
    """The prediction from exact `nats` (C,) of a text of `tokens` tokens: its interval is a point.

    `token_nats` (C, L) are the nats of each token; they become the contributions.
    """
    over = divisor(temperature, tokens)
    scores = log_priors(priors) - nats / over
    posterior = scores.softmax(0)
    best = int(posterior.argmax())
    contributions = None
    if token_nats is not None:
        contributions = (token_nats[second_best(scores, best)] - token_nats[best]) / over
    p = float(posterior[best])
    return Prediction(best, tuple(posterior.tolist()), (p, p), tuple(nats.tolist()), 1, True, contributions)
