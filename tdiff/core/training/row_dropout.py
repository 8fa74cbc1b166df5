"""Dropout that does not depend on how many processes share the rows of a step.

torch draws the dropout of a tensor in order from one generator, so a row's depends on the rows before it. Here every
process has the generator at the same state, draws for the rows of all processes, and uses those of its own: the numbers
are those of one process that has all rows. That costs the other processes' random numbers, a small part of a step.

This holds on a CPU. On CUDA, dropout is fused into kernels that number elements themselves: processes then have
generators of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tdiff.core.diffusion import noise
from tdiff.core.training.distributed import World


def seed_step(seed: int, step: int, world: World) -> None:
    """Seed torch's generators for a step: those of all processes alike, except on CUDA, where each has its own."""
    torch.manual_seed(noise.mix(seed, step, noise.DROPOUT, 0))
    if world.rank and torch.cuda.is_available():
        torch.cuda.manual_seed(noise.mix(seed, step, noise.DROPOUT, world.rank))


class WholeBatchDropout(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Within it, dropout of a tensor with the rows of a call is drawn for the rows that the call has undivided."""

    def __init__(self, own: Tensor, total: int) -> None:
        """`own` (B,) int64 are the rows of this process among the `total` rows of the undivided call."""
        super().__init__()  # type: ignore[no-untyped-call]
        self._own, self._total = own, total

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        """Replace the random draw of a dropout."""
        if func is torch.ops.aten.bernoulli_.float and args[0].ndim > 1 and len(args[0]) == len(self._own):
            whole = args[0].new_empty((self._total, *args[0].shape[1:]))
            func(whole, *args[1:], **(kwargs or {}))
            return args[0].copy_(whole[self._own])
        return func(*args, **(kwargs or {}))


class PassRows:
    """The rows of this process in the calls of a step, and the length of each call."""

    def __init__(self, world: World, size: int, lengths: Sequence[int], again: Sequence[int]) -> None:
        """Each pass has `size` rows of this process, of `lengths` positions, of which `again` rows are scored twice."""
        self._world, self._size = world, size
        gathered = world.gather(torch.tensor([list(lengths), list(again)]))
        self.lengths: list[int] = gathered[:, 0].amax(0).tolist()
        """Positions of the longest row of each pass, over all processes."""
        self._again = gathered[:, 1]

    def dropout(self, number: int) -> AbstractContextManager[Any]:
        """The context of the forward and backward pass of that number."""
        rank, rows, again = self._world.rank, self._size * self._world.size, self._again[:, number]
        first = torch.arange(self._size) + rank * self._size
        second = torch.arange(int(again[rank])) + rows + int(again[:rank].sum())
        return WholeBatchDropout(torch.cat((first, second)), rows + int(again.sum()))


class EachItsOwn:
    """The passes of one process, or of processes without dropout: they depend on no other process."""

    def __init__(self, lengths: Sequence[int]) -> None:
        self.lengths = list(lengths)
        """Positions of the longest row of each pass."""

    def dropout(self, number: int) -> AbstractContextManager[Any]:
        """The context of the forward and backward pass of that number."""
        return nullcontext()
