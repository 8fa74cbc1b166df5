"""Models conditioned on the class of a text: their data, training and what is saved with them."""

import json
import math
import random
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from tdiff.core.diffusion.guidance import guided
from tdiff.core.diffusion.noise import RowNoise
from tdiff.core.diffusion.objective import nelbo_loss, other_labels, sample_masks
from tdiff.core.diffusion.schedules import schedule
from tdiff.core.evaluation.likelihood import evaluate, score
from tdiff.core.models.base import Inputs
from tdiff.core.models.load import load_model
from tdiff.core.training.state import TrainState
from tdiff.corpus import corpus as data
from tdiff.errors import TdiffError
from tdiff.protocol.events import Eval
from tdiff.runs import lookup
from tdiff.runs.run import Run
from tests.core.training.test_finetune import settings_from
from tests.support.models import StubModel, stub
from tests.support.runs import settings_of, train_in

CLASSES = {"data": {"classes": True, "rows": "padded"}, "objective": {"context": 0}}
WORDS = {"bad": "dull grey rain and a cold stone", "good": "warm gold sun over the green hill"}


@pytest.fixture(scope="module")
def reviews(tmp_path_factory) -> Path:
    """200 texts of two classes with different words, sorted by class as such files often are."""
    draw, path = random.Random(0), tmp_path_factory.mktemp("reviews") / "reviews.jsonl"
    rows = [
        {"text": " ".join(draw.choices(WORDS[label].split(), k=5)), "label": label}
        for label in ("bad", "good")
        for _ in range(150 if label == "bad" else 50)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def load(path: Path, field: str = "label") -> data.Corpus:
    return data.load((str(path),), label_field=field)


def test_labels_come_from_fields_of_rows_or_folders_of_files(tmp_path, reviews):
    corpus = load(reviews)
    assert corpus.classes == ("bad", "good")
    assert len(corpus.texts) == len(corpus.labels) == 200
    assert data.load((str(reviews),)).labels == ()
    (tmp_path / "a.csv").write_text("text,stars\none two,1\nthree,5\n\n")
    assert load(tmp_path / "a.csv", "stars").labels == ("1", "5")
    for label, name in (("pos", "x.txt"), ("pos/deep", "y.txt"), ("neg", "z.txt")):
        (tmp_path / "tree" / label).mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / label / name).write_text(f"{name} of\ntwo lines\n")
    tree = load(tmp_path / "tree")
    assert tree.labels == ("neg", "pos", "pos")
    assert tree.texts[0] == "z.txt of\ntwo lines\n"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('{"text": "a", "lable": "x"}\n', "['text', 'lable']; did you mean --label-field 'lable'?"),
        ('{"text": "a", "label": "x"}\n{"text": "b", "label": "x"}\n', "has texts of one class only, 'x'"),
        ('{"text": "a", "label": ""}\n', "field 'label' must be the name of a class; got ''"),
        ('{"text": "a", "label": 1.5}\n', "must be the name of a class; got 1.5"),
        ('{"text": "a", "label": true}\n', "must be the name of a class; got True"),
    ],
)  # fmt: skip
def test_invalid_labels_are_refused_in_one_line(content, says, tmp_path):
    (tmp_path / "rows.jsonl").write_text(content)
    with pytest.raises(TdiffError) as error:
        load(tmp_path / "rows.jsonl")
    assert says in str(error.value)


def test_text_without_labels_is_refused_where_labels_are_required(tmp_path):
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat" / "a.txt").write_text("words")
    for source in ("python", str(tmp_path / "flat"), str(tmp_path / "flat" / "a.txt")):
        with pytest.raises(TdiffError, match="has no label"):
            data.load((source,), label_field="label")


def test_each_class_is_shuffled_and_split_separately_and_reproducibly(reviews):
    corpus = load(reviews)
    before, after = corpus.split_indices()
    assert sorted((*before, *after)) == list(range(200))
    kinds = [corpus.labels[n] for n in after]
    assert (kinds.count("bad"), kinds.count("good")) == (15, 5)
    assert after[:15] != list(range(135, 150))
    assert (before, after) == load(reviews).split_indices()
    less, tuning = corpus.split_indices("tuning")
    assert sorted((*less, *tuning)) == sorted(before)


