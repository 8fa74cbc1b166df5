import itertools
import math
import random
from collections import Counter
from dataclasses import replace

import pytest
import torch

from tdiff.config import decoding as config
from tdiff.config.decoding import DecodeSettings
from tdiff.core.diffusion import noise
from tdiff.core.diffusion.blocks import in_blocks, most_steps, slide
from tdiff.core.diffusion.decoders import DECODERS, decoder, highest, penalised, propose, repeated
from tdiff.core.diffusion.denoise import denoise
from tdiff.errors import TdiffError
from tests.support import oracles
from tests.support.models import StubModel
from tests.support.oracles import TableDenoiser

torch.set_num_threads(1)

EVERY = pytest.mark.parametrize("name", sorted(DECODERS))
FIELDS = ("tokens", "committed", "remasked", "draft", "masked", "calls", "forced")
# The value that a chi-square of so many degrees of freedom passes once in 10,000 times.
CHI_SQUARE = {1: 15.14, 2: 18.42, 3: 21.11, 4: 23.51, 5: 25.74, 6: 27.86, 7: 29.88}


def random_settings(name: str, draw: random.Random) -> DecodeSettings:
    # 0 steps is the default: 128 for ancestral, so it comes up there less often.
    steps = 0 if draw.random() < (0.015 if name in ("ancestral", "remdm") else 0.3) else draw.randint(1, 6)
    remask = draw.choice(config.REMASKS)
    return DecodeSettings(
        decoder=name,
        threshold=draw.choice([0.0, 0.3, 0.5, 0.7, 0.9, 1.0]),
        k=draw.randint(0, 5),
        factor=draw.choice([0.0, 0.5, 1.0, 3.0]),
        gamma=draw.choice([0.0, 0.1, 1.0, 5.0]),
        rank=draw.choice(config.RANKS[:3]),  # of few tokens the top k have all the mass, and rounding would decide
        kl=draw.choice([0.0, 0.01, 1.0, 10.0]),
        history=draw.randint(1, 3),
        remask=remask,
        eta=draw.choice([0.0, 0.1, 0.5, 1.0]),
        t_on=draw.choice([0.3, 0.55, 0.8]),
        t_off=draw.choice([0.0, 0.05, 0.2]),
        alpha_on=draw.choice([0.2, 0.5, 0.9]),
        block=draw.choice([0, 0, 1, 4, 30]),
        repetition_penalty=draw.choice([1.0, 1.0, 1.5, 4.0]),
        repetition_span=draw.randint(1, 3),
        steps=steps,
        schedule=draw.choice(config.SCHEDULES),
        temperature=draw.choice([0.0, 0.3, 1.0, 2.5]),
        top_k=draw.choice([0, 0, 1, 2, 3, 20]),
        top_p=draw.choice([1.0, 1.0, 0.0, 0.3, 0.9]),
        seed=draw.randint(0, 2**40),
    )


def compare(denoiser, canvas, frozen, settings):
    """Run the engine on the batch and the oracle on each row: all fields of all steps have to agree."""
    if settings.block:  # a block begins when it is done in every row: there the first row alone
        canvas, frozen = canvas[:1], frozen[:1]
    steps = list(in_blocks(denoiser, torch.tensor(canvas), torch.tensor(frozen), settings))
    oracle = oracles.in_blocks if settings.block else oracles.decode
    for row, (start, held) in enumerate(zip(canvas, frozen, strict=True)):
        moments = oracle(denoiser, start, held, settings, row)
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
    chosen = highest(score, torch.tensor([2, 1, 0]))
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
        assert [first(rank=rank, **decoder_settings) for rank in config.RANKS[:3]] == [0, 1, 2]
        assert first(rank="top-k-mass", top_k=2, **decoder_settings) == 2
    assert (first(decoder="margin", steps=3), first(decoder="entropy", steps=3)) == (1, 2)


def texts(denoiser: TableDenoiser, settings: DecodeSettings, rows: int = 40, length: int = 12) -> list[list[int]]:
    *_, last = in_blocks(denoiser, torch.zeros(rows, length, dtype=torch.int64), settings=settings)
    return last.tokens.tolist()


