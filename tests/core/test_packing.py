"""Rows of training: packed, cut at any offset from all texts, or padded, one text each."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tdiff.core.diffusion.objective import likelihood
from tdiff.core.evaluation.likelihood import evaluate, score
from tdiff.core.models.load import load_model
from tdiff.core.packing import padded
from tdiff.core.training.state import TrainState
from tdiff.corpus import corpus as data
from tdiff.errors import TdiffError
from tdiff.protocol.events import Eval
from tdiff.runs.run import Run
from tests.core.training.test_finetune import settings_from
from tests.support.hub_zoo import KINDS, reference
from tests.support.runs import settings_of, train_in, words

PADDED = {"data": {"rows": "padded"}}


@pytest.fixture(scope="module")
def tales(tmp_path_factory) -> Path:
    """60 short texts of many lengths, some longer than a window."""
    path = tmp_path_factory.mktemp("tales") / "tales.jsonl"
    text = words(2000).split()
    texts = [" ".join(text[n * 9 : n * 9 + 1 + n % 13]) for n in range(60)]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


@given(st.lists(st.lists(st.integers(1, 9), max_size=20), max_size=6), st.integers(1, 8))
def test_padded_rows_hold_every_text_in_order_and_nothing_else(texts, window):
    rows, real, text_of = padded([torch.tensor(text, dtype=torch.int64) for text in texts], window, 0)
    assert rows.size(1) <= window
    assert rows[real].tolist() == [token for text in texts for token in text]
    assert bool((rows[~real] == 0).all())
    assert text_of.tolist() == [n for n, text in enumerate(texts) for _ in range(-(-len(text) // window))]
    # Text stands first in a row, and padding behind it.
    assert torch.equal(real, torch.arange(rows.size(1)) < real.sum(1)[:, None])


def test_texts_of_a_corpus_are_table_rows_and_text_lines(tmp_path, tales):
    (tmp_path / "a.txt").write_text("one\n\n  \ntwo words\n")
    (tmp_path / "b.csv").write_text('text,n\n"three\nlines",1\n,2\n')
    corpus = data.load((str(tmp_path / "a.txt"), str(tmp_path / "b.csv")))
    assert corpus.texts == ("one", "two words", "three\nlines")
    assert data.load((str(tmp_path),)).texts == corpus.texts
    many = data.load((str(tales),))
    before, after = many.split_texts()
    assert (len(before), len(after)) == (54, 6)
    assert (*before, *after) == many.texts
    less, tuning = many.split_texts("tuning")
    assert [*less, *tuning] == before
    assert len(tuning) == 3


def test_padded_batch_has_complete_texts_and_masks_no_padding(tales, tmp_path):
    settings = settings_of(tales, PADDED, {"objective": {"context": 0}})
    job = TrainState(settings, Run(tmp_path / "none"), data.load(settings.data.sources))
    before, _ = data.load((str(tales),)).split_texts()
    pieces = {text[start : start + 32] for text in before for start in range(0, len(text), 32)}
    for step in range(5):
        batch = job.data.batch(step, range(job.data.step_rows))
        real = batch.conditioning["attention"]
        assert torch.equal(batch.maskable, real)
        assert int(real.sum(1).max()) == batch.tokens.size(1)
        for row, is_text in zip(batch.tokens, real, strict=True):
            assert job.tokenizer.decode(row[is_text]) in pieces


@pytest.mark.parametrize("kind", ["ours", *KINDS])
def test_padding_does_not_change_logits(kind, zoo, tiny_run, loaded):
    model = load_model(str(tiny_run.path)) if kind == "ours" else loaded[kind]
    network, draw = model.network, torch.Generator().manual_seed(1)
    ordinary = torch.tensor(sorted(set(range(len(model.tokenizer))) - set(network.spec.suppressed)))
    tokens = ordinary[torch.randint(len(ordinary), (3, 12), generator=draw)]
    real = torch.arange(12) < torch.tensor([12, 5, 8])[:, None]
    where = (torch.rand(tokens.shape, generator=draw) < 0.5) & real
    where[:, 0] = True
    canvas = tokens.masked_fill(where | ~real, network.spec.mask_id)
    share = torch.full((3,), 0.5)
    with torch.no_grad():
        together = network(canvas, share, where, attention=real)
        alone = [
            network(canvas[n : n + 1, : int(real[n].sum())], share[:1], where[n : n + 1, : int(real[n].sum())])
            for n in range(3)
        ]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-4)


def test_end_token_comes_before_the_padding(loaded, zoo):
    network = loaded["bert"].network
    tokens = torch.randint(5, 60, (1, 9), generator=torch.Generator().manual_seed(1))
    real = torch.arange(9)[None] < 4
    where = torch.zeros_like(real)
    where[0, 2] = True
    canvas = tokens.masked_fill(where | ~real, network.spec.mask_id)
    hf_model, tokenizer = reference(zoo["bert"])
    framed = torch.tensor([[tokenizer.cls_token_id, *canvas[0, :4].tolist(), tokenizer.sep_token_id]])
    with torch.no_grad():
        expected = hf_model(input_ids=framed).logits[0, 3] + network.suppress
        torch.testing.assert_close(
            network(canvas, torch.ones(1), where, attention=real)[0], expected, rtol=1e-4, atol=1e-4
        )


def test_likelihood_of_padded_rows_equals_that_of_the_texts_alone(tiny_run):
    model = load_model(str(tiny_run.path))
    texts = [model.tokenizer.encode(text) for text in ("the hare", "a lantern sings", "an")]
    rows, real, _ = padded(texts, 32, model.network.spec.mask_id)
    padded_rows = likelihood(model.network, rows, real, draws=400, conditioning={"attention": real})
    for n, text in enumerate(texts):
        alone = likelihood(model.network, text[None], torch.ones(1, len(text), dtype=torch.bool), draws=1200)
        assert float(padded_rows.nats[n]) == pytest.approx(float(alone.nats[0]), rel=0.05)


@pytest.mark.parametrize("kind", ["ours", "bert"])
def test_padded_run_trains_evaluates_its_texts_and_stores_its_rows_setting(kind, zoo, tales, tmp_path, monkeypatch):
    settings = settings_of(tales, PADDED) if kind == "ours" else settings_from(zoo[kind], tales, PADDED)
    run, events = train_in(tmp_path, "run", settings)
    assert events[-1].reason == "finished"
    model = load_model(str(run.path))
    assert model.origin.rows == "padded"
    _, after = data.load((str(tales),)).split_texts()
    ids = [model.tokenizer.encode(text) for text in after]
    expected = score(model.network, ids, model.tokenizer.lengths, draws=2, least=64)
    [final] = [event for event in events if isinstance(event, Eval) and event.final]
    assert final.nats_per_token == pytest.approx(expected.nats_per_token, abs=1e-4)
    assert final.tokens == expected.tokens <= sum(map(len, ids))
    monkeypatch.chdir(tmp_path)
    assert evaluate(model, draws=3).tokens == final.tokens
    assert evaluate(model, part="train").tokens > final.tokens


def test_epoch_over_padded_rows_counts_each_row_once(tmp_path):
    (tmp_path / "rows.txt").write_text("the hare sings\n" * 1000)
    settings = settings_of(tmp_path / "rows.txt", PADDED, {"train": {"steps": 0, "epochs": 1.0, "batch_size": 4}})
    job = TrainState(settings, Run(tmp_path / "none"), data.load(settings.data.sources))
    assert job.total_steps == 900 // 4
    assert job.data.step_tokens == 4 * len("the hare sings")


def test_texts_are_held_out_only_as_a_unit(tales):
    corpus = data.load((str(tales),))
    before, after = corpus.split("tenth", "padded")
    assert before.split("\n\n") == corpus.split_texts()[0]
    assert after.split("\n\n") == corpus.split_texts()[1]


def test_too_few_texts_to_hold_some_out_are_refused(tmp_path):
    (tmp_path / "few.txt").write_text("one line of words\n")
    settings = settings_of(tmp_path / "few.txt", PADDED)
    with pytest.raises(TdiffError, match=r"few\.txt has too few texts \(1\) to hold some out with data\.rows padded"):
        TrainState(settings, Run(tmp_path / "none"), data.load(settings.data.sources))
