"""Several processes train as one does: the same losses and weights, and all processes have the same bits."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tdiff.core.training.distributed import World
from tdiff.core.training.loop import train
from tdiff.core.training.state import TrainState
from tdiff.corpus import corpus as data
from tdiff.protocol.events import Event, Train
from tdiff.runs import run as runs
from tdiff.runs.run import Run
from tests.core.training.test_finetune import settings_from
from tests.support.classifying import uneven_texts
from tests.support.forked import free_port, in_processes
from tests.support.paths import ROOT
from tests.support.runs import SET_TINY, After, environment, settings_of

ADAMW = {"train": {"batch_size": 8, "lr": 2e-3}}
WAYS = {
    "AdamW": {},
    "Muon, accumulated": {"train": {"optimizer": "muon", "batch_size": 4, "accumulate": 3}},
    "classes": {
        "data": {"rows": "padded", "classes": True},
        "objective": {"contrast": 1.0},
        "train": {"label_dropout": 0.3, "optimizer": "muon", "muon_lr": 1e-2},
        "model": {"pairs": 64},
    },
    "self-conditioning, accumulated": {
        "model": {"self_conditioning": True},
        "train": {"batch_size": 4, "accumulate": 2},
    },
    "dropout of padded rows": {
        "data": {"rows": "padded", "classes": True},
        "objective": {"contrast": 1.0},
        "train": {"dropout": 0.2, "batch_size": 4, "accumulate": 2},
        "model": {"self_conditioning": True},
    },
}
"""Settings over those of AdamW."""


@pytest.fixture(scope="module")
def tales(tmp_path_factory) -> Path:
    """Texts of different lengths, of two classes."""
    return uneven_texts(tmp_path_factory.mktemp("tales") / "tales.jsonl")


def state_of(tales: Path, way: str, world: World) -> TrainState:
    settings = settings_of(tales, ADAMW, WAYS[way])
    corpus = data.load(settings.data.sources, label_field="label" if settings.data.classes else None)
    return TrainState(settings, Run(tales.parent / "none"), corpus, world)


def trained(tales: Path, way: str, world: World, steps: int) -> tuple[torch.Tensor, list[float]]:
    """All weights and averages after the steps, and the loss of each step."""
    state, losses = state_of(tales, way, world), []
    for step in range(steps):
        passes, _ = state.update(step / steps)
        losses.append(float(world.total(sum(loss.nats.detach() for loss in passes))))
    return torch.cat([weight.detach().flatten() for weight in (*state.weights, *state.averages)]), losses


def check_alike(size: int, tales: Path, folder: Path, steps: int) -> None:
    def work(world: World) -> list[tuple[torch.Tensor, list[float]]]:
        return [trained(tales, way, world, steps) for way in WAYS]

    results = in_processes(size, work, folder, timeout=300)
    for n, way in enumerate(WAYS):
        weights, losses = trained(tales, way, World(), steps)
        for other, other_losses in (result[n] for result in results):
            assert float((other - weights).abs().max()) < 1e-5, way
            assert other_losses == pytest.approx(losses, rel=1e-5), way
            assert torch.equal(other, results[0][n][0]), f"{way}: the processes have different weights"


def test_two_processes_train_as_one(tales, tmp_path):
    check_alike(2, tales, tmp_path, steps=4)


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 4])
def test_processes_train_as_one_for_twenty_steps(size, tales, tmp_path):
    check_alike(size, tales, tmp_path, steps=20)


@pytest.mark.slow
def test_pretrained_models_train_as_one_with_dropout_and_checkpointing(zoo, tales, tmp_path):
    layers = {
        "masked": {"train": {"dropout": 0.1, "checkpointing": True}},
        "padded": {"data": {"rows": "padded"}, "train": {"dropout": 0.1, "batch_size": 4, "accumulate": 2}},
    }

    bert = zoo["bert"]  # made here, and not in each process

    def trained_from(world: World, layer: dict) -> torch.Tensor:
        settings = settings_from(bert, tales, {"train": {"batch_size": 8, "lr": 1e-4}}, layer)
        state = TrainState(settings, Run(tmp_path / "none"), data.load(settings.data.sources), world)
        for step in range(5):
            state.update(step / 5)
        # The gradient of a key's bias is zero apart from rounding, which AdamW scales to its learning rate.
        named = state.network.named_parameters()
        return torch.cat([weight.detach().flatten() for name, weight in named if "key.bias" not in name])

    results = in_processes(2, lambda world: [trained_from(world, layer) for layer in layers.values()], tmp_path, 300)
    for name, first, second in zip(layers, *results, strict=True):
        assert torch.equal(first, second), name
        assert float((first - trained_from(World(), layers[name])).abs().max()) < 1e-5, name


@pytest.mark.slow
def test_a_run_saved_by_two_processes_is_resumed_by_four(tales, tmp_path):
    settings = settings_of(tales, ADAMW, {"train": {"steps": 12, "eval_every": 0, "sample_every": 0}})
    corpus = data.load(settings.data.sources)

    def trained_by(world: World, name: str, **how) -> list[Event]:
        run = Run(tmp_path / name)
        records = train(settings, run, corpus, world=world, **how)
        return list(run.recorded(records) if world.leads else records)

    def losses(run: Run) -> list[float]:
        return [event.loss for event in run.history() if isinstance(event, Train)]

    one, shared = (runs.create(name, settings, tmp_path) for name in ("one", "shared"))
    trained_by(World(), "one")
    stopped = in_processes(2, lambda world: trained_by(world, "shared", stop=After(5)), tmp_path, 120)
    assert [events[-1].reason for events in stopped] == ["stopped"] * 2
    resumed = in_processes(4, lambda world: trained_by(world, "shared", resume=True), tmp_path, 120)
    assert [(events[-1].step, events[-1].reason) for events in resumed] == [(12, "finished")] * 4
    assert "saved by 2 processes, resumed by 4 processes" in resumed[0][1].doing
    assert losses(shared) == pytest.approx(losses(one), rel=1e-5)
    before, after = (load_file(run.state) for run in (one, shared))
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        if name.startswith(("network.", "average.")):
            assert float((tensor - after[name]).abs().max()) < 1e-5, name


@pytest.mark.slow
def test_a_budget_of_minutes_gives_all_processes_the_learning_rates_of_the_first_ones_clock(tales, tmp_path):
    layer = {"train": {"steps": 0, "minutes": 0.05, "eval_every": 0, "sample_every": 0}}
    settings = settings_of(tales, ADAMW, layer)
    corpus = data.load(settings.data.sources)
    runs.create("timed", settings, tmp_path)

    def rates(world: World) -> list[float]:
        found, update, clock = list[float](), TrainState.update, time.monotonic

        def recording(state: TrainState, spent: float):
            result = update(state, spent)
            found.append(state.optimizers[0].param_groups[0]["lr"])
            return result

        TrainState.update = recording
        if world.rank == 1:
            time.monotonic = lambda: 2 * clock()  # its own clock would end the training after half of the time
        run = Run(tmp_path / "timed")
        records = train(settings, run, corpus, world=world)
        list(run.recorded(records) if world.leads else records)
        return found

    first, second = in_processes(2, rates, tmp_path, 120)
    assert first == second
    assert len(set(first)) > 3
    assert first[-1] < 0.2 * max(first)


@pytest.mark.slow
def test_a_killed_process_ends_the_others_within_a_minute_with_one_line(here, corpus_file):
    options = ["--data", str(corpus_file), "--device=cpu", *SET_TINY, "--steps=100000", "--set=train.eval_every=0"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", f"--master-port={free_port()}"]
    with (here / "out.txt").open("w") as out:
        launcher = subprocess.Popen(
            [*torchrun, "-m", "--", "tdiff", "train", *options, "--run=lost"],
            cwd=here,
            env=environment(PYTHONPATH=str(ROOT)),
            stdout=out,
            stderr=out,
        )
        try:
            log = here / "checkpoints" / "lost" / "events.jsonl"
            until = time.monotonic() + 120
            while time.monotonic() < until and not (log.exists() and log.read_text().count('"train"') > 2):
                time.sleep(0.2)
            children = [int(pid) for pid in _children(launcher.pid)]
            second = next(pid for pid in children if b"\0RANK=1\0" in Path(f"/proc/{pid}/environ").read_bytes())
            killed = time.monotonic()
            os.kill(second, signal.SIGKILL)
            assert launcher.wait(60) != 0
            assert time.monotonic() - killed < 60
        finally:
            launcher.kill()
    lines = [line for line in (here / "out.txt").read_text().splitlines() if line.startswith("tdiff: ")]
    assert len(lines) == 1
    assert re.search(rf"process 1 of 2 \(.+, pid {second}\) has ended .* resume it with --resume", lines[0])


def _children(pid: int) -> list[str]:
    """The processes that a process has started."""
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
