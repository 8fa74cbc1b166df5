"""Alerts: each loss spike is reported once and noise is not; runs that stall or end are reported."""

import itertools
import math
import os
import platform
import random
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from tdiff.watch.alerts import BUSY, GAPS, SILENCE, WARM_UP, Losses, Spikes, gone, patience, usual_gap

FEW = examples(derandomize=True, deadline=None, max_examples=50, database=None)
RUNS, LENGTH = 100, 2_000


def losses(seed: int, kind: str, size: float = 0.03, length: int = LENGTH) -> list[float]:
    """A falling loss, fast or slow, with noise of a relative size."""
    draw = random.Random(seed)
    fall = 60 if seed % 2 else 400
    drift, found = 0.0, []
    for n in range(length):
        noise = draw.gauss(0, size)
        if kind == "drifting":
            drift = noise = 0.9 * drift + draw.gauss(0, size * math.sqrt(1 - 0.81))
        elif kind == "growing":
            noise *= 0.3 + n / length
        found.append((1.8 + 5.2 * math.exp(-n / fall) + 2 / (1 + n / 30)) * math.exp(noise))
    return found


def spikes(values: list[float]) -> list[int]:
    detector = Spikes()
    return [n for n, value in enumerate(values) if detector.take(value) is not None]


@pytest.mark.parametrize("kind", ["steady", "drifting", "growing"])
def test_ordinary_noise_is_not_a_spike(kind):
    assert [spikes(losses(seed, kind)) for seed in range(RUNS)] == [[]] * RUNS


def test_long_tailed_noise_rarely_counts_as_a_spike():
    found = 0
    for seed in range(RUNS):
        draw = random.Random(seed)
        found += len(spikes([2 * math.exp(draw.expovariate(20) * draw.choice((-1, 1))) for _ in range(LENGTH)]))
    assert found <= 30  # of 200,000 records; twenty of them lie above six deviations


@pytest.mark.parametrize("kind", ["steady", "drifting"])
def test_rise_by_a_half_is_reported_once(kind):
    hits = 0
    for seed in range(RUNS):
        at = random.Random(seed).randrange(WARM_UP + 10, 600)
        values = losses(seed, kind, 0.04, at + 50)
        values[at] *= 1.5
        found = spikes(values)
        hits += at in found
        assert len(found) <= 1
    assert hits >= 0.95 * RUNS


def test_each_long_spike_is_reported_once():
    values = losses(1, "steady", 0.02, 800)
    for n in (*range(300, 312), *range(600, 640)):
        values[n] *= 1.6
    assert spikes(values) == [300, 600]


def test_loss_that_stays_high_becomes_the_new_level():
    values = losses(1, "steady", 0.02, 1200)
    values[400:] = [2 * value for value in values[400:]]
    values[1000] *= 1.5
    assert spikes(values) == [400, 1000]


def test_the_first_records_are_never_spikes():
    assert spikes([1.0] * (WARM_UP - 1) + [50.0]) == []
    assert spikes([1.0] * WARM_UP + [50.0]) == [WARM_UP]


def test_rise_below_a_tenth_is_not_a_spike():
    assert spikes([1.0] * 200 + [1.09]) == []
    assert spikes([1.0] * 200 + [1.11]) == [200]


def test_non_positive_losses_are_examined_without_logarithm():
    draw = random.Random(0)
    values = [-5 + draw.gauss(0, 0.05) for _ in range(300)]
    values[250] += 2
    assert spikes(values) == [250]


def test_spike_notice_contains_deviation_and_expected_loss():
    detector = Spikes()
    draw = random.Random(0)
    for _ in range(500):
        assert detector.take(2 * math.exp(draw.gauss(0, 0.02))) is None
    sigmas, expected = detector.take(2 * math.exp(0.3))
    assert expected == pytest.approx(2, rel=0.03)
    assert sigmas == pytest.approx(0.3 / 0.02, rel=0.25)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False)))
@FEW
def test_any_finite_losses_are_accepted(values):
    spikes(values)


NAN, INF = math.nan, math.inf


def test_non_finite_values_are_reported_once_until_finite_again():
    judge = Losses()

    def notices(**values: float) -> list[str]:
        columns = {f"train/{name}": [value] for name, value in values.items()}
        return [notice.text for notice in judge.examine([7], columns, [1.5])]

    assert notices(loss=1.0, grad_norm=1.0) == []
    assert notices(loss=NAN, grad_norm=INF) == ["train/loss and train/grad_norm not finite"]
    assert notices(loss=NAN, grad_norm=NAN) == []
    assert notices(loss=1.0, grad_norm=INF) == []
    assert notices(loss=1.0, grad_norm=1.0) == []
    assert notices(loss=1.0, grad_norm=-INF) == ["train/grad_norm not finite"]


@given(
    st.lists(st.one_of(*[st.floats(1, 1.1)] * 6, st.sampled_from([NAN, INF, 30.0])), min_size=60, max_size=120),
    st.lists(st.integers(1, 119), max_size=4),
)
@FEW
def test_notices_do_not_depend_on_how_losses_are_split(values, cuts):
    steps = list(range(len(values)))
    times = [float(step) for step in steps]
    whole = Losses().examine(steps, {"train/loss": values}, times)
    judge, parts = Losses(), []
    for begin, end in itertools.pairwise([0, *sorted({cut for cut in cuts if cut < len(values)}), len(values)]):
        parts += judge.examine(steps[begin:end], {"train/loss": values[begin:end]}, times[begin:end])
    assert parts == whole
    assert [notice.time for notice in whole] == [float(notice.step) for notice in whole]


def test_a_silence_is_measured_by_the_usual_gap():
    assert patience(0.1, False) == SILENCE
    assert patience(10, False) == GAPS * 10
    assert patience(0.1, True) == BUSY
    assert patience(1000, True) == GAPS * 1000


def test_usual_gap_is_the_median_of_positive_gaps():
    assert usual_gap([]) == 0
    assert usual_gap([5]) == 0
    assert usual_gap([0, 1, 1, 2, 3, 100]) == 1
    assert usual_gap([0, 10, 4, 14]) == 10
    assert usual_gap([0, NAN, 1, 3]) == 2


def test_process_is_gone_when_this_host_has_no_such_id():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert not gone(child.pid, platform.node())
    child.communicate(b"\n")
    assert gone(child.pid, platform.node())
    assert not gone(child.pid, f"not-{platform.node()}")


@pytest.mark.parametrize("pid", [0, -1, 2**31, 2**70])
def test_invalid_process_id_is_not_gone(pid):
    assert not gone(pid, platform.node())


def test_process_of_another_user_is_not_gone(monkeypatch):
    def refuse(_pid: int, _signal: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", refuse)
    assert not gone(1, platform.node())
