"""A loss or weights that are not finite end a run, and the last good weights stay."""

import json
import math

import pytest

from tdiff.core.training.state import TrainState
from tdiff.protocol.events import Alert, Checkpoint, End, Eval
from tests.support.runs import After, files_of, good, settings_of, train_in


def poison(monkeypatch, at: int) -> None:
    """Make the weights NaN after step `at`, and with them the loss of the next step."""
    update = TrainState.update

    def poisoned(state, spent):
        losses, norm = update(state, spent)
        if state.step == at:
            for p in state.network.parameters():
                p.data.fill_(math.nan)
        return losses, norm

    monkeypatch.setattr(TrainState, "update", poisoned)


@pytest.mark.parametrize("at", [1, 4])
@pytest.mark.parametrize("log_every", [0.0, 1000.0], ids=["log-each-step", "log-seldom"])
def test_non_finite_loss_ends_the_run_with_an_alert_and_the_last_good_weights_stay(
    at, log_every, tmp_path, corpus_file, monkeypatch
):
    poison(monkeypatch, at)
    layer = {"train": {"steps": 9, "log_every": log_every, "save_every": 1e-9, "eval_every": 0}}
    run, events = train_in(tmp_path, "run", settings_of(corpus_file, layer))
    assert isinstance(events[-1], End)
    assert events[-1].reason == "nan"
    assert isinstance(events[-2], Alert)
    assert events[-2].what == "nan"
    assert str(run.model) in events[-2].text
    saved = [e.step for e in events if isinstance(e, Checkpoint)]
    assert good(run) == max(saved, default=0) < at
    assert not any(isinstance(e, Eval) for e in events)
    for line in run.events.read_text().splitlines():
        json.loads(line, parse_constant=lambda what: pytest.fail(f"{what} is not JSON"))


@pytest.mark.parametrize("stop", [3, 4])
def test_stop_between_a_bad_step_and_its_record_does_not_save_bad_weights(stop, tmp_path, corpus_file, monkeypatch):
    poison(monkeypatch, 3)
    layer = {"train": {"steps": 9, "log_every": 1000.0}}
    run, events = train_in(tmp_path, "run", settings_of(corpus_file, layer), stop=After(stop))
    assert events[-1].reason == "nan"
    assert good(run) == 0


def test_huge_learning_rate_never_leaves_bad_weights_on_disk(tmp_path, corpus_file):
    layer = {"train": {"steps": 20, "lr": 1e38, "warmup": 0.0, "clip": 0.0, "weight_decay": 1.0, "save_every": 1e-9}}
    run, events = train_in(tmp_path, "run", settings_of(corpus_file, layer))
    assert events[-1].reason == "nan"
    good(run)


def test_evaluations_and_samples_of_non_finite_weights_do_not_break_the_run(tmp_path, corpus_file, monkeypatch):
    poison(monkeypatch, 2)
    layer = {"train": {"steps": 5, "log_every": 1000.0, "eval_every": 1, "sample_every": 1, "eval_tokens": 64}}
    run, events = train_in(tmp_path, "run", settings_of(corpus_file, layer))
    assert events[-1].reason == "nan"
    assert len(run.history()) == len(events)


def test_resume_after_a_non_finite_loss_continues_from_the_last_save(tmp_path, corpus_file, monkeypatch):
    settings = settings_of(corpus_file, {"train": {"steps": 6, "save_every": 1e-9}})
    unbroken, _ = train_in(tmp_path, "whole", settings)
    with monkeypatch.context() as patch:
        poison(patch, 4)
        run, _ = train_in(tmp_path, "run", settings)
    _, events = train_in(tmp_path, "run", settings, resume=True)
    assert (events[0].kind, events[0].step, events[-1].reason) == ("resume", 3, "finished")
    assert files_of(run.model) == files_of(unbroken.model)
    assert not any(isinstance(e, Alert) for e in run.history())  # it belongs to steps that the resume replaces
