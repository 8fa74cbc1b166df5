"""What a class adds to the logits for pairs of neighbouring tokens."""

import itertools
import json
import random

import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from tdiff.core.classification.load import from_model
from tdiff.core.classification.prediction import Effort
from tdiff.core.models import labels
from tdiff.core.models.labels import Pairs
from tdiff.core.models.load import load_model
from tdiff.core.models.transformer import Transformer
from tdiff.errors import TdiffError
from tests.core.models.test_transformer import network, shape
from tests.support.runs import After, settings_of, train_in

FEW = examples(derandomize=True, deadline=None, max_examples=200, database=None)
MASK = 6
PAIRED = {"data": {"classes": True, "rows": "padded"}, "model": {"pairs": 500}}


def drawn(seed: int, classes: int = 2) -> Pairs:
    """Seven tokens, the last one the mask."""
    pairs = Pairs(classes, 50, 7).double()
    torch.nn.init.normal_(pairs.weight, generator=torch.Generator().manual_seed(seed))
    return pairs


def by_hand(pairs: Pairs, canvas: list[list[int]], real: list[list[bool]], label: list[int]) -> torch.Tensor:
    """What each class has for each of the positions that are masked, in their order."""
    rows = []
    for r, row in enumerate(canvas):
        for position in (p for p, token in enumerate(row) if token == MASK and real[r][p]):
            total = torch.zeros(7, dtype=torch.float64)
            for side, near in ((0, position - 1), (1, position + 1)):
                if 0 <= near < len(row) and row[near] != MASK and real[r][near] and label[r] < pairs.classes:
                    begin = int(pairs.begins[row[near]])
                    total += 4 * pairs.weight[label[r], side, begin : begin + 7]
            rows.append(total)
    return torch.stack(rows)


@FEW
@given(st.integers(0, 1 << 30))
def test_pair_logits_of_a_masked_position_depend_on_its_visible_neighbours_and_the_class(seed):
    draw, pairs = random.Random(seed), drawn(seed)
    rows, length = draw.randrange(1, 4), draw.randrange(1, 6)
    canvas = [[draw.choice([MASK, draw.randrange(MASK)]) for _ in range(length)] for _ in range(rows)]
    canvas[0][0] = MASK
    real = [[True, *(draw.random() < 0.8 for _ in range(length - 1))] for _ in range(rows)]
    label = [draw.randrange(3) for _ in range(rows)]  # 2: of no class
    tokens, visible = torch.tensor(canvas), (torch.tensor(canvas) != MASK) & torch.tensor(real)
    where = (tokens == MASK) & torch.tensor(real)
    before = torch.randn(int(where.sum()), 7, dtype=torch.float64)
    with torch.no_grad():
        after = pairs(before.clone(), tokens, visible, torch.tensor(label), where)
        torch.testing.assert_close(after - before, by_hand(pairs, canvas, real, label))


