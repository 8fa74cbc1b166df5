"""Decoding in blocks and on a sliding canvas."""

import math
from dataclasses import replace

import pytest
import torch

from tdiff.config.decoding import DecodeSettings
from tdiff.core.diffusion.blocks import in_blocks, most_steps, slide
from tdiff.errors import TdiffError
from tests.support.decoding import EVERY, texts
from tests.support.models import StubModel
from tests.support.oracles import TableDenoiser

torch.set_num_threads(1)


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
def test_block_of_all_positions_equals_no_block(name):
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
def test_most_steps_sums_the_steps_of_all_blocks(block, steps, most):
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
    # What is unmasked later lies further right, by the block and the window.
    if block == 1:
        first = [int(step.committed[0].nonzero()[0]) for step in steps if step.committed[0].any()]
        assert first == sorted(first)
    alone = list(slide(TableDenoiser(5, 29, 0, seed=1), canvas[:1], 10, 3, settings))
    assert alone[-1].tokens[0].tolist() == steps[-1].tokens[0].tolist()


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


def test_klass_tracks_stability_of_later_blocks():
    """Positions that were confident and stable in earlier blocks are unmasked without further calls."""
    logits = torch.tensor([-torch.inf, 5.0, 0.0])

    class Still(StubModel):
        mask_id, calls = 0, 0

        def __call__(self, tokens, share, where):
            self.calls += 1
            return logits.expand(int(where.sum()), 3)

    settings = DecodeSettings(decoder="klass", threshold=0.9, history=2, block=4, temperature=0.0)
    denoiser = Still()
    steps = list(in_blocks(denoiser, torch.zeros(2, 12, dtype=torch.int64), settings=settings))
    # Two calls of one position each until what is there is known to be stable, and then a block a call.
    assert [int(step.committed[0].sum()) for step in steps] == [1, 1, 2, 4, 4]
    assert denoiser.calls == 5 and steps[-1].calls.tolist() == [5, 5]


@EVERY
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_non_finite_logits_are_one_error(name, value):
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