@pytest.mark.parametrize("remask", ["cap", "rescale", "conf"])
def test_remdm_that_masks_nothing_again_is_ancestral(remask):
    denoiser = TableDenoiser(5, 12, 0, seed=3)
    again = DecodeSettings(decoder="remdm", remask=remask, eta=0.0, steps=8, seed=1)
    assert texts(denoiser, again) == texts(denoiser, DecodeSettings(decoder="ancestral", steps=8, seed=1))


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize("remask, eta", [("cap", 0.1), ("rescale", 0.3), ("loop", 0.1)])
def test_remdm_masks_again_at_its_rate_and_stays_on_schedule(remask, eta, schedule):
    rows, length, steps = 400, 64, 10
    settings = DecodeSettings(decoder="remdm", remask=remask, eta=eta, steps=steps, schedule=schedule, seed=4)
    canvas, again = torch.zeros(rows, length, dtype=torch.int64), 0
    revealed = torch.zeros(rows, length, dtype=torch.bool)
    for step in denoise(TableDenoiser(4, length, 0, seed=1, contextual=False), canvas, settings=settings):
        t, s = (steps - step.index + 1) / steps, (steps - step.index) / steps
        hidden_t, hidden_s = oracles.hidden_at(t, settings), oracles.hidden_at(s, settings)
        rate = oracles.remask_rate(t, hidden_t, hidden_s, settings)
        places = rows * length
        # Within five standard deviations of a share of so many places.
        assert abs(step.masked.sum().item() / places - hidden_s) < 5 * math.sqrt(0.25 / places)
        if count := revealed.sum().item():
            assert abs(step.remasked.sum().item() / count - rate) < 5 * math.sqrt(0.25 / count)
        again += step.remasked.sum().item()
        revealed = ~step.masked
    assert again > 1000


def test_remdm_with_conf_masks_again_what_was_least_sure():
    # c is 0.99 or 0.5, and each row masks one place again at most: those of 0.5 have e^0.49 times the share.
    denoiser = TableDenoiser(3, 40, 0, seed=0, contextual=False)
    p = torch.tensor([[0.99, 0.01]] * 20 + [[0.5, 0.5]] * 20)
    denoiser.tables = torch.cat((torch.full((40, 1), -math.inf), p.log()), 1)[None]
    settings = DecodeSettings(decoder="remdm", remask="conf", steps=20, temperature=0.0, seed=5)
    steps = list(denoise(denoiser, torch.zeros(2000, 40, dtype=torch.int64), settings=settings))
    often = seldom = count = 0.0
    revealed = torch.zeros(2000, 40)
    for step in steps:
        (sure, unsure), (kept, doubtful) = (x.float().view(-1, 2, 20).sum((0, 2)) for x in (step.remasked, revealed))
        if kept + doubtful:  # the ratio of two rates, pooled over the steps (Mantel and Haenszel)
            often += float(unsure * kept / (kept + doubtful))
            seldom += float(sure * doubtful / (kept + doubtful))
        revealed, count = (~step.masked).float(), count + float(sure + unsure)
    assert count > 5000
    # Rows with more that is unsure have smaller shares, so that the pooled ratio is a little below.
    assert 0.85 * math.exp(0.49) < often / seldom < 1.05 * math.exp(0.49)


def of_calls(*calls: list[list[float]]):
    """A denoiser that answers each call with the next table of probabilities, of tokens 1 and up."""

    class Scripted(StubModel):
        mask_id, asked = 0, 0

        def __call__(self, tokens, share, where):
            table = torch.tensor(calls[min(self.asked, len(calls) - 1)])
            self.asked += 1
            logits = torch.cat((torch.full((len(table), 1), -math.inf), table.log()), 1)
            return logits.expand(len(tokens), -1, -1)[where]

    return Scripted()


