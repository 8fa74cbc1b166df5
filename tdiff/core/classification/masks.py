"""Paired mask samples: the likelihood bound of texts under all classes, estimated on the same masks.

A mask is about as hard under one class as under another, so the difference between two classes on one mask varies far
less than the nats of either. A sample masks l positions of a window, with l spread evenly over 1..L by a
low-discrepancy sequence, and its summed -log p is weighted by L/l: the negative bound in expectation, as in
`objective.likelihood`.

A control variate reduces the variance further. The nats of each token with everything masked are computed once, for all
texts, and a sample estimates only the difference from them. Any numbers would keep the estimate unbiased; these are
close, because much of what separates the classes is in single words, which need no luck with masks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from tdiff.core.diffusion import noise
from tdiff.core.evaluation.likelihood import LOGITS
from tdiff.core.memory import Portions
from tdiff.core.packing import padded
from tdiff.errors import TdiffError

Ask = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]
"""(tokens (R, L), mask ratio (R,), where (R, L), attention (R, L), label (R,)) -> logits (N, V) at the N positions,
row by row, of each row under the class of its label."""
ROUND = 2
"""Mask samples of each text between two checks of the stopping rule."""
_POSITIONS, _POSITIONS_CPU = 1 << 14, 512
"""Positions of a batch, at most. The cache of a CPU is small: logits that do not fit in it take half as long again."""
_UNCONDITIONAL_LENGTH = 128  # masked positions in a row over which the unconditional nats are averaged
_LOWEST = -1e4


@dataclass(frozen=True, slots=True)
class Scorer:
    """A model, or one model a class, as the estimate of a bound needs it."""

    ask: Ask
    classes: int
    window: int
    """Tokens of a window: a longer text is scored in windows, and their nats are summed."""
    mask_id: int
    vocabulary: int
    """The size of the logits of `ask`; it limits how many rows are scored at once."""
    portions: Portions
    """Divides the rows of a batch, each a window under one class, where they do not fit into memory."""
    unmaskable: Sequence[int] = ()
    """Ids that are never masked."""
    device: str | torch.device = "cpu"

    @property
    def positions(self) -> int:
        """Positions of a batch, at most."""
        limit = _POSITIONS_CPU if str(self.device) == "cpu" else _POSITIONS
        return max(1, min(limit, LOGITS // self.vocabulary))

    def unconditional(self) -> Tensor:
        """(C, V) float64: the nats of each token under each class with all positions masked, a mean over positions."""
        length = min(self.window, _UNCONDITIONAL_LENGTH)
        at_once = max(1, LOGITS // (self.vocabulary * _UNCONDITIONAL_LENGTH))

        def nats_of(classes: Sequence[int]) -> Tensor:
            labels = torch.tensor(classes, device=self.device)
            masked = torch.ones(len(labels), length, dtype=torch.bool, device=self.device)
            with torch.inference_mode():
                logits = self.ask(
                    torch.full(masked.shape, self.mask_id, device=self.device),
                    torch.ones(len(labels), device=self.device),
                    masked,
                    masked,
                    labels,
                )
                # A token that is never proposed is never masked either; its infinity times 0 would be NaN.
                nats = -logits.log_softmax(-1).clamp(min=_LOWEST)
                return nats.view(len(labels), length, -1).mean(1).cpu().double()

        return torch.cat(list(self.portions(range(self.classes), nats_of, at_once, length)))


@dataclass(slots=True)
class Case:
    """A text with its mask samples so far. W counts the windows that have a maskable position."""

    text: int
    """The position of the text among the texts."""
    tokens: Tensor
    """(W, L) int64."""
    maskable: Tensor
    """(W, L) bool."""
    real: Tensor
    """(W, L) bool: not padding."""
    name: int
    """The text's number for the noise."""
    all_real: Tensor
    """(all windows, L) bool: not padding, including windows without a maskable position."""
    scored: Tensor
    """(all windows,) bool: whether the window has a maskable position."""
    base: Tensor
    """(C, W, L) float64: the unconditional nats of each position's token; 0 where it cannot be masked."""
    position_nats: Tensor
    """(C, W, L) float64: the nats of each position, summed over the samples."""
    nats: Tensor
    """(samples, C) float64: the nats of the text in each sample so far."""
    divisor: float = 1.0
    """The number by which the nats are divided before Bayes' rule."""
    sure: bool = False
    """Whether the stopping rule has decided the class."""
    seconds: float = 0.0

    @classmethod
    def of(cls, scorer: Scorer, text: int, ids: Tensor, name: int, unconditional: Tensor) -> Case:
        """The case of a text of ids (L,). Raises TdiffError if it has no maskable position."""
        tokens, real, _ = padded([ids], scorer.window, scorer.mask_id)
        maskable = real & ~torch.isin(tokens, torch.tensor(scorer.unmaskable, dtype=torch.int64))
        scored = maskable.any(1)
        if not bool(scored.any()):
            raise TdiffError("the text has no token that can be masked, so it cannot be classified")
        base = unconditional[:, tokens[scored]] * maskable[scored]
        return cls(
            text=text,
            tokens=tokens[scored],
            maskable=maskable[scored],
            real=real[scored],
            name=name,
            all_real=real,
            scored=scored,
            base=base,
            position_nats=torch.zeros_like(base),
            nats=base.new_zeros(0, len(unconditional)),
        )

    def by_token(self, values: Tensor) -> Tensor:
        """(tokens of the text,) from `values` (W, L) of the positions; 0 for tokens in windows without a mask."""
        spread = torch.zeros(self.all_real.shape, dtype=values.dtype)
        spread[self.scored] = values
        return spread[self.all_real]


