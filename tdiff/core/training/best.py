"""The best model of a run: the averaged weights with the lowest held-out bound, in the run's folder `best`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from tdiff.core.training.state import TrainState
from tdiff.protocol import events
from tdiff.runs import retention
from tdiff.runs.retention import Bound


def retained(state: TrainState, evaluations: Iterable[events.Eval]) -> Iterator[events.Eval]:
    """Yield `evaluations` during training, and save the model after each with a lower bound than all before.

    Evaluations during training score the same tokens with the same masks, so their bounds can be compared.
    """
    for evaluation in evaluations:
        yield evaluation
        bound = evaluation.nats_per_token
        best = retention.best_bound(state.run) if state.settings.train.keep_best else None
        lower = best is None or bound < best.nats_per_token
        if state.settings.train.keep_best and lower and math.isfinite(bound) and state.finite():
            state.save_model(state.run.path / retention.BEST)
            retention.write_best_bound(state.run, Bound(step=state.step, nats_per_token=bound))
