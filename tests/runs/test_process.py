"""The process that trains a run: recognized by more than its id, and its heartbeat."""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace

import pytest

from tdiff.runs import process as processes
from tdiff.runs.process import FILE, ThisMachine, TrainingProcess, beating, parse, presence, read, this_process
from tests.support.ptys import soon

KNOWN = TrainingProcess(pid=7, host="a", began="100", boot="b", namespace="n")


@dataclass
class Machine:
    """A machine on which process 7 began at 100."""

    host: str = "a"
    boot: str = "b"
    namespace: str = "n"
    moments: dict[int, str | None] = field(default_factory=lambda: {7: "100"})

    def began(self, pid: int) -> str | None:
        return self.moments.get(pid)


@pytest.mark.parametrize(
    ("process", "machine", "expected"),
    [
        (KNOWN, Machine(), "alive"),
        (KNOWN, Machine(moments={}), "gone"),
        (replace(KNOWN, ended=5.0), Machine(), "gone"),  # it trains another run now
        (KNOWN, Machine(moments={7: "999"}), "gone"),  # the id belongs to a later process
        (KNOWN, Machine(boot="later"), "gone"),
        (KNOWN, Machine(host="other"), "unknown"),
        (KNOWN, Machine(namespace="a container's"), "unknown"),
        (KNOWN, Machine(moments={7: ""}), "unknown"),
        (replace(KNOWN, began=""), Machine(), "unknown"),
        (replace(KNOWN, boot="", namespace=""), Machine(), "alive"),
        (replace(KNOWN, pid=0), Machine(moments={0: "100"}), "unknown"),
    ],
)
def test_a_process_is_recognized_by_host_boot_namespace_and_beginning(process, machine, expected):
    assert presence(process, machine) == expected


def test_this_process_is_alive_and_a_child_is_gone_after_its_end_even_before_it_is_waited_for():
    assert presence(this_process(), ThisMachine()) == "alive"
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    machine = ThisMachine()
    known = replace(this_process(), pid=child.pid, began=machine.began(child.pid))
    assert presence(known, machine) == "alive"
    child.stdin.close()
    assert soon(lambda: presence(known, machine) == "gone")  # a zombie
    child.wait()
    assert presence(known, machine) == "gone"


def test_a_training_names_itself_and_renews_its_heartbeat(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "BEAT", 0.01)
    with beating(tmp_path, "cuda", "2: H200"):
        process, age = read(tmp_path)
        assert (process.pid, process.device, process.gpu) == (os.getpid(), "cuda", "2: H200")
        assert age < 60
        moved = tmp_path.with_name("moved")
        tmp_path.rename(moved)  # while it trains
        os.utime(moved / FILE, (1, 1))
        assert soon(lambda: read(moved)[1] < 60)
    os.utime(moved / FILE, (1, 1))
    time.sleep(0.05)
    assert read(moved)[1] > 1e9  # the heartbeat has ended
    assert sorted(path.name for path in moved.iterdir()) == [FILE]


def test_a_process_that_stops_training_says_so_and_may_train_another_run(tmp_path):
    with beating(tmp_path):
        assert presence(read(tmp_path)[0], ThisMachine()) == "alive"
    process, _ = read(tmp_path)
    assert process.ended > 0 and presence(process, ThisMachine()) == "gone"


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "7", '{"pid": 1}', '{"pid": "1", "host": "h"}', '{"pid": true, "host": "h"}', "[" * 10_000],
)
def test_a_damaged_file_names_no_process(tmp_path, text):
    (tmp_path / FILE).write_text(text)
    assert read(tmp_path) is None
    assert parse(text.encode()) is None


def test_fields_of_a_newer_version_are_ignored_and_missing_ones_have_defaults():
    line = json.dumps({"pid": 3, "host": "h", "time": 5, "ranks": 8})
    assert parse(line.encode()) == TrainingProcess(pid=3, host="h", time=5.0)
