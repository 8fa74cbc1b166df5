"""The masked-diffusion bound: the loss of training, and the likelihood estimator that evaluation uses.

Both divide by the number of maskable places, never by the number masked; a row in which nothing was masked adds zero.
Neither knows what kind of model it asks, or where its text came from.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from tdiff.core import noise
from tdiff.core.denoise import Denoiser
from tdiff.core.schedules import Schedule
from tdiff.errors import TdiffError

_FIRST_TIME = 1e-3  # continuous time starts here: the weight 1/t has no bound at 0


@dataclass(frozen=True, slots=True)
class Loss:
    """The bound on one batch of B rows."""

    nats: Tensor
    """() float32: estimate of the negative bound, nats a maskable place; differentiable."""
    row_nats: Tensor
    """(B,) float32: mean -log p over the masked places of each row, unweighted; 0 where none was masked. Detached."""
    share: Tensor
    """(B,) float32: share of each row's maskable places that were masked."""


def times(rows: int, generator: torch.Generator) -> Tensor:
    """(rows,) float32 in [0, 1): low-discrepancy times, u = (u0 + i / rows) mod 1 (Kingma et al. 2021)."""
    device = generator.device
    start = torch.rand((), generator=generator, device=device)
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


def bound(
    denoiser: Denoiser,
    tokens: Tensor,
    maskable: Tensor,
    schedule: Schedule,
    timesteps: int,
    generator: torch.Generator,
) -> Loss:
    """The bound of `tokens` (B, L), of which `maskable` (B, L) may be masked, at one drawn time for each row.

    `timesteps` 0 is continuous time, NELBO = E_t[hidden'(t)/hidden(t) * sum over masked of -log p(x_i | x_t)]; T > 0 is
    the discrete bound on t = 1/T .. 1 (Sahoo et al. 2024, arXiv:2406.07524, eq. 10 and 8). The denoiser is told the
    share of maskable places that really are masked.
    """
    u = times(len(tokens), generator)
    if timesteps:
        i = (timesteps * (1.0 - u)).ceil()  # 1..T: u lies in [0, 1)
        t, weight = i / timesteps, schedule.discrete_weight(i, timesteps)
    else:
        t = _FIRST_TIME + (1.0 - _FIRST_TIME) * u
        weight = schedule.weight(t) * (1.0 - _FIRST_TIME)
    chance = torch.rand(tokens.shape, generator=generator, device=tokens.device)
    masked = maskable & (chance < schedule.hidden(t)[:, None])
    count, total = masked.sum(1), maskable.sum(1)
    share = count / total.clamp(min=1)
    logits = denoiser(tokens.masked_fill(masked, denoiser.mask_id), share, masked)
    row_sum = _by_row(F.cross_entropy(logits, tokens[masked], reduction="none"), masked)
    return Loss(
        nats=(weight * row_sum).sum() / total.sum().clamp(min=1),
        row_nats=(row_sum / count.clamp(min=1)).detach(),
        share=share,
    )


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
    denoiser: Denoiser, tokens: Tensor, maskable: Tensor, *, draws: int, seed: int = 0, batch_size: int = 32
) -> Likelihood:
    """Estimate the bound of `tokens` (n, L) with exact-count masks.

    A draw masks exactly l of a text's L maskable places, l uniform on 1..L, and weighs their summed -log p by L/l; its
    expectation is minus the log of the model's random-order likelihood bound. The l of all `draws` of all texts are
    stratified together, each text's marginally uniform. Variance is estimated from the differences of neighbours in
    the order of l, after each text's own mean is taken out. Raises TdiffError for a text with no maskable place.
    """
    total = maskable.sum(1)
    if bool((total == 0).any()):
        raise TdiffError("a text with no place that may be masked has no likelihood")
    n, device = len(tokens), tokens.device
    generator = torch.Generator().manual_seed(noise.mix(seed, n, draws))
    # Stratum s of n*draws goes to a random (draw, text): globally stratified, and for one text alone fully so.
    strata = torch.randperm(n * draws, generator=generator).view(draws, n)
    level = (strata + torch.rand(strata.shape, generator=generator, dtype=torch.float64)) / (n * draws)
    count = ((level.to(device) * total).long() + 1).clamp(max=total)
    nats = torch.empty(draws, n, dtype=torch.float64)
    for draw in range(draws):
        for start in range(0, n, batch_size):
            part = slice(start, start + batch_size)
            rows = torch.arange(start, min(start + batch_size, n), device=device)
            places = torch.arange(tokens.size(1), device=device)
            order = noise.uniform(seed, draw, 3, rows[:, None], places).masked_fill(~maskable[part], 2.0)
            masked = (order.argsort(1).argsort(1) < count[draw, part, None]) & maskable[part]
            logits = denoiser(
                tokens[part].masked_fill(masked, denoiser.mask_id), (count[draw] / total)[part].float(), masked
            )
            row_sum = _by_row(F.cross_entropy(logits, tokens[part][masked], reduction="none").double(), masked)
            nats[draw, part] = (row_sum * total[part] / count[draw, part]).cpu()
    each, every = nats.mean(0), int(total.sum())
    noise_of = (nats - each if draws > 1 else nats).flatten()[strata.flatten().argsort()]
    deviation = 0.0
    if len(noise_of) > 1:
        variance = float(noise_of.diff().square().mean()) / 2 * (draws / max(draws - 1, 1))
        deviation = 1.96 * math.sqrt(variance / draws * n) / every
    mean = float(each.sum()) / every
    return Likelihood(each, every, mean, (mean - deviation, mean + deviation), draws)
