"""Shipping a run: what is written, and that no path of a machine and no unmeasured figure is in it."""

import json
import re
from argparse import Namespace
from pathlib import Path

import pytest

from tdiff.core.models.load import load_model
from tdiff.runs.model_facts import facts
from tests.benchmarks import tales_ship
from tests.support.paths import ROOT


@pytest.fixture
def root(tmp_path) -> Path:
    """A source tree with the files that name the shipped models, of which tales is not one yet."""
    (tmp_path / "tdiff" / "runs").mkdir(parents=True)
    for name in ("pyproject.toml", "tdiff/runs/lookup.py"):
        text = (ROOT / name).read_text("utf-8").replace('("shakespeare", "tales")', '("shakespeare",)')
        text = re.sub(r'^"checkpoints/tales/.*\n|, "/checkpoints/tales/[^"]*"', "", text, flags=re.MULTILINE)
        (tmp_path / name).write_text(text.replace('DEFAULT_MODEL = "tales"', 'DEFAULT_MODEL = "shakespeare"'))
    return tmp_path


def measured(root: Path) -> dict:
    estimate = {"mean": 0.5, "half": 0.1}
    row = dict.fromkeys(("nats", "words"), estimate) | {"longest_repeated": 21, "copied": 33}
    row |= {"calls": 0.25, "calls_a_character": 0.07}
    files = {
        "evaluation": {
            "nats_per_char": 1.1,
            "bits_per_char": 1.587,
            "nats_per_token": 4.4,
            "interval_95": [4.36, 4.44],
        },
        "judged": {"texts": 40, "words": 60, "rows": {"real": row, "tales:default": row}},
        "votes": {"a": "tales", "b": "trigram", "texts": 40, "words": 60, "readers": 3}
        | {question: {"preferred": 0.7, "interval": [0.55, 0.82]} for question in ("grammar", "sense")},
    }
    for name, content in files.items():
        (root / f"{name}.json").write_text(json.dumps(content))
    paths = {name: root / f"{name}.json" for name in files}
    return paths | {"votes": [paths["votes"]]}


def test_a_run_becomes_the_shipped_model_with_a_card_of_measured_figures(root, tiny_run, monkeypatch):
    monkeypatch.setattr(tales_ship, "PROMPT", "The ")
    decoding = "topk k=4 no-repeat=8"
    for _ in range(2):  # a second time replaces the first
        options = Namespace(model=str(tiny_run.path), decoding=decoding, default=True, **measured(root))
        tales_ship.ship(options, root)
    target = root / "checkpoints" / "tales"
    model = load_model(str(target))
    assert model.decode_settings({}, 0).k == 4 and model.decode_settings({"decoder": "klass"}, 0).no_repeat == 8
    known = facts(target / "model")
    assert known.bound == 1.1 and known.interval == (1.09, 1.11) and known.text.startswith("The ")
    card = (target / "README.md").read_text("utf-8")
    assert "tales preferred to trigram in grammar 70% (55% to 82%) and sense" in " ".join(card.split())
    assert "not measured" not in card and all(len(line) <= 120 for line in card.splitlines())
    for path in target.rglob("*"):
        if path.suffix in (".toml", ".jsonl", ".json", ".md"):
            assert str(tiny_run.settings().data.sources[0]) not in path.read_text("utf-8"), path
    project = (root / "pyproject.toml").read_text("utf-8")
    assert len(re.findall(r'^"checkpoints/tales/.*= "tdiff/_data/checkpoints/tales/', project, re.MULTILINE)) == 4
    assert project.count('"/checkpoints/tales/') == 4  # this run has no samples
    lookup = (root / "tdiff" / "runs" / "lookup.py").read_text("utf-8")
    assert 'SHIPPED = ("shakespeare", "tales")' in lookup and 'DEFAULT_MODEL = "tales"' in lookup


def test_what_was_not_measured_is_said_to_be_not_measured(root, tiny_run, monkeypatch):
    monkeypatch.setattr(tales_ship, "PROMPT", "The ")
    options = Namespace(
        model=str(tiny_run.path), decoding="topk", default=False, evaluation=None, judged=None, votes=[]
    )
    tales_ship.ship(options, root)
    card = (root / "checkpoints" / "tales" / "README.md").read_text("utf-8")
    assert card.count("not measured yet") == 2
    monkeypatch.setattr(tales_ship, "LIMIT", 10)
    with pytest.raises(SystemExit, match="may have 10 bytes"):
        tales_ship.ship(options, root)
