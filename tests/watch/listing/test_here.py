"""All runs of a folder of this host: what is read, and that nothing is read twice."""

import os
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest

from tdiff.errors import TdiffError
from tdiff.runs.process import FILE, this_process
from tdiff.visible import json_line
from tdiff.watch.listing.here import LocalRuns, folder_size
from tests.support.stage import run_lines


def make_run(folder: Path, steps: int = 100) -> None:
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text("")
    (folder / "events.jsonl").write_text("\n".join(run_lines(steps)) + "\n")


class Reads(LocalRuns):
    """Counts the bytes that are read."""

    total = 0

    def _read(self, request) -> None:
        self.total += request.count
        super()._read(request)


def polled(runs: LocalRuns) -> LocalRuns:
    """Look at everything again, until nothing more is available."""
    runs._searched = -1e9
    runs.complete = False
    while not runs.complete:
        runs.poll()
    return runs


def test_a_folder_of_runs_and_logs_is_a_table(tmp_path):
    make_run(tmp_path / "a")
    make_run(tmp_path / "sub" / "b", 200)
    (tmp_path / "sub" / "b" / FILE).write_text(json_line(asdict(this_process("cuda", "1: H200"))))
    (tmp_path / "other.log").write_text("step 3/10 loss 2.5\nstep 4/10 loss 2.25\n")
    (tmp_path / "notes.txt").write_text("nothing of interest\n")
    runs = polled(LocalRuns(tmp_path))
    rows = {row.name: row for row in runs.rows()}
    assert set(rows) == {"a", "sub/b", "other.log"}
    assert (rows["sub/b"].pid, rows["sub/b"].gpu, rows["sub/b"].step) == (os.getpid(), "1: H200", 200)
    assert (rows["other.log"].step, rows["other.log"].total, rows["other.log"].loss) == (4, 10, 2.25)
    assert rows["other.log"].where == str(tmp_path / "other.log") and rows["a"].where == str(tmp_path / "a")
    assert runs.left_out == "1 file without a loss"


def test_a_silence_during_which_nothing_could_be_seen_is_no_stall(tmp_path):
    (tmp_path / "x.log").write_text("step 3/10 loss 2.5\nstep 4/10 loss 2.25\n")
    rows = polled(LocalRuns(tmp_path))._collection.rows
    now = (tmp_path / "x.log").stat().st_mtime
    assert [row.state for row in rows(now + 3600, None)] == ["stopped"]
    (row,) = rows(now + 3600, None, seen_until=now + 5)
    assert (row.state, round(row.age)) == ("running", 3600)
    assert [row.state for row in rows(now + 3600, None, seen_until=now + 7200)] == ["stopped"]


def test_nothing_is_read_again_until_it_changes(tmp_path):
    for n in range(5):
        make_run(tmp_path / f"run{n}", 2000)
    (tmp_path / "notes.txt").write_text("nothing\n")
    runs = polled(Reads(tmp_path))
    first, runs.total = runs.total, 0
    assert first
    polled(runs)
    assert runs.total == 0
    line = run_lines(2010)[-1] + "\n"
    with (tmp_path / "run3" / "events.jsonl").open("a") as file:
        file.write(line)
    polled(runs)
    assert runs.total == len(line)
    assert {row.name: row.step for row in runs.rows()}["run3"] == 2010


def test_new_and_removed_runs_appear_and_disappear(tmp_path):
    make_run(tmp_path / "a")
    runs = polled(LocalRuns(tmp_path))
    make_run(tmp_path / "b")
    assert [row.name for row in polled(runs).rows()] == ["a", "b"]
    shutil.rmtree(tmp_path / "a")
    assert [row.name for row in polled(runs).rows()] == ["b"]


def test_of_several_logs_the_one_with_a_loss_is_shown(tmp_path):
    folder = tmp_path / "out" / "version_0"
    folder.mkdir(parents=True)
    (folder / "hparams.yaml").write_text("")
    (folder / "metrics.csv").write_text("step,train_loss\n1,2.0\n2,1.5\n")
    (folder / "stdout.log").write_text("no numbers\n")
    os.utime(folder / "metrics.csv", (1000, 1000))  # the other one is newer
    runs = polled(LocalRuns(tmp_path))
    [row] = runs.rows()
    assert (row.name, row.loss, row.where) == ("out/version_0", 1.5, str(folder / "metrics.csv"))
    with (folder / "metrics.csv").open("a") as file:
        file.write("3,1.25\n")
    assert polled(runs).rows()[0].loss == 1.25


def test_runs_of_the_index_are_listed_too(tmp_path):
    make_run(tmp_path / "elsewhere" / "mine")
    runs = polled(LocalRuns(tmp_path / "checkpoints", {"mine": tmp_path / "elsewhere" / "mine"}, sizes=True))
    [row] = runs.rows()
    assert (row.name, row.where) == ("mine", str(tmp_path / "elsewhere" / "mine"))
    assert row.size == folder_size(tmp_path / "elsewhere" / "mine") > 1000


def test_a_run_that_has_recorded_nothing_yet_waits(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "config.toml").write_text("")
    (tmp_path / "a" / FILE).write_text(json_line(asdict(this_process())))
    [row] = polled(LocalRuns(tmp_path)).rows()
    assert (row.state, row.step, row.loss) == ("waiting", None, None)


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(TdiffError, match="does not exist"):
        LocalRuns(tmp_path / "absent")
    (tmp_path / "file").write_text("")
    with pytest.raises(TdiffError, match="not a folder"):
        LocalRuns(tmp_path / "file")
