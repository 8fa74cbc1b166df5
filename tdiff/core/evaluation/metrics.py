"""How good verdicts are, on texts whose class is known; and the one number that makes their doubt honest.

Pure functions of probabilities and labels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

BINS = 10
"""Of equal width, in a reliability picture."""
_COVERAGES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.5)
_LEAST, _MOST = 1e-4, 100.0  # of 1 / temperature


@dataclass(frozen=True, slots=True)
class ClassScore:
    """How well one class is told."""

    name: str
    precision: float | None
    """Of the texts said to be of it, the share that are; None where none was."""
    recall: float | None
    """Of its texts, the share said to be of it; None where there are none."""
    f1: float | None
    """Their harmonic mean, 2 right / (said + are); None where there is neither."""
    texts: int


@dataclass(frozen=True, slots=True)
class Bin:
    """Verdicts of about one probability."""

    low: float
    high: float
    count: int
    confidence: float
    """Their mean probability ..."""
    accuracy: float
    """... and the share that are right; both 0 where there are none."""


@dataclass(frozen=True, slots=True)
class Risk:
    """What is left where the least sure verdicts are not given."""

    coverage: float
    """Share of the texts that have one."""
    threshold: float
    """Their least probability."""
    accuracy: float


@dataclass(frozen=True, slots=True)
class Assessment:
    """How good verdicts are."""

    texts: int
    accuracy: float
    interval_95: tuple[float, float]
    """Of the accuracy, as of a sample of texts (Wilson 1927)."""
    classes: tuple[ClassScore, ...]
    macro_f1: float
    """Mean of those that there are."""
    confusion: tuple[tuple[int, ...], ...]
    """(C, C): texts of the class of the row, said to be of that of the column."""
    nats: float
    """Mean -log of the probability of the right class."""
    ece: float
    """Expected calibration error: over BINS of the likeliest class's probability, the mean distance between that
    probability and the share that are right (Guo et al. 2017, arXiv:1706.04599, eq. 3)."""
    bins: tuple[Bin, ...]
    risks: tuple[Risk, ...]
    """From all texts down."""
    confidence_right: float | None
    """Mean probability of the verdicts that are right ..."""
    confidence_wrong: float | None
    """... and of those that are wrong; None where there are none."""


def assess(posteriors: Tensor, labels: Sequence[int], classes: Sequence[str]) -> Assessment:
    """How good verdicts of those `posteriors` (n, C), n above 0, are of texts that are of the classes `labels`."""
    truth = torch.tensor(labels)
    confidence, said = posteriors.double().max(1)
    right = said == truth
    count, size = len(labels), len(classes)
    confusion = torch.zeros(size, size, dtype=torch.int64)
    confusion.index_put_((truth, said), torch.ones(count, dtype=torch.int64), accumulate=True)
    scores = []
    for n, name in enumerate(classes):
        hit, of_it, called = int(confusion[n, n]), int(confusion[n].sum()), int(confusion[:, n].sum())
        scores.append(
            ClassScore(
                name,
                hit / called if called else None,
                hit / of_it if of_it else None,
                2 * hit / (called + of_it) if called + of_it else None,
                of_it,
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
    """The interval of a share of which `right` of `count` were seen (Wilson 1927)."""
    p, spread = right / count, z * z / count
    middle = (p + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(p * (1 - p) / count + spread / (4 * count))
    return max(0.0, middle - half), min(1.0, middle + half)


def _bins(confidence: Tensor, right: Tensor) -> list[Bin]:
    """Bins (low, high], the first with its lower end."""
    place = ((confidence * BINS).ceil().long() - 1).clamp(0, BINS - 1)
    found = []
    for n in range(BINS):
        some = place == n
        there = int(some.sum())
        mean = float(confidence[some].mean()) if there else 0.0
        share = float(right[some].double().mean()) if there else 0.0
        found.append(Bin(n / BINS, (n + 1) / BINS, there, mean, share))
    return found


def _risks(confidence: Tensor, right: Tensor) -> list[Risk]:
    order = confidence.argsort(descending=True, stable=True)
    found = []
    for coverage in _COVERAGES:
        kept = order[: max(1, round(coverage * len(order)))]
        found.append(Risk(len(kept) / len(order), float(confidence[kept].min()), float(right[kept].double().mean())))
    return found


def temperature(nats: Tensor, labels: Sequence[int], priors: Sequence[float]) -> float:
    """What to divide numbers (n, C) like the nats of texts by, so that Bayes' posteriors say how often they are right.

    It minimises the cross-entropy (Guo et al. 2017, arXiv:1706.04599), which is convex in its inverse. As in Platt
    (1999) each label counts as one seen once more among as many texts as there are, so that texts that are all told
    right do not ask for certainty.
    """
    truth, prior = torch.tensor(labels), torch.tensor(priors, dtype=torch.float64).clamp(min=1e-12).log()
    gain = -(nats.double() - nats.double().min(1, keepdim=True).values)
    doubt = 1 / (len(labels) + 2)
    target = torch.full(gain.shape, doubt / gain.size(1), dtype=torch.float64)
    target[torch.arange(len(truth)), truth] += 1 - doubt

    def slope(inverse: float) -> float:
        posterior = (prior + inverse * gain).softmax(1)
        return float(((posterior - target) * gain).sum())

    low, high = _LEAST, _MOST
    if slope(low) >= 0:  # what is likelier is not righter
        return 1 / low
    if slope(high) <= 0:
        return 1 / high
    for _ in range(100):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return 1 / math.sqrt(low * high)
