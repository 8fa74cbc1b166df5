"""Which runs and logs a folder holds."""

import os
from pathlib import Path

from tdiff.watch.listing import entries as module
from tdiff.watch.listing.entries import Entry, entries, search


def make(root: Path, *paths: str) -> None:
    for n, path in enumerate(paths):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("x")
        os.utime(root / path, (1000 + n, 1000 + n))


def listed(root: Path) -> dict[str, Entry]:
    return {entry.name: entry for entry in entries(search(root), root.name)}


def test_runs_and_logs_are_found_at_any_depth_and_nothing_inside_a_run(tmp_path):
    make(tmp_path, "a/events.jsonl", "a/config.toml", "a/process.json", "a/samples/1.jsonl", "a/log/train.log")
    make(tmp_path, "deep/er/b/config.toml", "deep/er/b/process.json", "top.log", "deep/train.csv", "x/config.toml")
    make(tmp_path, ".hidden/events.jsonl", "node_modules/x.log", "picture.png", "requirements.txt", "tokenizer.json")
    found = listed(tmp_path)
    assert set(found) == {"a", "deep/er/b", "top.log", "deep/train.csv"}
    assert found["a"].is_run and found["a"].process.path == "a/process.json"
    assert found["deep/er/b"].is_run and found["deep/er/b"].logs == ()
    assert not found["top.log"].is_run and found["deep/train.csv"].folder == "deep"


def test_a_run_itself_is_listed_by_the_name_of_its_folder(tmp_path):
    make(tmp_path, "mine/events.jsonl", "mine/config.toml")
    assert [(e.name, e.folder) for e in entries(search(tmp_path / "mine"), "mine")] == [("mine", "")]


def test_the_files_of_one_training_are_one_entry(tmp_path):
    make(
        tmp_path,
        "hf/checkpoint-500/trainer_state.json",
        "hf/checkpoint-1000/trainer_state.json",
        "hf/runs/Nov1/events.out.tfevents.1.host",
        "hf/train.log",
        "lightning/version_0/hparams.yaml",
        "lightning/version_0/metrics.csv",
        "lightning/version_1/metrics.csv",
        "wandb/run-1-a/files/wandb-summary.json",
        "wandb/run-1-a/files/output.log",
        "board/events.out.tfevents.2.host",
    )
    found = listed(tmp_path)
    assert set(found) == {"hf", "lightning/version_0", "lightning/version_1/metrics.csv", "wandb/run-1-a", "board"}
    assert [file.path for file in found["hf"].logs] == [
        "hf/train.log",
        "hf/runs/Nov1/events.out.tfevents.1.host",
        "hf/checkpoint-1000/trainer_state.json",
    ]
    assert [file.path for file in found["wandb/run-1-a"].logs] == ["wandb/run-1-a/files/output.log"]


def test_links_to_folders_are_not_followed_and_the_search_has_a_limit(tmp_path, monkeypatch):
    make(tmp_path, *(f"log{n}.log" for n in range(30)))
    (tmp_path / "loop").symlink_to(tmp_path)
    assert len(search(tmp_path)) == 30
    monkeypatch.setattr(module, "MAX_EXAMINED", 10)
    assert len(search(tmp_path)) == 10


def test_a_folder_that_cannot_be_read_is_skipped(tmp_path):
    assert search(tmp_path / "absent") == []
