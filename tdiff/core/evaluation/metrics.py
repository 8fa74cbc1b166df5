"""Classification metrics on labelled texts, and the temperature that calibrates predicted probabilities.

Pure functions of probabilities and labels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

BINS = 10
"""Bins of equal width in a reliability diagram."""
_COVERAGES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.5)
_LEAST, _MOST = 1e-4, 100.0  # bounds of 1 / temperature


@dataclass(frozen=True, slots=True)
class ClassScore:
    """The metrics of one class."""

    name: str
    precision: float | None
    """The share of the texts predicted to be of the class that are; None if there are none."""
    recall: float | None
    """The share of the texts of the class that are predicted to be; None if there are none."""
    f1: float | None
    """Their harmonic mean, 2 correct / (predicted + actual); None if the class has neither."""
    texts: int


@dataclass(frozen=True, slots=True)
class Bin:
    """Predictions whose probabilities lie in (low, high]."""

    low: float
    high: float
    count: int
    confidence: float
    """Their mean probability; 0 if there are none."""
    accuracy: float
    """The share of them that is correct; 0 if there are none."""


@dataclass(frozen=True, slots=True)
class Risk:
    """The accuracy if the least confident predictions abstain."""

    coverage: float
    """The share of texts with a prediction."""
    threshold: float
    """The lowest probability among these predictions."""
    accuracy: float


@dataclass(frozen=True, slots=True)
class Assessment:
    """The quality of predictions on labelled texts."""

    texts: int
    accuracy: float
    interval_95: tuple[float, float]
    """Interval of the accuracy, with the texts as a sample (Wilson 1927)."""
    classes: tuple[ClassScore, ...]
    macro_f1: float
    """The mean F1 of the classes that have one."""
    confusion: tuple[tuple[int, ...], ...]
    """(C, C): the number of texts of the class of the row that are predicted to be of the class of the column."""
    nats: float
    """The mean -log p of the correct class."""
    ece: float
    """Expected calibration error: over BINS of the predicted class's probability, the mean distance between that
    probability and the accuracy (Guo et al. 2017, arXiv:1706.04599, eq. 3)."""
    bins: tuple[Bin, ...]
    risks: tuple[Risk, ...]
    """In the order of falling coverage, from all texts on."""
    confidence_right: float | None
    """The mean probability of the correct predictions; None if there are none."""
    confidence_wrong: float | None
    """The mean probability of the wrong predictions; None if there are none."""


def assess(posteriors: Tensor, labels: Sequence[int], classes: Sequence[str]) -> Assessment:
    """The quality of predictions with `posteriors` (n, C), n above 0, for texts of the classes `labels`."""
    truth = torch.tensor(labels)
    confidence, predicted = posteriors.double().max(1)
    right = predicted == truth
    count, size = len(labels), len(classes)
    confusion = torch.zeros(size, size, dtype=torch.int64)
    confusion.index_put_((truth, predicted), torch.ones(count, dtype=torch.int64), accumulate=True)
    scores = []
    for n, name in enumerate(classes):
        hits, actual, named = int(confusion[n, n]), int(confusion[n].sum()), int(confusion[:, n].sum())
        scores.append(
            ClassScore(
                name,
                hits / named if named else None,
                hits / actual if actual else None,
                2 * hits / (named + actual) if named + actual else None,
                actual,
            )
        )
    f1 = [score.f1 for score in scores if score.f1 is not None]
    bins = tuple(_bins(confidence, right))
    likely = posteriors.double()[torch.arange(count), truth].clamp(min=1e-300)
    return Assessment(
        texts=count,
        accuracy=float(right.double().mean()),
        interval_95=wilson(int(right.sum()), count),
        classes=tuple(scores),
        macro_f1=sum(f1) / len(f1),
        confusion=tuple(tuple(row) for row in confusion.tolist()),
        nats=-float(likely.log().mean()),
        ece=sum(b.count * abs(b.confidence - b.accuracy) for b in bins) / count,
        bins=bins,
        risks=tuple(_risks(confidence, right)),
        confidence_right=float(confidence[right].mean()) if bool(right.any()) else None,
        confidence_wrong=float(confidence[~right].mean()) if not bool(right.all()) else None,
    )


def wilson(right: int, count: int, z: float = 1.96) -> tuple[float, float]:
    """The interval of a share when `right` of `count` cases have the property (Wilson 1927); `z` standard errors."""
    p, spread = right / count, z * z / count
    middle = (p + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(p * (1 - p) / count + spread / (4 * count))
    return max(0.0, middle - half), min(1.0, middle + half)


def _bins(confidence: Tensor, right: Tensor) -> list[Bin]:
    """Bins (low, high]; the first one includes its lower end."""
    numbers = ((confidence * BINS).ceil().long() - 1).clamp(0, BINS - 1)
    bins = []
    for n in range(BINS):
        members = numbers == n
        count = int(members.sum())
        mean = float(confidence[members].mean()) if count else 0.0
        share = float(right[members].double().mean()) if count else 0.0
        bins.append(Bin(n / BINS, (n + 1) / BINS, count, mean, share))
    return bins


def _risks(confidence: Tensor, right: Tensor) -> list[Risk]:
    order = confidence.argsort(descending=True, stable=True)
    risks = []
    for coverage in _COVERAGES:
        top = order[: max(1, round(coverage * len(order)))]
        risks.append(Risk(len(top) / len(order), float(confidence[top].min()), float(right[top].double().mean())))
    return risks


def temperature(nats: Tensor, labels: Sequence[int], priors: Sequence[float]) -> float:
    """The number by which `nats` (n, C) of texts are divided, so that Bayes' posteriors equal the accuracy.

    It minimises the cross-entropy (Guo et al. 2017, arXiv:1706.04599), which is convex in its inverse. The targets are
    smoothed as in Platt (1999), with one more observation of each label: if all texts are classified correctly, the
    posteriors still do not become certain.
    """
    truth, prior = torch.tensor(labels), torch.tensor(priors, dtype=torch.float64).clamp(min=1e-12).log()
    gain = -(nats.double() - nats.double().min(1, keepdim=True).values)
    smoothing = 1 / (len(labels) + 2)
    target = torch.full(gain.shape, smoothing / gain.size(1), dtype=torch.float64)
    target[torch.arange(len(truth)), truth] += 1 - smoothing

    def slope(inverse: float) -> float:
        posterior = (prior + inverse * gain).softmax(1)
        return float(((posterior - target) * gain).sum())

    low, high = _LEAST, _MOST
    if slope(low) >= 0:  # a higher probability does not mean a higher accuracy
        return 1 / low
    if slope(high) <= 0:
        return 1 / high
    for _ in range(100):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return 1 / math.sqrt(low * high)
