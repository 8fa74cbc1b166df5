"""`train.on_nan`: a step that is not finite is skipped, or the run goes back to its last save."""

import math
import os

import pytest
import torch

from tdiff.core.training import non_finite
from tdiff.core.training.state import TrainState
from tdiff.protocol.events import Alert, Resume, Train
from tdiff.watch.run_state import RunState
from tests.support.killing import without_sync
from tests.support.runs import files_of, good, settings_of, train_in


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(os, "fsync", without_sync)


def spoil(monkeypatch, *steps: int, once: bool = False, seen: list | None = None) -> None:
    """Make the gradient of these steps not finite; with `once`, only with the first random numbers."""
    backward = TrainState.backward

    def spoilt(state, step):
        losses = backward(state, step)
        if step + 1 in steps and not (once and state.noise_variant):
            state.weights[0].grad[0] = math.inf
        if seen is not None:
            seen.append((step + 1, state.data.seed))
        return losses

    monkeypatch.setattr(TrainState, "backward", spoilt)


def layer(on_nan: str, **more) -> dict:
    return {"train": {"steps": 8, "save_every": 1e-9, "eval_every": 0, "sample_every": 0, "on_nan": on_nan, **more}}


def test_a_skipped_step_changes_neither_weights_nor_optimizer_and_is_an_alert(tmp_path, corpus_file, monkeypatch):
    spoil(monkeypatch, 4, 5)
    states = {}
    update = TrainState.update

    def recording(state, spent):
        result = update(state, spent)
        moments = [value.clone() for o in state.optimizers for v in o.state.values() for value in v.values()]
        states[state.step] = [*(t.detach().clone() for t in (*state.weights, *state.averages)), *moments]
        return result

    monkeypatch.setattr(TrainState, "update", recording)
    run, events = train_in(tmp_path, "run", settings_of(corpus_file, layer("skip")))
    assert all(map(torch.equal, states[3], states[5]))
    assert not all(map(torch.equal, states[5], states[6]))
    alerts = [event for event in events if isinstance(event, Alert)]
    assert [(alert.what, alert.step) for alert in alerts] == [("nan", 4), ("nan", 5)]
    assert alerts[0].text == "gradient not finite at step 4 (gradient norm inf): skipped"
    assert alerts[1].text.endswith("skipped, 2 in a row")
    assert [e.step for e in events if isinstance(e, Train)] == list(range(1, 9))
    assert (events[-1].reason, good(run)) == ("finished", 8)
    watched = RunState("run")
    for event in run.history():
        if isinstance(event, Train):
            norm = math.nan if event.grad_norm is None else event.grad_norm
            watched.points([event.step], {"train/loss": [event.loss], "train/grad_norm": [norm]})
        else:
            watched.record(event)
    shown = [notice for notice in watched.alerts if notice.what == "nan"]  # one for all steps in a row
    assert [(notice.step, notice.text) for notice in shown] == [(5, alerts[1].text)]


def test_a_run_that_skips_and_is_resumed_ends_like_an_unbroken_one(tmp_path, corpus_file, monkeypatch):
    spoil(monkeypatch, 3, 6)
    settings = settings_of(corpus_file, layer("skip"))
    unbroken, _ = train_in(tmp_path, "whole", settings)
    calls = iter([False] * 4)
    train_in(tmp_path, "run", settings, stop=lambda: next(calls, True))
    run, _ = train_in(tmp_path, "run", settings, resume=True)
    assert files_of(run.model) == files_of(unbroken.model)


def test_a_run_whose_every_step_is_skipped_ends(tmp_path, corpus_file, monkeypatch):
    monkeypatch.setattr(non_finite, "MOST_SKIPPED", 3)
    spoil(monkeypatch, 2, 4, 5, 6, 7)
    _, events = train_in(tmp_path, "run", settings_of(corpus_file, layer("skip")))
    assert (events[-1].reason, events[-1].step) == ("nan", 6)


def test_a_rewind_continues_from_the_last_save_with_other_random_numbers(tmp_path, corpus_file, monkeypatch):
    seen: list[tuple[int, int]] = []
    spoil(monkeypatch, 5, once=True, seen=seen)
    run, events = train_in(tmp_path, "run", settings_of(corpus_file, layer("rewind")))
    steps = [step for step, _ in seen]
    assert steps == [1, 2, 3, 4, 5, 5, 6, 7, 8]
    seeds = [seed for _, seed in seen]
    assert len(set(seeds[:5])) == len(set(seeds[5:])) == 1
    assert seeds[4] != seeds[5]
    [back] = [event for event in events if isinstance(event, Resume)]
    alerts = [event for event in run.history() if isinstance(event, Alert)]  # which no later resume discards
    assert back.step == alerts[0].step == 4
    assert alerts[0].text.startswith("loss, gradient or weights not finite at step 5: back to the save of step 4")
    assert [event.step for event in run.history() if isinstance(event, Train)] == list(range(1, 9))
    assert all(math.isfinite(event.loss) for event in run.history() if isinstance(event, Train))
    assert events[-1].reason == "finished"


def test_a_rewound_run_that_is_killed_and_resumed_ends_like_an_unbroken_one(tmp_path, corpus_file, monkeypatch):
    spoil(monkeypatch, 5, once=True)
    settings = settings_of(corpus_file, layer("rewind"))
    unbroken, _ = train_in(tmp_path, "whole", settings)
    calls = iter([False] * 7)
    train_in(tmp_path, "run", settings, stop=lambda: next(calls, True))
    run, _ = train_in(tmp_path, "run", settings, resume=True)
    assert files_of(run.model) == files_of(unbroken.model)


def test_rewinds_that_do_not_help_end_the_run_after_a_few(tmp_path, corpus_file, monkeypatch):
    spoil(monkeypatch, 5)
    run, events = train_in(tmp_path, "run", settings_of(corpus_file, layer("rewind")))
    assert events[-1].reason == "nan"
    assert [event.step for event in events if isinstance(event, Resume)] == [4] * non_finite.MOST_REWINDS
    assert good(run) == 4


@pytest.mark.slow
@pytest.mark.parametrize("on_nan", ["stop", "skip", "rewind"])
def test_settings_without_trouble_train_to_the_same_bits(on_nan, tmp_path, corpus_file):
    plain, _ = train_in(tmp_path, "plain", settings_of(corpus_file, {"train": {"steps": 3}}))
    other, _ = train_in(tmp_path, "other", settings_of(corpus_file, {"train": {"steps": 3, "on_nan": on_nan}}))
    assert files_of(plain.model) == files_of(other.model)
