"""A model as the judge of single texts: how near their likelihood bounds are to its bound on real held-out text.

The lowest bound is not the best one: common phrases and loops have it.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tdiff.core.diffusion.objective import likelihood
from tdiff.core.evaluation.likelihood import LEAST_DRAWS, exactly
from tdiff.core.models.base import LoadedModel
from tdiff.errors import TdiffError
from tdiff.runs.model_facts import facts

LEAST_DIFFERENCE = 0.05
"""Nats a character by which two texts differ at least, where their estimates are more certain than that."""


@dataclass(frozen=True, slots=True)
class OwnBound:
    """The bound of a model on real text, from its record."""

    model: str
    real: float
    """In nats a character."""


def own_bound(model: LoadedModel) -> OwnBound:
    """The bound in the record of a model. Raises TdiffError if it has none."""
    real = facts(model.path).bound
    if real is None:
        raise TdiffError("no usable training text here, and no bound in the model's record")
    return OwnBound(model.name, real)


def bounds(
    model: LoadedModel, prompt: str, texts: Sequence[str], *, seed: int = 0
) -> Generator[None, None, list[tuple[float, float]]]:
    """For each text, which begins with `prompt`: the likelihood bound of what follows the prompt, in nats a character,
    and half of its 95% interval. The prompt is visible to the model and not scored.

    It yields after each window, to be stopped there, and returns the bounds at its end. Raises TdiffError for a text
    that the vocabulary cannot express, or without a token that the model can score.
    """
    found = []
    for text in texts:
        bound = yield from _bound(model, prompt, text, seed)
        found.append(bound)
    return found


def distances(real: float, found: Sequence[tuple[float, float]]) -> list[float]:
    """How far bounds are from that of real text; 1 is the least that counts as a difference between two of them."""
    least = max(LEAST_DIFFERENCE, *(half for _, half in found))
    return [abs(nats - real) / least for nats, _ in found]


def _bound(model: LoadedModel, prompt: str, text: str, seed: int) -> Generator[None, None, tuple[float, float]]:
    network, spec = model.network, model.spec
    try:
        ids = model.tokenizer.encode(text)
        given = model.tokenizer.encode(prompt) if prompt else ids[:0]
    except TdiffError as error:
        raise TdiffError(f"{model.name} has no token for a character of a text") from error
    scored = spec.scorable(_scored(ids, given, spec.unscored)[None])[0]
    nats, variance, chars = 0.0, 0.0, 0
    for start in range(0, len(ids), spec.context):
        row, maskable = ids[None, start : start + spec.context], scored[None, start : start + spec.context]
        if start:  # a window is a text to the model
            maskable = spec.scorable(maskable)
        if not bool(maskable.any()):
            continue
        on_device = row.to(network.device), maskable.to(network.device)
        if spec.causal:
            result = exactly(network, *on_device)
        else:
            result = likelihood(network, *on_device, draws=LEAST_DRAWS, seed=seed)
        nats += float(result.nats.sum())
        variance += ((result.interval_95[1] - result.nats_per_token) * result.tokens) ** 2
        chars += int(model.tokenizer.lengths[row[maskable]].sum())
        yield
    if not chars:
        raise TdiffError("a text has no token that the model can score")
    return nats / chars, math.sqrt(variance) / chars


def _scored(ids: Tensor, given: Tensor, unscored: Sequence[int]) -> Tensor:
    """Return (L,) bool: the tokens of a text that are neither of its beginning `given` nor `unscored`."""
    same = int((ids[: len(given)] == given[: len(ids)]).long().cumprod(0).sum())
    return (torch.arange(len(ids)) >= same) & ~torch.isin(ids, torch.tensor(unscored, dtype=torch.int64))
