"""The denoising loop: it fills the masks of a canvas step by step. `blocks` composes runs of it.

It is a generator of frozen `Step` records, without callbacks or history: `generate` takes the last step, a trace takes
all steps, a test takes the first three.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from tdiff.config.decoding import DecodeSettings
from tdiff.core.diffusion import noise
from tdiff.core.diffusion.decoders import Decoder, StabilityTracker, StepState, decoder, propose, repeated
from tdiff.core.diffusion.schedules import schedule
from tdiff.core.mask_indices import indices_of, select
from tdiff.core.models.base import Cache, Inputs, Model
from tdiff.errors import TdiffError


@dataclass(frozen=True, slots=True)
class Step:
    """The effect of one step on B rows of L positions. Rows that were finished before it are unchanged."""

    index: int
    """1 for the first step."""
    tokens: Tensor
    """(B, L) int64: the canvas after the step."""
    confidence: Tensor
    """(B, L) float32: c of each token when it was unmasked; 1 at prompt positions, 0 at masked ones."""
    committed: Tensor
    """(B, L) bool: masked before the step and unmasked after it."""
    remasked: Tensor
    """(B, L) bool: unmasked before the step and masked after it."""
    draft: Tensor
    """(B, L) int64: the canvas with this step's proposals at positions still masked; masks outside the block."""
    masked: Tensor
    """(B, L) bool: still masked after the step."""
    calls: Tensor
    """(B,) int64: model calls so far that had the row in their batch."""
    forced: Tensor
    """(B,) int64: positions so far that were unmasked only because the steps ran out."""


def plan(settings: DecodeSettings) -> tuple[Decoder, int]:
    """Return the decoder and its number of steps, the decoder's own if the settings give none; 0: no limit."""
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
    first_position: int = 0,
    within: Tensor | None = None,
    steps: int | None = None,
    stability: StabilityTracker | None = None,
    cache: Cache | None = None,
    more_blocks: bool = False,
) -> Iterator[Step]:
    """Fill the masks of `canvas` (B, L) int64. Yields a Step for each step of the decoder.

    `frozen` (B, L) bool marks positions that no decoder may change; by default all that hold a token. `rows` (B,) int64
    names the rows, and `first_position` the position of the canvas's first token, for the noise: a row's text depends
    on the seed, its name and its own canvas, never on the batch. A row that a step did not change is not given to the
    model again, nor is a finished one.

    A caller that decodes in blocks gives `within` (B, L) bool, the positions to fill, `steps`, their part of the
    decoder's steps, and `stability` and `cache`, the state that all blocks share. With `more_blocks` the caller checks
    for logits that are not finite after the last block.

    Raises TdiffError for a frozen position that holds a mask, and for logits that are not finite.
    """
    settings = settings or DecodeSettings()
    rule, planned = plan(settings)
    steps = planned if steps is None else steps
    scheduled = rule.steps or (rule.follows_steps and steps)
    hidden = rule.grid(schedule(settings.schedule), steps, settings) if scheduled else None
    tokens, masked = canvas, canvas == model.spec.mask_id
    frozen = ~masked if frozen is None else frozen
    wrong = (masked & frozen).any(1)
    maskable, outside = (~frozen).sum(1), torch.zeros_like(masked)
    if within is not None:
        masked, outside, frozen = masked & within, masked & ~within, frozen | ~within
    waiting = outside.sum(1)
    rows = (torch.arange(len(canvas), device=canvas.device) if rows is None else rows)[:, None]
    columns = torch.arange(first_position, first_position + canvas.size(1), device=canvas.device)
    left, total = masked.sum(1), (~frozen).sum(1)
    confidence = (~masked).float()
    calls, forced = torch.zeros_like(left), torch.zeros_like(left)
    logits, left_then, changed = torch.empty(0), left, left > 0
    cache = model.new_cache(len(canvas)) if cache is None else cache
    stability = stability or (StabilityTracker(masked | outside, settings.kl) if rule.tracks_stability else None)
    broken = torch.zeros_like(left)
    remaining: list[int] = []
    later: list[int] = []  # masked positions of each row outside the block, if the decoder tracks them
    for index in itertools.count(1):
        # The only wait for the device in a step: how much is left in each row, and which rows have changed.
        if index == 1:
            remaining, fresh_counts, refused, later = torch.stack(
                (left, left, wrong, waiting * (stability is not None))
            ).tolist()
            if any(refused):
                raise _frozen_mask()
        elif rule.one_per_step:  # the counts are known
            fresh_counts = remaining = [max(0, count - 1) if index - 1 != steps else 0 for count in remaining]
        else:
            remaining, fresh_counts, refused = torch.stack((left, left * changed, broken)).tolist()
            if any(refused):
                raise not_finite()
        if not any(remaining):
            if rule.one_per_step and not more_blocks and bool(broken.any()):
                raise not_finite()
            return
        at = indices_of(masked, sum(remaining))
        seen, fresh = changed & (left > 0), logits[:0]
        if any(fresh_counts):
            mask_ratio = (left + waiting) / maskable
            wide = masked | outside if stability else masked  # stability is tracked in later blocks too
            asked = [
                count + extra if new else 0 for new, count, extra in zip(fresh_counts, remaining, later, strict=True)
            ]
            inputs = Inputs(tokens, mask_ratio, wide)
            if not all(fresh_counts):
                picked = indices_of(seen, sum(map(bool, fresh_counts)))
                inputs = Inputs(tokens[picked], mask_ratio[picked], wide[picked])
            indices_of(inputs.where, sum(asked))
            fresh, calls = model.logits(inputs, cache), calls + seen
            if stability:
                stability.update(fresh, wide, seen, asked)
                inside = masked if all(fresh_counts) else masked[indices_of(seen)]
                fresh = fresh.index_select(0, indices_of(select(inside, inputs.where), sum(fresh_counts)))
        all_fresh = fresh_counts == remaining
        logits = fresh if all_fresh else _merge(logits, left_then, fresh, seen, left, at, sum(fresh_counts))
        left_then = left

        def uniform(stream: int, index: int = index) -> Tensor:
            return noise.uniform(settings.seed, index, stream, rows, columns)

        repeats = None
        if settings.repetition_penalty > 1:
            repeats = repeated(tokens, masked, masked | outside, settings.repetition_span, logits.size(-1))
        random = select(uniform(noise.PROPOSAL), masked) if settings.temperature else None
        token, c = propose(logits, settings, random, repeats)
        broken = broken | ~c.isfinite().all()
        if broken.device.type == "cpu" and bool(broken.any()):  # on another device this would wait; it is read above
            raise not_finite()
        draft = tokens.masked_scatter(masked, token)
        score = torch.full_like(confidence, -1.0).masked_scatter(masked, c)

        def spread(of: Callable[[Tensor], Tensor], logits: Tensor = logits, masked: Tensor = masked) -> Tensor:
            values = of(logits.float().softmax(-1))
            return torch.full(masked.shape, -torch.inf, device=masked.device).masked_scatter(masked, values)

        hidden_t, hidden_s = hidden[index - 1 : index + 1] if hidden else (0.0, 0.0)
        state = StepState(
            masked=masked,
            maskable=~frozen & (left > 0)[:, None],
            score=score,
            confidence=confidence,
            stable_calls=stability.calls if stability else _no_stability(masked),
            left=left,
            total=total,
            time=1 - (index - 1) / steps if hidden else 0.0,
            hidden_t=hidden_t,
            hidden_s=hidden_s,
            noise=uniform,
            spread=spread,
        )
        commit = rule.commit(state, settings)
        if index == steps:
            forced = forced + (masked & ~commit).sum(1)
            commit = masked
        still = masked & ~commit
        if rule.remask:
            still = still | (state.maskable & rule.remask(state, settings))
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