def test_klass_waits_for_what_still_moves():
    still, moving = [0.95, 0.05], [[0.94, 0.06], [0.99, 0.01], [0.91, 0.09]]
    calls = [[still, still, [0.6, 0.4], one, [0.55, 0.45]] for one in moving]
    settings = DecodeSettings(decoder="klass", threshold=0.9, kl=0.01, history=2, temperature=0.0)
    steps = denoise(of_calls(*calls), torch.zeros(1, 5, dtype=torch.int64), settings=settings)
    # No place has been calm for two calls yet: the most confident one goes, the earlier of equals. At the second call
    # place 3 has .99. At the third what is left and has been still goes, and the others wait.
    chosen = [next(steps).committed[0].nonzero().flatten().tolist() for _ in range(3)]
    assert chosen == [[0], [3], [1]]


def test_a_moved_place_begins_to_be_calm_again():
    calls = [[[0.95, 0.05], [0.93, 0.07], [0.7, 0.3]]] * 2 + [[[0.95, 0.05], [0.99, 0.01], [0.7, 0.3]]]
    settings = DecodeSettings(decoder="klass", threshold=0.92, history=1, temperature=0.0)
    steps = denoise(of_calls(*calls), torch.zeros(1, 3, dtype=torch.int64), settings=settings)
    assert [next(steps).committed[0].nonzero().flatten().tolist() for _ in range(2)] == [[0], [1]]
    strict = replace(settings, threshold=0.95, history=3)
    steps = denoise(of_calls(*calls), torch.zeros(1, 3, dtype=torch.int64), settings=strict)
    assert all(step.committed.sum() == 1 for step in steps)


@EVERY
def test_blocks_are_finished_one_after_another_from_the_left(name):
    canvas = torch.zeros(3, 20, dtype=torch.int64)
    canvas[:, :3] = 1
    settings = DecodeSettings(decoder=name, steps=12, block=5, seed=2)
    current = 0
    for step in in_blocks(TableDenoiser(5, 20, 0, seed=1), canvas, settings=settings):
        at = torch.where(step.committed | step.remasked)[1]
        blocks = (at - 3) // 5
        if len(blocks):
            assert blocks.min() == blocks.max() >= current
            current = int(blocks.max())
        assert (step.masked[:, 3 + 5 * (current + 1) :]).all()
    assert current == 3 and not step.masked.any() and step.index <= 20


@EVERY
def test_one_block_of_all_places_is_no_block(name):
    denoiser = TableDenoiser(5, 12, 0, seed=3)
    for steps in (0, 5):
        plain = DecodeSettings(decoder=name, steps=steps, seed=1)
        assert texts(denoiser, replace(plain, block=12), 4) == texts(denoiser, plain, 4)


def test_the_mask_ratio_in_every_block_counts_all_maskable_positions():
    denoiser = TableDenoiser(4, 12, 0, seed=1)
    canvas = torch.zeros(1, 12, dtype=torch.int64)
    canvas[0, :2] = 1
    list(in_blocks(denoiser, canvas, settings=DecodeSettings(decoder="topk", k=1, block=4)))
    assert [share for [share] in denoiser.shares] == pytest.approx([n / 10 for n in range(10, 0, -1)])


@pytest.mark.parametrize("block, steps, most", [(0, 0, 0), (0, 7, 7), (4, 0, 0), (4, 7, 3 * 3), (4, 1, 3), (100, 7, 7)])
def test_the_steps_of_all_blocks_together(block, steps, most):
    frozen = torch.tensor([True] * 2 + [False] * 10)
    settings = DecodeSettings(decoder="confidence", block=block, steps=steps, threshold=1.0)
    assert most_steps(settings, frozen, 12, 3) == most


