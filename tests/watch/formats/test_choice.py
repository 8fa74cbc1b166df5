"""Numbers that the user names by hand, in every format; and what is said where no loss is found."""

import gzip
import json

import pytest

from tdiff.errors import TdiffError
from tdiff.watch.formats.choice import Choice
from tdiff.watch.reader import Reader

TEXT = [f"round {n} acc=0.{n} energy {5 - n / 10}" for n in range(1, 9)]
ROWS = [{"tick": 10 * n, "acc": n / 10, "energy": 5 - n / 10, "score": 9.0} for n in range(1, 9)]
LOGS = {
    "text": [f"tick {10 * n} acc=0.{n} energy {5 - n / 10}" for n in range(1, 9)],
    "JSON": [json.dumps(row) for row in ROWS],
    "nested JSON": [json.dumps({"at": {"tick": row.pop("tick")}, "of": row}) for row in map(dict, ROWS)],
    "prefixed": [f"INFO fit {json.dumps(row)}" for row in ROWS],
    "Python": [str(row) for row in ROWS],
    "CSV": ["tick,acc,energy,score", *(",".join(map(str, row.values())) for row in ROWS)],
    "one document": json.dumps({"rows": ROWS}, indent=1).split("\n"),
}


def fed(lines, choice=None) -> Reader:
    reader = Reader("log", choice=choice)
    reader.feed(list(lines))
    reader.settle(over=True)
    return reader


@pytest.mark.parametrize("name", LOGS)
def test_named_numbers_are_the_loss_and_the_step_in_every_format(name):
    run = fed(LOGS[name], Choice(loss="energy", step="tick")).state
    assert list(run.metrics["train/loss"].steps) == [10 * n for n in range(1, 9)]
    assert run.metrics["train/loss"].last == (80, pytest.approx(4.2))
    assert run.note == ""
    assert run.log[0] == "-- read with --loss 'energy' --step 'tick'"


@pytest.mark.parametrize("name", LOGS)
def test_without_a_name_no_loss_is_found_and_the_numbers_are_listed(name):
    reader = fed(LOGS[name])
    assert "train/loss" not in reader.state.metrics
    assert reader.state.note.startswith("no loss found: ")
    assert "energy" in reader.state.note and "--loss NAME" in reader.state.note


def test_a_named_loss_wins_over_what_words_say():
    lines = [f'{{"step": {n}, "loss": 3.0, "val_loss": 2.5, "objective2": {n}}}' for n in range(1, 5)]
    run = fed(lines, Choice(loss="objective2", val="loss")).state
    assert run.metrics["train/loss"].last == (4, 4)
    assert run.metrics["eval/loss"].last == (4, 3)
    assert run.metrics["val_loss"].last == (4, 2.5)


def test_a_tdiff_run_can_be_read_by_other_names():
    lines = [f'{{"kind":"train","time":1.0,"step":{n},"loss":2.0,"grad_norm":{n}.5}}' for n in range(1, 4)]
    run = fed(lines, Choice(loss="grad_norm")).state
    assert (run.format, run.metrics["train/loss"].last) == ("json", (3, 3.5))


@pytest.mark.parametrize(
    ("pattern", "points", "total"),
    [
        (r"round (?P<step>\d+).*energy (?P<loss>\S+)", [(n, 5 - n / 10) for n in range(1, 9)], None),
        (r"energy (\S+)", [(n, 5 - n / 10) for n in range(1, 9)], None),
        (r"(?P<epoch>\d) acc=(?P<acc>\S+) energy (?P<loss>\S+)", [(n, 5 - n / 10) for n in range(1, 9)], None),
    ],
)
def test_a_pattern_names_numbers_by_its_groups(pattern, points, total):
    run = fed(["starting", *TEXT, "done"], Choice(pattern=pattern)).state
    series = run.metrics["train/loss"]
    assert list(zip(series.steps, series.mean, strict=True)) == [(s, pytest.approx(v)) for s, v in points]
    assert (run.format, run.note, len(run.log)) == ("pattern", "", 11)
    assert ("acc" in run.metrics) == ("acc" in pattern)


