"""Slow, simple versions of the decoders: one row, one position, one number at a time, in Python's float64.

They follow the rules in words, not the engine, and share with it only the numbers of `noise.uniform`, so that the same
seed gives the same text. Details that a rule leaves open are as in the engine: ties go to the earlier position, "random
positions" are those with the largest random numbers, and half a position rounds to even.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from tdiff.config.decoding import DecodeSettings
from tdiff.core.diffusion import noise
from tests.support.models import StubModel

DEFAULT_STEPS = {
    "ancestral": 128,
    "entropy": 64,
    "margin": 64,
    "random": 64,
    "refill": 10,
    "remdm": 128,
    "schedule": 64,
}


class TableDenoiser(StubModel):
    """A model that looks its logits up: they depend on the position and, if `contextual`, on all tokens of the row.

    `seen` holds the rows of each call as lists of tokens; `shares` holds their mask ratios.
    """

    def __init__(self, vocab: int, length: int, mask_id: int, seed: int, contextual: bool = True, spread: float = 2.0):
        generator = torch.Generator().manual_seed(seed)
        self.mask_id = mask_id
        self.contextual = contextual
        self.tables = torch.randn(7, length, vocab, generator=generator) * spread
        self.tables[..., mask_id] = -math.inf
        self.plain = self.tables.tolist()
        self.seen: list[list[list[int]]] = []
        self.shares: list[list[float]] = []

    def page(self, row: list[int]) -> int:
        key = 0
        for token in row:
            key = (key * 31 + token + 1) % 1_000_003
        return key % len(self.plain) if self.contextual else 0

    def look_up(self, row: list[int], position: int) -> list[float]:
        """The logits at one position of one row, for the oracles; this does not count as a call."""
        return self.plain[self.page(row)][position]

    def __call__(self, tokens: Tensor, share: Tensor, where: Tensor) -> Tensor:
        rows = tokens.tolist()
        self.seen.append(rows)
        self.shares.append(share.tolist())
        return torch.stack([self.tables[self.page(row)][: len(row)] for row in rows])[where]


@dataclass
class Moment:
    """The effect of one step on one row; the fields are those of the engine's Step."""

    tokens: list[int]
    confidence: list[float]
    committed: list[bool]
    remasked: list[bool]
    draft: list[int]
    masked: list[bool]
    calls: int
    forced: int


def hidden(schedule: str, t: float) -> float:
    if schedule == "linear":
        return t
    if schedule == "cosine":
        return math.sin(math.pi * t / 2)
    if schedule == "cosine-seed":
        return 1 - math.cos(math.pi * t / 2)
    if schedule == "exponential":
        return (math.exp(3 * t) - 1) / (math.exp(3) - 1)
    if schedule == "polynomial":
        return t * t
    raise AssertionError(schedule)


def nearest(count: float) -> int:
    # Rounding to 4 digits removes float errors first, so that an exact half rounds to even.
    return round(round(count, 4))


def softmax(logits: list[float]) -> list[float]:
    top = max(logits)
    weights = [math.exp(x - top) for x in logits]
    return [w / sum(weights) for w in weights]


def kl(p: list[float], q: list[float]) -> float:
    return sum(x * math.log(x / y) for x, y in zip(p, q, strict=True) if x > 0)


def spans(tokens: list[int], mask: int, span: int) -> dict[int, list[int]]:
    """Start -> tokens of each span without a mask."""
    every = {start: tokens[start : start + span] for start in range(len(tokens) - span + 1)}
    return {start: part for start, part in every.items() if mask not in part}


def repeats(tokens: list[int], mask: int, position: int, span: int) -> set[int]:
    """The tokens that would make, at that position, two spans of `span` tokens equal."""
    filled = [-1 if i == position else token for i, token in enumerate(tokens)]
    parts = spans(filled, mask, span)
    found = set()
    for start in range(max(0, position - span + 1), position + 1):
        for other, part in parts.items():
            if start not in parts or other == start:
                continue
            unequal = [{x, y} for x, y in zip(parts[start], part, strict=True) if x != y]
            values = {max(pair) for pair in unequal}
            if len(values) == 1 and all(-1 in pair for pair in unequal):
                found |= values
    return found


