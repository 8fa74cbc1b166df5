"""Bayes' rule on likelihood bounds, with mask samples added until the decision is sure. Nothing here reads files."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence

from torch import Tensor

from tdiff.core.classification.masks import ROUND, Case, Scorer, add_samples
from tdiff.core.classification.prediction import Effort, Prediction, Progress, divisor, log_priors, second_best

LEAST = 6
"""Mask samples before the first check of the stopping rule: fewer do not show their spread, because it is skewed."""
_AHEAD = 4
"""How many groups of texts the newest text may be ahead of the oldest one."""
_SPREAD = 0.7  # where the boundary is tightest: after a few samples


def predict(
    scorer: Scorer,
    texts: Sequence[Tensor],
    priors: Sequence[float],
    effort: Effort,
    *,
    temperature: float = 0.0,
    names: Sequence[int] = (),
    together: int = 32,
) -> Iterator[Progress]:
    """An update for every undecided text of ids (L,) after each round of mask samples; see `masks` for the estimate.

    All classes are scored on the same masks. A text is final when the most likely class is so beyond chance, where
    `effort.confidence` allows for repeated checks (see `decided`), or after `effort.draws` samples. Log-likelihoods are
    divided by `divisor(temperature, tokens)`. `names` are the texts' numbers for the noise, by default their positions,
    so that a prediction does not depend on the other texts; `together` texts are scored at a time.

    Raises TdiffError for a text without a position that can be masked.
    """
    prior = log_priors(priors)
    unconditional = scorer.unconditional()
    waiting: list[Case] = []
    taken = 0
    while waiting or taken < len(texts):
        begin = time.perf_counter()
        # A new text takes the place of a decided one, so that batches stay full; but not so far ahead of the oldest
        # one that a reader who needs them in order waits long.
        oldest = waiting[0].text if waiting else taken
        new = [
            Case.of(scorer, n, texts[n], names[n] if names else n, unconditional)
            for n in range(taken, min(len(texts), taken + together - len(waiting), oldest + _AHEAD * together))
        ]
        taken += len(new)
        for case in new:
            case.divisor = divisor(temperature, int(case.maskable.sum()))
        waiting += new
        counts = {case.text: min(ROUND, effort.draws - len(case.nats)) for case in waiting}
        add_samples(scorer, waiting, counts, effort.seed, effort.explain)
        rows = {case.text: len(case.tokens) * counts[case.text] for case in waiting}
        seconds_a_row = (time.perf_counter() - begin) / sum(rows.values())
        for case in waiting:
            case.seconds += seconds_a_row * rows[case.text]
            case.sure = _is_decided(case, prior, effort.confidence)
            final = case.sure or len(case.nats) >= effort.draws
            yield Progress(case.text, _prediction(case, prior, effort.explain), final, case.seconds)
        waiting = [case for case in waiting if not case.sure and len(case.nats) < effort.draws]


def decided(differences: Tensor, alpha: float) -> bool:
    """Whether the mean of `differences` (n,) is on one side of zero, at level `alpha` however often one checks.

    The boundary of a normal mixture (Robbins 1970; Howard et al. 2021, arXiv:1810.08240, eq. 14), with an estimated
    deviation, which is widened as Student's t is, because it comes from few samples.
    """
    n = len(differences)
    if n < LEAST:
        return False
    deviation = float(differences.std()) * _widening(n)
    limit = deviation / n * math.sqrt((n + _SPREAD) * math.log((n + _SPREAD) / (_SPREAD * alpha**2)))
    return abs(float(differences.mean())) > limit


def _widening(n: int) -> float:
    """Student's t at 99.5% with n - 1 degrees of freedom over the normal quantile, nearly (Cornish and Fisher)."""
    z, v = 2.5758, n - 1
    return 1 + (z**2 + 1) / (4 * v) + (5 * z**4 + 16 * z**2 + 3) / (96 * v**2)


def _scores(case: Case, prior: Tensor) -> Tensor:
    """(C,): the log of the posterior up to a constant."""
    return prior - case.nats.mean(0) / case.divisor


def _is_decided(case: Case, prior: Tensor, confidence: float) -> bool:
    """Whether the most likely class is so beyond chance, against each of the others."""
    nats, best = case.nats, int(_scores(case, prior).argmax())
    others = [c for c in range(len(prior)) if c != best and prior[c] > -math.inf]
    alpha = (1 - confidence) / max(1, len(others))
    return confidence < 1 and all(
        decided((nats[:, c] - nats[:, best]) / case.divisor + prior[best] - prior[c], alpha) for c in others
    )


def _prediction(case: Case, prior: Tensor, explain: bool) -> Prediction:
    nats, scores = case.nats, _scores(case, prior)
    posterior = scores.softmax(0)
    best = int(posterior.argmax())
    # By the delta method, from the log odds against all other classes together.
    gradient = posterior.clone()
    gradient[best] -= 1.0
    spread = (nats / case.divisor * (gradient / max(1e-12, 1 - float(posterior[best])))).sum(1)
    error = float(spread.std()) / math.sqrt(len(nats)) if len(nats) > 1 else math.inf
    odds = float(posterior[best].clamp(1e-300, 1 - 1e-16).logit())
    low, high = (1 / (1 + math.exp(-min(700.0, max(-700.0, odds + side * 1.96 * error)))) for side in (-1, 1))
    contributions = None
    if explain:
        second = second_best(scores, best)
        gap = (case.position_nats[second] - case.position_nats[best]) / len(nats) / case.divisor
        contributions = case.by_token(gap)
    return Prediction(
        best,
        tuple(posterior.tolist()),
        (low, high),
        tuple(nats.mean(0).tolist()),
        len(nats),
        case.sure,
        contributions,
    )
