"""The generative classifier: Bayes' rule on masked likelihoods, with exact models of few symbols."""

import itertools
import math

import pytest
import torch

from tdiff.core.classification.masks import ROUND, Scorer
from tdiff.core.classification.prediction import Effort, Prediction
from tdiff.core.classification.sequential import LEAST, decided, predict
from tdiff.core.diffusion.objective import likelihood
from tdiff.core.memory import Portions
from tdiff.errors import OutOfMemory, TdiffError
from tests.support.models import StubModel

SYMBOLS, POSITIONS = 3, 4
MASK = SYMBOLS


def joints(classes: int, seed: int) -> torch.Tensor:
    """(C, 3, 3, 3, 3): a distribution over all texts of four positions for each class."""
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(classes, *[SYMBOLS] * POSITIONS, generator=draw).mul(1.2).flatten(1).softmax(1).view(
        classes, *[SYMBOLS] * POSITIONS
    )  # fmt: skip


class Exact:
    """Asks the distributions themselves: exact conditionals of what is masked, given what is seen."""

    def __init__(self, joint: torch.Tensor) -> None:
        self.joint, self.rows = joint, 0
        self.known: dict[tuple[int, ...], torch.Tensor] = {}

    def __call__(self, tokens, share, where, attention, label):
        assert bool(attention.all())
        self.rows += len(tokens)
        rows = zip(label.tolist(), tokens.tolist(), strict=True)
        return torch.stack([self.conditionals(kind, *row) for kind, row in rows])[where]

    def conditionals(self, kind: int, *row: int) -> torch.Tensor:
        """(positions, symbols and the mask): log p of each position given the visible part of the row."""
        if (kind, *row) not in self.known:
            table = self.joint[kind]
            for position, symbol in enumerate(row):
                if symbol != MASK:
                    keep = torch.zeros(SYMBOLS).index_fill_(0, torch.tensor(symbol), 1.0)
                    table = table * keep.view([-1 if n == position else 1 for n in range(POSITIONS)])
            p = torch.stack(
                [table.sum([n for n in range(POSITIONS) if n != position]) for position in range(POSITIONS)]
            )
            never = torch.full((POSITIONS, 1), -math.inf)
            self.known[kind, *row] = torch.cat(((p / p.sum(1, keepdim=True)).log(), never), 1)
        return self.known[kind, *row]


def scorer(ask, classes: int, unmaskable=()) -> Scorer:
    portions = Portions("cpu", f"a window of up to {POSITIONS} tokens")
    return Scorer(ask, classes, POSITIONS, MASK, vocabulary=1, portions=portions, unmaskable=unmaskable)


def predictions(
    joint: torch.Tensor, texts, priors=None, *, unmaskable=(), temperature=0.0, names=(), **effort
) -> list[Prediction]:
    priors = priors or [1 / len(joint)] * len(joint)
    ids = [torch.tensor(text) for text in texts]
    updates = predict(
        scorer(Exact(joint), len(joint), unmaskable),
        ids,
        priors,
        Effort(**effort),
        temperature=temperature,
        names=names,
    )
    final = {update.text: update.prediction for update in updates if update.final}
    return [final[n] for n in range(len(texts))]


def bayes(joint: torch.Tensor, text, priors) -> torch.Tensor:
    """The posterior of random-order masked models that are exact: theirs is the likelihood itself."""
    p = torch.tensor([float(j[tuple(text)]) for j in joint]) * torch.tensor(priors)
    return p / p.sum()


@pytest.mark.slow
def test_posterior_matches_bayes_within_its_interval():
    joint, priors = joints(3, seed=1), [0.5, 0.3, 0.2]
    texts = list(itertools.product(range(SYMBOLS), repeat=POSITIONS))
    results = predictions(joint, texts, priors, confidence=1.0, draws=240)
    inside = 0
    for text, prediction in zip(texts, results, strict=True):
        exact = bayes(joint, text, priors)
        assert prediction.draws == 240
        assert sum(prediction.posterior) == pytest.approx(1)
        assert prediction.posterior == pytest.approx(exact.tolist(), abs=0.12)
        low, high = prediction.interval
        assert low <= prediction.posterior[prediction.label] <= high
        inside += low <= float(exact[prediction.label]) <= high
    assert inside >= 0.9 * len(texts)


