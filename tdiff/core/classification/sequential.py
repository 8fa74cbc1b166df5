"""Which class a text is of, by Bayes: the bound of the text's likelihood under each class, all on the same masks.

A mask is hard or easy whatever the class, so the difference between two classes on one mask varies far less than
either. Draws are added until the decision is sure, or there are as many as were allowed. Nothing here reads files.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from tdiff.core.diffusion import noise
from tdiff.core.training.packing import padded
from tdiff.errors import TdiffError

Ask = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]
"""(tokens (R, L), share (R,), where (R, L), attention (R, L), label (R,)) -> logits (N, V) at the N places, row by row,
of each row under the class that its label is."""
ROUND = 2
"""Draws of each text between two looks at whether it is decided ..."""
LEAST = 6
"""... and before the first: of fewer, skewed as they are, the spread is not known."""
_PLACES, _PLACES_CPU = 1 << 14, 512
"""Of a batch. What a CPU has at hand is small: logits that do not fit there take it half as long again."""
_AHEAD = 4
_LOGITS = 1 << 26  # numbers that are held at once: a quarter of a gigabyte, several times
_ALONE = 128  # masked places in a row that are asked what a token alone says
_FARTHEST = -1e4
_SPREAD = 0.7  # where the boundary is tightest: after a few draws


@dataclass(frozen=True, slots=True)
class Prediction:
    """What is said of a text."""

    label: int
    """The likeliest class."""
    posterior: tuple[float, ...]
    """The probability of each class."""
    interval: tuple[float, float]
    """95% interval of that of `label`, of the draws alone: another set of masks would give another number."""
    nats: tuple[float, ...]
    """Of the whole text under each class: the mean of its draws."""
    draws: int
    sure: bool
    """Whether the draws ended because the class was decided, and not because there were to be no more."""
    contributions: Tensor | None = None
    """(L,) float64: what each token adds to the log odds of `label` against the next likeliest class, priors apart."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What there is to say of a text after a round of draws."""

    text: int
    """Its number among the texts."""
    verdict: Prediction
    final: bool
    """Whether no more is drawn for it."""
    seconds: float
    """Its share of the time so far."""


@dataclass(slots=True)
class _Case:
    """A text that is weighed."""

    text: int
    """Its number."""
    tokens: Tensor
    """(W, L) int64: its windows."""
    maskable: Tensor
    """(W, L) bool."""
    real: Tensor
    """(W, L) bool: not padding."""
    name: int
    """For the noise."""
    whole: Tensor
    """(all windows, L) bool: not padding, of those too that have no place to mask ..."""
    some: Tensor
    """(all windows,) bool: ... and whether they have one."""
    base: Tensor
    """(C, W, L) float64: nats of each place's token where nothing is known of the text, 0 where none may be masked."""
    shares: Tensor
    """(C, W, L) float64: nats of each place, summed over the draws."""
    nats: Tensor
    """(draws, C) float64, of the draws so far."""
    divisor: float = 1.0
    """Of its nats."""
    sure: bool = False
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class _Row:
    """A mask of one window."""

    case: _Case
    draw: int
    """Of this round."""
    window: int
    masked: Tensor
    """(L,) bool."""
    weight: float
    """L / l, of maskable places."""
    length: int
    """Places that are not padding."""


@dataclass(frozen=True, slots=True)
class _Weighing:
    """What all cases have in common."""

    ask: Ask
    classes: int
    mask_id: int
    seed: int
    device: str | torch.device
    places: int
    """Of a batch, at most."""