def test_gradients_of_pairs_match_finite_differences():
    pairs, tokens = drawn(0), torch.tensor([[1, MASK, 2], [MASK, 3, MASK], [MASK, MASK, 1]])
    where, label = tokens == MASK, torch.tensor([0, 1, 1])

    def ask(weight, logits):
        asked = (logits * 1.0, tokens, ~where, label, where)
        return torch.func.functional_call(pairs, {"weight": weight}, asked)

    logits = torch.zeros(int(where.sum()), 7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(ask, (pairs.weight.detach().requires_grad_(), logits))


@pytest.mark.parametrize("at_once", [1, 20, 1 << 24])
def test_gradients_are_added_up_alike_one_by_one_and_together(monkeypatch, at_once):
    monkeypatch.setattr(labels, "_AT_ONCE", at_once)
    gradient, some = torch.randn(9, 7), torch.tensor([0, 3, 4, 8])
    at = torch.tensor([5, 8, 5, 30])  # which overlap
    one, other = torch.zeros(40), torch.zeros(40)
    labels.one_by_one(one, gradient, some, at)
    labels.together(other, gradient, some, at)
    torch.testing.assert_close(one, other)
    assert one.any()


def test_few_pairs_share_a_number():
    begins = Pairs(2, 1 << 18, 8192).begins
    assert begins.min() >= 0
    assert begins.max() < 1 << 18
    gaps = begins.sort().values.diff()
    assert gaps.min() > (1 << 18) / 8192 / 3  # as even as numbers can be that are known one after the other


def test_a_model_with_pairs_is_asked_alike_with_padding_and_without():
    model = network(classes=2, pairs=40)
    tokens = torch.tensor([[1, 10, 2, 10, 3]])
    where, label, share = tokens == 10, torch.tensor([1]), torch.tensor([0.4])
    alone = model(tokens, share, where, label=label)
    longer = torch.cat((tokens, torch.tensor([[4, 10]])), 1)
    real = torch.tensor([[True] * 5 + [False] * 2])
    padded = model(longer, share, (longer == 10) & real, attention=real, label=label)
    torch.testing.assert_close(alone, padded)
    other = model(tokens, share, where, label=torch.tensor([0]))
    assert not torch.allclose(alone, other)
    nothing = model(tokens, share, where)
    torch.testing.assert_close(nothing, model(tokens, share, where, label=torch.tensor([2])))


def test_a_fresh_model_has_no_opinion_of_pairs():
    model = Transformer(shape(classes=2, pairs=40))
    model.initialise(torch.Generator().manual_seed(0))
    assert model.label_pairs is not None
    assert not model.label_pairs.weight.any()


@pytest.fixture(scope="module")
def orders(tmp_path_factory):
    """Texts of the same words, whose class is the order in which they stand."""
    draw, path = random.Random(0), tmp_path_factory.mktemp("orders") / "orders.jsonl"
    rows = []
    for label, pairs in (("up", ("ab", "cd")), ("down", ("ba", "dc"))):
        for _ in range(100):
            text = "".join(itertools.chain.from_iterable((draw.choice(pairs), draw.choice("xyz")) for _ in range(4)))
            rows.append({"text": text, "label": label})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_pairs_distinguish_classes_with_the_same_words(orders, tmp_path):
    rows = [json.loads(line) for line in orders.read_text().splitlines()]
    right = {}
    for pairs in (0, 500):
        settings = settings_of(
            orders,
            PAIRED,
            {"model": {"pairs": pairs, "conv": 0}, "objective": {"contrast": 1.0, "context": 0}},
            {"train": {"steps": 60, "batch_size": 16, "lr": 1e-2, "calibrate": 0}},
        )
        run, _ = train_in(tmp_path, f"run{pairs}", settings)
        model = load_model(str(run.model))
        assert (model.network.label_pairs is not None) == bool(pairs)
        classifier = from_model(model, "cpu", False)
        ids = [classifier.encode(row["text"]) for row in rows]
        said = {look.text: look.prediction for look in classifier.predict(ids, Effort(draws=8)) if look.final}
        names = [classifier.classes[said[n].label] for n in range(len(ids))]
        right[pairs] = sum(name == row["label"] for name, row in zip(names, rows, strict=True)) / len(rows)
    assert right[500] > 0.95
    assert right[500] > right[0]


def test_pairs_are_saved_and_resumed(orders, tmp_path):
    settings = settings_of(orders, PAIRED, {"train": {"steps": 6}, "objective": {"contrast": 1.0, "context": 0}})
    whole, _ = train_in(tmp_path, "whole", settings)
    parts, events = train_in(tmp_path, "parts", settings, stop=After(3))
    assert events[-1].reason == "stopped"
    train_in(tmp_path, "parts", settings, resume=True)
    one, other = (load_model(str(run.model)).network.label_pairs.weight for run in (whole, parts))
    assert one.any()
    torch.testing.assert_close(one, other)


def test_pairs_want_classes(orders):
    for model, says in (
        ({"pairs": 5}, "model.pairs requires data.classes"),
        ({"pairs": -1}, "model.pairs must be at least 0"),
    ):
        with pytest.raises(TdiffError, match=says):
            settings_of(orders, {"model": model})
