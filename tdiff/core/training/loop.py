"""Training: a generator of records. The step loop is `_steps`; the job it drives and the meter stand around it."""

from __future__ import annotations

import math
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor

from tdiff.config.settings import Settings
from tdiff.core import devices
from tdiff.core.diffusion.objective import Loss
from tdiff.core.training.state import Progress, TrainState, rate
from tdiff.corpus.corpus import Corpus
from tdiff.errors import TdiffError
from tdiff.protocol import events
from tdiff.runs.run import Run


def train(
    settings: Settings,
    run: Run,
    corpus: Corpus,
    *,
    resume: bool = False,
    stop: Callable[[], bool] = lambda: False,
    progress: Progress = lambda done, total: None,
) -> Iterator[events.Event]:
    """Train in the folder of `run`: an iterator of what happens, as it happens.

    `stop` is asked after each step, and during the last evaluation; when it says so, everything is saved and the run
    ends as "stopped". `progress(done, total)` is called during what follows training, in windows or texts. With
    `resume` the run continues from its last save; with a budget of steps, on a CPU bit for bit as if it had never
    stopped (on the same machine with the same number of threads); on CUDA and MPS sums come in no fixed order, and it
    continues as well, but not to the last bit. `settings` may then have another budget than the run's own, and the
    learning rate falls to the new end from where it would have been on the way there. A loss that is not finite ends
    the run with an alert, and the last good weights stay. Raises TdiffError for a corpus too short, a device that is
    absent, a state that does not fit, or a new budget that is spent: at once, before anything is written.
    """
    job = TrainState(settings, run, corpus)
    if resume:
        job.load()
        if settings != run.settings() and job.spent() >= 1.0:  # the same ones may have an evaluation to make up
            raise TdiffError(f"run {run.name!r} is at step {job.step:,}, which is not before the new end")
    return _steps(job, resume, stop, progress)


def _steps(job: TrainState, resume: bool, stop: Callable[[], bool], progress: Progress) -> Iterator[events.Event]:
    if resume:
        yield events.Resume(
            time=time.time(),
            step=job.step,
            pid=os.getpid(),
            host=platform.node(),
            steps=job.total_steps or None,
            minutes=job.settings.train.minutes or None,
        )
    else:
        yield job.start_record()
        job.save()
    if job.compiled:
        yield job.heartbeat("compiling the model, about a minute")
        why_not = job.warm_up()
        yield job.heartbeat(f"training without compiling: {why_not}" if why_not else "compiled the model")
    job.begin()
    options, meter = job.settings.train, Meter(job)
    saved = time.monotonic()
    reason: Literal["finished", "stopped", "nan"] = "finished"
    while (spent := job.spent()) < 1.0:
        if stop():
            reason = "stopped"
            break
        meter.add(*job.update(spent))
        if due := meter.due() or job.spent() >= 1.0:
            record = meter.record(spent)
            yield record
            if not (math.isfinite(record.loss) and math.isfinite(record.grad_norm) and job.finite()):
                reason = "nan"
                break
        with meter.paused():
            if options.eval_every and job.step % options.eval_every == 0:
                yield job.heartbeat("evaluating")
                yield from job.evaluate(options.eval_tokens)
            if options.sample_every and job.step % options.sample_every == 0:
                yield job.heartbeat("sampling")
                yield job.sample()
            if due and options.save_every and time.monotonic() - saved >= options.save_every:
                yield job.save()
                saved = time.monotonic()
    job.halt()
    if reason == "nan" or not job.finite():  # a stop may come between the loss that failed and its record
        reason = "nan"
        yield job.nan_alert()
    else:
        yield job.save()
    if reason == "finished":
        seconds, begun = job.final_seconds(), time.monotonic()
        calibrates = job.labels is not None and options.calibrate > 0
        yield job.heartbeat("evaluating held-out text")
        share = 0.5 if calibrates else 1.0
        whole = list(job.evaluate_finally(stop, None if seconds is None else seconds * share, progress))
        yield from whole
        reason = "finished" if whole else "stopped"
        if whole and calibrates:
            yield job.heartbeat("scoring held-out texts")
            left = None if seconds is None else seconds - (time.monotonic() - begun)
            verdicts = list(job.calibrate(stop, left, progress))
            yield from verdicts
            yield job.save()
            reason = "stopped" if not verdicts and stop() else "finished"
    yield events.End(time=time.time(), step=job.step, reason=reason)


class Meter:
    """What training did since the last record, summed on the device so that no step waits for it."""

    def __init__(self, job: TrainState) -> None:
        self.job, self._told = job, False
        self._reset()

    def _reset(self) -> None:
        self._since, self._steps = time.monotonic(), 0
        self._loss = self._norm = torch.zeros((), device=self.job.device)
        self._tenths = torch.zeros(2, 10, device=self.job.device)

    def add(self, losses: list[Loss], norm: Tensor) -> None:
        """Count one step."""
        self._steps += 1
        self._norm = self._norm + norm
        for loss in losses:
            self._loss = self._loss + loss.nats.detach()
            tenth = (loss.share * 10).long().clamp(max=9)
            some = (loss.share > 0).float()
            self._tenths.index_put_((torch.zeros_like(tenth), tenth), loss.row_nats * some, accumulate=True)
            self._tenths.index_put_((torch.ones_like(tenth), tenth), some, accumulate=True)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Time that is not training's."""
        begun = time.monotonic()
        yield
        self._since += time.monotonic() - begun

    def due(self) -> bool:
        """Whether it is time for a record: after the first step, and then every `log_every` seconds."""
        return not self._told or time.monotonic() - self._since >= self.job.settings.train.log_every

    def record(self, spent: float) -> events.Train:
        """The record of the steps since the last one."""
        job, options = self.job, self.job.settings.train
        loss, norm = (torch.stack((self._loss, self._norm)) / self._steps).tolist()
        nats, counts = self._tenths.tolist()
        seconds = max(time.monotonic() - self._since, 1e-9)
        spent_now = min(job.spent(), 1.0)
        record = events.Train(
            time=time.time(),
            step=job.step,
            tokens=round(job.step * job.step_tokens),
            loss=loss,
            loss_by_mask=[round(n / c, 4) if c else None for n, c in zip(nats, counts, strict=True)],
            lr=options.lr * rate(options, spent),
            grad_norm=norm,
            tokens_per_second=self._steps * job.step_tokens / seconds,
            progress=spent_now,
            eta=job.elapsed * (1 - spent_now) / spent_now if spent_now else 0.0,
            **devices.gpu_report(job.device),
        )
        self._told = True
        self._reset()
        return record
