"""Decoding policies: which token to propose at a masked place, which places to reveal, which to mask again.

Each policy is a pure function of what it may look at; the choice is a plain dict. To add one, write `commit` (and
`remask`, where it takes places back) and enter it in `DECODERS`, and its name in `tdiff.config.decoding.DECODERS`. A
policy does not know the model, the loop or the batch's other rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tdiff.config.decoding import DecodeSettings
from tdiff.core.diffusion import noise
from tdiff.core.diffusion.schedules import Schedule, reveal_share
from tdiff.core.mask_indices import places
from tdiff.errors import unknown


@dataclass(frozen=True, slots=True)
class StepState:
    """What a policy may look at: B rows of L places, at one step."""

    masked: Tensor
    """(B, L) bool: the places still masked."""
    maskable: Tensor
    """(B, L) bool: the places that are not frozen."""
    score: Tensor
    """(B, L): c, the probability of the proposed token where masked, below 0 elsewhere."""
    confidence: Tensor
    """(B, L): c of each revealed token when it was revealed, 1 where it was given, 0 where masked."""
    calm: Tensor
    """(B, L) int64: for how many calls in a row the distribution of a masked place has moved by less than `kl` nats."""
    left: Tensor
    """(B,) int64: places still masked."""
    total: Tensor
    """(B,) int64: maskable places."""
    time: float
    """t when the step begins, 1 at the first; 0 without a schedule."""
    hidden_t: float
    """Share of places masked when the step begins, by the schedule."""
    hidden_s: float
    """Share of places masked when it ends; 0 at the last step."""
    noise: Callable[..., Tensor]
    """stream -> (B, L) uniform numbers in [0, 1), of this step or of another; see `tdiff.core.diffusion.noise`."""
    spread: Callable[[Callable[[Tensor], Tensor]], Tensor]
    """A function of the distributions (N, V) of the N masked places -> its values (B, L), -inf elsewhere."""


Policy = Callable[[StepState, DecodeSettings], Tensor]


@dataclass(frozen=True, slots=True)
class Decoder:
    """A policy and what it is when nothing more is said. `commit` and `remask` return (B, L) bool."""

    commit: Policy
    remask: Policy | None = None
    steps: int = 0
    """Its number of steps; 0: it follows no schedule and ends when nothing is masked, `steps` being a cap."""
    timed: bool = False
    """Without steps of its own, it follows the schedule where it is given some."""
    one_by_one: bool = False
    """It reveals exactly one place of each row in every step, and takes none back."""
    watchful: bool = False
    """It looks at `Look.calm`, for which the distributions of the last call are kept."""
    grid: Callable[[Schedule, int, DecodeSettings], list[float]] = lambda schedule, steps, _: schedule.grid(steps)
    """hidden() at the times of its steps, from 1 down to 0."""


def propose(
    logits: Tensor, settings: DecodeSettings, noise: Tensor | None, repeats: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """A token for each place, and c, its probability under the model before temperature and truncation.

    `logits` (N, V) with -inf at tokens never to be proposed; `noise` (N,) uniform, or None for greedy; `repeats` (N, V)
    bool, the tokens that the repetition penalty is for. Returns (N,) int64 and (N,) float32. Tokens are drawn by
    inverting the distribution function in float64: float32 noise cuts off the tail and so lowers the real temperature
    (Zheng et al. 2024, arXiv:2409.02908).
    """
    logits = logits.float()
    drawn_from = logits if repeats is None else penalised(logits, repeats, settings.repetition_penalty)
    best, greedy = drawn_from.max(-1)
    if noise is None:
        token = greedy
    else:
        sharp = _truncate(
            (drawn_from - best[:, None]).to(noise.dtype) / settings.temperature, settings.top_k, settings.top_p
        )
        mass = sharp.exp().cumsum(-1)
        drawn = torch.searchsorted(mass, noise[:, None] * mass[:, -1:], right=True).squeeze(-1)
        # A top-p of 0 leaves no mass but the likeliest's, and rounding can push a draw next to 1 past the end.
        token = torch.where(drawn < logits.size(-1), drawn, greedy)
    own = best if drawn_from is logits and noise is None else logits.gather(-1, token[:, None]).squeeze(-1)
    return token, (own - logits.logsumexp(-1)).exp()


def _truncate(logits: Tensor, top_k: int, top_p: float) -> Tensor:
    """`logits` (N, V) with -inf outside the top k and outside the nucleus (Holtzman et al. 2019, arXiv:1904.09751)."""
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


def repeated(tokens: Tensor, masked: Tensor, every: Tensor, span: int, vocabulary: int) -> Tensor:
    """(N, V) bool: for each of the N `masked` places, the tokens that would end a span which stands in the row already.

    `tokens` (B, L) int64; `every` (B, L) bool, all masks, no span has one. A span of 1 is any token of the row.
    """
    rows, length = tokens.shape
    if span > length:
        return torch.zeros(len(places(masked)), vocabulary, dtype=torch.bool, device=tokens.device)
    # The span - 1 tokens before each place, as one number; below 0 where one of them is masked or out of the row.
    before = tokens.new_zeros(rows, length)
    whole = torch.ones_like(masked)
    for back in range(1, span):
        shifted = tokens.roll(back, 1)
        before = before * _BASE + shifted + 1  # overflows wrap; two spans that meet in 64 bits are a rare mistake
        whole &= ~every.roll(back, 1)
        whole[:, :back] = False
    row, place = places(masked).div(length, rounding_mode="floor"), places(masked) % length
    same = (before[row] == before[row, place][:, None]) & whole[row] & whole[row, place][:, None] & ~every[row]
    hits = torch.zeros(len(row), vocabulary, dtype=torch.int32, device=tokens.device)
    return hits.scatter_add_(1, tokens[row], same.to(torch.int32)) > 0


_BASE = 0x100000001B3


def penalised(logits: Tensor, repeats: Tensor, penalty: float) -> Tensor:
    """Log p (N, V), times `penalty` where a token `repeats` (after Keskar et al. 2019, arXiv:1909.05858, eq. 1).

    Theirs divides logits, whose sign and size mean nothing; of probabilities this is p to the power of `penalty`.
    """
    log_p = logits.log_softmax(-1)
    return torch.where(repeats, log_p * penalty, log_p)


def best(score: Tensor, count: Tensor) -> Tensor:
    """(B, L) bool: the `count` (B,) places of each row with the highest `score`; ties go to the earlier place."""
    order = score.argsort(dim=-1, descending=True, stable=True)
    chosen = torch.arange(score.size(-1), device=score.device) < count[:, None]
    return torch.zeros_like(chosen).scatter(-1, order, chosen)


def _staying(look: StepState) -> Tensor:
    """(B,) int64: how many places the schedule leaves masked after the step; half a place rounds to even."""
    exact = look.total.to(noise.precise(look.total.device)) * look.hidden_s
    # Half a place but for rounding errors is half a place. (MPS lacks `decimals` in torch 2.6.)
    return ((exact * 1e4).round() / 1e4).round().long()


def _due(look: StepState) -> Tensor:
    """(B,) int64: how many places to reveal so that the scheduled number stays masked, at least one."""
    return (look.left - _staying(look)).clamp(min=1)


def _margin(p: Tensor) -> Tensor:
    """p1 - p2, of distributions (N, V)."""
    top = p.topk(min(2, p.size(-1)), -1).values
    return top[:, 0] - (top[:, 1] if top.size(-1) > 1 else 0.0)


def _certainty(p: Tensor) -> Tensor:
    """-H in nats, of distributions (N, V)."""
    return (p * p.clamp(min=1e-38).log()).sum(-1)


_RANKS = {"margin": _margin, "entropy": _certainty}
_TOP = 3
"""Tokens of top-k-mass where draws are not limited to some: tiny-diffusion's."""


