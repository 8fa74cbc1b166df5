"""Several generations at once: as rows of one batch, or with other settings, a step of each in turn."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from functools import partial

from tdiff import __version__
from tdiff.config.decoding import DecodeSettings
from tdiff.core.diffusion.blocks import most_steps
from tdiff.core.diffusion.denoise import Step
from tdiff.core.diffusion.generate import canvas, detailed, generation_metadata, overlap, resolve
from tdiff.core.models.base import LoadedModel
from tdiff.core.models.pieces import Pieces
from tdiff.protocol.detail import DetailWriter
from tdiff.protocol.events import to_line
from tdiff.protocol.trace import TraceEnd, TraceHeader, TraceLine, TraceStep

Lane = tuple[int, TraceLine, float]
"""(number of the generation, a line of its trace, seconds that it has computed so far)."""


def in_turn(traces: Sequence[Iterator[TraceLine]]) -> Iterator[Lane]:
    """Yield the lines of traces, always the next one of the generation with the fewest model calls so far.

    The seconds of each, also in the last line of its trace, are those that it computes itself, without the others.
    """
    calls, spent = [0] * len(traces), [0.0] * len(traces)
    left = set(range(len(traces)))
    while left:
        n = min(left, key=lambda lane: (calls[lane], lane))
        begin = time.perf_counter()
        line = next(traces[n])
        spent[n] += time.perf_counter() - begin
        if isinstance(line, TraceEnd):
            line = _ended(line, spent[n])
            left.remove(n)
        elif isinstance(line, TraceStep):
            calls[n] = line.calls
        yield n, line, spent[n]


def _ended(line: TraceEnd, seconds: float) -> TraceEnd:
    return TraceEnd(
        text=line.text,
        model_calls=line.model_calls,
        forced=line.forced,
        tokens=line.tokens,
        seconds=round(seconds, 4),
    )


def in_a_batch(
    model: LoadedModel,
    prompt: str,
    settings: DecodeSettings,
    rows: Sequence[int],
    length: int = 0,
    *,
    detail: bool = False,
) -> Iterator[Lane]:
    """Yield the traces of texts that continue one prompt as rows of one batch, with these row numbers for the noise.

    A step's lines follow one another. With `detail` the steps have the predictions at masked positions. The seconds
    are those of the batch. Raises TdiffError as `canvas` does.
    """
    start_time = time.perf_counter()
    start = canvas(model, [prompt] * len(rows), length)
    ids, mask_id = start[0].tolist(), model.spec.mask_id
    frozen = start[0] != mask_id
    total = int((~frozen).sum())
    pieces = [Pieces(model.tokenizer) for _ in rows]
    writers = [DetailWriter(partial(own.of, 1), live=True) for own in pieces]
    for n, row in enumerate(rows):
        texts = pieces[n].changed(ids, [position for position, i in enumerate(ids) if i != mask_id])
        header = TraceHeader(
            version=__version__,
            model=model.name,
            decoder=settings.decoder,
            settings=generation_metadata(model, settings, total, row),
            seed=settings.seed,
            row=row,
            prompt=prompt,
            cells=len(ids),
            given=[(position, texts[position], ids[position]) for position in sorted(texts)],
            steps=most_steps(settings, frozen, model.spec.context, overlap(model)),
        )
        writers[n].earn(len(to_line(header).encode()))
        yield n, header, 0.0
    left, step = [total] * len(rows), None
    for step in resolve(model, start, settings, rows, detail=detail):
        seconds = time.perf_counter() - start_time
        all_tokens, calls = step.tokens.tolist(), step.calls.tolist()
        confidence, committed, remasked = step.confidence.tolist(), step.committed.tolist(), step.remasked.tolist()
        likeliest = step.likeliest.tolist() if step.likeliest is not None else None
        for n in range(len(rows)):
            tokens = all_tokens[n]
            unmasked = [position for position, flag in enumerate(committed[n]) if flag]
            masked = [position for position, flag in enumerate(remasked[n]) if flag]
            if not (unmasked or masked):
                continue
            left[n] += len(masked) - len(unmasked)
            texts = pieces[n].changed(tokens, [*unmasked, *masked])
            line = TraceStep(
                index=step.index,
                t=left[n] / total,
                calls=calls[n],
                cells=[(i, texts[i], tokens[i], round(confidence[n][i], 4), "commit") for i in sorted(texts)]
                + [(i, pieces[n].of(i, tokens[i]), tokens[i], 0.0, "remask") for i in masked],
            )
            yield n, detailed(line, writers[n], likeliest[n], unmasked) if likeliest else line, seconds
    seconds = round(time.perf_counter() - start_time, 4)
    for n in range(len(rows)):
        yield n, _end_of_row(model, step, n, prompt, total, seconds), seconds


def _end_of_row(model: LoadedModel, step: Step | None, n: int, prompt: str, total: int, seconds: float) -> TraceEnd:
    text = model.tokenizer.decode(step.tokens[n]) if step else prompt
    calls, forced = (int(step.calls[n]), int(step.forced[n])) if step else (0, 0)
    return TraceEnd(text=text, model_calls=calls, forced=forced, tokens=total, seconds=seconds)
