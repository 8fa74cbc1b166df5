import itertools
import math
import random
from collections import Counter
from dataclasses import replace

import oracles
import pytest
import torch
from oracles import TableDenoiser

from tdiff import config
from tdiff.config import DecodeSettings
from tdiff.core import noise
from tdiff.core.decoders import DECODERS, best, decoder, propose
from tdiff.core.denoise import denoise
from tdiff.errors import TdiffError

torch.set_num_threads(1)

EVERY = pytest.mark.parametrize("name", sorted(DECODERS))
FIELDS = ("tokens", "committed", "remasked", "draft", "masked", "calls", "forced")
# The value that a chi-square of so many degrees of freedom passes once in 10,000 times.
CHI_SQUARE = {1: 15.14, 2: 18.42, 3: 21.11, 4: 23.51, 5: 25.74, 6: 27.86, 7: 29.88}


def random_settings(name: str, draw: random.Random) -> DecodeSettings:
    # 0 steps is the default: 128 for ancestral, so it comes up there less often.
    steps = 0 if draw.random() < (0.015 if name == "ancestral" else 0.3) else draw.randint(1, 6)
    return DecodeSettings(
        decoder=name,
        threshold=draw.choice([0.0, 0.3, 0.5, 0.7, 0.9, 1.0]),
        k=draw.randint(0, 5),
        factor=draw.choice([0.0, 0.5, 1.0, 3.0]),
        gamma=draw.choice([0.0, 0.1, 1.0, 5.0]),
        rank=draw.choice(config.RANKS),
        steps=steps,
        schedule=draw.choice(config.SCHEDULES),
        temperature=draw.choice([0.0, 0.3, 1.0, 2.5]),
        top_k=draw.choice([0, 0, 1, 2, 3, 20]),
        top_p=draw.choice([1.0, 1.0, 0.0, 0.3, 0.9]),
        seed=draw.randint(0, 2**40),
    )


def compare(denoiser, canvas, frozen, settings):
    """Run the engine on the batch and the oracle on each row: all fields of all steps have to agree."""
    steps = list(denoise(denoiser, torch.tensor(canvas), torch.tensor(frozen), settings))
    for row, (start, held) in enumerate(zip(canvas, frozen, strict=True)):
        moments = oracles.decode(denoiser, start, held, settings, row)
        assert len(moments) <= len(steps)
        assert all(not step.committed[row].any() and not step.remasked[row].any() for step in steps[len(moments) :])
        for step, moment in zip(steps, moments, strict=False):
            for name in FIELDS:
                assert getattr(step, name)[row].tolist() == getattr(moment, name), (name, step.index, row)
            assert (step.confidence[row] - torch.tensor(moment.confidence)).abs().max() < 1e-5
    return steps


@EVERY
def test_decoder_agrees_with_its_oracle_on_500_random_tables(name):
    draw = random.Random(f"tables of {name}")
    longest = 0
    for table in range(500):
        vocab, length, rows = draw.randint(3, 12), draw.randint(1, 24), draw.choice([1, 1, 2])
        mask = draw.randrange(vocab)
        denoiser = TableDenoiser(vocab, length, mask, seed=table, spread=draw.choice([0.5, 1.0, 2.0]))
        real = [v for v in range(vocab) if v != mask]
        canvas, frozen = [], []
        for _ in range(rows):
            prompt, given = draw.randint(0, length), draw.choice([0.0, 0.0, 0.3])
            held = [i < prompt for i in range(length)]
            canvas.append([draw.choice(real) if f or draw.random() < given else mask for f in held])
            # What is given behind the prompt may be the decoder's to change, or not.
            free = draw.random() < 0.5
            frozen.append(held if free else [token != mask for token in canvas[-1]])
        longest = max(longest, len(compare(denoiser, canvas, frozen, random_settings(name, draw))))
    assert longest > 5


