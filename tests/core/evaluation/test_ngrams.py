"""N-gram models of symbols and of words, against slow definitions and against texts that must not pass."""

import math
import random
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from tdiff.core.evaluation.ngrams import NGrams, WordNGrams, pieces, sentence_lengths
from tdiff.errors import TdiffError
from tests.support.runs import words as made_up

FEW = examples(derandomize=True, deadline=None, max_examples=60, database=None)
SYMBOLS = st.lists(st.integers(0, 3), min_size=1, max_size=40)


def slow(training, order, history, symbol, size):
    """Witten-Bell by its definition, counting anew each time."""
    if order == 0:
        return 1 / size
    context = history[len(history) - (order - 1) :] if order > 1 else []
    below = slow(training, order - 1, history, symbol, size)
    if len(context) < order - 1:
        return below
    n = len(context)
    after = [training[i + n] for i in range(len(training) - n) if training[i : i + n] == context]
    if not after:
        return below
    return (after.count(symbol) + len(set(after)) * below) / (len(after) + len(set(after)))


@FEW
@given(SYMBOLS, SYMBOLS)
def test_probabilities_match_the_definition(training, text):
    p = NGrams(torch.tensor(training), 3, 4).probabilities(torch.tensor(text))
    expected = [slow(training, 3, text[:n], symbol, 4) for n, symbol in enumerate(text)]
    assert p.tolist() == pytest.approx(expected)


@FEW
@given(SYMBOLS, st.lists(st.integers(0, 4), min_size=1, max_size=6))
def test_probabilities_of_all_symbols_sum_to_one(training, history):
    model = NGrams(torch.tensor(training), 3, 5)
    total = sum(float(model.probabilities(torch.tensor([*history, symbol]))[-1]) for symbol in range(5))
    assert total == pytest.approx(1)


@examples(FEW, max_examples=8)
@given(st.lists(st.integers(0, 2), min_size=8, max_size=40), st.lists(st.integers(0, 2), max_size=2))
def test_samples_have_the_probabilities_of_the_model(training, history):
    model, draw = NGrams(torch.tensor(training), 3, 3), random.Random(1)
    counted = Counter(model.sample(history, draw) for _ in range(300))
    for symbol in range(3):
        p = float(model.probabilities(torch.tensor([*history, symbol]))[-1])
        assert counted[symbol] / 300 == pytest.approx(p, abs=5 * math.sqrt(p * (1 - p) / 300) + 1e-9)


def test_seen_marks_the_trigrams_of_the_training_text():
    model = NGrams(torch.tensor([1, 2, 3, 1, 2]), 3, 4)
    assert model.seen(torch.tensor([1, 2, 3, 2, 1])).tolist() == [True, False, False]
    assert model.seen(torch.tensor([1, 2])).tolist() == []


def test_a_model_without_text_is_refused():
    with pytest.raises(TdiffError, match="requires training text"):
        NGrams(torch.tensor([], dtype=torch.int64), 3, 4)
    with pytest.raises(TdiffError, match="requires training text"):
        WordNGrams("")


@FEW
@given(st.text("ab '.\n\u00e9\u4e2d", max_size=40))
def test_pieces_join_to_the_text(text):
    assert "".join(pieces(text)) == text


@FEW
@given(st.text("ab .\n\u00e9", min_size=1, max_size=60), st.text("abc .\n\u4e2d", max_size=40))
def test_every_text_has_a_finite_likelihood(training, text):
    assert 0 <= WordNGrams(training).nats(text) < math.inf


def test_a_vocabulary_word_and_an_unknown_word_have_probabilities_that_sum_to_at_most_one():
    judge = WordNGrams("the cat sat . the cat ran . the dog sat . ")
    words = [" cat", " dog", " sat", " ran", " .", " bird", " a", "\n"]
    total = sum(math.exp(-judge.nats("the" + word, start=3) * len(word)) for word in words)
    assert 0.5 < total <= 1


def test_real_text_is_likelier_than_sampled_and_than_shuffled_text():
    text = made_up(6000)
    judge, real = WordNGrams(text[:5000]), text[5000:]
    shuffled = pieces(real)
    random.Random(1).shuffle(shuffled)
    assert judge.nats(real) < judge.nats("".join(shuffled))
    assert judge.seen_share(real) > judge.seen_share("".join(shuffled))


def test_a_sample_continues_the_prompt_with_words_of_the_corpus_and_by_seed():
    judge = WordNGrams(made_up(3000))
    sample = judge.sample("the hare", 200, seed=1)
    assert sample == judge.sample("the hare", 200, seed=1) != judge.sample("the hare", 200, seed=2)
    assert sample.startswith("the hare") and len(sample) >= 208
    assert set(sample.split()) <= set(made_up(3000).split())


def test_nats_exclude_the_prompt():
    judge = WordNGrams("one two three one two three one two four ")
    whole, prompt = "one two three", "one"
    assert judge.nats(whole) * len(whole) - judge.nats(prompt) * len(prompt) == pytest.approx(
        judge.nats(whole, len(prompt)) * (len(whole) - len(prompt))
    )
    assert judge.nats("one", 3) == 0


def test_sentence_lengths_count_the_words_of_complete_sentences():
    assert sentence_lengths('He ran. "Why did you run?" she said. Then the') == [2, 4, 2]
    assert sentence_lengths("no end") == []
