"""Repetition: the tokens that would complete a span which the text has already, and how they are avoided.

A masked-diffusion model fills positions in any order, and several in one step. A span can therefore be completed at any
of its positions, not only at its last one, and by several tokens together. `repeated` finds the first case before a
token is proposed, and `completed_together` the second one after positions were selected.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tdiff.core.mask_indices import indices_of

_BASE = 0x100000001B3
"""Base of the hash of a span, modulo 2^64: two spans that meet there are a rare mistake."""


def repeated(tokens: Tensor, masked: Tensor, every: Tensor, span: int, vocabulary: int) -> Tensor:
    """Return (N, V) bool: for each of the N `masked` positions, the tokens that would complete a span of `span` tokens
    which the row has already, at whichever position of the span the mask is.

    `tokens` (B, L) int64; `every` (B, L) bool are all masks, which no span contains. A span of 1 is any token of the
    row.
    """
    length = tokens.size(1)
    at = indices_of(masked)
    hits = torch.zeros(len(at), vocabulary, dtype=torch.int32, device=tokens.device)
    if span > length:
        return hits > 0
    row, column = at.div(length, rounding_mode="floor"), at % length
    sums, masks = _spans(tokens, every, span)
    complete = masks == 0
    for place in range(span):
        start = column - place
        inside = (start >= 0) & (start <= length - span)
        start = start.clamp(0, length - span)
        # The mask adds nothing to the sum of its own span; in the other spans its place is left out.
        others = tokens[:, place : place + length - span + 1]
        left_out = sums - (others + 1) * _powers(span)[place]
        same = (left_out[row] == sums[row, start][:, None]) & complete[row]
        same &= (inside & (masks[row, start] == 1))[:, None]
        hits.scatter_add_(1, others[row], same.to(torch.int32))
    for distance in range(1, min(span, length - 1)):
        token, closes = _overlapping(tokens, every, span, distance)
        hits.scatter_add_(1, token[row, column][:, None], closes[row, column][:, None].to(torch.int32))
    return hits > 0


def _overlapping(tokens: Tensor, every: Tensor, span: int, distance: int) -> tuple[Tensor, Tensor]:
    """Return the token (B, L) int64 that would make equal two spans which both contain the position and start
    `distance` tokens apart, and whether there is one (B, L) bool. Such a text has the period `distance`.
    """
    length = tokens.size(1)
    values = (tokens + 1).masked_fill(every, 0)
    before = torch.nn.functional.pad(values, (distance, 0))[:, :length]  # values[:, i - distance]
    after = torch.nn.functional.pad(values, (0, distance))[:, distance:]  # values[:, i + distance]
    same = (values == after) & (values > 0)
    index = torch.arange(length, device=tokens.device)
    # Equal pairs in a row up to each position, and from it on.
    up_to = index - torch.where(same, -1, index).cummax(-1).values
    other = torch.where(same, length, index).flip(-1).cummin(-1).values.flip(-1)
    onwards = torch.nn.functional.pad(other - index, (0, 1))[:, 1:]  # from the next position on
    previous = torch.nn.functional.pad(up_to, (1, 0))[:, :length]  # up to the position before
    # The pairs between the two that contain the position must be equal, and with those on both sides fill a span.
    earlier = torch.nn.functional.pad(up_to, (distance + 1, 0))[:, :length]
    closes = (before == after) & (before > 0) & (previous >= distance - 1)
    closes &= earlier + onwards + distance + 1 >= span
    return (before - 1).clamp(min=0), closes


def completed_together(tokens: Tensor, new: Tensor, every: Tensor, score: Tensor, span: int) -> Tensor:
    """Return (B, L) bool: positions of `new` that have to wait, so that no two spans of `span` tokens become equal by
    tokens of one step.

    `tokens` (B, L) int64 hold the tokens of this step at the positions `new` (B, L) bool; `every` (B, L) bool are the
    masks that are left. Of two equal spans with two or more new tokens, the one with the lowest `score` (B, L) waits;
    in the next step `repeated` sees it alone. The highest score of a row never waits.
    """
    waits = torch.zeros_like(new)
    if span > tokens.size(1):
        return waits
    sums, masks = _spans(tokens, every, span)
    # Equal spans are neighbours in the order of their sums. Spans with a mask are no spans.
    order = sums.argsort(dim=-1, stable=True)
    first, second = order[:, :-1], order[:, 1:]
    complete = masks == 0
    equal = (sums.gather(1, first) == sums.gather(1, second)) & complete.gather(1, first) & complete.gather(1, second)
    # New tokens of both spans, those that they share counted once: `second` starts later, for the order is stable.
    ends = torch.nn.functional.pad(new.int().cumsum(-1), (1, 0))
    begin = torch.maximum(second, first + span)
    count = ends.gather(1, first + span) - ends.gather(1, first)
    count += ends.gather(1, second + span) - ends.gather(1, torch.minimum(begin, second + span))
    # The later of equal scores is the lower one.
    rank = score.argsort(dim=-1, descending=True, stable=True).argsort(dim=-1)
    rank = rank.masked_fill(~new, -1)
    lowest, place = rank.unfold(1, span, 1).max(-1)
    at = torch.arange(lowest.size(1), device=new.device) + place
    is_first = lowest.gather(1, first) > lowest.gather(1, second)
    lowest_at = torch.where(is_first, at.gather(1, first), at.gather(1, second))
    pairs = equal & (count >= 2)
    hits = torch.zeros(new.shape, dtype=torch.int32, device=new.device)
    return hits.scatter_add_(1, lowest_at, pairs.to(torch.int32)) > 0


def penalised(logits: Tensor, repeats: Tensor, penalty: float) -> Tensor:
    """Return log p (N, V), times `penalty` where a token `repeats` (after Keskar et al. 2019, arXiv:1909.05858, eq. 1).

    Their version divides logits, whose sign and size have no meaning; this one raises p to the power of `penalty`.
    """
    log_p = logits.log_softmax(-1)
    return torch.where(repeats, log_p * penalty, log_p)


def without(logits: Tensor, repeats: Tensor) -> Tensor:
    """Return `logits` (N, V) with -inf where a token `repeats` (Paulus et al. 2017, arXiv:1705.04304, section 2.5).

    A position at which every possible token repeats keeps all of them.
    """
    allowed = logits.masked_fill(repeats, -torch.inf)
    return torch.where((allowed > -torch.inf).any(-1, keepdim=True), allowed, logits)


def _powers(span: int) -> list[int]:
    """Return the weight of each place of a span in its sum, as signed 64-bit numbers."""
    powers = [pow(_BASE, span - 1 - place, 1 << 64) for place in range(span)]
    return [power - (1 << 64) if power >= 1 << 63 else power for power in powers]


def _spans(tokens: Tensor, every: Tensor, span: int) -> tuple[Tensor, Tensor]:
    """Return for each span of `span` tokens, by its start, its sum and its number of masks; both (B, L - span + 1)."""
    values = (tokens + 1).masked_fill(every, 0)
    count = tokens.size(1) - span + 1
    sums = torch.zeros_like(values[:, :count])
    masks = torch.zeros_like(sums)
    for place, power in enumerate(_powers(span)):
        sums += values[:, place : place + count] * power
        masks += every[:, place : place + count]
    return sums, masks
