"""Random numbers keyed by their use: (seed, row, step, position).

A stateful generator returns its numbers in order, so a row's noise would depend on the other rows of the batch. Here a
number is a hash of its key (SplitMix64's finaliser, Steele et al. 2014), computed for entire tensors at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

# The uses of a number: the streams of one key (seed, step, row, position).
PROPOSAL, ORDER, REMASK, EVALUATION, PROMPT = range(5)
# The streams of training: the text of a row, its protected context, its time, its mask, whether its label is dropped,
# the label it is contrasted with, torch's generator, and the seed after a rewind.
DATA, CONTEXT, TIME, MASK, LABEL, CONTRAST, DROPOUT, REWIND = range(5, 13)
_MASK64 = (1 << 64) - 1
_GOLDEN, _MIX1, _MIX2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB

_SHIFTS, _FACTORS = (np.uint64(30), np.uint64(27), np.uint64(31)), (np.uint64(_MIX1), np.uint64(_MIX2))


def _signed(value: int) -> int:
    value &= _MASK64
    return value - (1 << 64) if value >> 63 else value


def mix(*keys: int) -> int:
    """Return a 63-bit seed made from integers, for generators that need one."""
    state = 0
    for key in keys:
        state = (state + key * _GOLDEN + _GOLDEN) & _MASK64
        state = ((state ^ (state >> 30)) * _MIX1) & _MASK64
        state = ((state ^ (state >> 27)) * _MIX2) & _MASK64
        state ^= state >> 31
    return state >> 1


def _shift(x: Tensor, by: int) -> Tensor:
    return (x >> by) & ((1 << (64 - by)) - 1)  # torch shifts int64 arithmetically; this is the logical shift


def precise(device: torch.device) -> torch.dtype:
    """float64, or float32 on a device without it (MPS)."""
    return torch.float32 if device.type == "mps" else torch.float64


def uniform(seed: int, step: int, stream: int, rows: Tensor, positions: Tensor) -> Tensor:
    """Return float64 (float32 on MPS) in [0, 1), one for each pair of `rows` and `positions` (int64, broadcast).

    `stream` separates the uses of noise at one position in one step.
    """
    key = mix(seed, step, stream)
    if _compiled is None:
        return _hashed(rows, positions, key)
    # The key is a tensor: a number would be compiled into the kernel, again for each step.
    return _compiled(rows, positions, torch.full((), key, dtype=torch.int64, device=rows.device))


@dataclass(frozen=True, slots=True)
class RowNoise:
    """Random numbers for rows of one training step, keyed by (seed, step, stream, row, position); see `uniform`.

    Rows are numbered over the entire step, across its processes and passes, so that a row has the same numbers in any
    of them. All numbers are on the CPU, the same for every device.
    """

    seed: int
    step: int
    rows: Sequence[int]
    """The B row numbers, within 0..total, ascending."""
    total: int
    """Rows of the entire step."""

    def uniform(self, stream: int, width: int = 1) -> Tensor:
        """(B, width) float32 in [0, 1), with 24 random bits each: one hash gives two numbers."""
        bits = self._bits(stream, (width + 1) // 2).view(np.uint32)[:, :width]
        return torch.from_numpy((bits >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24))

    def integers(self, stream: int, below: int) -> Tensor:
        """(B,) int64 in 0..below-1, one for each row; `below` must be less than 2^53."""
        return torch.from_numpy(((self._bits(stream, 1)[:, 0] >> np.uint64(11)) * (2.0**-53 * below)).astype(np.int64))

    def shared(self, stream: int) -> float:
        """A number in [0, 1), the same for all rows of the step."""
        return mix(self.seed, self.step, stream) / (1 << 63)

    def numbers(self) -> Tensor:
        """(B,) int64: the numbers of the rows."""
        return torch.from_numpy(self._numbers(np.int64))

    def _bits(self, stream: int, width: int) -> npt.NDArray[np.uint64]:
        """(B, width): the hashes from which `_hashed` makes its numbers.

        numpy computes them, since it has logical shifts and less overhead: the numbers of 64 rows of 256 positions take
        0.16 ms, and 0.94 ms in torch.
        """
        key = np.uint64(mix(self.seed, self.step, stream))
        rows = self._numbers(np.uint64) * np.uint64(_GOLDEN) + key
        x = rows[:, None] + np.arange(1, width + 1, dtype=np.uint64) * _FACTORS[0]
        shifted = np.empty_like(x)
        for _ in range(2):
            for shift, factor in zip(_SHIFTS, (*_FACTORS, None), strict=True):
                np.right_shift(x, shift, out=shifted)
                np.bitwise_xor(x, shifted, out=x)
                if factor is not None:
                    np.multiply(x, factor, out=x)
        return x

    def _numbers(self, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """(B,): the numbers of the rows."""
        if isinstance(self.rows, range):
            return np.arange(self.rows.start, self.rows.stop, dtype=dtype)
        return np.array(self.rows, dtype=dtype)


_compiled: Callable[..., Tensor] | None = None


def compile_uniform(compiler: Callable[[Callable[..., Tensor]], Callable[..., Tensor]] | None) -> None:
    """Compile `uniform` from now on, or stop doing so (None). Its numbers are the same to the bit."""
    global _compiled
    _compiled = compiler(_hashed) if compiler else None


def _hashed(rows: Tensor, positions: Tensor, key: int | Tensor) -> Tensor:
    x = (rows * _signed(_GOLDEN) + key) + (positions + 1) * _signed(_MIX1)
    for _ in range(2):  # the key is a sum of products: after one round neighbours are still visibly related
        x = (x ^ _shift(x, 30)) * _signed(_MIX1)
        x = (x ^ _shift(x, 27)) * _signed(_MIX2)
        x = x ^ _shift(x, 31)
    bits = 53 if precise(x.device) is torch.float64 else 24
    return _shift(x, 64 - bits).to(precise(x.device)) * 2.0**-bits
