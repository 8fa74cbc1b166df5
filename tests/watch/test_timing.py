"""The time until the last step, of a run that does not report it."""

import pytest

from tdiff.watch.reader import Reader
from tdiff.watch.run_state import RunState

STARTED = 1_790_000_000.0


def dated(*rows: tuple[int, float]) -> RunState:
    """A run of 100 steps with a loss at these steps, so many seconds after its start."""
    run = RunState("x")
    run.total = 100
    for step, seconds in rows:
        run.points([step], {"train/loss": [1.0]}, times=[STARTED + seconds])
    return run


def test_time_left_follows_from_the_pace_of_dated_records():
    run = dated(*((step, 2.0 * step) for step in range(10, 51, 10)))
    run.format = "text"
    assert run.eta == pytest.approx(100)
    assert run.left(STARTED + 105) == pytest.approx(95)


def test_break_before_a_resumption_is_no_pace():
    rows = [(step, 2.0 * step) for step in range(10, 41, 10)]
    rows += [(step, 9000 + 2.0 * step) for step in range(50, 81, 10)]
    assert dated(*rows).eta == pytest.approx(40)


def test_break_is_found_though_most_records_have_the_date_of_the_one_before():
    rows = [(step, step // 5) for step in range(10, 41)]
    rows += [(step, 9000 + step // 5) for step in range(41, 81)]
    assert dated(*rows).eta == pytest.approx(4, abs=0.5)


def test_pace_follows_a_change():
    slow = [(step, 9.0 * step) for step in range(1, 20)]
    rows = [*slow, *((step, 171 + step / 10) for step in range(20, 90))]
    assert dated(*rows).eta == pytest.approx(1.1)


@pytest.mark.parametrize("rows", [[], [(10, 1.0)], [(10, 1.0), (20, 2.0)], [(step, 5.0) for step in range(9)]])
def test_time_left_is_unknown_without_a_pace(rows):
    assert dated(*rows).eta is None


def test_nothing_is_left_after_the_last_step():
    assert dated(*((step, 2.0 * step) for step in range(80, 101, 5))).eta is None


def test_lines_without_dates_are_timed_by_their_arrival():
    reader = Reader("x")
    for step in range(10, 60, 10):
        reader.feed([f"step {step}/100 loss 3.{step}"], STARTED + 3 * step)
    assert reader.state.eta == pytest.approx(150)


def test_reported_time_left_precedes_the_pace():
    run = dated(*((step, 2.0 * step) for step in range(10, 51, 10)))
    run.set_progress(0.5, 7.0)
    assert run.eta == 7.0


def test_progress_follows_the_records_of_a_log_with_a_known_total():
    run = RunState("x")
    run.advance(0, 400, None, None)
    run.points([100, 200], {"train/loss": [3.0, 2.0]})
    assert (run.step, run.progress) == (200, 0.5)
