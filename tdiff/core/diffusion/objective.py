"""The masked-diffusion bound: the loss of training, and the likelihood estimator that evaluation uses.

Both divide by the number of maskable places, never by the number masked; a row in which nothing was masked adds zero.
Neither knows what kind of model it asks, or where its text came from.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from tdiff.core.diffusion import noise
from tdiff.core.diffusion.schedules import Schedule
from tdiff.core.mask_indices import chosen, places, sent
from tdiff.core.models.base import Inputs, Model
from tdiff.errors import TdiffError

Conditioning = Mapping[str, Tensor]
"""What a denoiser takes besides tokens and time, by its name there: a row, or a number, for each row of a batch.

`attention` (B, L) bool, false at padding; `label` (B,) int64, the class of each text.
"""
_FIRST_TIME = 1e-3  # continuous time starts here: the weight 1/t has no bound at 0


@dataclass(frozen=True, slots=True)
class Loss:
    """The bound on one batch of B rows."""

    nats: Tensor
    """() float32: estimate of the negative bound, nats a maskable place; differentiable. Of a part of an optimizer
    step its share of the step's."""
    row_nats: Tensor
    """(B,) float32: mean -log p over the masked places of each row, unweighted; 0 where none was masked. Detached."""
    share: Tensor
    """(B,) float32: share of each row's maskable places that were masked."""
    telling: Tensor | None = None
    """() float32: how well the masked tokens tell the class, nats a row; differentiable. None where not asked."""


def times(rows: int, generator: torch.Generator, together: bool = False) -> Tensor:
    """(rows,) float32 in [0, 1): low-discrepancy times, u = (u0 + i / rows) mod 1 (Kingma et al. 2021).

    With `together` all have the time u0.
    """
    device = generator.device
    start = torch.rand((), generator=generator, device=device)
    if together:
        return start.expand(rows)
    return (start + torch.arange(rows, device=device) / rows) % 1.0


def protect(rows: int, window: int, context: int, mode: str, generator: torch.Generator) -> Tensor:
    """(rows, window) bool, true at the places that may be masked: all but the first n of each row.

    n = 0 with probability one half, else uniform in 1..context, so that the model also learns to begin from nothing;
    with mode "fixed" n is always `context`.
    """
    device = generator.device
    if mode == "fixed" or context == 0:
        n = torch.full((rows,), context, device=device)
    else:
        n = torch.randint(1, context + 1, (rows,), generator=generator, device=device)
        n = n * torch.randint(0, 2, (rows,), generator=generator, device=device)
    return torch.arange(window, device=device) >= n[:, None]


@dataclass(frozen=True, slots=True)
class Masks:
    """What of B rows is masked, each at a time of its own."""

    masked: Tensor
    """(B, L) bool."""
    weight: Tensor
    """(B,) float32: of each row in the bound."""

    def of(self, rows: slice, length: int) -> Masks:
        """Those of some of the rows, up to `length` places."""
        return Masks(self.masked[rows, :length], self.weight[rows])


def draw_masks(
    maskable: Tensor,
    schedule: Schedule,
    timesteps: int,
    generator: torch.Generator,
    masked_share: tuple[float, float] = (0.0, 1.0),
    together: bool = False,
) -> Masks:
    """Draw a time for each row of `maskable` (B, L), or one for all of them, and mask by it; see `bound`."""
    u = times(len(maskable), generator, together)
    least, most = masked_share
    first, last = schedule.time(least) if least > 0 else 0.0, schedule.time(most) if most < 1 else 1.0
    if timesteps:
        # The steps first..last of 1..T, at least one; u lies in [0, 1).
        first_step = max(1, math.ceil(round(timesteps * first, 9)))
        drawn = max(1, math.floor(round(timesteps * last, 9)) - first_step + 1)
        i = first_step - 1 + (drawn * (1.0 - u)).ceil()
        t, weight = i / timesteps, schedule.discrete_weight(i, timesteps) * (drawn / timesteps)
    else:
        wanted, first = first, max(first, _FIRST_TIME)
        t = first + (last - first) * u
        # What is hidden at times too early to be drawn counts by those that are: the weights' mass is the whole part's.
        start, begin, end = schedule.hidden(torch.tensor([wanted, first, last], dtype=torch.float64)).tolist()
        weight = schedule.weight(t) * ((last - first) * (end - start) / (end - begin))
    chance = torch.rand(maskable.shape, generator=generator, device=maskable.device)
    masked = maskable & (chance < schedule.hidden(t)[:, None])
    return Masks(masked, weight)


