"""Training: the records of a run, its budget, and what it saves."""

import math
import os
import re
import time

import pytest
import torch
from safetensors.torch import load_file

from tdiff.config.settings import Settings, TrainSettings
from tdiff.core.evaluation.likelihood import evaluate
from tdiff.core.models.load import load_model
from tdiff.core.training.distributed import World
from tdiff.core.training.loop import train
from tdiff.core.training.optim import rate
from tdiff.core.training.state import TrainState
from tdiff.corpus import corpus as data
from tdiff.errors import TdiffError
from tdiff.protocol import events as records
from tdiff.protocol.events import End, Eval, Heartbeat, Sample, Start, Train
from tdiff.runs.run import Run
from tests.support.runs import After, kinds, settings_of, train_in, words


def test_loss_falls_and_the_bound_beats_character_counts(tmp_path):
    (tmp_path / "a.txt").write_text("abcd" * 3000)
    settings = settings_of(
        tmp_path / "a.txt", {"train": {"steps": 300, "batch_size": 8, "lr": 2e-2, "eval_every": 0, "seed": 1}}
    )
    _, events = train_in(tmp_path, "run", settings)
    losses = [e.loss for e in events if isinstance(e, Train)]
    assert sum(losses[:10]) / 10 == pytest.approx(math.log(4), rel=0.1)
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])
    final = next(e for e in events if isinstance(e, Eval) and e.final)
    assert final.nats_per_char < 0.8 * math.log(4)
    assert final.interval_95[0] < final.nats_per_token < final.interval_95[1]


def test_events_are_ordered_and_parse_and_a_heartbeat_precedes_long_work(tmp_path, corpus_file):
    settings = settings_of(
        corpus_file, {"train": {"steps": 6, "eval_every": 3, "sample_every": 3, "eval_tokens": 64, "save_every": 1e-9}}
    )
    run, events = train_in(tmp_path, "run", settings)
    step = ["train", "checkpoint"]
    long = ["heartbeat", "eval", "heartbeat", "sample"]
    assert kinds(events) == [
        "start",
        *step * 2,
        *("train", *long, "checkpoint"),
        *step * 2,
        *("train", *long, "checkpoint"),
        *("checkpoint", "heartbeat", "eval", "end"),
    ]
    assert run.history() == [records.parse(records.to_line(event)) for event in events]
    assert [e.time for e in events] == sorted(e.time for e in events)
    assert [e.step for e in events[1:]] == sorted(e.step for e in events[1:])
    assert [e.doing for e in events if isinstance(e, Heartbeat)][-1] == "evaluating held-out text"
    start = events[0]
    assert isinstance(start, Start)
    assert Settings.of([start.settings]) == settings == run.settings()
    assert start.pid == os.getpid()
    assert start.steps == 6
    assert start.minutes is None
    text = corpus_file.read_text()
    assert start.tokens == len(text) * 9 // 10
    assert start.vocabulary == len(set(text)) + 1
    for record in (e for e in events if isinstance(e, Train)):
        assert len(record.loss_by_mask) == 10
        assert any(tenth is not None for tenth in record.loss_by_mask)
        assert record.tokens == record.step * 4 * 32
        assert record.progress == pytest.approx(record.step / 6)
        assert record.tokens_per_second > 0
        assert record.eta >= 0
    samples = [e for e in events if isinstance(e, Sample)]
    assert len(samples) > 1 and len({sample.prompt for sample in samples}) == 1, "samples of a run can be compared"
    for sample in samples:
        lines = [records.parse(line) for line in (run.path / sample.path).read_text("utf-8").splitlines()]
        assert kinds(lines)[:: len(lines) - 1] == ["trace", "text"]
        assert lines[0].prompt == sample.prompt and lines[0].seed == 0
        assert lines[-1].text == sample.text
        assert sample.text.startswith(sample.prompt)


def test_first_step_after_start_and_resume_has_a_record_with_an_eta(tmp_path, corpus_file):
    settings = settings_of(corpus_file, {"train": {"steps": 9, "log_every": 1000.0, "eval_every": 0}})
    for step, how in ((1, {"stop": After(4)}), (5, {"resume": True})):
        _, events = train_in(tmp_path, "run", settings, **how)
        first = next(e for e in events if isinstance(e, Train))
        assert first.step == step
        assert first.eta > 0


def test_evaluations_score_eval_tokens_and_the_final_one_all(tmp_path, corpus_file):
    settings = settings_of(corpus_file, {"train": {"steps": 2, "eval_every": 1, "eval_tokens": 100}})
    _, events = train_in(tmp_path, "run", settings)
    held_out = len(data.load([str(corpus_file)]).split()[1])
    assert [(e.tokens, e.final) for e in events if isinstance(e, Eval)] == [(96, False), (96, False), (held_out, True)]


