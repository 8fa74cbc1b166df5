"""Classifiers: what all methods have in common, priors, and the calibration of their probabilities."""

from __future__ import annotations

import math
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, TypeVar

import torch
from torch import Tensor

from tdiff.core.classification.prediction import Effort, Progress
from tdiff.core.evaluation.metrics import Assessment, assess, temperature
from tdiff.core.models.base import Model, Tokenizer
from tdiff.errors import TdiffError, unknown
from tdiff.visible import visible_line

_GROUP = 16
"""Texts that are scored together where the time is limited."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Classifier(ABC):
    """A model, or one model a class, that predicts the class of a text."""

    method: ClassVar[str]
    """The name of the method, as `tdiff classify --method` takes it."""
    name: str
    classes: tuple[str, ...]
    priors: tuple[float, ...]
    """The probability of each class before the text is read; they sum to 1."""
    temperature: float = 0.0
    """See `prediction.divisor`; 0 if it is unknown."""
    tokenizer: Tokenizer
    networks: tuple[Model, ...]
    """One network for all classes, or one of each class."""
    device: str
    bfloat16: bool = False
    """Whether matrix products are computed in bfloat16."""

    @abstractmethod
    def predict(self, texts: Sequence[Tensor], effort: Effort, names: Sequence[int] = ()) -> Iterator[Progress]:
        """Updates of the predictions for texts of ids (L,), as they are ready; the last one of each text is final.

        `names` are the texts' numbers for the noise, so that a prediction does not depend on the other texts. A method
        that samples no masks has one update for each text. Raises TdiffError for a text that has no token to score.
        """

    @property
    def window(self) -> int:
        """The context length in tokens."""
        return min(network.spec.context for network in self.networks)

    def encode(self, text: str) -> Tensor:
        """Ids (L,) int64. Raises TdiffError for a blank text, or one that the tokenizer cannot encode."""
        if not text.strip():
            raise TdiffError("the text is empty")
        return self.tokenizer.encode(text)

    def pieces(self, ids: Tensor) -> list[str]:
        """The text of each token."""
        return [self.tokenizer.pieces[i] for i in ids.tolist()]

    def scored_tokens(self, ids: Tensor) -> int:
        """How many tokens of a text count in its likelihood."""
        return int(self.scorable(ids).sum())

    def can_score(self, ids: Tensor) -> bool:
        """Whether the model can score at least one token of a text."""
        return bool(self.scorable(ids).any())

    def scorable(self, ids: Tensor) -> Tensor:
        """Bool of the shape of `ids`: whether a token counts in a likelihood."""
        return ~torch.isin(ids, torch.tensor(self.unscored(), dtype=torch.int64))

    def unscored(self) -> list[int]:
        """Ids other than the mask that no model may propose: they count in no likelihood."""
        return list(self.networks[0].spec.unscored)

    def autocast(self) -> torch.autocast:
        """The precision of the matrix products."""
        return torch.autocast(self.device, torch.bfloat16, enabled=self.bfloat16)


C = TypeVar("C", bound=Classifier)


@dataclass(frozen=True, slots=True)
class Calibration:
    """The result of fitting the temperature to labelled texts."""

    temperature: float
    """The best one for these texts."""
    assessment: Assessment
    """The quality of the predictions with that temperature."""


def calibrate(
    classifier: Classifier,
    texts: Sequence[Tensor],
    labels: Sequence[int],
    most: int,
    *,
    seed: int = 0,
    stop: Callable[[], bool] = lambda: False,
    progress: Callable[[int, int], None] | None = None,
    seconds: float | None = None,
) -> Calibration | None:
    """The temperature that fits texts of ids (L,) with classes `labels`: a random sample of at most `most` of them.

    No further group of texts is scored after `seconds`. None if `stop` returned True, or if no text can be scored.
    """
    shuffled = list(range(len(texts)))
    random.Random(seed).shuffle(shuffled)
    nats: dict[int, list[float]] = {}
    uncalibrated = replace(classifier, temperature=0.0)
    effort = Effort(seed=seed)
    sample = [n for n in shuffled[:most] if uncalibrated.can_score(texts[n])]
    # Texts whose class is obvious are done first: only complete groups are free of that bias.
    size = len(sample) if seconds is None else _GROUP
    end = math.inf if seconds is None else time.monotonic() + seconds
    for start in range(0, len(sample), max(1, size)):
        if time.monotonic() >= end and nats:
            break
        group = sample[start : start + size]
        for update in uncalibrated.predict([texts[n] for n in group], effort, names=group):
            if stop():
                return None
            if update.final:
                n = group[update.text]
                root = math.sqrt(uncalibrated.scored_tokens(texts[n]))
                nats[n] = [value / root for value in update.prediction.nats]
                if progress:
                    progress(len(nats), len(sample))
    if not nats:
        return None
    scaled = torch.tensor(list(nats.values()), dtype=torch.float64)
    truth = [labels[n] for n in nats]
    fitted = temperature(scaled, truth, classifier.priors)
    prior = torch.tensor(classifier.priors, dtype=torch.float64).log()
    return Calibration(fitted, assess((prior - scaled / fitted).softmax(1), truth, classifier.classes))


def with_priors(classifier: C, priors: Mapping[str, float] | None) -> C:
    """The same classifier with other priors, one for every class; None: equal priors.

    Raises TdiffError if they do not name each class once, or do not sum to 1.
    """
    classes = classifier.classes
    if priors is None:
        return replace(classifier, priors=(1 / len(classes),) * len(classes))
    for name in priors:
        if name not in classes:
            raise unknown("class", name, classes)
    if missing := [name for name in classes if name not in priors]:
        raise TdiffError(f"--priors lacks {missing[0]!r}; the classes are {visible_line(', '.join(classes))}")
    total = math.fsum(priors.values())
    if not all(0 <= p <= 1 for p in priors.values()) or abs(total - 1) > 1e-6:
        raise TdiffError(f"--priors must be at least 0 and sum to 1; got a sum of {total:g}")
    return replace(classifier, priors=tuple(priors[name] for name in classes))
