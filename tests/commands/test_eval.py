"""`tdiff eval`: what is counted, on which text, and one line where there is none."""

import dataclasses
import json
import math
import re

import pytest

from tdiff.core.diffusion.objective import likelihood
from tdiff.core.evaluation import likelihood as evaluate
from tdiff.core.models.load import load_model, save_model
from tdiff.corpus import corpus, named
from tdiff.protocol.events import Eval
from tests.support.runs import settings_of, train_in, words

KEYS = ["nats_per_token", "nats_per_char", "bits_per_char", "interval_95", "tokens", "draws", "seconds"]


@pytest.fixture
def score(cli_fast, tiny_run):
    """`tdiff eval tiny --json ...`, read."""

    def run(*arguments: str, model: str = str(tiny_run.path)) -> dict:
        done = cli_fast("eval", model, "--json", "--device=cpu", *arguments)
        assert (done.returncode, done.stderr) == (0, ""), done
        return json.loads(done.stdout)

    return run


def timeless(result: dict) -> dict:
    return result | {"seconds": 0}


@pytest.fixture
def tale(here) -> str:
    """A text of 333 characters: ten windows of 32 and a tail."""
    (here / "other.txt").write_text(words(200, seed=5)[:333])
    return "other.txt"


def test_json_has_these_keys_and_consistent_units(score, tale):
    result = score(f"--data={tale}")
    assert list(result) == KEYS
    assert result["nats_per_token"] == pytest.approx(result["nats_per_char"])  # a token is a character
    assert result["bits_per_char"] == pytest.approx(result["nats_per_char"] / math.log(2), rel=1e-5)
    low, high = result["interval_95"]
    assert low < result["nats_per_token"] < high
    assert 0 < result["nats_per_char"] < 4
    assert result["draws"] == 7  # at least 4, and 64 over the 10 whole windows
    assert result["seconds"] > 0


def test_a_text_given_is_taken_whole_and_its_tail_shorter_than_a_window_is_counted(score, tale):
    assert score(f"--data={tale}")["tokens"] == 333
    assert timeless(score(f"--data={tale}")) == timeless(score(f"--data={tale}", "--split=all"))
    assert score(f"--data={tale}", "--split=train")["tokens"] == 299
    assert score(f"--data={tale}", "--split=val")["tokens"] == 34


def test_requested_draws_apply_to_short_texts_too(score, tale, tiny_run, monkeypatch):
    drawn = []
    monkeypatch.setattr(evaluate, "likelihood", lambda *a, **k: drawn.append(k["draws"]) or likelihood(*a, **k))
    for draws in (1, 4, 64):
        assert score(f"--data={tale}", f"--draws={draws}")["draws"] == draws
    assert drawn == [1, 1, 4, 4, 64, 64]  # whole windows, and the tail
    score(f"--data={tale}")
    assert drawn[6:] == [7, 64]
    (tiny_run.path.parent / "long.txt").write_text(words(2000))
    assert score(f"--data={tiny_run.path.parent / 'long.txt'}")["draws"] == 4


@pytest.mark.parametrize("size", [1, 31, 32, 33])
def test_a_text_of_any_length_is_counted_to_its_last_token(size, score, here):
    (here / "a.txt").write_text(words(50)[:size])
    result = score("--data=a.txt")
    assert result["tokens"] == size
    assert math.isfinite(result["nats_per_char"])


def test_without_data_the_last_tenth_of_the_models_own_corpus_is_taken(score, corpus_file, tiny_run):
    text = corpus_file.read_text()
    own = score()
    assert own["tokens"] == len(text) - len(text) * 9 // 10
    assert timeless(own) == timeless(score(f"--data={corpus_file}", "--split=val"))
    trained = next(e for e in tiny_run.history() if isinstance(e, Eval) and e.final)
    assert own["tokens"] == trained.tokens
    assert own["nats_per_token"] == pytest.approx(trained.nats_per_token, rel=0.05)  # with other masks


def test_same_seed_repeats_the_masks_and_more_draws_narrow_the_interval(score, tale):
    first, again, other, more = (
        score(f"--data={tale}", *options) for options in ([], [], ["--seed=1"], ["--draws=64"])
    )
    assert timeless(first) == timeless(again)
    assert first["nats_per_token"] != other["nats_per_token"]
    assert more["draws"] == 64

    def width(result):
        return result["interval_95"][1] - result["interval_95"][0]

    assert width(more) < width(first)