@pytest.mark.parametrize("block", [0, 1, 3, 5, 50])
@pytest.mark.parametrize("prompt", [0, 2, 9])
def test_a_sliding_canvas_takes_at_most_the_planned_steps_and_blocks_continue_in_each_window(block, prompt):
    canvas = torch.zeros(2, 29, dtype=torch.int64)
    canvas[:, :prompt] = 1
    canvas[:, 14] = 2
    settings = DecodeSettings(decoder="ancestral", steps=7, block=block, seed=3)
    steps = list(slide(TableDenoiser(5, 29, 0, seed=1), canvas, 10, 3, settings))
    most = most_steps(settings, canvas[0] != 0, 10, 3)
    assert len(steps) <= most <= (7 + 10) * 4 and not steps[-1].masked.any()
    assert [step.index for step in steps] == list(range(1, len(steps) + 1))
    assert steps[-1].calls.max() <= len(steps)
    # What is revealed later lies further right, by the block and the window.
    if block == 1:
        first = [int(step.committed[0].nonzero()[0]) for step in steps if step.committed[0].any()]
        assert first == sorted(first)
    alone = list(slide(TableDenoiser(5, 29, 0, seed=1), canvas[:1], 10, 3, settings))
    assert alone[-1].tokens[0].tolist() == steps[-1].tokens[0].tolist()


def test_repetition_penalty_by_hand():
    # Text 1 2 _ _ 1 _: what would repeat a span of two? A place after a mask has no span; after 1 it is 2.
    tokens = torch.tensor([[1, 2, 0, 0, 1, 0]])
    masked = tokens == 0
    after = repeated(tokens, masked, masked, 2, 4)
    assert after.tolist() == [[False] * 4, [False] * 4, [False, False, True, False]]
    assert not repeated(tokens, masked, masked, 7, 4).any() and repeated(tokens, masked, masked, 7, 4).shape == (3, 4)
    anywhere = repeated(tokens, masked, masked, 1, 4)
    assert anywhere.tolist() == [[False, True, True, False]] * 3
    p = torch.tensor([[0.0, 0.5, 0.3, 0.2]])
    logits = penalised(p.log() + 7, torch.tensor([[False, True, False, False]]), 2.0)
    torch.testing.assert_close(logits.exp(), torch.tensor([[0.0, 0.25, 0.3, 0.2]]))
    token, c = propose(
        p.log(), DecodeSettings(repetition_penalty=2.0), None, torch.tensor([[False, True, False, False]])
    )
    assert token.tolist() == [2] and c.tolist() == pytest.approx([0.3])  # c is the model's own


def test_a_repetition_penalty_breaks_a_loop():
    denoiser = every_place_alike(24, *(-0.1 * n for n in range(30)))
    greedy = DecodeSettings(decoder="topk", k=1, temperature=0.0)
    assert len(set(texts(denoiser, greedy, 1, 24)[0])) == 1
    [text] = texts(denoiser, replace(greedy, repetition_penalty=1000.0, repetition_span=2), 1, 24)
    pairs = Counter(itertools.pairwise(text))
    # Places are filled from the left: each pair but the last, whose end may be given by chance, is new.
    assert max(pairs.values()) == 1 and len(pairs) == 23


@pytest.mark.parametrize(
    ("given", "threshold", "eta"),
    [
        ({}, 0.7, 0.008),
        ({"decoder": "klass"}, 0.9, 0.008),
        ({"decoder": "klass", "threshold": 0.5}, 0.5, 0.008),
        ({"decoder": "remdm", "remask": "rescale"}, 0.7, 0.015),
        ({"decoder": "remdm", "remask": "conf"}, 0.7, 1.0),
        ({"decoder": "remdm", "remask": "loop"}, 0.7, 0.02),
        ({"decoder": "remdm", "remask": "loop", "eta": 0.5}, 0.7, 0.5),
    ],
)
def test_defaults_that_depend_on_the_decoder(given, threshold, eta):
    settings = DecodeSettings(**given)
    assert (settings.threshold, settings.eta) == (threshold, eta)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"remask": "lop"}, "did you mean loop"),
        ({"eta": 1.5}, "eta must lie between 0 and 1; got 1.5"),
        ({"t_on": 0.1, "t_off": 0.2}, "0 <= t-off < t-on < 1"),
        ({"alpha_on": 1.0}, "0 < alpha-on < 1"),
        ({"history": 0}, "history must be at least 1"),
        ({"block": -1}, "block must be at least 0"),
        ({"repetition_penalty": 0.5}, "repetition-penalty must lie between 1 and 1000"),
        ({"repetition_penalty": 1e39}, "repetition-penalty must lie between 1 and 1000"),
        ({"kl": math.nan}, "kl must be at least 0"),
        ({"threshold": -1.0}, "threshold must lie between 0 and 1"),
    ],
)
def test_what_the_new_settings_refuse(given, says):
    with pytest.raises(TdiffError) as error:
        DecodeSettings(**given)
    assert says in str(error.value)


