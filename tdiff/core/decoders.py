"""Decoding policies: which token to propose at a masked place, which places to reveal, which to mask again.

Each policy is a pure function of what it may look at; the choice is a plain dict. To add one, write `commit` (and
`remask`, where it takes places back) and enter it in `DECODERS`, and its name in `tdiff.config.DECODERS`. It does not
know the model, the loop or the batch's other rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tdiff.config import DecodeSettings
from tdiff.core import noise
from tdiff.core.schedules import reveal_share
from tdiff.errors import unknown


@dataclass(frozen=True, slots=True)
class Look:
    """What a policy may look at: B rows of L places, at one step."""

    masked: Tensor
    """(B, L) bool: the places still masked."""
    maskable: Tensor
    """(B, L) bool: the places that are not frozen."""
    score: Tensor
    """(B, L): c, the probability of the proposed token where masked, below 0 elsewhere."""
    left: Tensor
    """(B,) int64: places still masked."""
    total: Tensor
    """(B,) int64: maskable places."""
    hidden_t: float
    """Share of places masked when the step begins, by the schedule."""
    hidden_s: float
    """Share of places masked when it ends; 0 at the last step."""
    noise: Callable[..., Tensor]
    """stream -> (B, L) uniform numbers in [0, 1), of this step or of another; see `tdiff.core.noise`."""
    spread: Callable[[Callable[[Tensor], Tensor]], Tensor]
    """A function of the distributions (N, V) of the N masked places -> its values (B, L), -inf elsewhere."""


Policy = Callable[[Look, DecodeSettings], Tensor]


@dataclass(frozen=True, slots=True)
class Decoder:
    """A policy and what it is when nothing more is said. `commit` and `remask` return (B, L) bool."""

    commit: Policy
    remask: Policy | None = None
    steps: int = 0
    """Its number of steps; 0: it follows no schedule and ends when nothing is masked, `steps` being a cap."""
    timed: bool = False
    """Without steps of its own, it follows the schedule where it is given some."""


def propose(logits: Tensor, settings: DecodeSettings, noise: Tensor | None) -> tuple[Tensor, Tensor]:
    """A token for each place, and c, its probability under the model before temperature and truncation.

    `logits` (N, V) with -inf at tokens never to be proposed; `noise` (N,) uniform, or None for greedy. Returns (N,)
    int64 and (N,) float32. Tokens are drawn by inverting the distribution function in float64: float32 noise cuts off
    the tail and so lowers the real temperature (Zheng et al. 2024, arXiv:2409.02908).
    """
    logits = logits.float()
    best, greedy = logits.max(-1)
    if noise is None:
        token = greedy
    else:
        sharp = _truncate(
            (logits - best[:, None]).to(noise.dtype) / settings.temperature, settings.top_k, settings.top_p
        )
        mass = sharp.exp().cumsum(-1)
        drawn = torch.searchsorted(mass, noise[:, None] * mass[:, -1:], right=True).squeeze(-1)
        # A top-p of 0 leaves no mass but the likeliest's, and rounding can push a draw next to 1 past the end.
        token = torch.where(drawn < logits.size(-1), drawn, greedy)
        best = logits.gather(-1, token[:, None]).squeeze(-1)
    return token, (best - logits.logsumexp(-1)).exp()


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


def best(score: Tensor, count: Tensor) -> Tensor:
    """(B, L) bool: the `count` (B,) places of each row with the highest `score`; ties go to the earlier place."""
    order = score.argsort(dim=-1, descending=True, stable=True)
    chosen = torch.arange(score.size(-1), device=score.device) < count[:, None]
    return torch.zeros_like(chosen).scatter(-1, order, chosen)


def _staying(look: Look) -> Tensor:
    """(B,) int64: how many places the schedule leaves masked after the step; half a place rounds to even."""
    exact = look.total.to(noise.precise(look.total.device)) * look.hidden_s
    return exact.round(decimals=4).round().long()  # half a place but for rounding errors is half a place


def _due(look: Look) -> Tensor:
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


def _rank(look: Look, name: str) -> Tensor:
    """(B, L): the higher the sooner a masked place is revealed; below all others where nothing is masked.

    c (Fast-dLLM), p1 - p2 (Kim et al. 2025, arXiv:2502.06768) or -H (Dream).
    """
    return look.score if name == "confidence" else look.spread(_RANKS[name])


def _above_threshold(look: Look, settings: DecodeSettings) -> Tensor:
    """All with c >= threshold, or else the most confident one (Fast-dLLM, Wu et al. 2025, arXiv:2505.22618)."""
    sure = look.masked & (look.score >= settings.threshold)
    none = ~sure.any(-1, keepdim=True)
    first = _rank(look, settings.rank).argmax(-1, keepdim=True)
    return sure.scatter(-1, first, none | sure.gather(-1, first))


def _top_k(look: Look, settings: DecodeSettings) -> Tensor:
    """The k most confident."""
    k = torch.full_like(look.total, settings.k) if settings.k else (look.total // 10).clamp(min=1)
    return best(_rank(look, settings.rank), torch.minimum(k, look.left))


def _scheduled(look: Look, settings: DecodeSettings) -> Tensor:
    """The scheduled number, most confident first (MaskGIT; LLaDA's low-confidence remasking)."""
    return best(_rank(look, settings.rank), _due(look))


def _by_margin(look: Look, settings: DecodeSettings) -> Tensor:
    return best(_rank(look, "margin"), _due(look))


def _by_entropy(look: Look, settings: DecodeSettings) -> Tensor:
    return best(_rank(look, "entropy"), _due(look))


def _factor(look: Look, settings: DecodeSettings) -> Tensor:
    """In order of confidence, the most places n whose n-th has c >= 1 - f / (n + 1); at least one (Fast-dLLM)."""
    falling = look.score.sort(-1, descending=True).values
    n = torch.arange(1, falling.size(-1) + 1, device=falling.device)
    enough = (falling >= 1 - settings.factor / (n + 1)) & (n <= look.left[:, None])
    return best(look.score, (enough * n).amax(-1).clamp(min=1))


def _entropy_bounded(look: Look, settings: DecodeSettings) -> Tensor:
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


def _first_hitting(look: Look, settings: DecodeSettings) -> Tensor:
    """Each place at a time of its own, drawn once for all steps (Zheng et al. 2024, arXiv:2409.02908).

    Without a grid of times one place a step, anywhere: the limit of ancestral for ever more steps. With one, ancestral
    itself in law, and no step but those in which something is revealed asks the model.
    """
    if not settings.steps:
        return best(look.noise(noise.ORDER).masked_fill(~look.masked, -1.0), torch.ones_like(look.left))
    return look.masked & (look.noise(noise.ORDER, 0) >= look.hidden_s)


def _random(look: Look, settings: DecodeSettings) -> Tensor:
    """The scheduled number, anywhere."""
    return best(look.noise(noise.ORDER).masked_fill(~look.masked, -1.0), _due(look))


def _ancestral(look: Look, settings: DecodeSettings) -> Tensor:
    """Each place by itself with probability (hidden(t) - hidden(s)) / hidden(t) (D3PM; MDLM, arXiv:2406.07524)."""
    return look.masked & (look.noise(noise.ORDER) < reveal_share(look.hidden_t, look.hidden_s))


def _all(look: Look, settings: DecodeSettings) -> Tensor:
    return look.masked


def _remask_at_random(look: Look, settings: DecodeSettings) -> Tensor:
    """hidden(s) of all maskable places, chosen anywhere (text-diffusion)."""
    return best(look.noise(noise.REMASK).masked_fill(~look.maskable, -1.0), _staying(look))


DECODERS: dict[str, Decoder] = {
    "ancestral": Decoder(_ancestral, steps=128),
    "confidence": Decoder(_above_threshold),
    "entropy": Decoder(_by_entropy, steps=64),
    "entropy-bounded": Decoder(_entropy_bounded),
    "factor": Decoder(_factor),
    "first-hitting": Decoder(_first_hitting, timed=True),
    "margin": Decoder(_by_margin, steps=64),
    "random": Decoder(_random, steps=64),
    "refill": Decoder(_all, _remask_at_random, steps=10),
    "schedule": Decoder(_scheduled, steps=64),
    "topk": Decoder(_top_k),
}


def decoder(name: str) -> Decoder:
    """The decoder of that name. Raises TdiffError naming the nearest."""
    try:
        return DECODERS[name]
    except KeyError:
        raise unknown("decoder", name, DECODERS) from None
