"""The method `ar`: Bayes' rule on the exact likelihoods of causal models, one model per class."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tdiff.core.classification.classifier import Classifier
from tdiff.core.classification.prediction import Effort, Prediction, Progress, exact_prediction
from tdiff.core.evaluation.likelihood import exactly
from tdiff.core.packing import padded
from tdiff.errors import TdiffError


@dataclass(frozen=True, slots=True, kw_only=True)
class CausalClassifier(Classifier):
    """One causal model of each class."""

    method: ClassVar[str] = "ar"

    def can_score(self, ids: Tensor) -> bool:
        """Whether every model can score at least one token: some cannot score the first one."""
        scored = self.scorable(ids)[None]
        return all(bool(network.spec.scorable(scored).any()) for network in self.networks)

    def predict(self, texts: Sequence[Tensor], effort: Effort, names: Sequence[int] = ()) -> Iterator[Progress]:
        """See `Classifier.predict`; one update for each text."""
        for n, ids in enumerate(texts):
            begin = time.perf_counter()
            with torch.inference_mode(), self.autocast():
                prediction = self._predict(ids, effort.explain)
            yield Progress(n, prediction, True, time.perf_counter() - begin)

    def _predict(self, ids: Tensor, explain: bool) -> Prediction:
        rows, real, _ = padded([ids], self.window, self.networks[0].spec.mask_id)
        scored = real & self.scorable(rows)
        by_class = []
        for network in self.networks:
            positions = network.spec.scorable(scored.to(self.device))
            if not bool(positions.any()):
                raise TdiffError("the text has no token that the model can score, so it cannot be classified")
            if explain:  # a window at a time: the logits of all would be many
                windows = [
                    network.log_likelihood(row[None].to(self.device), at[None])
                    for row, at in zip(rows, positions, strict=True)
                ]
                by_class.append(-torch.cat([log_p for log_p in windows if log_p is not None]).cpu().double()[real])
            else:
                by_class.append(exactly(network, rows.to(self.device), positions).nats.sum()[None])
        nats = torch.stack(by_class)
        return exact_prediction(
            nats.sum(1), self.priors, self.temperature, int(scored.sum()), nats if explain else None
        )
