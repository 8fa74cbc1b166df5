"""Whether a run waits, runs, is stalled, has ended or failed, and the notices of that."""

import json
import math
import os
import random

import pytest
from hypothesis import settings as examples

from tdiff.protocol.events import (
    Alert,
    Heartbeat,
    to_line,
)
from tdiff.visible import visible_line
from tdiff.watch import summary
from tests.support.fed import FedState
from tests.support.run_records import HERE, STARTED, TRACEBACK, bars, end, eval_at, resume, run_of, sample, start, train

FEW = examples(derandomize=True, deadline=None, max_examples=60, database=None)


def test_alert_of_any_kind_is_added_once_and_safe_to_print():
    run = run_of(train(3))
    for _ in range(3):
        run.add_alert("limit", "the time limit\x1b[2J comes 20 min before the end")
    [notice] = run.check(STARTED + 31)
    assert (notice.what, notice.step, notice.time) == ("limit", 3, STARTED + 30)
    assert notice.text == visible_line(notice.text)


def test_ended_run_that_was_resumed_is_running():
    run = run_of(start(), train(1), end(1, "stopped"))
    assert run.state(STARTED + 20) == "stopped"
    run.feed([to_line(resume(1, time=STARTED + 100)).rstrip()])
    assert run.state(STARTED + 101) == "running"
    assert [notice.text for notice in run.alerts] == ["stopped"]


# State and notices


def test_state_is_waiting_until_a_line_comes():
    run = FedState("x")
    assert (run.state(STARTED), run.check(STARTED), summary.since(run, 0)) == ("waiting", [], [])
    assert run.timing.time_of(3) is None


@pytest.mark.parametrize(("reason", "state"), [("finished", "finished"), ("stopped", "stopped"), ("nan", "failed")])
def test_end_event_sets_the_state(reason, state):
    run = run_of(start(), train(1), end(1, reason))
    assert run.state(STARTED + 1e6) == state
    assert run.eta is None
    [notice] = run.check(STARTED + 1e6)
    assert (notice.what, notice.time, notice.step) == ("ended", STARTED + 13, 1)
    assert run.check(STARTED + 1e6) == []


def test_stall_is_noticed_once_until_the_next_record():
    run = run_of(start(), *map(train, range(1, 10)))
    last = STARTED + 90
    assert run.timing.gap == 10
    assert run.state(last + 119) == "running"
    assert run.check(last + 119) == []
    assert run.state(last + 121) == "stalled"
    [notice] = run.check(last + 500)
    assert (notice.what, notice.time, notice.step) == ("stall", last + 120, 9)
    assert run.check(last + 600) == []
    assert run.alerts == [notice]
    run.feed([to_line(train(10, time=last + 700)).rstrip()])
    assert run.state(last + 701) == "running"
    assert [notice.what for notice in run.check(last + 900)] == ["stall"]


def test_busy_run_may_be_silent_longer():
    busy = Heartbeat(time=STARTED + 91, step=9, doing="evaluating")
    run = run_of(start(), *map(train, range(1, 10)), busy)
    assert run.doing == "evaluating"
    assert run.state(STARTED + 91 + 800) == "running"
    assert run.state(STARTED + 91 + 1000) == "stalled"
    run.feed([to_line(eval_at(9, 2.0)).rstrip()])
    assert run.doing == ""


def test_run_on_this_host_without_a_process_has_died(monkeypatch):
    alive = {os.getpid()}

    def kill(pid: int, signal: int) -> None:
        assert signal == 0
        if pid not in alive:
            raise ProcessLookupError

    monkeypatch.setattr(os, "kill", kill)
    gone = 77_777
    assert run_of(start(gone, "elsewhere"), train(1)).state(STARTED + 11) == "running"
    assert run_of(start(os.getpid(), HERE), train(1)).state(STARTED + 11) == "running"
    run = run_of(start(gone, HERE), train(1))
    assert run.state(STARTED + 11) == "died"
    [notice] = run.check(STARTED + 9999)
    assert (notice.what, notice.time, notice.step) == ("died", STARTED + 10, 1)
    assert run.check(STARTED + 9999) == []
    run.feed([to_line(resume(1, time=STARTED + 100, pid=os.getpid(), host=HERE)).rstrip()])
    assert run.state(STARTED + 101) == "running"
    assert run_of(start(gone, HERE), train(1), end(1)).state(STARTED + 11) == "finished"


