"""Tokens that are parts of a character, shown whole once all of it is there."""

import random

import pytest

from tdiff.config.decoding import DecodeSettings
from tdiff.core.diffusion.generate import narrate
from tdiff.core.models.pieces import Pieces
from tdiff.protocol.canvas import Canvas
from tdiff.protocol.trace import TraceEnd, TraceStep
from tdiff.visible import visible
from tests.support.runs import words

SENTENCE = "a café 🙂🙃 日本 sings ß"


@pytest.fixture
def tokenizer(loaded):
    return loaded["roberta"].tokenizer


def shown(tokenizer, ids: list[int], order: list[int]) -> list[list[str]]:
    """What a canvas shows after each of the positions in that order is unmasked."""
    pieces, texts = Pieces(tokenizer), [""] * len(ids)
    canvas, states = [tokenizer.mask_id] * len(ids), []
    for position in order:
        canvas[position] = ids[position]
        for where, text in pieces.changed(canvas, [position]).items():
            texts[where] = text
        states.append(list(texts))
    return states


def test_the_bytes_of_a_character_are_many_tokens(tokenizer):
    ids = tokenizer.encode(SENTENCE).tolist()
    assert sum(i in tokenizer.parts for i in ids) >= 12
    assert not set(tokenizer.encode(words(50)).tolist()) & tokenizer.parts


@pytest.mark.parametrize("seed", range(20))
def test_in_whatever_order_they_come_the_whole_text_is_shown_at_the_end(seed, tokenizer):
    ids = tokenizer.encode(SENTENCE).tolist()
    order = random.Random(seed).sample(range(len(ids)), len(ids))
    assert "".join(shown(tokenizer, ids, order)[-1]) == tokenizer.decode(ids) == SENTENCE


def test_incomplete_characters_are_shown_as_replacement_characters_and_masks_as_nothing(tokenizer):
    ids = tokenizer.encode("🙂").tolist()
    parts = [n for n, i in enumerate(ids) if i in tokenizer.parts]
    assert len(parts) == len(ids) == 4
    states = shown(tokenizer, ids, [1, 0, 3, 2])
    assert states[:3] == [["", "\ufffd", "", ""], ["\ufffd", "\ufffd", "", ""], ["\ufffd", "\ufffd", "", "\ufffd"]]
    assert states[3] == ["🙂", "", "", ""]


def test_a_character_that_loses_a_part_is_whole_no_more(tokenizer):
    ids = tokenizer.encode("🙂").tolist()
    pieces = Pieces(tokenizer)
    assert pieces.changed(ids, [0, 1, 2, 3]) == {0: "🙂", 1: "", 2: "", 3: ""}
    torn = [*ids[:2], tokenizer.mask_id, ids[3]]
    assert pieces.changed(torn, [2]) == {0: "\ufffd", 1: "\ufffd", 3: "\ufffd"}


def test_complete_tokens_are_shown_once_and_the_first_without_its_leading_space(tokenizer):
    ids = tokenizer.encode(" over the").tolist()
    pieces = Pieces(tokenizer)
    texts = pieces.changed(ids, list(range(len(ids))))
    assert texts == {n: (tokenizer.pieces[i] if n else tokenizer.decode([i])) for n, i in enumerate(ids)}


@pytest.mark.parametrize("decoder", ["confidence", "remdm", "random"])
def test_a_trace_of_a_byte_level_model_ends_in_the_very_text(decoder, loaded):
    model = loaded["roberta"]
    for seed in range(5):
        settings = DecodeSettings(decoder=decoder, steps=12, seed=seed)
        header, *lines = narrate(model, "🙂 a", settings, length=8, row=seed)
        canvas = Canvas.begin(header)
        for line in lines:
            canvas.apply(line)
            if isinstance(line, TraceStep):
                assert canvas.left == sum(c < 0 for c in canvas.confidence)
        assert isinstance(lines[-1], TraceEnd)
        shown = "".join(canvas.texts)
        # Where bytes never make a character the two may count the � differently.
        assert shown.replace("\ufffd", "") == visible(lines[-1].text).replace("\ufffd", "")
        assert shown.startswith("🙂 a")
        assert canvas.left == 0