def bound(
    model: Model,
    tokens: Tensor,
    maskable: Tensor,
    schedule: Schedule,
    timesteps: int,
    generator: torch.Generator,
    masked_share: tuple[float, float] = (0.0, 1.0),
    together: bool = False,
    conditioning: Conditioning | None = None,
    classes: int = 0,
    device: str | torch.device | None = None,
    even: bool = False,
    masks: Masks | None = None,
) -> Loss:
    """The bound of `tokens` (B, L), of which `maskable` (B, L) may be masked, at one drawn time for each row, or
    `together` for all.

    `timesteps` 0 is continuous time, NELBO = E_t[hidden'(t)/hidden(t) * sum over masked of -log p(x_i | x_t)]; T > 0 is
    the discrete bound on t = 1/T .. 1 (Sahoo et al. 2024, arXiv:2406.07524, eq. 10 and 9). Times are drawn where
    hidden(t) lies within `masked_share` (of a grid without such a time, the one above); where that is not all of 0..1
    the loss is that part of the bound, and no bound. The model is conditioned on the mask ratio that was
    really drawn, and on the `conditioning` of the rows. `masks` that are drawn already, as those of a larger batch,
    take the place of times and masks of its own.

    With `classes` above 0 each row that has a label is asked for once more, under another label drawn at random, on the
    same mask: `telling` is the mean -log of the probability that Bayes then gives to the right one of the two, a bound
    being trained to describe texts and this to tell them apart (a hybrid of both: Raina et al. 2003). The nats of the n
    tokens that are masked are divided by the root of n, as a verdict's are (`classifier.divisor`): undivided, a text
    that words alone already place has nothing left to teach, and the few that they misplace are learnt by heart.

    Masks are drawn where `tokens` and `generator` are. Where the denoiser is on another `device`, that is the CPU,
    which then sends what is asked and never waits. With `even` all rows are asked for twice, so that the number of
    rows is always the same; those that have no label count for nothing the second time.
    """
    if masks is None:
        masks = draw_masks(maskable, schedule, timesteps, generator, masked_share, together)
    masked, weight = masks.masked, masks.weight
    count, total = masked.sum(1), maskable.sum(1)
    share = count / total.clamp(min=1)
    conditioning = dict(conditioning or {})
    rows = torch.arange(len(tokens), device=tokens.device)
    if classes > 1:
        labelled = conditioning["label"] < classes
        again = rows if even else rows[labelled]
        label = conditioning["label"][again]
        other = label + torch.randint(1, classes, label.shape, generator=generator, device=label.device)
        rows = torch.cat((rows, again))
        conditioning = {name: value[rows] for name, value in conditioning.items()}
        conditioning["label"][len(tokens) :] = other % classes
    device = device or tokens.device
    hidden, asked = masked[rows], tokens[rows]
    where, target = sent(hidden, device), sent(chosen(asked, hidden), device)
    canvas = sent(asked.masked_fill(hidden, model.spec.mask_id), device)
    conditioning = {name: sent(value, device) for name, value in conditioning.items()}
    logits = model.logits(Inputs(canvas, sent(share[rows], device), where, **conditioning))
    sums = _by_row(F.cross_entropy(logits, target, reduction="none"), where)
    count, total, share, weight = (sent(value, device) for value in (count, total, share, weight))
    row_sum = sums[: len(tokens)]
    telling = None
    if classes > 1 and len(again):
        again = sent(again, device)
        each = F.softplus((row_sum[again] - sums[len(tokens) :]) / count[again].clamp(min=1).sqrt())
        telling = (each * sent(labelled, device)).sum() / max(1, int(labelled.sum())) if even else each.mean()
    return Loss(
        nats=(weight * row_sum).sum() / total.sum().clamp(min=1),
        row_nats=(row_sum / count.clamp(min=1)).detach(),
        share=share,
        telling=telling,
    )


def autoregressive(nats: Tensor, scored: Tensor) -> Loss:
    """The loss of a causal model, from the nats (B, L) of each place after those before it, 0 where not `scored`.

    No bound but the very likelihood; nothing is masked, so the share is 1: every place was to be said.
    """
    total = scored.sum(1)
    row_nats = nats.sum(1) / total.clamp(min=1)
    return Loss(nats=nats.sum() / total.sum().clamp(min=1), row_nats=row_nats.detach(), share=torch.ones_like(row_nats))


def _by_row(values: Tensor, where: Tensor) -> Tensor:
    """(B,) sums over each row of the `values` (N,) at the places `where` (B, L)."""
    return torch.zeros(where.shape, dtype=values.dtype, device=values.device).masked_scatter(where, values).sum(1)


@dataclass(frozen=True, slots=True)
class Likelihood:
    """An estimate of the negative bound of n texts."""

    nats: Tensor
    """(n,) float64: nats of each whole text."""
    tokens: int
    """Maskable places of all texts."""
    nats_per_token: float
    interval_95: tuple[float, float]
    """Of nats_per_token: the Monte Carlo error on these texts, not the spread between texts."""
    draws: int
    """Masks drawn for each text."""


