"""Training: a generator of records. The step loop is `_steps`; what it drives lies in the modules beside it."""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterator, Sequence

from tdiff.config.settings import Settings
from tdiff.core.training import best, fitting, reports
from tdiff.core.training.distributed import World
from tdiff.core.training.meter import Meter
from tdiff.core.training.non_finite import NonFinite
from tdiff.core.training.reports import EndReason, Progress, Stop
from tdiff.core.training.state import TrainState
from tdiff.corpus.corpus import Corpus
from tdiff.errors import TdiffError
from tdiff.protocol import events
from tdiff.runs import retention
from tdiff.runs.run import Run

_IF_LOST = "the training ends, and its last save stays: resume it with --resume"
"""What happens if a process is lost."""


def train(
    settings: Settings,
    run: Run,
    corpus: Corpus,
    *,
    resume: bool = False,
    stop: Stop = lambda: False,
    progress: Progress = lambda done, total: None,
    world: World | None = None,
    writing: Progress | None = None,
) -> Iterator[events.Event]:
    """Train in the folder of `run`: an iterator over the records of training, each as it happens.

    `stop()` is called after each step, and during the final evaluation; once it is true, everything is saved and the
    run ends as "stopped". `progress(done, total)` is called during the evaluation after training, in windows or texts.
    With `resume` the run continues from its last save; with a budget of steps, on a CPU bit for bit as if it had never
    stopped (on the same machine with the same number of threads); CUDA and MPS add up in no fixed order, and the run
    continues as well, but not to the last bit. A run whose saved state is of a version with other random numbers
    continues with the new ones, and a record says so. A run without a save begins again; a damaged save is replaced by
    the one before it, with an alert. `settings` may then have another budget than the run's own, and
    the learning rate falls to the new end from where it would have been on the way there. Unless
    `train.on_nan` says otherwise, a loss that is not finite ends the run with an alert, and the last good weights stay.
    `world` is one process of several that train together. `writing(done, total)` is called in bytes while token files
    are written (`data.token_files`).
    Raises TdiffError for a corpus too short, a device that is not available, a state that does not fit, or a new budget
    that is spent: at once, before anything is written.
    """
    world = world or World()
    with world.together():  # until all have read the folder, into which the first of them writes
        with world.in_turn():
            recovered = retention.recover(run) if resume and world.leads else ""
        state = TrainState(settings, run, corpus, world, writing)
        resume = resume and run.state.exists()  # else it was interrupted before its first save, and begins again
        if resume:
            state.load()
        changed = resume and settings.train.budget != run.settings().train.budget
    _check_saves(state, resume)
    if changed and state.spent() >= 1.0:
        raise TdiffError(f"run {run.name!r} is at step {state.step:,}, which is not before the new end")
    return _steps(state, resume, recovered, stop, progress)


def _check_saves(state: TrainState, resumed: bool) -> None:
    """Raise TdiffError in all processes if they have loaded different saves, as from a file system over a network."""
    saves = state.world.collect(state.step if resumed else None)
    if len(set(saves)) > 1:
        texts = ["no save" if step is None else f"step {step:,}" for step in saves]
        other = next(rank for rank, text in enumerate(texts) if text != texts[0])
        raise TdiffError(
            f"the processes read different saves of run {state.run.name!r}: process 0 {texts[0]}, process {other} "
            f"{texts[other]}; all must see the same folder, and after a moment may: resume again"
        )


def _steps(state: TrainState, resume: bool, recovered: str, stop: Stop, progress: Progress) -> Iterator[events.Event]:
    state.world.watch(_IF_LOST)
    if resume:
        yield from reports.resume(state)
        if state.world.any(bool(recovered)):  # in the first process alone
            with state.replica.led():
                if recovered and retention.model_is_damaged(state.run):
                    state.save_model(state.run.model)
            yield reports.damage_alert(state, recovered)
    else:
        yield from reports.start_once(state)
        state.save()
    if state.compiled:
        yield reports.heartbeat(state, "compiling the model, about a minute")
        why_not = state.warm_up()
        yield reports.heartbeat(state, f"training without compiling: {why_not}" if why_not else "compiled the model")
    state.start_clock()
    options, meter, agreed = state.settings.train, Meter(state), state.world.agreed
    non_finite = NonFinite(state)
    saved = time.monotonic()
    reason: EndReason = "finished"
    trained = state.spent() >= 1.0  # only what comes after training may be missing
    while (spent := state.spent()) < 1.0:
        if state.world.any(stop()):
            reason = "stopped"
            break
        meter.add(*fitting.update(state, spent))
        if due := meter.due() or state.held_back or state.spent() >= 1.0:
            record = meter.record(spent)
            yield record
            if not (math.isfinite(record.loss) and math.isfinite(record.grad_norm) and state.finite()):
                yield from non_finite.handle(record.loss, record.grad_norm)
                if non_finite.outcome == "over":
                    reason = "nan"
                    break
                if non_finite.outcome == "rewound":
                    meter, saved = Meter(state), time.monotonic()
                    continue
        with meter.paused():
            if options.eval_every and state.step % options.eval_every == 0:
                yield reports.heartbeat(state, "evaluating")
                with state.replica.led():
                    yield from best.retained(state, reports.evaluate(state, options.eval_tokens))
            if options.sample_every and state.step % options.sample_every == 0:
                yield reports.heartbeat(state, "sampling")
                with state.replica.led():
                    yield from reports.sample(state)
            if due and options.save_every and agreed(time.monotonic() - saved >= options.save_every):
                yield reports.save(state)
                saved = time.monotonic()
    state.stop_clock()
    if meter.steps and reason == "stopped":  # else the curve would lack the steps since the last record
        yield meter.record(spent)
    if reason == "nan" or not state.finite():  # a stop may come between the loss that failed and its record
        reason = "nan"
        yield reports.nan_alert(state)
    elif not trained:
        yield reports.save(state)
    if reason == "finished":
        with state.replica.led():
            if state.world.leads:
                earlier = reports.final_records(state) if trained else []
                reason = yield from _after_training(state, earlier, stop, progress)
    reason = agreed(reason)  # the others wait here for the evaluation
    yield reports.end(state, reason)


def _after_training(
    state: TrainState, earlier: Sequence[events.Eval | events.Verdicts], stop: Stop, progress: Progress
) -> Generator[events.Event, None, EndReason]:
    """Evaluate and calibrate, within the time that the budget leaves for both. Returns how the run ends.

    `earlier`: what an earlier process has recorded of it before it was interrupted.
    """
    seconds, started = reports.final_seconds(state), time.monotonic()
    calibrates = state.data.labels is not None and state.settings.train.calibrate > 0
    if not any(isinstance(record, events.Eval) for record in earlier):
        yield reports.heartbeat(state, "evaluating held-out text")
        share = 0.5 if calibrates else 1.0
        evaluations = list(
            reports.evaluate_finally(state, stop, None if seconds is None else seconds * share, progress)
        )
        yield from evaluations
        if not evaluations:
            return "stopped"
    if not calibrates:
        return "finished"
    if (calibration := next((record for record in earlier if isinstance(record, events.Verdicts)), None)) is not None:
        state.temperature = calibration.temperature
        yield reports.save(state)
        return "finished"
    yield reports.heartbeat(state, "scoring held-out texts")
    left = None if seconds is None else seconds - (time.monotonic() - started)
    calibrations = list(reports.calibrate_temperature(state, stop, left, progress))
    yield from calibrations
    yield reports.save(state)
    return "stopped" if not calibrations and stop() else "finished"