@EVERY
def test_decoder_agrees_with_its_oracle_where_many_places_tie(name):
    # One table for all places, its logits whole numbers: every place has the same c, and tokens tie as well.
    draw = random.Random(f"ties of {name}")
    for _ in range(25):
        length, vocab = draw.randint(2, 12), draw.randint(3, 6)
        denoiser = TableDenoiser(vocab, length, 0, seed=0, contextual=False)
        logits = torch.tensor([-math.inf] + [float(draw.randint(0, 1)) for _ in range(vocab - 1)])
        denoiser.tables = logits.expand(1, length, vocab).contiguous()
        denoiser.plain = denoiser.tables.tolist()
        compare(denoiser, [[0] * length], [[False] * length], random_settings(name, draw))


def every_place_alike(length: int, *logits: float) -> TableDenoiser:
    denoiser = TableDenoiser(len(logits) + 1, length, 0, seed=0, contextual=False)
    denoiser.tables = torch.tensor([-math.inf, *logits]).expand(1, length, -1).contiguous()
    return denoiser


@pytest.mark.parametrize(
    "settings, places",
    [
        (DecodeSettings(decoder="confidence", threshold=0.9), [0]),
        (DecodeSettings(decoder="topk", k=3), [0, 1, 2]),
        (DecodeSettings(decoder="schedule", steps=4), [0, 1]),
    ],
    ids=["confidence", "topk", "schedule"],
)
def test_ties_go_to_the_earlier_place(settings, places):
    step = next(denoise(every_place_alike(8, 1.0, 1.0), torch.zeros(1, 8, dtype=torch.int64), settings=settings))
    assert step.committed[0].nonzero().flatten().tolist() == places


def test_a_token_exactly_as_sure_as_the_threshold_is_revealed():
    # With one possible token c is exactly 1.
    settings = DecodeSettings(decoder="confidence", threshold=1.0)
    steps = list(denoise(every_place_alike(5, 3.0), torch.zeros(1, 5, dtype=torch.int64), settings=settings))
    assert len(steps) == 1
    assert steps[0].committed.all() and steps[0].forced.item() == 0


def test_topk_reveals_a_tenth_of_the_maskable_places_by_default():
    canvas = torch.zeros(1, 40, dtype=torch.int64)
    canvas[0, :10] = 1  # frozen: 30 places are left, of which a tenth is 3
    step = next(denoise(TableDenoiser(4, 40, 0, seed=1), canvas, settings=DecodeSettings(decoder="topk")))
    assert step.committed.sum().item() == 3


def test_schedule_leaves_the_rounded_scheduled_number_masked_after_each_step():
    canvas = torch.zeros(1, 24, dtype=torch.int64)
    settings = DecodeSettings(decoder="schedule", schedule="cosine", steps=6)
    left = [step.masked.sum().item() for step in denoise(TableDenoiser(4, 24, 0, seed=1), canvas, settings=settings)]
    assert left == [round(24 * math.sin(math.pi / 2 * i / 6)) for i in (5, 4, 3, 2, 1, 0)]


def test_schedule_reveals_one_place_a_step_where_less_than_one_is_due():
    canvas = torch.zeros(1, 5, dtype=torch.int64)
    settings = DecodeSettings(decoder="schedule", steps=40)
    steps = list(denoise(TableDenoiser(4, 5, 0, seed=1), canvas, settings=settings))
    assert [step.committed.sum().item() for step in steps] == [1] * 5


def test_random_takes_every_place_first_equally_often():
    # One place a step; 300 rows, 6 places: which place is revealed first?
    canvas = torch.zeros(300, 6, dtype=torch.int64)
    settings = DecodeSettings(decoder="random", steps=6, seed=3)
    first = next(denoise(TableDenoiser(4, 6, 0, seed=1), canvas, settings=settings)).committed
    assert first.sum(1).tolist() == [1] * 300
    counts = first.sum(0).tolist()
    assert sum((n - 50) ** 2 / 50 for n in counts) < CHI_SQUARE[5]


