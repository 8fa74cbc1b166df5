"""Training with torch.compile and in bfloat16."""

import time

import pytest
import torch
from safetensors.torch import load_file

from tdiff.core import devices
from tdiff.core.training.loop import train
from tdiff.core.training.state import TrainState
from tdiff.corpus import corpus as data
from tdiff.errors import TdiffError
from tdiff.protocol.events import Heartbeat, Train
from tdiff.runs import run as runs
from tdiff.runs.run import Run
from tests.support.runs import After, files_of, kinds, settings_of, train_in


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
