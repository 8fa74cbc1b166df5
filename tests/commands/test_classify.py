"""`tdiff classify` on texts of the command line."""

import json
import random

import pytest

from tdiff.commands import classify_models
from tdiff.core.classification.cloze import from_words
from tdiff.core.classification.load import from_model
from tdiff.core.classification.prediction import Effort
from tdiff.core.models.load import load_model
from tests.support.classifying import BRIEF, CLASSES, SMALL, rows_of, sentence
from tests.support.runs import settings_of, train_in


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


def test_prediction_is_reproducible_and_independent_of_other_texts(ask):
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


def test_prediction_below_abstain_below_has_no_label(ask):
    prediction = json.loads(ask("warm", "--abstain-below=1", "--json", "--max-draws=4").stdout)
    assert prediction["label"] is None
    assert prediction["likeliest"] in ("good", "bad")
    assert ask("warm", "--abstain-below=1", "--max-draws=4").stdout.startswith("abstains (")


def test_priors_come_from_training_counts_or_the_option(ask, model):
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
def test_invalid_options_are_refused_in_one_line_and_change_no_file(arguments, says, ask, here):
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


def test_missing_model_error_suggests_a_command(cli_fast, here, model):
    done = cli_fast("classify", "some text")
    assert done.returncode == 2
    assert f"train one first with {classify_models.TRAIN}" in done.stderr
    (here / "checkpoints").mkdir()
    (here / "checkpoints" / "mine").symlink_to(model)
    assert "name one, such as --model mine" in cli_fast("classify", "some text").stderr
    assert "has no classes: train a model with classes by" in cli_fast("classify", "x", "--model=shakespeare").stderr


def test_command_classifies_by_cloze(zoo, loaded, here, cli_fast):
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
