"""Repeated spans: those that one token completes, those that several complete together, and texts without any."""

import random
from collections import Counter

import pytest
import torch

from tdiff.config.decoding import DecodeSettings, laid_over
from tdiff.core.diffusion.blocks import in_blocks, slide
from tdiff.core.diffusion.repetition import completed_together, repeated, without
from tests.support import oracles
from tests.support.decoding import every_place_alike

MASK = 0


def allowed(tokens: list[int], span: int) -> dict[int, list[int]]:
    """Masked position -> the tokens of 0..4 that would repeat a span."""
    row = torch.tensor([tokens])
    masked = row == MASK
    hits = repeated(row, masked, masked, span, 5)
    return {int(i): hits[n].nonzero()[:, 0].tolist() for n, i in enumerate(masked[0].nonzero()[:, 0])}


def test_a_span_is_completed_at_its_first_middle_and_last_position():
    assert allowed([1, 2, 3, 4, MASK, 2, 3], 3) == {4: [1]}
    assert allowed([1, 2, 3, 4, 1, MASK, 3], 3) == {5: [2]}
    assert allowed([1, 2, 3, 4, 1, 2, MASK], 3) == {6: [3]}


def test_a_span_that_overlaps_itself_is_completed_in_its_middle():
    assert allowed([1, MASK, 1, 1, 2], 3) == {1: [1]}
    assert allowed([1, 2, 1, MASK, 1, 2, 3], 4) == {3: [2]}
    assert allowed([1, 2, 1, MASK, 1, 3, 3], 5) == {3: []}


@pytest.mark.parametrize("seed", range(40))
def test_repeating_tokens_agree_with_the_oracle(seed):
    draw = random.Random(seed)
    tokens = [draw.choice([MASK, 1, 1, 2, 2, 3]) for _ in range(draw.randint(1, 14))]
    for span in range(1, 7):
        expected = {i: sorted(oracles.repeats(tokens, MASK, i, span)) for i, t in enumerate(tokens) if t == MASK}
        assert allowed(tokens, span) == expected, (tokens, span)


def test_a_span_that_is_shorter_than_the_limit_may_be_repeated():
    # A name of two tokens, 1 2, occurs twice; a third time is no repetition of three tokens.
    assert allowed([1, 2, 3, 1, 2, 4, 1, MASK], 3) == {7: []}
    assert allowed([1, 2, 3, 1, 2, 4, 1, MASK], 2) == {7: [2]}


def test_a_span_with_two_masks_is_not_known_to_be_a_repetition():
    assert allowed([1, 2, 3, 4, 1, MASK, MASK], 3) == {5: [], 6: []}


def waits(tokens: list[int], new: list[int], score: list[float], span: int) -> list[int]:
    row = torch.tensor([tokens])
    is_new = torch.zeros(row.shape, dtype=torch.bool)
    is_new[0, new] = True
    return completed_together(row, is_new, row == MASK, torch.tensor([score]), span)[0].nonzero()[:, 0].tolist()


def test_of_tokens_that_repeat_a_span_together_the_least_confident_one_waits():
    text = [1, 2, 3, 4, 1, 2, 3]
    assert waits(text, [5, 6], [1, 1, 1, 1, 1, 0.9, 0.8], 3) == [6]
    assert waits(text, [5, 6], [1, 1, 1, 1, 1, 0.8, 0.9], 3) == [5]
    assert waits(text, [5, 6], [1, 1, 1, 1, 1, 0.9, 0.9], 3) == [6]
    assert waits(text, [1, 5], [1, 0.4, 1, 1, 1, 0.9, 1], 3) == [1]  # one in each of the equal spans
    assert waits(text, [6], [1] * 7, 3) == []  # a single one is for `repeated`
    assert waits([1, 2, 3, 4, 1, 2, 4], [5, 6], [1] * 7, 3) == []


def test_a_loop_of_new_tokens_keeps_its_most_confident_one():
    score = [0.5, 0.6, 0.7, 0.9, 0.7, 0.6]
    assert 3 not in waits([1] * 6, [0, 1, 2, 3, 4, 5], score, 2)


def test_a_position_at_which_everything_repeats_keeps_all_tokens():
    logits = torch.tensor([[1.0, 2.0, -torch.inf], [1.0, 2.0, -torch.inf]])
    left = without(logits, torch.tensor([[False, True, False], [True, True, False]]))
    assert left.tolist() == [[1.0, -torch.inf, -torch.inf], [1.0, 2.0, -torch.inf]]


LOOPING = [DecodeSettings(decoder="confidence", threshold=0.02, no_repeat=2, temperature=0.0)]
LOOPING += [DecodeSettings(decoder="topk", k=k, no_repeat=span, seed=k) for k in (1, 5) for span in (2, 3)]
LOOPING += [
    DecodeSettings(decoder=name, no_repeat=2) for name in ("factor", "entropy-bounded", "klass", "autoregressive")
]


def most_common_span(tokens: list[int], span: int) -> int:
    return max(Counter(tuple(tokens[i : i + span]) for i in range(len(tokens) - span + 1)).values())


@pytest.mark.parametrize("settings", LOOPING, ids=lambda s: f"{s.decoder} {s.k} {s.no_repeat}")
def test_no_decoder_repeats_a_span_and_without_the_limit_each_does(settings):
    # One distribution for all positions, as sharp as in a loop.
    denoiser = every_place_alike(20, *(-0.5 * n for n in range(30)))
    start = torch.zeros(2, 20, dtype=torch.int64)
    *_, last = in_blocks(denoiser, start, settings=settings)
    *_, plain = in_blocks(denoiser, start, settings=DecodeSettings(decoder="topk", k=3))
    for row in range(2):
        assert most_common_span(last.tokens[row].tolist(), settings.no_repeat) == 1
        assert most_common_span(plain.tokens[row].tolist(), settings.no_repeat) > 1
    assert last.forced.tolist() == [0, 0]


@pytest.mark.parametrize("block", [0, 3])
def test_a_sliding_canvas_does_not_repeat_a_span_of_an_earlier_window(block):
    denoiser = every_place_alike(8, *(-0.5 * n for n in range(30)))
    settings = DecodeSettings(decoder="topk", k=2, no_repeat=2, block=block)
    *_, last = slide(denoiser, torch.zeros(2, 40, dtype=torch.int64), 8, 3, settings)
    for row in last.tokens.tolist():
        assert MASK not in row and most_common_span(row, 2) == 1


def test_the_models_own_limit_holds_for_every_decoder():
    model = {"decoder": "topk", "k": 4, "no_repeat": 8}
    assert laid_over(model, {"decoder": "confidence"}) == {"decoder": "confidence", "no_repeat": 8}
    assert laid_over(model, {"decoder": "confidence", "no_repeat": 0}) == {"decoder": "confidence", "no_repeat": 0}
    assert laid_over(model, {"temperature": 0.5}) == model | {"temperature": 0.5}
