"""The bound and the likelihood against full enumeration: 4 positions, 3 symbols and a mask."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from tdiff.core.diffusion import objective
from tdiff.core.diffusion.noise import RowNoise
from tdiff.core.diffusion.objective import Likelihood, diffusion_times, likelihood, maskable_positions, sample_masks
from tdiff.core.diffusion.schedules import SCHEDULES, Schedule, schedule
from tdiff.core.models.transformer import Shape, Transformer
from tdiff.errors import TdiffError
from tests.support.models import StubModel, stub

torch.set_num_threads(1)

POSITIONS, SYMBOLS = 4, 3
MASK = SYMBOLS
BASE = SYMBOLS + 1
CODES = BASE ** torch.arange(POSITIONS - 1, -1, -1)
TEXTS = torch.tensor(list(itertools.product(range(SYMBOLS), repeat=POSITIONS)))
EVERYWHERE = torch.ones_like(TEXTS, dtype=torch.bool)
SUBSETS = torch.tensor(list(itertools.product((False, True), repeat=POSITIONS)))[1:]  # of masked positions, never none
SIZES = SUBSETS.sum(1)
EVERY = pytest.mark.parametrize("name", sorted(SCHEDULES))


def noise_of(rows: int, seed: int) -> RowNoise:
    """The random numbers of a whole step of so many rows."""
    return RowNoise(seed, 0, range(rows), rows)


def nelbo_loss(
    denoiser, tokens: Tensor, maskable: Tensor, curve: Schedule, timesteps: int, seed: int, clip=(0.0, 1.0)
) -> objective.Loss:
    """The bound at masks drawn from a seed."""
    masks = sample_masks(maskable, noise_of(len(tokens), seed), curve, timesteps, clip)
    return objective.nelbo_loss(denoiser, tokens, maskable, masks)


class Table(StubModel):
    """A denoiser that looks its answer up: one distribution for each canvas and position."""

    mask_id = MASK

    def __init__(self, log_p: Tensor) -> None:
        self.log_p = log_p  # (BASE ** POSITIONS, POSITIONS, SYMBOLS), float64

    def __call__(self, tokens: Tensor, share: Tensor, where: Tensor) -> Tensor:
        logits = torch.full((*tokens.shape, BASE), -torch.inf, dtype=torch.float64)
        logits[..., :SYMBOLS] = self.log_p[(tokens * CODES).sum(-1)]
        return logits[where]

    def surprise(self) -> Tensor:
        """(texts, subsets): summed -log p of the masked positions, for every text and every set of masked positions."""
        canvas = TEXTS[:, None].masked_fill(SUBSETS, MASK)
        log_p = self.log_p[(canvas * CODES).sum(-1)]
        own = log_p.gather(-1, TEXTS[:, None, :, None].expand(-1, len(SUBSETS), -1, 1)).squeeze(-1)
        return -(own * SUBSETS).sum(-1)

    def counted(self) -> Tensor:
        """(texts,): the expectation of the exact-count estimate, nats a text."""
        chances = torch.tensor([1 / POSITIONS / math.comb(POSITIONS, int(size)) for size in SIZES], dtype=torch.float64)
        return (self.surprise() * chances * POSITIONS / SIZES).sum(1)

    def timed(self, hidden: Tensor, weight: Tensor) -> Tensor:
        """(texts,): the mean over times of weight(t) times the expected -log p with each position masked by hidden(t).

        `hidden` and `weight` are (times,), equally likely.
        """
        h = hidden[:, None]
        return self.surprise() @ (weight[:, None] * h**SIZES * (1 - h) ** (POSITIONS - SIZES)).mean(0)

    def orders(self) -> Tensor:
        """(texts, orders): -log of the product of conditionals, for each order of revealing."""
        every = []
        for order in itertools.permutations(range(POSITIONS)):
            canvas, total = torch.full_like(TEXTS, MASK), torch.zeros(len(TEXTS), dtype=torch.float64)
            for position in order:
                now = self.log_p[(canvas * CODES).sum(-1), position]
                total -= now.gather(-1, TEXTS[:, position, None]).squeeze(-1)
                canvas[:, position] = TEXTS[:, position]
            every.append(total)
        return torch.stack(every, 1)


def consistent(seed: int = 0) -> tuple[Table, Tensor]:
    """The exact conditionals of a random joint distribution, and log p of the texts."""
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(len(TEXTS), generator=generator, dtype=torch.float64).mul(1.5).exp()
    joint = weights / weights.sum()
    canvases = torch.tensor(list(itertools.product(range(BASE), repeat=POSITIONS)))
    fits = ((canvases[:, None] == TEXTS) | (canvases[:, None] == MASK)).all(-1)  # (canvases, texts)
    mass = torch.stack([(fits * joint) @ (symbol == TEXTS).double() for symbol in range(SYMBOLS)], -1)
    # At an unmasked position one symbol has all the mass: its log is 0 and the others' is -inf; no one asks there.
    return Table((mass / mass.sum(-1, keepdim=True)).clamp(min=1e-300).log()), joint.log()


def inconsistent(seed: int = 0) -> Table:
    """Random conditionals, which no joint distribution has."""
    generator = torch.Generator().manual_seed(seed)
    return Table(
        torch.randn(BASE**POSITIONS, POSITIONS, SYMBOLS, generator=generator, dtype=torch.float64).log_softmax(-1)
    )


def grid(timesteps: int) -> Tensor:
    return torch.arange(1, timesteps + 1, dtype=torch.float64)


def discrete(table: Table, name: str, timesteps: int) -> Tensor:
    curve, i = schedule(name), grid(timesteps)
    return table.timed(curve.hidden(i / timesteps), curve.discrete_weight(i, timesteps))


def drawn(table: Table, name: str, timesteps: int, copies: int = 4000) -> float:
    """Nats a text of nelbo_loss(), mean over all texts, from so many rows of each."""
    order = torch.randperm(len(TEXTS) * copies, generator=torch.Generator().manual_seed(1))
    tokens = TEXTS.repeat(copies, 1)[order]
    everywhere = torch.ones_like(tokens, dtype=torch.bool)
    loss = nelbo_loss(table, tokens, everywhere, schedule(name), timesteps, 2)
    return float(loss.nats.detach()) * POSITIONS


def estimate(table: Table, draws: int, seed: int = 0, tokens: Tensor = TEXTS) -> Likelihood:
    return likelihood(table, tokens, torch.ones_like(tokens, dtype=torch.bool), draws=draws, seed=seed, batch_size=128)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_exact_counts_give_minus_log_p_where_the_conditionals_are_those_of_a_distribution(seed):
    table, log_p = consistent(seed)
    assert float(log_p.exp().sum()) == pytest.approx(1)
    torch.testing.assert_close(table.counted(), -log_p, rtol=0, atol=1e-9)


def test_likelihood_agrees_with_minus_log_p_within_its_interval():
    table, log_p = consistent()
    found = estimate(table, draws=1000)
    low, high = found.interval_95
    assert low <= float(-log_p.mean()) / POSITIONS <= high
    assert found.nats_per_token == pytest.approx(float(-log_p.mean()) / POSITIONS, rel=0.005)
    assert 0 < high - low < 0.02
    # Text by text as well: 1000 draws of a few nats of spread.
    torch.testing.assert_close(found.nats, -log_p, rtol=0, atol=0.5)
    assert float((found.nats + log_p).square().mean().sqrt()) < 0.15


def test_likelihood_of_inconsistent_conditionals_agrees_with_enumeration():
    table = inconsistent()
    found = estimate(table, draws=1000)
    low, high = found.interval_95
    assert low <= float(table.counted().mean()) / POSITIONS <= high


def test_exact_counts_are_the_mean_over_orders_of_minus_log_likelihood():
    table = inconsistent()
    torch.testing.assert_close(table.counted(), table.orders().mean(1), rtol=1e-10, atol=0)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_bound_of_every_text_is_at_least_minus_log_of_its_random_order_likelihood(seed):
    table = inconsistent(seed)
    likeliest = -(-table.orders()).exp().mean(1).log()
    gap = table.counted() - likeliest
    assert bool((gap >= -1e-12).all())
    assert float(gap.mean()) > 0.05  # and a bound it is, not the thing itself


@EVERY
@pytest.mark.parametrize("table", [consistent()[0], inconsistent()], ids=["consistent", "inconsistent"])
def test_the_continuous_bound_of_every_schedule_is_the_exact_count_one(name, table):
    t = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    expected = table.timed(schedule(name).hidden(t), schedule(name).weight(t))
    torch.testing.assert_close(expected, table.counted(), rtol=1e-4, atol=0)
    assert drawn(table, name, 0) == pytest.approx(float(table.counted().mean()), rel=0.015)


@EVERY
@pytest.mark.parametrize("timesteps", [1, 10, 128])
def test_sampled_discrete_bound_equals_the_enumerated_bound(name, timesteps):
    table = inconsistent()
    expected = float(discrete(table, name, timesteps).mean())
    assert drawn(table, name, timesteps) == pytest.approx(expected, rel=0.015)


@EVERY
def test_the_discrete_bound_lies_above_the_continuous_one_and_shrinks_towards_it(name):
    table, log_p = consistent()
    gaps = [float((log_p.exp() * (discrete(table, name, steps) + log_p)).sum()) for steps in (1, 2, 10, 128, 1000)]
    assert all(earlier > later > 0 for earlier, later in itertools.pairwise(gaps))
    assert gaps[3] < gaps[2] / 8 and gaps[4] < 0.005


def test_one_linear_step_in_ten_costs_about_a_tenth_of_a_nat_and_one_in_128_a_hundredth():
    table, log_p = consistent()
    ten, more = (float((log_p.exp() * (discrete(table, "linear", steps) + log_p)).sum()) for steps in (10, 128))
    assert 0.01 < ten < 0.3 and 0.001 < more < 0.03


def transformer(vocab: int = 7, window: int = 64, **more) -> Transformer:
    shape = Shape(
        vocab_size=vocab, mask_id=vocab - 1, suppressed=(vocab - 1,), layers=1, heads=1, width=8, window=window, **more
    )
    network = Transformer(shape)
    network.initialise(torch.Generator().manual_seed(0))
    return network


def some_tokens(rows: int, window: int = 64, vocab: int = 7) -> Tensor:
    return torch.randint(0, vocab - 1, (rows, window), generator=torch.Generator().manual_seed(5))


def test_an_untrained_model_scores_the_log_of_the_real_symbols():
    network, tokens = transformer(), some_tokens(20)
    found = likelihood(network, tokens, torch.ones_like(tokens, dtype=torch.bool), draws=3)
    assert found.nats_per_token == pytest.approx(math.log(6), abs=1e-5)  # the mask is no symbol
    assert found.interval_95 == pytest.approx((math.log(6), math.log(6)), abs=1e-4)
    torch.testing.assert_close(found.nats, torch.full((20,), 64 * math.log(6), dtype=torch.float64), rtol=1e-5, atol=0)


@EVERY
@pytest.mark.parametrize("timesteps", [0, 10])
def test_an_untrained_model_has_the_bound_of_the_uniform_distribution_in_expectation(name, timesteps):
    network, tokens = transformer(), some_tokens(600)
    everywhere = torch.ones_like(tokens, dtype=torch.bool)
    with torch.no_grad():
        loss = nelbo_loss(network, tokens, everywhere, schedule(name), timesteps, 0)
    assert float(loss.nats.detach()) == pytest.approx(math.log(6), rel=0.05)
    some = loss.share > 0
    torch.testing.assert_close(loss.row_nats[some], torch.full((int(some.sum()),), math.log(6)))


def test_bound_with_one_step_is_the_mean_over_maskable_positions():
    # T = 1 masks every maskable position with weight 1, so nothing is random.
    table = inconsistent()
    tokens = TEXTS[[5, 17, 70]]
    maskable = torch.tensor([[True] * 4, [False, False, False, True], [False] * 4])
    loss = nelbo_loss(table, tokens, maskable, schedule("linear"), 1, 0)
    nats = surprise_of(table, tokens, maskable)
    assert float(loss.nats.detach()) == pytest.approx(float(nats.sum()) / 5)
    torch.testing.assert_close(loss.row_nats, nats / torch.tensor([4.0, 1.0, 1.0], dtype=torch.float64))
    assert loss.share.tolist() == [1, 1, 0]


def surprise_of(table: Table, tokens: Tensor, masked: Tensor) -> Tensor:
    canvas = tokens.masked_fill(masked, MASK)
    own = table.log_p[(canvas * CODES).sum(-1)].gather(-1, tokens[..., None]).squeeze(-1)
    return -(own * masked).sum(-1)


def test_row_without_masks_adds_zero():
    network, tokens = transformer(window=2), some_tokens(400, 2)
    maskable = torch.ones_like(tokens, dtype=torch.bool)
    loss = nelbo_loss(network, tokens, maskable, schedule("polynomial"), 0, 0)
    empty = loss.share == 0
    assert 50 < int(empty.sum()) < 350
    assert bool((loss.row_nats[empty] == 0).all()) and bool((loss.row_nats[~empty] > 0).all())
    loss.nats.backward()
    assert math.isfinite(float(loss.nats.detach()))
    assert all(bool(p.grad.isfinite().all()) for p in network.parameters())


@pytest.mark.parametrize("maskable", [True, False], ids=["none drawn", "none maskable"])
def test_batch_without_masks_has_zero_loss_and_gradient(maskable):
    network, tokens = transformer(window=1), some_tokens(1, 1)
    where = torch.full_like(tokens, maskable, dtype=torch.bool)
    for seed in range(100):
        loss = nelbo_loss(network, tokens, where, schedule("linear"), 0, seed)
        if float(loss.share.sum()) == 0:
            break
    assert float(loss.share.sum()) == 0 and float(loss.nats.detach()) == 0
    loss.nats.backward()
    assert all(float(p.grad.abs().sum()) == 0 for p in network.parameters() if p.grad is not None)


def test_only_maskable_positions_are_masked():
    seen = []

    def spy(tokens: Tensor, share: Tensor, where: Tensor) -> Tensor:
        seen.append((tokens, where))
        return torch.zeros(int(where.sum()), 7)

    spy = stub(spy, 6)
    tokens = some_tokens(300, 12)
    maskable = torch.rand(300, 12, generator=torch.Generator().manual_seed(1)) < 0.5
    maskable[:, 0] = True
    nelbo_loss(spy, tokens, maskable, schedule("linear"), 0, 0)
    likelihood(spy, tokens, maskable, draws=1, batch_size=300)
    assert len(seen) == 2
    for canvas, where in seen:
        assert not bool((where & ~maskable).any()) and bool(where.any())
        assert torch.equal(canvas, tokens.masked_fill(where, 6))


def test_a_time_conditioned_model_gets_the_counted_mask_ratio():
    ratios = []

    def spy(tokens: Tensor, share: Tensor, where: Tensor) -> Tensor:
        ratios.append((share, where.sum(1)))
        return torch.zeros(int(where.sum()), 7)

    spy = stub(spy, 6)
    tokens = some_tokens(64, 12)
    maskable = torch.arange(12) >= torch.arange(64)[:, None] % 12
    loss = nelbo_loss(spy, tokens, maskable, schedule("cosine"), 0, 0)
    likelihood(spy, tokens, maskable, draws=1, batch_size=64)
    for share, count in ratios:
        assert share.dtype == torch.float32
        torch.testing.assert_close(share, count / maskable.sum(1))
    assert torch.equal(loss.share, ratios[0][0])
    assert len(ratios[0][0].unique()) > 10


def test_the_gradient_of_the_bound_reaches_the_weights_and_lowers_it():
    network, tokens = transformer(), torch.zeros(32, 64, dtype=torch.int64)
    everywhere = torch.ones_like(tokens, dtype=torch.bool)
    optimizer = torch.optim.Adam(network.parameters(), 0.03)
    nats = []
    for _ in range(30):
        loss = nelbo_loss(network, tokens, everywhere, schedule("linear"), 0, 1)
        optimizer.zero_grad()
        loss.nats.backward()
        assert not loss.row_nats.requires_grad
        optimizer.step()
        nats.append(float(loss.nats.detach()))
    assert all(p.grad is not None and float(p.grad.abs().sum()) > 0 for p in network.parameters())
    assert nats[0] == pytest.approx(math.log(6), rel=0.1) and nats[-1] < 0.2


@pytest.mark.parametrize("rows", [1, 2, 7, 64, 1000])
def test_times_are_equally_spaced_in_0_to_1_from_a_random_start(rows):
    firsts = set()
    for seed in range(20):
        t = diffusion_times(noise_of(rows, seed))
        assert t.shape == (rows,) and float(t.min()) >= 0 and float(t.max()) < 1
        strata = (t.double().sort().values * rows).floor()
        # Rounding to float32 may carry a time over the edge of its stratum, never further.
        torch.testing.assert_close(
            t.double().sort().values.diff() * rows, torch.ones(rows - 1).double(), atol=1e-3, rtol=0
        )
        assert bool(((strata - torch.arange(rows)).abs() <= 1).all())
        firsts.add(float(t[0]))
    assert len(firsts) == 20


def test_low_discrepancy_times_visit_every_discrete_step_equally_often():
    shares = []

    def spy(tokens: Tensor, share: Tensor, where: Tensor) -> Tensor:
        shares.append(share)
        return torch.zeros(int(where.sum()), 7)

    spy = stub(spy, 6)
    tokens = some_tokens(40, 4000)
    everywhere = torch.ones_like(tokens, dtype=torch.bool)
    nelbo_loss(spy, tokens, everywhere, schedule("linear"), 10, 3)
    assert torch.bincount((shares[0] * 10).round().long(), minlength=11).tolist() == [0, *[4] * 10]


def test_protect_leaves_half_of_the_rows_whole_and_protects_1_to_context_of_the_others():
    maskable = maskable_positions(noise_of(20_000, 0), 24, 16, "random")
    n = (~maskable).sum(1)
    assert torch.equal(maskable, torch.arange(24) >= n[:, None])  # the first n, and only they
    counts = torch.bincount(n, minlength=17)
    assert len(counts) == 17
    assert int(counts[0]) == pytest.approx(10_000, abs=300)
    assert all(int(c) == pytest.approx(625, abs=110) for c in counts[1:])


@pytest.mark.parametrize(("mode", "context", "expected"), [("fixed", 5, 5), ("fixed", 0, 0), ("random", 0, 0)])
def test_protect_with_a_fixed_or_no_context_treats_all_rows_alike(mode, context, expected):
    maskable = maskable_positions(noise_of(50, 0), 12, context, mode)
    assert maskable.shape == (50, 12)
    assert (~maskable).sum(1).unique().tolist() == [expected]


@pytest.mark.parametrize(("texts", "draws"), [(16, 4), (81, 2), (1, 64)])
def test_the_interval_covers_the_truth_about_95_times_in_100(texts, draws):
    table = inconsistent()
    pick = torch.randperm(len(TEXTS), generator=torch.Generator().manual_seed(9))[:texts]
    truth = float(table.counted()[pick].mean()) / POSITIONS
    found = [estimate(table, draws, seed, TEXTS[pick]).interval_95 for seed in range(100 if draws > 16 else 200)]
    covered = sum(low <= truth <= high for low, high in found)
    assert covered >= 0.9 * len(found)
    # Not by being wide: the estimates spread about as much as the intervals say.
    middles = torch.tensor([(low + high) / 2 for low, high in found], dtype=torch.float64)
    half = torch.tensor([(high - low) / 2 for low, high in found], dtype=torch.float64).mean()
    assert 1.2 < float(half / middles.std()) < 4


def test_likelihood_repeats_from_its_seed_and_changes_with_it():
    table = inconsistent()
    first, again, other = estimate(table, 2, 7), estimate(table, 2, 7), estimate(table, 2, 8)
    assert torch.equal(first.nats, again.nats) and first.interval_95 == again.interval_95
    assert not torch.equal(first.nats, other.nats)
    assert first.tokens == len(TEXTS) * POSITIONS and first.draws == 2


def test_likelihood_does_not_depend_on_how_texts_are_batched():
    table = inconsistent()
    whole = likelihood(table, TEXTS, EVERYWHERE, draws=3, batch_size=81)
    parts = likelihood(table, TEXTS, EVERYWHERE, draws=3, batch_size=7)
    torch.testing.assert_close(whole.nats, parts.nats, rtol=1e-12, atol=0)


def test_likelihood_counts_maskable_positions_only():
    # One position may be masked: it always is, and every draw says the same.
    table, maskable = inconsistent(), torch.zeros_like(EVERYWHERE)
    maskable[:, 2] = True
    found = likelihood(table, TEXTS, maskable, draws=2)
    assert found.tokens == len(TEXTS)
    torch.testing.assert_close(found.nats, surprise_of(table, TEXTS, maskable), rtol=1e-12, atol=0)
    assert found.interval_95 == pytest.approx((found.nats_per_token, found.nats_per_token))


def test_text_without_maskable_positions_is_refused():
    maskable = EVERYWHERE.clone()
    maskable[3] = False
    with pytest.raises(TdiffError, match="without a maskable position"):
        likelihood(inconsistent(), TEXTS, maskable, draws=1)


def even(tokens: Tensor, share: Tensor, where: Tensor) -> Tensor:
    """Knows nothing of seven symbols."""
    return torch.zeros(int(where.sum()), 7)


even = stub(even, 6)


def test_all_mask_counts_are_equally_frequent():
    counts = []

    def spy(tokens: Tensor, share: Tensor, where: Tensor) -> Tensor:
        counts.append(where.sum(1))
        return even(tokens, share, where)

    spy = stub(spy, even.mask_id)
    tokens = some_tokens(20, 10)
    likelihood(spy, tokens, torch.ones_like(tokens, dtype=torch.bool), draws=5, batch_size=20)
    assert torch.bincount(torch.cat(counts), minlength=11).tolist() == [0, *[10] * 10]


@EVERY
@pytest.mark.parametrize("timesteps", [0, 20])
def test_clipped_mask_ratios_stay_in_range_and_two_ranges_add_up_to_the_bound(name, timesteps):
    table, _ = consistent()
    cut = 0.35
    curve = schedule(name)
    if timesteps:  # a step on the border would be in both
        cut = float(curve.hidden(torch.tensor(6.5 / timesteps, dtype=torch.float64)))
    tokens = TEXTS.repeat(3000, 1)
    where = torch.ones_like(tokens, dtype=torch.bool)
    found = []
    for clip in ((0.0, cut), (cut, 1.0), (0.0, 1.0)):
        loss = nelbo_loss(table, tokens, where, curve, timesteps, 2, clip)
        found.append(float(loss.nats))
    assert found[0] + found[1] == pytest.approx(found[2], rel=0.02)
    many = some_tokens(64, 4096)
    for low, high in ((0.2, 0.6), (0.1, 1.0), (0.0, 0.5)):
        loss = nelbo_loss(
            even, many, torch.ones_like(many, dtype=torch.bool), curve, timesteps,
            1, (low, high),
        )  # fmt: skip
        step = (
            float(curve.hidden(torch.tensor(1.0)) - curve.hidden(torch.tensor(1 - 1 / timesteps))) if timesteps else 0
        )
        assert low - 0.05 < float(loss.share.min()) < low + 0.1 + 2 * step
        assert high - 0.1 - 2 * step < float(loss.share.max()) < high + 0.05


@EVERY
@pytest.mark.parametrize("share", [0.0, 1e-6, 0.1, 0.5, 0.99, 1.0])
def test_schedule_time_inverts_hidden(name, share):
    curve = schedule(name)
    at = curve.time(share)
    assert 0 <= at <= 1
    assert float(curve.hidden(torch.tensor(at, dtype=torch.float64))) == pytest.approx(share, abs=1e-9)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("clip", [(0.0, 1.0), (0.0, 0.6), (0.2, 0.7)])
def test_weights_account_for_times_that_are_never_sampled(name, clip):
    """E[weight x hidden] is the length of the range, since a model that ignores the other positions has that bound."""
    rows, curve = 100_000, schedule(name)
    masks = sample_masks(torch.ones(rows, 1, dtype=torch.bool), noise_of(rows, 3), curve, 0, clip)
    first, last = max(1e-3, curve.time(clip[0]) if clip[0] else 0.0), curve.time(clip[1]) if clip[1] < 1 else 1.0
    t = first + (last - first) * diffusion_times(noise_of(rows, 3)).double()
    mass = float((masks.weight.double() * curve.hidden(t)).mean())
    assert mass == pytest.approx(clip[1] - clip[0], rel=1e-4)