def test_notices_have_the_time_of_their_record():
    draw = random.Random(0)
    losses = [2 + draw.gauss(0, 0.02) for _ in range(120)]
    losses[80] = 4.0
    losses[100] = math.nan
    run = run_of(*(train(n, loss) for n, loss in enumerate(losses)))
    assert [(n.what, n.step, n.time) for n in run.alerts] == [
        ("spike", 80, STARTED + 800),
        ("nan", 100, STARTED + 1000),
    ]
    assert run.alerts[0].text.startswith("train/loss 4, +")
    assert run.check(STARTED + 1200) == run.alerts


def test_nan_alert_of_the_run_replaces_the_detected_notice():
    alert = Alert(time=STARTED + 21, step=2, what="nan", text="the loss is not finite; try a lower learning rate")
    run = run_of(train(1), train(2, math.nan), alert, end(2, "nan"))
    assert [(n.what, n.text) for n in run.alerts] == [
        ("nan", alert.text),
        ("ended", "failed: the loss is not finite"),
    ]
    assert run.check(STARTED + 30) == run.alerts


def test_alert_event_becomes_a_notice():
    run = run_of(train(1), Alert(time=STARTED + 11, step=1, what="heat", text="85 degrees\nof it"))
    assert [(n.what, n.time, n.text) for n in run.alerts] == [("alert", STARTED + 11, "heat: 85 degrees␊of it")]


def test_log_without_times_uses_arrival_times():
    run = FedState("x")
    for second in range(20):
        run.feed([f"line {second}"], STARTED + 10 * second)
    assert run.last_time == STARTED + 190
    assert run.timing.gap == 10
    assert run.state(STARTED + 300) == "running"
    assert run.state(STARTED + 400) == "stalled"
    run = FedState("y")
    run.feed(["a line"])
    assert run.state(STARTED) == "running"


def test_no_stall_while_the_programs_clock_shows_longer_gaps():
    slow, one, elapsed, unknown = FedState("bars"), FedState("a bar"), FedState("column"), FedState("nothing")
    slow.feed(bars(300, 600, 900), STARTED)
    one.feed(bars(300), STARTED)
    elapsed.feed(["step,loss,elapsed", "1,2.5,300", "2,2.4,600"], STARTED)
    unknown.feed(["step,loss", "1,2.5", "2,2.4"], STARTED)
    for run, usual in ((slow, 300), (one, 30), (elapsed, 300)):
        assert run.timing.gap == usual, run.name
        assert run.state(STARTED + 12 * usual - 1) == "running"
        assert run.state(STARTED + 12 * usual + 1) == "stalled"
    assert (unknown.state(STARTED + 899), unknown.state(STARTED + 901)) == ("running", "stopped")


def test_repeated_long_gaps_are_not_a_stall():
    run, now = FedState("x"), STARTED
    for n in range(200):
        now += 400 if n in (60, 120) else 1
        run.feed([f"{{'loss': 2.0, 'step': {n + 1}}}"], now)
    assert run.timing.gap == 1
    assert run.state(now + 799) == "running"
    assert run.state(now + 801) == "stalled"


def test_finished_run_is_not_stalled_and_old_logs_are_stopped():
    done, going = FedState("done"), FedState("going")
    done.feed(bars(10, 20, total=20), STARTED)
    going.feed(bars(10, 20), STARTED)
    assert (done.state(STARTED + 1), done.state(STARTED + 1000), done.state(STARTED + 1e6)) == (
        "running",
        *["finished"] * 2,
    )
    assert done.check(STARTED + 1000) == []
    assert (going.state(STARTED + 1000), going.state(STARTED + 90_000)) == ("stalled", "stopped")
    done.closed = going.closed = True
    assert (done.state(STARTED), going.state(STARTED)) == ("finished", "stopped")
    assert run_of(start(), train(1)).state(STARTED + 80_000) == "stalled", "a tdiff run records its end"
    assert run_of(start(), train(1)).state(STARTED + 1e6) == "lost", "and its process cannot be seen from here"


