"""`tdiff classify --input`: rows of files, stored predictions, and evaluation."""

import csv
import gzip
import itertools
import json

import pytest

from tdiff.commands import classify as classifying
from tdiff.commands import classify_models
from tdiff.commands.classify import Request, _rows, _selected
from tdiff.corpus import rows as texts
from tests.support.classifying import rows_of


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


def test_interrupted_output_resumes_to_the_same_predictions(ask, here):
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


def test_evaluation_scores_all_rows_in_random_order_and_saves_predictions(ask, here):
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


def test_evaluation_excludes_texts_on_which_it_abstains(ask, here):
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


def test_predictions_do_not_depend_on_the_number_of_rows_read_ahead(ask, here, monkeypatch):
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


def test_ctrl_c_saves_finished_results_and_says_how_to_resume(ask, here, monkeypatch):
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


def test_limit_selects_random_rows_of_a_sorted_file(here):
    rows_of(here / "in.jsonl", 50)
    request = Request(model=classify_models.Request(), input="in.jsonl", evaluate=True, limit=20)
    chosen = _selected(_rows(request), request)
    labels = [row.label for row in chosen]
    assert len(chosen) == 20 and 4 <= labels.count("good") <= 16


def test_texts_are_read_from_csv_jsonl_gz_folders_and_lines(here):
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


def test_texts_are_read_from_stdin(ask):
    done = ask("--input=-", "--json", stdin=b"dull grey rain\n")
    assert [json.loads(line)["label"] for line in done.stdout.splitlines()] == ["bad"]


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


def test_only_the_text_field_of_a_row_is_shown(ask, here):
    (here / "in.jsonl").write_text(json.dumps({"id": "a0", "label": "good", "text": "warm gold"}) + "\n")
    assert ask("--input=in.jsonl").stdout.rstrip().endswith("  warm gold")


def test_bad_files_of_a_folder_become_rows_with_errors(here):
    (here / "tree" / "a").mkdir(parents=True)
    (here / "tree" / "a" / "1.txt").write_text("fine")
    (here / "tree" / "a" / "2.txt.gz").write_bytes(b"no gzip")
    (here / "tree" / "a" / "3.csv").write_text("text\nx\n")
    found = texts.read("tree", label_field="label")
    assert [row.text for row in found] == ["fine", "", ""]
    assert "cannot be read" in found[1].error and "contains rows: use it as an input of its own" in found[2].error
