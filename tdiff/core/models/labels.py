"""Class biases, added to the logits: one for each class and token, and one for each class and pair of neighbours.

From a few thousand labelled texts a network learns little about what distinguishes their classes. Counts of tokens and
of pairs show it at once, so these biases are added to the output of the network.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tdiff.core.mask_indices import indices_of


def with_bias(logits: Tensor, bias: Tensor, label: Tensor | None, where: Tensor) -> Tensor:
    """Return `logits` (N, V), at the N positions where `where` (B, L) is true, plus the row of `bias` (C + 1, V) that
    the `label` (B,) of the text selects; without labels, the last row.

    Computed as a product: looking up N rows of V numbers, and adding up their gradients, takes several times as long.
    """
    if label is None:
        return logits + bias[-1]
    if logits.device.type == "cpu" and not torch.is_grad_enabled():  # in place, since no gradients are needed
        for part, index in zip(torch.split(logits, where.sum(1).tolist()), label.tolist(), strict=True):
            part += bias[index]
        return logits
    one_hot = (label[_rows(where)][:, None] == torch.arange(len(bias), device=label.device)).to(bias.dtype)
    with torch.autocast(logits.device.type, enabled=False):
        return torch.addmm(logits, one_hot, bias)


def add_missing_bias(tensors: dict[str, Tensor], bias: nn.Embedding | None) -> None:
    """Add a zero class bias to the `tensors` of a model folder that lacks it: the first models with classes had none.

    `bias` is that of the network, or None if the network has none.
    """
    if bias is not None:
        tensors.setdefault("label_bias.weight", torch.zeros_like(bias.weight))


def _rows(where: Tensor) -> Tensor:
    """(N,): the row of each position."""
    return indices_of(where).div(where.size(1), rounding_mode="floor")


@torch.no_grad()
def naive_bayes(counts: Tensor) -> Tensor:
    """Return (C + 1, V): the log ratio of a token's frequency in texts of a class to its mean over the classes.

    Computed from `counts` (C, V) with add-one smoothing. The last row, for a text without a label, is 0.
    """
    frequency = (counts.double() + 1) / (counts.double() + 1).sum(1, keepdim=True)
    return F.pad((frequency.log() - frequency.mean(0).log()).float(), (0, 0, 0, 1))


class Pairs(nn.Module):
    """A bias for each class and each pair of a visible token and its masked neighbour, on either side.

    The biases are hashed, as the pair features that Mikolov et al. (2011, "Strategies for training large scale neural
    network language models") train together with a network: each visible token has an offset in the table of its side
    where the biases of all its neighbours begin. So many pairs share a bias, but few of the possible pairs ever occur.
    The offsets are spread by the golden ratio, evenly for any number of tokens.
    """

    begins: Tensor

    def __init__(self, classes: int, size: int, vocabulary: int) -> None:
        super().__init__()
        self.classes, self.vocabulary = classes, vocabulary
        self.weight = nn.Parameter(torch.zeros(classes, 2, size + vocabulary))
        begins = (torch.arange(1, vocabulary + 1) * _GOLDEN % (1 << 32) * size) >> 32
        self.register_buffer("begins", begins, persistent=False)

    def forward(self, logits: Tensor, tokens: Tensor, visible: Tensor, label: Tensor, where: Tensor) -> Tensor:
        """Add the biases of the neighbours in place to `logits` (N, V), at the N positions that `where` (B, L) marks.

        Only tokens (B, L) that are `visible` (B, L) count, and rows whose `label` (B,) is a class.
        """
        text, position = _rows(where), indices_of(where) % where.size(1)
        length = self.weight.size(-1)
        for side, step in enumerate((-1, 1)):
            neighbour = (position + step).clamp(0, tokens.size(1) - 1)
            counts = visible[text, neighbour] & (neighbour != position) & (label[text] < self.classes)
            if logits.device.type == "cpu":
                rows, factor = indices_of(counts), None
            else:  # all rows, the others times 0: only the device knows how many count
                rows, factor = torch.arange(len(text), device=text.device), counts.to(self.weight.dtype)
            label_class = label[text[rows]].clamp(max=self.classes - 1)
            starts = (label_class * 2 + side) * length + self.begins[tokens[text[rows], neighbour[rows]]]
            logits = _AddSlices.apply(logits, self.weight, rows, starts, factor)  # type: ignore[no-untyped-call]
        return logits


_GOLDEN = 2654435769  # 2**32 over the golden ratio
_SCALE = 4.0
"""Factor of the biases: a pair occurs far more rarely than a token, and must be learnt at the same rate."""
_AT_ONCE = 1 << 24
"""Numbers that are added at once, at most."""


class _AddSlices(torch.autograd.Function):
    """Adds slices of V numbers of the flattened table, which begin at `starts` (n,), to `rows` (n,) of logits (N, V).

    Each slice is multiplied by its `factor` (n,), or by 1. The slices overlap. An index for each number would take
    eight times the memory and several times as long.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, table: Tensor, rows: Tensor, starts: Tensor, factor: Tensor | None) -> Tensor:
        ctx.save_for_backward(rows, starts, factor)
        ctx.table, ctx.dtype = table.shape, table.dtype
        ctx.mark_dirty(logits)
        width = logits.size(1)
        slices = table.flatten().as_strided((table.numel() - width + 1, width), (1, 1))
        count = _at_once(width)
        for part in (slice(start, start + count) for start in range(0, len(rows), count)):
            numbers = slices[starts[part]]
            logits.index_add_(0, rows[part], numbers if factor is None else numbers * factor[part, None], alpha=_SCALE)
        return logits

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        rows, starts, factor = ctx.saved_tensors
        table = torch.zeros(math.prod(ctx.table), dtype=ctx.dtype, device=gradient.device)
        if factor is None:
            (one_by_one if table.device.type == "cpu" else together)(table, gradient, rows, starts)
        else:  # then `rows` are all rows of the logits
            together(table, gradient * factor[:, None], rows, starts)
        return gradient, table.mul_(_SCALE).view(ctx.table), None, None, None


def one_by_one(table: Tensor, gradient: Tensor, rows: Tensor, starts: Tensor) -> None:
    """Add `rows` (n,) of `gradient` (N, V) to the slices of `table` (K,) that begin at `starts` (n,)."""
    width = gradient.size(1)
    for n, begin in zip(rows.tolist(), starts.tolist(), strict=True):
        table[begin : begin + width] += gradient[n]


def together(table: Tensor, gradient: Tensor, rows: Tensor, starts: Tensor) -> None:
    """The same in a few calls: on an accelerator one call for each slice would take too long."""
    offsets = torch.arange(gradient.size(1), device=table.device)
    for row_batch, start_batch in _batches(rows, starts, gradient.size(1)):
        table.index_add_(0, (start_batch[:, None] + offsets).flatten(), gradient[row_batch].flatten())


def _batches(rows: Tensor, starts: Tensor, width: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of rows and starts, small enough that their numbers fit into memory."""
    count = _at_once(width)
    for start in range(0, len(rows), count):
        yield rows[start : start + count], starts[start : start + count]


def _at_once(width: int) -> int:
    return max(1, _AT_ONCE // width)
