"""What a watcher is told: spikes that are none are not called so, those that are, once; silence and death."""

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
def test_ordinary_noise_is_no_spike(kind):
    assert [spikes(losses(seed, kind)) for seed in range(RUNS)] == [[]] * RUNS


def test_noise_with_long_tails_is_seldom_called_a_spike():
    found = 0
    for seed in range(RUNS):
        draw = random.Random(seed)
        found += len(spikes([2 * math.exp(draw.expovariate(20) * draw.choice((-1, 1))) for _ in range(LENGTH)]))
    assert found <= 30  # of 200,000 records; twenty of them lie above six deviations


@pytest.mark.parametrize("kind", ["steady", "drifting"])
def test_a_loss_that_is_half_as_much_again_is_found_and_told_once(kind):
    hits = 0
    for seed in range(RUNS):
        at = random.Random(seed).randrange(WARM_UP + 10, 600)
        values = losses(seed, kind, 0.04, at + 50)
        values[at] *= 1.5
        found = spikes(values)
        hits += at in found
        assert len(found) <= 1
    assert hits >= 0.95 * RUNS


def test_a_spike_of_many_records_is_told_once_and_so_is_the_next():
    values = losses(1, "steady", 0.02, 800)
    for n in (*range(300, 312), *range(600, 640)):
        values[n] *= 1.6
    assert spikes(values) == [300, 600]


def test_a_loss_that_stays_up_becomes_the_usual():
    values = losses(1, "steady", 0.02, 1200)
    values[400:] = [2 * value for value in values[400:]]
    values[1000] *= 1.5
    assert spikes(values) == [400, 1000]


def test_the_first_records_are_never_spikes():
    assert spikes([1.0] * (WARM_UP - 1) + [50.0]) == []
    assert spikes([1.0] * WARM_UP + [50.0]) == [WARM_UP]


def test_a_rise_of_less_than_a_tenth_is_no_spike_however_quiet_the_loss_was():
    assert spikes([1.0] * 200 + [1.09]) == []
    assert spikes([1.0] * 200 + [1.11]) == [200]


def test_losses_that_are_not_all_positive_are_judged_as_they_are():
    draw = random.Random(0)
    values = [-5 + draw.gauss(0, 0.05) for _ in range(300)]
    values[250] += 2
    assert spikes(values) == [250]


def test_a_spike_says_how_far_it_is_from_what_was_expected():
    detector = Spikes()
    draw = random.Random(0)
    for _ in range(500):
        assert detector.take(2 * math.exp(draw.gauss(0, 0.02))) is None
    sigmas, expected = detector.take(2 * math.exp(0.3))
    assert expected == pytest.approx(2, rel=0.03)
    assert sigmas == pytest.approx(0.3 / 0.02, rel=0.25)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False)))
@FEW
def test_any_finite_losses_are_taken(values):
    spikes(values)


NAN, INF = math.nan, math.inf


def test_numbers_that_are_none_are_told_once_until_they_are_numbers_again():
    judge = Losses()

    def told(**values: float) -> list[str]:
        columns = {f"train/{name}": [value] for name, value in values.items()}
        return [notice.text for notice in judge.examine([7], columns, [1.5])]

    assert told(loss=1.0, grad_norm=1.0) == []
    assert told(loss=NAN, grad_norm=INF) == ["train/loss and train/grad_norm not finite"]
    assert told(loss=NAN, grad_norm=NAN) == []
    assert told(loss=1.0, grad_norm=INF) == []
    assert told(loss=1.0, grad_norm=1.0) == []
    assert told(loss=1.0, grad_norm=-INF) == ["train/grad_norm not finite"]


@given(
    st.lists(st.one_of(*[st.floats(1, 1.1)] * 6, st.sampled_from([NAN, INF, 30.0])), min_size=60, max_size=120),
    st.lists(st.integers(1, 119), max_size=4),
)
@FEW
def test_losses_are_judged_alike_in_pieces_of_any_size(values, cuts):
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


def test_the_usual_gap_is_the_median_of_those_that_are_positive():
    assert usual_gap([]) == 0
    assert usual_gap([5]) == 0
    assert usual_gap([0, 1, 1, 2, 3, 100]) == 1
    assert usual_gap([0, 10, 4, 14]) == 10
    assert usual_gap([0, NAN, 1, 3]) == 2


def test_a_process_is_gone_when_this_host_has_none_of_its_number():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert not gone(child.pid, platform.node())
    child.communicate(b"\n")
    assert gone(child.pid, platform.node())
    assert not gone(child.pid, f"not-{platform.node()}")


@pytest.mark.parametrize("pid", [0, -1, 2**31, 2**70])
def test_what_can_be_no_process_is_not_called_gone(pid):
    assert not gone(pid, platform.node())


def test_a_process_of_somebody_else_is_not_gone(monkeypatch):
    def refuse(_pid: int, _signal: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", refuse)
    assert not gone(1, platform.node())
