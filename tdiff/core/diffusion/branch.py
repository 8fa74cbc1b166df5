"""A generation that continues from a canvas which a user has changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from tdiff.config.decoding import DecodeSettings
from tdiff.core.diffusion.denoise import plan
from tdiff.core.diffusion.generate import Start, check_causal
from tdiff.core.models.base import LoadedModel
from tdiff.errors import TdiffError
from tdiff.schema import MOST


def branch_start(
    model: LoadedModel,
    tokens: Sequence[int],
    frozen: Sequence[int],
    settings: DecodeSettings,
    *,
    text: str = "",
    at: int = 0,
    room: int = 0,
    steps: int = 0,
) -> tuple[Start, DecodeSettings]:
    """Return the canvas from which a branch continues, and its settings.

    `tokens` (L,) are ids, -1 where masked; `frozen` positions that no decoder may change. A `text` is written over the
    `room` positions from `at` on: they are frozen, and those that it does not need are masked. A decoder with a number
    of steps takes those that remain after `steps`, at least one; on a canvas longer than the context length, all of
    them in each window. A decoder that never remasks keeps every token.

    Raises TdiffError for ids that the model does not have, positions outside the canvas, and a text that is too long.
    """
    size, mask_id = len(tokens), model.spec.mask_id
    if not 0 < size <= MOST:
        raise TdiffError(f"a branch has at least one position; got {size}")
    wrong = next((token for token in tokens if not -1 <= token < model.spec.vocab_size), None)
    if wrong is not None:
        raise TdiffError(f"{model.name} has no token {wrong}: another model wrote this text")
    if any(not 0 <= position < size for position in frozen) or not 0 <= at <= at + room <= size:
        raise TdiffError(f"a branch names a position outside its canvas of {size}")
    canvas = torch.tensor([mask_id if token < 0 else token for token in tokens])
    fixed = torch.zeros(size, dtype=torch.bool)
    fixed[list(frozen)] = True
    if room:
        ids = model.tokenizer.encode(text, "the text", inside=at > 0)
        if len(ids) > room:
            selected = f"{room} position{'s are' if room > 1 else ' is'} selected"
            raise TdiffError(f"the text has {len(ids)} tokens, and {selected}: select as many")
        canvas[at : at + room] = mask_id
        canvas[at : at + len(ids)] = ids
        fixed[at : at + len(ids)] = True
    fixed &= canvas != mask_id
    if not bool((canvas == mask_id).any()):
        raise TdiffError("nothing is masked, so nothing can continue: remask positions, or go to an earlier step")
    check_causal(model.spec, canvas[None])
    rule, planned = plan(settings)
    if rule.remask is None:
        fixed = canvas != mask_id
    if planned and size <= model.spec.context:
        settings = replace(settings, steps=max(1, planned - steps))
    return Start(canvas, fixed), settings
