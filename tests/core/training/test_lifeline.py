"""Which of the processes that train together are alive, as the others see it."""

import threading

import pytest
from torch.distributed import DistNetworkError, HashStore

from tdiff.core.training import lifeline
from tdiff.core.training.lifeline import Lifeline


@pytest.fixture
def quick(monkeypatch):
    for name, seconds in (("BEAT", 0.02), ("SILENCE", 0.5), ("_LOOK", 0.3)):
        monkeypatch.setattr(lifeline, name, seconds)


def meet(size: int) -> list[Lifeline]:
    """Processes of one store, all of which have come."""
    store = HashStore()
    lines = [Lifeline(store, rank, size, f"host{rank}") for rank in range(size)]
    for line in lines:
        line._store.set(f"host/{line.rank}", f"host{line.rank} {100 + line.rank}")
    for line in lines:
        line._hosts = {n: line._store.get(f"host/{n}").decode() for n in range(size)}
    return lines


def test_a_silent_process_ends_the_others_and_the_first_that_is_alive_says_so(quick, capfd):
    first, second, _silent = meet(3)
    ended, codes = threading.Barrier(3), []

    def leave(code: int) -> None:
        codes.append(code)
        ended.wait(20)

    first.if_lost = "the training ends, and its save stays"
    first.watch(leave)
    second.watch(leave)
    ended.wait(20)
    assert codes == [1, 1]
    lines = capfd.readouterr().err.splitlines()
    assert lines == [
        "tdiff: process 2 of 3 (host2, pid 102) has ended or does not answer; the training ends, and its save stays"
    ]
    first.leave()
    second.leave()


def test_a_process_that_has_finished_is_not_missed(quick):
    first, second = meet(2)
    ended = threading.Event()
    second.watch(lambda code: ended.set())
    second.leave()
    first.watch(lambda code: ended.set())
    assert not ended.wait(1.0)
    first.leave()


def test_after_a_failed_exchange_the_line_names_the_process_that_stands_still(quick):
    first, second = meet(2)
    second._beat()
    assert first.report("connection reset").startswith("process 1 of 2 (host1, pid 101) has ended")
    third, fourth = meet(2)
    fourth.watch(lambda code: None)
    assert third.report("shape\nmismatch").startswith("the processes could not exchange their results: shape;")
    fourth.leave()


def test_a_process_that_fails_by_itself_is_the_only_one_that_says_why(quick, capfd):
    first, second, third = meet(3)
    assert [second.fail_first(), third.fail_first()] == [True, False]
    assert first.report("connection reset") == ""
    ended, codes = threading.Event(), []
    first.watch(lambda code: codes.append(code) or ended.set())
    assert ended.wait(20)
    assert codes == [1]
    assert capfd.readouterr().err == ""
    first.leave()


class LostStore:
    """The store of a process that has ended."""

    def check(self, keys):
        raise DistNetworkError("Connection reset by peer")

    get = set = check


def test_a_lost_store_is_one_line_about_the_process_or_launcher_that_had_it(quick):
    lines = meet(3)
    for line in lines:
        line._store = LostStore()
    texts = [line.report("connection reset") for line in lines]
    ends = "the command ends without a result: start it again"
    assert texts == [
        f"the launcher of the 3 processes has ended or does not answer; {ends}",
        f"process 0 of 3 (host0, pid 100) has ended or does not answer; {ends}",
        "",
    ]
