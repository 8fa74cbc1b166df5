"""Texts that stop at an ending: the same text, cut, in at most as many calls."""

import itertools
import random
from types import SimpleNamespace

import pytest
import torch

from tdiff.config.decoding import DecodeSettings
from tdiff.core.diffusion.blocks import segments, slide
from tdiff.core.diffusion.endings import check_ending, ended_text, resolve_until
from tdiff.errors import TdiffError
from tdiff.protocol.endings import find_end
from tests.support.oracles import TableDenoiser

MASK = 0
PIECES = ["█", "a", "b ", "\n", "c.", " ", "d"]


@pytest.mark.parametrize(
    ("text", "start", "paragraph", "story"),
    [
        ("One day.\nThen.\n\nNew", 3, 8, 14),
        ("One day.\n\nNew", 3, 8, 8),
        ("One\n", 3, None, None),  # nothing is generated before the line break
        ("One\n\n \nTwo\nmore", 3, 10, None),  # a text is never empty
        ("One\ntwo \t\n  \t\nend", 3, 9, 9),
        ("One day", 3, None, None),
        ("One\nday", 7, None, None),
    ],
)
def test_a_text_ends_before_the_first_break_after_a_character_that_was_generated(text, start, paragraph, story):
    assert find_end(text, start, "paragraph") == paragraph
    assert find_end(text, start, "story") == story


def model_of(network, context: int):
    """A model whose tokenizer joins PIECES."""
    spec = SimpleNamespace(mask_id=MASK, context=context)
    tokenizer = SimpleNamespace(decode=lambda ids: "".join(PIECES[int(i)] for i in ids))
    return SimpleNamespace(network=network, tokenizer=tokenizer, spec=spec)


DECODERS = ["confidence", "schedule", "remdm", "refill", "autoregressive"]


@pytest.mark.parametrize("name", DECODERS)
def test_the_text_is_that_without_an_ending_cut_at_its_end_in_fewer_calls(name):
    draw, saved, ends = random.Random(name), 0, 0
    for case in range(10):
        length, context = draw.randint(3, 26), draw.choice([10, 40])
        denoiser = TableDenoiser(len(PIECES), max(length, context), MASK, seed=case)
        model = model_of(denoiser, context)
        settings = DecodeSettings(
            decoder=name, steps=0 if name == "confidence" else 6, block=draw.choice([0, 4]), seed=case
        )
        start = torch.zeros(2, length, dtype=torch.int64)
        start[:, : draw.randint(0, min(8, length - 1))] = 1
        start[:, draw.randint(0, length - 2)] = 2
        rows, kind = torch.tensor([3, 7]), draw.choice(["paragraph", "story"])
        *_, whole = slide(denoiser, start, context, 3, settings, rows=rows)
        *_, last = resolve_until(model, start, settings, rows, 3, kind)
        for row in range(2):
            plain = model.tokenizer.decode(whole.tokens[row])
            given = len(model.tokenizer.decode(whole.tokens[row][: 1 + int((start[row] > 0).nonzero().max())]))
            end = find_end(plain, given, kind)
            ended = ended_text(model, start[row], last.tokens[row].tolist(), kind)
            assert ended.text == plain[:end] and ended.complete == (end is not None)
            assert int(last.calls[row]) <= int(whole.calls[row])
            assert ended.tokens <= int((start[row] == MASK).sum())
            saved += int(whole.calls[row]) - int(last.calls[row])
            ends += ended.complete
    assert ends > 5 and saved > 5


@pytest.mark.parametrize("block", [0, 3, 4])
def test_segments_are_the_order_in_which_positions_become_final(block):
    frozen = torch.zeros(23, dtype=torch.bool)
    frozen[[0, 1, 12]] = True
    found = segments(DecodeSettings(block=block), frozen, 10, 3)
    assert found[0][0] == 2 and found[-1][1] == 23
    assert all(last <= first for (_, last), (first, _) in itertools.pairwise(found))
    covered = {i for first, last in found for i in range(first, last)}
    assert covered >= {i for i in range(23) if not frozen[i]}


def test_text_that_is_given_at_the_end_is_never_cut():
    check_ending(torch.tensor([1, MASK]), MASK)
    with pytest.raises(TdiffError, match="ends in text that is given"):
        check_ending(torch.tensor([1, MASK, 2]), MASK)
