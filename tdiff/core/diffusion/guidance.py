"""Class conditioning of a model in generation, with classifier-free guidance."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from tdiff.core.models.base import Cache, Inputs, LoadedModel, Model, ModelSpec
from tdiff.errors import TdiffError, unknown

MOST = 100.0
"""The largest guidance weight: with a larger one the distributions are points."""


class Guided:
    """A model conditioned on one class.

    With a `weight` w other than 1 its log-probabilities are log p(x) + w (log p(x | class) - log p(x)), not normalised:
    classifier-free guidance (Ho and Salimans 2022, arXiv:2207.12598; of discrete diffusion, Schiff et al. 2024,
    arXiv:2412.10193). Each call then runs the network twice.
    """

    def __init__(self, network: Model, label: int, name: str, weight: float) -> None:
        self.network, self.label, self.name, self.weight = network, label, name, weight

    @property
    def spec(self) -> ModelSpec:
        """The properties of the network."""
        return self.network.spec

    @property
    def device(self) -> torch.device:
        """The device of the network."""
        return self.network.device

    def logits(self, inputs: Inputs, cache: Cache | None = None) -> Tensor:
        """Return logits (N, V) at the N positions, row by row, where `inputs.where` is true. There is no cache."""
        label = torch.full((len(inputs.tokens),), self.label, device=inputs.tokens.device)
        conditional = self.network.logits(dataclasses.replace(inputs, label=label))
        if self.weight == 1.0:
            return conditional
        plain = self.network.logits(inputs)
        mixed = torch.lerp(plain.log_softmax(-1), conditional.log_softmax(-1), self.weight)
        return mixed.masked_fill(plain.isneginf(), -torch.inf)

    def new_cache(self, rows: int) -> Cache | None:
        """Return None: there is no cache."""
        return None

    def log_likelihood(self, tokens: Tensor, scored: Tensor) -> Tensor | None:
        """Return None: guided distributions are not normalised over texts."""
        return None


def guided(model: LoadedModel, name: str, weight: float) -> LoadedModel:
    """Return the model conditioned on the class `name`.

    Raises TdiffError if it has no classes, or not that one, or `weight` is not within 0..MOST.
    """
    if not model.origin.classes:
        raise TdiffError(f"{model.name} has no classes: --class is for models trained with --classes")
    if name not in model.origin.classes:
        raise unknown("class", name, model.origin.classes)
    if not 0 <= weight <= MOST:
        raise TdiffError(f"--guidance must be within 0..{MOST:g}; got {weight:g}")
    network = Guided(model.network, model.origin.classes.index(name), name, weight)
    return dataclasses.replace(model, network=network)
