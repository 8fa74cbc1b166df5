"""Plateaus: a loss that has stopped falling is reported, and neither noise nor a slow improvement is."""

import itertools
import math
import random

import pytest

from tdiff.watch.alerts import Losses
from tdiff.watch.plateau import Flat, Plateau
from tests.support.run_records import run_of, start, train


def found(values: list[float], total: float | None = None) -> list[Flat]:
    return Plateau().take(range(len(values)), values, total)


def noisy(curve, count: int, noise: float, seed: int, memory: float = 0.0) -> list[float]:
    """Values of a curve with relative noise that forgets itself after about 1 / (1 - memory) records."""
    draw, wander, values = random.Random(seed), 0.0, []
    for n in range(count):
        wander = memory * wander + draw.gauss(0, noise * math.sqrt(1 - memory * memory))
        values.append(curve(n, count) * math.exp(wander))
    return values


IMPROVING = {
    "power law": lambda n, count: 1.7 + 5 * (n + 1) ** -0.3,
    "logarithm": lambda n, count: 4 - 0.2 * math.log(n + 1),
    "slow line": lambda n, count: 3 - 0.5 * n / count,
    "error to zero": lambda n, count: math.exp(-8 * n / count),
}


@pytest.mark.parametrize("noise", [0.0, 0.005, 0.03, 0.1, 0.3])
@pytest.mark.parametrize("name", IMPROVING)
def test_a_loss_that_improves_however_slowly_is_no_plateau(name, noise):
    for count, memory in ((300, 0.0), (1000, 0.9), (6000, 0.0)):
        for seed in range(3):
            assert found(noisy(IMPROVING[name], count, noise, seed, memory)) == [], (count, seed)


@pytest.mark.parametrize("noise", [0.001, 0.01, 0.03])
def test_a_loss_that_stops_falling_is_reported_once(noise):
    for seed in range(5):
        values = noisy(lambda n, count: 2 + 3 * math.exp(-n / 150), 3000, noise, seed)
        [flat] = found(values)
        assert 600 < flat.position < 2900 and 300 < flat.since < flat.position
        assert flat.loss == pytest.approx(2, rel=0.02)


def test_a_plateau_is_reported_again_after_the_loss_has_fallen():
    steps = noisy(lambda n, count: (4, 3, 2)[min(2, n // 1500)] + 4 * math.exp(-n / 40), 6000, 0.005, 1)
    assert [round(flat.loss) for flat in found(steps)] == [4, 3, 2]


def test_spikes_hide_no_plateau():
    values = noisy(lambda n, count: 2 + 3 * math.exp(-n / 150), 3000, 0.01, 2)
    for n in range(0, 3000, 97):
        values[n] *= 20
    assert len(found(values)) == 1


def test_a_loss_that_never_falls_is_reported_after_many_records():
    values = noisy(lambda n, count: 2.0, 4000, 0.02, 3)
    [flat] = found(values)
    assert flat.position >= 1999
    assert found(values[:1000]) == []


def test_where_the_total_is_known_a_plateau_takes_a_tenth_of_it():
    values = noisy(lambda n, count: 2 + 3 * math.exp(-n / 50), 3000, 0.005, 4)
    assert found(values)[0].position < 1000
    assert found(values, total=5_000)[0].position >= 1500
    assert found(values, total=1_000_000) == []


@pytest.mark.parametrize("value", [0.0, -3.0, 1e300, 1e99, -1e308])
def test_constant_and_huge_losses_are_accepted(value):
    found([value] * 3000 + [-value] * 3000)


def test_plateaus_do_not_depend_on_how_records_are_split():
    values = noisy(lambda n, count: 2 + 3 * math.exp(-n / 100), 2000, 0.01, 5)
    values[700] = math.nan
    steps = list(range(len(values)))
    whole = Losses().examine(steps, {"train/loss": values}, [None] * len(values))
    losses, parts, cuts = Losses(), [], sorted(random.Random(6).sample(steps[1:], 60))
    for begin, end in itertools.pairwise([0, *cuts, len(values)]):
        parts += losses.examine(steps[begin:end], {"train/loss": values[begin:end]}, [None] * (end - begin))
    assert parts == whole
    assert sorted(notice.what for notice in whole) == ["nan", "plateau"]


def test_plateau_of_a_run_is_an_alert_with_the_step_and_the_time_of_its_record():
    values = noisy(lambda n, count: 2 + 3 * math.exp(-n / 60), 1200, 0.005, 7)
    run = run_of(start(), *(train(n, value) for n, value in enumerate(values)))
    [notice] = run.alerts
    assert notice.what == "plateau" and notice.time == run.timing.time_of(notice.step)
    assert notice.text.startswith("train/loss has not improved since step ")
