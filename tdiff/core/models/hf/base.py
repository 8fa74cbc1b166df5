"""What is common to masked and causal models of transformers: how far they see, and how they are trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from tdiff.core.models.folder import Origin


@dataclass(frozen=True, slots=True)
class Reach:
    """What may be asked of a model without knowing how it is built; see `models.Shape`."""

    vocab_size: int
    mask_id: int
    suppressed: tuple[int, ...]
    window: int
    """Places of text that it sees at once."""


def origin_unknown(context: int, steps: int = 0) -> Origin:
    """What is remembered of a training elsewhere: nothing but its steps, if that. `context` is for a sliding canvas."""
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


class HFBackbone(nn.Module):
    """A network around a model of transformers."""

    shape: Reach

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.sees = 0
        """Places of text that the model has positions for."""
        self.own_dropout: dict[str, float] = {}
        """What its config said of dropout before it was made ready to be trained."""

    @property
    def mask_id(self) -> int:
        """The id of the mask."""
        return self.shape.mask_id

    def see(self, window: int) -> None:
        """Be asked for so many places of text at once and no more. Raises ValueError for more than it sees."""
        if window > self.sees:
            raise ValueError(f"it sees {self.sees} places of text at once; got {window}")
        self.shape = replace(self.shape, window=window)

    def matrices(self) -> list[nn.Parameter]:
        """The weights that decay in training, and that Muon may have: matrices, but for those of the vocabulary."""
        tables = [m for m in self.modules() if isinstance(m, nn.Embedding)]
        known = {id(m.weight) for m in (*tables, self.model.get_output_embeddings()) if m is not None}
        return [p for p in self.parameters() if p.ndim == 2 and id(p) not in known]

    def practise(self, dropout: float, checkpointing: bool) -> None:
        """Make ready to be trained: all weights may change, and every dropout there is has that rate.

        Raises ValueError where activations cannot be computed again.
        """
        self.requires_grad_(True).train()
        for holder in (self.model.config, *self.model.modules()):  # some keep a module, some a number, some ask config
            for name, value in list(vars(holder).items()):
                if ("dropout" in name or name.endswith("_pdrop")) and isinstance(value, float):
                    if holder is self.model.config:
                        self.own_dropout.setdefault(name, value)
                    setattr(holder, name, dropout)
            if isinstance(holder, nn.Dropout):
                holder.p = dropout
        if checkpointing:
            newer = getattr(self.model, "activation_checkpointing_enable", None)  # what transformers 5.2x calls it
            (newer or self.model.gradient_checkpointing_enable)({"use_reentrant": False})


class _Enough(Exception):
    """Raised where the rest of a model need not be run."""


_TRIED = 1 << 12
"""Places beyond which no model is tried, for it would take long: tables of positions are seldom longer."""
_FAILURES = (IndexError, RuntimeError, ValueError, TypeError)


@torch.inference_mode()
def longest_that_works(model: nn.Module, ask: Callable[[int], Any], most: int) -> int:
    """The most places, up to `most`, with which `ask` works; 0 where it works with none.

    What a model says of its positions is not always what it has: some begin late in their table. Only embeddings and
    the first layer are run, where the limits are. The model is on the CPU: a GPU would not recover from such an error.
    """
    if most > _TRIED:
        return most
    layers = max((m for m in model.modules() if isinstance(m, nn.ModuleList)), key=len, default=nn.ModuleList())

    def works(places: int) -> bool:
        try:
            ask(places)
        except _Enough:
            return True
        except _FAILURES:
            return False
        return True

    def enough(_module: nn.Module, _arguments: Any) -> None:
        raise _Enough

    hook = layers[1].register_forward_pre_hook(enough) if len(layers) > 1 else None
    try:
        fails, step = most + 1, 1
        while (place := fails - step) > 0 and not works(place):
            fails, step = place, 2 * step if place < most else 1
        least = max(0, fails - step)
        while fails - least > 1:  # `least` works, `fails` does not
            middle = (least + fails) // 2
            least, fails = (middle, fails) if works(middle) else (least, middle)
        return least
    finally:
        if hook is not None:
            hook.remove()
