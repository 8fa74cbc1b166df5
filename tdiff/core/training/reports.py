"""The records of a run: its start, evaluations, samples, calibration, saves and alerts.

Only the first of several processes evaluates and samples; for the others these functions yield nothing.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterator
from typing import Literal

import torch
from torch import Tensor

from tdiff import __version__
from tdiff.config.decoding import DecodeSettings
from tdiff.core.classification.classifier import Calibration, calibrate
from tdiff.core.classification.load import from_model
from tdiff.core.diffusion.generate import default_prompt, narrate, prompt_ids
from tdiff.core.evaluation.likelihood import LEAST_DRAWS, score
from tdiff.core.models.base import LoadedModel
from tdiff.core.training.state import STREAM, TrainState
from tdiff.errors import TdiffError
from tdiff.files import write_atomic
from tdiff.protocol import events
from tdiff.protocol.trace import TraceEnd

Progress = Callable[[int, int], None]
"""Called with the number of items done, and of all items."""
EndReason = Literal["finished", "stopped", "nan"]
Stop = Callable[[], bool]
"""Called between items; true ends the work."""
_MARGIN = 0.8
"""The part of the remaining time that an evaluation plans for, whose speed was measured on a small part."""
# A sample shows how far training has come: positions in random order, as in the likelihood bound, in a quarter of the
# calls that one position a call would take. A little sharpened, to be readable.
_SAMPLE = DecodeSettings(decoder="ancestral", steps=64, temperature=0.7)
_CAUSAL_SAMPLE = DecodeSettings(decoder="autoregressive", temperature=0.7)


class _Stopped(Exception):
    """Raised through an evaluation to end it."""


def start(state: TrainState) -> events.Start:
    """The first record of a run."""
    return events.Start(
        time=time.time(),
        run=state.run.name,
        version=__version__,
        settings=state.settings.as_layer(),
        corpus=state.corpus.name,
        tokens=state.data.token_count,
        vocabulary=len(state.tokenizer),
        parameters=sum(p.numel() for p in state.network.parameters()),
        device=state.device,
        threads=torch.get_num_threads(),
        pid=os.getpid(),
        host=platform.node(),
        steps=state.total_steps or None,
        minutes=state.settings.train.minutes or None,
    )


def start_once(state: TrainState) -> Iterator[events.Event]:
    """The first record of a run; where an earlier process has written one before its first save, that of a resume."""
    if any(isinstance(event, events.Start) for event in state.run.history()):
        yield from resume(state)
    else:
        yield start(state)


def resume(state: TrainState) -> Iterator[events.Resume | events.Heartbeat]:
    """The first record of a resumed run; and a second where the rest is not what an unbroken run would have been."""
    yield events.Resume(
        time=time.time(),
        step=state.step,
        pid=os.getpid(),
        host=platform.node(),
        steps=state.total_steps or None,
        minutes=state.settings.train.minutes or None,
    )
    if state.saved_by != state.world.size:
        yield heartbeat(
            state,
            f"saved by {_processes(state.saved_by)}, resumed by {_processes(state.world.size)}: the same rows, but "
            "sums that differ in the last digits",
        )
    if state.stream != STREAM:
        yield heartbeat(
            state, "this version draws other random batches than the one that began the run: continuing with those"
        )


def _processes(count: int) -> str:
    return f"{count} process{'es' * (count != 1)}"


def heartbeat(state: TrainState, doing: str) -> events.Heartbeat:
    """The record before something that takes long."""
    return events.Heartbeat(time=time.time(), step=state.step, doing=doing)


def nan_alert(state: TrainState) -> events.Alert:
    """The record of a loss, a gradient or weights that are no longer finite."""
    text = (
        f"the loss or its gradient is not finite at step {state.step}; the weights of the last save are kept in "
        f"{state.run.model}; try a lower learning rate"
    )
    return events.Alert(time=time.time(), step=state.step, what="nan", text=text)


def final_records(state: TrainState) -> list[events.Eval | events.Verdicts]:
    """What the log already has of the evaluation and the calibration after training, at the present step."""
    return [
        event
        for event in state.run.history()
        if (isinstance(event, events.Verdicts) or (isinstance(event, events.Eval) and event.final))
        and event.step == state.step
    ]


def damage_alert(state: TrainState, recovered: str) -> events.Alert:
    """The record of a damaged save that an earlier one replaces."""
    return events.Alert(time=time.time(), step=state.step, what="damaged", text=recovered)


def end(state: TrainState, reason: EndReason) -> events.End:
    """The last record of a run."""
    return events.End(time=time.time(), step=state.step, reason=reason)


def save(state: TrainState) -> events.Checkpoint:
    """Save the run. Returns the record of it."""
    state.save()
    return events.Checkpoint(time=time.time(), step=state.step, path="model")


def final_seconds(state: TrainState) -> float | None:
    """Seconds that evaluation and calibration after training may take; None: no limit."""
    options = state.settings.train
    return 60.0 * options.minutes * options.final_share or None


def evaluate_finally(state: TrainState, stop: Stop, seconds: float | None, progress: Progress) -> Iterator[events.Eval]:
    """The likelihood bound on all held-out text, or on a random part of it that takes about `seconds`.

    The speed is measured on a small part. Yields nothing once `stop()` is true.
    """
    limit = None
    if seconds is not None:
        total = state.data.held_out_count
        start, trial = time.monotonic(), max(total // 200, 2 * state.settings.model.window)
        if trial < total and not list(evaluate(state, trial, stop, least=1)):
            return
        taken = time.monotonic() - start
        affordable = int(_MARGIN * trial * (seconds - taken) / taken)
        limit = max(affordable, 1) if affordable < total else None
    # More mask samples for few windows would take the time planned for the others.
    yield from evaluate(state, limit, stop, progress, final=True, least=LEAST_DRAWS if limit is None else 1)


def evaluate(
    state: TrainState,
    limit: int | None,
    stop: Stop = lambda: False,
    progress: Progress = lambda done, total: None,
    *,
    final: bool = False,
    least: int = LEAST_DRAWS,
) -> Iterator[events.Eval]:
    """The likelihood bound of the averaged weights on held-out text: on about `limit` tokens spread over it, or on all.

    A `final` evaluation draws its part at random. Yields nothing once `stop()` is true.
    """
    if not state.world.leads:
        return

    def check(done: int, total: int) -> None:
        if stop():
            raise _Stopped
        progress(done, total)

    ids, labels = _held_out_part(state, limit, random=final)
    try:
        result = score(state.average, ids, state.tokenizer.lengths, draws=2, least=least, progress=check, labels=labels)
    except _Stopped:
        return
    yield events.Eval(
        time=time.time(),
        step=state.step,
        nats_per_token=result.nats_per_token,
        nats_per_char=result.nats_per_char,
        interval_95=result.interval_95,
        tokens=result.tokens,
        final=final,
        part=1.0 if limit is None or not final else min(1.0, result.tokens / state.data.held_out_count),
    )


def _held_out_part(
    state: TrainState, limit: int | None, random: bool
) -> tuple[Tensor | list[Tensor], list[int] | None]:
    """About `limit` tokens of the held-out text, evenly spread or `random` by the step; and the classes of its texts.

    The text is one tensor (T,) of whole windows, or the ids of each text.
    """

    def spread(count: int, total: int) -> Tensor:
        if random:
            return torch.randperm(total, generator=torch.Generator().manual_seed(state.step))[:count].sort().values
        return torch.linspace(0, total - 1, count).long()

    held_out, labels, window = state.data.held_out, state.data.held_out_labels, state.settings.model.window
    if isinstance(held_out, list):
        count = len(held_out)
        if limit is not None:
            count = min(count, max(1, limit * count // max(1, state.data.held_out_count)))
        numbers = spread(count, len(held_out)).tolist()
        return [held_out[n] for n in numbers], [labels[n] for n in numbers] if labels else None
    if limit is None or limit >= len(held_out):
        return held_out, None
    rows = held_out[: len(held_out) // window * window].view(-1, window)
    return rows[spread(max(1, limit // window), len(rows))].flatten(), None


def calibrate_temperature(
    state: TrainState,
    stop: Stop = lambda: False,
    seconds: float | None = None,
    progress: Progress = lambda done, total: None,
) -> Iterator[events.Verdicts]:
    """Fit the temperature of the averaged weights' predictions to held-out texts; the next save stores it.

    After `seconds` no further text is scored. Yields nothing once `stop()` is true.
    """
    if not state.world.leads:
        return
    data = state.data
    assert isinstance(data.held_out, list) and data.held_out_labels is not None, "classes require rows of texts"
    model = LoadedModel(state.run.name, state.run.model, state.average, state.tokenizer, state.origin())
    calibration = calibrate(
        from_model(model, state.device, state.bfloat16),
        data.held_out,
        data.held_out_labels,
        state.settings.train.calibrate,
        seed=state.settings.train.seed,
        stop=stop,
        progress=progress,
        seconds=seconds,
    )
    if calibration is not None:
        state.temperature = calibration.temperature
        yield calibration_record(calibration, state.step)


def calibration_record(calibration: Calibration, step: int) -> events.Verdicts:
    """A calibration, as a record of the run's log."""
    return events.Verdicts(
        time=time.time(),
        step=step,
        texts=calibration.assessment.texts,
        accuracy=calibration.assessment.accuracy,
        interval_95=calibration.assessment.interval_95,
        ece=calibration.assessment.ece,
        temperature=calibration.temperature,
    )


def sample(state: TrainState) -> Iterator[events.Sample | events.Heartbeat]:
    """A text generated by the averaged weights, whose trace is written to samples/; or the reason for having none.

    All samples of a run have the same prompt and the same seed, so that they differ by the weights alone.
    """
    if not state.world.leads:
        return
    causal = state.average.spec.causal
    model = LoadedModel(state.run.name, state.run.model, state.average, state.tokenizer, state.origin())
    prompt = default_prompt(model, state.settings.train.seed, 0)
    length = state.settings.model.window - len(prompt_ids(model, prompt))
    try:
        lines = list(narrate(model, prompt, _CAUSAL_SAMPLE if causal else _SAMPLE, length=length))
    except TdiffError as error:  # such as a model that requires a prompt where no prompts are stored
        yield heartbeat(state, f"no sample: {error}")
        return
    path = f"samples/{state.step:08d}.jsonl"
    write_atomic(state.run.path / path, "".join(map(events.to_line, lines)).encode())
    text = next(line.text for line in lines if isinstance(line, TraceEnd))
    yield events.Sample(time=time.time(), step=state.step, prompt=prompt, text=text, path=path)
