"""How often hosts are read, what is stored, and the alerts that come of it."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest

from tdiff.report.devices import device_lines
from tdiff.watch.devices import board as hosts
from tdiff.watch.devices import readers as readers
from tdiff.watch.devices.board import Board
from tdiff.watch.devices.monitor import Monitor
from tdiff.watch.devices.reading import Gpu, GpuProcess, JobProcess, RunProcesses
from tdiff.watch.devices.readings import Interpreter
from tdiff.watch.follow import Watched
from tdiff.watch.jobs.job import Job
from tdiff.watch.sources import ssh
from tdiff.watch.sources.local import FileSource
from tdiff.watch.targets import Target
from tests.support.run_records import run_of, start, train


class FakeReader:
    """Answers every request at the next poll, at a cost of so many seconds of CPU."""

    def __init__(self, cost: float = 0.0) -> None:
        self.interpreter, self.spent, self.waiting, self.closed = Interpreter(), 0.0, False, False
        self.asked: list[tuple[float, bool, bool, list[int]]] = []
        self.answers = True
        self._cost = cost
        self.set_load(50.0)

    def set_load(self, load: float | None, problem: str = "") -> None:
        processes = (GpuProcess(pid=7),)
        self.interpreter.gpus = () if problem else (Gpu(index="0", load=load, processes=processes),)
        self.interpreter.jobs = (RunProcesses((JobProcess(pid=7, name="x", cpu=1, memory=1, threads=1),)),)
        self.interpreter.problem = problem

    def ask(self, now, *, gpus, find, known):
        self.asked.append((now, gpus, find, list(known)))
        self.waiting = True
        return True

    def poll(self, now):
        if not (self.waiting and self.answers):
            return False
        self.waiting = False
        self.spent += self._cost
        return True

    def close(self):
        self.closed = True


def times(reader: FakeReader, seconds: float, interval: float | None, start: float = 0.0) -> list[float]:
    """When the reader is asked, with an update four times a second."""
    host = Monitor(reader)
    for n in range(int(seconds * 4)):
        host.update(start + n / 4, interval, [0])
    return [now for now, *_ in reader.asked]


def test_a_host_is_read_once_a_second_while_shown_and_seldom_otherwise():
    assert times(FakeReader(), 5, 1.0) == [0, 1, 2, 3, 4]
    assert times(FakeReader(), 40, 15.0) == [0, 15, 30]
    assert times(FakeReader(), 40, None) == []


def test_processes_are_searched_at_first_and_then_every_30_seconds():
    reader = FakeReader()
    times(reader, 65, 1.0)
    assert [now for now, _, find, _ in reader.asked if find] == [0, 30, 60]


def test_reading_that_costs_much_cpu_is_done_seldom():
    asked = times(FakeReader(cost=0.05), 60, 1.0)
    assert 5 <= max(later - earlier for earlier, later in itertools.pairwise(asked)) < 6, "1% of a core"
    elsewhere = FakeReader(cost=0.05)
    host = Monitor(elsewhere, "gpu01")
    for n in range(80):
        host.update(n / 4, 1.0, [0])
    assert len(elsewhere.asked) >= 15, "5% of a core of another host"


def test_no_request_is_sent_before_the_last_one_is_answered():
    reader = FakeReader()
    reader.answers = False
    assert times(reader, 30, 1.0) == [0]


def test_loads_are_stored_up_to_a_limit_with_unknown_ones():
    reader = FakeReader()
    host = Monitor(reader)
    for n in range(12_000):
        reader.set_load(None if n % 8 < 4 else 50.0)
        host.update(n / 4, 1.0, [0])
    history = host.devices.histories["0"]
    assert len(history) == 1024 and history[-1][0] > 2990
    assert {str(load) for _, load in history} == {"nan", "50.0"}


def test_a_problem_is_shown_and_the_last_reading_remains_old():
    reader = FakeReader()
    host = Monitor(reader)
    host.update(0.0, 1.0, [0])
    assert host.update(0.5, 1.0, [0]) and host.devices.read_at == 0.5
    reader.set_load(0, "nvidia-smi did not answer")
    for now in (2.0, 3.0):
        host.update(now, 1.0, [0])
    assert (host.devices.problem, host.devices.read_at) == ("nvidia-smi did not answer", 0.5)


# The hosts of all runs


class Remote(FileSource):
    """A source that counts as one on another host."""


@pytest.fixture
def board(monkeypatch):
    made_readers: list[FakeReader] = []

    def made(*_):
        made_readers.append(FakeReader())
        return made_readers[-1]

    monkeypatch.setattr(readers, "LocalReader", made)
    monkeypatch.setattr(readers, "RemoteReader", made)
    monkeypatch.setattr(ssh, "SshSource", Remote)
    return SimpleNamespace(board=Board(), readers=made_readers)


def watched(tmp_path, name: str, host: str = "") -> Watched:
    address = SimpleNamespace(host=host) if host else None
    target = Target("ssh" if host else "file", name, None if host else tmp_path / name, address)
    return Watched(target, source=(Remote if host else FileSource)(tmp_path / name))


def test_local_runs_share_a_reader_and_each_connection_has_one(board, tmp_path):
    runs = [
        watched(tmp_path, "a"),
        watched(tmp_path, "b"),
        watched(tmp_path, "c", "gpu01"),
        watched(tmp_path, "d", "gpu01"),
    ]
    for now in (0.0, 0.5, 1.5):
        board.board.update(runs, now, visible=True)
    assert len(board.readers) == 3
    assert board.readers[0].asked[0] == (0.0, True, True, [0, 0])
    assert [reader.asked[0][1] for reader in board.readers[1:]] == [True, False], "the GPUs of a host are read once"
    assert [reading.host for reading in board.board.readings] == ["", "gpu01"]
    assert len(board.board.readings[1].jobs) == 2
    assert board.board.of(runs[3])[0].gpus == board.board.of(runs[2])[0].gpus != ()
    board.board.close()
    assert all(reader.closed for reader in board.readers)


def test_a_run_that_is_added_later_changes_the_files_of_the_reader(board, tmp_path):
    runs = [watched(tmp_path, "a")]
    board.board.update(runs, 0.0)
    runs.append(watched(tmp_path, "b"))
    board.board.update(runs, 1.0)
    assert len(board.readers) == 2 and board.readers[0].closed
    assert board.readers[1].asked == [(1.0, True, True, [0, 0])]


def test_nothing_is_asked_while_detached(board, tmp_path):
    runs = [watched(tmp_path, "a")]
    for now in range(100):
        board.board.update(runs, now, visible=True, attached=False)
    assert board.readers[0].asked == []


def test_the_process_of_a_tdiff_run_is_known_on_its_own_host_only(board, tmp_path, monkeypatch):
    monkeypatch.setattr(hosts.platform, "node", lambda: "here")
    runs = [watched(tmp_path, "a"), watched(tmp_path, "b")]
    runs[0].run_state.process, runs[1].run_state.process = (4242, "here"), (4242, "there")
    board.board.update(runs, 0.0)
    assert board.readers[0].asked[0][3] == [4242, 0]


def test_an_idle_gpu_becomes_an_alert_of_the_run(board, tmp_path, monkeypatch):
    run = watched(tmp_path, "a")
    state = run_of(start(time=1.7e9), *(train(n, 2.0, time=1.7e9 + n) for n in range(1, 40)))
    run._reader.state = state
    monkeypatch.setattr(hosts.time, "time", lambda: 1.7e9 + 41)
    for now in range(0, 700, 15):
        board.board.update([run], now)
        board.readers[0].set_load(0.0)
    assert [(notice.what, notice.text) for notice in state.alerts] == [
        ("gpu", "GPU 0 idle 5 min while loss is awaited")
    ]
    assert state.check(1.7e9 + 42)[0].what == "gpu"


def test_gpus_of_the_login_node_are_not_those_of_a_job_on_another_node(board, tmp_path, monkeypatch):
    run = watched(tmp_path, "a")
    run._reader.state = state = run_of(start(time=1.7e9), *(train(n, 2.0, time=1.7e9 + n) for n in range(1, 40)))
    state.job = Job(id="7", state="RUNNING", nodes="gpu[07-08]")
    monkeypatch.setattr(hosts.time, "time", lambda: 1.7e9 + 41)
    monkeypatch.setattr(hosts.platform, "node", lambda: "login.cluster")
    board.board.update([run], -15)
    board.readers[0].interpreter.jobs = ()
    for now in range(0, 700, 15):
        board.board.update([run], now)
        board.readers[0].set_load(50.0 if now < 60 else 0.0)
        board.readers[0].interpreter.jobs = ()
    assert state.alerts == []
    said = "job 7 runs on gpu[07-08]; these are the GPUs of login.cluster"
    assert [reading.elsewhere for reading in board.board.readings] == [said]
    assert board.board.of(run)[0].elsewhere == said
    assert any(said in line for line in device_lines(*board.board.of(run), 100))
    monkeypatch.setattr(hosts.platform, "node", lambda: "gpu08")
    assert board.board.of(run)[0].elsewhere == board.board.readings[0].elsewhere == ""
