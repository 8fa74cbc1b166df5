"""`tdiff classify` and `tdiff train --per-class`, as a user meets them."""

import csv
import gzip
import itertools
import json
import random
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from tdiff.commands import classify as classifying
from tdiff.commands import classify_models
from tdiff.commands.classify import Request, _rows, _selected
from tdiff.commands.train_per_class import _folder_names
from tdiff.core.classification import cloze
from tdiff.core.classification.classifier import calibrate
from tdiff.core.classification.cloze import from_words
from tdiff.core.classification.load import from_model, from_models
from tdiff.core.classification.prediction import Effort
from tdiff.core.models.load import load_model
from tdiff.corpus import rows as texts
from tdiff.errors import TdiffError
from tdiff.runs import run as runs
from tdiff.runs.per_class import PerClassRun
from tests.core.evaluation.test_causal_judge import make as make_causal
from tests.core.training.test_classes import WORDS
from tests.support.runs import settings_of, train_in

CLASSES = {"data": {"classes": True, "rows": "padded"}, "objective": {"context": 0}}
SMALL = {"model": {"layers": 1, "width": 16, "heads": 2, "window": 16}}
BRIEF = {"train": {"steps": 60, "lr": 1e-2, "batch_size": 16, "eval_every": 0, "sample_every": 0}}


def sentence(draw: random.Random, label: str, length: int = 5) -> str:
    return " ".join(draw.choices(WORDS[label].split(), k=length))


