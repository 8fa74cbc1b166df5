"""Prompts with typographic characters."""

from types import SimpleNamespace

import pytest

from tdiff.core.models import tokenizers
from tdiff.core.models.spelling import plain_spelling


def model(text: str, unknown: bool = False):
    tokenizer = tokenizers.learn("char", text, "", unknown)
    return SimpleNamespace(tokenizer=tokenizer, spec=SimpleNamespace(suppressed=tokenizer.suppressed))


@pytest.mark.parametrize("unknown", [False, True])
def test_characters_that_the_vocabulary_lacks_are_written_plainly(unknown):
    plain = model("acfeT\"'-. hlos", unknown)
    assert plain_spelling(plain, "“The cafe’s” — so…\tso") == '"The cafe\'s" -- so... so'
    assert plain_spelling(plain, "The cafe") == "The cafe"


def test_an_accent_is_left_out_only_where_the_letter_would_be_an_unknown_token():
    assert plain_spelling(model("cafe", unknown=True), "café") == "cafe"
    assert plain_spelling(model("cafe"), "café") == "café"  # which the model refuses by its position


def test_characters_that_the_vocabulary_has_or_that_have_no_plain_spelling_are_unchanged():
    assert plain_spelling(model("caf é“”"), "“café”") == "“café”"
    assert plain_spelling(model("abc"), "“a” 猫 é") == "“a” 猫 é"
