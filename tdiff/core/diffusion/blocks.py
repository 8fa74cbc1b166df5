"""Decoding in blocks, and on canvases longer than the context length: both are sequences of `denoise` runs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from tdiff.config.decoding import DecodeSettings
from tdiff.core.diffusion.alternatives import unknown
from tdiff.core.diffusion.decoders import StabilityTracker
from tdiff.core.diffusion.denoise import Step, check_frozen, denoise, not_finite, plan
from tdiff.core.models.base import Model
from tdiff.errors import TdiffError


def in_blocks(
    model: Model,
    canvas: Tensor,
    frozen: Tensor | None = None,
    settings: DecodeSettings | None = None,
    *,
    rows: Tensor | None = None,
    first_position: int = 0,
    earlier: Tensor | None = None,
    detail: bool = False,
) -> Iterator[Step]:
    """As `denoise`, in blocks of `settings.block` positions, one after another, from each row's first maskable one.

    The decoder's steps are divided evenly among the blocks of each row, at least one each; rows with another number of
    blocks are then another batch for the model. Stability and the model's cache continue from block to block.
    (Semi-autoregressive: Arriola et al. 2025, arXiv:2503.09573; LLaDA, arXiv:2502.09992, divides the steps so.) Without
    a block size it is `denoise`.
    """
    settings = settings or DecodeSettings()
    masked = canvas == model.spec.mask_id
    frozen = ~masked if frozen is None else frozen
    if not settings.block:
        start = first_position
        yield from denoise(
            model, canvas, frozen, settings, rows=rows, first_position=start, earlier=earlier, detail=detail
        )
        return
    check_frozen(masked, frozen)
    block, counts = _blocks(frozen, settings.block)
    if plan(settings)[1] and bool((counts != counts[:1]).any()):
        yield from _by_block_count(model, canvas, frozen, settings, rows, first_position, earlier, counts, detail)
    else:
        yield from _block_by_block(
            model, canvas, frozen, settings, rows, first_position, earlier, block, counts, detail
        )


def _by_block_count(
    model: Model,
    canvas: Tensor,
    frozen: Tensor,
    settings: DecodeSettings,
    rows: Tensor | None,
    first_position: int,
    earlier: Tensor | None,
    counts: Tensor,
    detail: bool,
) -> Iterator[Step]:
    """As `in_blocks`, with a batch for each number of blocks that rows have, by their `counts` (B,)."""
    names = torch.arange(len(canvas), device=canvas.device) if rows is None else rows
    groups = [(counts == count).nonzero()[:, 0] for count in sorted(set(counts.tolist()))]
    parts = [
        in_blocks(
            model,
            canvas[group],
            frozen[group],
            settings,
            rows=names[group],
            first_position=first_position,
            earlier=None if earlier is None else earlier[group],
            detail=detail,
        )
        for group in groups
    ]
    start = _start(canvas, canvas == model.spec.mask_id)
    yield from _side_by_side(start, list(zip(groups, parts, strict=True)))


def _block_by_block(
    model: Model,
    canvas: Tensor,
    frozen: Tensor,
    settings: DecodeSettings,
    rows: Tensor | None,
    first_position: int,
    earlier: Tensor | None,
    block: Tensor,
    counts: Tensor,
    detail: bool,
) -> Iterator[Step]:
    """As `in_blocks`, with one batch; `block` (B, L) and `counts` (B,) come from `_blocks`."""
    masked = canvas == model.spec.mask_id
    rule, planned = plan(settings)
    count, latest = int(counts.max()) if len(counts) else 0, _start(canvas, masked)
    steps = _steps_per_block(planned, count)
    stability = StabilityTracker(masked, settings.kl) if rule.tracks_stability else None
    cache = model.new_cache(len(canvas))
    for n in range(count):
        within, before = block == n, latest
        for step in denoise(
            model,
            before.tokens,
            frozen,
            settings,
            rows=rows,
            first_position=first_position,
            within=within & ~frozen,
            steps=steps,
            stability=stability,
            cache=cache,
            more_blocks=True,
            earlier=earlier,
            detail=detail,
        ):
            latest = replace(
                step,
                index=before.index + step.index,
                # For the loop the tokens of earlier blocks are a prompt; they keep the c with which they were unmasked.
                confidence=torch.where(within, step.confidence, before.confidence),
                calls=before.calls + step.calls,
                forced=before.forced + step.forced,
            )
            yield latest
        if cache is not None:
            cache.extend(latest.tokens, block <= n)
    if rule.one_per_step and not bool(latest.confidence.isfinite().all()):
        raise not_finite()


def _side_by_side(latest: Step, parts: list[tuple[Tensor, Iterator[Step]]]) -> Iterator[Step]:
    """Yield one step of all rows from a step of each part, which are row indices and steps; finished parts wait."""
    for index in itertools.count(1):
        nothing = torch.zeros_like(latest.masked)
        steps = [(rows, step) for rows, part in parts if (step := next(part, None)) is not None]
        if not steps:
            return
        predicted = None if steps[0][1].likeliest is None else unknown(latest.masked)
        latest = replace(latest, index=index, committed=nothing, remasked=nothing, likeliest=predicted)
        for rows, step in steps:
            values = {f.name: getattr(latest, f.name) for f in fields(Step) if f.name != "index"}
            for name, value in values.items():
                part = getattr(step, name)
                values[name] = value.index_copy(0, rows, part) if isinstance(value, Tensor) else part
            latest = Step(index=index, **values)
        yield latest


def _blocks(frozen: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Return (B, L) int64, the block of each position, below 0 before the first maskable one, and (B,), the number of
    blocks of each row.
    """
    positions = torch.arange(frozen.size(1), device=frozen.device)
    free = ~frozen
    block = (positions - free.int().argmax(1, keepdim=True)).div(size, rounding_mode="floor")
    return block, 1 + block.masked_fill(frozen, -1).amax(1)