def rows_of(path: Path, count: int, seed: int = 0) -> Path:
    draw = random.Random(seed)
    rows = [{"text": sentence(draw, label), "label": label} for label in ("bad", "good") for _ in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """The folder of a run that knows good from bad."""
    root = tmp_path_factory.mktemp("kinds")
    settings = settings_of(rows_of(root / "reviews.jsonl", 60), CLASSES, SMALL, BRIEF)
    return train_in(root / "checkpoints", "kinds", settings)[0].path


@pytest.fixture
def ask(cli_fast, model):
    """Run `tdiff classify` with that model."""
    return lambda *more, stdin=b"": cli_fast("classify", f"--model={model}", "--device=cpu", *more, stdin=stdin)


def test_each_text_argument_gets_one_prediction(ask):
    done = ask("warm gold sun over hill", "dull grey rain and stone", "--json")
    assert done.returncode == 0, done.stderr
    one, other = map(json.loads, done.stdout.splitlines())
    assert (one["label"], other["label"]) == ("good", "bad")
    low, high = one["interval"]
    assert low <= one["probability"] == one["posterior"]["good"] <= high
    assert sum(one["posterior"].values()) == pytest.approx(1)
    assert one["settings"]["method"] == "bound"
    assert one["draws"] <= 32
    plain = ask("warm gold sun over hill")
    assert plain.stdout.startswith("good  0.")
    assert " mask samples  " in plain.stdout


def test_a_verdict_can_be_had_again_and_does_not_depend_on_the_others(ask):
    alone = json.loads(ask("warm gold dull", "--json", "--confidence=1", "--max-draws=9").stdout)
    beside = ask("warm gold dull", "grey rain", "--json", "--confidence=1", "--max-draws=9").stdout.splitlines()[0]
    other = json.loads(ask("warm gold dull", "--json", "--seed=5", "--confidence=1", "--max-draws=9").stdout)
    assert json.loads(beside)["probability"] == pytest.approx(alone["probability"], rel=1e-5)
    assert other["probability"] != alone["probability"]
    assert alone["draws"] == 9


def test_explain_shows_the_contribution_of_each_word(ask, here):
    done = ask("warm gold sun and dull stone", "--explain")
    assert "  for:     " in done.stdout
    assert "  against: " in done.stdout
    contributions = json.loads(ask("warm gold sun", "--explain", "--json").stdout)["contributions"]
    assert "".join(piece for piece, _ in contributions) == "warm gold sun"
    ask("warm gold", "--explain", f"--html={here / 'why.html'}")
    page = (here / "why.html").read_text()
    assert "nats" in page and "warm" in page and "<script" not in page


def test_doubt_below_a_bound_is_no_verdict(ask):
    prediction = json.loads(ask("warm", "--abstain-below=1", "--json", "--max-draws=4").stdout)
    assert prediction["label"] is None
    assert prediction["likeliest"] in ("good", "bad")
    assert ask("warm", "--abstain-below=1", "--max-draws=4").stdout.startswith("abstains (")


def test_priors_are_those_of_training_or_those_that_are_said(ask, model):
    even = from_model(load_model(str(model)), "cpu")
    assert even.priors == (0.5, 0.5)
    slanted = json.loads(ask("warm gold sun over hill", "--json", "--priors=good=1e-12,bad=0.999999999999").stdout)
    assert slanted["label"] == "bad"
    assert json.loads(ask("warm", "--json", "--priors=equal").stdout)["settings"]["priors"] == {"bad": 0.5, "good": 0.5}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "no input: pass TEXT, or --input FILE"),
        (("a", "--input=x.jsonl"), "set only one of TEXT and --input FILE"),
        (("a", "--evaluate"), "--output, --evaluate and --limit require --input FILE"),
        (("a", "--html=x.html"), "--html requires --explain or --evaluate"),
        (("a", "--confidence=0.2"), "--confidence must be within 0.5..1 (1: all mask samples); got 0.2"),
        (("a", "--max-draws=0"), "--max-draws must be within 1..65,536; got 0"),
        (("a", "--abstain-below=2"), "--abstain-below must be within 0..1; got 2"),
        (("a", "--priors=good=0.5,bad=0.6"), "--priors must be at least 0 and sum to 1; got a sum of 1.1"),
        (("a", "--priors=good=0.5"), "--priors lacks 'bad'; the classes are bad, good"),
        (("a", "--priors=god=0.5,bad=0.5"), "unknown class 'god'; did you mean good?"),
        (("a", "--priors=good"), "--priors takes equal, or CLASS=SHARE once each"),
        (("a", "--method=ar"), "is masked, whose method is bound"),
        (("a", "--precision=bfloat"), "unknown precision 'bfloat'; did you mean bfloat16?"),
        (("a", "--method=bayes"), "unknown method 'bayes'; known: ar, bound, cloze"),
        (("a", "--words=good bad"), "--words and --pattern are for --method cloze"),
        (("--input=nope.jsonl",), "the input 'nope.jsonl' cannot be read"),
        (("--input=rows.jsonl", "--text-field=body"), "no field 'body'"),
        (("--input=rows.jsonl", "--evaluate", "--label-field=lable"), "did you mean --label-field 'label'?"),
        (("--input=rows.jsonl", "--output=rows.jsonl"), "is the input itself: name another file"),
        (("--input=rows.jsonl", "--output=notes.txt"), "exists and is not one of tdiff classify"),
        (("--input=empty.jsonl",), "the input 'empty.jsonl' contains no text"),
        (("--input=rows.jsonl", "--evaluate", "--html=."), "cannot be written: name a file in an existing folder"),
        (("a", "--priors=good=0.5,good=0.5,bad=0.5"), "--priors takes equal, or CLASS=SHARE once each"),
        (("a", "--explain", "--method=cloze", "--words=x y"), "which --method cloze does not compute"),
        (("a", "--method=cloze", "--words=x y x"), "--words names class 'x' twice"),
        (("--input=" + "x" * 300,), "cannot be read: File name too long"),
        (("--input=plain.txt", "--evaluate"), "has no labels: labels are fields of .jsonl and .csv rows"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_line_and_changes_nothing(arguments, says, ask, here):
    rows_of(here / "rows.jsonl", 2)
    (here / "empty.jsonl").write_text("\n\n")
    (here / "plain.txt").write_text("one line\n")
    (here / "notes.txt").write_text("mine\n")
    before = {path.name: path.read_bytes() for path in here.iterdir()}
    done = ask(*arguments)
    assert done.returncode == 2
    assert says in done.stderr and done.stderr.count("\n") == 1 and done.stderr.startswith("tdiff: ")
    assert done.stdout == ""
    assert {path.name: path.read_bytes() for path in here.iterdir()} == before


def test_without_a_model_it_says_what_to_type(cli_fast, here, model):
    done = cli_fast("classify", "some text")
    assert done.returncode == 2
    assert f"train one first with {classify_models.TRAIN}" in done.stderr
    (here / "checkpoints").mkdir()
    (here / "checkpoints" / "mine").symlink_to(model)
    assert "name one, such as --model mine" in cli_fast("classify", "some text").stderr
    assert "has no classes: train a model with classes by" in cli_fast("classify", "x", "--model=shakespeare").stderr


def test_bad_rows_are_reported_by_number_and_skipped(ask, here):
    lines = [
        json.dumps({"text": "warm gold sun", "label": "good"}),
        "not json",
        json.dumps({"text": "  ", "label": "good"}),
        json.dumps({"label": "good"}),
        json.dumps("dull grey rain"),
        json.dumps({"text": "warm", "label": "gold"}),
        json.dumps({"text": "a Z that it never saw", "label": "bad"}),
        json.dumps({"text": "dull grey rain", "label": "bad"}),
    ]
    (here / "in.jsonl").write_text("\n".join(lines) + "\n")
    done = ask("--input=in.jsonl", "--json")
    assert done.returncode == 1
    predictions = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(one["line"], one["label"]) for one in predictions if one["line"] != 6] == [
        (1, "good"),
        (5, "bad"),
        (8, "bad"),
    ]
    for number, why in ((2, "not JSON"), (3, "the text is empty"), (4, "no field 'text'"), (7, "'Z'")):
        assert f"in.jsonl:{number}: " in done.stderr and why in done.stderr
    assert "skipped 4 of 8 texts" in done.stderr
    judged = ask("--input=in.jsonl", "--evaluate", "--json")
    assert "in.jsonl:6: its class 'gold' is not one of the model's classes: bad, good; skipped" in judged.stderr
    assert "in.jsonl:5: must be an object with a field 'text'; got 'dull grey rain'; skipped" in judged.stderr
    assert json.loads(judged.stdout)["texts"] == 2


