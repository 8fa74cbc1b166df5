"""Decoding policies: which token to propose at a masked position, which positions to unmask, and which to remask.

Each policy is a pure function of a `StepState`, and `DECODERS` is a dict of them. To add a decoder, write `commit` (and
`remask` if it remasks), and add it to `DECODERS` and its `Spec` to `tdiff.config.decoding.DECODERS`: `tdiff guide
adding` has the steps. A policy knows neither the model nor the loop nor the other rows of the batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tdiff.config.decoding import DecodeSettings
from tdiff.core.diffusion import noise
from tdiff.core.diffusion.repetition import penalised, without
from tdiff.core.diffusion.schedules import Schedule, unmask_share
from tdiff.core.mask_indices import indices_of
from tdiff.errors import unknown


@dataclass(frozen=True, slots=True)
class StepState:
    """What a policy may depend on: B rows of L positions, at one step."""

    masked: Tensor
    """(B, L) bool: positions still masked."""
    maskable: Tensor
    """(B, L) bool: positions that are not frozen."""
    score: Tensor
    """(B, L): c, the probability of the proposed token where masked, below 0 elsewhere."""
    confidence: Tensor
    """(B, L): c of each token when it was unmasked, 1 at prompt positions, 0 at masked ones."""
    stable_calls: Tensor
    """(B, L) int64: model calls in a row in which the distribution of a masked position changed by less than `kl`
    nats."""
    left: Tensor
    """(B,) int64: positions still masked."""
    total: Tensor
    """(B,) int64: maskable positions."""
    time: float
    """t at the start of the step, 1 at the first; 0 without a schedule."""
    hidden_t: float
    """Mask ratio of the schedule at the start of the step."""
    hidden_s: float
    """Mask ratio of the schedule at the end of the step; 0 at the last one."""
    noise: Callable[..., Tensor]
    """stream -> (B, L) uniform numbers in [0, 1), of this step or of the step given; see `noise`."""
    spread: Callable[[Callable[[Tensor], Tensor]], Tensor]
    """Maps a function of the distributions (N, V) at the N masked positions to its values (B, L), -inf elsewhere."""


Policy = Callable[[StepState, DecodeSettings], Tensor]


@dataclass(frozen=True, slots=True)
class Decoder:
    """A policy and its defaults. `commit` and `remask` return (B, L) bool: the positions to unmask and to remask."""

    commit: Policy
    remask: Policy | None = None
    steps: int = 0
    """Default number of steps; 0: it has no schedule and ends when nothing is masked, so that `steps` is a limit."""
    follows_steps: bool = False
    """It has no default number of steps, but follows the schedule if the settings give one."""
    one_per_step: bool = False
    """It unmasks exactly one position of each row in every step, and remasks none."""
    tracks_stability: bool = False
    """It reads `StepState.stable_calls`, for which the distributions of the last call are stored."""
    grid: Callable[[Schedule, int, DecodeSettings], list[float]] = lambda schedule, steps, _: schedule.grid(steps)
    """hidden(t) at the times of its steps, from 1 down to 0."""


def propose(
    logits: Tensor,
    settings: DecodeSettings,
    noise: Tensor | None,
    repeats: Tensor | None = None,
    forbidden: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return a token for each position (N,) int64, and c (N,) float32, its probability under the model before
    temperature and truncation.

    `logits` (N, V) are -inf at suppressed tokens; `noise` (N,) is uniform in [0, 1), or None for greedy decoding;
    `repeats` (N, V) bool are the tokens with a repetition penalty, and `forbidden` (N, V) bool those that are not
    proposed. Tokens are sampled by inverting the distribution function in float64: float32 noise cuts off the tail and
    so lowers the real temperature (Zheng et al. 2024, arXiv:2409.02908).
    """
    logits = logits.float()
    adjusted = logits if repeats is None else penalised(logits, repeats, settings.repetition_penalty)
    adjusted = adjusted if forbidden is None else without(adjusted, forbidden)
    best, greedy = adjusted.max(-1)
    if noise is None:
        token = greedy
    else:
        sharp = _truncate(
            (adjusted - best[:, None]).to(noise.dtype) / settings.temperature, settings.top_k, settings.top_p
        )
        mass = sharp.exp().cumsum(-1)
        drawn = torch.searchsorted(mass, noise[:, None] * mass[:, -1:], right=True).squeeze(-1)
        # A top-p of 0 leaves only the likeliest token, and rounding can push a number close to 1 past the end.
        token = torch.where(drawn < logits.size(-1), drawn, greedy)
    value = best if adjusted is logits and noise is None else logits.gather(-1, token[:, None]).squeeze(-1)
    return token, (value - logits.logsumexp(-1)).exp()


