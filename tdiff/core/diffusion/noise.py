"""Random numbers keyed by what they are for: (seed, row, step, place).

A stateful generator hands its numbers out in order, so that a row's noise would depend on who else is in the batch.
Here a number is a hash of its key (SplitMix64's finaliser, Steele et al. 2014), computed for whole tensors at once.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

# What a number is for: the streams that one key (seed, step, row, place) has.
PROPOSAL, ORDER, REMASK, EVALUATION, OPENING, TRAINING, DROPOUT = range(7)
_MASK64 = (1 << 64) - 1
_GOLDEN, _MIX1, _MIX2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def _signed(value: int) -> int:
    value &= _MASK64
    return value - (1 << 64) if value >> 63 else value


def mix(*keys: int) -> int:
    """A 63-bit seed from whole numbers, for generators that need one."""
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
    """float64, or the best a device has instead."""
    return torch.float32 if device.type == "mps" else torch.float64


def uniform(seed: int, step: int, stream: int, rows: Tensor, places: Tensor) -> Tensor:
    """Numbers in [0, 1), float64 (float32 on MPS), one for each pair of `rows` and `places` (int64, broadcast).

    `stream` keeps apart the uses that one place has for noise in one step.
    """
    key = mix(seed, step, stream)
    if _compiled is None:
        return _hashed(rows, places, key)
    # As a tensor: a number would be compiled into the kernel, anew for each step.
    return _compiled(rows, places, torch.full((), key, dtype=torch.int64, device=rows.device))


_compiled: Callable[..., Tensor] | None = None


def compile_uniform(compiler: Callable[[Callable[..., Tensor]], Callable[..., Tensor]] | None) -> None:
    """Have `uniform` compiled from now on, or (None) no more. Its numbers are the same to the bit."""
    global _compiled
    _compiled = compiler(_hashed) if compiler else None


def _hashed(rows: Tensor, places: Tensor, key: int | Tensor) -> Tensor:
    x = (rows * _signed(_GOLDEN) + key) + (places + 1) * _signed(_MIX1)
    for _ in range(2):  # the key is a sum of products: one round leaves neighbours visibly related
        x = (x ^ _shift(x, 30)) * _signed(_MIX1)
        x = (x ^ _shift(x, 27)) * _signed(_MIX2)
        x = x ^ _shift(x, 31)
    bits = 53 if precise(x.device) is torch.float64 else 24
    return _shift(x, 64 - bits).to(precise(x.device)) * 2.0**-bits