@dataclass(frozen=True, slots=True)
class _Row:
    """A mask sample of one window."""

    case: Case
    draw: int
    """The number of the sample in this round."""
    window: int
    masked: Tensor
    """(L,) bool."""
    weight: float
    """L / l: maskable positions over masked ones."""
    length: int
    """Positions that are not padding."""


def add_samples(scorer: Scorer, cases: Sequence[Case], counts: Mapping[int, int], seed: int, explain: bool) -> None:
    """Add to each case as many mask samples as `counts` has for its text; with `explain`, the nats by position too."""
    rows = _sample_masks(cases, counts, seed)
    # The unconditional nats are known, so only the difference from them is estimated.
    nats_of_samples = torch.stack([case.base.sum((1, 2)) for case in cases]).repeat_interleave(ROUND, 0)
    first = {case.text: n * ROUND for n, case in enumerate(cases)}
    for batch, masked, nats in _score(scorer, rows):
        base = _stack([row.case.base[:, row.window].T for row in batch], nats.size(2), 0.0).permute(2, 0, 1)
        weight = torch.tensor([row.weight for row in batch], dtype=torch.float64)
        differences = (nats - base) * (masked * weight[:, None])
        samples = torch.tensor([first[row.case.text] + row.draw for row in batch])
        nats_of_samples.index_add_(0, samples, differences.sum(2).T)
        if explain:
            for n, row in enumerate(batch):
                width = min(nats.size(2), row.case.tokens.size(1))
                row.case.position_nats[:, row.window, :width] += differences[:, n, :width]
    for case in cases:
        begin = first[case.text]
        case.nats = torch.cat((case.nats, nats_of_samples[begin : begin + counts[case.text]]))
        if explain:
            case.position_nats += case.base * counts[case.text]


