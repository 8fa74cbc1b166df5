"""Several processes train as one does: the same losses and weights, and all processes have the same bits."""

import json
from pathlib import Path

import pytest
import torch

from tdiff.core.training.distributed import World
from tdiff.core.training.state import TrainState
from tdiff.corpus import corpus as data
from tdiff.runs.run import Run
from tests.support.forked import in_processes
from tests.support.runs import settings_of, words

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
    path = tmp_path_factory.mktemp("tales") / "tales.jsonl"
    text = words(3000).split()
    rows = [{"text": " ".join(text[n * 9 : n * 9 + 1 + n % 7]), "label": "ab"[n % 3 == 0]} for n in range(80)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


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
