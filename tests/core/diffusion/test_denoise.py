import math
from dataclasses import dataclass, fields

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tdiff.config import decoding as config
from tdiff.config.decoding import DecodeSettings
from tdiff.core.diffusion.blocks import slide
from tdiff.core.diffusion.decoders import DECODERS
from tdiff.core.diffusion.denoise import Step, denoise
from tdiff.core.diffusion.schedules import schedule
from tdiff.core.models.transformer import Shape, Transformer
from tdiff.errors import TdiffError
from tests.support import oracles
from tests.support.oracles import TableDenoiser

torch.set_num_threads(1)

ALL = tuple(DECODERS)
EVERY = pytest.mark.parametrize("name", ALL)
# The value that a chi-square of so many degrees of freedom passes once in 10,000 times.
CHI_SQUARE = {4: 23.51, 5: 25.74, 6: 27.86, 7: 29.88}
SCHEDULED = ("ancestral", "entropy", "margin", "random", "refill", "remdm", "schedule")


def examples(count: int):
    return settings(derandomize=True, deadline=None, max_examples=count, database=None)


@dataclass
class Case:
    vocab: int
    mask: int
    canvas: torch.Tensor
    frozen: torch.Tensor
    settings: DecodeSettings
    table: int

    def denoiser(self) -> TableDenoiser:
        return TableDenoiser(self.vocab, self.canvas.size(1), self.mask, self.table)

    def run(self, **more) -> list[Step]:
        return list(denoise(self.denoiser(), self.canvas, self.frozen, self.settings, **more))


@st.composite
def cases(draw, names=ALL, max_rows=4) -> Case:
    vocab, length = draw(st.integers(3, 8)), draw(st.integers(1, 16))
    mask = draw(st.integers(0, vocab - 1))
    # Half masks, half anything; a row may well be finished before it begins.
    token = st.one_of(st.just(mask), st.integers(0, vocab - 1))
    rows = st.lists(st.lists(token, min_size=length, max_size=length), min_size=1, max_size=max_rows)
    canvas = torch.tensor(draw(rows))
    given = canvas != mask
    hold = draw(st.lists(st.booleans(), min_size=length, max_size=length))
    name = draw(st.sampled_from(names))
    decode_settings = DecodeSettings(
        decoder=name,
        threshold=draw(st.sampled_from([0.0, 0.5, 0.9, 1.0])),
        k=draw(st.integers(0, 4)),
        parts=draw(st.integers(1, 4)),
        # Without a number of steps, ancestral has 128, which takes long; the others that are scheduled follow suit.
        steps=draw(st.integers(1 if name in SCHEDULED else 0, 9)),
        schedule=draw(st.sampled_from(config.SCHEDULES)),
        temperature=draw(st.sampled_from([0.0, 1.0, 1.5])),
        seed=draw(st.integers(0, 2**32)),
    )
    return Case(vocab, mask, canvas, given & torch.tensor(hold), decode_settings, draw(st.integers(0, 1000)))


def befores(case: Case, steps: list[Step]) -> list[torch.Tensor]:
    return [case.canvas, *(step.tokens for step in steps)][: len(steps)]


def test_the_decoders_tested_here_are_all_there_are():
    assert sorted(DECODERS) == sorted(ALL)


@given(cases())
@examples(100)
def test_every_decoder_ends_within_its_bound_and_leaves_no_mask(case):
    most = int((case.canvas == case.mask).sum(1).max())
    name, cap = case.settings.decoder, case.settings.steps or oracles.DEFAULT_STEPS.get(case.settings.decoder, 0)
    steps = case.run()
    # Only ancestral and remdm may have steps that unmask nothing, and only refill and remdm take positions back.
    longest = cap if name in ("ancestral", "refill", "remdm") else min(most, cap or most)
    assert len(steps) <= longest
    assert [step.index for step in steps] == list(range(1, len(steps) + 1))
    last = steps[-1].tokens if steps else case.canvas
    assert (last != case.mask).all()
    assert ((last >= 0) & (last < case.vocab)).all()