def test_budget_of_epochs_is_counted_in_tokens(tmp_path, corpus_file):
    _, events = train_in(tmp_path, "run", settings_of(corpus_file, {"train": {"steps": 0, "epochs": 0.05}}))
    tokens = events[0].tokens
    assert events[0].steps == events[-1].step == math.ceil(0.05 * tokens / (4 * 32))


def test_budget_of_minutes_ends_by_the_clock_and_a_resume_has_the_remainder(tmp_path, corpus_file):
    settings = settings_of(corpus_file, {"train": {"steps": 0, "minutes": 1.0 / 60, "eval_every": 0}})
    started = time.monotonic()
    _, events = train_in(tmp_path, "run", settings, stop=lambda: time.monotonic() - started > 0.5)
    assert events[-1].reason == "stopped"
    spent = events[-2].time - events[0].time
    started = time.time()
    _, events = train_in(tmp_path, "run", settings, resume=True)
    assert events[-1].reason == "finished"
    last = [e for e in events if isinstance(e, Train)][-1]
    assert last.progress > 0.9
    assert last.time - started < 1.5 - min(spent, 0.5) + 1.0
    assert last.lr < 0.2 * settings.train.lr  # the rate follows the clock down


def test_stop_ends_the_final_evaluation_and_a_resume_makes_it(tmp_path, corpus_file):
    settings = settings_of(corpus_file)
    _, events = train_in(tmp_path, "run", settings, stop=After(settings.train.steps + 1))
    assert events[-1] == End(time=events[-1].time, step=30, reason="stopped")
    assert not any(isinstance(e, Eval) for e in events)
    settings = Settings.of([settings.as_layer(), {"train": {"keep_last": 3, "on_nan": "skip"}}])  # no new end
    _, events = train_in(tmp_path, "run", settings, resume=True)
    assert events[-1].reason == "finished"
    assert [e.final for e in events if isinstance(e, Eval)] == [True]


def test_processes_that_load_different_saves_are_refused(tmp_path, corpus_file):
    class Stale(World):
        def collect(self, value):
            return [value, value, 3]

    settings = settings_of(corpus_file, {"train": {"steps": 5}})
    run, _ = train_in(tmp_path, "run", settings, stop=After(4))
    expected = r"read different saves of run 'run': process 0 step 4, process 2 step 3"
    with pytest.raises(TdiffError, match=expected):
        train(settings, run, data.load(settings.data.sources), resume=True, world=Stale())


def test_training_without_a_budget_is_refused(tmp_path, corpus_file):
    with pytest.raises(TdiffError, match=r"no end: give train\.steps, train\.minutes or train\.epochs"):
        train_in(tmp_path, "run", settings_of(corpus_file, {"train": {"steps": 0}}))


@pytest.mark.parametrize("size", [1, 30, 200])
def test_corpus_shorter_than_a_window_is_refused_before_anything_is_written(size, tmp_path):
    (tmp_path / "a.txt").write_text(words(100)[:size])
    settings = settings_of(tmp_path / "a.txt")
    with pytest.raises(
        TdiffError, match=r"the (training|held-out) part of a\.txt has \d+ tokens?; model\.window is 32"
    ):
        train(settings, Run(tmp_path / "run"), data.load(settings.data.sources))  # without a single record
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("way", [{}, {"objective": {"context_mode": "fixed"}}, {"data": {"tokenizer": "bpe:30"}}])
@pytest.mark.parametrize("size", [2, 3, 10, 11, 19, 20, 29, 45, 80, 99, 160, 170, 200, 310])
def test_advice_for_a_short_corpus_works(size, way, tmp_path):
    (tmp_path / "a.txt").write_text(words(100)[:size])
    settings = settings_of(tmp_path / "a.txt", way)
    with pytest.raises(TdiffError) as refusal:
        train_in(tmp_path, "run", settings)
    advice = re.search(r"give more text, or --window (\d+)(?: --context (\d+))?$", str(refusal.value))
    layer = {"model": {"window": int(advice[1])}, "train": {"steps": 2, "eval_every": 1, "sample_every": 1}}
    context = {"objective": {"context": int(advice[2])}} if advice[2] else {}
    _, events = train_in(tmp_path, "run-2", Settings.of([settings.as_layer(), layer, context]))
    assert events[-1].reason == "finished"
    assert {"train", "eval", "sample"} <= set(kinds(events))


def test_advice_for_a_text_too_short_to_split_is_more_text(tmp_path):
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(TdiffError, match=r"has 0 tokens; model\.window is 32: give more text$"):
        train_in(tmp_path, "run", settings_of(tmp_path / "a.txt"))


