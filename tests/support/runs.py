"""A tiny run, made-up text, and the command line in a child process."""

import os
import random
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

from tdiff.config.settings import Settings
from tdiff.core.models.load import load_model
from tdiff.core.training.loop import train
from tdiff.corpus import corpus as data
from tdiff.runs import run as runs
from tdiff.runs.run import Run

TINY = {
    "model": {"layers": 1, "heads": 1, "width": 16, "window": 32},
    "objective": {"context": 8},
    "train": {"steps": 30, "batch_size": 4, "lr": 1e-2, "device": "cpu", "log_every": 0.0, "save_every": 0.0},
}
"""A layer of settings: a model that trains a step in milliseconds."""
SET_TINY = [
    f"--set={table}.{name}={value}"
    for table, pairs in TINY.items()
    for name, value in pairs.items()
    if name not in ("steps", "device")
]
"""The same as options of `tdiff train`, without the budget and the device."""


def words(count: int, seed: int = 7) -> str:
    """Lines of nine random words, from a seed."""
    generator = random.Random(seed)
    lexicon = [
        "the",
        "hare",
        "crow",
        "wolf",
        "runs",
        "sleeps",
        "sings",
        "over",
        "hill",
        "lake",
        "slowly",
        "twice",
        "and",
        "then",
    ]
    text, line = [], []
    for _ in range(count):
        line.append(generator.choice(lexicon))
        if len(line) == 9:
            text.append(" ".join(line).capitalize() + ".")
            line = []
    return "\n".join(text) + "\n"


def settings_of(corpus: Path, *layers: dict) -> Settings:
    """The tiny settings on that corpus, with `layers` over them."""
    return Settings.of([TINY, {"data": {"sources": [str(corpus)]}}, *layers])


def train_in(root: Path, name: str, settings: Settings, **how) -> tuple[Run, list]:
    """Train a run under `root`, new or (with resume=True) resumed. Returns it and the records of its training."""
    run = Run(root / name) if how.get("resume") else runs.create(name, settings, root)
    labelled = settings.data.label_field if settings.data.classes else None
    corpus = data.load(settings.data.sources, settings.data.text_field, label_field=labelled)
    return run, list(run.recorded(train(settings, run, corpus, **how)))


def environment(**variables: str) -> dict[str, str]:
    """The environment of a child process: one thread, an ordinary terminal."""
    inherited = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES")}
    single_threaded = {
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "TERM": "xterm-256color",
        "PYTHONIOENCODING": "utf-8",
    }
    return inherited | single_threaded | variables


COMMAND = [sys.executable, "-m", "tdiff"]


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


def good(run: Run) -> int:
    """The step of the weights on disk, which load and are finite, like the resume state."""
    model = load_model(str(run.path))
    assert all(torch.isfinite(tensor).all() for tensor in load_file(run.state).values())
    return model.origin.steps