@EVERY
@pytest.mark.parametrize("steps", [0, 8])
def test_in_blocks_a_text_does_not_depend_on_rows_that_have_other_numbers_of_blocks(name, steps):
    denoiser = TableDenoiser(5, 16, 0, seed=4)
    canvas = torch.zeros(4, 16, dtype=torch.int64)
    for row, given in enumerate((12, 2, 12, 16)):
        canvas[row, :given] = 1
    settings = DecodeSettings(decoder=name, steps=steps, block=3, temperature=1.0, threshold=0.6, seed=2)
    together = list(in_blocks(denoiser, canvas, settings=settings))
    assert not together[-1].masked.any() and [step.index for step in together] == list(range(1, len(together) + 1))
    for row in range(3):
        *_, alone = in_blocks(denoiser, canvas[row : row + 1], settings=settings, rows=torch.tensor([row]))
        for field in ("tokens", "confidence", "calls", "forced"):
            assert torch.equal(getattr(together[-1], field)[row], getattr(alone, field)[0]), (field, row)
    committed = sum(step.committed.int() - step.remasked.int() for step in together)
    assert torch.equal(committed == 1, canvas == 0)
    assert torch.equal(together[-1].tokens[3], canvas[3]) and int(together[-1].calls[3]) == 0


def test_klass_remembers_in_a_block_what_it_saw_of_it_during_the_blocks_before():
    """Places that have been sure and calm all along need not prove it again in their block: each is one more call."""
    logits = torch.tensor([-torch.inf, 5.0, 0.0])

    class Still(StubModel):
        mask_id, calls = 0, 0

        def __call__(self, tokens, share, where):
            self.calls += 1
            return logits.expand(int(where.sum()), 3)

    settings = DecodeSettings(decoder="klass", threshold=0.9, history=2, block=4, temperature=0.0)
    denoiser = Still()
    steps = list(in_blocks(denoiser, torch.zeros(2, 12, dtype=torch.int64), settings=settings))
    # Two calls of one place each until what is there is known to be calm, and then a block a call.
    assert [int(step.committed[0].sum()) for step in steps] == [1, 1, 2, 4, 4]
    assert denoiser.calls == 5 and steps[-1].calls.tolist() == [5, 5]


@EVERY
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_logits_that_are_not_finite_are_one_clear_error(name, value):
    class Broken(StubModel):
        mask_id = 0

        def __call__(self, tokens, share, where):
            logits = torch.zeros(int(where.sum()), 3)
            logits[:, 0] = -torch.inf
            logits[-1, slice(None) if value < 0 else 1] = value
            return logits

    settings = DecodeSettings(decoder=name, seed=1)
    with pytest.raises(TdiffError, match="logits that are not finite"):
        list(in_blocks(Broken(), torch.zeros(2, 6, dtype=torch.int64), settings=settings))


@pytest.mark.parametrize("name", ["confidence", "schedule", "topk"])
@pytest.mark.parametrize("top_k", [0, 1, 2, 5])
def test_the_mass_of_the_top_k_ranks_as_in_the_oracle_and_is_held_against_the_threshold(name, top_k):
    draw = random.Random(f"mass of {name} {top_k}")
    for table in range(25):
        length = draw.randint(2, 16)
        denoiser = TableDenoiser(draw.randint(9, 12), length, 0, seed=table)
        settings = replace(random_settings(name, draw), rank="top-k-mass", top_k=top_k, block=0)
        compare(denoiser, [[0] * length] * 2, [[False] * length] * 2, settings)
