"""The process of a run, in the view of one run and in the table of all: one judgement of process.json for both."""

import json
import math
import os
import time
from dataclasses import asdict, replace

import pytest

from tdiff.protocol.events import to_line
from tdiff.runs import process
from tdiff.watch.follow import Watched
from tdiff.watch.listing.here import LocalRuns
from tdiff.watch.targets import locate
from tests.support.run_records import resume, start

MINE = process.this_process()


@pytest.fixture
def folder(tmp_path):
    """The folder of a run, alone in its parent, which the table lists."""
    folder = tmp_path / "checkpoints" / "r"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def run(folder):
    """A run that has just started, with the id of a process that does not exist in its log."""
    (folder / "config.toml").touch()
    (folder / "events.jsonl").write_text(to_line(replace(start(2**30, MINE.host), time=time.time())))
    watched = Watched(locate(str(folder)))
    yield watched
    watched.close()


def states(run: Watched, folder, beat: float = 0.0, **changes) -> tuple[str, str]:
    """The state in the view and in the table, with a process.json that differs so; its heartbeat `beat` s ago."""
    file = folder / process.FILE
    file.write_text(json.dumps(asdict(replace(MINE, **changes))))
    os.utime(file, (time.time() - beat,) * 2)
    run._lookout._looked = -math.inf
    run.poll()
    run.poll()
    table = LocalRuns(folder.parent)
    while not table.complete:
        table.poll()
    row = next(row for row in table.rows() if row.name == folder.name)
    return run.run_state.state(time.time()), row.state


def test_process_json_decides_and_not_the_id_in_the_log(run, folder):
    run.poll()
    assert run.run_state.state(time.time()) == "died", "no process.json: only the id is known"
    assert states(run, folder) == ("running", "running")
    assert states(run, folder, beat=1000) == ("running", "running"), "it is seen: it needs no heartbeat"


def test_a_process_with_the_same_id_that_began_later_is_another_one(run, folder):
    assert states(run, folder, began="1") == ("died", "died")
    [notice] = run.run_state.check(time.time())
    assert (notice.what, notice.text) == ("died", f"its process {MINE.pid} is gone, without an end")


def test_a_process_of_another_host_is_lost_without_a_heartbeat(run, folder):
    assert states(run, folder, host="far") == ("running", "running")
    assert states(run, folder, beat=1020, host="far") == ("lost", "lost")
    assert [notice.text for notice in run.run_state.check(time.time())] == ["lost: no heartbeat from far for 17 min"]


def test_a_run_that_is_resumed_is_running_whatever_its_process_json_said_before(run, folder):
    assert states(run, folder, ended=1.0) == ("died", "died")
    with (folder / "events.jsonl").open("a") as file:
        file.write(to_line(resume(0, time=time.time(), pid=os.getpid(), host=MINE.host)))
    run.poll()
    assert run.run_state.state(time.time()) == "running"
