"""A slow question is asked in a thread."""

import threading

import pytest

from tdiff.watch.periodic import Periodic


def test_question_is_asked_after_each_pause_and_never_twice_at_once():
    now, asked, go = [0.0], [], threading.Event()

    def ask() -> int:
        asked.append(now[0])
        go.wait(20)
        return len(asked)

    periodic = Periodic(ask, 10.0, lambda: now[0])
    assert periodic.poll() == [] and asked == []
    now[0] = 10.0
    assert periodic.poll() == []
    assert periodic.poll() == []
    go.set()
    periodic.wait()
    assert periodic.poll() == [1]
    now[0] = 19.0
    assert periodic.poll() == []
    now[0] = 20.0
    periodic.poll()
    periodic.wait()
    assert periodic.poll() == [2]
    assert asked == [10.0, 20.0]
    periodic.stopped = True
    now[0] = 100.0
    periodic.poll()
    periodic.wait()
    assert periodic.poll() == []


def test_question_that_takes_long_is_asked_less_often():
    now = [0.0]

    def ask() -> None:
        now[0] += 5.0

    periodic = Periodic(ask, 10.0, lambda: now[0])
    periodic.soon()
    periodic.poll()
    periodic.wait()
    now[0] = 200.0
    periodic.poll()
    periodic.wait()
    assert now[0] == 200.0
    now[0] = 256.0
    periodic.poll()
    periodic.wait()
    assert now[0] == 261.0


def test_failure_is_raised_where_the_answer_is_taken():
    def ask() -> None:
        raise RuntimeError("a bug")

    periodic = Periodic(ask, 0.0)
    periodic.poll()
    periodic.wait()
    with pytest.raises(RuntimeError, match="a bug"):
        periodic.poll()