def test_labels_are_dropped_from_the_expected_share_of_rows(reviews, tmp_path):
    settings = settings_of(reviews, CLASSES, {"train": {"batch_size": 500, "label_dropout": 0.2}})
    corpus = load(reviews)
    job = TrainState(settings, Run(tmp_path / "none"), corpus)
    batch = job.data.batch(0, range(500))
    labels = batch.conditioning["label"]
    assert 0.12 < float((labels == 2).float().mean()) < 0.28
    for row, real, label in zip(batch.tokens, batch.conditioning["attention"], labels.tolist(), strict=True):
        text = job.tokenizer.decode(row[real])
        assert label == 2 or set(text.split()) & set(WORDS[corpus.classes[label]].split())


@pytest.mark.parametrize("kind", ["ours", "bert"])
def test_trained_classes_lower_the_bound_and_are_saved(kind, reviews, zoo, tmp_path, monkeypatch):
    layer = {"train": {"steps": 120, "lr": 1e-2, "batch_size": 16, "eval_every": 0, "sample_every": 0}}
    base = settings_of(reviews, CLASSES, layer) if kind == "ours" else settings_from(zoo[kind], reviews, CLASSES, layer)
    run, events = train_in(tmp_path, kind, base)
    model = load_model(str(run.path))
    assert model.origin.classes == ("bad", "good")
    assert model.origin.counts == (135, 45)
    corpus = load(reviews)
    _, after = corpus.split_indices()
    texts = [model.tokenizer.encode(corpus.texts[n]) for n in after]
    right = [corpus.classes.index(corpus.labels[n]) for n in after]

    def nats(labels) -> float:
        return score(model.network, texts, model.tokenizer.lengths, draws=8, labels=labels).nats_per_token

    assert nats(right) < nats(None) < nats([1 - label for label in right])
    [final] = [event for event in events if isinstance(event, Eval)]
    monkeypatch.chdir(tmp_path)
    assert evaluate(model).nats_per_token == pytest.approx(final.nats_per_token, abs=0.2)
    assert evaluate(model).tokens == final.tokens


def test_label_bias_starts_as_naive_bayes_and_leaves_the_pretrained_model_unchanged(reviews, zoo, tmp_path):
    job = TrainState(settings_from(zoo["roberta"], reviews, CLASSES), Run(tmp_path / "none"), load(reviews))
    plain = load_model(str(zoo["roberta"]))
    batch = job.data.batch(0, range(job.data.step_rows))
    tokens, maskable = batch.tokens, batch.maskable
    canvas = tokens.masked_fill(maskable, job.network.spec.mask_id)
    share = torch.ones(len(tokens))
    with torch.no_grad():
        expected = plain.network(canvas, share, maskable)
        for label in range(3):
            got = job.average(canvas, share, maskable, label=torch.full((len(tokens),), label))
            odds = job.average.label_bias.weight[label]
            torch.testing.assert_close(got, expected + odds, rtol=1e-4, atol=1e-4)
    assert not job.average.label_bias.weight[2].any()
    for network in (
        job.average,
        TrainState(settings_of(reviews, CLASSES), Run(tmp_path / "new"), load(reviews)).average,
    ):
        network.label_bias.weight.data[2] = torch.linspace(-1, 1, network.label_bias.weight.size(1))
        text = torch.full((1, 3), network.spec.mask_id)
        asked = text, torch.ones(1), torch.ones_like(text, dtype=torch.bool)
        with torch.no_grad():  # a text without a label is one whose label was dropped in training
            torch.testing.assert_close(network(*asked), network(*asked, label=torch.tensor([2])))
    counts = [Counter(), Counter()]
    corpus = load(reviews)
    for n in corpus.split_indices()[0]:
        counts[corpus.classes.index(corpus.labels[n])].update(plain.tokenizer.encode(corpus.texts[n]).tolist())
    size = plain.network.spec.vocab_size
    shares = [[(counted[i] + 1) / (counted.total() + size) for i in range(size)] for counted in counts]
    for label in range(2):
        for i in (next(iter(counts[0])), next(iter(counts[1])), 0):
            exact = math.log(shares[label][i] / ((shares[0][i] + shares[1][i]) / 2))
            assert float(job.average.label_bias.weight[label, i]) == pytest.approx(exact, abs=1e-5)


