"""A network that is told the class of what it writes, and may be pushed towards it beyond what it says by itself."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from tdiff.core.models.folder import Extent, LoadedModel, Network
from tdiff.errors import TdiffError, unknown

MOST = 100.0
"""The largest weight: beyond it the distributions are points."""


class Guided:
    """A network as a Denoiser that tells it a class.

    With a `weight` w other than 1 its log-probabilities are log p(x) + w (log p(x | class) - log p(x)), not normalised:
    classifier-free guidance (Ho and Salimans 2022, arXiv:2207.12598; of discrete diffusion, Schiff et al. 2024,
    arXiv:2412.10193). Each call then asks the network twice.
    """

    def __init__(self, network: Network, label: int, name: str, weight: float) -> None:
        self.network, self.label, self.name, self.weight = network, label, name, weight
        self.suppress = network.suppress

    @property
    def mask_id(self) -> int:
        """The id of the mask."""
        return self.network.mask_id

    @property
    def shape(self) -> Extent:
        """How large the network is."""
        return self.network.shape

    def __call__(self, tokens: Tensor, share: Tensor, where: Tensor) -> Tensor:
        """Logits (N, V) at the N places, row by row, where `where` (B, L) is true."""
        label = torch.full((len(tokens),), self.label, device=tokens.device)
        told: Tensor = self.network(tokens, share, where, label=label)  # type: ignore[call-arg]  # it knows classes
        if self.weight == 1.0:
            return told
        plain = self.network(tokens, share, where)
        mixed = torch.lerp(plain.log_softmax(-1), told.log_softmax(-1), self.weight)
        return mixed.masked_fill(self.suppress.isneginf(), -torch.inf)


def guided(model: LoadedModel, name: str, weight: float) -> LoadedModel:
    """The model, told that what it writes is of the class `name`.

    Raises TdiffError where it knows no classes, or not that one, or `weight` is not within 0..MOST.
    """
    if not model.origin.classes:
        raise TdiffError(f"{model.name} knows no classes: --class is for models trained with --classes")
    if name not in model.origin.classes:
        raise unknown("class", name, model.origin.classes)
    if not 0 <= weight <= MOST:
        raise TdiffError(f"--guidance must be within 0..{MOST:g}; got {weight:g}")
    network = Guided(model.network, model.origin.classes.index(name), name, weight)
    return dataclasses.replace(model, network=network)
