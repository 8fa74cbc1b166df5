"""`tdiff compare`: settings on the same prompts, the report on each, and the advice."""

import json
import random
from dataclasses import replace
from types import SimpleNamespace

import pytest

from tdiff.commands import compare
from tdiff.config.decoding import DecodeSettings
from tdiff.core.evaluation.compare import Contender, Outcome, Task, advise, run, shortfall, task
from tdiff.core.evaluation.quality import Judge, Quality
from tdiff.core.models.load import load_model
from tdiff.corpus import corpus as data
from tdiff.draw.render import plain
from tdiff.errors import TdiffError
from tdiff.report import comparison
from tests.support.runs import settings_of, train_in, words

QUICK = DecodeSettings(decoder="schedule", steps=4)


def qualities(seed: int, nats: float = 1.7, distinct: float = 0.9, share: float = 0.95) -> list[Quality]:
    draw = random.Random(seed)
    return [
        Quality(nats + draw.gauss(0, 0.02), distinct + draw.gauss(0, 0.005), share + draw.gauss(0, 0.005))
        for _ in range(100)
    ]


TASK = Task(["p"] * 100, ["ptext"] * 100, qualities(0), "text")


def outcome(calls: float, name: str = "x", **quality: float) -> Outcome:
    contender = Contender(SimpleNamespace(name="m"), DecodeSettings(), name)
    return Outcome(contender, ["ptext"] * 100, qualities(7, **quality), calls, 0.0, 24_000, 10.0, "te")


# Settings


def test_grid_has_every_combination_once():
    found = list(compare.parse("", ["decoder=topk k=4,8 temperature=0.7,1", "decoder=topk k=8 top-k=0"]))
    assert [label for label, _ in found] == [
        "topk k 4 temperature 0.7",
        "topk k 4",
        "topk k 8 temperature 0.7",
        "topk k 8",
    ]
    assert found[0][1] == DecodeSettings(decoder="topk", k=4, temperature=0.7)


def test_label_names_settings_that_are_not_defaults():
    grid = "decoder=remdm remask=cap,rescale,loop eta=0.015 steps=0,64"
    assert [label for label, _ in compare.parse("klass", [grid])] == [
        "klass",
        "remdm cap eta 0.015",
        "remdm cap eta 0.015 steps 64",
        "remdm rescale",
        "remdm rescale steps 64",
        "remdm loop eta 0.015",
        "remdm loop eta 0.015 steps 64",
    ]


def test_decoders_by_name_have_their_usual_settings_and_without_any_some_usual_ones_are_taken():
    found = dict(compare.parse("confidence, ancestral", []))
    assert found == {
        "confidence threshold 0.7": DecodeSettings(),
        "ancestral": DecodeSettings(decoder="ancestral"),
    }
    usual = [settings.decoder for _, settings in compare.parse("", [])]
    assert len(usual) == 9 and set(usual) == {"confidence", "schedule", "ancestral"}


@pytest.mark.parametrize(
    ("decoders", "settings", "says"),
    [
        ("confidnce", [], "did you mean confidence"),
        ("", ["decoder=topk k"], "NAME=VALUE"),
        ("", ["decoder=topk kk=4"], "'kk'"),
        ("", ["seed=4"], "'seed'"),
        ("", ["threshold=high"], "takes a number; got 'high'"),
        ("", ["threshold=1.5"], "threshold must lie between 0 and 1"),
        ("", ["k=2.5"], "takes a whole number"),
    ],
)
def test_invalid_comparison_is_refused(decoders, settings, says):
    with pytest.raises(TdiffError, match=says.replace("'", "'")):
        list(compare.parse(decoders, settings))


# Running


@pytest.fixture(scope="module")
def judged(tiny_run):
    judge = Judge(words(2000))
    return load_model(str(tiny_run.path)), judge, task(judge, words(2000, seed=9), 5)


def test_prompts_are_distinct_spans_of_the_held_out_text_with_their_continuations():
    text = words(800, seed=4)
    asked = task(Judge(words(500)), text, 6)
    assert len(set(asked.prompts)) == 6 and all(len(prompt) == 16 for prompt in asked.prompts)
    assert all(
        real in text and real.startswith(p) and len(real) == 256
        for p, real in zip(asked.prompts, asked.real, strict=True)
    )
    assert asked.prompts[0] == text[:16] and text.endswith(asked.real[-1])


def test_a_text_too_short_for_its_prompts_is_refused():
    with pytest.raises(TdiffError, match="ask for at most 1"):
        task(Judge("abc"), words(100)[:256], 2)


def test_texts_go_on_from_the_prompts_and_depend_on_neither_batch_nor_company(judged):
    model, judge, asked = judged
    progress: list[tuple[int, int]] = []
    found = run(Contender(model, QUICK, "quick"), asked, judge, lambda done, total: progress.append((done, total)))
    assert all(
        text.startswith(prompt) and len(text) == 256 for prompt, text in zip(asked.prompts, found.texts, strict=True)
    )
    assert progress[-1] == (5, 5) and found.tokens == 5 * 240 and found.seconds > 0
    few = replace(asked, prompts=asked.prompts[:2], real=asked.real[:2], qualities=asked.qualities[:2])
    assert run(Contender(model, QUICK, "quick"), few, judge).texts == found.texts[:2]
    other = run(Contender(model, replace(QUICK, seed=1), "quick"), asked, judge)
    assert other.texts != found.texts