def test_learning_rate_rises_stays_and_falls_linearly():
    options = TrainSettings(warmup=0.1, decay=0.5, final_lr=0.2)
    assert [rate(options, spent) for spent in (0.05, 0.1, 0.3, 0.5)] == pytest.approx([0.5, 1.0, 1.0, 1.0])
    assert [rate(options, spent) for spent in (0.75, 1.0)] == pytest.approx([0.6, 0.2])
    assert 0 < rate(options, 0.0) < 0.01  # a first step at a rate of 0 would be lost
    assert rate(TrainSettings(warmup=0.0, decay=0.0), 0.0) == rate(TrainSettings(warmup=0.0, decay=0.0), 1.0) == 1.0


def test_recorded_learning_rate_is_that_of_the_step(tmp_path, corpus_file):
    layer = {"train": {"steps": 10, "lr": 1e-3, "warmup": 0.5, "decay": 0.5, "final_lr": 0.0}}
    _, events = train_in(tmp_path, "run", settings_of(corpus_file, layer))
    rates = [e.lr for e in events if isinstance(e, Train)]
    assert rates[1:] == pytest.approx([k * 2e-4 for k in (1, 2, 3, 4, 5, 4, 3, 2, 1)])


def test_average_follows_the_formula_of_its_decay(tmp_path, corpus_file):
    settings = settings_of(corpus_file, {"train": {"ema": 0.3, "steps": 5}})
    state = TrainState(settings, Run(tmp_path / "run"), data.load(settings.data.sources))
    expected = [p.detach().double().clone() for p in state.network.parameters()]
    for n, decay in enumerate([0.1, 2 / 11, 0.25, 0.3, 0.3]):  # min(0.3, (1 + n) / (10 + n))
        state.update(n / 5)
        expected = [
            decay * m + (1 - decay) * p.detach().double()
            for m, p in zip(expected, state.network.parameters(), strict=True)
        ]
    for m, average in zip(expected, state.average.parameters(), strict=True):
        torch.testing.assert_close(average.double(), m, rtol=1e-5, atol=1e-7)
    assert any(
        not torch.equal(a, p) for a, p in zip(state.average.parameters(), state.network.parameters(), strict=True)
    )


def test_model_holds_the_average_and_the_resume_state_both_weights(tiny_run):
    state, model = load_file(tiny_run.state), load_file(tiny_run.model / "model.safetensors")
    assert {f"average.{name}" for name in model} == {name for name in state if name.startswith("average.")}
    assert all(torch.equal(state[f"average.{name}"], tensor) for name, tensor in model.items())
    assert any(not torch.equal(state[f"network.{name}"], tensor) for name, tensor in model.items())


def test_stored_prompts_are_prefixes_of_training_lines(tiny_run, corpus_file):
    origin = load_model(str(tiny_run.path)).origin
    lines = data.load([str(corpus_file)]).split()[0].splitlines()
    assert 1 < len(origin.openings) <= 64
    assert len(set(origin.openings)) == len(origin.openings)
    for opening in origin.openings:
        assert 0 < len(opening) <= 8
        assert any(line.startswith(opening) for line in lines)
        # A complete line, or cut where a word begins: the model never has to complete a word.
        assert opening in lines or opening.endswith(" ")
    assert (origin.corpus, origin.sources, origin.steps, origin.tokens) == ("tale.txt", (str(corpus_file),), 30, 3840)
    assert tiny_run.history()[-1].reason == "finished"


def test_tuning_part_is_held_out_and_evaluated_and_the_last_tenth_is_not_read(tmp_path, monkeypatch):
    text = words(4000)
    (tmp_path / "tale.txt").write_text(text)
    settings = settings_of(tmp_path / "tale.txt", {"data": {"held_out": "tuning"}, "train": {"steps": 3}})
    corpus = data.load(settings.data.sources)
    training, tuning = corpus.split("tuning")
    state = TrainState(settings, Run(tmp_path / "run"), corpus)
    assert state.tokenizer.decode(state.data.tokens) == training
    assert state.tokenizer.decode(state.data.held_out) == tuning
    assert training + tuning == corpus.split()[0]
    run, _ = train_in(tmp_path, "other", settings)
    model = load_model(str(run.path))
    assert model.origin.held_out == "tuning"
    [final] = [event for event in run.history() if isinstance(event, Eval)]
    monkeypatch.chdir(tmp_path)
    assert final.tokens == len(tuning) == evaluate(model).tokens == evaluate(model, part="tuning").tokens
    assert evaluate(model, part="val").tokens == len(corpus.split()[1])
