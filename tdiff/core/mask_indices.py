"""Where a mask is true, as indices, without making the host wait for the device more often than it must.

`x[mask]` has the host wait until the device has counted the mask, each time anew. Here a mask is counted once at most:
its indices are kept with it, and whoever knows the count already says so, and nobody waits.
"""

from __future__ import annotations

import torch
from torch import Tensor

_KEPT = "_tdiff_places"


def places(mask: Tensor, count: int | None = None) -> Tensor:
    """(N,) int64: the indices of `mask` (any shape, bool), flattened, where it is true, in ascending order.

    `count` is N, where the caller knows it. The indices are kept with the mask, which must not change in place.
    """
    kept: Tensor | None = getattr(mask, _KEPT, None)
    # What was made in inference mode is of no use to gradients.
    if kept is None or (kept.is_inference() and not torch.is_inference_mode_enabled()):
        flat = mask.flatten()
        unknown = count is None or mask.device.type == "cpu"
        kept = flat.nonzero()[:, 0] if unknown else _counted(flat, count or 0)
        setattr(mask, _KEPT, kept)
    return kept


def _counted(flat: Tensor, count: int) -> Tensor:
    """The indices of the `count` true values: each goes to the slot of its rank, the others to one slot behind."""
    slot = torch.where(flat, flat.cumsum(0) - 1, count)
    index = torch.arange(len(flat), device=flat.device)
    return torch.empty(count + 1, dtype=torch.int64, device=flat.device).scatter_(0, slot, index)[:count]


def chosen(x: Tensor, mask: Tensor) -> Tensor:
    """(N, ...): the values of `x` (*mask.shape, ...) where `mask` is true; `x[mask]`."""
    return x.flatten(0, mask.ndim - 1).index_select(0, places(mask))


def sent(tensor: Tensor, device: str | torch.device) -> Tensor:
    """`tensor` of the CPU on `device`; the host does not wait for what the device is doing. The places of a mask go
    along.
    """
    kind = torch.device(device).type
    if tensor.device.type == kind:
        return tensor
    there = tensor.to(device) if kind == "mps" else tensor.pin_memory().to(device, non_blocking=True)
    if tensor.dtype is torch.bool:
        setattr(there, _KEPT, sent(places(tensor), device))
    return there