def _rank(look: StepState, name: str, top: int = 0) -> Tensor:
    """(B, L): the higher the sooner a masked place is revealed; below all others where nothing is masked.

    c (Fast-dLLM), p1 - p2 (Kim et al. 2025, arXiv:2502.06768), -H (Dream), or p1 + ... + pk of the `top` k
    (tiny-diffusion).
    """
    if name == "top-k-mass":
        return look.spread(lambda p: p.topk(min(top or _TOP, p.size(-1)), -1).values.sum(-1))
    return look.score if name == "confidence" else look.spread(_RANKS[name])


def _above_threshold(look: StepState, settings: DecodeSettings) -> Tensor:
    """All with c >= threshold, or else the most confident one (Fast-dLLM, Wu et al. 2025, arXiv:2505.22618).

    With top-k-mass that mass is held against the threshold, as tiny-diffusion does.
    """
    rank = _rank(look, settings.rank, settings.top_k)
    sure = look.masked & ((rank if settings.rank == "top-k-mass" else look.score) >= settings.threshold)
    none = ~sure.any(-1, keepdim=True)
    first = rank.argmax(-1, keepdim=True)
    return sure.scatter(-1, first, none | sure.gather(-1, first))


def _top_k(look: StepState, settings: DecodeSettings) -> Tensor:
    """The k most confident."""
    k = torch.full_like(look.total, settings.k) if settings.k else (look.total // 10).clamp(min=1)
    return best(_rank(look, settings.rank, settings.top_k), torch.minimum(k, look.left))


def _scheduled(look: StepState, settings: DecodeSettings) -> Tensor:
    """The scheduled number, most confident first (MaskGIT; LLaDA's low-confidence remasking)."""
    return best(_rank(look, settings.rank, settings.top_k), _due(look))


def _by_margin(look: StepState, settings: DecodeSettings) -> Tensor:
    return best(_rank(look, "margin"), _due(look))


def _by_entropy(look: StepState, settings: DecodeSettings) -> Tensor:
    return best(_rank(look, "entropy"), _due(look))


def _factor(look: StepState, settings: DecodeSettings) -> Tensor:
    """In order of confidence, the most places n whose n-th has c >= 1 - f / (n + 1); at least one (Fast-dLLM)."""
    falling = look.score.sort(-1, descending=True).values
    n = torch.arange(1, falling.size(-1) + 1, device=falling.device)
    enough = (falling >= 1 - settings.factor / (n + 1)) & (n <= look.left[:, None])
    return best(look.score, (enough * n).amax(-1).clamp(min=1))


def _entropy_bounded(look: StepState, settings: DecodeSettings) -> Tensor:
    """In order of entropy, as many as keep the sum of all but the largest within gamma (Ben-Hamu et al. 2025,
    arXiv:2505.24857): no more than that can be lost by drawing them independently.
    """
    certainty = look.spread(_certainty)
    entropy = certainty.sort(-1, descending=True).values.neg()
    count = torch.arange(1, entropy.size(-1) + 1, device=entropy.device)
    entropy = entropy.masked_fill(count > look.left[:, None], torch.inf)
    before = entropy.cumsum(-1) - entropy  # of a rising row, the last is the largest
    within = (before.nan_to_num(torch.inf, torch.inf) <= settings.gamma) & (count <= look.left[:, None])
    return best(certainty, within.sum(-1).clamp(min=1))


def _first_hitting(look: StepState, settings: DecodeSettings) -> Tensor:
    """Each place at a time of its own, drawn once for all steps (Zheng et al. 2024, arXiv:2409.02908).

    Without a grid of times one place a step, anywhere: the limit of ancestral for ever more steps. With one, ancestral
    itself in law, and no step but those in which something is revealed asks the model.
    """
    if not settings.steps:
        return best(look.noise(noise.ORDER).masked_fill(~look.masked, -1.0), torch.ones_like(look.left))
    return look.masked & (look.noise(noise.ORDER, 0) >= look.hidden_s)


def _random(look: StepState, settings: DecodeSettings) -> Tensor:
    """The scheduled number, anywhere."""
    return best(look.noise(noise.ORDER).masked_fill(~look.masked, -1.0), _due(look))


def _ancestral(look: StepState, settings: DecodeSettings) -> Tensor:
    """Each place by itself with probability (hidden(t) - hidden(s)) / hidden(t) (D3PM; MDLM, arXiv:2406.07524)."""
    return look.masked & (look.noise(noise.ORDER) < reveal_share(look.hidden_t, look.hidden_s))


def _leftmost(look: StepState, settings: DecodeSettings) -> Tensor:
    """From left to right, as a causal model writes."""
    return look.masked & (look.masked.cumsum(-1) == 1)


def _all(look: StepState, settings: DecodeSettings) -> Tensor:
    return look.masked


def _remask_at_random(look: StepState, settings: DecodeSettings) -> Tensor:
    """hidden(s) of all maskable places, chosen anywhere (text-diffusion)."""
    return best(look.noise(noise.REMASK).masked_fill(~look.maskable, -1.0), _staying(look))


class Calm:
    """For how many calls in a row the distribution of each masked place has moved by less than `limit` nats.

    KL(p now || p at the last call) of places that were masked at both.
    """

    def __init__(self, masked: Tensor, limit: float) -> None:
        self.limit, self._masked = limit, masked
        self._log_p: Tensor | None = None
        self._counts = [0] * len(masked)
        self.calls = torch.zeros(masked.shape, dtype=torch.int64, device=masked.device)
        """(B, L): how many calls."""

    def update(self, logits: Tensor, masked: Tensor, seen: Tensor, counts: list[int]) -> None:
        """Count with the `logits` (N, V) of the places `masked` (B, L) of the rows `seen` (B,): `counts` of each row.

        What is masked now was masked at the row's last call too. Of other rows nothing is new.
        """
        log_p = logits.float().log_softmax(-1)
        new = masked & seen[:, None]
        here, count = places(new, sum(counts)), sum(counts)
        if self._log_p is None:
            self._keep(new, log_p, counts)
            return
        # Where the last distribution of each place is kept; -1 for those of a row that is seen for the first time.
        slot = torch.full((masked.numel(),), -1, device=masked.device)
        slot[places(self._masked)] = torch.arange(len(self._log_p), device=masked.device)
        before = slot[here]
        change = (log_p - self._log_p.index_select(0, before.clamp(min=0))).nan_to_num(0.0)
        moved = torch.where(before < 0, torch.inf, (log_p.exp() * change).sum(-1))  # -inf less -inf has no weight
        calm = torch.where(moved < self.limit, self.calls.flatten()[here] + 1, 0)
        unseen = self.calls * ~seen[:, None]
        self.calls = unseen.flatten().index_copy(0, here, calm).view_as(unseen)
        left_over = [0 if now else then for now, then in zip(counts, self._counts, strict=True)]
        if any(left_over):
            kept = self._masked & ~seen[:, None]
            there, every = places(kept, sum(left_over)), kept | new
            both = torch.cat((log_p, self._log_p.index_select(0, slot[there])))
            slot[here] = torch.arange(count, device=masked.device)
            slot[there] = torch.arange(count, len(both), device=masked.device)
            log_p = both.index_select(0, slot[places(every, len(both))])
            counts = [now or then for now, then in zip(counts, left_over, strict=True)]
            new = every
        self._keep(new, log_p, counts)

    def _keep(self, masked: Tensor, log_p: Tensor, counts: list[int]) -> None:
        self._masked, self._log_p, self._counts = masked, log_p, counts


def _klass(look: StepState, settings: DecodeSettings) -> Tensor:
    """All with c > threshold that have been calm for some calls, or else the most confident one (Kim et al. 2025,
    arXiv:2511.05664): a distribution that still moves waits for what its neighbours will be.
    """
    sure = look.masked & (look.score > settings.threshold) & (look.calm >= settings.history)
    return sure | (best(look.score, torch.ones_like(look.left)) & ~sure.any(-1, keepdim=True))


def _remask_rate(look: StepState, settings: DecodeSettings) -> float:
    """The share of what is revealed that ReMDM masks again, of all places alike."""
    most = min(1.0, look.hidden_s / max(1.0 - look.hidden_t, 1e-12))
    if settings.remask == "rescale":
        return settings.eta * most
    if settings.remask == "loop" and not settings.t_off < look.time <= settings.t_on:
        return 0.0
    return min(settings.eta, most)


def _remdm(look: StepState, settings: DecodeSettings) -> Tensor:
    """Ancestral, and as many more as make up for those masked again (Wang et al. 2025, arXiv:2503.00307)."""
    rate = 0.0 if settings.remask == "conf" else _remask_rate(look, settings)
    return look.masked & (look.noise(noise.ORDER) < reveal_share(look.hidden_t, look.hidden_s, rate))


def _remask_some(look: StepState, settings: DecodeSettings) -> Tensor:
    """Each revealed place by itself at ReMDM's rate; with conf at its own share of the highest rate there is."""
    revealed = look.maskable & ~look.masked
    if settings.remask != "conf":
        return revealed & (look.noise(noise.REMASK) < _remask_rate(look, settings))
    most = min(1.0, look.hidden_s / max(1.0 - look.hidden_t, 1e-12))
    share = (-look.confidence).masked_fill(~revealed, -torch.inf).softmax(-1)  # NaN where nothing is: below nothing
    return revealed & (look.noise(noise.REMASK) < settings.eta * most * share)


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
    "autoregressive": Decoder(_leftmost, one_by_one=True),
    "confidence": Decoder(_above_threshold),
    "entropy": Decoder(_by_entropy, steps=64),
    "entropy-bounded": Decoder(_entropy_bounded),
    "factor": Decoder(_factor),
    "first-hitting": Decoder(_first_hitting, timed=True),
    "klass": Decoder(_klass, watchful=True),
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
