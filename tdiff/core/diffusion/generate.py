"""Generation from prompts: canvases for the denoising loop, and its steps as the lines of a trace."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tdiff import __version__
from tdiff.config.decoding import DecodeSettings
from tdiff.core.diffusion import noise
from tdiff.core.diffusion.alternatives import UNKNOWN, WIDTH
from tdiff.core.diffusion.blocks import most_steps, slide
from tdiff.core.diffusion.denoise import Step, plan
from tdiff.core.diffusion.endings import ended_text, resolve_until
from tdiff.core.diffusion.guidance import Guided
from tdiff.core.models.base import LoadedModel, ModelSpec
from tdiff.core.models.pieces import Pieces
from tdiff.errors import TdiffError
from tdiff.protocol.detail import TOP, DetailWriter
from tdiff.protocol.events import to_line
from tdiff.protocol.template import Template
from tdiff.protocol.trace import TraceEnd, TraceHeader, TraceLine, TraceStep


@dataclass(frozen=True, slots=True)
class Start:
    """A canvas from which a generation continues, of L positions on the CPU."""

    tokens: Tensor
    """(L,) int64, with masks."""
    frozen: Tensor
    """(L,) bool: positions that no decoder may change; none of them is masked."""


def default_prompt(model: LoadedModel, seed: int, row: int) -> str:
    """Return a default prompt stored with the model, chosen by the seed; empty if it has none."""
    openings = model.origin.openings
    return openings[noise.mix(seed, row, noise.PROMPT) % len(openings)] if openings else ""


def before_gap(model: LoadedModel, text: str) -> str:
    """Return the `text` as it is encoded before a gap: without its last space, if tokens hold the space before a word.

    The token that fills the gap brings that space; in training no space token ever came before such a token.
    """
    return text[:-1] if model.tokenizer.carries_spaces and text.endswith(" ") else text


def prompt_ids(model: LoadedModel, prompt: str, what: str = "the prompt") -> Tensor:
    """Return ids (L,) int64 of a prompt; see `before_gap`. Raises TdiffError for a character that has no token."""
    return model.tokenizer.encode(before_gap(model, prompt), what)


def canvas(model: LoadedModel, prompts: Sequence[str], length: int = 0) -> Tensor:
    """Return (B, L) int64: each prompt followed by `length` masks; 0: as many as fill the context length.

    Prompts of one call must have the same number of tokens. Raises TdiffError for a prompt that does not fit into the
    context length, has a character without a token, or is missing for a model that was always trained with one.
    """
    context, mask_id = model.spec.context, model.spec.mask_id
    rows = [prompt_ids(model, prompt) for prompt in prompts]
    longest = max(len(row) for row in rows)
    if longest >= context:
        raise TdiffError(
            f"the prompt has {longest} tokens; the context length of {model.name} is {context}, so a prompt may have "
            f"{context - 1}"
        )
    if min(len(row) for row in rows) == 0 and model.origin.context_mode == "fixed" and model.origin.context:
        raise TdiffError(
            f"{model.name} was trained with prompts of {model.origin.context} tokens only and cannot start "
            "without one: give it a prompt"
        )
    masks = torch.full((length or context - longest,), mask_id)
    start = torch.stack([torch.cat((row, masks)) for row in rows])
    check_causal(model.spec, start)
    return start


def template_canvas(model: LoadedModel, template: Template) -> Tensor:
    """Return (1, L) int64: the text of a template, with a mask for each token of its gaps.

    A text before a gap is encoded by `before_gap`. Raises TdiffError for a character that has no token, and if the
    model cannot fill gaps.
    """
    parts = []
    for n, part in enumerate(template):
        if isinstance(part, int):
            parts.append(torch.full((part,), model.spec.mask_id))
        else:  # texts and gaps alternate: all texts but the last precede a gap, all but the first follow one
            text = part if n + 1 == len(template) else before_gap(model, part)
            parts.append(model.tokenizer.encode(text, "the template", inside=n > 0))
    start = torch.cat(parts)[None]
    check_causal(model.spec, start)
    return start


def check_causal(spec: ModelSpec, start: Tensor) -> None:
    """Raise TdiffError if the model is causal and cannot fill the masks of the canvas `start` (B, L) int64."""
    if not spec.causal:
        return
    masked = start == spec.mask_id
    if not spec.predicts_first and bool(masked[:, 0].any()):
        raise TdiffError("this model has no token for the beginning of a text: give it a prompt")
    if bool((masked[:, :-1] & ~masked[:, 1:]).any()):
        raise TdiffError(
            "this model is autoregressive and cannot see what follows a gap: give it a prompt, not a template or a "
            "suffix"
        )


def overlap(model: LoadedModel) -> int:
    """The number of positions that one window of a sliding canvas shares with the next.

    It is the prompt length of training, at least one. A causal model was trained with prompts of any length; it shares
    half of its context length.
    """
    if model.spec.causal:
        return model.spec.context // 2
    return min(max(model.origin.context, 1), model.spec.context - 1)


def generation_metadata(
    model: LoadedModel, settings: DecodeSettings, length: int, row: int, until: str = ""
) -> dict[str, Any]:
    """Return all settings that, with the prompt, reproduce a text; defaults are resolved."""
    steps = plan(settings)[1]
    guidance = {"class": g.name, "guidance": g.weight} if isinstance(g := model.network, Guided) else {}
    ending = {"until": until} if until else {}
    names = {"steps": steps, "model": model.name, "length": length, "row": row}
    return dataclasses.asdict(settings) | names | guidance | ending


def generate(
    model: LoadedModel,
    prompts: Sequence[str],
    settings: DecodeSettings,
    *,
    length: int = 0,
    rows: Sequence[int] | None = None,
    template: Template = (),
    until: str = "",
    detail: bool = False,
) -> Iterator[Step]:
    """Yield the steps of texts that continue `prompts`, one row for each; longer texts use a sliding canvas.

    With a `template` each row fills its gaps, and only the number of prompts counts. `rows` are the row numbers for the
    noise: a text depends on its row number and prompt, not on the other texts. See `overlap` for the sliding canvas.
    `until`: stop at an ending, see `endings`; its other positions stay masked. With `detail`, steps have `likeliest`.
    """
    start = template_canvas(model, template).repeat(len(prompts), 1) if template else canvas(model, prompts, length)
    yield from resolve(
        model, start, settings, range(len(prompts)) if rows is None else rows, until=until, detail=detail
    )


def resolve(
    model: LoadedModel,
    start: Tensor,
    settings: DecodeSettings,
    rows: Sequence[int],
    *,
    frozen: Tensor | None = None,
    until: str = "",
    detail: bool = False,
) -> Iterator[Step]:
    """Yield the steps that resolve the masks of the canvases `start` (B, L); `rows` are their row numbers for noise.

    `frozen` (B, L) bool are positions that no decoder may change, by default all that hold a token; with `until`, no
    others are. With `detail` the steps have `likeliest`.
    """
    start = start.to(model.device)
    frozen = None if frozen is None else frozen.to(model.device)
    names = torch.tensor(rows, device=start.device)
    context, shared = model.spec.context, overlap(model)
    if until:
        yield from resolve_until(model, start, settings, names, shared, until, detail=detail)
    else:
        yield from slide(model.network, start, context, shared, settings, frozen=frozen, rows=names, detail=detail)


def narrate(
    model: LoadedModel,
    prompt: str,
    settings: DecodeSettings,
    *,
    length: int = 0,
    row: int = 0,
    template: Template = (),
    start: Start | None = None,
    until: str = "",
    detail: bool = False,
    live: bool = False,
) -> Iterator[TraceLine]:
    """Yield the trace of one generation while it runs: a header, a line for each step, the text.

    With `start` it continues from that canvas, and `prompt` is only reported. With `until`, the text is cut at its end,
    and positions after it may stay masked. With `detail` the steps have the predictions at masked positions; see
    `protocol.detail`, which also says what `live` means.
    """
    start_time = time.perf_counter()
    canvas_ids = start.tokens if start else _first_canvas(model, prompt, length, template)
    ids, masked = canvas_ids.tolist(), canvas_ids == model.spec.mask_id
    frozen = start.frozen if start else ~masked
    pieces = Pieces(model.tokenizer)
    piece_texts = pieces.changed(ids, [position for position, i in enumerate(ids) if i != model.spec.mask_id])
    visible_cells = [(position, piece_texts[position], ids[position]) for position in sorted(piece_texts)]
    left, total = len(ids) - len(visible_cells), int((~frozen).sum())
    header = TraceHeader(
        version=__version__,
        model=model.name,
        decoder=settings.decoder,
        settings=generation_metadata(model, settings, total, row, until),
        seed=settings.seed,
        row=row,
        prompt=prompt,
        cells=len(ids),
        given=visible_cells,
        steps=most_steps(settings, frozen, model.spec.context, overlap(model)),
    )
    writer = DetailWriter(lambda token: pieces.of(1, token), live=live) if detail else None
    if writer:
        writer.earn(len(to_line(header).encode()))
    yield header
    step = None
    steps = resolve(model, canvas_ids[None], settings, [row], frozen=frozen[None], until=until, detail=detail)
    for step in steps:
        ids, confidence, committed, remasked, calls, likeliest = _first_row(step)
        left += len(remasked) - len(committed)
        if committed or remasked:
            # A position is reported again if its character became complete or incomplete, though its token is the same.
            texts = pieces.changed(ids, [*committed, *remasked])
            line = TraceStep(
                index=step.index,
                t=left / total,
                calls=calls,
                cells=[(i, texts[i], ids[i], round(confidence[i], 4), "commit") for i in sorted(texts)]
                + [(i, pieces.of(i, ids[i]), ids[i], 0.0, "remask") for i in remasked],
            )
            yield detailed(line, writer, likeliest, committed) if writer else line
    unchanged = model.tokenizer.decode(canvas_ids) if start else prompt
    text = model.tokenizer.decode(step.tokens[0]) if step else unchanged
    if until and step:
        ended = ended_text(model, canvas_ids, step.tokens[0].tolist(), until)
        text, total = ended.text, ended.tokens
    yield TraceEnd(
        text=text,
        model_calls=int(step.calls[0]) if step else 0,
        forced=int(step.forced[0]) if step else 0,
        tokens=total,
        seconds=round(time.perf_counter() - start_time, 4),
    )


def _first_canvas(model: LoadedModel, prompt: str, length: int, template: Template) -> Tensor:
    """Return (L,) int64: the canvas of one text before its first step."""
    return (template_canvas(model, template) if template else canvas(model, [prompt], length))[0]


def detailed(
    line: TraceStep, writer: DetailWriter, likeliest: list[list[float]], committed: Sequence[int]
) -> TraceStep:
    """Return the line with the predictions of its step, `likeliest` (L, WIDTH), as far as they have room."""
    predictions = {
        position: (numbers[:TOP], numbers[TOP : 2 * TOP], numbers[-1])
        for position, numbers in enumerate(likeliest)
        if numbers[-1] != UNKNOWN
    }
    writer.earn(len(to_line(line).encode()))
    packed, tokens = writer.pack(predictions, set(committed))
    return dataclasses.replace(line, detail=packed or None, tokens=tokens or None)


def _first_row(step: Step) -> tuple[list[int], list[float], list[int], list[int], int, list[list[float]]]:
    """Return ids, confidences, committed and remasked positions, calls so far, and `likeliest` (empty if it was not
    requested), of the first row of a step.

    They are copied as one tensor of one type, so that the host waits for the device once.
    """
    precise = noise.precise(step.tokens.device)
    parts = [step.tokens, step.confidence, step.committed, step.remasked, step.calls[:, None]]
    if step.likeliest is not None:
        parts.append(step.likeliest.flatten(1))
    numbers: list[float] = torch.cat([part[0].to(precise) for part in parts]).tolist()
    n = step.tokens.size(1)
    ids, confidence, *flag_rows = (numbers[i : i + n] for i in range(0, 4 * n, n))
    committed, remasked = ([i for i, mark in enumerate(flags) if mark] for flags in flag_rows)
    likeliest = [numbers[i : i + WIDTH] for i in range(4 * n + 1, len(numbers), WIDTH)]
    return list(map(int, ids)), confidence, committed, remasked, int(numbers[4 * n]), likeliest
