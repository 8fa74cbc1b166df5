"""The losses and the speed of training between two records."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from tdiff.core import devices
from tdiff.core.diffusion.objective import Loss
from tdiff.core.training.optim import rate
from tdiff.core.training.state import TrainState
from tdiff.protocol import events


class Meter:
    """Sums over the steps since the last record, kept on the device so that no step waits for it."""

    def __init__(self, state: TrainState) -> None:
        self.state, self._reported = state, False
        self._reset()

    def _reset(self) -> None:
        self._since, self._steps = time.monotonic(), 0
        self._loss = self._norm = torch.zeros((), device=self.state.device)
        self._tenths = torch.zeros(2, 10, device=self.state.device)

    @property
    def steps(self) -> int:
        """Steps since the last record."""
        return self._steps

    def add(self, losses: list[Loss], norm: Tensor) -> None:
        """Count one step, of these losses of its passes and this norm () of its gradient."""
        self._steps += 1
        self._norm = self._norm + norm
        for loss in losses:
            self._loss = self._loss + loss.nats.detach()
            tenth = (loss.share * 10).long().clamp(max=9)
            masked = (loss.share > 0).float()
            self._tenths.index_put_((torch.zeros_like(tenth), tenth), loss.row_nats * masked, accumulate=True)
            self._tenths.index_put_((torch.ones_like(tenth), tenth), masked, accumulate=True)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave out the time of the block from the speed of training."""
        started = time.monotonic()
        yield
        self._since += time.monotonic() - started

    def due(self) -> bool:
        """Whether it is time for a record: after the first step, and then every `log_every` seconds."""
        elapsed = time.monotonic() - self._since
        return self.state.world.agreed(not self._reported or elapsed >= self.state.settings.train.log_every)

    def record(self, spent: float) -> events.Train:
        """The record of the steps since the last one; `spent` is the part of the budget before the last of them."""
        state, options = self.state, self.state.settings.train
        nats, counts = state.world.total(self._tenths).tolist()
        loss, norm = (torch.stack((state.world.total(self._loss), self._norm)) / self._steps).tolist()
        seconds = max(time.monotonic() - self._since, 1e-9)
        spent_now = min(state.spent(), 1.0)
        record = events.Train(
            time=time.time(),
            step=state.step,
            tokens=round(state.step * state.data.step_tokens),
            loss=loss,
            loss_by_mask=[round(n / c, 4) if c else None for n, c in zip(nats, counts, strict=True)],
            lr=options.lr * rate(options, spent),
            grad_norm=norm,
            tokens_per_second=self._steps * state.data.step_tokens / seconds,
            progress=spent_now,
            eta=state.elapsed * (1 - spent_now) / spent_now if spent_now else 0.0,
            **devices.gpu_report(state.device),
        )
        self._reported = True
        self._reset()
        return record
