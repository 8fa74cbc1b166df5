"""The one denoising loop: from any canvas to a text, a step at a time; and what composes it, blocks and windows.

A generator of frozen `Step` records. It has no callback, no history and no idea who is watching: `generate` takes the
last step, a trace takes all, a test takes the first three.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from tdiff.config.decoding import DecodeSettings
from tdiff.core.diffusion import noise
from tdiff.core.diffusion.decoders import Calm, Decoder, StepState, decoder, propose, repeated
from tdiff.core.diffusion.schedules import schedule
from tdiff.core.mask_indices import chosen, places
from tdiff.core.models.base import Cache, Inputs, Model
from tdiff.errors import TdiffError


@dataclass(frozen=True, slots=True)
class Step:
    """What one step did to B rows of L places. Rows that were finished before it are unchanged."""

    index: int
    """1 for the first step."""
    tokens: Tensor
    """(B, L) int64: the canvas after the step."""
    confidence: Tensor
    """(B, L) float32: c of each revealed token when it was revealed; 1 where it was given, 0 where masked."""
    committed: Tensor
    """(B, L) bool: masked before the step and revealed after it."""
    remasked: Tensor
    """(B, L) bool: revealed before the step and masked after it."""
    draft: Tensor
    """(B, L) int64: the canvas with this step's proposals in the places still masked; outside the block, masks."""
    masked: Tensor
    """(B, L) bool: still masked after the step."""
    calls: Tensor
    """(B,) int64: model calls so far that had the row in their batch."""
    forced: Tensor
    """(B,) int64: places so far that were committed only because the steps ran out."""


def plan(settings: DecodeSettings) -> tuple[Decoder, int]:
    """The decoder and its number of steps, its own where the settings leave it open; 0: no cap."""
    rule = decoder(settings.decoder)
    return rule, settings.steps or rule.steps


