"""`tdiff train --classes` and `--per-class`."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from tdiff.commands.train_per_class import _folder_names
from tdiff.core.classification.classifier import calibrate
from tdiff.core.classification.load import from_model, from_models
from tdiff.core.classification.prediction import Effort
from tdiff.core.models.load import load_model
from tdiff.core.training import loop
from tdiff.core.training.loop import train
from tdiff.errors import TdiffError
from tdiff.runs import run as runs
from tdiff.runs.per_class import PerClassRun
from tdiff.runs.retention import earlier_steps
from tests.core.evaluation.test_causal_judge import make as make_causal
from tests.support.classifying import rows_of
from tests.support.runs import After


def test_temperature_is_fitted_after_training_and_saved(model):
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


def test_per_class_models_train_resume_and_classify(here, cli_fast):
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


def test_per_class_training_resumes_after_a_stop_between_classes(here, cli_fast, monkeypatch):
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


def test_a_class_whose_newest_state_is_missing_resumes_from_its_earlier_save(here, cli_fast, monkeypatch):
    rows_of(here / "reviews.jsonl", 40)
    saving = ("--set=train.save_every=1e-9", "--set=train.log_every=0")
    stop_after(monkeypatch, 3)
    done = cli_fast("train", "--per-class", "--data=reviews.jsonl", "--run=pair", *SHORT, *THIN, *saving)
    assert done.returncode == 0, done.stderr
    run = runs.Run(here / "checkpoints" / "pair" / "bad")
    assert earlier_steps(run) == [2]
    run.state.unlink()
    stop_after(monkeypatch, 1)
    done = cli_fast("train", "--resume=pair")
    assert "the save of step 2 replaces it" in done.stderr, done.stderr
    assert "stopped at step 3" in done.stderr


def stop_after(monkeypatch, steps: int) -> None:
    """Have each training stop after so many steps."""
    monkeypatch.setattr(loop, "train", lambda *a, **how: train(*a, **how | {"stop": After(steps)}))


def test_causal_models_per_class_give_exact_likelihoods(here, cli_fast):
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


def test_eval_data_is_the_held_out_text(here, cli_fast):
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


def test_bpe_classifier_skips_input_that_is_not_utf8(here, cli_fast):
    rows_of(here / "reviews.jsonl", 20)
    done = cli_fast("train", "--classes", "--data=reviews.jsonl", "--tokenizer=bpe:40", "--run=bpe", *SHORT, *THIN)
    assert done.returncode == 0, done.stderr
    done = cli_fast("classify", "warm caf\udce9", "warm €", "--model=bpe", "--json", "--device=cpu")
    assert done.returncode == 1 and "text:1: not UTF-8; skipped" in done.stderr
    assert len(done.stdout.splitlines()) == 1  # a character that it never saw is no hindrance
    with pytest.raises(TdiffError, match="the text is not UTF-8"):
        load_model("bpe").tokenizer.encode("\ud800")


def test_model_without_stored_label_bias_loads_with_zeros_and_bad_counts_are_refused(model, tmp_path):
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


def test_class_with_too_few_texts_is_refused_before_any_training(here, cli_fast):
    rows_of(here / "reviews.jsonl", 20)
    with (here / "reviews.jsonl").open("a") as file:
        file.write(json.dumps({"text": "so so", "label": "neutral"}) + "\n")
    refused = cli_fast("train", "--per-class", "--data=reviews.jsonl", "--run=three", *SHORT, *THIN)
    assert refused.returncode == 2 and "class 'neutral' has too few texts" in refused.stderr
    assert not (here / "checkpoints").exists()


def test_class_folder_names_are_distinct_and_manifests_stay_in_their_folder(tmp_path):
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


def test_stored_stdin_text_excludes_held_out_text(here, cli_fast):
    (here / "held.txt").write_text("what is held out\n" * 9)
    text = ("what is there to be trained on\n" * 40).encode()
    done = cli_fast("train", "--data=-", "--eval-data=held.txt", "--run=piped", *SHORT, *THIN, stdin=text)
    assert done.returncode == 0, done.stderr
    assert (here / "checkpoints" / "piped" / "resume" / "corpus.txt").read_bytes() == text
    assert cli_fast("eval", "piped", "--device=cpu").returncode == 0
    more = cli_fast("train", "--resume=piped", "--steps=14")
    assert more.returncode == 0, more.stderr


def test_evaluation_time_is_not_counted_as_training_time(model):
    run = runs.Run(model)
    log = [json.loads(line) for line in (model / "events.jsonl").read_text().splitlines()]
    last = max(line["time"] for line in log if line["kind"] == "train")
    with safe_open(run.state, "pt") as file:
        assert float(file.metadata()["seconds"]) <= last - log[0]["time"] + 0.2