@given(cases())
@examples(80)
def test_no_step_changes_frozen_positions(case):
    for step in case.run():
        assert (step.tokens == case.canvas)[case.frozen].all()
        assert (step.draft == case.canvas)[case.frozen].all()
        assert (step.confidence == 1)[case.frozen].all()


@given(cases())
@examples(60)
def test_a_row_without_masks_is_never_touched_nor_given_to_the_model(case):
    full = torch.full((1, case.canvas.size(1)), (case.mask + 1) % case.vocab)
    denoiser = case.denoiser()
    canvas = torch.cat((full, case.canvas))
    frozen = torch.cat((torch.zeros_like(full, dtype=torch.bool), case.frozen))
    for step in denoise(denoiser, canvas, frozen, case.settings):
        assert (step.tokens[0] == full[0]).all()
        assert not step.committed[0].any() and not step.remasked[0].any() and step.calls[0] == 0
    assert full[0].tolist() not in [row for call in denoiser.seen for row in call]


@given(cases())
@examples(80)
def test_every_field_of_a_step_agrees_with_the_tokens_before_and_after(case):
    steps = case.run()
    confidence = (case.canvas != case.mask).float()
    for before, step in zip(befores(case, steps), steps, strict=True):
        was, now = before == case.mask, step.tokens == case.mask
        assert step.masked.equal(now)
        assert step.committed.equal(was & ~now)
        assert step.remasked.equal(~was & now)
        # What was neither committed nor remasked is as it was, token and confidence.
        same = ~step.committed & ~step.remasked
        assert step.tokens[same].equal(before[same])
        assert step.confidence[same].equal(confidence[same])
        assert (step.confidence[now] == 0).all()
        assert ((step.confidence[step.committed] > 0) & (step.confidence[step.committed] <= 1)).all()
        # The draft is the text, and a proposal where there is none yet.
        assert step.draft[~now].equal(step.tokens[~now])
        assert (step.draft != case.mask).all()
        confidence = step.confidence


@given(cases(names=("confidence", "random", "schedule", "topk")))
@examples(80)
def test_every_step_unmasks_a_position_in_every_unfinished_row_and_remasks_none(case):
    steps = case.run()
    for before, step in zip(befores(case, steps), steps, strict=True):
        unfinished = (before == case.mask).any(1)
        assert step.committed.any(1).equal(unfinished)
        assert not step.remasked.any()


@given(cases())
@examples(80)
def test_the_model_is_given_just_the_rows_that_are_unfinished_and_changed(case):
    denoiser = case.denoiser()
    counted = torch.zeros(len(case.canvas), dtype=torch.int64)
    before, changed = case.canvas, torch.ones(len(case.canvas), dtype=torch.bool)
    total = (~case.frozen).sum(1)
    for step in denoise(denoiser, case.canvas, case.frozen, case.settings):
        left = (before == case.mask).sum(1)
        due = changed & (left > 0)
        counted += due
        if due.any():
            assert denoiser.seen.pop() == before[due].tolist()
            assert denoiser.shares.pop() == pytest.approx((left / total)[due].tolist())
        assert denoiser.seen == []
        assert step.calls.equal(counted)
        changed = (step.tokens != before).any(1)
        before = step.tokens


@given(cases(names=("ancestral",)))
@examples(60)
def test_ancestral_calls_the_model_as_often_as_it_changes_a_row(case):
    # A step that unmasks nothing costs nothing: the logits that were there serve again.
    steps = case.run()
    revealing = sum(step.committed.any(1).long() for step in steps)
    if steps:
        assert steps[-1].calls.equal(revealing)


def test_ancestral_with_more_steps_than_positions_has_empty_steps():
    case = Case(5, 0, torch.zeros(1, 4, dtype=torch.int64), torch.zeros(1, 4, dtype=torch.bool), DecodeSettings(), 1)
    case.settings = DecodeSettings(decoder="ancestral", steps=64, seed=1)
    denoiser = case.denoiser()
    steps = list(denoise(denoiser, case.canvas, case.frozen, case.settings))
    assert len(steps) > 10
    assert len(denoiser.seen) <= 4


