"""`tdiff models`: what is there, from its files alone."""

import json
import subprocess
import sys

from tdiff.runs import lookup, model_facts
from tdiff.runs.model_facts import facts
from tests.support.paths import ROOT
from tests.support.runs import environment

SHAKESPEARE = ROOT / "checkpoints" / "shakespeare"


def records(done) -> dict[str, dict]:
    assert done.returncode == 0, done
    return {record["name"]: record for record in map(json.loads, done.stdout.splitlines())}


def listed(here, name: str, run) -> None:
    folder = here / "checkpoints" / name
    folder.parent.mkdir(exist_ok=True)
    folder.symlink_to(run.path)


def test_the_shipped_model_and_runs_are_listed_with_their_facts(cli_fast, here, tiny_run):
    listed(here, "mine", tiny_run)
    (here / "checkpoints" / "unfinished").mkdir()
    found = records(cli_fast("models", "--json"))
    assert list(found) == ["tales", "shakespeare", "mine"]
    assert [record["name"] for record in found.values() if record["default"]] == ["tales"]
    shipped, mine = found["shakespeare"], found["mine"]
    assert shipped["kind"] == found["tales"]["kind"] == "shipped"
    assert found["tales"]["tokenizer"] == "BPE" and found["tales"]["text"].startswith("Once upon a time")
    assert shipped["parameters"] == 2_691_072 and shipped["vocabulary"] == 66 and shipped["tokenizer"] == "characters"
    assert shipped["bound"] == 1.667 and shipped["interval"] == [1.657, 1.678]
    assert shipped["text"].startswith("ROMEO: They do be gentle")
    assert mine["kind"] == "run" and mine["context"] == 32 and mine["trained"] > 0
    events = [json.loads(line) for line in (tiny_run.path / "events.jsonl").read_text("utf-8").splitlines()]
    newest = {event["kind"]: event for event in events}
    assert mine["text"].split() == newest["sample"]["text"].split() if "sample" in newest else mine["text"] == ""
    assert mine["bound"] == newest["eval"]["nats_per_char"]


def test_parameters_are_those_of_the_loaded_model():
    from tdiff.core.models.load import load_model

    network = load_model("shakespeare").network
    assert facts(SHAKESPEARE / "model").parameters == sum(p.numel() for p in network.parameters())


def test_the_table_fits_into_80_columns_and_marks_the_default(cli_fast, here, tiny_run):
    listed(here, "a-run-with-a-very-long-name-that-has-to-be-shortened-somewhere", tiny_run)
    lines = cli_fast("models").stdout.splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert lines[0].split() == ["model", "kind", "size", "params", "vocabulary", "trained", "on", "nats/char"]
    assert lines[1].split()[:2] == ["tales*", "shipped"]
    assert lines[3].split()[:2] == ["shakespeare", "shipped"] and "65 characters" in lines[3]
    assert lines[4].startswith("    ROMEO: They do be") and lines[4].endswith("…")


def test_a_run_of_the_name_of_the_shipped_model_is_a_run_as_for_model(cli_fast, here, tiny_run):
    listed(here, lookup.DEFAULT_MODEL, tiny_run)
    record = records(cli_fast("models", "--json"))[lookup.DEFAULT_MODEL]
    assert record["kind"] == "run" and record["default"]
    assert record["folder"] == str(lookup.find_model(lookup.DEFAULT_MODEL))


def test_damaged_files_leave_facts_out_and_hostile_text_is_inert(cli_fast, here):
    model = here / "checkpoints" / "broken" / "model"
    model.mkdir(parents=True)
    (model / "config.json").write_text('{"vocab_size": "many", "origin": [1]}')
    (model / "model.safetensors").write_bytes(b"\xff" * 20)
    sample = {"kind": "sample", "text": "a\x1b]0;owned\x07b"}
    (model.parent / "events.jsonl").write_text(json.dumps(sample, separators=(",", ":")) + '\n{"kind":"eval"')
    record = records(cli_fast("models", "--json"))["broken"]
    assert [record[name] for name in ("parameters", "vocabulary", "bound", "interval")] == [None] * 4
    done = cli_fast("models")
    assert "\x1b" not in done.stdout and "owned" in done.stdout
    (model / "config.json").write_text("{")
    assert "config.json is not JSON" in cli_fast("models").stdout


