"""Quality measures of generated text: the n-gram judge against a slow definition, and texts that must not pass."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from tdiff.core.evaluation.ngrams import CharacterNGrams
from tdiff.core.evaluation.quality import Judge, Quality, compare, estimate, paired, words
from tdiff.errors import TdiffError
from tests.support.paths import SHARED
from tests.support.runs import words as made_up

FEW = examples(derandomize=True, deadline=None, max_examples=60, database=None)
SHAKESPEARE = SHARED / "data" / "tinyshakespeare.txt"
REAL = Quality(nats=1.7, distinct=0.9, words=0.95)


def slow(text: str, order: int, history: str, character: str) -> float:
    """Witten-Bell by its definition, counting anew each time."""
    if order == 0:
        return 1 / len(set(text))
    context = history[len(history) - (order - 1) :] if order > 1 else ""
    below = slow(text, order - 1, history, character)
    if len(context) < order - 1:
        return below
    after = [text[i + len(context)] for i in range(len(text) - len(context)) if text[i : i + len(context)] == context]
    if not after:
        return below
    return (after.count(character) + len(set(after)) * below) / (len(after) + len(set(after)))


@FEW
@given(st.text("abc", min_size=1, max_size=30), st.text("abcd", max_size=6), st.sampled_from("abcd"))
def test_ngram_probabilities_match_the_definition(text, history, character):
    p = CharacterNGrams(text, 5).probabilities(history + character)[-1]
    assert float(p) == pytest.approx(slow(text, 5, history, character))


@FEW
@given(st.text("abcd", min_size=1, max_size=40), st.text("abcde", max_size=6))
def test_ngram_probabilities_sum_to_one(text, history):
    model = CharacterNGrams(text, 5)
    assert math.fsum(float(model.probabilities(history + c)[-1]) for c in set(text)) == pytest.approx(1)


def test_nats_exclude_the_characters_before_start():
    ngram = CharacterNGrams("abcabcabc", 5)
    nats = ngram.nats("abca", start=2)
    assert nats == pytest.approx(
        -(math.log(slow("abcabcabc", 5, "ab", "c")) + math.log(slow("abcabcabc", 5, "abc", "a"))) / 2
    )
    assert ngram.nats("ab", start=2) == 0


def test_an_empty_training_text_is_refused():
    with pytest.raises(TdiffError, match="requires training text"):
        Judge("")


@pytest.mark.skipif(not SHAKESPEARE.exists(), reason="Tiny Shakespeare is not beside the project")
def test_judge_figures_on_tiny_shakespeare_are_reproduced():
    text = SHAKESPEARE.read_text("utf-8")
    training, held_out = text[: len(text) * 9 // 10], text[len(text) * 9 // 10 :]
    judge = Judge(training)
    windows = [held_out[i : i + 256] for i in range(0, len(held_out) - 255, 256)]
    assert sum(map(judge.ngrams.nats, windows)) / len(windows) == pytest.approx(1.679, abs=5e-4)
    known = set(words(training))
    assert sum(word in known for word in words(held_out)) / len(words(held_out)) == pytest.approx(0.943, abs=5e-4)


def test_a_loop_a_copy_and_noise_each_differ_from_real_text():
    draw, text = random.Random(3), made_up(3000)
    training, rest = text[:-400], text[-400:]
    judge = Judge(training)
    prompt = rest[:16]
    real = judge.measure(prompt, rest[:256])
    loop = judge.measure(prompt, prompt + "the hare runs " * 17)
    noise = judge.measure(prompt, prompt + "".join(draw.choice("abcdefghijklmnopqrstuvwxyz ") for _ in range(240)))
    assert real.nats < noise.nats
    assert loop.distinct < 0.1 < real.distinct
    assert noise.words < 0.5 < loop.words == real.words == 1.0
    assert len(judge.copied([prompt + training[100:340]])) >= 240


def test_incomplete_words_at_both_ends_do_not_count():
    judge = Judge("the cat sat on the mat. ")
    assert judge.measure("the c", "the cxx sat on the zzz").words == 1.0
    assert judge.measure("the ", "the cxx sat zzz ").words == pytest.approx(1 / 3)
    assert judge.measure("the ", "the 12 34").words == 1.0  # no words at all
    assert words("Don't STOP-now 3x") == ["don't", "stop", "now", "x"]


@FEW
@given(st.text("ab", max_size=40), st.lists(st.text("ab", max_size=20), max_size=4))
def test_the_longest_copied_span_is_found(training, texts):
    judge = Judge(training + "c")
    spans = {text[i:j] for text in texts for i in range(len(text)) for j in range(i + 1, len(text) + 1)}
    longest = max((len(span) for span in spans if span in training + "c"), default=0)
    span = judge.copied(texts)
    assert len(span) == longest and span in training + "c"
    assert not span or any(span in text for text in texts)


def test_intervals_have_the_nominal_coverage():
    draw, held = random.Random(1), 0
    for _ in range(400):
        held += abs((result := estimate([draw.gauss(2, 1) for _ in range(50)])).mean - 2) <= result.half
    assert 0.91 <= held / 400 <= 0.98
    assert estimate([1.0]).half == math.inf
    shared = [draw.gauss(0, 5) for _ in range(200)]
    apart = paired([x + 1 + draw.gauss(0, 0.1) for x in shared], shared)
    assert abs(apart.mean - 1) < 0.05 and apart.half < 0.03  # what both share is not noise


def texts(count: int, seed: int, nats: float = 1.7, distinct: float = 0.9, words: float = 0.95) -> list[Quality]:
    draw = random.Random(seed)
    return [
        Quality(nats + draw.gauss(0, 0.05), distinct + draw.gauss(0, 0.01), words + draw.gauss(0, 0.01))
        for _ in range(count)
    ]


@pytest.mark.parametrize(
    ("worse", "equal"),
    [
        ({}, True),
        ({"nats": 1.6}, False),  # repetition makes it too low
        ({"nats": 1.8}, False),
        ({"distinct": 0.86}, False),
        ({"words": 0.9}, False),
        ({"distinct": 0.95, "words": 0.99}, True),
    ],
)
def test_quality_is_equal_only_if_no_measure_is_worse(worse, equal):
    real = texts(200, 1)
    assert compare(texts(200, 2, **worse), texts(200, 3), real).equal is equal


def test_few_texts_do_not_show_equality():
    assert not compare([REAL], [REAL], [REAL]).equal