def test_refill_masks_the_scheduled_share_again_anywhere():
    canvas = torch.zeros(300, 6, dtype=torch.int64)
    settings = DecodeSettings(decoder="refill", steps=2, seed=3)
    first, second = denoise(TableDenoiser(4, 6, 0, seed=1), canvas, settings=settings)
    assert first.masked.sum(1).tolist() == [3] * 300
    assert sum((n - 150) ** 2 / 75 for n in first.masked.sum(0).tolist()) < CHI_SQUARE[6]
    assert not second.masked.any()


def test_settings_know_the_decoders_that_exist():
    assert sorted(config.DECODERS) == sorted(DECODERS)


def test_an_unknown_decoder_is_an_error_that_names_the_nearest():
    with pytest.raises(TdiffError, match="did you mean confidence"):
        decoder("confidense")


def test_best_takes_the_count_of_each_row_and_the_earlier_of_equals():
    score = torch.tensor([[0.1, 0.5, 0.5, 0.9], [0.2, 0.2, 0.2, 0.2], [0.3, 0.2, 0.1, 0.0]])
    chosen = best(score, torch.tensor([2, 1, 0]))
    assert chosen.tolist() == [[False, True, False, True], [True, False, False, False], [False] * 4]


def tables(count: int, vocab: int, seed: int) -> torch.Tensor:
    draw = random.Random(seed)
    return torch.tensor([[draw.gauss(0, 2) for _ in range(vocab)] for _ in range(count)])


def draws(count: int, seed: int) -> torch.Tensor:
    return noise.uniform(seed, 1, 0, torch.tensor([0]), torch.arange(count))


@pytest.mark.parametrize("top_k", [0, 1, 3, 50])
@pytest.mark.parametrize("top_p", [1.0, 0.9, 0.4, 0.0])
@pytest.mark.parametrize("temperature", [0.0, 0.4, 1.0, 3.0])
def test_propose_agrees_with_its_oracle(top_k, top_p, temperature):
    logits, u = tables(300, 7, seed=5), draws(300, seed=6)
    logits[::3, 2] = -math.inf
    settings = DecodeSettings(temperature=temperature, top_k=top_k, top_p=top_p)
    token, c = propose(logits, settings, u if temperature else None)
    for n in range(300):
        expected, p = oracles.propose(logits[n].tolist(), temperature, top_k, top_p, u[n].item())
        assert token[n].item() == expected
        assert c[n].item() == pytest.approx(p, rel=1e-4, abs=1e-7)


def test_greedy_proposes_the_likeliest_token_and_its_probability_and_the_first_of_equals():
    logits = torch.tensor([[0.0, 2.0, 1.0], [1.0, 3.0, 3.0], [-math.inf, 0.0, -math.inf]])
    token, c = propose(logits, DecodeSettings(), None)
    assert token.tolist() == [1, 1, 1]
    assert c.tolist() == pytest.approx(
        [math.e**2 / (1 + math.e + math.e**2), math.e**3 / (math.e + 2 * math.e**3), 1.0]
    )


@pytest.mark.parametrize("temperature", [1e-4, 1e-30, 5e-324])
def test_a_temperature_next_to_0_is_greedy(temperature):
    logits = tables(500, 9, seed=7)
    token, c = propose(logits, DecodeSettings(temperature=temperature), draws(500, seed=8))
    greedy, p1 = propose(logits, DecodeSettings(), None)
    assert token.tolist() == greedy.tolist()
    torch.testing.assert_close(c, p1)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_drawn_tokens_are_as_frequent_as_the_model_at_that_temperature_says(temperature):
    count, logits = 20_000, [0.3, -math.inf, 1.2, -0.7, 0.0, -1.5]
    token, _ = propose(
        torch.tensor(logits).expand(count, -1),
        DecodeSettings(temperature=temperature),
        draws(count, seed=int(10 * temperature)),
    )
    expected = [count * p for p in oracles.softmax([x / temperature for x in logits])]
    counts = torch.bincount(token, minlength=6).tolist()
    assert counts[1] == 0
    assert sum((n - e) ** 2 / e for n, e in zip(counts, expected, strict=True) if e) < CHI_SQUARE[4]