def _truncate(logits: Tensor, top_k: int, top_p: float) -> Tensor:
    """Return `logits` (N, V) with -inf outside the top k and the nucleus (Holtzman et al. 2019, arXiv:1904.09751)."""
    if 0 < top_k < logits.size(-1):
        smallest = logits.topk(top_k).values[:, -1:]
        logits = logits.masked_fill(logits < smallest, -torch.inf)
    if top_p < 1:
        descending, order = logits.sort(dim=-1, descending=True, stable=True)
        mass = descending.softmax(-1)
        outside = mass.cumsum(-1) - mass >= top_p
        outside[:, 0] = False
        logits = logits.masked_fill(outside.scatter(-1, order, outside), -torch.inf)
    return logits


def highest(score: Tensor, count: Tensor) -> Tensor:
    """Return (B, L) bool: the `count` (B,) positions of each row with the highest `score`, the earlier of equals."""
    order = score.argsort(dim=-1, descending=True, stable=True)
    first = torch.arange(score.size(-1), device=score.device) < count[:, None]
    return torch.zeros_like(first).scatter(-1, order, first)


def _stays_masked(state: StepState) -> Tensor:
    """Return (B,) int64: how many positions the schedule leaves masked after the step; a half rounds to even."""
    exact = state.total.to(noise.precise(state.total.device)) * state.hidden_s
    # Half a position with a rounding error counts as a half. (MPS lacks `decimals` in torch 2.6.)
    return ((exact * 1e4).round() / 1e4).round().long()


def _due(state: StepState) -> Tensor:
    """Return (B,) int64: how many positions to unmask so that the scheduled number stays masked, at least one."""
    return (state.left - _stays_masked(state)).clamp(min=1)


def _margin(p: Tensor) -> Tensor:
    """Return p1 - p2 (N,), the margin of distributions (N, V)."""
    top = p.topk(min(2, p.size(-1)), -1).values
    return top[:, 0] - (top[:, 1] if top.size(-1) > 1 else 0.0)


def _certainty(p: Tensor) -> Tensor:
    """Return -H (N,), the negative entropy in nats of distributions (N, V)."""
    return (p * p.clamp(min=1e-38).log()).sum(-1)


_RANKS = {"margin": _margin, "entropy": _certainty}
_TOP = 3
"""Tokens of top-k-mass if sampling is not limited to top-k: as in tiny-diffusion."""


def _rank(state: StepState, name: str, top: int = 0) -> Tensor:
    """Return (B, L): masked positions with a higher value are unmasked first; lower than all values if not masked.

    c (Fast-dLLM), p1 - p2 (Kim et al. 2025, arXiv:2502.06768), -H (Dream), or p1 + ... + pk of the `top` k
    (tiny-diffusion).
    """
    if name == "top-k-mass":
        return state.spread(lambda p: p.topk(min(top or _TOP, p.size(-1)), -1).values.sum(-1))
    return state.score if name == "confidence" else state.spread(_RANKS[name])


