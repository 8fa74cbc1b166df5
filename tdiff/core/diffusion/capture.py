"""A decoding step in few launches: the trunk compiled for one batch size and captured as a CUDA graph, noise compiled.

A small model's step on a GPU is mostly launches of small kernels. A captured graph replays them all at once, but only
for the shapes that it was captured with; a decoder asks for fewer rows as texts are finished, so the rows are filled up
to those of the largest batch so far.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tdiff.core.diffusion import noise

Compiler = Callable[[Callable[..., Tensor]], Callable[..., Tensor]]
"""Makes a function of tensors a faster one."""


class FixedBatch:
    """A trunk that is always given as many rows as the largest batch had: the last row again where there are fewer."""

    def __init__(self, trunk: Callable[..., Tensor], compiler: Compiler) -> None:
        self._trunk = compiler(trunk)
        self._rows = 0

    def __call__(self, tokens: Tensor, mask_ratio: Tensor, *rest: Tensor | None) -> Tensor:
        """Features (B, L, width), as of the trunk; a copy, since the next replay writes over a graph's own output."""
        rows = len(tokens)
        self._rows = max(self._rows, rows)
        missing = self._rows - rows

        def padded(value: Tensor | None) -> Tensor | None:
            if value is None:
                return None
            # A copy even of a full batch: whether a tensor was made in inference mode is part of what is compiled for.
            return torch.cat((value, value[-1:].expand(missing, *value.shape[1:]))) if missing else value.clone()

        torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]  # torch leaves it so
        return self._trunk(padded(tokens), padded(mask_ratio), *map(padded, rest))[:rows].clone()


def capture(network: Any, device: str, compiler: Compiler | None = None) -> bool:
    """Have a loaded network's trunk captured and noise compiled; whether there is something to capture.

    Only CUDA has graphs to capture, unless a `compiler` is given, and only tdiff's own networks have a trunk. The first
    step of each batch size, length and option then takes up to a minute.
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
