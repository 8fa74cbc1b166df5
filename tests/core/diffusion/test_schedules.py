import itertools
import math

import pytest
import torch

from tdiff.config import decoding
from tdiff.core.diffusion.schedules import SCHEDULES, schedule, unmask_share
from tdiff.errors import TdiffError
from tests.support import oracles

EVERY = pytest.mark.parametrize("name", sorted(SCHEDULES))


def times(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_settings_know_the_schedules_that_exist():
    assert sorted(decoding.SCHEDULES) == sorted(SCHEDULES)
    assert all(SCHEDULES[name].name == name for name in SCHEDULES)


@EVERY
def test_hidden_has_the_formula_of_its_name(name):
    t = torch.linspace(0, 1, 101, dtype=torch.float64)
    expected = [oracles.hidden(name, x) for x in t.tolist()]
    torch.testing.assert_close(schedule(name).hidden(t), times(*expected), rtol=1e-12, atol=1e-12)


@EVERY
def test_hidden_rises_from_0_to_1(name):
    hidden = schedule(name).hidden(torch.linspace(0, 1, 1001, dtype=torch.float64))
    assert hidden[0].item() == pytest.approx(0, abs=1e-15)
    assert hidden[-1].item() == pytest.approx(1, abs=1e-15)
    assert (hidden.diff() > 0).all()


@EVERY
def test_slope_is_the_derivative_of_hidden(name):
    t, h = torch.linspace(0.01, 0.99, 99, dtype=torch.float64), 1e-5
    numeric = (schedule(name).hidden(t + h) - schedule(name).hidden(t - h)) / (2 * h)
    torch.testing.assert_close(schedule(name).slope(t), numeric, rtol=1e-7, atol=1e-8)


@EVERY
@pytest.mark.parametrize("timesteps", [1, 2, 10, 128])
def test_discrete_weights_have_mass_1(name, timesteps):
    i = torch.arange(1, timesteps + 1, dtype=torch.float64)
    curve = schedule(name)
    mass = (curve.discrete_weight(i, timesteps) * curve.hidden(i / timesteps)).mean()
    assert mass.item() == pytest.approx(1, abs=1e-12)


@EVERY
def test_continuous_weights_have_mass_1(name):
    # Midpoints of a fine grid: the weight itself is without bound at t = 0.
    n = 20_000
    t = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    curve = schedule(name)
    mass = (curve.weight(t) * curve.hidden(t)).mean()
    assert mass.item() == pytest.approx(1 - curve.hidden(times(0.0)).item(), abs=1e-7)


def test_weight_of_the_linear_schedule_is_1_over_t():
    t = times(1e-3, 0.1, 0.5, 1.0)
    torch.testing.assert_close(schedule("linear").weight(t), 1 / t)


@pytest.mark.parametrize("name", sorted(set(SCHEDULES) - {"linear"}))
def test_discrete_weights_off_the_linear_schedule_are_not_those_of_continuous_time(name):
    i = torch.arange(1, 11, dtype=torch.float64)
    curve = schedule(name)
    assert (curve.discrete_weight(i, 10) - curve.weight(i / 10)).abs().max() > 0.05


def test_discrete_weights_of_the_linear_schedule_are_those_of_continuous_time():
    i = torch.arange(1, 11, dtype=torch.float64)
    torch.testing.assert_close(schedule("linear").discrete_weight(i, 10), schedule("linear").weight(i / 10))


@EVERY
@pytest.mark.parametrize("steps", [1, 2, 10, 128])
def test_grid_falls_from_1_to_exactly_0_in_equal_steps_of_time(name, steps):
    grid = schedule(name).grid(steps)
    assert len(grid) == steps + 1
    assert grid[0] == 1.0 and grid[-1] == 0.0
    assert all(later < earlier for earlier, later in itertools.pairwise(grid))
    assert grid == pytest.approx([oracles.hidden(name, i / steps) for i in range(steps, -1, -1)], abs=1e-12)


@EVERY
@pytest.mark.parametrize("part", [0.0, 0.5, 1.0])
def test_unmask_share_is_the_posterior_of_remdm(name, part):
    # In ReMDM's alpha = 1 - hidden, a masked position is unmasked with (alpha_s - (1 - r) alpha_t) / (1 - alpha_t).
    grid = schedule(name).grid(12)
    for hidden_t, hidden_s in itertools.pairwise(grid):
        r = part * (1.0 if hidden_t == 1 else min(1.0, hidden_s / (1 - hidden_t)))
        alpha_t, alpha_s = 1 - hidden_t, 1 - hidden_s
        share = unmask_share(hidden_t, hidden_s, r)
        assert share == pytest.approx((alpha_s - (1 - r) * alpha_t) / (1 - alpha_t), abs=1e-12)
        assert -1e-12 <= share <= 1 + 1e-12


@EVERY
@pytest.mark.parametrize("part", [0.0, 0.5, 1.0])
def test_unmasking_and_remasking_leave_hidden_s(name, part):
    grid = schedule(name).grid(12)
    for hidden_t, hidden_s in itertools.pairwise(grid):
        r = part * (1.0 if hidden_t == 1 else min(1.0, hidden_s / (1 - hidden_t)))
        after = hidden_t * (1 - unmask_share(hidden_t, hidden_s, r)) + (1 - hidden_t) * r
        assert after == pytest.approx(hidden_s, abs=1e-12)


def test_unmask_share_without_remasking_is_the_ancestral_one_and_all_at_the_end():
    assert unmask_share(0.8, 0.6) == pytest.approx((0.8 - 0.6) / 0.8)
    assert unmask_share(0.3, 0.0) == 1.0


def test_an_unknown_schedule_is_an_error_that_names_the_nearest():
    with pytest.raises(TdiffError, match="did you mean cosine"):
        schedule("cosin")


def test_both_cosines_hide_one_half_at_mirrored_times():
    # They share a name elsewhere, and are each other's mirror: sin(pi t/2) = 1/2 at t = 1/3, 1 - cos at t = 2/3.
    assert schedule("cosine").hidden(times(1 / 3)).item() == pytest.approx(0.5)
    assert schedule("cosine-seed").hidden(times(2 / 3)).item() == pytest.approx(0.5)
    assert math.isclose(schedule("cosine").hidden(times(0.5)).item(), math.sqrt(0.5))
