"""Stub models: a function of tokens as a model for decoding and the objective."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tdiff.core.models.base import Cache, Inputs, ModelSpec


class StubModel:
    """A model whose subclass defines `__call__(tokens, mask_ratio, where)`, with `attention` or `label` where given."""

    mask_id = 0
    vocab_size = 1 << 16

    @property
    def spec(self) -> ModelSpec:
        return ModelSpec("stub", self.vocab_size, self.mask_id, (self.mask_id,), context=1 << 20)

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def logits(self, inputs: Inputs, cache: Cache | None = None) -> Tensor:
        extra = {name: value for name in ("attention", "label") if (value := getattr(inputs, name)) is not None}
        return self(inputs.tokens, inputs.mask_ratio, inputs.where, **extra)

    def new_cache(self, rows: int) -> Cache | None:
        return None

    def log_likelihood(self, tokens: Tensor, scored: Tensor) -> Tensor | None:
        return None


def stub(function: Callable[..., Tensor], mask: int) -> StubModel:
    """Return the function of (tokens, mask_ratio, where) as a model with that mask id."""

    class Function(StubModel):
        mask_id = mask

        def __call__(self, *arguments: Tensor, **extra: Tensor) -> Tensor:
            return function(*arguments, **extra)

    return Function()
