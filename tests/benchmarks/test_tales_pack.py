"""What comes back of a run: small files that make up its model, and no run whose loss did not fall."""

import json
import shutil

import pytest

from tests.benchmarks import tales_pack


def test_the_files_of_a_run_are_small_and_make_up_its_model(tiny_run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tales_pack, "PIECE", 1000)
    tales_pack.pack(str(tiny_run.path), tmp_path / "out")
    pieces = sorted((tmp_path / "out").glob("model.safetensors.*"))
    assert len(pieces) > 1 and all(piece.stat().st_size <= 1000 for piece in pieces)
    whole = b"".join(piece.read_bytes() for piece in pieces)
    assert whole == (tiny_run.model / "model.safetensors").read_bytes()
    for name in ("config.json", "tokenizer.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tiny_run.model / name).read_bytes()
    assert (tmp_path / "out" / "events.jsonl").exists()
    assert "loss" in capsys.readouterr().out


def test_a_run_whose_loss_rose_is_not_packed(tiny_run, tmp_path):
    run = tmp_path / "risen"
    shutil.copytree(tiny_run.path, run)
    events = [json.loads(line) for line in (run / "events.jsonl").read_text("utf-8").splitlines()]
    for event in events:
        if event["kind"] == "train":
            event["loss"] = 1.0 + event["step"]
    (run / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events), "utf-8")
    with pytest.raises(SystemExit, match="the loss did not fall"):
        tales_pack.pack(str(run), tmp_path / "out")
    assert not (tmp_path / "out").exists()
