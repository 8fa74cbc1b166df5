"""Restarts of a run, resumes, and the earlier attempts that they leave."""

import json
import math
from dataclasses import replace

from hypothesis import settings as examples

from tdiff.protocol.events import (
    Alert,
    Checkpoint,
    to_line,
)
from tdiff.watch.attempts import CAP, LOSS_CAP, MAX_ATTEMPTS
from tdiff.watch.notices import MAX_RESTARTS
from tests.support.fed import FedState
from tests.support.run_records import STARTED, TRACEBACK, bars, end, eval_at, resume, run_of, sample, start, train

FEW = examples(derandomize=True, deadline=None, max_examples=60, database=None)


def test_resume_drops_later_records():
    run = run_of(
        *(
            start(),
            *map(train, range(1, 31)),
            eval_at(20, 2.5),
            sample(20),
            Checkpoint(time=STARTED, step=25, path="model"),
        ),
        *(Alert(time=STARTED, step=28, what="heat", text="hot"), resume(15)),
    )
    assert list(run.metrics["train/loss"].steps) == list(range(1, 16))
    assert (list(run.metrics["eval/loss"].steps), run.samples, run.checkpoint) == ([], [], None)
    assert [notice.what for notice in run.alerts] == ["restart"]
    assert (run.clock.last[0], run.tokens.last[0], run.step) == (15, 15, 15)
    assert "resumed at step 15" in run.log[-1]


def test_resume_keeps_what_it_drops_as_an_earlier_attempt():
    run = run_of(start(), *(train(n, 3 - n / 100) for n in range(1, 31)), eval_at(20, 2.5), end(30, "stopped"))
    run.feed([to_line(resume(15)).rstrip(), to_line(train(16, 2.5)).rstrip()])
    [attempt] = run.attempts.stored
    loss = attempt.metrics["train/loss"]
    assert list(loss.steps) == list(range(16, 31))
    assert list(attempt.metrics["eval/loss"].steps) == [20]
    assert list(attempt.clock.mean) == [STARTED + 10 * n for n in range(16, 31)]
    assert (attempt.restart, attempt.last_step, attempt.loss, attempt.reason) == (15, 30, 2.7, "stopped")
    [notice] = [notice for notice in run.alerts if notice.what == "restart"]
    assert (notice.step, notice.time) == (15, STARTED + 5000)
    assert notice.text == "at step 15, after step 30 at loss 2.7"
    assert run.metrics["train/loss"].last == (16, 2.5)


def test_resume_that_drops_nothing_is_no_attempt():
    run = run_of(start(), train(1), end(1, "stopped"), resume(1), train(2))
    assert (run.attempts.stored, str(run.attempts), [n.what for n in run.alerts]) == ([], "", ["ended"])


def test_evaluation_of_an_earlier_step_is_no_restart():
    run = run_of(*map(train, range(1, 31)), eval_at(30, 2.5))
    run.points([10], {"eval/loss": [2.0]})
    assert (run.step, run.attempts.count, run.metrics["train/loss"].last[0]) == (30, 0, 30)
    assert list(run.metrics["eval/loss"].steps) == [30]


def test_attempts_keep_the_reason_for_which_the_program_died():
    run = FedState("x")
    run.feed([*bars(1, 2, 3), *TRACEBACK, *bars(1, 2)], STARTED)
    assert str(run.attempts) == "1 earlier attempt, until step 30 at loss 2.97"
    assert run.attempts.stored[0].reason == "ValueError: 1"


def test_an_attempt_that_broke_says_that_its_loss_is_not_finite():
    run = run_of(*map(train, range(1, 9)), train(9, math.nan), resume(5))
    assert str(run.attempts) == "1 earlier attempt, until step 9 at a loss that is not finite"
    assert math.isnan(run.attempts.stored[0].loss)


def test_many_restarts_are_counted_and_their_curves_are_bounded():
    run = FedState("crash loop")
    lines = []
    for n in range(40):
        lines += [json.dumps({"step": step, "loss": 2.0, "lr": 0.1}) for step in range(10, 20_000 if n == 3 else 30)]
    run.feed(lines)
    assert run.attempts.count == 39 and len(run.attempts.stored) == MAX_ATTEMPTS
    longest = max(run.attempts.stored, key=lambda attempt: attempt.records)
    assert (longest.number, longest.last_step, run.attempts.stored[-1].number) == (4, 19_999, 39)
    for attempt in run.attempts.stored:
        assert len(attempt.metrics["train/loss"].steps) <= LOSS_CAP
        assert len(attempt.metrics["train/lr"].steps) <= CAP
    assert sum(notice.what == "restart" for notice in run.alerts) <= MAX_RESTARTS + 1


def test_resume_with_another_end_changes_the_total():
    run = run_of(start(), train(1), resume(1))
    assert run.total == start().steps
    assert run_of(start(), train(1), replace(resume(1), steps=900)).total == 900
    assert run_of(start(), train(1), replace(resume(1), minutes=5.0)).total is None


def test_a_line_of_settings_before_the_log_is_no_earlier_attempt():
    run = FedState("job")
    run.feed(
        ["config: model=gpt lr=3e-4 batch=64", *(f"step {n} loss {3 - n / 100:.2f} lr 3e-4" for n in range(0, 50, 10))]
    )
    assert not run.alerts and not run.attempts.count
