"""The run state: independent of how lines are split, correct through resumes, and safe to print."""

import itertools
import json
import math
import os
import platform
import random
import typing
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from tdiff.protocol.events import (
    Alert,
    Checkpoint,
    End,
    Eval,
    Event,
    Heartbeat,
    Resume,
    Sample,
    Start,
    Train,
    Verdicts,
    fold,
    parse,
    to_line,
)
from tdiff.protocol.trace import TraceEnd, TraceHeader, TraceStep
from tdiff.visible import visible, visible_line
from tdiff.watch import notices, summary, trace_buffer
from tdiff.watch.attempts import CAP, LOSS_CAP, MAX_ATTEMPTS
from tdiff.watch.curves import MAX_METRICS
from tdiff.watch.log import MAX_LINES, MAX_WIDTH
from tdiff.watch.notices import MAX_RESTARTS
from tdiff.watch.run_state import MAX_SAMPLES
from tests.support.fed import FedState

FEW = examples(derandomize=True, deadline=None, max_examples=60, database=None)
HERE = platform.node()
STARTED = 1.7e9


def train(step: int, loss: float = 2.0, time: float | None = None, **others) -> Train:
    values = {
        "time": STARTED + 10 * step if time is None else time,
        "step": step,
        "tokens": 100 * step,
        "loss": loss,
        "loss_by_mask": [],
        "lr": 0.1,
        "grad_norm": 1.0,
        "tokens_per_second": 5.0,
        "progress": 0.5,
        "eta": 90.0,
    }
    return Train(**values | others)


def start(pid: int = 1, host: str = "elsewhere", **others) -> Start:
    values = {
        "time": STARTED,
        "run": "r",
        "version": "0",
        "settings": {},
        "corpus": "text",
        "tokens": 9,
        "vocabulary": 5,
        "parameters": 7,
        "device": "cpu",
        "threads": 1,
        "pid": pid,
        "host": host,
    }
    return Start(**values | others)


def eval_at(step: int, loss: float) -> Eval:
    time = STARTED + 10 * step + 1
    return Eval(time=time, step=step, nats_per_token=loss, nats_per_char=loss, interval_95=(loss, loss), tokens=9)


def verdicts(step: int, accuracy: float = 0.85) -> Verdicts:
    figures = {"texts": 200, "accuracy": accuracy, "interval_95": (0.8, 0.9), "ece": 0.03, "temperature": 1.5}
    return Verdicts(time=STARTED + 10 * step + 2, step=step, **figures)


def sample(step: int, text: str = "text") -> Sample:
    return Sample(time=STARTED + 10 * step + 2, step=step, prompt="p", text=text, path="samples/x.jsonl")


def resume(step: int, time: float = STARTED + 5000, pid: int = 2, host: str = "elsewhere") -> Resume:
    return Resume(time=time, step=step, pid=pid, host=host)


def end(step: int, reason="finished") -> End:
    return End(time=STARTED + 10 * step + 3, step=step, reason=reason)


def run_of(*records) -> FedState:
    run = FedState("fed")
    run.feed([line if isinstance(line, str) else to_line(line).rstrip("\n") for line in records])
    return run


def known(run: FedState) -> dict:
    """Everything that a run state shows."""
    series = {**run.metrics, "\nclock": run.clock, "\ntokens": run.tokens}
    return {
        "series": {
            name: (list(one.steps), list(one.mean), list(one.low), list(one.high), list(one.broken), one.last, one.best)
            for name, one in series.items()
        },
        "log": list(run.log),
        "plain": (
            *(run.format, run.start, run.ended, run.checkpoint, run.evaluation, run.step, run.total),
            *(run.progress, run.eta, run.samples, run.trace, run.alerts, run.last_time, run.doing),
            *(run.logged, run.timing.gap, run.resets, run.state(STARTED)),
        ),
    }


# Independence of how lines are split