def test_c_is_the_probability_of_the_proposed_token_before_temperature_and_truncation():
    logits = tables(400, 6, seed=9)
    token, c = propose(logits, DecodeSettings(temperature=2.0, top_k=3, top_p=0.8), draws(400, seed=10))
    p = logits.double().softmax(-1)
    torch.testing.assert_close(c.double(), p.gather(-1, token[:, None]).squeeze(-1), rtol=1e-5, atol=1e-7)
    # Otherwise it would prove nothing: often the drawn token is not the likeliest.
    assert (token != logits.argmax(-1)).sum() > 50


def test_top_k_draws_all_of_the_k_likeliest_and_nothing_else():
    logits = torch.tensor([0.5, 2.0, 1.0, 0.0, 1.5]).expand(2000, -1)
    token, _ = propose(logits, DecodeSettings(temperature=2.0, top_k=3), draws(2000, seed=11))
    assert set(token.tolist()) == {1, 2, 4}


@pytest.mark.parametrize(
    "top_p, kept", [(0.0, {2}), (0.45, {2}), (0.55, {2, 0}), (0.85, {2, 0, 3}), (1.0, {0, 1, 2, 3})]
)
def test_top_p_draws_the_likeliest_until_they_reach_p_and_nothing_else(top_p, kept):
    logits = torch.tensor([0.3, 0.05, 0.5, 0.15]).log().expand(2000, -1)
    token, _ = propose(logits, DecodeSettings(top_p=top_p), draws(2000, seed=12))
    assert set(token.tolist()) == kept


def test_top_p_counts_the_mass_at_the_temperature_of_the_draw():
    # The likeliest has 0.5, but 0.9 once sharpened by temperature 1/4: alone it reaches 0.8 there.
    logits = torch.tensor([0.5, 0.28, 0.22]).log().expand(500, -1)
    sharp, _ = propose(logits, DecodeSettings(temperature=0.25, top_p=0.8), draws(500, seed=13))
    plain, _ = propose(logits, DecodeSettings(top_p=0.8), draws(500, seed=13))
    assert set(sharp.tolist()) == {0}
    assert set(plain.tolist()) == {0, 1, 2}


def test_a_draw_tells_the_tail_apart_that_float32_noise_cuts_off():
    # Token 1 has 1e-10. Both numbers are 1 in float32, but only one of them is that close to 1.
    logits = torch.tensor([[0.0, math.log(1e-10)]] * 2)
    token, c = propose(logits, DecodeSettings(), torch.tensor([1 - 2.0**-40, 1 - 2.0**-30], dtype=torch.float64))
    assert token.tolist() == [1, 0]
    assert c[0].item() == pytest.approx(1e-10, rel=1e-3)


@pytest.mark.parametrize("u", [0.0, 1 - 2.0**-53], ids=["smallest", "largest"])
def test_the_smallest_and_the_largest_draw_propose_a_possible_token(u):
    logits = tables(2000, 12, seed=14)
    logits[:, [0, 11]] = -math.inf
    token, _ = propose(logits, DecodeSettings(), torch.full((2000,), u, dtype=torch.float64))
    assert ((token > 0) & (token < 11)).all()


def law(denoiser: TableDenoiser, length: int, steps: int) -> dict[tuple[int, ...], float]:
    """The texts of ancestral sampling on the linear schedule, each with its exact probability, by going all ways."""
    states = {(denoiser.mask_id,) * length: 1.0}
    for step in range(1, steps + 1):
        reveal, after = 1 / (steps - step + 1), {}
        for state, chance in states.items():
            masked = [i for i in range(length) if state[i] == denoiser.mask_id]
            options = []
            for i in masked:
                p = oracles.softmax(denoiser.look_up(list(state), i))
                options.append([(denoiser.mask_id, 1 - reveal), *((v, reveal * x) for v, x in enumerate(p) if x)])
            for choice in itertools.product(*options):
                new, weight = list(state), chance
                for i, (token, share) in zip(masked, choice, strict=True):
                    new[i], weight = token, weight * share
                after[tuple(new)] = after.get(tuple(new), 0.0) + weight
        states = after
    return states


