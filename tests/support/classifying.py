"""Labelled reviews, a run that classifies them, and `tdiff classify` with that run."""

import json
import random
from pathlib import Path

import pytest

from tests.core.training.test_classes import WORDS
from tests.support.runs import settings_of, train_in, words

CLASSES = {"data": {"classes": True, "rows": "padded"}, "objective": {"context": 0}}


SMALL = {"model": {"layers": 1, "width": 16, "heads": 2, "window": 16}}


BRIEF = {"train": {"steps": 60, "lr": 1e-2, "batch_size": 16, "eval_every": 0, "sample_every": 0}}


def sentence(draw: random.Random, label: str, length: int = 5) -> str:
    return " ".join(draw.choices(WORDS[label].split(), k=length))


def rows_of(path: Path, count: int, seed: int = 0) -> Path:
    draw = random.Random(seed)
    rows = [{"text": sentence(draw, label), "label": label} for label in ("bad", "good") for _ in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> Path:
    """The folder of a run that knows good from bad."""
    root = tmp_path_factory.mktemp("kinds")
    settings = settings_of(rows_of(root / "reviews.jsonl", 60), CLASSES, SMALL, BRIEF)
    return train_in(root / "checkpoints", "kinds", settings)[0].path


@pytest.fixture
def ask(cli_fast, model):
    """Run `tdiff classify` with that model."""
    return lambda *more, stdin=b"": cli_fast("classify", f"--model={model}", "--device=cpu", *more, stdin=stdin)


def uneven_texts(path: Path) -> Path:
    """Write texts of different lengths, of two classes, to a JSON Lines file. Returns its path."""
    text = words(3000).split()
    rows = [{"text": " ".join(text[n * 9 : n * 9 + 1 + n % 7]), "label": "ab"[n % 3 == 0]} for n in range(80)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