def weigh(
    ask: Ask,
    texts: Sequence[Tensor],
    priors: Sequence[float],
    *,
    window: int,
    mask_id: int,
    unmaskable: Sequence[int] = (),
    confidence: float = 0.99,
    most_draws: int = 32,
    seed: int = 0,
    temperature: float = 0.0,
    explain: bool = False,
    device: str | torch.device = "cpu",
    names: Sequence[int] = (),
    vocabulary: int = 1,
    together: int = 32,
) -> Iterator[Progress]:
    """Verdicts on texts of ids (L,), each as soon as there is one; longer texts than `window` are weighed in windows,
    summed. After each round there is a look at every text that is not decided yet.

    A draw masks l places of a window, l spread evenly over 1..L by a low-discrepancy sequence, and its summed -log p
    weighs L/l: minus the bound in expectation, as in `objective.likelihood`. What the model says of each token where
    all are masked is asked for once for all texts, and a draw estimates only the difference from it (a control variate:
    any number will do, and this one is near): much of what tells the classes apart is in single words, and needs no
    luck with masks.

    Draws come in rounds, all classes on the same masks; a text is done when the likeliest class has stayed so beyond
    chance, `confidence` allowing for all the looks that are taken (see `decided`), or after `most_draws`. The
    log-likelihoods are divided by what `divisor` makes of `temperature`.
    `names` are the texts' numbers for the noise (by default their places), `unmaskable` ids that are never masked.
    `together` texts are weighed at a time; of `vocabulary`, the size of what `ask` answers with, it depends how many
    rows are asked for at once.

    Raises TdiffError for a text without a place to mask.
    """
    prior = torch.tensor([math.log(p) if p > 0 else -math.inf for p in priors], dtype=torch.float64)
    places = max(1, min(_PLACES_CPU if str(device) == "cpu" else _PLACES, _LOGITS // vocabulary))
    weighing = _Weighing(ask, len(priors), mask_id, seed, device, places)
    alone = _alone(weighing, window, vocabulary)
    waiting: list[_Case] = []
    taken = 0
    while waiting or taken < len(texts):
        begun = time.perf_counter()
        # Where one is decided another takes its place, so that batches stay full; but not so far from the oldest that
        # whoever wants them in their order waits long.
        oldest = waiting[0].text if waiting else taken
        new = [
            _case(n, texts[n], window, mask_id, unmaskable, names[n] if names else n, alone)
            for n in range(taken, min(len(texts), taken + together - len(waiting), oldest + _AHEAD * together))
        ]
        taken += len(new)
        for case in new:
            case.divisor = divisor(temperature, int(case.maskable.sum()))
        waiting += new
        drawn = {case.text: min(ROUND, most_draws - len(case.nats)) for case in waiting}
        _draw(weighing, waiting, drawn, explain)
        rows = {case.text: len(case.tokens) * drawn[case.text] for case in waiting}
        each = (time.perf_counter() - begun) / sum(rows.values())
        for case in waiting:
            case.seconds += each * rows[case.text]
            case.sure = _decided(case, prior, confidence)
            final = case.sure or len(case.nats) >= most_draws
            yield Progress(case.text, _verdict(case, prior, explain), final, case.seconds)
        waiting = [case for case in waiting if not case.sure and len(case.nats) < most_draws]


def divisor(temperature: float, tokens: int) -> float:
    """What the log-likelihoods of a text of so many tokens are divided by: `temperature` times their square root.

    A model's errors add up over a text as its evidence does, and were they independent their sum would grow so. 1 where
    the temperature is 0, which is not to know one.
    """
    return temperature * math.sqrt(tokens) if temperature else 1.0


def decided(differences: Tensor, alpha: float) -> bool:
    """Whether the mean of `differences` (n,) is on one side of zero, at level `alpha` however often one looks.

    The boundary of a normal mixture (Robbins 1970; Howard et al. 2021, arXiv:1810.08240, eq. 14), with the deviation
    estimated and, as it is from few, widened as Student's t is.
    """
    n = len(differences)
    if n < LEAST:
        return False
    deviation = float(differences.std()) * _widened(n)
    limit = deviation / n * math.sqrt((n + _SPREAD) * math.log((n + _SPREAD) / (_SPREAD * alpha**2)))
    return abs(float(differences.mean())) > limit


def _widened(n: int) -> float:
    """Student's t at 99.5% with n - 1 degrees of freedom over the normal quantile, nearly (Cornish and Fisher)."""
    z, v = 2.5758, n - 1
    return 1 + (z**2 + 1) / (4 * v) + (5 * z**4 + 16 * z**2 + 3) / (96 * v**2)


def _alone(weighing: _Weighing, window: int, vocabulary: int) -> Tensor:
    """(C, V) float64: the nats of each token under each class where all places are masked, a mean over places."""
    length, together = min(window, _ALONE), max(1, _LOGITS // (vocabulary * _ALONE))
    table = []
    for first in range(0, weighing.classes, together):
        labels = torch.arange(first, min(first + together, weighing.classes), device=weighing.device)
        masked = torch.ones(len(labels), length, dtype=torch.bool, device=weighing.device)
        with torch.inference_mode():
            logits = weighing.ask(
                torch.full(masked.shape, weighing.mask_id, device=weighing.device),
                torch.ones(len(labels), device=weighing.device),
                masked,
                masked,
                labels,
            )
            # A token that is never proposed is never masked either, and to multiply its infinity by 0 would not do.
            nats = -logits.log_softmax(-1).clamp(min=_FARTHEST)
            table.append(nats.view(len(labels), length, -1).mean(1).cpu().double())
    return torch.cat(table)


def _case(
    text: int, ids: Tensor, window: int, mask_id: int, unmaskable: Sequence[int], name: int, alone: Tensor
) -> _Case:
    tokens, real, _ = padded([ids], window, mask_id)
    maskable = real & ~torch.isin(tokens, torch.tensor(unmaskable, dtype=torch.int64))
    some = maskable.any(1)
    if not bool(some.any()):
        raise TdiffError("a text with no token that may be masked is of no class")
    base = alone[:, tokens[some]] * maskable[some]
    none = base.new_zeros(0, len(alone))
    return _Case(text, tokens[some], maskable[some], real[some], name, real, some, base, torch.zeros_like(base), none)


def _level(draw: int) -> float:
    """The van der Corput sequence in base 2: any stretch of it is spread evenly over [0, 1)."""
    return int(f"{draw:032b}"[::-1], 2) / 2**32


def _draw(weighing: _Weighing, cases: Sequence[_Case], drawn: Mapping[int, int], explain: bool) -> None:
    """Add as many draws to each of the cases as `drawn` says, by its number; with `explain`, each token's part too."""
    rows = _rows(cases, drawn, weighing.seed)
    # What is said of the tokens where nothing is known is known itself, so only what differs from it is estimated.
    nats_of_draws = torch.stack([case.base.sum((1, 2)) for case in cases]).repeat_interleave(ROUND, 0)
    first = {case.text: n * ROUND for n, case in enumerate(cases)}
    for batch, masked, nats in _asked(weighing, rows):
        base = _even([row.case.base[:, row.window].T for row in batch], nats.size(2), 0.0).permute(2, 0, 1)
        weight = torch.tensor([row.weight for row in batch], dtype=torch.float64)
        more = (nats - base) * (masked * weight[:, None])
        draws = torch.tensor([first[row.case.text] + row.draw for row in batch])
        nats_of_draws.index_add_(0, draws, more.sum(2).T)
        if explain:
            for n, row in enumerate(batch):
                width = min(nats.size(2), row.case.tokens.size(1))
                row.case.shares[:, row.window, :width] += more[:, n, :width]
    for case in cases:
        begin = first[case.text]
        case.nats = torch.cat((case.nats, nats_of_draws[begin : begin + drawn[case.text]]))
        if explain:
            case.shares += case.base * drawn[case.text]


def _asked(weighing: _Weighing, rows: list[_Row]) -> Iterator[tuple[Sequence[_Row], Tensor, Tensor]]:
    """Batches of rows, the shortest first; (B, L) bool: what is masked; and (C, B, L) float64: the nats of the masked
    places under each class, else 0.
    """
    rows.sort(key=lambda row: row.length)  # so that little is padding
    classes, device = weighing.classes, weighing.device
    for batch in _batches(rows, weighing.places // classes):
        longest = batch[-1].length
        tokens = _even([row.case.tokens[row.window] for row in batch], longest, weighing.mask_id)
        real = _even([row.case.real[row.window] for row in batch], longest, False)
        may = _even([row.case.maskable[row.window] for row in batch], longest, False)
        masked = _even([row.masked for row in batch], longest, False)
        canvas, share = tokens.masked_fill(masked, weighing.mask_id), (masked.sum(1) / may.sum(1)).float()
        label = torch.arange(classes).repeat_interleave(len(batch))
        with torch.inference_mode():
            logits = weighing.ask(
                canvas.repeat(classes, 1).to(device),
                share.repeat(classes).to(device),
                masked.repeat(classes, 1).to(device),
                real.repeat(classes, 1).to(device),
                label.to(device),
            )
            target = tokens.to(device)[masked.to(device)].repeat(classes)
            nats = F.cross_entropy(logits, target, reduction="none").cpu().double()
        each = torch.zeros(classes, *masked.shape, dtype=torch.float64)
        each[masked.expand(classes, -1, -1)] = nats
        yield batch, masked, each


def _rows(cases: Sequence[_Case], drawn: Mapping[int, int], seed: int) -> list[_Row]:
    """The masks of a round: as many of each window of a case as `drawn` says, all of them at once."""
    keys = [
        (case, draw, window) for case in cases for draw in range(drawn[case.text]) for window in range(len(case.tokens))
    ]
    width = max(case.tokens.size(1) for case in cases)
    may = _even([case.maskable[window] for case, _, window in keys], width, False)
    total = may.sum(1)
    # Where a window begins in the sequence of its draws is its own, that not all have few masked in the same draw.
    starts = torch.tensor([noise.mix(seed, case.name, window) for case, _, window in keys])
    shift = noise.uniform(seed, 0, noise.EVALUATION, starts, torch.tensor(0))
    level = torch.tensor([_level(len(case.nats) + draw) for case, draw, _ in keys], dtype=torch.float64)
    count = 1 + ((level + shift) % 1.0 * total).long()
    names = torch.tensor([[noise.mix(seed, case.name, window, len(case.nats) + draw)] for case, draw, window in keys])
    order = noise.uniform(seed, 1, noise.EVALUATION, names, torch.arange(width)).masked_fill(~may, 2.0)
    masked = (order.argsort(1).argsort(1) < count.view(-1, 1)) & may
    weight = (total / count).tolist()
    return [
        _Row(case, draw, window, masked[n, : case.tokens.size(1)], weight[n], int(case.real[window].sum()))
        for n, (case, draw, window) in enumerate(keys)
    ]


def _even(rows: Sequence[Tensor], length: int, filler: float) -> Tensor:
    """(B, length, ...): the rows (L, ...), cut or filled up; what is cut off is padding."""
    even = pad_sequence([row[:length] for row in rows], batch_first=True, padding_value=filler)
    if even.size(1) == length:
        return even
    return F.pad(even, (0, 0) * (even.ndim - 2) + (0, length - even.size(1)), value=filler)


def _batches(rows: Sequence[_Row], places: int) -> Iterator[Sequence[_Row]]:
    """Rows, the shortest first, as many together as have so many places; one at least."""
    start = 0
    while start < len(rows):
        end = start + 1
        while end < len(rows) and (end + 1 - start) * rows[end].length <= places:
            end += 1
        yield rows[start:end]
        start = end


def _scores(case: _Case, prior: Tensor) -> Tensor:
    """(C,): the log of what is proportional to the posterior."""
    return prior - case.nats.mean(0) / case.divisor


def _decided(case: _Case, prior: Tensor, confidence: float) -> bool:
    """Whether the likeliest class is so beyond chance, against each of the others."""
    drawn, best = case.nats, int(_scores(case, prior).argmax())
    others = [c for c in range(len(prior)) if c != best and prior[c] > -math.inf]
    alpha = (1 - confidence) / max(1, len(others))
    return confidence < 1 and all(
        decided((drawn[:, c] - drawn[:, best]) / case.divisor + prior[best] - prior[c], alpha) for c in others
    )


def _verdict(case: _Case, prior: Tensor, explain: bool) -> Prediction:
    drawn, scores = case.nats, _scores(case, prior)
    posterior = scores.softmax(0)
    best = int(posterior.argmax())
    # By the delta method from the log odds against all the rest.
    gradient = posterior.clone()
    gradient[best] -= 1.0
    spread = (drawn / case.divisor * (gradient / max(1e-12, 1 - float(posterior[best])))).sum(1)
    error = float(spread.std()) / math.sqrt(len(drawn)) if len(drawn) > 1 else math.inf
    odds = float(posterior[best].clamp(1e-300, 1 - 1e-16).logit())
    low, high = (1 / (1 + math.exp(-min(700.0, max(-700.0, odds + side * 1.96 * error)))) for side in (-1, 1))
    contributions = None
    if explain:
        second = int(scores.index_fill(0, torch.tensor(best), -math.inf).argmax())
        gap = (case.shares[second] - case.shares[best]) / len(drawn) / case.divisor
        contributions = torch.zeros(case.whole.shape, dtype=gap.dtype)
        contributions[case.some] = gap
        contributions = contributions[case.whole]
    return Prediction(
        best,
        tuple(posterior.tolist()),
        (low, high),
        tuple(drawn.mean(0).tolist()),
        len(drawn),
        case.sure,
        contributions,
    )
