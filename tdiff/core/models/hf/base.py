"""The common part of masked and causal models of transformers: context length and preparation for training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from tdiff.core.models.base import TrainableModel
from tdiff.errors import is_out_of_memory


class HFBackbone(TrainableModel):
    """A network around a model of transformers."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.longest = 0
        """Context length that the model's positions allow."""
        self.original_dropout: dict[str, float] = {}
        """The dropout rates of its config before `train_with` changed them."""
        self.label_bias = None

    @property
    def timed(self) -> bool:
        """Whether it has time conditioning."""
        return False

    def set_context(self, length: int) -> None:
        """Set the context length. Raises ValueError if the model's positions do not allow it."""
        if length > self.longest:
            raise ValueError(f"its context length is {self.longest}; got {length}")
        self.spec = replace(self.spec, context=length)

    def add_time(self, generator: torch.Generator | None = None) -> None:
        """Add time conditioning; with a `generator` by fresh weights, which have no effect before training.

        Raises ValueError for a causal model.
        """
        raise ValueError("a causal model has no time conditioning")

    def add_classes(self, count: int) -> None:
        """Replace the class conditioning by one of `count` classes, which has no effect before training; 0: remove it.

        Raises ValueError for a causal model and a count above 0.
        """
        if count:
            raise ValueError("a causal model cannot be conditioned on classes")

    def conditioning(self) -> nn.ModuleDict | None:
        """Return the weights for time and classes, which transformers does not know; None if there are none."""
        return None

    def matrices(self) -> list[nn.Parameter]:
        """Return the weights with weight decay, which Muon may train: matrices, without those of the vocabulary."""
        tables = [m for m in self.modules() if isinstance(m, nn.Embedding)]
        excluded = {id(m.weight) for m in (*tables, self.model.get_output_embeddings()) if m is not None}
        return [p for p in self.parameters() if p.ndim == 2 and id(p) not in excluded]

    def train_with(self, dropout: float, checkpointing: bool) -> None:
        """Enable training: unfreeze all weights and set every dropout rate.

        Raises ValueError if activation checkpointing is asked for and not supported.
        """
        self.requires_grad_(True).train()
        for holder in (self.model.config, *self.model.modules()):  # some keep a module, some a number, some ask config
            for name, value in list(vars(holder).items()):
                if ("dropout" in name or name.endswith("_pdrop")) and isinstance(value, float):
                    if holder is self.model.config:
                        self.original_dropout.setdefault(name, value)
                    setattr(holder, name, dropout)
            if isinstance(holder, nn.Dropout):
                holder.p = dropout
        if checkpointing:
            newer = getattr(self.model, "activation_checkpointing_enable", None)  # its name since transformers 5.2x
            (newer or self.model.gradient_checkpointing_enable)({"use_reentrant": False})


class _Enough(Exception):
    """Raised to stop a forward pass early: the rest of the model need not run."""


_TRIED = 1 << 12
"""Longest length that is tried, since longer ones would take long: tables of positions are seldom longer."""
_FAILURES = (IndexError, RuntimeError, ValueError, TypeError)


@torch.inference_mode()
def longest_that_works(model: nn.Module, ask: Callable[[int], Any], most: int) -> int:
    """The largest length, up to `most`, with which `ask` works; 0 if it works with none.

    A model does not always have the positions that it declares: some begin late in their table. Only the embeddings and
    the first layer run, since the limits are there. The model is on the CPU: a GPU would not recover from the error.
    """
    if most > _TRIED:
        return most
    layers = max((m for m in model.modules() if isinstance(m, nn.ModuleList)), key=len, default=nn.ModuleList())

    def works(length: int) -> bool:
        try:
            ask(length)
        except _Enough:
            return True
        except _FAILURES as error:
            if is_out_of_memory(error):
                raise
            return False
        return True

    def enough(_module: nn.Module, _arguments: Any) -> None:
        raise _Enough

    hook = layers[1].register_forward_pre_hook(enough) if len(layers) > 1 else None
    try:
        fails, step = most + 1, 1
        while (length := fails - step) > 0 and not works(length):
            fails, step = length, 2 * step if length < most else 1
        least = max(0, fails - step)
        while fails - least > 1:  # `least` works, `fails` does not
            middle = (least + fails) // 2
            least, fails = (middle, fails) if works(middle) else (least, middle)
        return least
    finally:
        if hook is not None:
            hook.remove()
