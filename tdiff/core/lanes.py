"""The answers of a model's process to `Lanes` and `Measure`: several generations at once, and what decides among texts.

The module is loaded when the first of these requests comes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from tdiff.config.decoding import DecodeSettings
from tdiff.core.diffusion.generate import default_prompt, narrate
from tdiff.core.diffusion.together import Lane, in_a_batch, in_turn
from tdiff.core.evaluation import own_bound, single
from tdiff.core.models.base import LoadedModel
from tdiff.errors import TdiffError
from tdiff.protocol.messages import MAX_LANES, Answer, Begin, Lanes, Measure, Measured, Refused
from tdiff.protocol.trace import TraceLine

Say = Callable[[Answer | TraceLine], None]


def answer(
    model: LoadedModel, request: Lanes, check: Callable[[dict[str, Any]], dict[str, Any]], say: Say
) -> Iterator[None]:
    """Say the lines of all generations, each after a `Begin`; yields after each of them, to be stopped there.

    `check` validates decoding settings. A generation that is not possible is refused, and the others continue. Raises
    TdiffError for a request without generations, or with too many.
    """
    if not 1 <= len(request.settings) == len(request.rows) <= MAX_LANES:
        raise TdiffError(f"1 to {MAX_LANES} texts are generated at once, each with settings and a row")
    prompt = default_prompt(model, request.seed, request.rows[0]) if request.prompt is None else request.prompt
    settings: dict[int, DecodeSettings] = {}
    for n, options in enumerate(request.settings):
        try:
            settings[n] = model.decode_settings(check(options), request.seed)
        except TdiffError as error:
            say(Refused(id=request.id + 1 + n, text=str(error)))
    numbers = list(settings)
    lines: Iterator[Lane]
    if len(numbers) > 1 and len(set(settings.values())) == 1:
        rows = [request.rows[n] for n in numbers]
        lines = in_a_batch(model, prompt, settings[numbers[0]], rows, request.length, detail=request.detail)
    else:
        traces = [
            narrate(
                model, prompt, settings[n], length=request.length, row=request.rows[n], detail=request.detail, live=True
            )
            for n in numbers
        ]
        lines = in_turn(traces)
    for n, line, seconds in lines:
        say(Begin(id=request.id + 1 + numbers[n], seconds=round(seconds, 5)))
        say(line)
        yield


Known = single.Reference | own_bound.OwnBound
"""What texts are compared with: real text, or the model's bound on it."""


def known(model: LoadedModel) -> Known:
    """What texts of a model are compared with: its training text, or where that is not here, its bound on real text.

    Raises TdiffError if there is neither.
    """
    try:
        return single.reference(model)
    except TdiffError:  # it is not here, it has changed, or it is too short
        return own_bound.own_bound(model)


def measure(model: LoadedModel, request: Measure, reference: Known, say: Say) -> Iterator[None]:
    """Say how near the texts of a request are to what they are compared with; yields in between, to be stopped there.

    Raises TdiffError if nothing can decide.
    """
    if isinstance(reference, own_bound.OwnBound):
        bounds = yield from own_bound.bounds(model, request.prompt, request.texts)
        say(
            Measured(
                id=request.id,
                model=reference.model,
                distances=[round(distance, 3) for distance in own_bound.distances(reference.real, bounds)],
                nats=[round(nats, 4) for nats, _ in bounds],
                real=[round(reference.real, 4)],
            )
        )
        return
    found = single.measure(reference, request.prompt, request.texts)
    real = reference.task.summary
    say(
        Measured(
            id=request.id,
            corpus=reference.corpus,
            distances=[round(distance, 3) for _, distance in found],
            nats=[round(quality.nats, 4) for quality, _ in found],
            distinct=[round(quality.distinct, 4) for quality, _ in found],
            words=[round(quality.words, 4) for quality, _ in found],
            real=[round(real.nats.mean, 4), round(real.distinct.mean, 4), round(real.words.mean, 4)],
        )
    )