def mixed(draw: random.Random) -> list[str]:
    """Lines of a random format, some of them damaged."""
    kind = draw.choice(["tdiff", "json", "csv", "trainer", "log", "trace"])
    lines: list[str] = []
    step = 0
    for _ in range(draw.randrange(60)):
        step = max(0, step + draw.choice([0, 1, 1, 2, 5, -3 if draw.random() < 0.2 else 1]))
        loss = draw.choice([2.0, draw.uniform(1, 3), math.nan if draw.random() < 0.1 else 2.5])
        if kind == "tdiff":
            record = draw.choice(
                [
                    *(train(step, loss, gpu_load=draw.choice([None, 97.0])), train(step, loss), train(step, loss)),
                    *(eval_at(step, loss), sample(step), resume(step), end(step), start()),
                    Alert(time=1e9, step=step, what="nan", text="t"),
                ]
            )
            lines.append(to_line(record).rstrip())
        elif kind == "json":
            lines.append(json.dumps({"step": step, "loss": loss, "epoch": step // 10, draw.choice("abc"): step}))
        elif kind == "csv":
            lines += [f"{step},{loss},{draw.random()}"] if lines else ["step,loss,other"]
        elif kind == "trainer":
            bar = f"  1%|    | {step}/100 [00:{step % 60:02}<00:10, 3.1it/s]"
            lines += draw.choice([[bar], [bar, f"{{'loss': {loss}, 'epoch': 0.1}}"], [f"{{'eval_loss': {loss}}}", bar]])
        elif kind == "trace":
            lines.append(to_line(TraceStep(index=step, t=0.5, calls=1, cells=[])).rstrip())
        else:
            lines.append(draw.choice(["a line", "a,b", "key=1", "", " 3/9 [00:01<00:02, 3it/s]"]))
        if draw.random() < 0.1:
            torn = draw.randrange(1, 1 + max(1, len(lines[-1])))
            lines[-1] = draw.choice([lines[-1][:torn], lines[-1] + "}", "\x1b]0;x\x07" + lines[-1], "[" * 5000])
    return lines


def cut(lines: list[str], cuts: list[int]) -> list[list[str]]:
    ends = [0, *sorted(min(n, len(lines)) for n in cuts), len(lines)]
    return [lines[begin:end] for begin, end in itertools.pairwise(ends)]


@given(st.integers(0, 2**32), st.lists(st.integers(0, 120), max_size=6))
@examples(FEW, max_examples=250)
def test_state_does_not_depend_on_how_lines_are_split(seed, cuts):
    lines = mixed(random.Random(seed))
    at_once, parts = FedState("x"), FedState("x")
    at_once.feed(lines)
    for part in cut(lines, cuts):
        parts.feed(part)
    assert repr(known(parts)) == repr(known(at_once))


@given(st.binary(max_size=400), st.lists(st.integers(0, 40), max_size=4))
@FEW
@example(b'{"kind":"train",\xff\n{\'loss\': 2, \n1,2\n"', [1])
def test_any_bytes_are_accepted_and_give_the_same_state_in_any_pieces(data, cuts):
    lines = data.decode("utf-8", "replace").replace("\r", "\n").split("\n")
    at_once, parts = FedState("x"), FedState("x")
    at_once.feed(lines)
    for part in cut(lines, cuts):
        parts.feed(part)
    assert repr(known(parts)) == repr(known(at_once))


# Resumes


EVENTS = st.lists(
    st.one_of(
        st.builds(lambda jump, loss: (train, jump, loss), st.integers(0, 3), st.floats(1, 3)),
        st.builds(lambda jump, loss: (eval_at, jump, loss), st.integers(0, 3), st.floats(1, 3)),
        st.builds(lambda jump: (sample, jump), st.integers(0, 3)),
        st.builds(lambda back: (resume, -back), st.integers(0, 8)),
        st.builds(lambda jump: (end, jump), st.integers(0, 1)),
    ),
    max_size=40,
)


@given(EVENTS)
@FEW
def test_tdiff_run_equals_the_fold_over_its_resumes(moves):
    step, records = 0, []
    for make, jump, *others in moves:
        step = max(0, step + jump)
        records.append(make(step, *others))
    run = run_of(*records)
    folded = list(fold(records))

    def points(kind: type, field: str) -> list[tuple[float, float]]:
        return [(r.step, pytest.approx(getattr(r, field), rel=1e-6)) for r in folded if isinstance(r, kind)]

    for name, kind, field in (
        ("train/loss", Train, "loss"),
        ("eval/loss", Eval, "nats_per_token"),
        ("eval/nats_per_char", Eval, "nats_per_char"),
    ):
        series = run.metrics.get(name)
        assert (list(zip(series.steps, series.mean, strict=True)) if series else []) == points(kind, field)
    assert list(zip(run.clock.steps, run.clock.mean, strict=True)) == points(Train, "time")
    assert [s.step for s in run.samples] == [r.step for r in folded if isinstance(r, Sample)]
    ended = folded and [r for r in folded if isinstance(r, (End, Resume, Train))]
    assert (run.ended is not None) == bool(ended and isinstance(ended[-1], End))
    assert run.step == (max([step, 0]) if records else 0)


EVERY = {
    "start": start(),
    "train": train(5),
    "eval": eval_at(5, 2.0),
    "verdicts": verdicts(5),
    "sample": sample(5),
    "checkpoint": Checkpoint(time=STARTED, step=5, path="model"),
    "alert": Alert(time=STARTED, step=5, what="heat", text="85 degrees"),
    "resume": resume(5),
    "heartbeat": Heartbeat(time=STARTED, step=5, doing="evaluating"),
    "end": end(5),
}
"""A record of every kind that a run writes."""


def test_every_event_kind_reaches_the_log_or_the_state():
    kinds = {kind.kind for kind in typing.get_args(Event)}
    assert set(EVERY) == kinds, "a new kind needs a record here, and support in RunState"
    for kind, record in EVERY.items():
        before, after = run_of(train(1)), run_of(train(1), record)
        assert len(after.log) > len(before.log) or after.doing != before.doing, kind
        assert after.step == (5 if kind != "start" else 1), kind
        assert [one.kind for one in fold([parse(to_line(record))])] == [kind]


def test_verdicts_reach_log_and_state_and_a_resume_drops_them():
    run = run_of(start(), train(5), verdicts(5), train(6), verdicts(6, 0.9))
    assert run.verdicts == parse(to_line(verdicts(6, 0.9)))
    assert [line for line in run.log if "classification of" in line and "accuracy 85.0%" in line]
    accuracy = run.metrics["eval/accuracy"]
    assert (list(accuracy.steps), list(accuracy.mean)) == ([5, 6], pytest.approx([0.85, 0.9]))
    run.feed([to_line(resume(5)).rstrip()])
    assert run.verdicts is None
    assert list(run.metrics["eval/accuracy"].steps) == [5]
    odd = run_of(
        '{"kind":"verdicts","time":1.7e9,"step":1,"texts":2,"accuracy":null,"interval_95":[null,null],"ece":null,"temperature":null}'
    )
    assert odd.verdicts is not None and odd.metrics["eval/accuracy"].broken


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


def bars(*spent: int, total: int = 500, each: int = 10) -> list[str]:
    """A Trainer that prints a dictionary at each of these seconds, `each` steps after the last."""
    lines = []
    for n, seconds in enumerate(spent, 1):
        bar = f" {n * each}/{total} [{seconds // 60:02}:{seconds % 60:02}<1:00:00, 30.00s/it]"
        lines += [bar, f"{{'loss': {3 - n / 100}, 'epoch': {n / 100}}}", bar]
    return lines


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
    assert run_of(start(), train(1)).state(STARTED + 1e6) == "stalled", "a tdiff run records its end"


TRACEBACK = ["Traceback (most recent call last):", '  File "fit.py", line 7, in <module>', "    run()", "ValueError: 1"]


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


def test_log_has_one_line_per_event():
    run = run_of(start(), train(1, 2.5), sample(1, "one\ntwo"), eval_at(1, 2.0), end(1, "stopped"))
    assert [line[10:] for line in run.log] == [
        "run r: 0.00M parameters, 9 training tokens of text, vocabulary 5, cpu with 1 threads",
        "step 1  loss 2.5000  lr 1.00e-01  grad 1.0000  5 tokens/s  50.0%  ETA 1 min 30 s",
        "step 1  sample:   | one   | two",
        "step 1  held-out bound 2.0000 nats a character (a token 2.0000, 2.0000..2.0000)",
        "ended: stopped",
    ]
    assert run.logged == 5


def test_log_stores_the_newest_lines_and_counts_all():
    run = run_of(*(train(n) for n in range(MAX_LINES + 10)))
    assert run.logged == MAX_LINES + 10
    assert len(run.log) == MAX_LINES
    assert "step 10 " in run.log[0]
    run.feed([to_line(train(9999)).rstrip()])
    assert "step 9,999 " in run.log[-1]
    assert len(run.log) == MAX_LINES


def test_reset_keeps_only_the_name():
    run = run_of(start(), *map(train, range(100)), end(99))
    run.replace_source()
    fresh = FedState("fed")
    fresh.resets = 1
    assert known(run) == known(fresh)
    run.feed(["step,loss", "1,2.5"])
    assert run.format == "csv"
    assert run.name == "fed"


def test_stored_metrics_samples_and_notices_are_bounded(monkeypatch):
    run = run_of(*(json.dumps({"step": n, f"m{n}": 1.0}) for n in range(MAX_METRICS + 50)))
    assert len(run.metrics) == MAX_METRICS
    run = run_of(*(sample(n) for n in range(MAX_SAMPLES + 1)))
    assert len(run.samples) <= MAX_SAMPLES
    assert (run.samples[0].step, run.samples[-1].step) == (0, MAX_SAMPLES)
    steps = [one.step for one in run.samples]
    assert max(b - a for a, b in itertools.pairwise(steps)) == 2
    monkeypatch.setattr(notices, "MAX_NOTICES", 3)
    run = run_of(*(Alert(time=STARTED, step=n, what="x", text="y") for n in range(9)))
    assert [notice.step for notice in run.alerts] == [6, 7, 8]


# Hostile text

HOSTILE = [
    "\x1b]52;c;ZWNobyBvd25lZA==\x07",
    "\x1b[2J\x1b[31mred\x1b[5A",
    "\x9b31m\x9d0;owned\x9c",
    "\u202egnp.exe\u2066\u200b\ufeff",
    "[/x] [bold]not[/bold] [link=evil]",
    "\x00\x07\x08\x7f",
    "\ud800 lone",
    "日本語 ｗｉｄｅ 👩‍👩‍👧",
    "x" * 1_000_000,
    "\x1b" * 100_000,
    "," * 1_000_000,
    "{'" * 300_000,
    "{'a': 1, " * 100_000,
    "[" * 200_000,
    '{"a":' * 200_000,
    '{"step": 1, "loss": 2, "\x1b[2J": 3, "' + "k" * 100_000 + '": 4}',
    "{'loss': 2, '\x1b[2J': 3}",
    "1/2 [" * 100,
    "9/9 [0<" * 60,
    "%|" * 240,
]


def texts(run: FedState) -> list[str]:
    """Every text in a run state."""
    strings = [run.name, run.format, run.doing, *run.metrics, *run.log, *(n.text for n in run.alerts)]
    strings += [text for one in run.samples for text in (one.prompt, one.text, one.path)]
    for line in run.trace:
        if isinstance(line, TraceHeader):
            strings += [line.prompt, line.model, line.decoder, *(text for _, text, _ in line.given)]
        elif isinstance(line, TraceStep):
            strings += [cell[1] for cell in line.cells]
        else:
            strings += [line.text]
    if run.start:
        strings += [run.start.run, run.start.corpus, run.start.device, run.start.host]
    return strings


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize("kind", ["log", "json", "csv", "trainer", "tdiff", "trace"])
def test_hostile_lines_are_inert(kind, text):
    short = text[:5000]
    step = TraceStep(index=1, t=0.5, calls=1, cells=[(0, short, 1, 0.5, "commit")])
    header = TraceHeader(
        version="0", model=short, decoder=short, settings={short: short}, seed=0, row=0, prompt=short, cells=2, given=[]
    )
    before = {
        "log": ["a line"],
        "json": ['{"step": 1, "loss": 2}', json.dumps({"loss": 3, short: 4.0, "note": short})],
        "csv": ["step,loss", "1,2"],
        "trainer": ["{'loss': 2, 'epoch': 1}", "1/2 [00:01<00:01, 1it/s]"],
        "tdiff": [
            *(start(run=short, corpus=short, device=short), train(1), sample(1, text)),
            *(Alert(time=1e9, step=1, what=short, text=text), Heartbeat(time=1e9, step=1, doing=short)),
        ],
        "trace": [header, step, TraceEnd(text=text, model_calls=1, forced=0, tokens=1, seconds=0.1)],
    }[kind]
    run = FedState(short)
    run.feed([line if isinstance(line, str) else to_line(line).rstrip("\n") for line in before])
    run.feed([text])
    if kind != "log":
        assert run.format == ("text" if kind == "trainer" else kind)
    for text in texts(run):
        assert text == visible(text)
    for text in [*run.log, *(notice.text for notice in run.alerts), *run.metrics, run.doing, run.name]:
        assert text == visible_line(text)
    for line in run.log:
        assert len(line) <= 11 * MAX_WIDTH


@given(st.text(), st.text())
@FEW
def test_any_text_is_inert(name, line):
    run = FedState(name)
    run.feed([line, "{'loss': 2, 'epoch': 1}", line, json.dumps({line: 1}), line])
    for text in texts(run):
        assert text == visible_line(text)


@pytest.mark.parametrize("time", [1e300, -1.0, math.nan, 10**18])
def test_invalid_times_are_dropped(time):
    run = run_of(train(1), train(2, time=time), Checkpoint(time=time, step=2, path="m"), end(2), train(3, time=time))
    assert run.last_time == STARTED + 23
    assert run.checkpoint.time == STARTED + 10
    assert list(run.clock.steps) == [1]
    assert all("--:--:--" in line or line[2] == ":" for line in run.log)
    assert parse(to_line(train(1))) is not None


def test_summary_uses_arrival_times_of_lines_without_dates():
    run = FedState("log")
    run.feed([json.dumps({"step": n, "loss": 2.0}) for n in range(10)], arrived=1000.0)
    run.feed([json.dumps({"step": n, "loss": 1.0}) for n in range(10, 60)], arrived=1100.0)
    run.feed(['{"step": 60, "loss": NaN}'], arrived=1110.0)
    assert summary.since(run, 2000.0) == []
    first, *more = summary.since(run, 1050.0)
    assert first.startswith("51 steps in 1 min 00 s") and any(line.startswith("nan") for line in more)
    assert run.alerts[-1].time == 1110.0


def test_trace_stores_the_newest_lines_and_counts_all(monkeypatch):
    monkeypatch.setattr(trace_buffer, "MAX_CHARACTERS", 2000)
    run = FedState("trace")
    for n in range(30):
        run.trace_line(
            TraceHeader(version="", model="", decoder="", settings={}, seed=n, row=0, prompt="", cells=4, given=[])
        )
        run.trace_line(TraceStep(index=1, t=0.0, calls=1, cells=[(0, "a", 1, 0.5, "commit")]))
    assert run.traced_lines == 60 and len(run.trace) < 30
    assert run.trace[-2].seed == 29


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
