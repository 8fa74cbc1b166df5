"""When a target is reached by the trend of a metric, and epochs as a clock."""

import math

import pytest

from tdiff.series.series import Series
from tdiff.watch.curves import epoch_clock
from tdiff.watch.trend import arrival


def series(points) -> Series:
    made = Series()
    for step, value in points:
        made.append(step, value)
    return made


CLOCK = series((step, 1000 + 2 * step) for step in range(0, 1001, 10))


def test_a_target_that_was_reached_has_its_first_step():
    found = arrival(series((step, 5 - step / 250) for step in range(0, 1001, 50)), CLOCK, 3.0)
    assert (found.reached, found.step) == (True, 500)
    rising = arrival(series((step, step / 1000) for step in range(0, 1001, 50)), CLOCK, 0.5)
    assert (rising.reached, rising.step) == (True, 500)


def test_a_target_ahead_is_predicted_from_the_trend_over_the_logarithm_of_the_step():
    loss = series((step, 5 - 0.3 * math.log(step)) for step in range(10, 1001, 10))
    found = arrival(loss, CLOCK, 5 - 0.3 * math.log(2000))
    assert not found.reached
    assert found.step == pytest.approx(2000, rel=1e-3) and found.seconds == pytest.approx(2000, rel=1e-2)
    assert arrival(loss, Series(), 5 - 0.3 * math.log(2000)).seconds is None


@pytest.mark.parametrize(
    "points",
    [
        [],
        [(1, 5.0)],
        [(n, 3.0) for n in range(1, 100)],
        [(n, 3.0 + n / 100) for n in range(1, 100)],
        [(n, 3.0 + 0.5 * (-1) ** n) for n in range(1, 100)],
        [(n, 3.0 - 1e-4 * math.log(n)) for n in range(1, 100)],
    ],
    ids=["empty", "one", "flat", "away", "noise", "too far"],
)
def test_without_a_trend_to_it_a_target_has_no_step(points):
    found = arrival(series(points), CLOCK, 2.0)
    assert (found.step, found.reached) == (None, False)


def test_whole_epochs_are_spread_evenly_over_their_steps():
    clock = epoch_clock(series((step, step // 100) for step in range(0, 251, 10)))
    assert list(clock.steps) == [0, 100, 200, 250] and list(clock.mean) == pytest.approx([0, 1, 2, 2.5])
    first = epoch_clock(series((step, 1) for step in range(0, 50, 10)))
    assert list(first.mean) == [1, 2]


def test_fractions_of_epochs_are_used_as_they_are_and_falling_ones_not_at_all():
    clock = epoch_clock(series((step, step / 40) for step in range(1, 100)))
    assert clock.mean[-1] == pytest.approx(99 / 40) and len(clock.steps) == 99
    assert not epoch_clock(series([(1, 1.0), (2, 2.0), (3, 1.0)])).steps
    assert not epoch_clock(Series()).steps
