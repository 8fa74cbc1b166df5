"""Decode with few kernel launches: the trunk is captured as a CUDA graph for one batch size, and noise is compiled.

A small model's step on a GPU is mostly launches of small kernels. A captured graph replays them all at once, but only
for the shapes that it was captured with. A decoder requests fewer rows as texts are finished, so batches are padded to
the size of the largest batch so far.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tdiff.core.diffusion import noise

Compiler = Callable[[Callable[..., Tensor]], Callable[..., Tensor]]
"""Returns a faster version of a function of tensors."""


class FixedBatch:
    """A trunk whose batches always have as many rows as the largest one so far: the last row is repeated."""

    def __init__(self, trunk: Callable[..., Tensor], compiler: Compiler) -> None:
        self._trunk = compiler(trunk)
        self._rows = 0

    def __call__(self, tokens: Tensor, mask_ratio: Tensor, *rest: Tensor | None) -> Tensor:
        """Return the trunk's features (B, L, width); a copy, since the next replay overwrites the output of a graph."""
        rows = len(tokens)
        self._rows = max(self._rows, rows)
        missing = self._rows - rows

        def padded(value: Tensor | None) -> Tensor | None:
            if value is None:
                return None
            # Copy full batches too: whether a tensor was created in inference mode is part of the compiled signature.
            return torch.cat((value, value[-1:].expand(missing, *value.shape[1:]))) if missing else value.clone()

        torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]  # untyped in torch
        return self._trunk(padded(tokens), padded(mask_ratio), *map(padded, rest))[:rows].clone()


def capture(network: Any, device: str, compiler: Compiler | None = None) -> bool:
    """Capture the trunk of a loaded network and compile noise. Returns False if nothing can be captured.

    Only CUDA has graphs, unless a `compiler` is passed, and only tdiff's networks have a trunk. The first step of each
    batch size, length and option then takes up to a minute.
    """
    if not network.spec.compiles or (compiler is None and torch.device(device).type != "cuda"):
        return False
    network.wrap_trunk(lambda trunk: FixedBatch(trunk, compiler or _captured))
    noise.compile_uniform(compiler or _compiled)
    return True


def _captured(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return torch.compile(function, mode="reduce-overhead", dynamic=False)


def _compiled(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return torch.compile(function, dynamic=True)