def _score(scorer: Scorer, rows: list[_Row]) -> Iterator[tuple[Sequence[_Row], Tensor, Tensor]]:
    """Batches of rows, the shortest first, each with (B, L) bool: the masked positions; and (C, B, L) float64: their
    nats under each class, 0 at the other positions.
    """
    rows.sort(key=lambda row: row.length)  # so that there is little padding
    classes = scorer.classes
    for batch in _batches(rows, scorer.positions // classes):
        longest = batch[-1].length
        tokens = _stack([row.case.tokens[row.window] for row in batch], longest, scorer.mask_id)
        real = _stack([row.case.real[row.window] for row in batch], longest, False)
        maskable = _stack([row.case.maskable[row.window] for row in batch], longest, False)
        masked = _stack([row.masked for row in batch], longest, False)
        ratio = (masked.sum(1) / maskable.sum(1)).float()
        nats = _nats_of_masked(scorer, tokens, real, masked, ratio)
        by_position = torch.zeros(classes, *masked.shape, dtype=torch.float64)
        by_position[masked.expand(classes, -1, -1)] = nats
        yield batch, masked, by_position


def _nats_of_masked(scorer: Scorer, tokens: Tensor, real: Tensor, masked: Tensor, ratio: Tensor) -> Tensor:
    """(C * M,) float64: the nats of the M masked positions of rows (B, L) under each class, one class after another."""
    rows, device = len(tokens), scorer.device
    canvas = tokens.masked_fill(masked, scorer.mask_id)

    def nats_of(pairs: Sequence[int]) -> Tensor:  # of a class and a row
        numbers = torch.tensor(pairs)
        label, row = numbers // rows, numbers % rows
        with torch.inference_mode():
            logits = scorer.ask(
                canvas[row].to(device),
                ratio[row].to(device),
                masked[row].to(device),
                real[row].to(device),
                label.to(device),
            )
            target = tokens[row][masked[row]].to(device)
            return F.cross_entropy(logits, target, reduction="none").cpu().double()

    return torch.cat(list(scorer.portions(range(scorer.classes * rows), nats_of, row_length=tokens.size(1))))


def _sample_masks(cases: Sequence[Case], counts: Mapping[int, int], seed: int) -> list[_Row]:
    """The masks of a round, all at once: for each window of a case as many as `counts` holds for its text."""
    keys = [
        (case, draw, window)
        for case in cases
        for draw in range(counts[case.text])
        for window in range(len(case.tokens))
    ]
    width = max(case.tokens.size(1) for case in cases)
    maskable = _stack([case.maskable[window] for case, _, window in keys], width, False)
    total = maskable.sum(1)
    # Each window has its own start in the sequence, so that not all windows have few masks in the same sample.
    starts = torch.tensor([noise.mix(seed, case.name, window) for case, _, window in keys])
    shift = noise.uniform(seed, 0, noise.EVALUATION, starts, torch.tensor(0))
    level = torch.tensor([_van_der_corput(len(case.nats) + draw) for case, draw, _ in keys], dtype=torch.float64)
    count = 1 + ((level + shift) % 1.0 * total).long()
    names = torch.tensor([[noise.mix(seed, case.name, window, len(case.nats) + draw)] for case, draw, window in keys])
    order = noise.uniform(seed, 1, noise.EVALUATION, names, torch.arange(width)).masked_fill(~maskable, 2.0)
    masked = (order.argsort(1).argsort(1) < count.view(-1, 1)) & maskable
    weight = (total / count).tolist()
    return [
        _Row(case, draw, window, masked[n, : case.tokens.size(1)], weight[n], int(case.real[window].sum()))
        for n, (case, draw, window) in enumerate(keys)
    ]


def _van_der_corput(n: int) -> float:
    """The van der Corput sequence in base 2: any stretch of it is spread evenly over [0, 1)."""
    return int(f"{n:032b}"[::-1], 2) / 2**32


def _stack(rows: Sequence[Tensor], length: int, filler: float) -> Tensor:
    """(B, length, ...): the rows (L, ...), cut or filled up to `length`; only padding is cut off."""
    stacked = pad_sequence([row[:length] for row in rows], batch_first=True, padding_value=filler)
    if stacked.size(1) == length:
        return stacked
    return F.pad(stacked, (0, 0) * (stacked.ndim - 2) + (0, length - stacked.size(1)), value=filler)


def _batches(rows: Sequence[_Row], positions: int) -> Iterator[Sequence[_Row]]:
    """Rows in the order of their length, in batches of at most `positions` positions, but at least one row."""
    start = 0
    while start < len(rows):
        end = start + 1
        while end < len(rows) and (end + 1 - start) * rows[end].length <= positions:
            end += 1
        yield rows[start:end]
        start = end
