"""What the class of a text adds to the logits: a number for each token, and one for each pair of neighbours.

Of a few thousand texts with labels a network learns little about what tells their classes apart; counts of tokens and
of pairs learn it at once, so it is given these beside what it makes of the whole text.
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
    """`logits` (N, V) at the N places `where` (B, L) is true, with the row of `bias` (C + 1, V) added that the `label`
    (B,) of their row names; the last one's where nothing is told.

    As a product: to look up N rows of V numbers, and to add up their gradients, takes several times as long.
    """
    if label is None:
        return logits + bias[-1]
    if logits.device.type == "cpu" and not torch.is_grad_enabled():  # in place, where nobody asks for gradients
        for part, index in zip(torch.split(logits, where.sum(1).tolist()), label.tolist(), strict=True):
            part += bias[index]
        return logits
    one_hot = (label[_rows(where)][:, None] == torch.arange(len(bias), device=label.device)).to(bias.dtype)
    with torch.autocast(logits.device.type, enabled=False):
        return torch.addmm(logits, one_hot, bias)


def _rows(where: Tensor) -> Tensor:
    """(N,): the row of each place."""
    return indices_of(where).div(where.size(1), rounding_mode="floor")


@torch.no_grad()
def naive_bayes(counts: Tensor) -> Tensor:
    """(C + 1, V): the log of how much likelier each token is in texts of a class than in texts of all classes alike.

    Of `counts` (C, V), one added to each. The last row, for a text of which nothing is told, is 0.
    """
    frequency = (counts.double() + 1) / (counts.double() + 1).sum(1, keepdim=True)
    return F.pad((frequency.log() - frequency.mean(0).log()).float(), (0, 0, 0, 1))


class Pairs(nn.Module):
    """For each class a number for each pair of a visible token and its masked neighbour, on either side.

    As the hashed features of pairs that Mikolov et al. (2011, "Strategies for training large scale neural network
    language models") train together with a network: each visible token has a place in its side's table where the
    numbers of all its neighbours begin, so those of many pairs coincide; few of the pairs that there could be are ever
    met. The places are spread by the golden ratio, evenly however many there are.
    """

    begins: Tensor

    def __init__(self, classes: int, size: int, vocabulary: int) -> None:
        super().__init__()
        self.classes, self.vocabulary = classes, vocabulary
        self.weight = nn.Parameter(torch.zeros(classes, 2, size + vocabulary))
        begins = (torch.arange(1, vocabulary + 1) * _GOLDEN % (1 << 32) * size) >> 32
        self.register_buffer("begins", begins, persistent=False)

    def forward(self, logits: Tensor, tokens: Tensor, visible: Tensor, label: Tensor, where: Tensor) -> Tensor:
        """`logits` (N, V) at the N places `where` (B, L) is true, with the numbers of the neighbours added in place.

        Of `tokens` (B, L) those count that are `visible` (B, L), and rows whose `label` (B,) is a class.
        """
        row, position = _rows(where), indices_of(where) % where.size(1)
        length = self.weight.size(-1)
        for side, step in enumerate((-1, 1)):
            neighbour = (position + step).clamp(0, tokens.size(1) - 1)
            counts = visible[row, neighbour] & (neighbour != position) & (label[row] < self.classes)
            if logits.device.type == "cpu":
                rows, factor = indices_of(counts), None
            else:  # all of them, the others times 0: how many count only the device knows
                rows, factor = torch.arange(len(row), device=row.device), counts.to(self.weight.dtype)
            label_class = label[row[rows]].clamp(max=self.classes - 1)
            starts = (label_class * 2 + side) * length + self.begins[tokens[row[rows], neighbour[rows]]]
            logits = _AddSlices.apply(logits, self.weight, rows, starts, factor)  # type: ignore[no-untyped-call]
        return logits


_GOLDEN = 2654435769  # 2**32 over the golden ratio
_SCALE = 4.0
"""Of the numbers: a pair is met far more rarely than a token, and is to be learnt at the same rate."""
_AT_ONCE = 1 << 24


class _AddSlices(torch.autograd.Function):
    """Adds to the rows `some` (n,) of logits (N, V) the V numbers of the flattened table that begin `at` (n,), times
    the `share` (n,) of each, or 1.

    The stretches overlap. As an index of each number, they would take eight times the memory and several times as long.
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
        else:  # then `some` are all rows
            together(table, gradient * factor[:, None], rows, starts)
        return gradient, table.mul_(_SCALE).view(ctx.table), None, None, None


def one_by_one(table: Tensor, gradient: Tensor, rows: Tensor, starts: Tensor) -> None:
    """Add the rows `some` (n,) of `gradient` (N, V) to the stretches of `table` (K,) that begin `at` (n,)."""
    width = gradient.size(1)
    for n, begin in zip(rows.tolist(), starts.tolist(), strict=True):
        table[begin : begin + width] += gradient[n]


def together(table: Tensor, gradient: Tensor, rows: Tensor, starts: Tensor) -> None:
    """The same, for a device to which a call for each stretch would take too long."""
    offsets = torch.arange(gradient.size(1), device=table.device)
    for row_batch, start_batch in _batches(rows, starts, gradient.size(1)):
        table.index_add_(0, (start_batch[:, None] + offsets).flatten(), gradient[row_batch].flatten())


def _batches(rows: Tensor, starts: Tensor, width: int) -> Iterator[tuple[Tensor, Tensor]]:
    """So many of them that their numbers do not take too much memory at once."""
    count = _at_once(width)
    for start in range(0, len(rows), count):
        yield rows[start : start + count], starts[start : start + count]


def _at_once(width: int) -> int:
    return max(1, _AT_ONCE // width)