@torch.inference_mode()
def denoise(
    model: Model,
    canvas: Tensor,
    frozen: Tensor | None = None,
    settings: DecodeSettings | None = None,
    *,
    rows: Tensor | None = None,
    first_place: int = 0,
    within: Tensor | None = None,
    steps: int | None = None,
    calm: Calm | None = None,
    cache: Cache | None = None,
    rows_go_on: bool = False,
) -> Iterator[Step]:
    """Resolve the masks of `canvas` (B, L) int64, yielding a Step for each step of the decoder.

    `frozen` (B, L) bool marks the places that no decoder may change; by default all that hold a token. `rows` (B,)
    int64 names the rows, and `first_place` the canvas's first place, for the noise: a row's text depends on the seed,
    its name and its own canvas, never on the batch. A row in which a step changed nothing is not given to the model
    again, nor is a finished one. Where `within` (B, L) bool is given, only its places are resolved, and `steps` is
    their share of the decoder's; `calm` is what a decoder that watches distributions has seen of them in the blocks
    before, and with `rows_go_on` other blocks follow, after which whoever called looks for logits that are not finite.
    Raises TdiffError where a frozen place holds a mask, and for logits that are not finite.
    """
    settings = settings or DecodeSettings()
    rule, planned = plan(settings)
    steps = planned if steps is None else steps
    scheduled = rule.steps or (rule.timed and steps)
    hidden = rule.grid(schedule(settings.schedule), steps, settings) if scheduled else None
    tokens, masked = canvas, canvas == model.spec.mask_id
    frozen = ~masked if frozen is None else frozen
    wrong = (masked & frozen).any(1)
    maskable, outside = (~frozen).sum(1), torch.zeros_like(masked)
    if within is not None:
        masked, outside, frozen = masked & within, masked & ~within, frozen | ~within
    waiting = outside.sum(1)
    rows = (torch.arange(len(canvas), device=canvas.device) if rows is None else rows)[:, None]
    columns = torch.arange(first_place, first_place + canvas.size(1), device=canvas.device)
    left, total = masked.sum(1), (~frozen).sum(1)
    confidence = (~masked).float()
    calls, forced = torch.zeros_like(left), torch.zeros_like(left)
    logits, left_then, changed = torch.empty(0), left, left > 0
    cache = model.new_cache(len(canvas)) if cache is None else cache
    calm = calm or (Calm(masked | outside, settings.kl) if rule.watchful else None)
    broken = torch.zeros_like(left)
    remaining: list[int] = []
    behind: list[int] = []  # of each row, the places outside that a decoder watches
    for index in itertools.count(1):
        # The step's one wait for the device: how much is left in each row, and in which rows the canvas has changed.
        if index == 1:
            remaining, news, refused, behind = torch.stack((left, left, wrong, waiting * (calm is not None))).tolist()
            if any(refused):
                raise _frozen_mask()
        elif rule.one_by_one:  # no need to ask
            news = remaining = [max(0, count - 1) if index - 1 != steps else 0 for count in remaining]
        else:
            remaining, news, refused = torch.stack((left, left * changed, broken)).tolist()
            if any(refused):
                raise not_finite()
        if not any(remaining):
            if rule.one_by_one and not rows_go_on and bool(broken.any()):
                raise not_finite()
            return
        at = places(masked, sum(remaining))
        seen, fresh = changed & (left > 0), logits[:0]
        if any(news):
            share = (left + waiting) / maskable
            wide = masked | outside if calm else masked  # later blocks are watched too
            asked = [count + more if new else 0 for new, count, more in zip(news, remaining, behind, strict=True)]
            inputs = Inputs(tokens, share, wide)
            if not all(news):
                some = places(seen, sum(map(bool, news)))
                inputs = Inputs(tokens[some], share[some], wide[some])
            places(inputs.where, sum(asked))
            fresh, calls = model.logits(inputs, cache), calls + seen
            if calm:
                calm.update(fresh, wide, seen, asked)
                inside = masked if all(news) else masked[places(seen)]
                fresh = fresh.index_select(0, places(chosen(inside, inputs.where), sum(news)))
        logits = fresh if news == remaining else _merge(logits, left_then, fresh, seen, left, at, sum(news))
        left_then = left

        def uniform(stream: int, index: int = index) -> Tensor:
            return noise.uniform(settings.seed, index, stream, rows, columns)

        repeats = None
        if settings.repetition_penalty > 1:
            every = masked | outside
            repeats = repeated(tokens, masked, every, settings.repetition_span, logits.size(-1))
        random = chosen(uniform(noise.PROPOSAL), masked) if settings.temperature else None
        token, c = propose(logits, settings, random, repeats)
        broken = broken | ~c.isfinite().all()
        if broken.device.type == "cpu" and bool(broken.any()):  # elsewhere looking would wait, and comes with the rest
            raise not_finite()
        draft = tokens.masked_scatter(masked, token)
        score = torch.full_like(confidence, -1.0).masked_scatter(masked, c)

        def spread(of: Callable[[Tensor], Tensor], logits: Tensor = logits, masked: Tensor = masked) -> Tensor:
            values = of(logits.float().softmax(-1))
            return torch.full(masked.shape, -torch.inf, device=masked.device).masked_scatter(masked, values)

        hidden_t, hidden_s = hidden[index - 1 : index + 1] if hidden else (0.0, 0.0)
        look = StepState(
            masked=masked,
            maskable=~frozen & (left > 0)[:, None],
            score=score,
            confidence=confidence,
            calm=calm.calls if calm else _no_calm(masked),
            left=left,
            total=total,
            time=1 - (index - 1) / steps if hidden else 0.0,
            hidden_t=hidden_t,
            hidden_s=hidden_s,
            noise=uniform,
            spread=spread,
        )
        commit = rule.commit(look, settings)
        if index == steps:
            forced = forced + (masked & ~commit).sum(1)
            commit = masked
        still = masked & ~commit
        if rule.remask:
            still = still | (look.maskable & rule.remask(look, settings))
        committed, remasked = masked & ~still, still & ~masked
        before, tokens = tokens, torch.where(masked & commit, draft, tokens).masked_fill(still, model.spec.mask_id)
        confidence = torch.where(committed, score, confidence).masked_fill(still, 0.0)
        changed = (tokens != before).any(1)
        masked, left = still, still.sum(1)
        yield Step(
            index=index,
            tokens=tokens,
            confidence=confidence,
            committed=committed,
            remasked=remasked,
            draft=draft,
            masked=masked | outside,
            calls=calls,
            forced=forced,
        )


def _no_calm(masked: Tensor) -> Tensor:
    return torch.zeros((), dtype=torch.int64, device=masked.device).expand_as(masked)


def not_finite() -> TdiffError:
    """Return the error for logits that are not finite."""
    return TdiffError(
        "the model gave logits that are not finite, from which no text can be drawn: its weights are damaged, or too "
        "large for the precision it computes in"
    )


def check_frozen(masked: Tensor, frozen: Tensor) -> None:
    """Raise TdiffError if a position of `masked` (B, L) bool is `frozen` (B, L) bool."""
    if (masked & frozen).any():
        raise _frozen_mask()


def _frozen_mask() -> TdiffError:
    return TdiffError("a frozen place holds a mask, which nothing could ever resolve")


def _merge(
    old: Tensor, old_left: Tensor, fresh: Tensor, seen: Tensor, left: Tensor, at: Tensor, fresh_count: int
) -> Tensor:
    """Logits (N, V) of the masked places, the indices `at` (N,) of a canvas: `fresh` in the rows `seen`, in the others
    those of an earlier call.

    `left` and `old_left` (B,) count each row's masked places now and at that call; unseen rows have not changed.
    """
    ends = left.cumsum(0)
    row = torch.searchsorted(ends, torch.arange(len(at), device=at.device), right=True)
    # A place stands as far from the first of its row as it did then.
    before = torch.arange(len(at), device=at.device) + ((old_left.cumsum(0) - old_left) - (ends - left))[row]
    merged = old.index_select(0, before.clamp(0, len(old) - 1))
    return merged.index_copy_(0, places(seen[row], fresh_count), fresh) if fresh_count else merged