def waiting(tokens: list[int], mask: int, new: list[int], c: dict[int, float], span: int) -> set[int]:
    """The positions of `new` that wait, because the tokens of one step would make two spans equal."""
    waits, last = set(), {}
    for start, part in spans(tokens, mask, span).items():
        if (before := last.get(tuple(part))) is not None:
            both = {*range(before, before + span), *range(start, start + span)} & set(new)
            if len(both) >= 2:
                waits.add(min(both, key=lambda i: (c[i], -i)))
        last[tuple(part)] = start
    return waits


def propose(
    logits: list[float],
    temperature: float,
    top_k: int,
    top_p: float,
    u: float,
    repeated: set[int] = frozenset(),
    penalty: float = 1.0,
    forbidden: set[int] = frozenset(),
) -> tuple[int, float]:
    """The proposed token, and its probability before temperature and truncation. `u` is the uniform random number.

    The tokens in `repeated` are sampled with the power `penalty` of their probability; those in `forbidden` are not
    proposed, unless there is no other.
    """
    p = softmax(logits)
    if repeated:
        logits = [(math.log(x) if x else -math.inf) * (penalty if v in repeated else 1) for v, x in enumerate(p)]
    if forbidden:
        others = [-math.inf if v in forbidden else x for v, x in enumerate(logits)]
        logits = others if max(others) > -math.inf else logits
    likeliest_first = sorted(range(len(p)), key=lambda v: (-logits[v], v))
    if temperature == 0:
        return likeliest_first[0], p[likeliest_first[0]]
    sharp = softmax([x / temperature for x in logits])
    allowed = set(range(len(p)))
    if 0 < top_k < len(p):
        # The k most likely tokens, and those exactly as likely as the last of them.
        allowed = {v for v in allowed if logits[v] >= logits[likeliest_first[top_k - 1]]}
    if top_p < 1:
        # Of the remaining tokens, the most likely ones until their sum reaches top_p; always at least one.
        mass = sum(sharp[v] for v in allowed)
        nucleus: list[int] = []
        reached = 0.0
        for v in likeliest_first:
            if v in allowed and (not nucleus or reached < top_p):
                nucleus.append(v)
                reached += sharp[v] / mass
        allowed = set(nucleus)
    mass = sum(sharp[v] for v in allowed)
    reached = 0.0
    for v in sorted(allowed):
        reached += sharp[v] / mass
        if reached > u:
            return v, p[v]
    return likeliest_first[0], p[likeliest_first[0]]


def most(positions: list[int], score: dict[int, float], count: int) -> list[int]:
    return sorted(positions, key=lambda i: (-score[i], i))[:count]