def test_contrast_adds_a_class_loss_and_leaves_the_bound_unchanged(reviews, tmp_path):
    corpus = load(reviews)
    base = settings_of(reviews, CLASSES, {"train": {"batch_size": 32, "label_dropout": 0.5}})
    job = TrainState(base, Run(tmp_path / "none"), corpus)
    batch = job.data.batch(1, range(32))
    tokens, maskable, conditioning = batch.tokens, batch.maskable, batch.conditioning
    masks = sample_masks(maskable, batch.row_noise, job.schedule, 0)
    other = other_labels(conditioning["label"], 2, batch.row_noise)
    assert torch.equal(other >= 0, conditioning["label"] < 2)
    plain = nelbo_loss(job.network, tokens, maskable, masks, conditioning)
    contrasted = nelbo_loss(job.network, tokens, maskable, masks, conditioning, other)
    assert plain.contrastive is None
    sizes = []

    def noting(tokens, *given, **extra):
        sizes.append(len(tokens))
        return network(tokens, *given, **extra)

    network, noting = job.network, stub(noting, job.network.spec.mask_id)
    even = nelbo_loss(noting, tokens, maskable, masks, conditioning, other, even=True)
    assert sizes == [64]  # whatever the labels are
    torch.testing.assert_close(even.contrastive, contrasted.contrastive)
    torch.testing.assert_close(even.nats, contrasted.nats)
    torch.testing.assert_close(contrasted.nats, plain.nats)
    torch.testing.assert_close(contrasted.row_nats, plain.row_nats)
    assert 0 < float(contrasted.contrastive.detach()) < math.log(2)  # it begins as naive Bayes
    with_it = settings_of(reviews, CLASSES, {"objective": {"contrast": 1.0}})
    assert TrainState(with_it, Run(tmp_path / "none"), corpus).backward(0)[0].contrastive is not None
    for wrong, says in (({"contrast": -1.0}, "at least 0"), ({"contrast": 1.0}, "requires data.classes")):
        with pytest.raises(TdiffError, match=says):
            settings_of(reviews, {"objective": wrong})


def test_contrast_is_bayes_between_the_right_class_and_another():
    """By hand: one row of two positions, three classes, a network that depends on the class alone."""
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [0.5, 0.5]])

    class Knows(StubModel):
        mask_id = 2

        def __call__(self, canvas, share, where, label):
            return logits[label.repeat_interleave(where.sum(1))]

    tokens, may = torch.tensor([[0, 1]]), torch.ones(1, 2, dtype=torch.bool)
    seen = set()
    for seed in range(20):
        row_noise, label = RowNoise(seed, 0, range(1), 1), torch.tensor([0])
        masks = sample_masks(may, row_noise, schedule("linear"), 1)
        loss = nelbo_loss(Knows(), tokens, may, masks, {"label": label}, other_labels(label, 3, row_noise))
        nats = [-float(row.log_softmax(0).sum()) for row in logits]
        expected = {c: math.log1p(math.exp((nats[0] - nats[c]) / math.sqrt(2))) for c in (1, 2)}
        seen.add(min(expected, key=lambda c: abs(expected[c] - float(loss.contrastive))))
        assert min(abs(value - float(loss.contrastive)) for value in expected.values()) < 1e-5
    assert seen == {1, 2}


