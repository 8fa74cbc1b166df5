"""A followed file that is truncated, or written anew: what it held is an earlier attempt, unless it is repeated."""

import pytest

from tdiff.watch.follow import Watched
from tdiff.watch.targets import Target


def lines(first: float, count: int, prefix: str = "step") -> str:
    return "".join(f"{prefix} {10 * n} loss {first - n / 10:.2f}\n" for n in range(1, count + 1))


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "train.log"
    path.write_text(lines(5, 8))
    watched = Watched(Target("file", "log", path=path))
    watched.finish(5)
    yield path, watched
    watched.close()


@pytest.mark.parametrize("how", ["truncated", "replaced"])
def test_what_a_file_held_before_is_an_earlier_attempt(log, how):
    path, watched = log
    new = path if how == "truncated" else path.with_name("new")
    new.write_text(lines(6, 3))
    new.replace(path)
    watched.finish(5)
    run = watched.run_state
    assert run.metrics["train/loss"].last == (30, pytest.approx(5.7))
    assert (run.attempts.count, run.attempts.stored[0].last_step) == (1, 80)
    assert run.attempts.stored[0].loss == pytest.approx(4.2)
    assert [notice.what for notice in run.alerts] == ["restart"]


def test_a_file_that_is_written_anew_with_the_same_records_is_one_attempt(log):
    path, watched = log
    new = path.with_name("new")
    new.write_text(lines(5, 12))
    new.replace(path)
    watched.finish(5)
    assert (watched.run_state.attempts.count, watched.run_state.step) == (0, 120)


def test_attempts_before_a_truncation_stay(log):
    path, watched = log
    for count in (4, 2):
        path.write_text(lines(5 + count, count))
        watched.finish(5)
    attempts = watched.run_state.attempts
    assert (attempts.count, [attempt.last_step for attempt in attempts.stored]) == (2, [80, 40])