def test_nats_of_a_class_estimate_its_negative_log_likelihood():
    joint = joints(2, seed=3)
    [prediction] = predictions(joint, [(0, 2, 1, 1)], confidence=1.0, draws=2000)
    for kind in range(2):
        assert prediction.nats[kind] == pytest.approx(-math.log(joint[kind, 0, 2, 1, 1]), abs=0.05)


def test_priors_shift_predictions_and_zero_excludes_a_class():
    joint = joints(2, seed=5)
    texts = list(itertools.product(range(SYMBOLS), repeat=POSITIONS))[:20]
    even = predictions(joint, texts)
    slanted = predictions(joint, texts, [0.999, 0.001])
    never = predictions(joint, texts, [0.0, 1.0])
    assert {v.label for v in even} == {0, 1}
    assert {v.label for v in slanted} == {0}
    assert all(v.label == 1 and v.posterior == (0.0, 1.0) for v in never)


def test_all_classes_are_scored_on_the_same_masks():
    joint = joints(1, seed=7).expand(2, -1, -1, -1, -1)
    for prediction in predictions(joint, [(0, 1, 2, 0), (2, 2, 1, 0)], confidence=1.0, draws=8):
        assert prediction.nats[0] == prediction.nats[1]
        assert prediction.posterior == (0.5, 0.5)


def test_paired_masks_reduce_variance_at_least_fivefold():
    """Compared with as many independent masks for each class, as `tdiff eval` samples them."""
    base = joints(1, seed=9)[0]
    joint = torch.stack((base, (base * 0.9 + 0.1 * joints(1, seed=10)[0])))
    text, everywhere = torch.tensor([[0, 1, 2, 1]]), torch.ones(1, POSITIONS, dtype=torch.bool)

    class Alone(Exact, StubModel):
        mask_id = MASK

        def __call__(self, tokens, share, where):
            label = torch.zeros(len(tokens), dtype=torch.int64)
            return super().__call__(tokens, share, where, torch.ones_like(where), label)

    paired, independent = [], []
    for seed in range(300):
        [one] = predictions(joint, text.tolist(), draws=4, seed=seed, confidence=1.0)
        paired.append(one.nats[0] - one.nats[1])
        nats = [
            float(likelihood(Alone(joint[k : k + 1]), text, everywhere, draws=4, seed=2 * seed + k).nats)
            for k in range(2)
        ]
        independent.append(nats[0] - nats[1])
    assert torch.tensor(independent).var() > 5 * torch.tensor(paired).var()
    assert torch.tensor(independent).mean() == pytest.approx(float(torch.tensor(paired).mean()), abs=0.2)


def test_a_clear_text_needs_few_samples_and_an_ambiguous_one_all():
    sharp = torch.full((2, *[SYMBOLS] * POSITIONS), 1e-4)
    sharp[0, 0, 0, 0, 0], sharp[1, 1, 1, 1, 1] = 1.0, 1.0
    sharp = sharp / sharp.flatten(1).sum(1).view(2, 1, 1, 1, 1)
    plain, doubtful = predictions(sharp, [(0, 0, 0, 0), (2, 2, 2, 2)], draws=32)
    assert (plain.label, plain.sure) == (0, True)
    assert LEAST <= plain.draws < 32
    assert (doubtful.sure, doubtful.draws) == (False, 32)
    assert doubtful.posterior == pytest.approx((0.5, 0.5))


NOISES = {
    "normal": lambda draw: torch.randn(64, generator=draw),
    "skewed": lambda draw: -torch.rand(64, generator=draw).log() - 1,
    "heavy": lambda draw: torch.randn(64, generator=draw) / torch.randn(64, 5, generator=draw).square().mean(1).sqrt(),
}