def test_class_without_training_text_is_refused(tmp_path):
    path = tmp_path / "few.jsonl"
    rows = [{"text": f"{label} words", "label": label} for label in ["bad"] * 20 + ["good"] * 20 + ["rare"]]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(TdiffError, match="class 'rare' has too few texts: none is left to train on"):
        TrainState(settings_of(path, CLASSES), Run(tmp_path / "none"), load(path))


def test_malformed_rows_are_reported_by_number_and_left_out(tmp_path):
    path = tmp_path / "rows.jsonl"
    rows = ['{"text": "a", "label": "x"}', '{"text": " ", "label": "x"}', "not json", '{"text": "c"}']
    rows += ['{"text": "b", "label": "y"}', *['{"text": 1, "label": "y"}'] * 6]
    path.write_text("\n".join(rows))
    corpus = load(path)
    assert corpus.texts == ("a", "b")
    assert corpus.labels == ("x", "y")
    assert corpus.note.startswith("left out: ") and "rows.jsonl:3: not JSON" in corpus.note
    assert "rows.jsonl:4: no field 'label'" in corpus.note
    numbers = [n for n in range(12) if f"rows.jsonl:{n}: field 'text' must be text; got 1" in corpus.note]
    assert numbers == [6, 7, 8]
    assert "; 3 more such rows of " in corpus.note and "; 1 row of " in corpus.note
    with pytest.raises(TdiffError, match=r"rows\.jsonl:3: not JSON"):
        data.load((str(path),))
    (tmp_path / "rows.csv").write_text("text,label\na,x\nb,y,z\nc,y\nd,\n")
    corpus = load(tmp_path / "rows.csv")
    assert (corpus.texts, corpus.labels) == (("a", "c"), ("x", "y"))
    assert "rows.csv:3: 3 fields, but the header has 2" in corpus.note and "rows.csv:5: field 'label'" in corpus.note
    both = data.load((str(tmp_path),), label_field="label", evaluation=(str(path),))
    assert both.note.count("rows.csv:3: 3 fields") == 1 and both.note.count("rows.jsonl:3: not JSON") == 2


def test_classes_are_added_to_a_model_without_classes(reviews, tmp_path):
    plain, _ = train_in(tmp_path, "plain", settings_of(reviews, {"data": {"rows": "padded"}, "train": {"steps": 3}}))
    settings = settings_of(reviews, CLASSES, {"model": {"pairs": 100}, "train": {"init": str(plain.path), "steps": 1}})
    job = TrainState(settings, Run(tmp_path / "none"), load(reviews))
    before = load_model(str(plain.path)).network
    assert job.network.label_pairs is not None
    assert job.network.label_bias.weight.any()
    tokens = torch.randint(0, 5, (2, 8), generator=torch.Generator().manual_seed(0))
    share, where = torch.full((2,), 0.5), torch.ones(2, 8, dtype=torch.bool)
    with torch.no_grad():
        torch.testing.assert_close(job.average(tokens, share, where), before(tokens, share, where))


