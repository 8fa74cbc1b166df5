"""Classification by words in a masked slot."""

import pytest
import torch

from tdiff.core.classification import cloze
from tdiff.core.classification.cloze import from_words
from tdiff.core.classification.prediction import Effort
from tdiff.errors import TdiffError


def test_cloze_posterior_is_that_of_the_logits_at_the_slot(loaded):
    model = loaded["bert"]
    words = [piece for piece in model.tokenizer.pieces if piece.strip().isalpha()][:3]
    found = from_words(model, {"x": words[:1], "y": words[1:3]}, "{text} {mask}", "cpu")
    ids = found.encode(" ".join(words))
    [look] = found.predict([ids], Effort())
    network, verdict = model.network, look.prediction
    line = torch.cat((ids, torch.tensor([network.spec.mask_id])))[None]
    where = line == network.spec.mask_id
    logits = network(line, torch.tensor([1 / line.size(1)]), where)[0].double()
    p = logits.softmax(0)
    one, two = (float(p[list(ids)].sum()) for ids in found.words)
    assert verdict.posterior == pytest.approx((one / (one + two), two / (one + two)), rel=1e-4)
    assert look.final and verdict.draws == 1


@pytest.mark.parametrize(
    ("words", "pattern", "says"),
    [
        ({"a": ["x"]}, cloze.PATTERN, "at least two classes"),
        ({"a": ["x"], "b": ["y"]}, "{mask} {text}", "must begin with {text} and contain {mask}"),
        ({"a": ["x"], "b": ["y"]}, "{text} no slot", "contain {mask} once after it"),
        ({"a": ["x"], "b": ["antidisestablishmentarianism"]}, "{text} {mask}", "must be one token of"),
    ],
)
def test_invalid_cloze_words_or_pattern_are_refused(words, pattern, says, loaded):
    with pytest.raises(TdiffError) as error:
        from_words(loaded["bert"], words, pattern, "cpu")
    assert says in str(error.value)
