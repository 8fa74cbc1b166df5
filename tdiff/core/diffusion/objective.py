"""The masked-diffusion likelihood bound (NELBO): the training loss, and the likelihood estimator of evaluation.

Both divide by the number of maskable positions, never by the number masked; a row without masks adds zero. Both use
only the model contract.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from tdiff.core.diffusion import noise
from tdiff.core.diffusion.noise import RowNoise
from tdiff.core.diffusion.schedules import Schedule
from tdiff.core.mask_indices import indices_of, select, send
from tdiff.core.memory import Portions
from tdiff.core.models.base import Inputs, Model
from tdiff.core.shared import Shared, is_own
from tdiff.errors import TdiffError

Conditioning = Mapping[str, Tensor]
"""Further inputs of a model by their names in `Inputs`: `attention` (B, L) bool, False at padding, and `label` (B,)
int64, the class of each row.
"""
_FIRST_TIME = 1e-3  # continuous time starts here: the weight 1/t has no bound at 0


@dataclass(frozen=True, slots=True)
class Loss:
    """The NELBO of one batch of B rows."""

    nats: Tensor
    """() float32: estimate of the NELBO, nats per maskable position; differentiable. For a part of an optimizer step:
    what that part adds to the NELBO of the step."""
    row_nats: Tensor
    """(B,) float32: mean -log p over the masked positions of each row, unweighted; 0 if none is masked. Detached."""
    share: Tensor
    """(B,) float32: mask ratio of each row."""
    contrastive: Tensor | None = None
    """() float32: contrastive loss of the class, nats per row; differentiable. None if not asked for."""


def diffusion_times(row_noise: RowNoise, together: bool = False) -> Tensor:
    """Return (B,) float32 in [0, 1): low-discrepancy times, u = (u0 + i / total) mod 1 (Kingma et al. 2021).

    i is the number of the row in its step and u0 one number for the step: the rows of a step are evenly spaced, and a
    part of them has the same times as in the whole. With `together` all rows have the time u0.
    """
    start = row_noise.shared(noise.TIME)
    numbers = torch.zeros(len(row_noise.rows)) if together else row_noise.numbers()
    # The sum is rounded to float32 before the remainder: rounded afterwards, a time could be 1.
    return (start + numbers / row_noise.total) % 1.0


def maskable_positions(row_noise: RowNoise, window: int, context: int, mode: str) -> Tensor:
    """Return (B, window) bool, true at the maskable positions: all but the first n of each row.

    n = 0 with probability one half, otherwise uniform in 1..context, so that the model also learns to generate without
    a prompt; with mode "fixed" n is always `context`.
    """
    if mode == "fixed" or context == 0:
        n = torch.full((len(row_noise.rows),), context)
    else:
        length, half = row_noise.uniform(noise.CONTEXT, 2).unbind(1)
        n = (1 + (length * context).long()) * (half < 0.5)
    return torch.arange(window) >= n[:, None]


@dataclass(frozen=True, slots=True)
class Masks:
    """Masks of B rows, each at its own time."""

    masked: Tensor
    """(B, L) bool."""
    weight: Tensor
    """(B,) float32: weight of each row in the NELBO."""

    def of(self, rows: slice, length: int) -> Masks:
        """Return the masks of a slice of the rows, up to `length` positions."""
        return Masks(self.masked[rows, :length], self.weight[rows])


def sample_masks(
    maskable: Tensor,
    row_noise: RowNoise,
    schedule: Schedule,
    timesteps: int,
    masked_share: tuple[float, float] = (0.0, 1.0),
    together: bool = False,
) -> Masks:
    """Sample a time for each row of `maskable` (B, L) bool on the CPU, or one for all `together`, and masks by it.

    `timesteps` 0 is continuous time; T > 0 the grid t = 1/T .. 1. Times are sampled where hidden(t) is within
    `masked_share` (on a grid without such a time, at the next one above); unless that is 0..1, the weights are those of
    this part of the NELBO.
    """
    u = diffusion_times(row_noise, together)
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
        # Times too early to be sampled count through the others: the weights sum to the mass of the full range.
        start, begin, end = schedule.hidden(torch.tensor([wanted, first, last], dtype=torch.float64)).tolist()
        weight = schedule.weight(t) * ((last - first) * (end - start) / (end - begin))
    chance = row_noise.uniform(noise.MASK, maskable.size(1))
    masked = maskable & (chance < schedule.hidden(t)[:, None])
    return Masks(masked, weight)


def other_labels(label: Tensor, classes: int, row_noise: RowNoise) -> Tensor:
    """(B,) int64: for each `label` (B,) below `classes` another one, drawn at random; -1 for rows without a label."""
    other = (label + 1 + row_noise.integers(noise.CONTRAST, classes - 1)) % classes
    return other.masked_fill(label >= classes, -1)


def nelbo_loss(
    model: Model,
    tokens: Tensor,
    maskable: Tensor,
    masks: Masks,
    conditioning: Conditioning | None = None,
    other: Tensor | None = None,
    device: str | torch.device | None = None,
    even: bool = False,
) -> Loss:
    """Estimate the NELBO of `tokens` (B, L) int64, of which `maskable` (B, L) bool may be masked, at sampled `masks`.

    In continuous time it is NELBO = E_t[hidden'(t)/hidden(t) * sum over masked of -log p(x_i | x_t)]; on a grid of T
    steps it is the discrete bound on t = 1/T .. 1 (Sahoo et al. 2024, arXiv:2406.07524, eq. 10 and 9). With clipped
    mask ratios the loss is that part of the NELBO, and not a bound. The model is conditioned on the mask ratio of each
    row as it was sampled, and on `conditioning`.

    With `other` (B,) labels (see `other_labels`) each row that has one is scored once more, under that label, with the
    same mask: `contrastive` is the mean -log of the posterior probability of the right one of the two. The NELBO trains
    the model to describe texts, and this to classify them (a hybrid of both: Raina et al. 2003). The nats of the n
    masked tokens are divided by the root of n, as for a prediction (`prediction.divisor`): without that, a text that
    single words classify has no gradient left, and the few texts that these words misclassify are memorised.

    Tokens and masks are on one device. If the model is on another `device`, that is the CPU, which then sends the
    inputs and never waits. With `even` all rows are scored twice, so that the number of rows is constant; those without
    a label do not count the second time.
    """
    masked, weight = masks.masked, masks.weight
    count, total = masked.sum(1), maskable.sum(1)
    share = count / total.clamp(min=1)
    conditioning = dict(conditioning or {})
    rows = torch.arange(len(tokens), device=tokens.device)
    if other is not None:
        labelled = other >= 0
        again = rows if even else rows[labelled]
        rows = torch.cat((rows, again))
        conditioning = {name: value[rows] for name, value in conditioning.items()}
        conditioning["label"][len(tokens) :] = other[again].clamp(min=0)
    device = device or tokens.device
    hidden, asked = masked[rows], tokens[rows]
    where, target = send(hidden, device), send(select(asked, hidden), device)
    canvas = send(asked.masked_fill(hidden, model.spec.mask_id), device)
    conditioning = {name: send(value, device) for name, value in conditioning.items()}
    logits = model.logits(Inputs(canvas, send(share[rows], device), where, **conditioning))
    sums = _by_row(F.cross_entropy(logits, target, reduction="none"), where)
    count, total, share, weight = (send(value, device) for value in (count, total, share, weight))
    row_sum = sums[: len(tokens)]
    contrastive = None
    if other is not None and len(again):
        again = send(again, device)
        losses = F.softplus((row_sum[again] - sums[len(tokens) :]) / count[again].clamp(min=1).sqrt())
        contrastive = (losses * send(labelled, device)).sum() / max(1, int(labelled.sum())) if even else losses.mean()
    return Loss(
        nats=(weight * row_sum).sum() / total.sum().clamp(min=1),
        row_nats=(row_sum / count.clamp(min=1)).detach(),
        share=share,
        contrastive=contrastive,
    )


def exact_loss(nats: Tensor, scored: Tensor) -> Loss:
    """Return the loss of a causal model from the nats (B, L) of each token given those before it, 0 where not `scored`.

    It is the exact likelihood, not a bound. Every position is predicted, so the mask ratio is reported as 1.
    """
    total = scored.sum(1)
    row_nats = nats.sum(1) / total.clamp(min=1)
    return Loss(nats=nats.sum() / total.sum().clamp(min=1), row_nats=row_nats.detach(), share=torch.ones_like(row_nats))


def _by_row(values: Tensor, where: Tensor) -> Tensor:
    """Return (B,): sums over each row of the `values` (N,) at the positions `where` (B, L) bool."""
    return torch.zeros(where.shape, dtype=values.dtype, device=values.device).masked_scatter(where, values).sum(1)


@dataclass(frozen=True, slots=True)
class Likelihood:
    """An estimate of the NELBO of n texts, or the exact value for a causal model."""

    nats: Tensor
    """(n,) float64: nats of each text."""
    tokens: int
    """Maskable positions of all texts."""
    nats_per_token: float
    interval_95: tuple[float, float]
    """Monte Carlo error of nats_per_token on these texts, not the spread between texts."""
    draws: int
    """Mask samples of each text."""


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
    shared: Shared | None = None,
) -> Likelihood:
    """Estimate the NELBO of `tokens` (n, L) int64 with masks of an exact count.

    A mask sample masks exactly l of a text's L maskable positions, l uniform on 1..L, and weights their summed -log p
    by L/l; its expectation is minus the log of the model's random-order likelihood bound. The l of all `draws` samples
    of all texts are stratified together, each text's marginally uniform. `progress` is called with the samples done, of
    n * draws. `conditioning` is that of the n texts. `batch_size` rows form one call; 0: as many as keep the device
    busy. Processes that have the work `shared` do a part of the calls each, and all return the same. Raises TdiffError
    for a text without a maskable position.
    """
    total = maskable.sum(1).cpu()
    if bool((total == 0).any()):
        raise TdiffError("a text without a maskable position has no likelihood")
    n, device = len(tokens), tokens.device
    cells = n * draws
    batch_size = batch_size or _batch_size(model, tokens)
    generator = torch.Generator().manual_seed(noise.mix(seed, n, draws))
    # Stratum s goes to a random cell (draw, text): globally stratified, and for one text alone fully so.
    strata = torch.randperm(cells, generator=generator)
    level = (strata + torch.rand(cells, generator=generator, dtype=torch.float64)) / cells
    text = torch.arange(cells) % n
    count = torch.minimum((level * total[text]).long() + 1, total[text])
    nats = torch.zeros(cells, dtype=torch.float64)
    columns = torch.arange(tokens.size(1), device=device)
    portions = Portions(device.type, f"a window of {tokens.size(1):,} tokens")

    def score(cell_numbers: Sequence[int]) -> None:
        part = slice(cell_numbers[0], cell_numbers[-1] + 1)
        which = send(text[part], device)
        rows, may = tokens[which], maskable[which]
        names = torch.arange(part.start, part.stop, device=device)[:, None]
        order = noise.uniform(seed, 0, noise.EVALUATION, names, columns).masked_fill(~may, 2.0)
        masked = (order.argsort(1).argsort(1) < send(count[part, None], device)) & may
        indices_of(masked, int(count[part].sum()))
        share = send((count / total[text])[part].float(), device)
        inputs = Inputs(
            rows.masked_fill(masked, model.spec.mask_id),
            share,
            masked,
            **{name: values[which] for name, values in (conditioning or {}).items()},
        )
        logits = model.logits(inputs)
        row_sum = _by_row(F.cross_entropy(logits, select(rows, masked), reduction="none"), masked)
        nats[part] = row_sum.cpu().double() * total[text[part]] / count[part]
        if progress:
            progress(part.stop)

    for start in range(0, cells, batch_size):
        if is_own(start // batch_size, shared):
            deque(portions(range(start, min(start + batch_size, cells)), score), maxlen=0)
    nats = nats if shared is None else shared.total(nats)
    nats_by_text, scored_tokens = nats.view(draws, n).mean(0), int(total.sum())
    mean, half = float(nats_by_text.sum()) / scored_tokens, 1.96 * _deviation(nats, strata, n) / scored_tokens
    return Likelihood(nats_by_text, scored_tokens, mean, (mean - half, mean + half), draws)


def _batch_size(model: Model, tokens: Tensor) -> int:
    """Return the rows of one batch: more on a GPU than on a CPU, limited by the memory of the logits."""
    if tokens.device.type in ("cpu", "mps"):
        return _FEW
    return min(_MANY, max(_FEW, _LOGITS // (tokens.size(1) * model.spec.vocab_size)))


_FEW, _MANY = 32, 256
_LOGITS = 1 << 28  # numbers: a gigabyte, several times


def _deviation(nats: Tensor, strata: Tensor, n: int) -> float:
    """Return the standard deviation of the sum over n texts of their mean mask samples; infinite for too few samples.

    `nats` (cells,) and their `strata`; cell c belongs to text c mod n. The texts are fixed, and stratified samples vary
    only by what their level does not explain: a mean for each text and a curve over the levels (a running mean) are
    fitted in turn, and the rest is noise.
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
    # Each value is part of its text's mean and of its running mean, which take this part of its variance away.
    lost = (1 - 1 / width) * (1 - 1 / draws if draws > 1 and n > 1 else 1)
    return math.sqrt(float((values - of_text - of_level).square().mean()) / lost * n / draws)


_FITS = 4