def test_command_trains_with_classes_and_evaluates_with_them(reviews, here, cli_fast):
    size = ["--set=model.layers=1", "--set=model.width=16", "--set=model.heads=2", "--window=16", "--context=0"]
    options = [*size, "--steps=2", "--eval-every=0", "--sample-every=0", "--device=cpu"]
    done = cli_fast("train", "--classes", f"--data={reviews}", "--run=kinds", *options)
    assert done.returncode == 0, done.stderr
    settings = lookup.find_run("kinds").settings()
    assert (settings.data.classes, settings.data.rows) == (True, "padded")
    assert json.loads(cli_fast("eval", "kinds", "--json", "--device=cpu").stdout)["tokens"] > 100
    other = [json.loads(line) | {"label": "ugly"} for line in reviews.read_text().splitlines()[:2]]
    Path("other.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*other, {"text": "a", "label": "bad"}]))
    assert "unknown class 'ugly'" in cli_fast("eval", "kinds", "--data=other.jsonl", "--device=cpu").refused()


@pytest.fixture(scope="module")
def kinds(reviews, tmp_path_factory) -> Run:
    """A run trained for a while on its classes."""
    layer = {"train": {"steps": 200, "lr": 1e-2, "batch_size": 16, "eval_every": 0, "sample_every": 0}}
    return train_in(tmp_path_factory.mktemp("kinds"), "kinds", settings_of(reviews, CLASSES, layer))[0]


def share_of(texts: list[str], label: str) -> float:
    """The share of the letter pairs which occur in that class alone, of those that occur in one class alone."""
    label_pairs, other_pairs = (set(pairwise(t)) for t in (WORDS[label], WORDS["bad" if label == "good" else "good"]))
    pairs = [pair for text in texts for pair in pairwise(text)]
    return sum(pair in label_pairs - other_pairs for pair in pairs) / max(
        1, sum(pair in label_pairs ^ other_pairs for pair in pairs)
    )


def test_guidance_scale_strengthens_the_class_of_generated_texts(kinds, cli_fast):
    asked = ["generate", f"--model={kinds.path}", "--samples=60", "--length=24", "--seed=1", "--device=cpu"]
    asked += ["--decoder=ancestral", "--steps=24"]
    for label in ("bad", "good"):
        shares = []
        for push in (["--guidance=0"], [], ["--guidance=3"]):
            done = cli_fast(*asked, f"--class={label}", *push)
            assert done.returncode == 0, done.stderr
            shares.append(share_of(done.stdout.splitlines(), label))
        assert shares[0] < shares[1] < shares[2]


def test_guidance_scale_0_is_unconditional_and_1_is_conditional(kinds):
    model = load_model(str(kinds.path))
    tokens = torch.full((2, 9), model.network.spec.mask_id)
    share, where = torch.ones(2), torch.ones(2, 9, dtype=torch.bool)
    with torch.no_grad():
        unguided = guided(model, "good", 0.0).network.logits(Inputs(tokens, share, where))
        conditional = guided(model, "good", 1.0).network.logits(Inputs(tokens, share, where))
        guided_twice = guided(model, "good", 2.0).network.logits(Inputs(tokens, share, where)).softmax(-1)
        log_p = model.network(tokens, share, where).log_softmax(-1)
        log_p_of_class = model.network(tokens, share, where, label=torch.ones(2, dtype=torch.int64)).log_softmax(-1)
    torch.testing.assert_close(unguided.softmax(-1), log_p.exp())
    torch.testing.assert_close(conditional.softmax(-1), log_p_of_class.exp())
    expected = log_p_of_class.exp() ** 2 / log_p.exp()
    expected[:, model.network.suppress.isneginf()] = 0
    torch.testing.assert_close(guided_twice, expected / expected.sum(-1, keepdim=True))


def test_generated_text_reports_its_class(kinds, cli_fast):
    asked = ["generate", f"--model={kinds.path}", "--length=6", "--seed=1", "--device=cpu", "--class=good"]
    report = json.loads(cli_fast(*asked, "--guidance=1.5", "--json").stdout)
    assert (report["settings"]["class"], report["settings"]["guidance"]) == ("good", 1.5)
    header = json.loads(cli_fast(*asked, "--stream").stdout.splitlines()[0])
    assert header["settings"]["class"] == "good"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--class=god"], "unknown class 'god'; did you mean good?"),
        (["--class=good", "--guidance=-1"], "--guidance must be within 0..100; got -1"),
        (["--guidance=2"], "--guidance requires --class"),
    ],
)
def test_unknown_class_or_invalid_guidance_is_refused(options, says, kinds, cli_fast):
    assert says in cli_fast("generate", f"--model={kinds.path}", "--device=cpu", *options).refused()


def test_class_option_is_refused_for_a_model_without_classes(tiny_run, cli_fast):
    done = cli_fast("generate", f"--model={tiny_run.path}", "--class=good", "--device=cpu")
    assert "tiny has no classes: --class is for models trained with --classes" in done.refused()


def test_classes_require_padded_rows(reviews):
    with pytest.raises(TdiffError, match=r"data\.classes requires data\.rows padded"):
        settings_of(reviews, {"data": {"classes": True}})
