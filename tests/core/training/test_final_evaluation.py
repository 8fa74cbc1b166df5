"""Evaluation after training: within a time budget, on a random part that the record reports, with a progress bar."""

import json
import random
import sys
import time
from types import SimpleNamespace

import pytest

from tdiff.core.classification import classifier as classify
from tdiff.core.classification.classifier import calibrate
from tdiff.core.training import reports
from tdiff.core.training.state import TrainState
from tdiff.corpus import corpus as data
from tdiff.protocol.describe import describe
from tdiff.protocol.events import Eval
from tdiff.runs import run
from tests.support.ptys import Pty
from tests.support.runs import TINY, settings_of

PYTHON = [sys.executable, "-m", "tdiff"]
SLOW = 0.05
"""Seconds that a scored token takes on the clock of these tests."""


@pytest.fixture
def slow(tmp_path, corpus_file, monkeypatch):
    """A state whose scoring takes long by its clock, and the clock."""
    clock = SimpleNamespace(now=100.0, monotonic=lambda: clock.now, time=time.time)
    score = reports.score

    def slow_score(network, ids, lengths, **options):
        clock.now += SLOW * len(ids)
        return score(network, ids, lengths, **options)

    monkeypatch.setattr(reports, "score", slow_score)
    monkeypatch.setattr(reports, "time", clock)

    def made(**train) -> TrainState:
        settings = settings_of(corpus_file, {"train": train})
        return TrainState(settings, run.create("run", settings, tmp_path), data.load(settings.data.sources))

    return made, clock


def finally_evaluated(state: TrainState, seconds: float | None) -> Eval:
    [record] = reports.evaluate_finally(state, lambda: False, seconds, lambda done, total: None)
    return record


def test_time_budget_bounds_the_final_evaluation_and_the_record_reports_the_scored_part(slow):
    made, clock = slow
    state = made(steps=0, minutes=1.0)
    assert reports.final_seconds(state) == pytest.approx(6.0)
    seconds_for_all = SLOW * len(state.data.held_out)
    assert seconds_for_all > 12
    started = clock.now
    record = finally_evaluated(state, 10.0)
    assert 5.0 < clock.now - started <= 10.0 < seconds_for_all
    assert record.final
    assert record.part == pytest.approx((clock.now - started) / seconds_for_all, abs=0.15)
    assert f"a random {record.part:.0%} of the text" in describe(record)


@pytest.mark.parametrize("train", [{"steps": 5}, {"steps": 0, "minutes": 1.0, "final_share": 0.0}])
def test_step_budget_or_no_final_share_scores_all_text(slow, train):
    made, _ = slow
    state = made(**train)
    assert reports.final_seconds(state) is None
    record = finally_evaluated(state, reports.final_seconds(state))
    assert record.part == 1.0
    assert "held-out bound, whole" in describe(record)


def test_all_text_is_scored_if_it_fits_into_the_time(slow):
    made, _ = slow
    assert finally_evaluated(made(steps=0, minutes=60.0), 360.0).part == 1.0


def test_calibration_scores_complete_groups_until_its_time_is_over(monkeypatch):
    clock = SimpleNamespace(now=0.0, monotonic=lambda: clock.now)
    monkeypatch.setattr(classify, "time", clock)
    monkeypatch.setattr(classify, "replace", lambda classifier, **changes: classifier)
    groups: list[int] = []

    def predict(texts, effort, names):
        groups.append(len(texts))
        for n in range(len(texts)):
            clock.now += 1.0
            yield SimpleNamespace(text=n, final=True, prediction=SimpleNamespace(nats=[1.0 + n % 3, 2.0]))

    classifier = SimpleNamespace(
        predict=predict,
        can_score=lambda text: True,
        scored_tokens=lambda text: 4,
        priors=(0.5, 0.5),
        classes=("a", "b"),
    )
    heard: list[int] = []
    calibrated = calibrate(
        classifier, [None] * 200, [n % 2 for n in range(200)], 100, seconds=40.0,
        progress=lambda done, total: heard.append(total),
    )  # fmt: skip
    assert calibrated is not None
    assert groups == [16, 16, 16]
    assert calibrated.assessment.texts == 48
    assert set(heard) == {100}


@pytest.mark.slow
def test_terminal_shows_a_bar_after_training_and_a_stop_can_be_resumed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    chance = random.Random(0)
    rows = [
        {"text": " ".join(chance.choices(words.split(), k=60)), "label": label}
        for label, words in (("bad", "dull grey rain cold stone"), ("good", "warm gold sun green hill"))
        for _ in range(400)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tiny = [f"--set=model.{name}={value}" for name, value in TINY["model"].items()]
    corpus = ["--classes", "--data", "rows.jsonl", "--label-field", "label", "--context", "0"]
    command = ["train", *corpus, "--minutes", "0.05", "--run", "r"]
    pty = Pty([*PYTHON, *command, *tiny, "--set=train.final_share=1", "--set=train.calibrate=800"])
    pty.until(b"after training")
    pty.send(b"\x03")
    assert pty.end() == 0
    assert b"stopped at step" in pty.written
    again = Pty([*PYTHON, "train", "--resume", "r"])
    assert again.end() == 0
    assert b"classification of" in again.written or b"held-out texts" in again.written
