"""Classifiers from one model per class."""

import pytest

from tdiff.core.classification.load import from_models
from tdiff.core.models.load import load_model
from tdiff.errors import TdiffError
from tests.core.evaluation.test_causal_judge import make as make_causal
from tests.support.classifying import model as model


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