def test_with_bpe_a_character_costs_its_share_of_a_token(here, score, corpus_file):
    layer = {"data": {"tokenizer": "bpe:64"}, "train": {"steps": 5}}
    run, _ = train_in(here / "checkpoints", "pairs", settings_of(corpus_file, layer))
    held_out = corpus.load([str(corpus_file)]).split()[1]
    ids = load_model("pairs").tokenizer.encode(held_out)
    assert len(ids) < 0.9 * len(held_out)
    result = score(model="pairs")
    assert result["tokens"] == len(ids)
    assert result["nats_per_char"] == pytest.approx(result["nats_per_token"] * len(ids) / len(held_out), rel=1e-4)
    [final] = [e for e in run.history() if isinstance(e, Eval) and e.final]
    assert final.nats_per_char == pytest.approx(final.nats_per_token * len(ids) / len(held_out), rel=1e-6)


def test_without_json_the_same_numbers_are_read_by_a_person(cli_fast, tiny_run, score, tale):
    result = score(f"--data={tale}")
    done = cli_fast("eval", str(tiny_run.path), f"--data={tale}")
    assert done.returncode == 0
    low, high = result["interval_95"]
    lines = done.stdout.splitlines()
    a_character = re.fullmatch(r"([\d.]+) nats a character, ([\d.]+) bits a character", lines[0])
    a_token = re.fullmatch(r"([\d.]+) nats a token \(95% interval ([\d.]+) to ([\d.]+)\)", lines[1])
    assert a_character and a_token, lines
    shown = [float(number) for number in (*a_character.groups(), *a_token.groups())]
    expected = [result["nats_per_char"], result["bits_per_char"], result["nats_per_token"], low, high]
    assert shown == pytest.approx(expected, abs=0.51e-4)
    assert lines[2].startswith("333 tokens, 7 mask samples a window, ")
    assert len(lines) == 3


def test_a_text_in_rows_is_read_by_its_field(score, here):
    (here / "a.jsonl").write_text(json.dumps({"words": "The hare."}) + "\n")
    assert score("--data=a.jsonl", "--text-field=words")["tokens"] == 9


REFUSED = {
    "unknown-part": (["--split=test"], "--split takes all, train, tuning, val; got 'test'"),
    "no-draws": (["--draws=0"], "--draws must be at least 1; got 0"),
    "absent-data": (["--data=nothing.txt"], "no such file or folder: 'nothing.txt'"),
    "foreign-character": (
        ["--data=foreign.txt"],
        "character 'é' (U+00E9) at position 4 of foreign.txt (line 1, column 4)",
    ),
    "unknown-device": (["--device=gpu"], "unknown device 'gpu'"),
}


@pytest.mark.parametrize(("arguments", "text"), REFUSED.values(), ids=REFUSED.keys())
def test_invalid_request_is_one_line(arguments, text, cli_fast, tiny_run, here):
    (here / "foreign.txt").write_text("theé", "utf-8")
    assert text in cli_fast("eval", str(tiny_run.path), *arguments).refused()


def test_an_absent_model_is_one_line(cli_fast):
    assert "no model 'nothing-of-the-kind'" in cli_fast("eval", "nothing-of-the-kind").refused()


def test_a_corpus_that_is_gone_is_one_line(cli_fast, tiny_run, here):
    model = load_model(str(tiny_run.path))
    origin = dataclasses.replace(model.origin, sources=("gone.txt",))
    save_model(here / "m", model.network, model.tokenizer, origin)
    assert "no such file or folder: 'gone.txt'" in cli_fast("eval", "m").refused()


def absent(_progress):
    raise named.Absent("it could not be fetched")


def test_a_corpus_that_cannot_be_fetched_is_one_line_that_says_how_to_give_it(cli_fast, tiny_run, here, monkeypatch):
    model = load_model(str(tiny_run.path))
    origin = dataclasses.replace(model.origin, sources=("shakespeare",), corpus="shakespeare")
    save_model(here / "m", model.network, model.tokenizer, origin)
    monkeypatch.setattr(named, "shakespeare", absent)
    helps = "it could not be fetched; set TDIFF_SHAKESPEARE=FILE to a copy of it, or name it with --data FILE --split"
    assert cli_fast("eval", "m").refused() == f"{helps} val"
    assert cli_fast("eval", "m", "--split=train").refused() == f"{helps} train"
    assert cli_fast("eval", str(tiny_run.path), "--data=shakespeare").refused() == f"{helps} all"


def test_a_corpus_that_has_changed_since_the_training_is_one_line(cli_fast, tiny_run, here, corpus_file):
    model = load_model(str(tiny_run.path))
    changed = here / "tale.txt"
    changed.write_text(corpus_file.read_text() + "The hare.")
    save_model(
        here / "m",
        model.network,
        model.tokenizer,
        dataclasses.replace(model.origin, sources=(str(changed),)),
    )
    refusal = cli_fast("eval", "m").refused()
    assert "has changed since m was trained on it" in refusal
    assert "--data" in refusal
    assert cli_fast("eval", "m", f"--data={changed}").returncode == 0