def _above_threshold(state: StepState, settings: DecodeSettings) -> Tensor:
    """All positions with c >= threshold, or else the most confident one (Fast-dLLM, Wu et al. 2025, arXiv:2505.22618).

    With the rank top-k-mass, that mass is compared with the threshold, as in tiny-diffusion.
    """
    rank = _rank(state, settings.rank, settings.top_k)
    sure = state.masked & ((rank if settings.rank == "top-k-mass" else state.score) >= settings.threshold)
    none = ~sure.any(-1, keepdim=True)
    first = rank.argmax(-1, keepdim=True)
    return sure.scatter(-1, first, none | sure.gather(-1, first))


def _top_k(state: StepState, settings: DecodeSettings) -> Tensor:
    """The k most confident positions; k = 0: a tenth of the maskable ones."""
    k = torch.full_like(state.total, settings.k) if settings.k else (state.total // 10).clamp(min=1)
    return highest(_rank(state, settings.rank, settings.top_k), torch.minimum(k, state.left))


def _scheduled(state: StepState, settings: DecodeSettings) -> Tensor:
    """The scheduled number, most confident first (MaskGIT; LLaDA's low-confidence remasking)."""
    return highest(_rank(state, settings.rank, settings.top_k), _due(state))


def _by_margin(state: StepState, settings: DecodeSettings) -> Tensor:
    return highest(_rank(state, "margin"), _due(state))


def _by_entropy(state: StepState, settings: DecodeSettings) -> Tensor:
    return highest(_rank(state, "entropy"), _due(state))


def _factor(state: StepState, settings: DecodeSettings) -> Tensor:
    """In order of confidence, the most positions n whose n-th has c >= 1 - f / (n + 1); at least one (Fast-dLLM)."""
    falling = state.score.sort(-1, descending=True).values
    n = torch.arange(1, falling.size(-1) + 1, device=falling.device)
    enough = (falling >= 1 - settings.factor / (n + 1)) & (n <= state.left[:, None])
    return highest(state.score, (enough * n).amax(-1).clamp(min=1))


def _entropy_bounded(state: StepState, settings: DecodeSettings) -> Tensor:
    """In order of entropy, as many as keep the sum of all but the largest within gamma (Ben-Hamu et al. 2025,
    arXiv:2505.24857): no more than that can be lost by drawing them independently.
    """
    certainty = state.spread(_certainty)
    entropy = certainty.sort(-1, descending=True).values.neg()
    count = torch.arange(1, entropy.size(-1) + 1, device=entropy.device)
    entropy = entropy.masked_fill(count > state.left[:, None], torch.inf)
    before = entropy.cumsum(-1) - entropy  # of a rising row, the last is the largest
    within = (before.nan_to_num(torch.inf, torch.inf) <= settings.gamma) & (count <= state.left[:, None])
    return highest(certainty, within.sum(-1).clamp(min=1))


def _first_hitting(state: StepState, settings: DecodeSettings) -> Tensor:
    """Each position at its own time, drawn once for all steps (Zheng et al. 2024, arXiv:2409.02908).

    Without a number of steps it unmasks one random position a step: the limit of ancestral for many steps. With one it
    has the distribution of ancestral, and calls the model only in steps that unmask something.
    """
    if not settings.steps:
        return highest(state.noise(noise.ORDER).masked_fill(~state.masked, -1.0), torch.ones_like(state.left))
    return state.masked & (state.noise(noise.ORDER, 0) >= state.hidden_s)


def _random(state: StepState, settings: DecodeSettings) -> Tensor:
    """The scheduled number, at random positions."""
    return highest(state.noise(noise.ORDER).masked_fill(~state.masked, -1.0), _due(state))


def _ancestral(state: StepState, settings: DecodeSettings) -> Tensor:
    """Each position independently, with probability (hidden(t) - hidden(s)) / hidden(t) (D3PM; MDLM,
    arXiv:2406.07524).
    """
    return state.masked & (state.noise(noise.ORDER) < unmask_share(state.hidden_t, state.hidden_s))


def _leftmost(state: StepState, settings: DecodeSettings) -> Tensor:
    """The leftmost masked position, as a causal model generates."""
    return state.masked & (state.masked.cumsum(-1) == 1)


def _fronts(state: StepState, settings: DecodeSettings) -> Tensor:
    """The next position of each of `parts` parts of equal length, of which the last may be shorter. A part with a
    position that had to wait (`no_repeat`) makes the others wait for it.

    Except for the first of each part, tokens see the one before them, and those of one call are a part's length apart.
    """
    length = (state.total + settings.parts - 1).div(settings.parts, rounding_mode="floor").clamp(min=1)
    offset = (state.maskable.cumsum(-1) - 1) % length[:, None]  # of a maskable position, within its part
    least = offset.masked_fill(~state.masked, offset.size(-1)).amin(-1, keepdim=True)
    return state.masked & (offset == least)


def _all(state: StepState, settings: DecodeSettings) -> Tensor:
    return state.masked


def _remask_at_random(state: StepState, settings: DecodeSettings) -> Tensor:
    """The scheduled number of all maskable positions, at random (text-diffusion)."""
    return highest(state.noise(noise.REMASK).masked_fill(~state.maskable, -1.0), _stays_masked(state))


class StabilityTracker:
    """Counts for each masked position the model calls in a row in which its distribution changed by less than `limit`
    nats: KL(p now || p at the last call), of positions that were masked at both calls.
    """

    def __init__(self, masked: Tensor, limit: float) -> None:
        self.limit, self._masked = limit, masked
        self._log_p: Tensor | None = None
        self._counts = [0] * len(masked)
        self.calls = torch.zeros(masked.shape, dtype=torch.int64, device=masked.device)
        """(B, L) int64: the number of calls."""

    def update(self, logits: Tensor, masked: Tensor, seen: Tensor, counts: list[int]) -> None:
        """Count a call with the `logits` (N, V) at the positions `masked` (B, L) of the rows `seen` (B,); `counts` are
        these positions of each row.

        A position that is masked now was masked at the row's last call too. Other rows keep their counts.
        """
        log_p = logits.float().log_softmax(-1)
        new = masked & seen[:, None]
        at, count = indices_of(new, sum(counts)), sum(counts)
        if self._log_p is None:
            self._store(new, log_p, counts)
            return
        # Index of each position's last distribution; -1 in a row that is seen for the first time.
        slot = torch.full((masked.numel(),), -1, device=masked.device)
        slot[indices_of(self._masked)] = torch.arange(len(self._log_p), device=masked.device)
        before = slot[at]
        change = (log_p - self._log_p.index_select(0, before.clamp(min=0))).nan_to_num(0.0)
        moved = torch.where(before < 0, torch.inf, (log_p.exp() * change).sum(-1))  # -inf less -inf has no weight
        stable = torch.where(moved < self.limit, self.calls.flatten()[at] + 1, 0)
        unseen = self.calls * ~seen[:, None]
        self.calls = unseen.flatten().index_copy(0, at, stable).view_as(unseen)
        unseen_counts = [0 if now else then for now, then in zip(counts, self._counts, strict=True)]
        if any(unseen_counts):
            kept = self._masked & ~seen[:, None]
            kept_at, every = indices_of(kept, sum(unseen_counts)), kept | new
            both = torch.cat((log_p, self._log_p.index_select(0, slot[kept_at])))
            slot[at] = torch.arange(count, device=masked.device)
            slot[kept_at] = torch.arange(count, len(both), device=masked.device)
            log_p = both.index_select(0, slot[indices_of(every, len(both))])
            counts = [now or then for now, then in zip(counts, unseen_counts, strict=True)]
            new = every
        self._store(new, log_p, counts)

    def _store(self, masked: Tensor, log_p: Tensor, counts: list[int]) -> None:
        self._masked, self._log_p, self._counts = masked, log_p, counts


def _klass(state: StepState, settings: DecodeSettings) -> Tensor:
    """All positions with c > threshold that have been stable for `history` calls, or else the most confident one (Kim
    et al. 2025, arXiv:2511.05664): an unstable distribution waits for its neighbours to be unmasked.
    """
    sure = state.masked & (state.score > settings.threshold) & (state.stable_calls >= settings.history)
    return sure | (highest(state.score, torch.ones_like(state.left)) & ~sure.any(-1, keepdim=True))


def _remask_rate(state: StepState, settings: DecodeSettings) -> float:
    """Return the probability with which ReMDM remasks an unmasked position, the same for all positions."""
    most = min(1.0, state.hidden_s / max(1.0 - state.hidden_t, 1e-12))
    if settings.remask == "rescale":
        return settings.eta * most
    if settings.remask == "loop" and not settings.t_off < state.time <= settings.t_on:
        return 0.0
    return min(settings.eta, most)


def _remdm(state: StepState, settings: DecodeSettings) -> Tensor:
    """Ancestral, and as many more as make up for those remasked (Wang et al. 2025, arXiv:2503.00307)."""
    rate = 0.0 if settings.remask == "conf" else _remask_rate(state, settings)
    return state.masked & (state.noise(noise.ORDER) < unmask_share(state.hidden_t, state.hidden_s, rate))


def _remask_some(state: StepState, settings: DecodeSettings) -> Tensor:
    """Each unmasked position independently at ReMDM's rate; with conf at its share of the largest rate."""
    unmasked = state.maskable & ~state.masked
    if settings.remask != "conf":
        return unmasked & (state.noise(noise.REMASK) < _remask_rate(state, settings))
    most = min(1.0, state.hidden_s / max(1.0 - state.hidden_t, 1e-12))
    share = (
        (-state.confidence).masked_fill(~unmasked, -torch.inf).softmax(-1)
    )  # NaN if no position is unmasked; it compares as False
    return unmasked & (state.noise(noise.REMASK) < settings.eta * most * share)


def _loop_grid(schedule: Schedule, steps: int, settings: DecodeSettings) -> list[float]:
    """ReMDM's loop: the schedule down to 1 - alpha_on at t_on, level to t_off, and the schedule down to 0."""
    if settings.remask != "loop":
        return schedule.grid(steps)
    t = torch.linspace(1.0, 0.0, steps + 1, dtype=torch.float64)
    left = 1.0 - settings.alpha_on
    early = 1.0 - settings.alpha_on * (1.0 - schedule.hidden(((t - settings.t_on) / (1.0 - settings.t_on)).clamp(0)))
    late = left * schedule.hidden((t / settings.t_off).clamp(max=1.0)) if settings.t_off else torch.zeros_like(t)
    level = torch.full_like(t, left)
    hidden = torch.where(t > settings.t_on, early, torch.where(t > settings.t_off, level, late))
    return [1.0, *hidden[1:-1].tolist(), 0.0]


DECODERS: dict[str, Decoder] = {
    "ancestral": Decoder(_ancestral, steps=128),
    "autoregressive": Decoder(_leftmost, one_per_step=True),
    "confidence": Decoder(_above_threshold),
    "entropy": Decoder(_by_entropy, steps=64),
    "entropy-bounded": Decoder(_entropy_bounded),
    "factor": Decoder(_factor),
    "first-hitting": Decoder(_first_hitting, follows_steps=True),
    "fronts": Decoder(_fronts),
    "klass": Decoder(_klass, tracks_stability=True),
    "margin": Decoder(_by_margin, steps=64),
    "random": Decoder(_random, steps=64),
    "refill": Decoder(_all, _remask_at_random, steps=10),
    "remdm": Decoder(_remdm, _remask_some, steps=128, grid=_loop_grid),
    "schedule": Decoder(_scheduled, steps=64),
    "topk": Decoder(_top_k),
}


def decoder(name: str) -> Decoder:
    """The decoder of that name. Raises TdiffError naming the nearest."""
    try:
        return DECODERS[name]
    except KeyError:
        raise unknown("decoder", name, DECODERS) from None