@pytest.mark.parametrize(
    "kind", ["skewed", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("normal", "heavy"))]
)
def test_at_most_one_early_stop_in_a_hundred_changes_the_decision(kind):
    draw = torch.Generator().manual_seed(4)
    stopped = wrong = 0
    for _ in range(2000):
        values = torch.randn((), generator=draw) * 1.5 + 2 * NOISES[kind](draw)
        for n in range(ROUND, 64, ROUND):
            if decided(values[:n], 0.01):
                stopped += 1
                wrong += bool(values[:n].mean().sign() != values.mean().sign())
                break
    assert stopped > 400
    assert wrong <= 0.01 * stopped


def test_long_texts_are_summed_over_windows():
    joint = joints(2, seed=11)
    one, other, both = predictions(
        joint, [(0, 1, 2, 0), (2, 0, 1, 1), (0, 1, 2, 0, 2, 0, 1, 1)], confidence=1.0, draws=800
    )
    for kind in range(2):
        assert both.nats[kind] == pytest.approx(one.nats[kind] + other.nats[kind], abs=0.15)


def test_texts_of_all_lengths_are_scored_in_one_batch():
    joint = joints(2, seed=11)
    texts = [(0, 1, 2, 0), (2, 1), (0, 1, 2, 0, 2, 0), (1,)]

    class Prefix(Exact):
        def __call__(self, tokens, share, where, attention, label):
            assert bool((where <= attention).all())
            return torch.zeros(int(where.sum()), SYMBOLS + 1)

    ids = [torch.tensor(text) for text in texts]
    updates = predict(scorer(Prefix(joint), 2), ids, [0.5, 0.5], Effort(explain=True, draws=8))
    final = {update.text: update.prediction for update in updates if update.final}
    for n, text in enumerate(texts):
        assert final[n].nats[0] == pytest.approx(len(text) * math.log(SYMBOLS + 1))
        assert len(final[n].contributions) == len(text)


def test_contributions_add_up_to_the_log_odds():
    joint = joints(3, seed=13)
    for prediction in predictions(joint, [(0, 1, 2, 0), (1, 1, 0, 2)], explain=True, draws=16, temperature=2.0):
        rest = sorted((n for k, n in enumerate(prediction.nats) if k != prediction.label))
        assert prediction.contributions is not None and len(prediction.contributions) == POSITIONS
        odds = (rest[0] - prediction.nats[prediction.label]) / (2 * math.sqrt(POSITIONS))
        assert float(prediction.contributions.sum()) == pytest.approx(odds)


def test_a_prediction_does_not_depend_on_the_other_texts():
    joint = joints(2, seed=15)
    texts = [(0, 1, 2, 0), (2, 0, 1, 1), (1, 1, 1, 1)]
    together = predictions(joint, texts, draws=12)
    assert together[1] == predictions(joint, texts[1:2], draws=12, names=[1])[0]


@pytest.mark.parametrize("most", [1, 2, 5])
def test_batches_are_divided_where_they_do_not_fit_into_memory_with_the_same_predictions(most):
    joint, texts = joints(3, seed=11), [(0, 2, 1, 1), (2, 2, 0, 1), (1, 0, 0, 2)]
    sizes = []

    class Limited(Exact):
        def __call__(self, tokens, *arguments):
            sizes.append(len(tokens))
            if len(tokens) > most:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().__call__(tokens, *arguments)

    limited = predict(scorer(Limited(joint), 3), [torch.tensor(text) for text in texts], [1 / 3] * 3, Effort(draws=12))
    final = {update.text: update.prediction for update in limited if update.final}
    for n, whole in enumerate(predictions(joint, texts, draws=12)):
        assert final[n].nats == pytest.approx(whole.nats)
        assert final[n].draws == whole.draws
    too_large = [size for size in sizes if size > most]
    assert len(too_large) <= 5  # of the classes and of the texts each a few, and none once it is known what fits
    with pytest.raises(OutOfMemory, match="a window of up to 4 tokens does not fit; free memory"):
        most = 0
        list(predict(scorer(Limited(joint), 3), [torch.tensor(texts[0])], [1 / 3] * 3, Effort()))


def test_a_text_without_maskable_tokens_is_refused():
    joint = joints(2, seed=1)
    with pytest.raises(TdiffError, match="no token that can be masked"):
        predictions(joint, [(0, 0, 0, 0)], unmaskable=[0])
