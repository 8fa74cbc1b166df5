"""The fold of a watched thing: the same however its lines come, true to resumes, and inert whatever they hold."""

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
from tdiff.watch import run_state as module
from tdiff.watch.run_state import LOG_LINES, LOG_WIDTH, MOST_METRICS, MOST_SAMPLES, RunState

FEW = examples(derandomize=True, deadline=None, max_examples=60, database=None)
HERE = platform.node()
BEGUN = 1.7e9


def train(step: int, loss: float = 2.0, time: float | None = None, **others) -> Train:
    values = {
        "time": BEGUN + 10 * step if time is None else time,
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
        "time": BEGUN,
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


def held(step: int, loss: float) -> Eval:
    time = BEGUN + 10 * step + 1
    return Eval(time=time, step=step, nats_per_token=loss, nats_per_char=loss, interval_95=(loss, loss), tokens=9)


def verdicts(step: int, accuracy: float = 0.85) -> Verdicts:
    figures = {"texts": 200, "accuracy": accuracy, "interval_95": (0.8, 0.9), "ece": 0.03, "temperature": 1.5}
    return Verdicts(time=BEGUN + 10 * step + 2, step=step, **figures)


def sample(step: int, text: str = "text") -> Sample:
    return Sample(time=BEGUN + 10 * step + 2, step=step, prompt="p", text=text, path="samples/x.jsonl")


def resume(step: int, time: float = BEGUN + 5000, pid: int = 2, host: str = "elsewhere") -> Resume:
    return Resume(time=time, step=step, pid=pid, host=host)


def end(step: int, reason="finished") -> End:
    return End(time=BEGUN + 10 * step + 3, step=step, reason=reason)


def told(*records) -> RunState:
    story = RunState("told")
    story.feed([line if isinstance(line, str) else to_line(line).rstrip("\n") for line in records])
    return story


def known(story: RunState) -> dict:
    """All that a story says."""
    series = {**story.metrics, "\nclock": story.clock, "\ntokens": story.tokens}
    return {
        "series": {
            name: (list(one.steps), list(one.mean), list(one.low), list(one.high), list(one.broken), one.last, one.best)
            for name, one in series.items()
        },
        "log": list(story.log),
        "plain": (
            *(story.format, story.start, story.ended, story.checkpoint, story.evaluation, story.step, story.total),
            *(story.progress, story.eta, story.samples, story.trace, story.alerts, story.last_time, story.doing),
            *(story.logged, story.gap, story.resets, story.state(BEGUN)),
        ),
    }


# However its lines come


def mixed(draw: random.Random) -> list[str]:
    """Lines of a format or another, some of them spoilt."""
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
                    *(held(step, loss), sample(step), resume(step), end(step), start()),
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
def test_a_story_is_the_same_in_pieces_of_any_size(seed, cuts):
    lines = mixed(random.Random(seed))
    whole, parts = RunState("x"), RunState("x")
    whole.feed(lines)
    for part in cut(lines, cuts):
        parts.feed(part)
    assert repr(known(parts)) == repr(known(whole))


@given(st.binary(max_size=400), st.lists(st.integers(0, 40), max_size=4))
@FEW
@example(b'{"kind":"train",\xff\n{\'loss\': 2, \n1,2\n"', [1])
def test_any_bytes_are_taken_and_give_the_same_in_any_pieces(data, cuts):
    lines = data.decode("utf-8", "replace").replace("\r", "\n").split("\n")
    whole, parts = RunState("x"), RunState("x")
    whole.feed(lines)
    for part in cut(lines, cuts):
        parts.feed(part)
    assert repr(known(parts)) == repr(known(whole))


# True to resumes


EVENTS = st.lists(
    st.one_of(
        st.builds(lambda jump, loss: (train, jump, loss), st.integers(0, 3), st.floats(1, 3)),
        st.builds(lambda jump, loss: (held, jump, loss), st.integers(0, 3), st.floats(1, 3)),
        st.builds(lambda jump: (sample, jump), st.integers(0, 3)),
        st.builds(lambda back: (resume, -back), st.integers(0, 8)),
        st.builds(lambda jump: (end, jump), st.integers(0, 1)),
    ),
    max_size=40,
)


@given(EVENTS)
@FEW
def test_a_run_of_tdiff_is_what_its_fold_over_resumes_says(moves):
    step, records = 0, []
    for make, jump, *others in moves:
        step = max(0, step + jump)
        records.append(make(step, *others))
    story = told(*records)
    kept = list(fold(records))

    def points(kind: type, field: str) -> list[tuple[float, float]]:
        return [(r.step, pytest.approx(getattr(r, field), rel=1e-6)) for r in kept if isinstance(r, kind)]

    for name, kind, field in (
        ("train/loss", Train, "loss"),
        ("eval/loss", Eval, "nats_per_token"),
        ("eval/nats_per_char", Eval, "nats_per_char"),
    ):
        series = story.metrics.get(name)
        assert (list(zip(series.steps, series.mean, strict=True)) if series else []) == points(kind, field)
    assert list(zip(story.clock.steps, story.clock.mean, strict=True)) == points(Train, "time")
    assert [s.step for s in story.samples] == [r.step for r in kept if isinstance(r, Sample)]
    ended = kept and [r for r in kept if isinstance(r, (End, Resume, Train))]
    assert (story.ended is not None) == bool(ended and isinstance(ended[-1], End))
    assert story.step == (max([step, 0]) if records else 0)


EVERY = {
    "start": start(),
    "train": train(5),
    "eval": held(5, 2.0),
    "verdicts": verdicts(5),
    "sample": sample(5),
    "checkpoint": Checkpoint(time=BEGUN, step=5, path="model"),
    "alert": Alert(time=BEGUN, step=5, what="heat", text="85 degrees"),
    "resume": resume(5),
    "heartbeat": Heartbeat(time=BEGUN, step=5, doing="evaluating"),
    "end": end(5),
}
"""A record of every kind that a run writes."""


def test_every_kind_of_record_that_a_run_writes_is_in_the_log_or_in_the_state():
    kinds = {kind.kind for kind in typing.get_args(Event)}
    assert set(EVERY) == kinds, "a new kind needs a record here, and the story must know it"
    for kind, record in EVERY.items():
        before, after = told(train(1)), told(train(1), record)
        assert len(after.log) > len(before.log) or after.doing != before.doing, kind
        assert after.step == (5 if kind != "start" else 1), kind
        assert [one.kind for one in fold([parse(to_line(record))])] == [kind]


def test_verdicts_are_in_the_log_and_the_state_and_a_resume_drops_them():
    story = told(start(), train(5), verdicts(5), train(6), verdicts(6, 0.9))
    assert story.verdicts == parse(to_line(verdicts(6, 0.9)))
    assert [line for line in story.log if "verdicts" in line and "85.0% right" in line]
    accuracy = story.metrics["eval/accuracy"]
    assert (list(accuracy.steps), list(accuracy.mean)) == ([5, 6], pytest.approx([0.85, 0.9]))
    story.feed([to_line(resume(5)).rstrip()])
    assert story.verdicts is None
    assert list(story.metrics["eval/accuracy"].steps) == [5]
    odd = told(
        '{"kind":"verdicts","time":1.7e9,"step":1,"texts":2,"accuracy":null,"interval_95":[null,null],'
        '"ece":null,"temperature":null}'
    )
    assert odd.verdicts is not None and odd.metrics["eval/accuracy"].broken


def test_a_resume_drops_what_it_took_back():
    story = told(
        *(start(), *map(train, range(1, 31)), held(20, 2.5), sample(20), Checkpoint(time=BEGUN, step=25, path="model")),
        *(Alert(time=BEGUN, step=28, what="heat", text="hot"), resume(15)),
    )
    assert list(story.metrics["train/loss"].steps) == list(range(1, 16))
    assert (list(story.metrics["eval/loss"].steps), story.samples, story.alerts, story.checkpoint) == ([], [], [], None)
    assert (story.clock.last[0], story.tokens.last[0], story.step) == (15, 15, 15)
    assert "resumed at step 15" in story.log[-1]


def test_a_run_that_ended_and_was_resumed_runs():
    story = told(start(), train(1), end(1, "stopped"))
    assert story.state(BEGUN + 20) == "stopped"
    story.feed([to_line(resume(1, time=BEGUN + 100)).rstrip()])
    assert story.state(BEGUN + 101) == "running"
    assert [notice.text for notice in story.alerts] == ["stopped"]


# State and notices


def test_a_story_waits_until_something_is_said():
    story = RunState("x")
    assert (story.state(BEGUN), story.check(BEGUN), story.away(0)) == ("waiting", [], [])
    assert story.when(3) is None


@pytest.mark.parametrize(("reason", "state"), [("finished", "finished"), ("stopped", "stopped"), ("nan", "failed")])
def test_an_end_tells_how(reason, state):
    story = told(start(), train(1), end(1, reason))
    assert story.state(BEGUN + 1e6) == state
    assert story.eta is None
    [notice] = story.check(BEGUN + 1e6)
    assert (notice.what, notice.time, notice.step) == ("ended", BEGUN + 13, 1)
    assert story.check(BEGUN + 1e6) == []


def test_a_silence_of_many_gaps_is_a_stall_told_once_until_there_is_a_record():
    story = told(start(), *map(train, range(1, 10)))
    last = BEGUN + 90
    assert story.gap == 10
    assert story.state(last + 119) == "running"
    assert story.check(last + 119) == []
    assert story.state(last + 121) == "stalled"
    [notice] = story.check(last + 500)
    assert (notice.what, notice.time, notice.step) == ("stall", last + 120, 9)
    assert story.check(last + 600) == []
    assert story.alerts == [notice]
    story.feed([to_line(train(10, time=last + 700)).rstrip()])
    assert story.state(last + 701) == "running"
    assert [found.what for found in story.check(last + 900)] == ["stall"]


def test_a_run_that_is_busy_may_be_silent_longer():
    busy = Heartbeat(time=BEGUN + 91, step=9, doing="evaluating")
    story = told(start(), *map(train, range(1, 10)), busy)
    assert story.doing == "evaluating"
    assert story.state(BEGUN + 91 + 800) == "running"
    assert story.state(BEGUN + 91 + 1000) == "stalled"
    story.feed([to_line(held(9, 2.0)).rstrip()])
    assert story.doing == ""


def test_a_run_of_this_host_whose_process_is_gone_has_died(monkeypatch):
    alive = {os.getpid()}

    def kill(pid: int, signal: int) -> None:
        assert signal == 0
        if pid not in alive:
            raise ProcessLookupError

    monkeypatch.setattr(os, "kill", kill)
    gone = 77_777
    assert told(start(gone, "elsewhere"), train(1)).state(BEGUN + 11) == "running"
    assert told(start(os.getpid(), HERE), train(1)).state(BEGUN + 11) == "running"
    story = told(start(gone, HERE), train(1))
    assert story.state(BEGUN + 11) == "died"
    [notice] = story.check(BEGUN + 9999)
    assert (notice.what, notice.time, notice.step) == ("died", BEGUN + 10, 1)
    assert story.check(BEGUN + 9999) == []
    story.feed([to_line(resume(1, time=BEGUN + 100, pid=os.getpid(), host=HERE)).rstrip()])
    assert story.state(BEGUN + 101) == "running"
    assert told(start(gone, HERE), train(1), end(1)).state(BEGUN + 11) == "finished"


def test_old_notices_carry_the_time_of_their_record():
    draw = random.Random(0)
    losses = [2 + draw.gauss(0, 0.02) for _ in range(120)]
    losses[80] = 4.0
    losses[100] = math.nan
    story = told(*(train(n, loss) for n, loss in enumerate(losses)))
    assert [(n.what, n.step, n.time) for n in story.alerts] == [
        ("spike", 80, BEGUN + 800),
        ("nan", 100, BEGUN + 1000),
    ]
    assert story.alerts[0].text.startswith("train/loss 4, +")
    assert story.check(BEGUN + 1200) == story.alerts


def test_what_the_run_itself_says_of_a_loss_that_is_none_takes_the_place_of_our_own_words():
    alert = Alert(time=BEGUN + 21, step=2, what="nan", text="the loss is not finite; try a lower learning rate")
    story = told(train(1), train(2, math.nan), alert, end(2, "nan"))
    assert [(n.what, n.text) for n in story.alerts] == [
        ("nan", alert.text),
        ("ended", "failed: the loss is not finite"),
    ]
    assert story.check(BEGUN + 30) == story.alerts


def test_an_alert_of_the_run_is_a_notice():
    story = told(train(1), Alert(time=BEGUN + 11, step=1, what="heat", text="85 degrees\nof it"))
    assert [(n.what, n.time, n.text) for n in story.alerts] == [("alert", BEGUN + 11, "heat: 85 degrees␊of it")]


def test_a_log_without_times_lives_by_the_arrival_of_its_lines():
    story = RunState("x")
    for second in range(20):
        story.feed([f"line {second}"], BEGUN + 10 * second)
    assert story.last_time == BEGUN + 190
    assert story.gap == 10
    assert story.state(BEGUN + 300) == "running"
    assert story.state(BEGUN + 400) == "stalled"
    story = RunState("y")
    story.feed(["a line"])
    assert story.state(BEGUN) == "running"


def bars(*spent: int, total: int = 500, each: int = 10) -> list[str]:
    """A Trainer that prints a dictionary at each of these seconds, `each` steps after the last."""
    lines = []
    for n, seconds in enumerate(spent, 1):
        bar = f" {n * each}/{total} [{seconds // 60:02}:{seconds % 60:02}<1:00:00, 30.00s/it]"
        lines += [bar, f"{{'loss': {3 - n / 100}, 'epoch': {n / 100}}}", bar]
    return lines


def test_no_stall_is_told_while_its_own_clock_says_that_a_record_takes_longer():
    slow, one, elapsed, unknown = RunState("bars"), RunState("a bar"), RunState("column"), RunState("nothing")
    slow.feed(bars(300, 600, 900), BEGUN)
    one.feed(bars(300), BEGUN)
    elapsed.feed(["step,loss,elapsed", "1,2.5,300", "2,2.4,600"], BEGUN)
    unknown.feed(["step,loss", "1,2.5", "2,2.4"], BEGUN)
    for story, usual in ((slow, 300), (one, 30), (elapsed, 300)):
        assert story.gap == usual, story.name
        assert story.state(BEGUN + 12 * usual - 1) == "running"
        assert story.state(BEGUN + 12 * usual + 1) == "stalled"
    assert (unknown.state(BEGUN + 899), unknown.state(BEGUN + 901)) == ("running", "stalled")


def test_a_log_whose_evaluations_take_long_is_not_stalled_by_the_third():
    story, now = RunState("x"), BEGUN
    for n in range(200):
        now += 400 if n in (60, 120) else 1
        story.feed([f"{{'loss': 2.0, 'step': {n + 1}}}"], now)
    assert story.gap == 1
    assert story.state(now + 799) == "running"
    assert story.state(now + 801) == "stalled"


def test_what_has_finished_is_not_stalled_and_a_log_of_yesterday_is_over():
    done, going = RunState("done"), RunState("going")
    done.feed(bars(10, 20, total=20), BEGUN)
    going.feed(bars(10, 20), BEGUN)
    assert (done.state(BEGUN + 1), done.state(BEGUN + 1000), done.state(BEGUN + 1e6)) == ("running", *["finished"] * 2)
    assert done.check(BEGUN + 1000) == []
    assert (going.state(BEGUN + 1000), going.state(BEGUN + 90_000)) == ("stalled", "stopped")
    done.closed = going.closed = True
    assert (done.state(BEGUN), going.state(BEGUN)) == ("finished", "stopped")
    assert told(start(), train(1)).state(BEGUN + 1e6) == "stalled", "a run of tdiff tells of its end"


TRACEBACK = ["Traceback (most recent call last):", '  File "fit.py", line 7, in <module>', "    run()", "ValueError: 1"]


def test_a_log_that_ends_in_a_traceback_has_failed_and_tells_why_once():
    story = RunState("x")
    story.feed([*bars(1, 2, 3), *TRACEBACK], BEGUN)
    assert (story.state(BEGUN), story.failure, story.eta) == ("failed", "ValueError: 1", None)
    [notice] = story.check(BEGUN)
    assert (notice.what, notice.text, notice.step) == ("failed", "ValueError: 1", 30)
    story.feed([bars(1, 2, 3)[-1], "srun: error: gpu01: task 0: Exited with exit code 1"], BEGUN + 1)
    assert story.check(BEGUN + 9000) == [] and story.state(BEGUN + 9000) == "failed"
    assert story.metrics["train/loss"].last == (30, pytest.approx(2.97))


@pytest.mark.parametrize("more", [bars(4, 5, 6), ["{'loss': 2.0, 'step': 40}"], ["{'train_runtime': 9.0}"]])
def test_a_traceback_that_was_survived_is_no_failure(more):
    story = RunState("x")
    story.feed([*bars(1, 2, 3), *TRACEBACK], BEGUN)
    story.check(BEGUN)
    story.feed([*more, "."], BEGUN + 1)
    assert story.failure == "" and story.state(BEGUN + 1) in ("running", "finished")
    story.check(BEGUN + 1)
    assert "failed" not in [notice.what for notice in story.alerts]


@pytest.mark.parametrize(
    "lines",
    [
        ["step,loss", "1,2.5", "2,2.4"],
        ['{"step": 1, "loss": 2.5}', '{"step": 2, "loss": 2.4}'],
        ["a plain log", "of lines"],
    ],
    ids=["csv", "json", "log"],
)
def test_every_format_that_a_program_writes_may_end_in_a_failure(lines):
    story = RunState("x")
    story.feed([*lines, *TRACEBACK], BEGUN)
    assert (story.state(BEGUN + 9), story.failure) == ("failed", "ValueError: 1")
    assert story.log[-1] == "ValueError: 1"
    story = RunState("x")
    story.feed([*lines, *TRACEBACK[:-1], "KeyboardInterrupt"], BEGUN)
    assert story.state(BEGUN + 9) == "stopped"


def test_a_trainers_notices_are_dated_by_its_bar():
    lines = []
    for step in range(1, 101):
        bar = f"{step}/200 [{step // 60:02}:{step % 60:02}<01:00, 1it/s]"
        lines += [bar, f"{{'loss': {5.0 if step == 80 else 2.0}, 'epoch': 0.1}}", bar]
    story = RunState("x")
    story.feed(lines)
    assert [(n.what, n.step, n.time) for n in story.alerts] == [("spike", 80, None)]
    story.feed(["101/200 [01:41<01:00, 1it/s]"], BEGUN)
    assert [(n.what, n.step, n.time) for n in story.alerts] == [("spike", 80, BEGUN - 21)]
    assert story.when(50) == BEGUN - 51
    assert story.last_time == BEGUN


# While you were away


def test_what_happened_meanwhile_is_told_shortly():
    story = told(start(), *(train(n, 3 - n / 100) for n in range(1, 61)), held(60, 2.5), sample(60), end(60, "stopped"))
    since = BEGUN + 605
    assert story.away(BEGUN + 700) == []
    story.feed([to_line(train(n, 3 - n / 100)).rstrip() for n in range(61, 101)])
    story.feed([to_line(r).rstrip() for r in (held(80, 2.25), sample(70), sample(90), end(100))])
    assert story.away(since) == [
        "40 steps in 6 min 38 s, train loss 2.4 to 2",
        "best validation loss 2.25 at step 80",
        "ended: finished",
        "2 samples, the newest at step 90",
    ]
    assert story.away(BEGUN + 5000) == []
    assert story.away(0)[0].startswith("100 steps in")


# The log, and how much is kept


def test_the_log_tells_what_happened_in_a_line_each():
    story = told(start(), train(1, 2.5), sample(1, "one\ntwo"), held(1, 2.0), end(1, "stopped"))
    assert [line[10:] for line in story.log] == [
        "run r: 0.00M parameters, 9 training tokens of text, vocabulary 5, cpu with 1 threads",
        "step 1  loss 2.5000  lr 1.00e-01  grad 1.0000  5 tokens/s  50.0%  ETA 1 min 30 s",
        "step 1  sample:   | one   | two",
        "step 1  held-out bound 2.0000 nats a character (a token 2.0000, 2.0000..2.0000)",
        "ended: stopped",
    ]
    assert story.logged == 5


def test_the_log_keeps_the_newest_lines_and_counts_all():
    story = told(*(train(n) for n in range(LOG_LINES + 10)))
    assert story.logged == LOG_LINES + 10
    assert len(story.log) == LOG_LINES
    assert "step 10 " in story.log[0]
    story.feed([to_line(train(9999)).rstrip()])
    assert "step 9,999 " in story.log[-1]
    assert len(story.log) == LOG_LINES


def test_a_story_that_begins_anew_knows_nothing_but_its_name():
    story = told(start(), *map(train, range(100)), end(99))
    story.reset()
    fresh = RunState("told")
    fresh.resets = 1
    assert known(story) == known(fresh)
    story.feed(["step,loss", "1,2.5"])
    assert story.format == "csv"
    assert story.name == "told"


def test_what_is_kept_is_bounded(monkeypatch):
    story = told(*(json.dumps({f"m{n}": 1.0}) for n in range(MOST_METRICS + 50)))
    assert len(story.metrics) == MOST_METRICS
    story = told(*(sample(n) for n in range(MOST_SAMPLES + 1)))
    assert len(story.samples) <= MOST_SAMPLES
    assert (story.samples[0].step, story.samples[-1].step) == (0, MOST_SAMPLES)
    steps = [one.step for one in story.samples]
    assert max(b - a for a, b in itertools.pairwise(steps)) == 2
    monkeypatch.setattr(module, "MOST_NOTICES", 3)
    story = told(*(Alert(time=BEGUN, step=n, what="x", text="y") for n in range(9)))
    assert [notice.step for notice in story.alerts] == [6, 7, 8]


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


def texts(story: RunState) -> list[str]:
    """Every text that a story holds."""
    found = [story.name, story.format, story.doing, *story.metrics, *story.log, *(n.text for n in story.alerts)]
    found += [text for one in story.samples for text in (one.prompt, one.text, one.path)]
    for line in story.trace:
        if isinstance(line, TraceHeader):
            found += [line.prompt, line.model, line.decoder, *(text for _, text, _ in line.given)]
        elif isinstance(line, TraceStep):
            found += [cell[1] for cell in line.cells]
        else:
            found += [line.text]
    if story.start:
        found += [story.start.run, story.start.corpus, story.start.device, story.start.host]
    return found


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
    story = RunState(short)
    story.feed([line if isinstance(line, str) else to_line(line).rstrip("\n") for line in before])
    story.feed([text])
    if kind != "log":
        assert story.format == ("huggingface" if kind == "trainer" else kind)
    for found in texts(story):
        assert found == visible(found)
    for found in [*story.log, *(notice.text for notice in story.alerts), *story.metrics, story.doing, story.name]:
        assert found == visible_line(found)
    for line in story.log:
        assert len(line) <= 11 * LOG_WIDTH


@given(st.text(), st.text())
@FEW
def test_any_text_is_inert(name, line):
    story = RunState(name)
    story.feed([line, "{'loss': 2, 'epoch': 1}", line, json.dumps({line: 1}), line])
    for found in texts(story):
        assert found == visible_line(found)


@pytest.mark.parametrize("time", [1e300, -1.0, math.nan, 10**18])
def test_a_time_that_is_none_is_not_kept(time):
    story = told(train(1), train(2, time=time), Checkpoint(time=time, step=2, path="m"), end(2), train(3, time=time))
    assert story.last_time == BEGUN + 23
    assert story.checkpoint.time == BEGUN + 10
    assert list(story.clock.steps) == [1]
    assert all("--:--:--" in line or line[2] == ":" for line in story.log)
    assert parse(to_line(train(1))) is not None


def test_lines_that_tell_no_time_are_told_of_by_when_they_came():
    story = RunState("log")
    story.feed([json.dumps({"step": n, "loss": 2.0}) for n in range(10)], arrived=1000.0)
    story.feed([json.dumps({"step": n, "loss": 1.0}) for n in range(10, 60)], arrived=1100.0)
    story.feed(['{"step": 60, "loss": NaN}'], arrived=1110.0)
    assert story.away(2000.0) == []
    first, *more = story.away(1050.0)
    assert first.startswith("51 steps in 1 min 00 s") and any(line.startswith("nan") for line in more)
    assert story.alerts[-1].time == 1110.0


def test_a_trace_keeps_its_newest_generations_and_counts_them_all(monkeypatch):
    monkeypatch.setattr("tdiff.watch.run_state.MOST_TRACE", 2000)
    story = RunState("trace")
    for n in range(30):
        story.traced(
            TraceHeader(version="", model="", decoder="", settings={}, seed=n, row=0, prompt="", cells=4, given=[])
        )
        story.traced(TraceStep(index=1, t=0.0, calls=1, cells=[(0, "a", 1, 0.5, "commit")]))
    assert story.traced_lines == 60 and len(story.trace) < 30
    assert story.trace[-2].seed == 29


def test_a_run_that_was_given_another_end_counts_to_that_one():
    story = told(start(), train(1), resume(1))
    assert story.total == start().steps
    assert told(start(), train(1), replace(resume(1), steps=900)).total == 900
    assert told(start(), train(1), replace(resume(1), minutes=5.0)).total is None