def decode(
    denoiser: TableDenoiser,
    canvas: list[int],
    frozen: list[bool],
    settings: DecodeSettings,
    row: int = 0,
    first_position: int = 0,
    steps: int | None = None,
    block: range | None = None,
    seen: tuple[dict[int, list[float]], dict[int, int]] | None = None,
) -> list[Moment]:
    """All steps of the decoder of `settings` for one row, or for a block of it in that many steps."""
    name, mask, positions = settings.decoder, denoiser.mask_id, range(len(canvas))
    block = positions if block is None else block
    if steps is None:
        steps = settings.steps or DEFAULT_STEPS.get(name, 0)
    temperature = settings.temperature
    frozen = [f or i not in block for i, f in enumerate(frozen)]
    total = sum(not f for f in frozen)
    last_p, stable = ({}, {}) if seen is None else seen  # passed from block to block
    tokens, confidence = list(canvas), [0.0 if token == mask else 1.0 for token in canvas]
    calls = forced = 0
    last_given: list[int] | None = None
    moments: list[Moment] = []
    while mask in [tokens[i] for i in block]:
        step = len(moments) + 1
        before = list(tokens)
        masked = [i for i in block if before[i] == mask]

        # The model is called only if the canvas has changed.
        if before != last_given:
            calls += 1
            last_given = before

        def numbers(stream: int, step: int = step) -> list[float]:
            names = torch.tensor([row]), torch.arange(first_position, first_position + len(canvas))
            return noise.uniform(settings.seed, step, stream, *names).tolist()

        draw = numbers(0) if temperature else [0.0] * len(canvas)
        proposal, c, margin, entropy, mass = {}, {}, {}, {}, {}
        for i in masked:
            logits = denoiser.look_up(before, i)
            p = sorted(softmax(logits), reverse=True)
            mass[i] = sum(p[: settings.top_k or 3])
            margin[i], entropy[i] = p[0] - p[1], -sum(x * math.log(x) for x in p if x > 0)
            penalty = settings.repetition_penalty
            again = repeats(before, mask, i, settings.repetition_span) if penalty > 1 else set()
            never = repeats(before, mask, i, settings.no_repeat) if settings.no_repeat else set()
            limits = temperature, settings.top_k, settings.top_p
            proposal[i], c[i] = propose(logits, *limits, draw[i], again, penalty, never)
        for i in positions:
            if before[i] != mask:
                continue
            now = softmax(denoiser.look_up(before, i))
            stable[i] = stable[i] + 1 if i in last_p and kl(now, last_p[i]) < settings.kl else 0
            last_p[i] = now

        # The order of the positions.
        by = {"margin": "margin", "entropy": "entropy"}.get(name, settings.rank)
        rank = {"confidence": c, "margin": margin, "entropy": {i: -h for i, h in entropy.items()}, "top-k-mass": mass}[
            by
        ]

        # The positions that the rule unmasks.
        if name in DEFAULT_STEPS or (name == "first-hitting" and settings.steps):
            hidden_t = hidden_at((steps - step + 1) / steps, settings)
            hidden_s = hidden_at((steps - step) / steps, settings)
            due = max(1, len(masked) - nearest(total * hidden_s))
        if name == "ancestral":
            dice = numbers(1)
            commit = [i for i in masked if dice[i] < (hidden_t - hidden_s) / hidden_t]
        elif name == "confidence":
            sure = mass if by == "top-k-mass" else c
            commit = [i for i in masked if sure[i] >= settings.threshold] or most(masked, rank, 1)
        elif name == "topk":
            commit = most(masked, rank, settings.k or max(1, total // 10))
        elif name in ("schedule", "margin", "entropy"):
            commit = most(masked, rank, due)
        elif name == "factor":
            ordered = most(masked, c, len(masked))
            fits = [n for n in range(1, len(masked) + 1) if c[ordered[n - 1]] >= 1 - settings.factor / (n + 1)]
            commit = ordered[: max(fits, default=1)]
        elif name == "entropy-bounded":
            ordered = most(masked, {i: -h for i, h in entropy.items()}, len(masked))
            commit = ordered[:1]
            while len(commit) < len(ordered):
                more = ordered[: len(commit) + 1]
                if sum(entropy[i] for i in more) - max(entropy[i] for i in more) > settings.gamma:
                    break
                commit = more
        elif name == "first-hitting" and settings.steps:
            arrival = numbers(1, 0)
            commit = [i for i in masked if arrival[i] >= hidden_s]
        elif name == "first-hitting":
            commit = most(masked, dict(enumerate(numbers(1))), 1)
        elif name == "autoregressive":
            commit = masked[:1]
        elif name == "fronts":
            free = [i for i in positions if not frozen[i]]
            size = -(-len(free) // settings.parts)
            parts = [free[start : start + size] for start in range(0, len(free), size)]
            # The other parts wait for one with a position that had to wait (no_repeat).
            offset = {i: n for part in parts for n, i in enumerate(part) if i in masked}
            commit = [i for i in masked if offset[i] == min(offset.values())]
        elif name == "klass":
            commit = [i for i in masked if c[i] > settings.threshold and stable[i] >= settings.history]
            commit = commit or most(masked, c, 1)
        elif name == "remdm":
            # With remasking at rate r: how many more must be unmasked to follow the schedule.
            rate = remask_rate((steps - step + 1) / steps, hidden_t, hidden_s, settings)
            held = 0.0 if settings.remask == "conf" else rate
            dice = numbers(1)
            commit = [i for i in masked if dice[i] < 1 - (hidden_s - held * (1 - hidden_t)) / hidden_t]
        elif name == "random":
            commit = most(masked, dict(enumerate(numbers(1))), due)
        elif name == "refill":
            commit = masked
        else:
            raise AssertionError(name)
        if step == steps:
            forced += len(masked) - len(commit)
            commit = masked
        elif settings.no_repeat:
            after = [proposal[i] if i in commit else token for i, token in enumerate(before)]
            commit = [i for i in commit if i not in waiting(after, mask, commit, c, settings.no_repeat)]
        for i in commit:
            tokens[i], confidence[i] = proposal[i], c[i]

        # The positions that it remasks.
        if name == "remdm":
            dice = numbers(2)
            unmasked = [i for i in positions if not frozen[i] and before[i] != mask]
            unsure = {i: math.exp(-confidence[i]) for i in unmasked}
            for i in unmasked:
                own = rate * unsure[i] / sum(unsure.values()) if settings.remask == "conf" else rate
                if dice[i] < own:
                    tokens[i], confidence[i] = mask, 0.0
        if name == "refill":
            again = dict(enumerate(numbers(2)))
            for i in most([i for i in positions if not frozen[i]], again, nearest(total * hidden_s)):
                tokens[i], confidence[i] = mask, 0.0

        moments.append(
            Moment(
                tokens=list(tokens),
                confidence=list(confidence),
                committed=[before[i] == mask and tokens[i] != mask for i in positions],
                remasked=[before[i] != mask and tokens[i] == mask for i in positions],
                draft=[
                    tokens[i] if tokens[i] != mask else proposal.get(i, mask) if before[i] == mask else before[i]
                    for i in positions
                ],
                masked=[token == mask for token in tokens],
                calls=calls,
                forced=forced,
            )
        )
    return moments


def hidden_at(t: float, settings: DecodeSettings) -> float:
    """The mask ratio at time t: for ReMDM's loop the schedule is stretched on both sides of a level."""
    if settings.decoder != "remdm" or settings.remask != "loop" or t in (0.0, 1.0):
        return hidden(settings.schedule, t)
    if t > settings.t_on:
        return 1 - settings.alpha_on * (1 - hidden(settings.schedule, (t - settings.t_on) / (1 - settings.t_on)))
    if t > settings.t_off:
        return 1 - settings.alpha_on
    return (1 - settings.alpha_on) * hidden(settings.schedule, t / settings.t_off)


def remask_rate(t: float, hidden_t: float, hidden_s: float, settings: DecodeSettings) -> float:
    if hidden_s == 0:
        return 0.0
    highest = min(1.0, hidden_s / (1 - hidden_t)) if hidden_t < 1 else 1.0
    if settings.remask == "cap":
        return min(settings.eta, highest)
    if settings.remask == "loop":
        return min(settings.eta, highest) if settings.t_off < t <= settings.t_on else 0.0
    return settings.eta * highest


def blocks(frozen: list[bool], size: int) -> list[range]:
    """The blocks of a row, from its first maskable position to its last."""
    if all(frozen):
        return []
    first, end = frozen.index(False), len(frozen) - frozen[::-1].index(False)
    return [range(i, min(i + size, len(frozen))) for i in range(first, end, size)]


def in_blocks(
    denoiser: TableDenoiser,
    canvas: list[int],
    frozen: list[bool],
    settings: DecodeSettings,
    row: int = 0,
    first_position: int = 0,
) -> list[Moment]:
    """Like `decode`, one block after the other; the steps are divided among the blocks."""
    own = blocks(frozen, settings.block)
    steps = settings.steps or DEFAULT_STEPS.get(settings.decoder, 0)
    each = math.ceil(steps / (len(own) or 1))
    tokens, calls, forced = list(canvas), 0, 0
    confidence = [0.0 if token == denoiser.mask_id else 1.0 for token in canvas]
    moments: list[Moment] = []
    seen: tuple[dict[int, list[float]], dict[int, int]] = {}, {}
    for block in own:
        for moment in decode(denoiser, tokens, frozen, settings, row, first_position, each, block, seen):
            moment.confidence = [c if i in block else confidence[i] for i, c in enumerate(moment.confidence)]
            moment.calls, moment.forced = moment.calls + calls, moment.forced + forced
            moments.append(moment)
        if moments:
            last = moments[-1]
            tokens, confidence, calls, forced = last.tokens, last.confidence, last.calls, last.forced
    return moments


def slide(
    denoiser: TableDenoiser, canvas: list[int], frozen: list[bool], window: int, overlap: int, settings: DecodeSettings
) -> tuple[list[int], int]:
    """The text of one row that is longer than the window, and its number of steps."""
    tokens, steps, start, done = list(canvas), 0, 0, 0
    while done < len(tokens):
        end = min(start + window, len(tokens))
        held = [frozen[i] or i < done for i in range(start, end)]
        moments = decode(denoiser, tokens[start:end], held, settings, first_position=start)
        if moments:
            tokens[start:end] = moments[-1].tokens
        steps += len(moments)
        start, done = end - overlap, end
    return tokens, steps
