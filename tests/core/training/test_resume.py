"""Resuming a run: bit for bit, after a stop, a signal or a crash."""

import signal
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tdiff.config.settings import Settings
from tdiff.core.models.load import load_model
from tdiff.errors import TdiffError
from tdiff.protocol.events import End, Eval, Resume, Sample, Train
from tdiff.runs import lookup
from tdiff.runs.run import Run
from tests.support.runs import COMMAND, SET_TINY, After, environment, files_of, good, kinds, settings_of, train_in

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


@pytest.mark.parametrize(
    "number",
    [signal.SIGTERM, *(pytest.param(other, marks=pytest.mark.slow) for other in (signal.SIGINT, signal.SIGHUP))],
    ids=lambda number: number.name,
)
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
