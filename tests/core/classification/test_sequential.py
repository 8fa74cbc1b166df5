"""The generative classifier: Bayes on masked likelihoods."""

import itertools
import math

import pytest
import torch

from tdiff.core.classification.sequential import LEAST, ROUND, Prediction, decided, weigh
from tdiff.core.diffusion.objective import likelihood
from tdiff.errors import TdiffError
from tests.support.models import StubModel

SYMBOLS, PLACES = 3, 4
MASK = SYMBOLS


def joints(classes: int, seed: int) -> torch.Tensor:
    """(C, 3, 3, 3, 3): a distribution over all texts of four places for each class."""
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(classes, *[SYMBOLS] * PLACES, generator=draw).mul(1.2).flatten(1).softmax(1).view(
        classes, *[SYMBOLS] * PLACES
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
        """(places, symbols and the mask): log p of each place given what is seen of the row, asked for many times."""
        if (kind, *row) not in self.known:
            table = self.joint[kind]
            for place, symbol in enumerate(row):
                if symbol != MASK:
                    keep = torch.zeros(SYMBOLS).index_fill_(0, torch.tensor(symbol), 1.0)
                    table = table * keep.view([-1 if n == place else 1 for n in range(PLACES)])
            p = torch.stack([table.sum([n for n in range(PLACES) if n != place]) for place in range(PLACES)])
            never = torch.full((PLACES, 1), -math.inf)
            self.known[kind, *row] = torch.cat(((p / p.sum(1, keepdim=True)).log(), never), 1)
        return self.known[kind, *row]


def verdicts(joint: torch.Tensor, texts, priors=None, **how) -> list[Prediction]:
    priors = priors or [1 / len(joint)] * len(joint)
    ids = [torch.tensor(text) for text in texts]
    looks = weigh(Exact(joint), ids, priors, window=PLACES, mask_id=MASK, **how)
    found = {look.text: look.verdict for look in looks if look.final}
    return [found[n] for n in range(len(texts))]


def bayes(joint: torch.Tensor, text, priors) -> torch.Tensor:
    """The posterior of random-order masked models that are exact: theirs is the likelihood itself."""
    p = torch.tensor([float(j[tuple(text)]) for j in joint]) * torch.tensor(priors)
    return p / p.sum()


def test_the_posterior_is_that_of_bayes_within_its_interval():
    joint, priors = joints(3, seed=1), [0.5, 0.3, 0.2]
    texts = list(itertools.product(range(SYMBOLS), repeat=PLACES))
    found = verdicts(joint, texts, priors, confidence=1.0, most_draws=240)
    inside = 0
    for text, verdict in zip(texts, found, strict=True):
        exact = bayes(joint, text, priors)
        assert verdict.draws == 240
        assert sum(verdict.posterior) == pytest.approx(1)
        assert verdict.posterior == pytest.approx(exact.tolist(), abs=0.12)
        low, high = verdict.interval
        assert low <= verdict.posterior[verdict.label] <= high
        inside += low <= float(exact[verdict.label]) <= high
    assert inside >= 0.9 * len(texts)


def test_the_nats_of_a_class_are_minus_the_log_of_its_likelihood():
    joint = joints(2, seed=3)
    [verdict] = verdicts(joint, [(0, 2, 1, 1)], confidence=1.0, most_draws=2000)
    for kind in range(2):
        assert verdict.nats[kind] == pytest.approx(-math.log(joint[kind, 0, 2, 1, 1]), abs=0.05)


def test_priors_count_and_a_class_that_cannot_be_never_is():
    joint = joints(2, seed=5)
    texts = list(itertools.product(range(SYMBOLS), repeat=PLACES))[:20]
    even = verdicts(joint, texts)
    slanted = verdicts(joint, texts, [0.999, 0.001])
    never = verdicts(joint, texts, [0.0, 1.0])
    assert {v.label for v in even} == {0, 1}
    assert {v.label for v in slanted} == {0}
    assert all(v.label == 1 and v.posterior == (0.0, 1.0) for v in never)


def test_all_classes_see_the_same_masks():
    joint = joints(1, seed=7).expand(2, -1, -1, -1, -1)
    for verdict in verdicts(joint, [(0, 1, 2, 0), (2, 2, 1, 0)], confidence=1.0, most_draws=8):
        assert verdict.nats[0] == verdict.nats[1]
        assert verdict.posterior == (0.5, 0.5)


def test_paired_masks_tell_five_times_more_than_masks_of_their_own():
    """Masks of their own are those by which `tdiff eval` has the bound of each class by itself, as many draws."""
    base = joints(1, seed=9)[0]
    joint = torch.stack((base, (base * 0.9 + 0.1 * joints(1, seed=10)[0])))
    text, everywhere = torch.tensor([[0, 1, 2, 1]]), torch.ones(1, PLACES, dtype=torch.bool)

    class Alone(Exact, StubModel):
        mask_id = MASK

        def __call__(self, tokens, share, where):
            label = torch.zeros(len(tokens), dtype=torch.int64)
            return super().__call__(tokens, share, where, torch.ones_like(where), label)

    paired, own = [], []
    for seed in range(300):
        [one] = verdicts(joint, text.tolist(), most_draws=4, seed=seed, confidence=1.0)
        paired.append(one.nats[0] - one.nats[1])
        alone = [
            float(likelihood(Alone(joint[k : k + 1]), text, everywhere, draws=4, seed=2 * seed + k).nats)
            for k in range(2)
        ]
        own.append(alone[0] - alone[1])
    assert torch.tensor(own).var() > 5 * torch.tensor(paired).var()
    assert torch.tensor(own).mean() == pytest.approx(float(torch.tensor(paired).mean()), abs=0.2)


def test_a_text_that_is_plain_takes_few_draws_and_a_doubtful_one_all():
    sharp = torch.full((2, *[SYMBOLS] * PLACES), 1e-4)
    sharp[0, 0, 0, 0, 0], sharp[1, 1, 1, 1, 1] = 1.0, 1.0
    sharp = sharp / sharp.flatten(1).sum(1).view(2, 1, 1, 1, 1)
    plain, doubtful = verdicts(sharp, [(0, 0, 0, 0), (2, 2, 2, 2)], most_draws=32)
    assert (plain.label, plain.sure) == (0, True)
    assert LEAST <= plain.draws < 32
    assert (doubtful.sure, doubtful.draws) == (False, 32)
    assert doubtful.posterior == pytest.approx((0.5, 0.5))


NOISES = {
    "normal": lambda draw: torch.randn(64, generator=draw),
    "skewed": lambda draw: -torch.rand(64, generator=draw).log() - 1,
    "heavy": lambda draw: torch.randn(64, generator=draw) / torch.randn(64, 5, generator=draw).square().mean(1).sqrt(),
}


@pytest.mark.parametrize("kind", NOISES)
def test_of_2000_decisions_at_most_one_early_stop_in_a_hundred_differs_from_all_the_draws(kind):
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
    one, other, both = verdicts(
        joint, [(0, 1, 2, 0), (2, 0, 1, 1), (0, 1, 2, 0, 2, 0, 1, 1)], confidence=1.0, most_draws=800
    )
    for kind in range(2):
        assert both.nats[kind] == pytest.approx(one.nats[kind] + other.nats[kind], abs=0.15)


def test_texts_of_all_lengths_are_weighed_together():
    joint = joints(2, seed=11)
    texts = [(0, 1, 2, 0), (2, 1), (0, 1, 2, 0, 2, 0), (1,)]

    class Prefix(Exact):
        def __call__(self, tokens, share, where, attention, label):
            assert bool((where <= attention).all())
            return torch.zeros(int(where.sum()), SYMBOLS + 1)

    ids = [torch.tensor(text) for text in texts]
    looks = weigh(Prefix(joint), ids, [0.5, 0.5], window=PLACES, mask_id=MASK, explain=True, most_draws=8)
    found = {look.text: look.verdict for look in looks if look.final}
    for n, text in enumerate(texts):
        assert found[n].nats[0] == pytest.approx(len(text) * math.log(SYMBOLS + 1))
        assert len(found[n].contributions) == len(text)


def test_contributions_add_up_to_the_log_odds():
    joint = joints(3, seed=13)
    for verdict in verdicts(joint, [(0, 1, 2, 0), (1, 1, 0, 2)], explain=True, most_draws=16, temperature=2.0):
        rest = sorted((n for k, n in enumerate(verdict.nats) if k != verdict.label))
        assert verdict.contributions is not None and len(verdict.contributions) == PLACES
        odds = (rest[0] - verdict.nats[verdict.label]) / (2 * math.sqrt(PLACES))
        assert float(verdict.contributions.sum()) == pytest.approx(odds)


def test_a_verdict_depends_on_its_text_and_number_and_not_on_the_others():
    joint = joints(2, seed=15)
    texts = [(0, 1, 2, 0), (2, 0, 1, 1), (1, 1, 1, 1)]
    together = verdicts(joint, texts, most_draws=12)
    assert together[1] == verdicts(joint, texts[1:2], most_draws=12, names=[1])[0]


def test_a_text_with_nothing_to_mask_is_of_no_class():
    joint = joints(2, seed=1)
    with pytest.raises(TdiffError, match="no token that may be masked"):
        verdicts(joint, [(0, 0, 0, 0)], unmaskable=[0])
