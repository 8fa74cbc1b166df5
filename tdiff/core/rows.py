"""Texts as rows of places: each begins a row of its own, and what is left of a row is padding."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def padded(texts: Sequence[Tensor], window: int, filler: int) -> tuple[Tensor, Tensor]:
    """Rows (N, W) int64 of the texts' ids, and where they are text (N, W) bool; W is the longest row, at most `window`.

    A text longer than the window goes on in the next row; an empty one has none. Padding holds `filler`.
    """
    pieces = [text[start : start + window] for text in texts for start in range(0, len(text), window)]
    longest = max(map(len, pieces), default=0)
    rows = torch.full((len(pieces), longest), filler)
    lengths = torch.tensor([len(piece) for piece in pieces], dtype=torch.int64)
    real = torch.arange(longest) < lengths[:, None]
    if pieces:
        rows[real] = torch.cat(pieces)
    return rows, real
