"""Decoding in blocks, and on canvases longer than the context length: both are sequences of `denoise` runs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from tdiff.config.decoding import DecodeSettings
from tdiff.core.diffusion.decoders import Calm
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
    first_place: int = 0,
) -> Iterator[Step]:
    """As `denoise`, in blocks of `settings.block` places from each row's first maskable one, one after another.

    The decoder's steps are shared out evenly among the blocks of each row, at least one each; rows that have other
    numbers of blocks are other batches for the model then. What a decoder has seen of distributions it keeps from block
    to block. (Semi-autoregressive: Arriola et al. 2025, arXiv:2503.09573; LLaDA, arXiv:2502.09992, divides the steps
    so.) Without blocks it is `denoise`.
    """
    settings = settings or DecodeSettings()
    masked = canvas == model.spec.mask_id
    frozen = ~masked if frozen is None else frozen
    if not settings.block:
        yield from denoise(model, canvas, frozen, settings, rows=rows, first_place=first_place)
        return
    check_frozen(masked, frozen)
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
                    in_blocks(model, canvas[some], frozen[some], settings, rows=names[some], first_place=first_place),
                )
                for some in alike
            ],
        )
        return
    count = int(counts.max()) if len(counts) else 0
    steps = _share(planned, count)
    calm = Calm(masked, settings.kl) if rule.watchful else None
    cache = model.new_cache(len(canvas))
    for n in range(count):
        within, before = block == n, whole
        for step in denoise(
            model,
            before.tokens,
            frozen,
            settings,
            rows=rows,
            first_place=first_place,
            within=within & ~frozen,
            steps=steps,
            calm=calm,
            cache=cache,
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
        if cache is not None:
            cache.extend(whole.tokens, block <= n)
    if rule.one_by_one and not bool(whole.confidence.isfinite().all()):
        raise not_finite()


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
    model: Model,
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
        yield from in_blocks(model, canvas, frozen, settings, rows=rows)
        return
    masked = canvas == model.spec.mask_id
    frozen = ~masked if frozen is None else frozen
    check_frozen(masked, frozen)
    nothing, whole = torch.zeros_like(masked), _beginning(canvas, masked)
    start = done = 0
    while done < length:
        view = slice(start, min(start + window, length))
        held = frozen[:, view].clone()
        held[:, : done - start] = True
        before = replace(whole, committed=nothing, remasked=nothing)
        for step in in_blocks(model, before.tokens[:, view], held, settings, rows=rows, first_place=start):
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
