"""A run that is killed at any moment, resumed, and killed again ends as if it had never been interrupted."""

import os
import random

import pytest

from tdiff.corpus import corpus as data
from tdiff.runs import retention
from tdiff.runs import run as runs
from tdiff.runs.run import Run
from tdiff.runs.wholeness import damage
from tests.support.killing import curve, killed, trained, without_sync
from tests.support.runs import files_of, settings_of, words

LAYER = {
    "train": {"steps": 9, "save_every": 1e-9, "eval_every": 3, "sample_every": 0, "eval_tokens": 64},
    "model": {"window": 16},
}
SAMPLES = {"train": {"steps": 24, "sample_every": 8}}
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")


@pytest.fixture
def started(tmp_path, monkeypatch):
    """A function that creates a run of a name, with more settings; it returns the run, its settings and its text."""
    monkeypatch.setattr(os, "fsync", without_sync)
    path = tmp_path / "corpus.txt"
    path.write_text(words(400))
    corpus = data.load([str(path)], "text")

    def start(name: str, *more: dict):
        settings = settings_of(path, LAYER, *more)
        return runs.create(name, settings, tmp_path), settings, corpus

    return start


def kill_and_resume(started, kills: int, seed: int, *more: dict) -> None:
    """Kill a run `kills` times, beginning again with another one whenever it ends; compare each with a whole run."""
    whole, settings, corpus = started("whole", *more)
    trained(whole, settings, corpus)
    expected, weights, best = curve(whole), files_of(whole.model), files_of(whole.path / retention.BEST)
    assert [step for kind, step, *_ in expected if kind == "train"] == list(range(1, settings.train.steps + 1))
    chance, left, number = random.Random(seed), kills, 0
    while left:
        run, settings, corpus = started(f"run-{number}", *more)
        while left and killed(run, settings, corpus, kill_seed := chance.randrange(1 << 32)):
            left -= 1
            problem = f"seed {seed}, kill {kills - left} of {kills} (seed {kill_seed})"
            if run.state.exists():
                assert damage(run.state, run.model) == "", problem
        if not ended(run):
            trained(run, settings, corpus)
        problem = f"seed {seed}, run {number}, after {kills - left} kills"
        assert curve(run) == expected, problem
        assert files_of(run.model) == weights, problem
        assert files_of(run.path / retention.BEST) == best, problem
        left_over = [str(path) for path in run.path.rglob(".*")]
        assert not left_over, problem
        number += 1


def ended(run: Run) -> bool:
    history = run.history()
    return bool(history) and history[-1].kind == "end"


def test_a_run_killed_ten_times_at_random_moments_ends_like_one_that_never_was(started):
    kill_and_resume(started, 10, seed=random.randrange(1 << 32))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_runs_killed_200_times_at_random_moments_end_like_one_that_never_was(seed, started):
    kill_and_resume(started, 10, seed, SAMPLES)