COMPARED = [f.name for f in fields(Step) if f.compare]
"""The fields of Step that say what a step did: all but what made it."""


def assert_same(one: Step, other: Step) -> None:
    """Assert that two steps did the same."""
    for name in COMPARED:
        a, b = getattr(one, name), getattr(other, name)
        assert a.equal(b) if isinstance(a, torch.Tensor) else a == b, name


def test_all_fields_of_a_step_but_what_made_it_are_compared():
    assert [f.name for f in fields(Step) if f.name not in COMPARED] == ["made_by"]


@given(cases())
@examples(40)
def test_every_decoder_repeats_itself_from_its_seed(case):
    first, again = case.run(), case.run()
    assert len(first) == len(again)
    for one, other in zip(first, again, strict=True):
        assert_same(one, other)


@pytest.mark.parametrize("name", ["ancestral", "random", "refill"])
def test_another_seed_is_another_text(name):
    canvas = torch.zeros(1, 24, dtype=torch.int64)
    texts = [
        list(denoise(TableDenoiser(9, 24, 0, seed=1), canvas, settings=DecodeSettings(decoder=name, seed=seed)))[-1]
        for seed in (1, 2)
    ]
    assert not texts[0].tokens.equal(texts[1].tokens)


def test_another_row_is_another_text_although_the_canvas_is_the_same():
    canvas = torch.zeros(2, 24, dtype=torch.int64)
    last = list(denoise(TableDenoiser(9, 24, 0, seed=1), canvas, settings=DecodeSettings(decoder="ancestral")))[-1]
    assert not last.tokens[0].equal(last.tokens[1])


@given(cases(max_rows=5))
@examples(80)
def test_a_row_decodes_the_same_alone_as_in_a_batch(case):
    names = torch.arange(len(case.canvas)) * 7 + 3
    together = case.run(rows=names)
    for row in range(len(case.canvas)):
        one = slice(row, row + 1)
        alone = list(
            denoise(case.denoiser(), case.canvas[one], case.frozen[one], case.settings, rows=names[one]),
        )
        assert len(alone) <= len(together)
        for name in COMPARED:
            if name in ("index", "likeliest"):  # no tensor of rows, and only on request
                continue
            for a, b in zip(alone, together, strict=False):
                assert getattr(a, name)[0].equal(getattr(b, name)[row]), name
            # Once finished, the row rests: nothing is committed any more, the counters stand.
            for b in together[len(alone) :]:
                still = alone[-1] if alone else None
                if name in ("committed", "remasked", "masked"):
                    assert not getattr(b, name)[row].any()
                elif still is not None:
                    assert getattr(b, name)[row].equal(getattr(still, name)[0]), name


def small_transformer(conditioned: bool) -> Transformer:
    shape = Shape(
        vocab_size=12,
        mask_id=0,
        suppressed=(0, 1),
        layers=2,
        heads=2,
        width=16,
        window=24,
        time_conditioning=conditioned,
    )
    model = Transformer(shape)
    generator = torch.Generator().manual_seed(5)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.4, generator=generator)
    return model.eval()


@pytest.mark.parametrize("conditioned", [False, True], ids=["plain", "time conditioning"])
def test_logits_of_a_transformer_do_not_depend_on_the_batch(conditioned):
    model, generator = small_transformer(conditioned), torch.Generator().manual_seed(6)
    tokens = torch.randint(2, 12, (7, 24), generator=generator)
    where = torch.rand(7, 24, generator=generator) < 0.4
    tokens[where] = 0
    share = where.float().mean(1)
    with torch.inference_mode():
        together = model(tokens, share, where).split(where.sum(1).tolist())
        for row in range(7):
            alone = model(tokens[row : row + 1], share[row : row + 1], where[row : row + 1])
            torch.testing.assert_close(alone, together[row], rtol=0, atol=1e-5)


