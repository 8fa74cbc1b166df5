"""Masks as indices, with as few waits of the host for the device as possible.

`x[mask]` has the host wait each time until the device has counted the mask. Here a mask is counted once at most: its
indices are stored with it, and a caller that knows the count gives it, so that nothing waits.
"""

from __future__ import annotations

import torch
from torch import Tensor

_ATTRIBUTE = "_tdiff_indices"


def indices_of(mask: Tensor, count: int | None = None) -> Tensor:
    """Return (N,) int64: the indices at which the flattened `mask` (any shape, bool) is true, in ascending order.

    `count` is N, if the caller knows it. The indices are stored with the mask, which must not change in place.
    """
    stored: Tensor | None = getattr(mask, _ATTRIBUTE, None)
    # Gradients cannot use a tensor that was made in inference mode.
    if stored is None or (stored.is_inference() and not torch.is_inference_mode_enabled()):
        flat = mask.flatten()
        unknown = count is None or mask.device.type == "cpu"
        stored = flat.nonzero()[:, 0] if unknown else _counted(flat, count or 0)
        setattr(mask, _ATTRIBUTE, stored)
    return stored


def _counted(flat: Tensor, count: int) -> Tensor:
    """Return the indices of the `count` true values: each goes to the slot of its rank, all others to a last slot."""
    slot = torch.where(flat, flat.cumsum(0) - 1, count)
    index = torch.arange(len(flat), device=flat.device)
    return torch.empty(count + 1, dtype=torch.int64, device=flat.device).scatter_(0, slot, index)[:count]


def select(x: Tensor, mask: Tensor) -> Tensor:
    """Return (N, ...): the values of `x` (*mask.shape, ...) where `mask` is true; `x[mask]`."""
    return x.flatten(0, mask.ndim - 1).index_select(0, indices_of(mask))


def send(tensor: Tensor, device: str | torch.device) -> Tensor:
    """Return `tensor` of the CPU on `device`, with the indices of a mask; the host does not wait for the device."""
    kind = torch.device(device).type
    if tensor.device.type == kind:
        return tensor
    copy = tensor.to(device) if kind == "mps" else tensor.pin_memory().to(device, non_blocking=True)
    if tensor.dtype is torch.bool:
        setattr(copy, _ATTRIBUTE, send(indices_of(tensor), device))
    return copy