def _steps_per_block(steps: int, blocks: int) -> int:
    """Return the steps of one block; 0, no limit, stays 0."""
    return -(-steps // max(1, blocks))


def most_steps(settings: DecodeSettings, frozen: Tensor, context: int, overlap: int) -> int:
    """Return how many steps `slide` takes at most for a canvas with the `frozen` positions (L,) bool; 0: no limit."""
    steps, total, start, done = plan(settings)[1], 0, 0, 0
    while done < len(frozen):
        end = min(start + context, len(frozen))
        held = frozen[start:end].clone()
        held[: done - start] = True
        count = int(_blocks(held[None], settings.block)[1]) if settings.block else 1
        total += count * _steps_per_block(steps, count)
        start, done = end - overlap, end
    return total


def segments(settings: DecodeSettings, frozen: Tensor, context: int, overlap: int) -> list[tuple[int, int]]:
    """Return the parts of a canvas with the `frozen` positions (L,) bool that `slide` finishes one after another: the
    blocks of each window, as (first, last + 1).
    """
    parts, start, done = [], 0, 0
    while done < len(frozen):
        end = min(start + context, len(frozen))
        free = [i for i in range(done, end) if not frozen[i]]
        size = settings.block or context
        firsts = range(free[0], end, size) if free else range(0)
        parts += [(first, min(first + size, end)) for first in firsts]
        start, done = end - overlap, end
    return parts


def rows_apart(canvas: Tensor, masked: Tensor, parts: list[tuple[Tensor, Iterator[Step]]]) -> Iterator[Step]:
    """Yield one step of all rows of a `canvas` (B, L), `masked` (B, L) bool, from a step of each part.

    A part is row indices and the steps of these rows; finished parts wait.
    """
    yield from _side_by_side(_start(canvas, masked), parts)


def _start(canvas: Tensor, masked: Tensor) -> Step:
    """Return a canvas before its first step."""
    nothing, none = torch.zeros_like(masked), torch.zeros(len(canvas), dtype=torch.int64, device=canvas.device)
    return Step(0, canvas, (~masked).float(), nothing, nothing, canvas, masked, none, none)


def slide(
    model: Model,
    canvas: Tensor,
    context: int,
    overlap: int,
    settings: DecodeSettings | None = None,
    *,
    frozen: Tensor | None = None,
    rows: Tensor | None = None,
    detail: bool = False,
) -> Iterator[Step]:
    """As `in_blocks`, for a canvas (B, L) that may be longer than the `context` length, in positions.

    A window of that length moves from left to right; the last `overlap` positions of one window are the frozen start of
    the next. Each step is of the full canvas, and steps are numbered through.
    """
    length = canvas.size(1)
    if not 0 <= overlap < context:
        raise TdiffError(
            f"the overlap of a sliding canvas must be below the context length of {context}; got {overlap}"
        )
    if length <= context:
        yield from in_blocks(model, canvas, frozen, settings, rows=rows, detail=detail)
        return
    masked = canvas == model.spec.mask_id
    frozen = ~masked if frozen is None else frozen
    check_frozen(masked, frozen)
    nothing, latest = torch.zeros_like(masked), _start(canvas, masked)
    start = done = 0
    while done < length:
        view = slice(start, min(start + context, length))
        held = frozen[:, view].clone()
        held[:, : done - start] = True
        before = replace(
            latest, committed=nothing, remasked=nothing, likeliest=unknown(latest.masked) if detail else None
        )
        seen, window = before.tokens[:, :start], before.tokens[:, view]
        for step in in_blocks(
            model, window, held, settings, rows=rows, first_position=start, earlier=seen, detail=detail
        ):
            values = {f.name: _paste(getattr(before, f.name), getattr(step, f.name), view) for f in fields(Step)}
            # For this window these positions are a prompt; they keep the c with which they were unmasked.
            values["confidence"][:, start:done] = before.confidence[:, start:done]
            latest = Step(**values)
            yield latest
        start, done = view.stop - overlap, view.stop


def _paste(full: Any, part: Any, view: slice) -> Any:
    """Return a field of a Step of the full canvas from that of one window: (B, L) is pasted in, counters add up."""
    if isinstance(part, tuple):  # what made it
        return part
    if full is None:
        return None
    if isinstance(full, int) or full.ndim == 1:
        return full + part
    full = full.clone()
    full[:, view] = part
    return full