def test_an_output_is_gone_on_with_and_comes_out_the_same(ask, here):
    rows_of(here / "in.jsonl", 6)
    options = ("--input=in.jsonl", "--max-draws=8")
    assert ask(*options, "--output=whole.jsonl").returncode == 0
    whole = (here / "whole.jsonl").read_text().splitlines()
    assert [json.loads(line)["line"] for line in whole] == list(range(1, 13))
    (here / "part.jsonl").write_text("\n".join(whole[:5]) + "\n" + whole[5][:30])
    done = ask(*options, "--output=part.jsonl")
    assert "part.jsonl has 5 of 12 predictions: resuming" in done.stderr

    def predictions(name: str) -> list:
        return [
            {k: v for k, v in json.loads(line).items() if k in ("line", "input", "label", "draws")}
            for line in (here / name).read_text().splitlines()
        ]

    assert predictions("part.jsonl") == predictions("whole.jsonl")
    other = ask(*options, "--output=part.jsonl", "--seed=3")
    assert other.returncode == 2 and "was written with seed 0, not 3" in other.stderr
    rows_of(here / "in.jsonl", 6, seed=9)
    assert "was written from another input" in ask(*options, "--output=part.jsonl").stderr


def test_the_evaluation_is_of_all_rows_in_random_order_and_is_saved(ask, here):
    rows_of(here / "in.jsonl", 15)
    done = ask("--input=in.jsonl", "--evaluate", "--output=out.jsonl", "--html=page.html")
    assert done.returncode == 0, done.stderr
    assert "accuracy on 30 texts (95% interval" in done.stdout
    for part in ("precision", "calibration error (ECE)", "accuracy", "probability from", "texts a second"):
        assert part in done.stdout
    numbers = [json.loads(line)["line"] for line in (here / "out.jsonl").read_text().splitlines()]
    assert sorted(numbers) == list(range(1, 31)) and numbers != sorted(numbers)
    page = (here / "page.html").read_text()
    assert "<svg" in page and "Calibration error" in page
    again = ask("--input=in.jsonl", "--evaluate", "--output=out.jsonl", "--json")
    result = json.loads(again.stdout)
    assert result["texts"] == 30 and result["accuracy"] > 0.8
    assert "out.jsonl has 30 of 30 predictions" in again.stderr
    unsure = ask("--input=in.jsonl", "--evaluate", "--output=out2.jsonl", "--abstain-below=1")
    assert unsure.returncode == 2 and "rejected every prediction" in unsure.stderr


