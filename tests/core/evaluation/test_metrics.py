"""Classification metrics, compared with those of scikit-learn."""

import math

import pytest
import torch
from sklearn import metrics as sklearn_metrics
from sklearn.calibration import calibration_curve

from tdiff.core.evaluation.metrics import BINS, assess, temperature, wilson

NAMES = ("a", "b", "c")


def some(count: int, seed: int, sharp: float = 1.5) -> tuple[torch.Tensor, list[int]]:
    """Posteriors over three classes, and labels that are drawn from them: calibrated."""
    draw = torch.Generator().manual_seed(seed)
    posteriors = (torch.randn(count, 3, generator=draw, dtype=torch.float64) * sharp).softmax(1)
    return posteriors, torch.multinomial(posteriors, 1, generator=draw)[:, 0].tolist()


@pytest.mark.parametrize("count", [1, 7, 500])
def test_metrics_match_scikit_learn(count):
    posteriors, labels = some(count, seed=count)
    said = posteriors.argmax(1).tolist()
    result = assess(posteriors, labels, NAMES)
    assert result.texts == count
    assert result.accuracy == pytest.approx(sklearn_metrics.accuracy_score(labels, said))
    assert [list(row) for row in result.confusion] == sklearn_metrics.confusion_matrix(
        labels, said, labels=[0, 1, 2]
    ).tolist()
    expected = sklearn_metrics.precision_recall_fscore_support(labels, said, labels=[0, 1, 2], zero_division=math.nan)
    for n, one in enumerate(result.classes):
        for ours, other in zip((one.precision, one.recall, one.f1), expected[:3], strict=True):
            assert (math.isnan(other[n]) and ours is None) or ours == pytest.approx(other[n])
        assert one.texts == expected[3][n]
    assert result.nats == pytest.approx(sklearn_metrics.log_loss(labels, posteriors.numpy(), labels=[0, 1, 2]))


def test_reliability_bins_match_scikit_learn():
    posteriors, labels = some(2000, seed=3)
    result = assess(posteriors, labels, NAMES)
    confidence, said = posteriors.max(1)
    right = (said == torch.tensor(labels)).tolist()
    shares, means = calibration_curve(right, confidence.tolist(), n_bins=BINS)
    ours = [one for one in result.bins if one.count]
    assert [one.accuracy for one in ours] == pytest.approx(shares.tolist())
    assert [one.confidence for one in ours] == pytest.approx(means.tolist())
    assert sum(one.count for one in result.bins) == 2000
    assert result.ece < 0.03


def test_wilson_interval_has_the_nominal_coverage():
    draw, inside = torch.Generator().manual_seed(0), 0
    for _ in range(1000):
        right = int((torch.rand(80, generator=draw) < 0.9).sum())
        low, high = wilson(right, 80)
        inside += low <= 0.9 <= high
    assert 930 <= inside <= 980
    assert wilson(5, 5)[1] == 1.0
    assert wilson(0, 5)[0] == 0.0


def test_accuracy_rises_as_coverage_falls():
    posteriors, labels = some(2000, seed=5)
    risks = assess(posteriors, labels, NAMES).risks
    assert risks[0].coverage == 1.0
    assert risks[0].accuracy < risks[-1].accuracy
    for one in risks:
        kept = posteriors.max(1).values >= one.threshold
        assert float(kept.double().mean()) == pytest.approx(one.coverage)


def test_mean_confidence_of_correct_and_wrong_predictions():
    result = assess(torch.tensor([[0.9, 0.1], [0.6, 0.4]]), [0, 1], ("a", "b"))
    assert (result.confidence_right, result.confidence_wrong) == pytest.approx((0.9, 0.6))
    single = assess(torch.tensor([[0.9, 0.1]]), [0], ("a", "b"))
    assert single.confidence_wrong is None
    assert single.classes[1].precision is None and single.classes[1].f1 is None


@pytest.mark.parametrize("true", [0.5, 1.0, 7.0])
def test_fitting_recovers_the_temperature(true):
    posteriors, labels = some(4000, seed=9, sharp=2.0)
    nats = -posteriors.log() * true + 100
    result = temperature(nats, labels, [1 / 3] * 3)
    assert result == pytest.approx(true, rel=0.1)
    calibrated = (-nats / result).softmax(1)
    assert assess(calibrated, labels, NAMES).ece < 0.03


def test_temperature_is_finite_if_all_predictions_are_correct_or_wrong():
    nats = torch.tensor([[1.0, 3.0], [4.0, 1.0]])
    assert 0.01 <= temperature(nats, [0, 1], [0.5, 0.5]) < 5
    assert temperature(nats, [1, 0], [0.5, 0.5]) == pytest.approx(1e4)