@torch.inference_mode()
def likelihood(
    model: Model,
    tokens: Tensor,
    maskable: Tensor,
    *,
    draws: int,
    seed: int = 0,
    batch_size: int = 0,
    progress: Callable[[int], None] | None = None,
    conditioning: Conditioning | None = None,
) -> Likelihood:
    """Estimate the bound of `tokens` (n, L) with exact-count masks.

    A draw masks exactly l of a text's L maskable places, l uniform on 1..L, and weighs their summed -log p by L/l; its
    expectation is minus the log of the model's random-order likelihood bound. The l of all `draws` of all texts are
    stratified together, each text's marginally uniform. `progress` is called with the texts masked so far, of n *
    draws. `conditioning` is that of the n texts. `batch_size` rows are asked for together; 0: as many as keep the
    device busy. Raises TdiffError for a text with no maskable place.
    """
    total = maskable.sum(1).cpu()
    if bool((total == 0).any()):
        raise TdiffError("a text with no place that may be masked has no likelihood")
    n, device = len(tokens), tokens.device
    cells = n * draws
    batch_size = batch_size or _batch_size(model, tokens)
    generator = torch.Generator().manual_seed(noise.mix(seed, n, draws))
    # Stratum s goes to a random cell (draw, text): globally stratified, and for one text alone fully so.
    strata = torch.randperm(cells, generator=generator)
    level = (strata + torch.rand(cells, generator=generator, dtype=torch.float64)) / cells
    text = torch.arange(cells) % n
    count = torch.minimum((level * total[text]).long() + 1, total[text])
    nats = torch.empty(cells, dtype=torch.float64)
    columns = torch.arange(tokens.size(1), device=device)
    for start in range(0, cells, batch_size):
        part = slice(start, start + batch_size)
        which = sent(text[part], device)
        rows, may = tokens[which], maskable[which]
        names = torch.arange(start, start + len(rows), device=device)[:, None]
        order = noise.uniform(seed, 0, noise.EVALUATION, names, columns).masked_fill(~may, 2.0)
        masked = (order.argsort(1).argsort(1) < sent(count[part, None], device)) & may
        places(masked, int(count[part].sum()))
        share = sent((count / total[text])[part].float(), device)
        inputs = Inputs(
            rows.masked_fill(masked, model.spec.mask_id),
            share,
            masked,
            **{name: values[which] for name, values in (conditioning or {}).items()},
        )
        logits = model.logits(inputs)
        row_sum = _by_row(F.cross_entropy(logits, chosen(rows, masked), reduction="none"), masked)
        nats[part] = row_sum.cpu().double() * total[text[part]] / count[part]
        if progress:
            progress(min(start + batch_size, cells))
    each, every = nats.view(draws, n).mean(0), int(total.sum())
    mean, half = float(each.sum()) / every, 1.96 * _deviation(nats, strata, n) / every
    return Likelihood(each, every, mean, (mean - half, mean + half), draws)


def _batch_size(model: Model, tokens: Tensor) -> int:
    """Rows of one batch: on a GPU more than on a CPU, but no more than so many logits have room for."""
    if tokens.device.type in ("cpu", "mps"):
        return _FEW
    return min(_MANY, max(_FEW, _LOGITS // (tokens.size(1) * model.spec.vocab_size)))


_FEW, _MANY = 32, 256
_LOGITS = 1 << 28  # numbers: a gigabyte, several times


def _deviation(nats: Tensor, strata: Tensor, n: int) -> float:
    """Standard deviation of the sum over n texts of their mean draws; infinite where too few were drawn to say.

    `nats` (cells,) and their `strata`, cell c being of text c mod n. The texts are given, and stratified draws vary
    only by what their level does not explain: a mean of each text and a curve over the levels (a running mean) are
    fitted in turn, and what is left is noise.
    """
    cells, draws = len(nats), len(nats) // n
    if cells < 3:
        return math.inf
    width = 2 * (cells // 32) + 3
    by_level = strata.argsort()
    values = nats.view(draws, n)
    of_text, of_level = torch.zeros(n, dtype=nats.dtype), torch.zeros_like(values)
    for _ in range(_FITS):
        if draws > 1 and n > 1:
            of_text = (values - of_level).mean(0)
        rest = (values - of_text).flatten()[by_level]
        smooth = F.avg_pool1d(rest[None, None], width, 1, width // 2, count_include_pad=False)[0, 0]
        of_level = smooth[strata].view(draws, n)
    # Each value stands in its own text's mean and in its own running mean, which hide so much of its variance.
    lost = (1 - 1 / width) * (1 - 1 / draws if draws > 1 and n > 1 else 1)
    return math.sqrt(float((values - of_text - of_level).square().mean()) / lost * n / draws)


_FITS = 4