def test_of_texts_that_are_in_doubt_it_abstains_and_the_others_are_judged(ask, here):
    rows_of(here / "in.jsonl", 10)
    all_given = [json.loads(row) for row in ask("--input=in.jsonl", "--json").stdout.splitlines()]
    middle = sorted(row["probability"] for row in all_given)[7]
    evaluate = ("--input=in.jsonl", "--evaluate", f"--abstain-below={middle}")
    result = json.loads(ask(*evaluate, "--output=out.jsonl", "--json").stdout)
    assert (result["texts"], result["abstained"]) == (13, 7)
    lines = [json.loads(row) for row in (here / "out.jsonl").read_text().splitlines()]
    assert all((row["label"] is None) == (row["probability"] < middle) for row in lines)
    right = [row["likeliest"] == row["truth"] for row in lines if row["label"] is not None]
    assert result["accuracy"] == pytest.approx(sum(right) / 13)
    assert "abstained on 7 of 20 (35.0%)" in ask(*evaluate).stdout


def test_verdicts_do_not_depend_on_how_many_rows_are_read_ahead(ask, here, monkeypatch):
    rows_of(here / "in.jsonl", 6)
    (here / "in.jsonl").write_text((here / "in.jsonl").read_text() + '{"text": ""}\n')

    def verdicts():
        classified = ask("--input=in.jsonl", "--json")
        assert classified.returncode == 1 and "in.jsonl:13:" in classified.stderr
        rows = [json.loads(row) for row in classified.stdout.splitlines()]
        return [(row["line"], row["label"], row["draws"]) for row in rows], [row["probability"] for row in rows]

    whole, sure = verdicts()
    monkeypatch.setattr(classifying, "_AHEAD", 5)
    again, as_sure = verdicts()
    assert len(whole) == 12 and again == whole
    assert as_sure == pytest.approx(sure, abs=1e-6)


def test_ctrl_c_keeps_what_is_done_and_tells_how_to_go_on(ask, here, monkeypatch):
    rows_of(here / "in.jsonl", 6)

    def stopped(name: str, *more: str):
        count = itertools.count()

        def until_stopped(*given):
            if next(count) == 4:
                raise KeyboardInterrupt
            return line(*given)

        line = classifying._Scorer._record
        with monkeypatch.context() as patched:
            patched.setattr(classifying._Scorer, "_record", until_stopped)
            done = ask("--input=in.jsonl", f"--output={name}", *more)
        assert done.returncode == 130
        assert done.stderr.endswith(f"{name} has all finished results: the same command resumes it\n")
        assert 1 <= len((here / name).read_text().splitlines()) <= 4
        return done

    assert stopped("verdicts.jsonl").stdout == ""
    assert ask("--input=in.jsonl", "--output=verdicts.jsonl").returncode == 0
    assert [json.loads(row)["line"] for row in (here / "verdicts.jsonl").read_text().splitlines()] == [*range(1, 13)]
    judged = stopped("judged.jsonl", "--evaluate")
    assert "% accuracy on " in judged.stdout and "scored in random order" in judged.stderr
    assert json.loads(ask("--input=in.jsonl", "--output=judged.jsonl", "--evaluate", "--json").stdout)["texts"] == 12


def test_a_limit_draws_at_random_so_that_a_sorted_head_is_not_taken(here):
    rows_of(here / "in.jsonl", 50)
    request = Request(model=classify_models.Request(), input="in.jsonl", evaluate=True, limit=20)
    chosen = _selected(_rows(request), request)
    labels = [row.label for row in chosen]
    assert len(chosen) == 20 and 4 <= labels.count("good") <= 16