# Advice


def test_advice_names_the_cheapest_setting_of_equal_quality_and_the_pareto_front():
    many = [
        outcome(230, "slow and best"),
        outcome(60, "quick and as good"),
        outcome(120, "between"),
        outcome(20, "bad", share=0.7),
    ]
    advice = advise(many, TASK)
    assert advice.recommended == 1 and set(advice.equal) == {0, 1, 2} and advice.front == [3, 1]
    assert shortfall(many[3], TASK) > 10 > shortfall(many[1], TASK)
    assert "Recommended: quick and as good (60 model calls per text)." in comparison.recommendation(
        many, replace(advice, best=0)
    )


def test_best_contender_is_advised_if_no_cheaper_one_is_equal():
    many = [outcome(230, "best"), outcome(60, "looping", distinct=0.5), outcome(50, "flat", nats=2.4)]
    advice = advise(many, TASK)
    assert advice.recommended == advice.best == 0 and advice.equal == [0]
    assert "no cheaper setting was measured to be as good" in comparison.recommendation(many, advice)


def test_the_table_and_the_picture_are_these():
    many = [
        outcome(230.4, "confidence threshold 0.9"),
        outcome(60, "ancestral steps 64"),
        outcome(20, "hasty", share=0.7),
    ]
    advice = advise(many, TASK)
    lines = plain(comparison.table(many, TASK, advice)).split("\n")
    assert lines[1].split()[:2] == ["real", "text"]
    assert lines[3].startswith("> B  ancestral steps 64") and " 60.0 " in lines[3] and " 2,400 " in lines[3]
    assert [line[0] for line in lines[2:]] == ["*", ">", " "]
    drawn = plain(comparison.plot(many, advice, width=40, height=8)).split("\n")
    assert "[C]" in drawn[1] and any("[B]" in line and "A" in line for line in drawn[-3:])
    assert drawn[-1].strip().startswith("└20 ") and drawn[-1].endswith("230 model calls per text")


def test_report_shows_texts_side_by_side_and_escapes_markup():
    evil = replace(outcome(9, "<b>x</b>"), texts=["p<script>alert(1)</script>\x1b[31m"] * 100)
    page = comparison.page([evil, outcome(20, "y")], TASK, advise([evil, outcome(20, "y")], TASK))
    assert "<script>" not in page and "&lt;script&gt;" in page and "\x1b" not in page and "<b>x</b>" not in page
    assert page.count('class="texts"') == 12


# The command


def test_the_command_prints_a_table_a_picture_and_advice_or_json_and_saves_a_report(cli_fast, tiny_run, here):
    (here / "long.txt").write_text(words(4000, seed=2))
    arguments = [
        "compare",
        str(tiny_run.path),
        "--data=long.txt",
        "--prompts=3",
        "--settings=decoder=schedule steps=2,4",
    ]
    done = cli_fast(*arguments, "--html=report.html")
    assert (
        done.returncode == 0
        and "real text" in done.stdout
        and done.stdout.strip().split("\n")[-1].startswith("Recommended: ")
    )
    assert "saved report.html" in done.stderr and (here / "report.html").read_text().startswith("<!doctype html>")
    report = json.loads(cli_fast(*arguments, "--json").stdout)
    assert [one["label"] for one in report["outcomes"]] == ["schedule steps 2", "schedule steps 4"]
    few, many = (one["calls"] for one in report["outcomes"])
    assert many == 2 * few  # of each of the windows
    assert len(report["prompts"]) == len(report["outcomes"][0]["texts"]) == 3
    assert report["taken"] in (0, 1) and report["advice"].startswith("Recommended: ")


def test_the_prompts_are_of_the_part_that_is_asked_for_or_that_the_model_held_out(cli_fast, here, corpus_file):
    (here / "long.txt").write_text(words(9000, seed=2))
    settings = settings_of(here / "long.txt", {"train": {"steps": 1}, "data": {"held_out": "tuning"}})
    train_in(here, "tuned", settings)
    corpus = data.load(["long.txt"])
    for options, part in (((), "tuning"), (("--split=val",), "tenth"), (("--split=tuning",), "tuning")):
        done = cli_fast("compare", "tuned/model", "--decoders=topk", "--prompts=2", "--json", *options)
        real = json.loads(done.stdout)["real"]["texts"]
        assert all(text in corpus.split(part)[1] for text in real)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--split=train"], "--split takes val or tuning; got 'train'"),
        (["--prompts=1"], "--prompts must be at least 2"),
        (["--html=nowhere/report.html"], "cannot be written: name a file in an existing folder"),
        (["--decoders=topkk"], "did you mean topk"),
        (["--settings=k=" + ",".join(map(str, range(1, 60)))], "at most 52 combinations"),
        (["--data=tale.txt"], "too few"),
    ],
)
def test_bad_input_is_one_line(cli_fast, tiny_run, here, arguments, says):
    (here / "tale.txt").write_text(words(60))
    assert says in cli_fast("compare", str(tiny_run.path), *arguments).refused()