@EVERY
def test_a_transformer_is_decoded_to_the_end_without_suppressed_tokens(name):
    model = small_transformer(True)
    canvas = torch.zeros(3, 24, dtype=torch.int64)
    canvas[1, :5], canvas[2] = 4, 5
    steps = list(denoise(model, canvas, settings=DecodeSettings(decoder=name, steps=6, temperature=1.0)))
    assert (steps[-1].tokens > 1).all()
    assert (steps[-1].tokens[1, :5] == 4).all() and (steps[-1].tokens[2] == 5).all()


def test_finished_rows_leave_the_batch():
    # Rows with 1, 3 and 6 masks, one position a step: the batch has to shrink from 3 rows to 1.
    canvas = torch.ones(3, 6, dtype=torch.int64)
    for row, masks in enumerate((1, 3, 6)):
        canvas[row, :masks] = 0
    denoiser = TableDenoiser(4, 6, 0, seed=2)
    steps = list(denoise(denoiser, canvas, settings=DecodeSettings(decoder="topk", k=1)))
    assert [len(rows) for rows in denoiser.seen] == [3, 2, 2, 1, 1, 1]
    assert steps[-1].calls.tolist() == [1, 3, 6]


@pytest.mark.parametrize("name", ["confidence", "topk"])
def test_positions_masked_at_the_last_step_are_unmasked_and_counted_as_forced(name):
    canvas = torch.zeros(2, 10, dtype=torch.int64)
    canvas[1, :8] = 1  # two positions: finished before the cap, nothing forced
    decode_settings = DecodeSettings(decoder=name, threshold=1.0, k=1, steps=4)
    steps = list(denoise(TableDenoiser(6, 10, 0, seed=3), canvas, settings=decode_settings))
    assert len(steps) == 4
    assert [step.committed[0].sum().item() for step in steps] == [1, 1, 1, 7]
    # The rule itself would have taken one of the last seven.
    assert [step.forced.tolist() for step in steps] == [[0, 0]] * 3 + [[6, 0]]


@given(cases(names=SCHEDULED))
@examples(40)
def test_a_scheduled_decoder_forces_nothing(case):
    assert all(not step.forced.any() for step in case.run())


@given(cases(names=("confidence", "topk")))
@examples(40)
def test_without_a_cap_nothing_is_forced(case):
    case.settings = DecodeSettings(decoder=case.settings.decoder, threshold=case.settings.threshold, k=case.settings.k)
    assert all(not step.forced.any() for step in case.run())


def test_frozen_position_with_a_mask_is_an_error():
    canvas = torch.tensor([[1, 0, 2]])
    with pytest.raises(TdiffError, match="frozen position holds a mask"):
        next(denoise(TableDenoiser(4, 3, 0, seed=1), canvas, torch.tensor([[False, True, False]])))


def test_by_default_all_that_holds_a_token_is_frozen():
    canvas = torch.tensor([[1, 0, 2, 0, 0, 3]])
    steps = list(denoise(TableDenoiser(5, 6, 0, seed=1), canvas, settings=DecodeSettings(decoder="refill", steps=5)))
    assert all((step.tokens == canvas)[canvas != 0].all() for step in steps)


@EVERY
def test_a_canvas_without_masks_takes_no_step_and_no_call(name):
    denoiser = TableDenoiser(5, 3, 0, seed=1)
    decode_settings = DecodeSettings(decoder=name)
    assert (
        list(denoise(denoiser, torch.tensor([[1, 2, 3]]), torch.zeros(1, 3, dtype=torch.bool), decode_settings)) == []
    )
    assert denoiser.seen == []


@EVERY
def test_a_half_filled_canvas_with_nothing_frozen_is_decoded_to_the_end(name):
    # A fork: what an earlier run had unmasked is there, but is not sacred.
    canvas = torch.zeros(4, 20, dtype=torch.int64)
    canvas[:, ::2] = 1
    free = torch.zeros_like(canvas, dtype=torch.bool)
    decode_settings = DecodeSettings(decoder=name, steps=5, seed=4)
    steps = list(denoise(TableDenoiser(6, 20, 0, seed=4), canvas, free, decode_settings))
    assert (steps[-1].tokens != 0).all()
    if name == "refill":
        # Of 20 maskable positions 16 are masked after the first of 5 steps: more than the 10 that were.
        assert steps[0].masked.sum(1).tolist() == [16] * 4
        assert steps[0].remasked.any(1).all()
    else:
        assert (steps[-1].tokens == canvas)[canvas != 0].all()


