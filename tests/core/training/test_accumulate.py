"""Several passes of one optimizer step equal one pass over all their rows: the same masks, and the same gradient."""

import json
from pathlib import Path

import pytest
import torch

from tdiff.core.training.state import TrainState
from tdiff.corpus import corpus as data
from tdiff.runs.run import Run
from tests.core.evaluation.test_causal_judge import TEXT
from tests.core.evaluation.test_causal_judge import make as make_causal
from tests.core.training.test_finetune import settings_from
from tests.support.runs import settings_of, words

WAYS = {
    "packed": {},
    "padded": {"data": {"rows": "padded"}},
    "discrete": {"data": {"rows": "padded"}, "objective": {"timesteps": 16, "schedule": "cosine"}},
    "one time": {"data": {"rows": "padded"}, "objective": {"mask_rate_per": "batch"}},
    "clipped": {"data": {"rows": "padded"}, "objective": {"least_masked": 0.2, "most_masked": 0.8}},
    "fixed context": {"data": {"rows": "padded"}, "objective": {"context": 3, "context_mode": "fixed"}},
    "classes": {"data": {"rows": "padded", "classes": True}, "train": {"label_dropout": 0.3}},
    "contrast": {
        "data": {"rows": "padded", "classes": True},
        "objective": {"contrast": 1.0},
        "train": {"label_dropout": 0.3},
        "model": {"pairs": 2},
    },
}


@pytest.fixture(scope="module")
def tales(tmp_path_factory) -> Path:
    """Texts of very different lengths, of two classes."""
    path = tmp_path_factory.mktemp("tales") / "tales.jsonl"
    text = words(2000).split()
    texts = [" ".join(text[n * 9 : n * 9 + (1 if n % 2 else 6)]) for n in range(80)]
    rows = [{"text": text, "label": "ab"[n % 3 == 0]} for n, text in enumerate(texts)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def gradient(settings, corpus, folder: Path) -> tuple[torch.Tensor, float]:
    """The gradient of one optimizer step, at weights that are not zero, and its nats."""
    state = TrainState(settings, Run(folder / "none"), corpus)
    draw = torch.Generator().manual_seed(5)
    for weight in state.weights:
        weight.data.add_(torch.randn(weight.shape, generator=draw), alpha=0.1)
    losses = state.backward(1)
    assert len(losses) == settings.train.accumulate
    grads = [weight.grad.flatten() for weight in state.weights if weight.grad is not None]
    return torch.cat(grads).double(), sum(float(loss.nats.detach()) for loss in losses)


def alike(one, many) -> None:
    assert float((one[0] - many[0]).norm() / one[0].norm()) < 1e-5
    assert one[1] == pytest.approx(many[1], rel=1e-5)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("passes", [2, 8])
def test_gradient_of_accumulated_passes_is_that_of_one_larger_batch(way, passes, tales, tmp_path):
    single, accumulated = (
        settings_of(tales, WAYS[way], {"train": {"batch_size": 8 // n, "accumulate": n}}) for n in (1, passes)
    )
    classes = "label" if single.data.classes else None
    corpus = data.load(single.data.sources, single.data.text_field, label_field=classes)
    alike(gradient(single, corpus, tmp_path), gradient(accumulated, corpus, tmp_path))


@pytest.mark.parametrize("rows", ["packed", "padded"])
@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_accumulation_of_pretrained_models_is_one_larger_batch(kind, rows, zoo, tmp_path):
    model = zoo[kind] if kind in zoo else make_causal(tmp_path / kind, bos=True)
    book = tmp_path / "book.txt"
    book.write_text("".join(f"{line[: 4 + 9 * (n % 4)]}\n" for n, line in enumerate((TEXT * 4).splitlines())))
    both = [
        settings_from(model, book, {"data": {"rows": rows}, "train": {"batch_size": 8 // n, "accumulate": n}})
        for n in (1, 4)
    ]
    corpus = data.load(both[0].data.sources)
    alike(*(gradient(settings, corpus, tmp_path) for settings in both))