@pytest.mark.parametrize("name", ["ancestral", "first-hitting"])
def test_first_hitting_on_a_grid_is_ancestral_in_law(name):
    denoiser = TableDenoiser(3, 3, 0, seed=11, spread=1.0)
    exact = {text: p for text, p in law(denoiser, 3, 4).items() if p > 0}
    assert len(exact) == 8 and math.isclose(sum(exact.values()), 1)
    count = 6000
    canvas = torch.zeros(count, 3, dtype=torch.int64)
    *_, last = denoise(denoiser, canvas, settings=DecodeSettings(decoder=name, steps=4, seed=5))
    found = Counter(map(tuple, last.tokens.tolist()))
    assert found.keys() <= exact.keys()
    off = sum((found[text] - count * p) ** 2 / (count * p) for text, p in exact.items())
    assert off < CHI_SQUARE[7]
    assert last.calls.max() <= 3 and last.forced.sum() == 0  # no call for a step in which nothing arrives


def test_first_hitting_without_a_grid_reveals_one_place_a_call_anywhere():
    canvas = torch.zeros(2000, 4, dtype=torch.int64)
    steps = list(denoise(TableDenoiser(3, 4, 0, seed=2), canvas, settings=DecodeSettings(decoder="first-hitting")))
    assert len(steps) == 4 and all((step.committed.sum(1) == 1).all() for step in steps)
    first = steps[0].committed.sum(0).tolist()
    assert sum((n - 500) ** 2 / 500 for n in first) < CHI_SQUARE[3]


@pytest.mark.parametrize(
    ("settings", "places"),
    [
        (DecodeSettings(decoder="factor", factor=1.0), [0, 1]),  # .9 >= 1/2, .7 >= 2/3, .6 < 3/4
        (DecodeSettings(decoder="factor", factor=1.6), [0, 1, 2]),
        (DecodeSettings(decoder="factor", factor=0.0), [0]),
        (DecodeSettings(decoder="entropy-bounded", gamma=0.3), [0]),  # H of .9 is 0.325
        (DecodeSettings(decoder="entropy-bounded", gamma=0.4), [0, 1]),  # H of .7 is 0.611
        (DecodeSettings(decoder="entropy-bounded", gamma=1.0), [0, 1, 2]),
    ],
)
def test_what_a_bound_admits_by_hand(settings, places):
    denoiser = TableDenoiser(3, 4, 0, seed=0, contextual=False)
    p = torch.tensor([[0.9, 0.1], [0.7, 0.3], [0.6, 0.4], [0.5, 0.5]])
    denoiser.tables = torch.cat((torch.full((4, 1), -math.inf), p.log()), 1)[None]
    greedy = replace(settings, temperature=0.0)
    step = next(denoise(denoiser, torch.zeros(1, 4, dtype=torch.int64), settings=greedy))
    assert step.committed[0].nonzero().flatten().tolist() == places


def test_ranks_order_places_each_in_its_way():
    denoiser = TableDenoiser(5, 3, 0, seed=0, contextual=False)
    # The surest token, the largest lead and the least entropy are in different places.
    p = torch.tensor([[0.5, 0.45, 0.05, 1e-9], [0.46, 0.2, 0.17, 0.17], [0.48, 0.48, 0.04, 1e-9]])
    denoiser.tables = torch.cat((torch.full((3, 1), -math.inf), p.log()), 1)[None]
    canvas = torch.zeros(1, 3, dtype=torch.int64)

    def first(**settings) -> int:
        step = next(denoise(denoiser, canvas, settings=DecodeSettings(temperature=0.0, **settings)))
        [place] = step.committed[0].nonzero().flatten().tolist()
        return place

    for decoder_settings in ({"decoder": "topk", "k": 1}, {"decoder": "schedule", "steps": 3}, {"threshold": 0.99}):
        assert [first(rank=rank, **decoder_settings) for rank in config.RANKS] == [0, 1, 2]
    assert (first(decoder="margin", steps=3), first(decoder="entropy", steps=3)) == (1, 2)