def test_models_cached_from_the_hub_are_listed_by_the_name_that_model_takes(cli_fast, here, monkeypatch):
    cache = here / "cache"
    home = cache / "models--someone--their-roberta"
    snapshot = home / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text('{"model_type": "roberta", "vocab_size": 90, "max_position_embeddings": 40}')
    (snapshot / "tokenizer.json").write_text('{"model": {"type": "BPE", "vocab": {}}}')
    header = json.dumps({"w": {"dtype": "F32", "shape": [3, 4], "data_offsets": [0, 48]}}).encode()
    (snapshot / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(48))
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text("a" * 40)
    (cache / "models--someone--unfinished" / "snapshots").mkdir(parents=True)
    monkeypatch.setenv("HF_HUB_CACHE", str(cache))
    found = records(cli_fast("models", "--json"))
    assert list(found) == ["tales", "shakespeare", "someone/their-roberta"]
    record = found["someone/their-roberta"]
    assert record["kind"] == "hub" and record["family"] == "roberta" and record["parameters"] == 12
    assert (record["vocabulary"], record["tokenizer"], record["context"]) == (90, "BPE", 40)


def test_the_listing_loads_neither_torch_nor_the_hub(here):
    code = "import sys; from tdiff.commands import models; models.run(models.Request()); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment())
    loaded = set(done.stdout.splitlines()[-1].split())
    assert "tdiff.commands.models" in loaded and not loaded & {"torch", "numpy", "huggingface_hub", "transformers"}


def test_only_the_end_of_a_long_log_is_read(tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    old = '{"kind":"sample","text":"old"}\n'
    (tmp_path / "events.jsonl").write_text(old + "x" * 100 + '\n{"kind":"train"}\n')
    assert facts(tmp_path / "model").text == "old"
    monkeypatch.setattr(model_facts, "_TAIL", 50)
    assert facts(tmp_path / "model").text == ""


def test_the_best_model_of_a_run_is_listed_with_its_own_bound_and_earlier_saves_are_named(cli_fast, here):
    run = here / "checkpoints" / "tale"
    for folder in ("model", "best", "earlier/00000500/model"):
        (run / folder).mkdir(parents=True)
        (run / folder / "config.json").write_text('{"model_type": "tdiff"}')
    (run / "config.toml").write_text("")
    (run / "best" / "bound.json").write_text('{"step": 500, "nats_per_token": 2.0}')
    evaluations = [{"kind": "eval", "step": step, "nats_per_char": bound} for step, bound in ((500, 1.0), (900, 1.5))]
    (run / "events.jsonl").write_text("".join(json.dumps(e, separators=(",", ":")) + "\n" for e in evaluations))
    found = records(cli_fast("models", "--json"))
    assert (found["tale"]["bound"], found["tale"]["earlier"]) == (1.5, [500])
    assert (found["tale:best"]["bound"], found["tale:best"]["earlier"]) == (1.0, [])
    assert "earlier saves of tale: tale:500\n" in cli_fast("models").stderr


def test_the_kind_of_a_large_tokenizer_is_known(tmp_path):
    (tmp_path / "config.json").write_text('{"vocab_size": 300000}')
    pieces = ", ".join(f'"{n}": {n}' for n in range(300_000))
    (tmp_path / "tokenizer.json").write_text(f'{{"model": {{"type": "BPE", "vocab": {{{pieces}}}}}}}')
    assert (tmp_path / "tokenizer.json").stat().st_size > 1 << 22
    assert facts(tmp_path).tokenizer == "BPE"
