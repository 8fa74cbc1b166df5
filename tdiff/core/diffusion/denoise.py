"""The denoising loop: it fills the masks of a canvas step by step. `blocks` composes runs of it.

It is a generator of frozen `Step` records, without callbacks or history: `generate` takes the last step, a trace takes
all steps, a test takes the first three.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tdiff.config.decoding import DecodeSettings
from tdiff.core.diffusion import noise
from tdiff.core.diffusion.alternatives import likeliest
from tdiff.core.diffusion.decoders import Decoder, StabilityTracker, StepState, decoder, propose
from tdiff.core.diffusion.repetition import completed_together, repeated
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
    likeliest: Tensor | None = None
    """(B, L, WIDTH): what the model predicted in this step, as `alternatives.likeliest` returns it; None unless it was
    requested."""
    made_by: tuple[Model, DecodeSettings] | None = field(default=None, compare=False)
    """The network that predicted, and its settings; None for a canvas before its first step."""


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
    earlier: Tensor | None = None,
    detail: bool = False,
) -> Iterator[Step]:
    """Fill the masks of `canvas` (B, L) int64. Yields a Step for each step of the decoder.

    `frozen` (B, L) bool marks positions that no decoder may change; by default all that hold a token. `rows` (B,) int64
    names the rows, and `first_position` the position of the canvas's first token, for the noise: a row's text depends
    on the seed, its name and its own canvas, never on the batch. A row that a step did not change is not given to the
    model again, nor is a finished one.

    A caller that decodes in blocks gives `within` (B, L) bool, the positions to fill, `steps`, their part of the
    decoder's steps, and `stability` and `cache`, the state that all blocks share. With `more_blocks` the caller checks
    for logits that are not finite after the last block. `earlier` (B, P) int64 are the tokens before the canvas, which
    the model does not see and whose spans are not repeated either. With `detail` the steps have `likeliest`.

    Raises TdiffError for a frozen position that holds a mask, and for logits that are not finite.
    """
    settings = settings or DecodeSettings()
    run = _Run(model, canvas, frozen, settings, rows, first_position, within, steps, stability, cache, earlier, detail)
    for index in itertools.count(1):
        run.read_counts(index)
        if not any(run.remaining):
            if run.rule.one_per_step and not more_blocks and bool(run.broken.any()):
                raise not_finite()
            return
        run.update_logits()
        yield run.take_step(index)


class _Run:
    """The state of `denoise` between two steps. Its tensors have B rows of L positions."""

    def __init__(
        self,
        model: Model,
        canvas: Tensor,
        frozen: Tensor | None,
        settings: DecodeSettings,
        rows: Tensor | None,
        first_position: int,
        within: Tensor | None,
        steps: int | None,
        stability: StabilityTracker | None,
        cache: Cache | None,
        earlier: Tensor | None,
        detail: bool,
    ) -> None:
        """The arguments are those of `denoise`."""
        self.model, self.settings, self.detail = model, settings, detail
        self.earlier = canvas[:, :0] if earlier is None else earlier
        self.rule, planned = plan(settings)
        self.steps = planned if steps is None else steps
        scheduled = self.rule.steps or (self.rule.follows_steps and self.steps)
        self.hidden = self.rule.grid(schedule(settings.schedule), self.steps, settings) if scheduled else None
        """hidden(t) at the times of the steps; None without a schedule."""
        masked = canvas == model.spec.mask_id
        frozen = ~masked if frozen is None else frozen
        self.frozen_masks = (masked & frozen).any(1)
        """(B,) bool: rows with a frozen position that holds a mask, which `read_counts` refuses."""
        self.maskable_counts, self.outside = (~frozen).sum(1), torch.zeros_like(masked)
        if within is not None:
            masked, self.outside, frozen = masked & within, masked & ~within, frozen | ~within
        self.tokens, self.masked, self.frozen = canvas, masked, frozen
        self.outside_counts = self.outside.sum(1)
        """(B,) int64: masked positions outside the block, whose positions are `outside` (B, L)."""
        self.rows = (torch.arange(len(canvas), device=canvas.device) if rows is None else rows)[:, None]
        self.columns = torch.arange(first_position, first_position + canvas.size(1), device=canvas.device)
        self.left, self.total = masked.sum(1), (~frozen).sum(1)
        self.confidence = (~masked).float()
        self.calls, self.forced = torch.zeros_like(self.left), torch.zeros_like(self.left)
        self.logits, self.left_at_call = torch.empty(0), self.left
        """The logits (N, V) at the N masked positions, and how many each row had when they were computed."""
        self.changed = self.left > 0
        """(B,) bool: rows that the last step changed, for which the model must be called again."""
        self.cache = model.new_cache(len(canvas)) if cache is None else cache
        if stability is None and self.rule.tracks_stability:
            stability = StabilityTracker(masked | self.outside, settings.kl)
        self.stability = stability
        self.broken = torch.zeros_like(self.left)
        """(B,): not 0 after logits that were not finite."""
        self.remaining: list[int] = []
        """Masked positions of each row, on the host."""
        self.fresh_counts: list[int] = []
        """The same for rows that changed, else 0."""
        self.tracked_outside: list[int] = []
        """Masked positions of each row outside the block, if their stability is tracked, else 0."""

    def read_counts(self, index: int) -> None:
        """Copy the counts of step `index` to the host. This is the only wait for the device in a step.

        Raises TdiffError for a frozen position that holds a mask, and for logits that are not finite.
        """
        if index == 1:
            tracked = self.outside_counts * (self.stability is not None)
            counts = torch.stack((self.left, self.left, self.frozen_masks, tracked))
            self.remaining, self.fresh_counts, refused, self.tracked_outside = counts.tolist()
            if any(refused):
                raise _frozen_mask()
        elif self.rule.one_per_step:  # the counts are known
            ended = index - 1 == self.steps
            self.fresh_counts = self.remaining = [0 if ended else max(0, count - 1) for count in self.remaining]
        else:
            counts = torch.stack((self.left, self.left * self.changed, self.broken))
            self.remaining, self.fresh_counts, refused = counts.tolist()
            if any(refused):
                raise not_finite()

    def update_logits(self) -> None:
        """Set `logits` to those of the positions that are masked now; the model is called for changed rows only."""
        at = indices_of(self.masked, sum(self.remaining))
        seen = self.changed & (self.left > 0)
        fresh = self._call_model(seen) if any(self.fresh_counts) else self.logits[:0]
        if self.fresh_counts == self.remaining:
            self.logits = fresh
        else:
            count = sum(self.fresh_counts)
            self.logits = _merge(self.logits, self.left_at_call, fresh, seen, self.left, at, count)
        self.left_at_call = self.left

    def _call_model(self, seen: Tensor) -> Tensor:
        """Return the logits (n, V) at the n masked positions of the rows `seen` (B,) bool."""
        mask_ratio = (self.left + self.outside_counts) / self.maskable_counts
        # Stability is tracked in later blocks too.
        where = self.masked | self.outside if self.stability else self.masked
        per_row = zip(self.fresh_counts, self.remaining, self.tracked_outside, strict=True)
        asked = [count + extra if fresh else 0 for fresh, count, extra in per_row]
        all_rows = all(self.fresh_counts)
        inputs = Inputs(self.tokens, mask_ratio, where)
        if not all_rows:
            picked = indices_of(seen, sum(map(bool, self.fresh_counts)))
            inputs = Inputs(self.tokens[picked], mask_ratio[picked], where[picked])
        indices_of(inputs.where, sum(asked))
        logits, self.calls = self.model.logits(inputs, self.cache), self.calls + seen
        if self.stability:
            self.stability.update(logits, where, seen, asked)
            inside = self.masked if all_rows else self.masked[indices_of(seen)]
            logits = logits.index_select(0, indices_of(select(inside, inputs.where), sum(self.fresh_counts)))
        return logits

    def take_step(self, index: int) -> Step:
        """Unmask and remask what the decoder selects in step `index`."""

        def uniform(stream: int, step: int = index) -> Tensor:
            return noise.uniform(self.settings.seed, step, stream, self.rows, self.columns)

        masked = self.masked
        draft, score = self._propose(uniform)
        state = self._state(index, score, uniform)
        commit = self.rule.commit(state, self.settings)
        if index == self.steps:
            self.forced = self.forced + (masked & ~commit).sum(1)
            commit = masked
        elif self.settings.no_repeat:
            commit = self._one_by_one(masked & commit, draft, score)
        still = masked & ~commit
        if self.rule.remask:
            still = still | (state.maskable & self.rule.remask(state, self.settings))
        committed, remasked = masked & ~still, still & ~masked
        before = self.tokens
        self.tokens = torch.where(masked & commit, draft, before).masked_fill(still, self.model.spec.mask_id)
        self.confidence = torch.where(committed, score, self.confidence).masked_fill(still, 0.0)
        self.changed = (self.tokens != before).any(1)
        self.masked, self.left = still, still.sum(1)
        return Step(
            index=index,
            tokens=self.tokens,
            confidence=self.confidence,
            committed=committed,
            remasked=remasked,
            draft=draft,
            masked=still | self.outside,
            calls=self.calls,
            forced=self.forced,
            likeliest=likeliest(self.logits, masked) if self.detail else None,
            made_by=(self.model, self.settings),
        )

    def _propose(self, uniform: Callable[..., Tensor]) -> tuple[Tensor, Tensor]:
        """Return the canvas with a proposed token at each masked position, and c there, -1 elsewhere; both (B, L)."""
        settings, masked = self.settings, self.masked
        repeats = self._repeated(settings.repetition_span) if settings.repetition_penalty > 1 else None
        forbidden = self._repeated(settings.no_repeat) if settings.no_repeat else None
        random = select(uniform(noise.PROPOSAL), masked) if settings.temperature else None
        token, c = propose(self.logits, settings, random, repeats, forbidden)
        self.broken = self.broken | ~c.isfinite().all()
        # On another device this would wait; there `read_counts` reads it.
        if self.broken.device.type == "cpu" and bool(self.broken.any()):
            raise not_finite()
        score = torch.full_like(self.confidence, -1.0).masked_scatter(masked, c)
        return self.tokens.masked_scatter(masked, token), score

    def _repeated(self, span: int) -> Tensor:
        """Return (N, V) bool: the tokens at the N masked positions that would repeat a span, see `repeated`."""
        tokens, masked, every = map(self._after_earlier, (self.tokens, self.masked, self.masked | self.outside))
        indices_of(masked, sum(self.remaining))
        return repeated(tokens, masked, every, span, self.logits.size(-1))

    def _one_by_one(self, commit: Tensor, draft: Tensor, score: Tensor) -> Tensor:
        """Return `commit` (B, L) bool without positions that wait, so that no span is repeated by several together."""
        every = (self.masked | self.outside) & ~commit
        tokens, new, masks, c = map(self._after_earlier, (draft, commit, every, score))
        waiting = completed_together(tokens, new, masks, c, self.settings.no_repeat)
        return commit & ~waiting[:, self.earlier.size(1) :]

    def _after_earlier(self, values: Tensor) -> Tensor:
        """Return `values` (B, L) after the tokens before the canvas, or after zeros for those; (B, P + L)."""
        before = (
            self.earlier if values.dtype == self.earlier.dtype else torch.zeros_like(self.earlier, dtype=values.dtype)
        )
        return torch.cat((before, values), 1) if before.size(1) else values

    def _state(self, index: int, score: Tensor, uniform: Callable[..., Tensor]) -> StepState:
        """Return what the decoder may depend on in step `index`; `score` (B, L) is c of the proposed tokens."""
        logits, masked, hidden = self.logits, self.masked, self.hidden

        def spread(function: Callable[[Tensor], Tensor]) -> Tensor:
            values = function(logits.float().softmax(-1))
            return torch.full(masked.shape, -torch.inf, device=masked.device).masked_scatter(masked, values)

        hidden_t, hidden_s = hidden[index - 1 : index + 1] if hidden else (0.0, 0.0)
        return StepState(
            masked=masked,
            maskable=~self.frozen & (self.left > 0)[:, None],
            score=score,
            confidence=self.confidence,
            stable_calls=self.stability.calls if self.stability else _no_stability(masked),
            left=self.left,
            total=self.total,
            time=1 - (index - 1) / self.steps if hidden else 0.0,
            hidden_t=hidden_t,
            hidden_s=hidden_s,
            noise=uniform,
            spread=spread,
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
