"""The method `bound`: Bayes' rule on the likelihood bounds of masked models, all classes on the same masks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tdiff.core.classification import sequential
from tdiff.core.classification.classifier import Classifier
from tdiff.core.classification.masks import Scorer
from tdiff.core.classification.prediction import Effort, Progress
from tdiff.core.memory import Portions
from tdiff.core.models.base import Inputs, Model


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundClassifier(Classifier):
    """One class-conditional masked model, or one masked model of each class."""

    method: ClassVar[str] = "bound"
    portions: Portions
    """Divides batches that do not fit into memory; the positions known to fit hold for all texts. See `portions_of`."""

    @property
    def together(self) -> int:
        """Texts that are scored at a time: enough to keep the device busy, but few, so that the first one is soon done.

        On a CPU 32 are a tenth faster than 8 where texts are short, and the first one takes three times as long.
        """
        return 8 if self.device == "cpu" else 256

    def predict(self, texts: Sequence[Tensor], effort: Effort, names: Sequence[int] = ()) -> Iterator[Progress]:
        """See `Classifier.predict` and `sequential.predict`."""
        scorer = Scorer(
            self._conditional if len(self.networks) == 1 else self._per_class,
            classes=len(self.classes),
            window=self.window,
            mask_id=self.networks[0].spec.mask_id,
            vocabulary=self.networks[0].spec.vocab_size,
            portions=self.portions,
            unmaskable=self.unscored(),
            device=self.device,
        )
        yield from sequential.predict(
            scorer, texts, self.priors, effort, temperature=self.temperature, names=names, together=self.together
        )

    def _conditional(self, tokens: Tensor, share: Tensor, where: Tensor, attention: Tensor, label: Tensor) -> Tensor:
        """The logits of one model that is conditioned on the class of each row."""
        with self.autocast():
            return self.networks[0].logits(Inputs(tokens, share, where, attention=attention, label=label))

    def _per_class(self, tokens: Tensor, share: Tensor, where: Tensor, attention: Tensor, label: Tensor) -> Tensor:
        """The logits of one model a class, each for the rows of its class; labels come in order."""
        logits = []
        for n, network in enumerate(self.networks):
            rows = label == n
            if not bool(rows.any()):  # a part of a batch may lack a class
                continue
            with self.autocast():
                inputs = Inputs(tokens[rows], share[rows], where[rows], attention=attention[rows])
                logits.append(network.logits(inputs))
        return torch.cat(logits)


def portions_of(networks: Sequence[Model], device: str) -> Portions:
    """The `portions` of a classifier with these networks."""
    window = min(network.spec.context for network in networks)
    return Portions(torch.device(device).type, f"a window of up to {window:,} tokens")
