"""Generation that stops at the end of a paragraph or a story.

The text is the one that would be generated without an ending, cut at its first end: no position before the end depends
on when the generation stops. It stops as soon as all positions up to the end are final. With a decoder that never
remasks that is when they are unmasked; with one that does, when the block or the window that holds the end is finished.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tdiff.config.decoding import DecodeSettings
from tdiff.core.diffusion.blocks import rows_apart, segments, slide
from tdiff.core.diffusion.decoders import decoder
from tdiff.core.diffusion.denoise import Step
from tdiff.core.models.base import LoadedModel
from tdiff.errors import TdiffError
from tdiff.protocol.endings import find_end


@dataclass(frozen=True, slots=True)
class Ended:
    """A text up to its end."""

    text: str
    tokens: int
    """Generated tokens in it."""
    complete: bool
    """Whether it has an end; False if it is cut because all tokens were generated."""


def check_ending(start: Tensor, mask_id: int) -> None:
    """Raise TdiffError if a canvas `start` (L,) int64 does not end in masks: text that is given is never cut."""
    if int(start[-1]) != mask_id:
        raise TdiffError("--until ends a generated text, and this template or suffix ends in text that is given")


def ended_text(model: LoadedModel, start: Tensor, ids: Sequence[int], kind: str) -> Ended:
    """Return the text of the `ids` (L) of a row up to its end; `start` (L,) int64 is its canvas before generation.

    Only the ids up to the first mask count.
    """
    mask_id, masks = model.spec.mask_id, start == model.spec.mask_id
    final = ids.index(mask_id) if mask_id in ids else len(ids)
    given = _given(masks)
    text = model.tokenizer.decode(ids[:final])
    written = len(model.tokenizer.decode(ids[:given])) if final >= given else len(text)
    end = find_end(text, written, kind)
    if end is None:
        return Ended(text, int(masks[:final].sum()), False)
    low, high = given, final  # the least number of tokens that hold the text
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if len(model.tokenizer.decode(ids[:middle])) >= end else (middle + 1, high)
    return Ended(text[:end], int(masks[:low].sum()), True)


def resolve_until(
    model: LoadedModel,
    start: Tensor,
    settings: DecodeSettings,
    rows: Tensor,
    overlap: int,
    kind: str,
    *,
    detail: bool = False,
) -> Iterator[Step]:
    """As `slide` of the canvases `start` (B, L) with their `rows` (B,), each row until the end of its text.

    A row that has ended is not given to the model again; its other positions stay masked. Rows are generated one by
    one, because each has its own end.
    """
    names = torch.arange(len(start), device=start.device)
    parts = [
        (names[n : n + 1], _one_row(model, start[n : n + 1], settings, rows[n : n + 1], overlap, kind, detail))
        for n in range(len(start))
    ]
    yield from rows_apart(start, start == model.spec.mask_id, parts)


def _one_row(
    model: LoadedModel, start: Tensor, settings: DecodeSettings, row: Tensor, overlap: int, kind: str, detail: bool
) -> Iterator[Step]:
    masks = start[0] == model.spec.mask_id
    remasks = decoder(settings.decoder).remask is not None
    parts = segments(settings, ~masks, model.spec.context, overlap) if remasks else []
    given, checked = _given(masks), 0
    for step in slide(model.network, start, model.spec.context, overlap, settings, rows=row, detail=detail):
        yield step
        masked = step.masked[0].tolist()
        final = masked.index(True) if True in masked else len(masked)
        if remasks:
            final = next((first for first, last in parts if any(masked[first:last])), len(masked))
        if final > max(given, checked):
            checked = final
            if ended_text(model, start[0], step.tokens[0, :final].tolist(), kind).complete:
                return


def _given(masks: Tensor) -> int:
    """The number of positions up to the last one that is given, by the `masks` (L,) bool of a canvas."""
    held = (~masks).nonzero()
    return int(held[-1]) + 1 if len(held) else 0