def test_groups_of_a_pattern_have_the_meaning_of_their_names():
    lines = [f"2031-01-02 03:04:0{n} <{n}|9> tr {3 - n / 10} va {4 - n / 10} r 1e-{n}" for n in range(1, 9)]
    pattern = r"(?P<time>\S+ \S+) <(?P<step>\d+)\|(?P<total>\d+)> tr (?P<loss>\S+) va (?P<val>\S+) r (?P<lr>\S+)"
    run = fed(lines, Choice(pattern=pattern)).state
    assert run.metrics["eval/loss"].last == (8, pytest.approx(3.2))
    assert run.metrics["train/lr"].last == (8, pytest.approx(1e-8))
    assert (run.step, run.total) == (8, 9)
    assert run.clock.last[1] - run.clock.mean[0] == 7


def test_a_pattern_searches_the_beginning_of_a_long_line_only():
    run = fed(["x" * 990 + " e 2.5", "x" * 2000 + " e 1.5"], Choice(pattern=r"e (\d\S*)")).state
    assert run.metrics["train/loss"].count == 1


@pytest.mark.parametrize(
    ("choice", "text"),
    [
        (Choice(pattern="loss ("), r"no regular expression: missing \), unterminated subpattern at character 6"),
        (Choice(pattern="loss .*"), r"needs a group for the loss, .* has no groups"),
        (Choice(pattern="(a) (b)"), "has 2 groups"),
        (Choice(pattern="(?P<step>.)"), "has only step"),
        (Choice(pattern="(a)", loss="x"), r"groups such as \(\?P<loss>"),
        (Choice(pattern="(" + "a" * 500 + ")"), "at most 500 characters; got 502"),
    ],
)
def test_invalid_choices_are_refused(choice, text):
    with pytest.raises(TdiffError, match=text):
        choice.check()


def test_what_is_missing_comes_with_the_nearest_names():
    assert fed(TEXT, Choice(loss="enrgy")).missing == "no number named 'enrgy' (--loss); did you mean energy?"
    missing = fed(LOGS["CSV"], Choice(loss="energy", step="zzz")).missing
    assert missing == "no number named 'zzz' (--step); there are tick, acc, energy, score"
    assert fed(TEXT, Choice(pattern="nothing (.)")).missing.startswith("no loss found: --pattern 'nothing (.)' matches")
    assert fed(TEXT, Choice(loss="energy")).missing == ""
    assert fed([], Choice(loss="energy")).missing == ""


def test_the_note_counts_lines_and_names_the_most_frequent_numbers():
    assert fed(["hello", "there"]).state.note == "no loss found: 2 lines of text, no number with a name"
    note = fed(["mem=3", *TEXT, "done in 5 s"]).state.note
    assert note.startswith("no loss found: 10 lines of text, numbers named round, acc, energy, mem")
    assert "no whole loss found" in fed(['{"epoch": 1, "box_loss": 2.0}']).state.note
    assert "\x1b" not in fed(["a\x1b]0;x\x07b=3"]).state.note


def test_the_note_is_gone_once_there_is_a_loss_and_back_after_a_reset():
    reader = fed(["a=1"])
    assert reader.state.note
    reader.feed(["step 1 loss 2.5"])
    assert reader.state.note == ""
    reader.reset()
    assert reader.state.note == ""
    reader.feed(["a=1"])
    assert reader.state.note


def test_names_are_found_in_packed_files_too(tmp_path):
    from tdiff.watch.follow import Watched
    from tdiff.watch.targets import Target

    path = tmp_path / "log.gz"
    path.write_bytes(gzip.compress("\n".join([*TEXT, ""]).encode()))
    watched = Watched(Target("file", "log", path=path, choice=Choice(loss="energy")))
    watched.finish(5)
    assert watched.run_state.metrics["train/loss"].count == 8
    watched.close()


def test_a_pattern_that_takes_too_long_is_given_up_with_one_line(monkeypatch):
    from tdiff.watch.formats import pattern

    monkeypatch.setattr(pattern, "LIMIT", 0.02)
    pattern.searcher.cache_clear()
    reader = fed(["step 1 loss " + "a" * 80] * 3, Choice(pattern="(a|aa)+$(?P<loss>x)"))
    assert reader.state.note.startswith("--pattern '(a|aa)+$(?P<loss>x)' needs more than 0.02 s for a line of 92 char")
    assert reader.missing == reader.state.note
    pattern.searcher.cache_clear()