def _no_stability(masked: Tensor) -> Tensor:
    """Return (B, L) zeros of int64."""
    return torch.zeros((), dtype=torch.int64, device=masked.device).expand_as(masked)


def not_finite() -> TdiffError:
    """Return the error for logits that are not finite."""
    return TdiffError(
        "the model returned logits that are not finite, so no token can be sampled: its weights are damaged, or too "
        "large for the precision it computes in"
    )


def check_frozen(masked: Tensor, frozen: Tensor) -> None:
    """Raise TdiffError if a position of `masked` (B, L) bool is `frozen` (B, L) bool."""
    if (masked & frozen).any():
        raise _frozen_mask()


def _frozen_mask() -> TdiffError:
    return TdiffError("a frozen position holds a mask, which no step could fill")


def _merge(
    old: Tensor, old_left: Tensor, fresh: Tensor, seen: Tensor, left: Tensor, at: Tensor, fresh_count: int
) -> Tensor:
    """Return logits (N, V) of the masked positions, the indices `at` (N,) of a canvas: `fresh` in the rows `seen`, in
    the other rows those of an earlier call.

    `left` and `old_left` (B,) count each row's masked positions now and at that call; unseen rows have not changed.
    """
    ends = left.cumsum(0)
    row = torch.searchsorted(ends, torch.arange(len(at), device=at.device), right=True)
    # A position is as far from the first of its row as it was then.
    before = torch.arange(len(at), device=at.device) + ((old_left.cumsum(0) - old_left) - (ends - left))[row]
    merged = old.index_select(0, before.clamp(0, len(old) - 1))
    return merged.index_copy_(0, indices_of(seen[row], fresh_count), fresh) if fresh_count else merged