def test_canvas_with_fewer_masks_than_scheduled_unmasks_one_position_per_step():
    canvas = torch.ones(1, 20, dtype=torch.int64)
    canvas[0, :4] = 0
    free = torch.zeros_like(canvas, dtype=torch.bool)
    decode_settings = DecodeSettings(decoder="schedule", steps=10)
    steps = list(denoise(TableDenoiser(6, 20, 0, seed=4), canvas, free, decode_settings))
    assert [step.masked.sum().item() for step in steps] == [3, 2, 1, 0]


def test_stopping_early_costs_no_further_call():
    denoiser = TableDenoiser(6, 10, 0, seed=4)
    run = denoise(denoiser, torch.zeros(1, 10, dtype=torch.int64), settings=DecodeSettings(decoder="topk", k=1))
    for _ in range(3):
        next(run)
    run.close()
    assert len(denoiser.seen) == 3


def test_given_canvas_is_not_modified():
    canvas = torch.zeros(2, 10, dtype=torch.int64)
    list(denoise(TableDenoiser(6, 10, 0, seed=4), canvas, settings=DecodeSettings(decoder="refill")))
    assert not canvas.any()


@pytest.mark.parametrize("curve", config.SCHEDULES)
def test_ancestral_unmasks_positions_with_the_probability_of_the_schedule(curve):
    # 200 rows of 30 positions: a position is unmasked at step n with probability hidden(t) - hidden(s), on its own.
    steps, rows, length = 6, 200, 30
    run = denoise(
        TableDenoiser(3, length, 0, seed=1, contextual=False),
        torch.zeros(rows, length, dtype=torch.int64),
        settings=DecodeSettings(decoder="ancestral", steps=steps, schedule=curve, seed=21),
    )
    counts = [step.committed.sum().item() for step in run]
    grid = schedule(curve).grid(steps)
    expected = [rows * length * (grid[n] - grid[n + 1]) for n in range(steps)]
    assert sum(counts) == rows * length
    assert sum((n - e) ** 2 / e for n, e in zip(counts, expected, strict=True)) < CHI_SQUARE[5]


def test_number_of_positions_that_ancestral_unmasks_per_step_is_binomial():
    # First of two steps: each of 6 positions with probability 1/2, so 1, 6, 15, 20, 15, 6, 1 of 64.
    rows = 1280
    step = next(
        denoise(
            TableDenoiser(3, 6, 0, seed=1, contextual=False),
            torch.zeros(rows, 6, dtype=torch.int64),
            settings=DecodeSettings(decoder="ancestral", steps=2, seed=22),
        )
    )
    counts = torch.bincount(step.committed.sum(1), minlength=7).tolist()
    expected = [rows * math.comb(6, n) / 64 for n in range(7)]
    assert sum((n - e) ** 2 / e for n, e in zip(counts, expected, strict=True)) < CHI_SQUARE[6]


def test_ancestral_samples_tokens_from_the_model():
    # All in one step, 6,000 positions alike.
    denoiser = TableDenoiser(6, 30, 0, seed=1, contextual=False)
    denoiser.tables = denoiser.tables[:1, :1].expand(1, 30, 6).contiguous()
    canvas = torch.zeros(200, 30, dtype=torch.int64)
    (step,) = denoise(denoiser, canvas, settings=DecodeSettings(decoder="ancestral", steps=1, seed=23))
    expected = [6000 * p for p in oracles.softmax(denoiser.tables[0, 0].tolist())]
    counts = torch.bincount(step.tokens.flatten(), minlength=6).tolist()
    assert counts[0] == 0
    assert sum((n - e) ** 2 / e for n, e in zip(counts[1:], expected[1:], strict=True)) < CHI_SQUARE[4]


