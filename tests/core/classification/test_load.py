"""Classifiers from one model per class."""

import random
from collections import deque
from dataclasses import replace

import pytest
import torch

from tdiff.core.classification.load import from_model, from_models
from tdiff.core.classification.prediction import Effort
from tdiff.core.memory import Portions
from tdiff.core.models.load import load_model
from tdiff.core.models.transformer import Transformer
from tdiff.errors import TdiffError
from tests.core.evaluation.test_causal_judge import make as make_causal
from tests.support.classifying import model as model
from tests.support.classifying import sentence


def test_incompatible_models_per_class_are_refused(loaded, model, tmp_path):
    ours = load_model(str(model))
    causal = load_model(str(make_causal(tmp_path / "gpt2", bos=True)))
    with pytest.raises(TdiffError, match="their likelihoods cannot be compared"):
        from_models({"a": loaded["roberta"], "b": causal}, "cpu")
    with pytest.raises(TdiffError, match="have different tokenizers: train them with the same one"):
        from_models({"a": loaded["roberta"], "b": ours}, "cpu")
    with pytest.raises(TdiffError, match="at least two classes"):
        from_models({"a": ours}, "cpu")


def test_causal_model_without_begin_token_cannot_score_a_single_token(tmp_path):
    models = {name: load_model(str(make_causal(tmp_path / name, bos=False))) for name in ("a", "b")}
    classifier = from_models(models, "cpu")
    one = classifier.encode("a")[:1]
    assert not classifier.can_score(one)
    assert classifier.can_score(classifier.encode("a b c"))


def test_what_fits_into_memory_is_found_once_for_all_texts_of_a_classifier(model, monkeypatch):
    classifier = from_model(load_model(str(model)), "cpu")
    logits, sizes = Transformer.logits, []

    def limited(network, inputs, *rest):
        sizes.append(len(inputs.tokens))
        if len(inputs.tokens) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return logits(network, inputs, *rest)

    monkeypatch.setattr(Transformer, "logits", limited)
    draw = random.Random(1)
    texts = [classifier.encode(sentence(draw, label)) for label in ("bad", "good")]
    for again in range(2):
        deque(replace(classifier, priors=(0.25, 0.75)).predict(texts, Effort(draws=2)), maxlen=0)
        assert (max(sizes) > 1) == (again == 0)
        sizes.clear()


def test_portions_have_at_most_the_rows_of_a_call_and_remember_what_fits():
    portions, sizes = Portions("cpu", "a row"), []

    def work(rows):
        sizes.append(len(rows))
        if len(rows) > 2:
            raise MemoryError
        return list(rows)

    assert [n for rows in portions(range(9), work, 5) for n in rows] == list(range(9))
    assert sizes == [5, 2, 2, 2, 2, 1]
    sizes.clear()
    assert len(list(portions(range(4), work, 3))) == len(list(portions(range(4), work))) == 2
    assert sizes == [2] * 4
    assert [len(rows) for rows in portions(range(3), work, 1)] == [1] * 3
    assert portions.most == 2


def test_what_fits_is_remembered_in_positions_so_that_long_rows_do_not_limit_short_ones():
    portions, calls = Portions("cpu", "a row"), []

    def limited(length):
        def work(rows):
            calls.append(len(rows))
            if len(rows) * length > 8 * 1024:
                raise MemoryError

        return work

    deque(portions(range(32), limited(1024), row_length=1024), maxlen=0)
    assert calls == [32, 16, 8, 8, 8, 8] and portions.most == 8 * 1024
    calls.clear()
    deque(portions(range(512), limited(16), row_length=16), maxlen=0)
    assert calls == [512]
    calls.clear()
    deque(portions(range(2), limited(9000 // 2), row_length=9000), maxlen=0)
    assert calls == [1, 1], "a row longer than all that fits is tried alone"


def test_a_long_text_does_not_divide_the_batches_of_short_ones(model, monkeypatch):
    classifier = from_model(load_model(str(model)), "cpu")
    logits, sizes, limit = Transformer.logits, [], []

    def limited(network, inputs, *rest):
        sizes.append(inputs.tokens.size(0))
        if limit and inputs.tokens.numel() > limit[0]:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return logits(network, inputs, *rest)

    monkeypatch.setattr(Transformer, "logits", limited)
    short, long = classifier.encode("good day"), classifier.encode("good day " * 40)
    deque(classifier.predict([short], Effort(draws=2)), maxlen=0)
    largest = max(sizes)
    limit.append(2 * classifier.window)  # two windows of the long text
    deque(classifier.predict([long], Effort(draws=2)), maxlen=0)
    sizes.clear()
    deque(classifier.predict([short], Effort(draws=2)), maxlen=0)
    assert max(sizes) == largest > 1
