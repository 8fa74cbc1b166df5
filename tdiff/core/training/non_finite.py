"""What a run does about a loss, a gradient or weights that are not finite: `train.on_nan`."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Literal

from tdiff.core.training import reports
from tdiff.core.training.state import TrainState
from tdiff.protocol import events

MOST_SKIPPED = 100
"""Steps in a row that are skipped, at most: then the weights are beyond repair."""
MOST_REWINDS = 3
"""Rewinds to the same save, at most."""
Outcome = Literal["continue", "rewound", "over"]


class NonFinite:
    """Handles the steps whose loss, gradient or weights are not finite."""

    def __init__(self, state: TrainState) -> None:
        self.state = state
        self.outcome: Outcome = "continue"
        """What the last call of `handle` led to; "over" if the run has to end."""
        self._skipped, self._last_step = 0, -1
        self._rewinds, self._save, self._variant = 0, -1, 0

    def handle(self, loss: float, norm: float) -> Iterator[events.Event]:
        """React to the last step, whose mean loss and gradient norm these are; yields the records of it."""
        state, step = self.state, self.state.step
        self.outcome = "over"
        if state.settings.train.on_nan == "skip" and state.finite():
            self._skipped = self._skipped + 1 if self._last_step == step - 1 else 1
            self._last_step = step
            if self._skipped < MOST_SKIPPED:
                self.outcome = "continue"
                what = "gradient" if math.isfinite(loss) else "loss"
                text = f"{what} not finite at step {step:,} (gradient norm {norm:.4g}): skipped"
                yield self._alert(step, text + (f", {self._skipped} in a row" if self._skipped > 1 else ""))
        elif state.settings.train.on_nan == "rewind":
            if state.saved_step != self._save:
                self._rewinds, self._save, self._variant = 0, state.saved_step, state.noise_variant
            if self._rewinds < MOST_REWINDS:
                self._rewinds += 1
                self.outcome = "rewound"
                yield from self._rewind(step)

    def _rewind(self, failed: int) -> Iterator[events.Event]:
        """Continue from the last save. What the clock has spent stays spent."""
        state = self.state
        elapsed = state.elapsed
        state.load()
        state.seconds, state.noise_variant = elapsed, self._variant + self._rewinds
        state.start_clock()
        yield from reports.resume(state)
        yield self._alert(
            state.step,
            f"loss, gradient or weights not finite at step {failed:,}: back to the save of step {state.step:,}, with "
            f"other random numbers (rewind {self._rewinds} of at most {MOST_REWINDS})",
        )

    def _alert(self, step: int, text: str) -> events.Alert:
        return events.Alert(time=time.time(), step=step, what="nan", text=text)
