"""The end of a log says what the whole log says, for logs of any size and format, while they grow or are replaced."""

import gzip
import json
import math
import os
from pathlib import Path

import pytest

from tdiff.watch.listing import tails
from tdiff.watch.listing.entries import FileInfo
from tdiff.watch.listing.rows import newest
from tdiff.watch.listing.tails import TailLog
from tests.support.paths import ROOT
from tests.support.stage import run_lines
from tests.watch.formats.test_whole_logs import EXPECTED

LOGS = ROOT / "tests" / "golden" / "logs"


def info(path: Path, name: str = "log") -> FileInfo:
    found = path.stat()
    return FileInfo(name, found.st_size, found.st_mtime, found.st_ino)


def read(log: TailLog, path: Path) -> int:
    """Take everything that is needed; the number of bytes."""
    total = 0
    while needed := log.needs(info(path)):
        with path.open("rb") as file:
            file.seek(needed[0])
            data = file.read(needed[1])
        log.take(info(path), needed[0], data)
        total += len(data)
    log.settle(path.stat().st_mtime + 60)
    return total


def last(log: TailLog, name: str = "train/loss") -> float | None:
    series = log.state.metrics.get(name)
    return None if series is None else newest(series)


def test_a_big_log_is_read_at_both_ends_only(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_text("\n".join(run_lines(100_000)) + "\n")
    assert path.stat().st_size > 50 * tails.TAIL
    log = TailLog("mine")
    assert read(log, path) == tails.HEAD + tails.TAIL
    assert log.skipped and log.is_read
    assert (log.state.step, log.state.total, log.state.format) == (100_000, 2000, "tdiff")
    assert math.isclose(last(log), 1.5, abs_tol=0.03)


def test_only_new_bytes_are_read_and_then_again_from_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(tails, "_MAX_FOLLOWED", 30_000)
    path = tmp_path / "train.log"
    path.write_text("".join(f"step {n} loss {5 - n / 10_000}\n" for n in range(10_000)))
    log = TailLog("mine")
    read(log, path)
    for n in range(10_000, 14_000, 100):
        with path.open("a") as file:
            text = "".join(f"step {m} loss {5 - m / 10_000}\n" for m in range(n, n + 100))
            file.write(text)
        assert read(log, path) in (len(text), tails.HEAD + tails.TAIL)
        assert log.state.step == n + 99
        assert last(log) == pytest.approx(5 - (n + 99) / 10_000)


@pytest.mark.parametrize("how", ["truncated", "replaced"])
def test_a_log_that_was_replaced_is_read_anew(tmp_path, how):
    path = tmp_path / "train.log"
    path.write_text("".join(f"step {n} loss 5.0\n" for n in range(100)))
    log = TailLog("mine")
    read(log, path)
    new = path if how == "truncated" else tmp_path / "new"
    new.write_text("step 1 loss 9.0\nstep 2 loss 8.0\n")
    new.replace(path)
    read(log, path)
    assert (log.state.step, last(log)) == (2, 8.0)
    assert log.state.metrics["train/loss"].count == 2


def test_a_run_that_is_not_read_to_its_end_says_so(tmp_path):
    path = tmp_path / "train.log"
    path.write_text("".join(f"step {n} loss 5.0\n" for n in range(10_000)))
    log = TailLog("mine")
    offset, count = log.needs(info(path))
    log.take(info(path), offset, path.read_bytes()[offset : offset + count])
    assert not log.is_read
    assert log.needs(info(path)) == (path.stat().st_size - tails.TAIL, tails.TAIL)


def test_a_document_and_a_compressed_log_are_read_entirely(tmp_path, monkeypatch):
    history = [{"step": n, "loss": 3 - n / 1000} for n in range(2000)]
    document = tmp_path / "trainer_state.json"
    document.write_text(json.dumps({"global_step": 2000, "max_steps": 4000, "log_history": history}, indent=1))
    packed = tmp_path / "log.gz"
    packed.write_bytes(
        gzip.compress("".join(f"step {n} loss {3 - n / 1000} {os.urandom(20).hex()}\n" for n in range(2000)).encode())
    )
    for path in (document, packed):
        assert path.stat().st_size > tails.WHOLE
        log = TailLog("mine")
        assert read(log, path) == path.stat().st_size
        assert not log.skipped and log.state.step == 1999 and last(log) == pytest.approx(1.001)
    monkeypatch.setattr(tails, "_MAX_ENTIRE", 1000)
    log = TailLog("mine")
    assert read(log, packed) == tails.HEAD
    assert "too big" in log.problem and not log.has_loss


def test_a_file_that_cannot_be_read_is_tried_again_once_it_changes(tmp_path):
    path = tmp_path / "train.log"
    path.write_text("step 1 loss 5\n")
    log = TailLog("mine")
    log.take(info(path), 0, b"")
    assert log.problem == "it cannot be read" and log.needs(info(path)) is None
    path.write_text("step 1 loss 5\nstep 2 loss 4\n")
    read(log, path)
    assert log.problem == "" and log.state.step == 2


@pytest.mark.parametrize(
    "name", sorted(name for name, expected in EXPECTED.items() if expected["last_loss"] is not None)
)
def test_the_end_of_each_golden_log_gives_its_newest_loss(name, tmp_path, monkeypatch):
    path = LOGS / name
    whole, log = TailLog(name), TailLog(name)
    read(whole, path)
    size = path.stat().st_size
    monkeypatch.setattr(tails, "WHOLE", size // 2)
    monkeypatch.setattr(tails, "HEAD", size // 4)
    monkeypatch.setattr(tails, "TAIL", size // 2)
    read(log, path)
    assert whole.has_loss and log.has_loss
    assert last(log) == last(whole)


def test_hostile_lines_stay_inert(tmp_path):
    path = tmp_path / "train.log"
    path.write_bytes(b"\x1b]0;x\x07 step 1 loss 5.0\r\n\x00\xff" + b"x" * 100_000 + b"\nstep 2 loss 4.0\n")
    log = TailLog("\x1b[31m")
    read(log, path)
    assert last(log) == 4.0
    assert "\x1b" not in log.state.name
