"""The one denoising loop: from any canvas to a text, a step at a time; and what composes it, blocks and windows.

A generator of frozen `Step` records. It has no callback, no history and no idea who is watching: `generate` takes the
last step, a trace takes all, a test takes the first three.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from tdiff.config.decoding import DecodeSettings
from tdiff.core.diffusion import noise
from tdiff.core.diffusion.decoders import Calm, Decoder, StepState, decoder, propose, repeated
from tdiff.core.diffusion.schedules import schedule
from tdiff.core.mask_indices import chosen, places
from tdiff.errors import TdiffError


class Denoiser(Protocol):
    """Any (tokens, share) -> logits. Differences between models are wrappers with this signature."""

    @property
    def mask_id(self) -> int:
        """The id of the mask."""
        ...

    def __call__(self, tokens: Tensor, share: Tensor, where: Tensor) -> Tensor:
        """Logits (N, V) at the N places, row by row, where `where` (B, L) is true; -inf at tokens never proposed.

        `tokens` (B, L) int64; `share` (B,) float32, the share of maskable places that are masked, for models that are
        told the time.
        """
        ...


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
    denoiser: Denoiser,
    canvas: Tensor,
    frozen: Tensor | None = None,
    settings: DecodeSettings | None = None,
    *,
    rows: Tensor | None = None,
    first_place: int = 0,
    within: Tensor | None = None,
    steps: int | None = None,
    calm: Calm | None = None,
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
    tokens, masked = canvas, canvas == denoiser.mask_id
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
                raise _not_finite()
        if not any(remaining):
            if rule.one_by_one and not rows_go_on and bool(broken.any()):
                raise _not_finite()
            return
        at = places(masked, sum(remaining))
        seen, fresh = changed & (left > 0), logits[:0]
        if any(news):
            share = (left + waiting) / maskable
            wide = masked | outside if calm else masked  # later blocks are watched too
            asked = [count + more if new else 0 for new, count, more in zip(news, remaining, behind, strict=True)]
            given = tokens, share, wide
            if not all(news):
                some = places(seen, sum(map(bool, news)))
                given = tokens[some], share[some], wide[some]
            places(given[2], sum(asked))
            fresh, calls = denoiser(*given), calls + seen
            if calm:
                calm.update(fresh, wide, seen, asked)
                inside = masked if all(news) else masked[places(seen)]
                fresh = fresh.index_select(0, places(chosen(inside, given[2]), sum(news)))
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
            raise _not_finite()
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
        before, tokens = tokens, torch.where(masked & commit, draft, tokens).masked_fill(still, denoiser.mask_id)
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


def _not_finite() -> TdiffError:
    return TdiffError(
        "the model gave logits that are not finite, from which no text can be drawn: its weights are damaged, or too "
        "large for the precision it computes in"
    )


def _check(masked: Tensor, frozen: Tensor) -> None:
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


def in_blocks(
    denoiser: Denoiser,
    canvas: Tensor,
    frozen: Tensor | None = None,
    settings: DecodeSettings | None = None,
    *,
    rows: Tensor | None = None,
    first_place: int = 0,
) -> Iterator[Step]:
    """As `denoise`, in blocks of `settings.block` places from each row's first maskable one, one after another.

    The decoder's steps are shared out evenly among the blocks of each row, at least one each; rows that have other
    numbers of blocks are other batches for the model then. What a decoder has seen of distributions it keeps from block
    to block. (Semi-autoregressive: Arriola et al. 2025, arXiv:2503.09573; LLaDA, arXiv:2502.09992, divides the steps
    so.) Without blocks it is `denoise`.
    """
    settings = settings or DecodeSettings()
    masked = canvas == denoiser.mask_id
    frozen = ~masked if frozen is None else frozen
    if not settings.block:
        yield from denoise(denoiser, canvas, frozen, settings, rows=rows, first_place=first_place)
        return
    _check(masked, frozen)
    rule, planned = plan(settings)
    block, counts = _blocks(frozen, settings.block)
    whole = _beginning(canvas, masked)
    if planned and bool((counts != counts[:1]).any()):
        names = torch.arange(len(canvas), device=canvas.device) if rows is None else rows
        alike = [(counts == count).nonzero()[:, 0] for count in sorted(set(counts.tolist()))]
        yield from _side_by_side(
            whole,
            [
                (
                    some,
                    in_blocks(
                        denoiser, canvas[some], frozen[some], settings, rows=names[some], first_place=first_place
                    ),
                )
                for some in alike
            ],
        )
        return
    count = int(counts.max()) if len(counts) else 0
    steps = _share(planned, count)
    calm = Calm(masked, settings.kl) if rule.watchful else None
    for n in range(count):
        within, before = block == n, whole
        for step in denoise(
            denoiser,
            before.tokens,
            frozen,
            settings,
            rows=rows,
            first_place=first_place,
            within=within & ~frozen,
            steps=steps,
            calm=calm,
            rows_go_on=True,
        ):
            whole = replace(
                step,
                index=before.index + step.index,
                # To the loop the tokens of earlier blocks were given; they keep the c they were revealed with.
                confidence=torch.where(within, step.confidence, before.confidence),
                calls=before.calls + step.calls,
                forced=before.forced + step.forced,
            )
            yield whole
    if rule.one_by_one and not bool(whole.confidence.isfinite().all()):
        raise _not_finite()


def _side_by_side(whole: Step, parts: list[tuple[Tensor, Iterator[Step]]]) -> Iterator[Step]:
    """One step of all from a step of each part, the rows and their steps; what is finished waits for the others."""
    for index in itertools.count(1):
        nothing = torch.zeros_like(whole.masked)
        news = [(rows, step) for rows, steps in parts if (step := next(steps, None)) is not None]
        if not news:
            return
        whole = replace(whole, index=index, committed=nothing, remasked=nothing)
        for rows, step in news:
            pasted = {f.name: getattr(whole, f.name) for f in fields(Step) if f.name != "index"}
            for name, value in pasted.items():
                pasted[name] = value.index_copy(0, rows, getattr(step, name))
            whole = Step(index=index, **pasted)
        yield whole


def _blocks(frozen: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """(B, L) int64: the block of each place, below 0 before the first maskable one; and (B,) how many each row has."""
    places = torch.arange(frozen.size(1), device=frozen.device)
    free = ~frozen
    block = (places - free.int().argmax(1, keepdim=True)).div(size, rounding_mode="floor")
    return block, 1 + block.masked_fill(frozen, -1).amax(1)


def _share(steps: int, blocks: int) -> int:
    """The steps of one block; 0, which is no cap, stays so."""
    return -(-steps // max(1, blocks))


def most_steps(settings: DecodeSettings, frozen: Tensor, window: int, overlap: int) -> int:
    """How many steps `slide` takes for a canvas with those `frozen` places (L,) at most; 0: there is no cap."""
    steps, total, start, done = plan(settings)[1], 0, 0, 0
    while done < len(frozen):
        end = min(start + window, len(frozen))
        held = frozen[start:end].clone()
        held[: done - start] = True
        count = int(_blocks(held[None], settings.block)[1]) if settings.block else 1
        total += count * _share(steps, count)
        start, done = end - overlap, end
    return total


def _beginning(canvas: Tensor, masked: Tensor) -> Step:
    """A canvas before its first step."""
    nothing, none = torch.zeros_like(masked), torch.zeros(len(canvas), dtype=torch.int64, device=canvas.device)
    return Step(0, canvas, (~masked).float(), nothing, nothing, canvas, masked, none, none)


def slide(
    denoiser: Denoiser,
    canvas: Tensor,
    window: int,
    overlap: int,
    settings: DecodeSettings | None = None,
    *,
    frozen: Tensor | None = None,
    rows: Tensor | None = None,
) -> Iterator[Step]:
    """As `denoise`, for a canvas (B, L) longer than the model's `window`, in places.

    The window moves from left to right; the last `overlap` places of one are the frozen start of the next. Steps are
    of the whole canvas and numbered through.
    """
    length = canvas.size(1)
    if not 0 <= overlap < window:
        raise TdiffError(f"the overlap of a sliding canvas must be below the window of {window} places; got {overlap}")
    if length <= window:
        yield from in_blocks(denoiser, canvas, frozen, settings, rows=rows)
        return
    masked = canvas == denoiser.mask_id
    frozen = ~masked if frozen is None else frozen
    _check(masked, frozen)
    nothing, whole = torch.zeros_like(masked), _beginning(canvas, masked)
    start = done = 0
    while done < length:
        view = slice(start, min(start + window, length))
        held = frozen[:, view].clone()
        held[:, : done - start] = True
        before = replace(whole, committed=nothing, remasked=nothing)
        for step in in_blocks(denoiser, before.tokens[:, view], held, settings, rows=rows, first_place=start):
            pasted = {f.name: _paste(getattr(before, f.name), getattr(step, f.name), view) for f in fields(Step)}
            # To the window these places were given; they keep the c they were revealed with.
            pasted["confidence"][:, start:done] = before.confidence[:, start:done]
            whole = Step(**pasted)
            yield whole
        start, done = view.stop - overlap, view.stop


def _paste(whole: Any, part: Any, view: slice) -> Any:
    """A field of a Step of the whole canvas from that of one window: (B, L) is pasted in, counters go on."""
    if isinstance(whole, int) or whole.ndim == 1:
        return whole + part
    whole = whole.clone()
    whole[:, view] = part
    return whole
