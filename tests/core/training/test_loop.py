"""Training: resumed bit for bit, ended as its record says, and nothing lost on the way."""

import json
import math
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tdiff.config.settings import Settings, TrainSettings
from tdiff.core import devices
from tdiff.core.evaluation.likelihood import evaluate
from tdiff.core.models.load import load_model
from tdiff.core.training.loop import train
from tdiff.core.training.optim import rate
from tdiff.core.training.state import TrainState
from tdiff.corpus import corpus as data
from tdiff.errors import TdiffError
from tdiff.protocol import events as records
from tdiff.protocol.events import Alert, Checkpoint, End, Eval, Heartbeat, Resume, Sample, Start, Train
from tdiff.runs import lookup
from tdiff.runs import run as runs
from tdiff.runs.run import Run
from tests.support.runs import COMMAND, SET_TINY, environment, settings_of, train_in, words


class After:
    """A `stop` that is true once it has been called `steps` times."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


def kinds(events) -> list[str]:
    return [event.kind for event in events]


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


WAYS = {
    "adamw": {},
    "muon": {"train": {"optimizer": "muon"}},
    "eval-and-samples-between": {"train": {"eval_every": 4, "sample_every": 5, "eval_tokens": 64}},
    "accumulate": {"train": {"accumulate": 2}},
    "time-conditioning": {"model": {"time_conditioning": True}},
    "discrete-cosine-fixed-context": {
        "model": {"time_conditioning": True, "conv": 3},
        "objective": {"timesteps": 8, "schedule": "cosine", "context_mode": "fixed"},
    },
    "dropout": {"train": {"dropout": 0.2}},
    "self-conditioning": {"model": {"self_conditioning": True}},
    "classic-tied-clipped": {
        "model": {"classic": True, "tied": True, "hidden": 24},
        "objective": {"least_masked": 0.1, "most_masked": 0.9},
        "train": {"weights": "int8"},
    },
    "bpe-with-unknown": {"data": {"tokenizer": "bpe:64", "unknown": "token"}},
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
def test_resumed_run_ends_with_the_bytes_of_an_unbroken_run(way, tmp_path, corpus_file):
    settings = settings_of(corpus_file, {"train": {"steps": 20, "eval_every": 0, "sample_every": 0}}, way)
    unbroken, _ = train_in(tmp_path / "a", "run", settings)
    broken, events = train_in(tmp_path / "b", "run", settings, stop=After(10))
    assert events[-1] == End(time=events[-1].time, step=10, reason="stopped")
    torch.manual_seed(99)  # nothing may depend on torch's own generator
    before = files_of(broken.model)["model.safetensors"]
    _, events = train_in(tmp_path / "b", "run", settings, resume=True)
    assert events[-1].reason == "finished"
    assert files_of(broken.model) == files_of(unbroken.model)
    assert files_of(broken.model)["model.safetensors"] != before
    actual, expected = load_file(broken.state), load_file(unbroken.state)
    assert actual.keys() == expected.keys()
    for name in actual:
        assert torch.equal(actual[name], expected[name]), name
    assert any(name.startswith("optimizer.0.") for name in actual)
    if "optimizer" in way.get("train", {}):
        assert any(name.startswith("optimizer.1.") and name.endswith("momentum") for name in actual)
    # Readers that fold the log see one run: each step's records once.
    finals = [[e for e in run.history() if isinstance(e, (Train, Eval, Sample))] for run in (broken, unbroken)]
    assert [(e.kind, e.step) for e in finals[0]] == [(e.kind, e.step) for e in finals[1]]
    assert [e.loss for e in finals[0] if isinstance(e, Train)] == [e.loss for e in finals[1] if isinstance(e, Train)]
    assert [e.text for e in finals[0] if isinstance(e, Sample)] == [e.text for e in finals[1] if isinstance(e, Sample)]


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
    for sample in (e for e in events if isinstance(e, Sample)):
        lines = [records.parse(line) for line in (run.path / sample.path).read_text("utf-8").splitlines()]
        assert kinds(lines)[:: len(lines) - 1] == ["trace", "text"]
        assert lines[0].prompt == sample.prompt
        assert lines[-1].text == sample.text
        assert sample.text.startswith(sample.prompt)


def test_compilation_is_announced_and_not_counted_as_training_time(tmp_path, corpus_file, monkeypatch):
    calls = []

    def slowly(function):
        def call(*args):
            if not calls:
                time.sleep(1.2)
            calls.append(args)
            return function(*args)

        return call

    monkeypatch.setattr(torch, "compile", slowly)
    layer = {"train": {"compile": "on", "steps": 0, "minutes": 1.0 / 60, "eval_every": 0, "sample_every": 0}}
    settings = settings_of(corpus_file, layer)
    run = runs.create("run", settings, tmp_path)
    calls_by_event = [(event, len(calls)) for event in train(settings, run, data.load(settings.data.sources))]
    events = [event for event, _ in calls_by_event]
    assert kinds(events)[:4] == ["start", "heartbeat", "heartbeat", "train"]
    assert (events[1].doing, calls_by_event[1][1]) == ("compiling the model, about a minute", 0)
    assert events[2].doing == "compiled the model"
    assert events[3].step == 1
    assert events[3].progress < 0.5  # the second that compiling took would have spent it all
    assert events[-1].step > 1


def test_compiled_run_resumes_bit_for_bit(tmp_path, corpus_file, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda function: lambda *args: function(*args))
    settings = settings_of(corpus_file, {"train": {"steps": 8, "compile": "on"}})
    plain, _ = train_in(tmp_path / "a", "run", settings_of(corpus_file, {"train": {"steps": 8}}))
    broken, _ = train_in(tmp_path / "b", "run", settings, stop=After(3))
    _, events = train_in(tmp_path / "b", "run", settings, resume=True)
    assert kinds(events)[:4] == ["resume", "heartbeat", "heartbeat", "train"]
    assert files_of(broken.model) == files_of(plain.model)


def test_failed_compilation_is_logged_and_training_continues_without_it(tmp_path, corpus_file, monkeypatch):
    def refuse(function):
        def call(*args):
            raise RuntimeError("no compiler\nmore of it")

        return call

    monkeypatch.setattr(torch, "compile", refuse)
    layer = {"train": {"steps": 3, "compile": "on", "eval_every": 0, "sample_every": 0}}
    _, events = train_in(tmp_path, "run", settings_of(corpus_file, layer))
    heartbeats = [event.doing for event in events if isinstance(event, Heartbeat)]
    assert heartbeats[1] == "training without compiling: RuntimeError: no compiler"
    assert events[-1].reason == "finished"


def test_warm_up_compiles_every_kind_of_step(tmp_path, corpus_file, monkeypatch):
    kinds_of_call = set()

    def note(function):
        def call(*args):
            kinds_of_call.add((len(args[0]), torch.is_grad_enabled(), args[4] is not None))
            return function(*args)

        return call

    monkeypatch.setattr(torch, "compile", note)
    layer = {"model": {"self_conditioning": True}, "train": {"steps": 12, "compile": "on"}}
    settings = settings_of(corpus_file, layer)
    state = TrainState(settings, runs.create("run", settings, tmp_path), data.load(settings.data.sources))
    state.warm_up()
    before = set(kinds_of_call)
    for _ in range(12):
        state.update(0.5)
    assert len(before) == 3 and kinds_of_call == before


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


def good(run: Run) -> int:
    """The step of the weights on disk, which load and are finite, like the resume state."""
    model = load_model(str(run.path))
    assert all(torch.isfinite(tensor).all() for tensor in load_file(run.state).values())
    return model.origin.steps


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
    _, events = train_in(tmp_path, "run", settings, resume=True)
    assert events[-1].reason == "finished"
    assert [e.final for e in events if isinstance(e, Eval)] == [True]


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


def test_resume_on_another_text_is_refused_and_writes_nothing(tmp_path, corpus_file):
    text = tmp_path / "a.txt"
    text.write_text(corpus_file.read_text())
    run, _ = train_in(tmp_path, "run", settings_of(text, {"train": {"steps": 4}}), stop=After(2))
    text.write_text(corpus_file.read_text().replace("hare", "rahe", 1))
    before = files_of(run.path)
    with pytest.raises(TdiffError, match="another text"):
        train_in(tmp_path, "run", run.settings(), resume=True)
    assert files_of(run.path) == before


def test_run_of_a_version_with_other_random_numbers_continues_and_a_record_says_so(tmp_path, corpus_file):
    settings = settings_of(corpus_file, {"train": {"steps": 6}})
    run, _ = train_in(tmp_path, "run", settings, stop=After(2))
    with safe_open(run.state, "pt") as file:
        notes = file.metadata()
    assert notes.pop("stream") == "2"
    save_file(load_file(run.state), run.state, notes)  # as version 1 wrote it
    _, events = train_in(tmp_path, "run", settings, resume=True, stop=After(2))
    assert kinds(events)[:3] == ["resume", "heartbeat", "train"]
    assert events[1].doing.startswith("this version draws other random batches than the one that began the run")
    _, events = train_in(tmp_path, "run", settings, resume=True)
    assert kinds(events)[:2] == ["resume", "train"]  # once
    assert (events[-1].step, events[-1].reason) == (6, "finished")


def test_existing_run_is_never_overwritten(tmp_path, corpus_file):
    run, _ = train_in(tmp_path, "run", settings_of(corpus_file, {"train": {"steps": 1}}))
    before = files_of(run.path)
    with pytest.raises(TdiffError, match=r"exists already.*--resume run"):
        train_in(tmp_path, "run", settings_of(corpus_file, {"train": {"steps": 1}}))
    assert files_of(run.path) == before


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


def test_run_stopped_before_its_first_step_has_a_usable_model(tmp_path, corpus_file):
    run, events = train_in(tmp_path, "run", settings_of(corpus_file), stop=After(0))
    assert kinds(events) == ["start", "checkpoint", "end"]
    assert good(run) == 0


def begin(here: Path, corpus: Path, *more: str) -> subprocess.Popen[str]:
    """Start `tdiff train --run run` with no near end as a child process; return once it has reported its third save."""
    options = [*SET_TINY, "--set=train.save_every=1e-9", "--eval-every=0", "--sample-every=0", "--device=cpu"]
    child = subprocess.Popen(
        [*COMMAND, "train", f"--data={corpus}", "--run=run", *options, *more],
        cwd=here,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    saves = 0
    for line in child.stdout:
        saves += line.endswith("saved\n")
        if saves == 3:
            return child
    raise AssertionError(child.communicate()[1])


def finish(run: Run, steps: int) -> list:
    """Resume in this process, with the budget changed to `steps` from now."""
    settings = Settings.of([run.settings().as_layer(), {"train": {"steps": steps}}])
    return train_in(run.path.parent, run.name, settings, resume=True)[1]


def test_killed_run_continues_from_its_last_save(here, corpus_file, cli_fast):
    child = begin(here, corpus_file, "--steps=1000000")
    child.send_signal(signal.SIGKILL)
    child.communicate(timeout=60)
    run = lookup.find_run("run")
    with run.events.open("a") as file:
        file.write('{"kind":"train","time":1.0,"st')  # a line torn by the crash
    saved = load_model("run").origin.steps
    assert saved >= 1
    config = run.path / "config.toml"
    config.write_text(config.read_text().replace("steps = 1000000", f"steps = {saved + 5}"))
    done = cli_fast("train", "--resume", "run")
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("resuming checkpoints/run (")
    history = run.history()
    resumed = next(e for e in history if isinstance(e, Resume))
    assert resumed.step in (saved, saved + 1)  # the state is written after the weights
    assert (history[-1].kind, history[-1].step) == ("end", saved + 5)
    steps = [e.step for e in history if isinstance(e, Train)]
    assert steps == list(range(1, saved + 6))
    assert "finished" in cli_fast("train", "--resume", "run").refused()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_signal_saves_prints_how_to_resume_and_exits_with_0(number, here, corpus_file):
    child = begin(here, corpus_file, "--steps=1000000")
    child.send_signal(number)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 0, err
    assert err.splitlines()[-1].endswith("Resume with: tdiff train --resume run")
    assert "Traceback" not in err
    run = lookup.find_run("run")
    end = run.history()[-1]
    assert isinstance(end, End)
    assert end.reason == "stopped"
    assert load_model("run").origin.steps == end.step >= 2
    events = finish(run, end.step + 3)
    assert (events[0].step, events[-1].step, events[-1].reason) == (end.step, end.step + 3, "finished")


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


def test_run_initialized_from_another_model_may_be_deeper(tmp_path, tiny_run, corpus_file):
    layer = {"model": {"layers": 3}, "train": {"init": str(tiny_run.path), "steps": 2}}
    settings = settings_of(corpus_file, layer)
    before = load_model(str(tiny_run.path))
    state = TrainState(settings, Run(tmp_path / "fresh"), data.load(settings.data.sources))
    tokens = torch.randint(0, len(state.tokenizer), (2, 32), generator=torch.Generator().manual_seed(0))
    share, where = torch.full((2,), 0.5), torch.ones(2, 32, dtype=torch.bool)
    with torch.no_grad():
        # New blocks add nothing yet: at first it is the same model.
        torch.testing.assert_close(state.average(tokens, share, where), before.network(tokens, share, where))
    assert state.tokenizer.pieces == before.tokenizer.pieces
    run, events = train_in(tmp_path, "deeper", settings, stop=After(1))
    assert events[-1].reason == "stopped"
    settings = run.settings()
    _, events = train_in(tmp_path, "deeper", settings, resume=True)
    assert events[-1].reason == "finished"
    assert load_model(str(run.path)).network.shape.layers == 3


def test_resume_does_not_need_the_initial_model(tmp_path, tiny_run, corpus_file):
    folder = tmp_path / "gone"
    shutil.copytree(tiny_run.model, folder)
    settings = settings_of(corpus_file, {"train": {"init": str(folder), "steps": 4}})
    train_in(tmp_path, "run", settings, stop=After(2))
    shutil.rmtree(folder)
    assert train_in(tmp_path, "run", settings, resume=True)[1][-1].reason == "finished"


@pytest.mark.parametrize(
    ("layer", "says"),
    [
        ({"model": {"width": 8}}, "its width is 16, the new model's is 8; only model.layers may be larger"),
        ({"model": {"conv": 3}}, "its conv is 0, the new model's is 3"),
        ({"train": {"init": "nowhere"}}, "no model 'nowhere'"),
        ({"data": {"tokenizer": "bpe:64"}}, "leave out data.tokenizer 'bpe:64'"),
        ({"data": {"held_out": "tuning"}}, "was trained on the tuning part of this text"),
    ],
)
def test_incompatible_initial_model_is_refused_before_anything_is_written(tmp_path, tiny_run, corpus_file, layer, says):
    init = {"train": {"init": str(tiny_run.path)}}
    settings = settings_of(corpus_file, init, layer)
    with pytest.raises(TdiffError) as error:
        TrainState(settings, Run(tmp_path / "run"), data.load(settings.data.sources))
    assert says in str(error.value)
    assert not (tmp_path / "run").exists()


def test_bfloat16_is_refused_on_a_cpu_where_it_is_slow(tmp_path, corpus_file, monkeypatch):
    settings = settings_of(corpus_file, {"train": {"precision": "bfloat16", "steps": 2}})
    monkeypatch.setattr(devices, "_slowdown", lambda: 97.3)
    with pytest.raises(TdiffError, match=r"take 97\.3 times as long as those of float32"):
        TrainState(settings, Run(tmp_path / "run"), data.load(settings.data.sources))
    monkeypatch.setattr(devices, "_slowdown", lambda: 0.5)
    run, events = train_in(tmp_path, "run", settings)
    assert events[-1].reason == "finished"
    assert all(tensor.dtype == torch.float32 for tensor in load_file(run.state).values())
    assert devices.in_bfloat16("auto", "cuda") and not devices.in_bfloat16("auto", "cpu")
    assert not devices.in_bfloat16("float32", "cuda")


def test_bfloat16_training_follows_float32(tmp_path, corpus_file, monkeypatch):
    monkeypatch.setattr(devices, "_slowdown", lambda: 0.5)
    norms = []
    for precision in ("float32", "bfloat16"):
        settings = settings_of(corpus_file, {"train": {"precision": precision, "optimizer": "muon", "steps": 6}})
        _, events = train_in(tmp_path, precision, settings)
        norms.append([event.loss for event in events if isinstance(event, Train)])
    assert norms[0] != norms[1]
    assert norms[0] == pytest.approx(norms[1], rel=0.02)
