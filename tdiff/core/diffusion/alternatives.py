"""The likeliest tokens of each masked position, for a trace with details: computed on the device, only on request."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tdiff.core.diffusion import noise
from tdiff.protocol.detail import TOP

WIDTH = 2 * TOP + 1
"""Numbers of a position: the ids of its likeliest tokens, their probabilities, and the entropy."""
UNKNOWN = -1.0
"""All numbers of a position that the model did not predict in this step."""


def likeliest(logits: Tensor, masked: Tensor) -> Tensor:
    """Return (B, L, WIDTH) of one type: for each position its `TOP` likeliest token ids in descending order, their
    probabilities and the entropy in nats; UNKNOWN where not `masked`.

    `logits` (N, V) are those at the N positions where `masked` (B, L) bool is true. Ids and probabilities share a
    tensor, so that the host copies them in one transfer with the rest of the step. The probabilities are the model's:
    before temperature, truncation and repetition penalty. In a vocabulary of less than TOP tokens the rest has
    probability 0.
    """
    precise = noise.precise(masked.device)
    log_p = logits.float().log_softmax(-1)
    best = log_p.topk(min(TOP, log_p.size(-1)), -1)
    missing = TOP - best.indices.size(-1)
    ids, p = F.pad(best.indices.to(precise), (0, missing)), F.pad(best.values.exp().to(precise), (0, missing))
    entropy = -(log_p.exp() * log_p.clamp(min=-1e4)).sum(-1, keepdim=True).to(precise)
    rows = torch.cat((ids, p, entropy), -1)
    empty = unknown(masked)
    return empty.masked_scatter(masked[..., None].expand_as(empty), rows)


def unknown(masked: Tensor) -> Tensor:
    """Return (B, L, WIDTH) of UNKNOWN for a canvas of the size of `masked` (B, L)."""
    return torch.full((*masked.shape, WIDTH), UNKNOWN, dtype=noise.precise(masked.device), device=masked.device)