def test_texts_come_from_all_kinds_of_files(here):
    rows = [("good", "warm sun"), ("bad", 'grey, "cold"\nrain')]
    with (here / "a.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["label", "text"])
        writer.writerows(rows)
        file.write("one,too,many\r\nbad,last\r\n")
    read = texts.read("a.csv", label_field="label")
    assert [(row.number, row.label, row.text) for row in read if not row.error] == [
        (2, "good", "warm sun"), (3, "bad", 'grey, "cold"\nrain'), (6, "bad", "last")
    ]  # fmt: skip
    assert [row.error for row in read if row.error] == [
        "3 fields, but the header has 2; text that contains commas must be quoted"
    ]
    (here / "b.jsonl.gz").write_bytes(gzip.compress(b'{"text": "x y", "label": 3}\n"plain"\n'))
    assert [row.text for row in texts.read("b.jsonl.gz")] == ["x y", "plain"]
    assert texts.read("b.jsonl.gz", label_field="label")[0].label == "3"
    for label, text in rows:
        (here / "tree" / label).mkdir(parents=True)
        (here / "tree" / label / "1.txt").write_text(text)
    assert [(row.label, row.text) for row in texts.read("tree", label_field="label")] == [rows[1], rows[0]]
    (here / "c.txt").write_bytes(b"first\n\n\xff\r\nlast\r\n")
    assert [(row.number, row.text, row.error) for row in texts.read("c.txt")] == [
        (1, "first", ""), (3, "", "not UTF-8"), (4, "last", "")
    ]  # fmt: skip


def test_stdin_holds_texts_too(ask):
    done = ask("--input=-", "--json", stdin=b"dull grey rain\n")
    assert [json.loads(line)["label"] for line in done.stdout.splitlines()] == ["bad"]


def test_temperature_is_found_at_the_end_of_training_and_kept(model):
    loaded = load_model(str(model))
    assert loaded.origin.temperature > 0
    log = [json.loads(line) for line in (model / "events.jsonl").read_text().splitlines()]
    [calibration] = [line for line in log if line["kind"] == "verdicts"]
    assert calibration["temperature"] == pytest.approx(loaded.origin.temperature)
    assert calibration["texts"] == 12
    classifier = from_model(loaded, "cpu")
    ids = [classifier.encode(text) for text in ("warm gold sun", "dull grey", "cold rain")]
    again = calibrate(classifier, ids, [1, 0, 0], 3)
    assert again is not None and again.assessment.texts == 3
    assert calibrate(classifier, ids, [1, 0, 0], 3, stop=lambda: True) is None


SHORT = ("--window=16", "--context=0", "--steps=12", "--eval-every=0", "--sample-every=0", "--device=cpu")
THIN = ("--set=model.layers=1", "--set=model.width=16", "--set=model.heads=2", "--set=train.lr=0.01")


def test_a_model_of_each_class_is_trained_gone_on_with_and_classifies(here, cli_fast):
    rows_of(here / "reviews.jsonl", 40)
    done = cli_fast("train", "--per-class", "--data=reviews.jsonl", "--run=pair", *SHORT, *THIN, "--steps=40")
    assert done.returncode == 0, done.stderr
    assert "class bad, 1 of 2: " in done.stderr and "class good, 2 of 2: " in done.stderr
    assert "classification of 8 held-out texts" in done.stdout
    each = PerClassRun.read(here / "checkpoints" / "pair")
    assert each.classes == each.runs == ("bad", "good")
    assert each.counts == (36, 36) and each.temperature > 0
    bad, good = (load_model(f"pair/{name}") for name in each.runs)
    assert bad.tokenizer.pieces == good.tokenizer.pieces
    assert (bad.origin.only, good.origin.only) == each.classes
    classified = cli_fast(
        "classify", "warm gold sun over hill", "dull grey rain", "--model=pair", "--json", "--device=cpu"
    )
    assert [json.loads(line)["label"] for line in classified.stdout.splitlines()] == ["good", "bad"]
    named = ("--model=up=pair/good", "--model=down=pair/bad")
    classified = cli_fast("classify", "warm gold sun over hill", *named, "--json", "--device=cpu")
    assert json.loads(classified.stdout)["label"] == "up"
    assert cli_fast("eval", "pair/good", "--device=cpu").returncode == 0
    assert "pair" in cli_fast("classify", "x").stderr
    refused = cli_fast("train", "--resume=pair", "--steps=50")
    assert refused.returncode == 2 and "resume one of them with --resume pair/CLASS" in refused.stderr


def test_what_was_stopped_between_classes_is_gone_on_with(here, cli_fast, monkeypatch):
    import tdiff.core.training.loop as trainer

    rows_of(here / "reviews.jsonl", 40)
    real, asked = trainer.train, []

    def stopping(*arguments, **how):
        asked.append(arguments[1].name)
        return real(*arguments, **how | {"stop": lambda: True} if len(asked) == 1 else how)

    monkeypatch.setattr(trainer, "train", stopping)
    done = cli_fast("train", "--per-class", "--data=reviews.jsonl", "--run=pair", *SHORT, *THIN)
    assert done.returncode == 0 and asked == ["bad"]
    assert "tdiff train --resume pair/bad" in done.stderr and "tdiff train --resume pair\n" in done.stderr
    done = cli_fast("train", "--resume=pair")
    assert done.returncode == 0, done.stderr
    assert asked == ["bad", "bad", "good"]
    assert PerClassRun.read(here / "checkpoints" / "pair").texts == 8


def test_a_causal_model_of_each_class_is_exact(here, cli_fast):
    rows_of(here / "reviews.jsonl", 40)
    make_causal(here / "my-gpt2", bos=True)
    done = cli_fast(
        "train", "--per-class", "--data=reviews.jsonl", "--run=gpts", "--init=my-gpt2", "--steps=30",
        "--window=16", "--context=0", "--eval-every=0", "--sample-every=0", "--device=cpu", "--lr=0.003",
        "--batch-size=8",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    classified = cli_fast(
        "classify", "warm gold sun over the hill", "--model=gpts", "--json", "--explain", "--device=cpu"
    )
    one = json.loads(classified.stdout)
    assert (one["label"], one["draws"], one["settings"]["method"]) == ("good", 1, "ar")
    assert one["interval"] == [one["probability"]] * 2
    models = {name: load_model(f"gpts/{name}") for name in ("bad", "good")}
    classifier = from_models(models, "cpu")
    ids = classifier.encode("warm gold sun over the hill")
    verdict = next(iter(classifier.predict([ids], Effort()))).prediction
    for network, found in zip(classifier.networks, verdict.nats, strict=True):
        scored = network.spec.scorable(torch.ones(1, len(ids), dtype=torch.bool))
        assert float(-network.log_likelihood(ids[None], scored).sum()) == pytest.approx(found, rel=1e-4)


@pytest.mark.parametrize("how", ["--per-class", "--classes"])
def test_a_pretrained_masked_model_learns_classes(how, zoo, here, cli_fast):
    rows_of(here / "reviews.jsonl", 40)
    done = cli_fast(
        "train", how, "--data=reviews.jsonl", "--run=kinds", f"--init={zoo['roberta']}", "--steps=30", "--window=16",
        "--context=0", "--eval-every=0", "--sample-every=0", "--device=cpu", "--lr=0.003", "--batch-size=8",
        "--set=data.rows=padded",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    texts = ["warm gold sun over the hill", "dull grey rain and stone"]
    classified = cli_fast("classify", *texts, "--model=kinds", "--json", "--device=cpu")
    assert classified.returncode == 0, classified.stderr
    one, other = map(json.loads, classified.stdout.splitlines())
    assert one["settings"]["method"] == "bound"
    assert one["posterior"]["good"] > 0.5 > other["posterior"]["good"]


def test_a_slot_is_filled_by_the_command(zoo, loaded, here, cli_fast):
    pieces = (piece.strip() for piece in loaded["bert"].tokenizer.pieces if piece.startswith(" "))
    words = [piece for piece in pieces if len(piece) > 2 and piece.isalpha()][:2]
    done = cli_fast(
        "classify", " ".join(words), "--method=cloze", f"--model={zoo['bert']}", f"--words=x={words[0]} y={words[1]}",
        "--pattern={text} {mask}", "--json", "--device=cpu",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    verdict = json.loads(done.stdout)
    found = from_words(loaded["bert"], {"x": words[:1], "y": words[1:]}, "{text} {mask}", "cpu")
    [look] = found.predict([found.encode(" ".join(words))], Effort())
    assert verdict["posterior"] == pytest.approx(dict(zip("xy", look.prediction.posterior, strict=True)), abs=1e-3)


def test_models_that_do_not_go_together_are_refused(loaded, model, tmp_path):
    ours = load_model(str(model))
    causal = load_model(str(make_causal(tmp_path / "gpt2", bos=True)))
    with pytest.raises(TdiffError, match="their likelihoods cannot be compared"):
        from_models({"a": loaded["roberta"], "b": causal}, "cpu")
    with pytest.raises(TdiffError, match="have different tokenizers: train them with the same one"):
        from_models({"a": loaded["roberta"], "b": ours}, "cpu")
    with pytest.raises(TdiffError, match="at least two classes"):
        from_models({"a": ours}, "cpu")


def test_a_pretrained_model_fills_in_a_word(loaded):
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
def test_a_slot_that_cannot_be_filled_is_refused(words, pattern, says, loaded):
    with pytest.raises(TdiffError) as error:
        from_words(loaded["bert"], words, pattern, "cpu")
    assert says in str(error.value)


def test_text_to_hold_out_may_be_named(here, cli_fast):
    rows_of(here / "reviews.jsonl", 20)
    rows_of(here / "later.jsonl", 5, seed=7)
    done = cli_fast(
        "train", "--classes", "--data=reviews.jsonl", "--eval-data=later.jsonl", "--run=kept", *SHORT, *THIN
    )
    assert done.returncode == 0, done.stderr
    log = [json.loads(line) for line in Path("checkpoints/kept/events.jsonl").read_text().splitlines()]
    assert next(line for line in log if line["kind"] == "verdicts")["texts"] == 10
    assert load_model("kept").origin.counts == (20, 20)
    evaluation = json.loads(cli_fast("eval", "kept", "--json", "--device=cpu").stdout)
    final = next(line for line in log if line["kind"] == "eval" and line["final"])
    assert evaluation["tokens"] == final["tokens"]
    (here / "odd.jsonl").write_text('{"text": "a", "label": "strange"}\n')
    refused = cli_fast("train", "--classes", "--data=reviews.jsonl", "--eval-data=odd.jsonl", *SHORT, *THIN)
    assert refused.returncode == 2 and "unknown class in the text to hold out 'strange'" in refused.stderr


HOSTILE = "good\x9b31m\u202e<script>alert(1)</script>"


def test_hostile_text_and_classes_are_inert_wherever_they_are_shown(here, cli_fast, tmp_path):
    draw = random.Random(0)
    rows = [{"text": sentence(draw, label), "label": name} for label, name in (("bad", "bad"), ("good", HOSTILE))] * 30
    (here / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = settings_of(here / "rows.jsonl", CLASSES, SMALL, BRIEF, {"data": {"unknown": "token"}})
    model = train_in(tmp_path / "checkpoints", "evil", settings)[0].path
    text = "warm gold <b>sun</b> \x1b[2J\u202e"
    judge = ("--evaluate", "--input=rows.jsonl", "--limit=20")
    shown = [
        cli_fast("classify", *what, f"--model={model}", "--device=cpu")
        for what in (
            (text,), (text, "--explain", "--html=a.html"), (text, "--json"),
            judge, (*judge, "--html=b.html"), (*judge, "--json"),
        )
    ]  # fmt: skip
    for done in shown:
        assert done.returncode == 0, done.stderr
        assert not set("\x1b\x9b\u202e") & set(done.stdout + done.stderr)
    assert len(shown[0].stdout.splitlines()) == 1
    for page in ("a.html", "b.html"):
        written = (here / page).read_text()
        assert "<script>" not in written and "<b>" not in written and not set("\x1b\x9b\u202e") & set(written)


def test_predictions_stored_without_labels_are_evaluated_with_the_labels_of_the_input(ask, here):
    rows_of(here / "in.jsonl", 5)
    assert ask("--input=in.jsonl", "--output=out.jsonl").returncode == 0
    done = ask("--input=in.jsonl", "--output=out.jsonl", "--evaluate", "--json")
    assert json.loads(done.stdout)["texts"] == 10, done.stderr
    (here / "two.jsonl").write_text(json.dumps({"text": "warm", "other": "dull"}) + "\n")
    ask("--input=two.jsonl", "--output=two.out")
    refused = ask("--input=two.jsonl", "--output=two.out", "--text-field=other")
    assert "was written with text-field text, not other" in refused.stderr
    assert (
        "was written with explain False, not True" in ask("--input=two.jsonl", "--output=two.out", "--explain").stderr
    )


def test_what_stands_in_a_row_beside_the_text_is_not_shown_for_it(ask, here):
    (here / "in.jsonl").write_text(json.dumps({"id": "a0", "label": "good", "text": "warm gold"}) + "\n")
    assert ask("--input=in.jsonl").stdout.rstrip().endswith("  warm gold")


def test_bad_files_of_a_folder_are_passed_over(here):
    (here / "tree" / "a").mkdir(parents=True)
    (here / "tree" / "a" / "1.txt").write_text("fine")
    (here / "tree" / "a" / "2.txt.gz").write_bytes(b"no gzip")
    (here / "tree" / "a" / "3.csv").write_text("text\nx\n")
    found = texts.read("tree", label_field="label")
    assert [row.text for row in found] == ["fine", "", ""]
    assert "cannot be read" in found[1].error and "contains rows: use it as an input of its own" in found[2].error


def test_what_is_no_text_is_refused_by_tokens_of_several_characters(here, cli_fast):
    rows_of(here / "reviews.jsonl", 20)
    done = cli_fast("train", "--classes", "--data=reviews.jsonl", "--tokenizer=bpe:40", "--run=bpe", *SHORT, *THIN)
    assert done.returncode == 0, done.stderr
    done = cli_fast("classify", "warm caf\udce9", "warm €", "--model=bpe", "--json", "--device=cpu")
    assert done.returncode == 1 and "text:1: not UTF-8; skipped" in done.stderr
    assert len(done.stdout.splitlines()) == 1  # a character that it never saw is no hindrance
    with pytest.raises(TdiffError, match="the text is not UTF-8"):
        load_model("bpe").tokenizer.encode("\ud800")


def test_a_model_of_classes_from_before_they_had_odds_of_tokens_is_what_it_was(model, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "old"
    folder.mkdir()
    for file in (model / "model").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    tensors = load_file(folder / "model.safetensors")
    del tensors["label_bias.weight"]
    save_file(tensors, folder / "model.safetensors")
    assert not load_model(str(folder)).network.label_bias.weight.any()
    for counts in ([0, 0], [-1, 2], [5]):
        config = json.loads((model / "model" / "config.json").read_text())
        config["origin"]["counts"] = counts
        (folder / "config.json").write_text(json.dumps(config))
        with pytest.raises(TdiffError, match="classes and counts do not go together"):
            load_model(str(folder))


def test_a_text_of_one_token_has_no_likelihood_where_nothing_begins_a_text(tmp_path):
    models = {name: load_model(str(make_causal(tmp_path / name, bos=False))) for name in ("a", "b")}
    classifier = from_models(models, "cpu")
    one = classifier.encode("a")[:1]
    assert not classifier.can_score(one)
    assert classifier.can_score(classifier.encode("a b c"))


def test_a_class_that_is_too_small_is_refused_before_the_others_are_trained(here, cli_fast):
    rows_of(here / "reviews.jsonl", 20)
    with (here / "reviews.jsonl").open("a") as file:
        file.write(json.dumps({"text": "so so", "label": "neutral"}) + "\n")
    refused = cli_fast("train", "--per-class", "--data=reviews.jsonl", "--run=three", *SHORT, *THIN)
    assert refused.returncode == 2 and "class 'neutral' has too few texts" in refused.stderr
    assert not (here / "checkpoints").exists()


def test_folders_of_classes_differ_and_stay_where_they_are(tmp_path):
    assert _folder_names(("bad", "good")) == ("bad", "good")
    for labels in (("?", "class 1", "class 2"), ("a", "A"), ("1-a", "a?", "a")):
        names = _folder_names(labels)
        assert len(set(names)) == len(labels) and all(name and "/" not in name for name in names)
    for broken in (
        {"runs": ["..", "b"]},
        {"runs": ["", "b"]},
        {"counts": [3, -1]},
        {"classes": ["a", "a"]},
        {"runs": 3},
    ):
        content = {"classes": ["a", "b"], "runs": ["a", "b"], "counts": [1, 1], "settings": {}} | broken
        (tmp_path / "classes.json").write_text(json.dumps(content))
        with pytest.raises(TdiffError, match=r"classes\.json"):
            PerClassRun.read(tmp_path)


def test_text_from_stdin_is_kept_without_what_is_held_out(here, cli_fast):
    (here / "held.txt").write_text("what is held out\n" * 9)
    text = ("what is there to be trained on\n" * 40).encode()
    done = cli_fast("train", "--data=-", "--eval-data=held.txt", "--run=piped", *SHORT, *THIN, stdin=text)
    assert done.returncode == 0, done.stderr
    assert (here / "checkpoints" / "piped" / "resume" / "corpus.txt").read_bytes() == text
    assert cli_fast("eval", "piped", "--device=cpu").returncode == 0
    more = cli_fast("train", "--resume=piped", "--steps=14")
    assert more.returncode == 0, more.stderr


def test_what_comes_after_training_is_not_counted_as_training(model):
    run = runs.Run(model)
    log = [json.loads(line) for line in (model / "events.jsonl").read_text().splitlines()]
    last = max(line["time"] for line in log if line["kind"] == "train")
    with safe_open(run.state, "pt") as file:
        assert float(file.metadata()["seconds"]) <= last - log[0]["time"] + 0.2
