import itertools
import math
import random
from collections import Counter
from dataclasses import replace

import pytest
import torch

from tdiff.config import decoding as config
from tdiff.config.decoding import DecodeSettings
from tdiff.core.diffusion.blocks import in_blocks
from tdiff.core.diffusion.decoders import DECODERS, decoder, highest
from tdiff.core.diffusion.denoise import denoise
from tdiff.errors import TdiffError
from tests.support import oracles
from tests.support.decoding import CHI_SQUARE, EVERY, every_place_alike, random_settings, texts
from tests.support.models import StubModel
from tests.support.oracles import TableDenoiser

torch.set_num_threads(1)

FIELDS = ("tokens", "committed", "remasked", "draft", "masked", "calls", "forced")


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
@pytest.mark.parametrize("tables", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_decoder_agrees_with_its_oracle_on_random_tables(name, tables):
    draw = random.Random(f"tables of {name}")
    longest = 0
    for table in range(tables):
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
def test_decoder_agrees_with_its_oracle_if_many_positions_tie(name):
    # One table for all positions, its logits whole numbers: every position has the same c, and tokens tie as well.
    draw = random.Random(f"ties of {name}")
    for _ in range(25):
        length, vocab = draw.randint(2, 12), draw.randint(3, 6)
        denoiser = TableDenoiser(vocab, length, 0, seed=0, contextual=False)
        logits = torch.tensor([-math.inf] + [float(draw.randint(0, 1)) for _ in range(vocab - 1)])
        denoiser.tables = logits.expand(1, length, vocab).contiguous()
        denoiser.plain = denoiser.tables.tolist()
        compare(denoiser, [[0] * length], [[False] * length], random_settings(name, draw))


@pytest.mark.parametrize(
    "settings, positions",
    [
        (DecodeSettings(decoder="confidence", threshold=0.9), [0]),
        (DecodeSettings(decoder="topk", k=3), [0, 1, 2]),
        (DecodeSettings(decoder="schedule", steps=4), [0, 1]),
    ],
    ids=["confidence", "topk", "schedule"],
)
def test_ties_go_to_the_earlier_position(settings, positions):
    step = next(denoise(every_place_alike(8, 1.0, 1.0), torch.zeros(1, 8, dtype=torch.int64), settings=settings))
    assert step.committed[0].nonzero().flatten().tolist() == positions


def test_confidence_equal_to_the_threshold_is_unmasked():
    # With one possible token c is exactly 1.
    settings = DecodeSettings(decoder="confidence", threshold=1.0)
    steps = list(denoise(every_place_alike(5, 3.0), torch.zeros(1, 5, dtype=torch.int64), settings=settings))
    assert len(steps) == 1
    assert steps[0].committed.all() and steps[0].forced.item() == 0


def test_topk_unmasks_a_tenth_of_the_maskable_positions_by_default():
    canvas = torch.zeros(1, 40, dtype=torch.int64)
    canvas[0, :10] = 1  # frozen: 30 positions are left, of which a tenth is 3
    step = next(denoise(TableDenoiser(4, 40, 0, seed=1), canvas, settings=DecodeSettings(decoder="topk")))
    assert step.committed.sum().item() == 3


def test_fronts_unmask_the_next_position_of_each_part_and_of_a_shorter_last_part_while_it_has_one():
    canvas = torch.zeros(1, 10, dtype=torch.int64)
    canvas[0, :2] = 1  # frozen: 8 positions are left, in parts of 3, 3 and 2
    settings = DecodeSettings(decoder="fronts")
    steps = denoise(TableDenoiser(4, 10, 0, seed=1), canvas, settings=settings)
    assert [step.committed[0].nonzero().flatten().tolist() for step in steps] == [[2, 5, 8], [3, 6, 9], [4, 7]]


def test_schedule_leaves_the_rounded_scheduled_number_masked_after_each_step():
    canvas = torch.zeros(1, 24, dtype=torch.int64)
    settings = DecodeSettings(decoder="schedule", schedule="cosine", steps=6)
    left = [step.masked.sum().item() for step in denoise(TableDenoiser(4, 24, 0, seed=1), canvas, settings=settings)]
    assert left == [round(24 * math.sin(math.pi / 2 * i / 6)) for i in (5, 4, 3, 2, 1, 0)]


def test_schedule_unmasks_at_least_one_position_per_step():
    canvas = torch.zeros(1, 5, dtype=torch.int64)
    settings = DecodeSettings(decoder="schedule", steps=40)
    steps = list(denoise(TableDenoiser(4, 5, 0, seed=1), canvas, settings=settings))
    assert [step.committed.sum().item() for step in steps] == [1] * 5


def test_random_selects_first_positions_uniformly():
    # One position a step; 300 rows, 6 positions: which position is unmasked first?
    canvas = torch.zeros(300, 6, dtype=torch.int64)
    settings = DecodeSettings(decoder="random", steps=6, seed=3)
    first = next(denoise(TableDenoiser(4, 6, 0, seed=1), canvas, settings=settings)).committed
    assert first.sum(1).tolist() == [1] * 300
    counts = first.sum(0).tolist()
    assert sum((n - 50) ** 2 / 50 for n in counts) < CHI_SQUARE[5]


def test_refill_remasks_the_scheduled_share_uniformly():
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


def test_highest_selects_the_count_of_each_row_and_the_earlier_of_equals():
    score = torch.tensor([[0.1, 0.5, 0.5, 0.9], [0.2, 0.2, 0.2, 0.2], [0.3, 0.2, 0.1, 0.0]])
    chosen = highest(score, torch.tensor([2, 1, 0]))
    assert chosen.tolist() == [[False, True, False, True], [True, False, False, False], [False] * 4]


def law(denoiser: TableDenoiser, length: int, steps: int) -> dict[tuple[int, ...], float]:
    """The texts of ancestral sampling on the linear schedule, each with its exact probability, by going all ways."""
    states = {(denoiser.mask_id,) * length: 1.0}
    for step in range(1, steps + 1):
        unmask, after = 1 / (steps - step + 1), {}
        for state, chance in states.items():
            masked = [i for i in range(length) if state[i] == denoiser.mask_id]
            options = []
            for i in masked:
                p = oracles.softmax(denoiser.look_up(list(state), i))
                options.append([(denoiser.mask_id, 1 - unmask), *((v, unmask * x) for v, x in enumerate(p) if x)])
            for choice in itertools.product(*options):
                new, weight = list(state), chance
                for i, (token, share) in zip(masked, choice, strict=True):
                    new[i], weight = token, weight * share
                after[tuple(new)] = after.get(tuple(new), 0.0) + weight
        states = after
    return states


@pytest.mark.parametrize("name", ["ancestral", "first-hitting"])
def test_first_hitting_on_a_grid_has_the_distribution_of_ancestral(name):
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


def test_first_hitting_without_a_grid_unmasks_one_random_position_per_call():
    canvas = torch.zeros(2000, 4, dtype=torch.int64)
    steps = list(denoise(TableDenoiser(3, 4, 0, seed=2), canvas, settings=DecodeSettings(decoder="first-hitting")))
    assert len(steps) == 4 and all((step.committed.sum(1) == 1).all() for step in steps)
    first = steps[0].committed.sum(0).tolist()
    assert sum((n - 500) ** 2 / 500 for n in first) < CHI_SQUARE[3]


@pytest.mark.parametrize(
    ("settings", "positions"),
    [
        (DecodeSettings(decoder="factor", factor=1.0), [0, 1]),  # .9 >= 1/2, .7 >= 2/3, .6 < 3/4
        (DecodeSettings(decoder="factor", factor=1.6), [0, 1, 2]),
        (DecodeSettings(decoder="factor", factor=0.0), [0]),
        (DecodeSettings(decoder="entropy-bounded", gamma=0.3), [0]),  # H of .9 is 0.325
        (DecodeSettings(decoder="entropy-bounded", gamma=0.4), [0, 1]),  # H of .7 is 0.611
        (DecodeSettings(decoder="entropy-bounded", gamma=1.0), [0, 1, 2]),
    ],
)
def test_factor_and_entropy_bounded_select_the_positions_computed_by_hand(settings, positions):
    denoiser = TableDenoiser(3, 4, 0, seed=0, contextual=False)
    p = torch.tensor([[0.9, 0.1], [0.7, 0.3], [0.6, 0.4], [0.5, 0.5]])
    denoiser.tables = torch.cat((torch.full((4, 1), -math.inf), p.log()), 1)[None]
    greedy = replace(settings, temperature=0.0)
    step = next(denoise(denoiser, torch.zeros(1, 4, dtype=torch.int64), settings=greedy))
    assert step.committed[0].nonzero().flatten().tolist() == positions


def test_each_rank_selects_another_first_position():
    denoiser = TableDenoiser(5, 3, 0, seed=0, contextual=False)
    # The surest token, the largest lead and the least entropy are in different positions.
    p = torch.tensor([[0.5, 0.45, 0.05, 1e-9], [0.46, 0.2, 0.17, 0.17], [0.48, 0.48, 0.04, 1e-9]])
    denoiser.tables = torch.cat((torch.full((3, 1), -math.inf), p.log()), 1)[None]
    canvas = torch.zeros(1, 3, dtype=torch.int64)

    def first(**settings) -> int:
        step = next(denoise(denoiser, canvas, settings=DecodeSettings(temperature=0.0, **settings)))
        [position] = step.committed[0].nonzero().flatten().tolist()
        return position

    for decoder_settings in ({"decoder": "topk", "k": 1}, {"decoder": "schedule", "steps": 3}, {"threshold": 0.99}):
        assert [first(rank=rank, **decoder_settings) for rank in config.RANKS[:3]] == [0, 1, 2]
        assert first(rank="top-k-mass", top_k=2, **decoder_settings) == 2
    assert (first(decoder="margin", steps=3), first(decoder="entropy", steps=3)) == (1, 2)


@pytest.mark.parametrize("remask", ["cap", "rescale", "conf"])
def test_remdm_with_rate_0_is_ancestral(remask):
    denoiser = TableDenoiser(5, 12, 0, seed=3)
    again = DecodeSettings(decoder="remdm", remask=remask, eta=0.0, steps=8, seed=1)
    assert texts(denoiser, again) == texts(denoiser, DecodeSettings(decoder="ancestral", steps=8, seed=1))


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize("remask, eta", [("cap", 0.1), ("rescale", 0.3), ("loop", 0.1)])
def test_remdm_remasks_at_its_rate_and_follows_the_schedule(remask, eta, schedule):
    rows, length, steps = 400, 64, 10
    settings = DecodeSettings(decoder="remdm", remask=remask, eta=eta, steps=steps, schedule=schedule, seed=4)
    canvas, again = torch.zeros(rows, length, dtype=torch.int64), 0
    unmasked = torch.zeros(rows, length, dtype=torch.bool)
    for step in denoise(TableDenoiser(4, length, 0, seed=1, contextual=False), canvas, settings=settings):
        t, s = (steps - step.index + 1) / steps, (steps - step.index) / steps
        hidden_t, hidden_s = oracles.hidden_at(t, settings), oracles.hidden_at(s, settings)
        rate = oracles.remask_rate(t, hidden_t, hidden_s, settings)
        positions = rows * length
        # Within five standard deviations of a share of so many positions.
        assert abs(step.masked.sum().item() / positions - hidden_s) < 5 * math.sqrt(0.25 / positions)
        if count := unmasked.sum().item():
            assert abs(step.remasked.sum().item() / count - rate) < 5 * math.sqrt(0.25 / count)
        again += step.remasked.sum().item()
        unmasked = ~step.masked
    assert again > 1000


def test_remdm_conf_remasks_less_confident_positions_more_often():
    # c is 0.99 or 0.5, and each row masks one position again at most: those of 0.5 have e^0.49 times the share.
    denoiser = TableDenoiser(3, 40, 0, seed=0, contextual=False)
    p = torch.tensor([[0.99, 0.01]] * 20 + [[0.5, 0.5]] * 20)
    denoiser.tables = torch.cat((torch.full((40, 1), -math.inf), p.log()), 1)[None]
    settings = DecodeSettings(decoder="remdm", remask="conf", steps=20, temperature=0.0, seed=5)
    steps = list(denoise(denoiser, torch.zeros(2000, 40, dtype=torch.int64), settings=settings))
    often = seldom = count = 0.0
    unmasked = torch.zeros(2000, 40)
    for step in steps:
        (sure, unsure), (kept, doubtful) = (x.float().view(-1, 2, 20).sum((0, 2)) for x in (step.remasked, unmasked))
        if kept + doubtful:  # the ratio of two rates, pooled over the steps (Mantel and Haenszel)
            often += float(unsure * kept / (kept + doubtful))
            seldom += float(sure * doubtful / (kept + doubtful))
        unmasked, count = (~step.masked).float(), count + float(sure + unsure)
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


def test_klass_waits_for_positions_whose_distribution_changes():
    still, moving = [0.95, 0.05], [[0.94, 0.06], [0.99, 0.01], [0.91, 0.09]]
    calls = [[still, still, [0.6, 0.4], one, [0.55, 0.45]] for one in moving]
    settings = DecodeSettings(decoder="klass", threshold=0.9, kl=0.01, history=2, temperature=0.0)
    steps = denoise(of_calls(*calls), torch.zeros(1, 5, dtype=torch.int64), settings=settings)
    # No position has been stable for two calls yet: the most confident one is unmasked, the earlier of equals. At the
    # second call position 3 has .99. At the third the stable ones are unmasked, and the others wait.
    chosen = [next(steps).committed[0].nonzero().flatten().tolist() for _ in range(3)]
    assert chosen == [[0], [3], [1]]


def test_changed_distribution_resets_the_stable_calls():
    calls = [[[0.95, 0.05], [0.93, 0.07], [0.7, 0.3]]] * 2 + [[[0.95, 0.05], [0.99, 0.01], [0.7, 0.3]]]
    settings = DecodeSettings(decoder="klass", threshold=0.92, history=1, temperature=0.0)
    steps = denoise(of_calls(*calls), torch.zeros(1, 3, dtype=torch.int64), settings=settings)
    assert [next(steps).committed[0].nonzero().flatten().tolist() for _ in range(2)] == [[0], [1]]
    strict = replace(settings, threshold=0.95, history=3)
    steps = denoise(of_calls(*calls), torch.zeros(1, 3, dtype=torch.int64), settings=strict)
    assert all(step.committed.sum() == 1 for step in steps)


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
def test_invalid_decode_settings_are_refused(given, says):
    with pytest.raises(TdiffError) as error:
        DecodeSettings(**given)
    assert says in str(error.value)


@pytest.mark.parametrize("name", ["confidence", "schedule", "topk"])
@pytest.mark.parametrize("top_k", [0, 1, 2, 5])
def test_top_k_mass_ranks_and_thresholds_as_in_the_oracle(name, top_k):
    draw = random.Random(f"mass of {name} {top_k}")
    for table in range(25):
        length = draw.randint(2, 16)
        denoiser = TableDenoiser(draw.randint(9, 12), length, 0, seed=table)
        settings = replace(random_settings(name, draw), rank="top-k-mass", top_k=top_k, block=0)
        compare(denoiser, [[0] * length] * 2, [[False] * length] * 2, settings)