def test_log_that_ends_in_a_traceback_has_failed_with_one_notice():
    run = FedState("x")
    run.feed([*bars(1, 2, 3), *TRACEBACK], STARTED)
    assert (run.state(STARTED), run.failure, run.eta) == ("failed", "ValueError: 1", None)
    [notice] = run.check(STARTED)
    assert (notice.what, notice.text, notice.step) == ("failed", "ValueError: 1", 30)
    run.feed([bars(1, 2, 3)[-1], "srun: error: gpu01: task 0: Exited with exit code 1"], STARTED + 1)
    assert run.check(STARTED + 9000) == [] and run.state(STARTED + 9000) == "failed"
    assert run.metrics["train/loss"].last == (30, pytest.approx(2.97))


@pytest.mark.parametrize("more", [bars(4, 5, 6), ["{'loss': 2.0, 'step': 40}"], ["{'train_runtime': 9.0}"]])
def test_survived_traceback_is_not_a_failure(more):
    run = FedState("x")
    run.feed([*bars(1, 2, 3), *TRACEBACK], STARTED)
    run.check(STARTED)
    run.feed([*more, "."], STARTED + 1)
    assert run.failure == "" and run.state(STARTED + 1) in ("running", "finished")
    run.check(STARTED + 1)
    assert "failed" not in [notice.what for notice in run.alerts]


@pytest.mark.parametrize(
    "lines",
    [
        ["step,loss", "1,2.5", "2,2.4"],
        ['{"step": 1, "loss": 2.5}', '{"step": 2, "loss": 2.4}'],
        ["a plain log", "of lines"],
    ],
    ids=["csv", "json", "log"],
)
def test_every_text_format_can_end_in_a_failure(lines):
    run = FedState("x")
    run.feed([*lines, *TRACEBACK], STARTED)
    assert (run.state(STARTED + 9), run.failure) == ("failed", "ValueError: 1")
    assert run.log[-1] == "ValueError: 1"
    run = FedState("x")
    run.feed([*lines, *TRACEBACK[:-1], "KeyboardInterrupt"], STARTED)
    assert run.state(STARTED + 9) == "stopped"


def test_trainer_notices_are_dated_by_the_progress_bar():
    lines = []
    for step in range(1, 101):
        bar = f"{step}/200 [{step // 60:02}:{step % 60:02}<01:00, 1it/s]"
        lines += [bar, f"{{'loss': {5.0 if step == 80 else 2.0}, 'epoch': 0.1}}", bar]
    run = FedState("x")
    run.feed(lines)
    assert [(n.what, n.step, n.time) for n in run.alerts] == [("spike", 80, None)]
    run.feed(["101/200 [01:41<01:00, 1it/s]"], STARTED)
    assert [(n.what, n.step, n.time) for n in run.alerts] == [("spike", 80, STARTED - 21)]
    assert run.timing.time_of(50) == STARTED - 51
    assert run.last_time == STARTED


# Summary


def test_summary_of_what_happened_since():
    run = run_of(
        start(), *(train(n, 3 - n / 100) for n in range(1, 61)), eval_at(60, 2.5), sample(60), end(60, "stopped")
    )
    since = STARTED + 605
    assert summary.since(run, STARTED + 700) == []
    run.feed([to_line(train(n, 3 - n / 100)).rstrip() for n in range(61, 101)])
    run.feed([to_line(r).rstrip() for r in (eval_at(80, 2.25), sample(70), sample(90), end(100))])
    assert summary.since(run, since) == [
        "40 steps in 6 min 38 s, train loss 2.4 to 2",
        "best validation loss 2.25 at step 80",
        "ended: finished",
        "2 samples, the newest at step 90",
    ]
    assert summary.since(run, STARTED + 5000) == []
    assert summary.since(run, 0)[0].startswith("100 steps in")


# The log, and limits


def test_summary_uses_arrival_times_of_lines_without_dates():
    run = FedState("log")
    run.feed([json.dumps({"step": n, "loss": 2.0}) for n in range(10)], arrived=1000.0)
    run.feed([json.dumps({"step": n, "loss": 1.0}) for n in range(10, 60)], arrived=1100.0)
    run.feed(['{"step": 60, "loss": NaN}'], arrived=1110.0)
    assert summary.since(run, 2000.0) == []
    first, *more = summary.since(run, 1050.0)
    assert first.startswith("51 steps in 1 min 00 s") and any(line.startswith("nan") for line in more)
    assert run.alerts[-1].time == 1110.0