@st.composite
def long_cases(draw):
    window = draw(st.integers(1, 8))
    overlap = draw(st.integers(0, window - 1))
    return draw(cases(max_rows=3)), window, overlap


@given(long_cases())
@examples(100)
def test_sliding_covers_the_canvas_and_every_step_is_one_of_the_whole_canvas(long_case):
    case, window, overlap = long_case
    total = torch.zeros(len(case.canvas), dtype=torch.int64)
    before, calls, forced, confidence = case.canvas, total, total, (case.canvas != case.mask).float()
    run = slide(case.denoiser(), case.canvas, window, overlap, case.settings, frozen=case.frozen)
    for index, step in enumerate(run, 1):
        assert step.index == index
        was, now = before == case.mask, step.tokens == case.mask
        assert step.masked.equal(now)
        assert step.committed.equal(was & ~now)
        assert step.remasked.equal(~was & now)
        assert (step.tokens == case.canvas)[case.frozen].all()
        same = ~step.committed & ~step.remasked
        assert step.tokens[same].equal(before[same])
        assert step.confidence[same].equal(confidence[same])
        assert (step.calls >= calls).all() and (step.forced >= forced).all()
        before, calls, forced, confidence = step.tokens, step.calls, step.forced, step.confidence
    assert (before != case.mask).all()


@given(long_cases())
@examples(60)
def test_sliding_agrees_with_its_oracle(long_case):
    case, window, overlap = long_case
    case.canvas, case.frozen = case.canvas[:1], case.frozen[:1]
    steps = list(slide(case.denoiser(), case.canvas, window, overlap, case.settings, frozen=case.frozen))
    text, count = oracles.slide(
        case.denoiser(), case.canvas[0].tolist(), case.frozen[0].tolist(), window, overlap, case.settings
    )
    assert len(steps) == count
    assert (steps[-1].tokens if steps else case.canvas)[0].tolist() == text


@given(cases(names=[name for name in ALL if name != "autoregressive"]))  # whose blocks are positions
@examples(30)
def test_sliding_in_one_window_is_denoising(case):
    length = case.canvas.size(1)
    slid = list(slide(case.denoiser(), case.canvas, length, length - 1, case.settings, frozen=case.frozen))
    plain = case.run()
    assert len(slid) == len(plain)
    for one, other in zip(slid, plain, strict=True):
        assert_same(one, other)


def test_sliding_gives_the_model_no_more_than_its_window_and_the_overlap_as_context():
    denoiser = TableDenoiser(6, 8, 0, seed=4)
    canvas = torch.zeros(1, 20, dtype=torch.int64)
    *_, last = slide(denoiser, canvas, 8, 3, DecodeSettings(decoder="topk", k=8))
    text = last.tokens[0].tolist()
    # One call each: positions 0-7, then 5-12 of which 5-7 are known, then 10-17, then 15-19.
    assert [call[0] for call in denoiser.seen] == [
        [0] * 8,
        text[5:8] + [0] * 5,
        text[10:13] + [0] * 5,
        text[15:18] + [0] * 2,
    ]


def test_sliding_canvas_has_new_noise_in_every_window():
    # The same canvas and table in each window: noise that named positions by the window would repeat itself.
    denoiser = TableDenoiser(9, 12, 0, seed=4, contextual=False)
    *_, last = slide(denoiser, torch.zeros(1, 24, dtype=torch.int64), 12, 0, DecodeSettings(decoder="ancestral"))
    assert not last.tokens[0, :12].equal(last.tokens[0, 12:])


@pytest.mark.parametrize("overlap", [-1, 8, 9])
def test_an_overlap_outside_the_window_is_an_error(overlap):
    canvas = torch.zeros(1, 20, dtype=torch.int64)
    with pytest.raises(TdiffError, match="overlap"):
        next(slide(TableDenoiser(6, 8, 0, seed=4), canvas, 8, overlap))
