"""Texts as padded rows: each text begins a row of its own, and the rest of a row is padding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class PaddedRows(NamedTuple):
    """Padded rows."""

    tokens: Tensor
    """(N, W) int64."""
    real: Tensor
    """(N, W) bool: true at text, false at padding."""
    text: Tensor
    """(N,) int64: the number of the text in each row."""


def padded(texts: Sequence[Tensor], window: int, filler: int) -> PaddedRows:
    """The ids of texts as rows; W is the length of the longest row, at most `window`.

    A text longer than the window continues in the next row; an empty text has no row. Padding holds `filler`.
    """
    cut = [(n, text[at : at + window]) for n, text in enumerate(texts) for at in range(0, len(text), window)]
    pieces = [piece for _, piece in cut]
    longest = max(map(len, pieces), default=0)
    rows = torch.full((len(pieces), longest), filler)
    lengths = torch.tensor([len(piece) for piece in pieces], dtype=torch.int64)
    real = torch.arange(longest) < lengths[:, None]
    if pieces:
        rows[real] = torch.cat(pieces)
    return PaddedRows(rows, real, torch.tensor([n for n, _ in cut], dtype=torch.int64))
