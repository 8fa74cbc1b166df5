"""The state of a run: records of every kind, in pieces of any size."""

import random
import typing

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
    Train,
    fold,
    parse,
    to_line,
)
from tests.support.fed import FedState
from tests.support.run_records import (
    STARTED,
    cut,
    end,
    eval_at,
    known,
    mixed,
    resume,
    run_of,
    sample,
    start,
    train,
    verdicts,
)

FEW = examples(derandomize=True, deadline=None, max_examples=60, database=None)


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


def test_reset_keeps_only_the_name():
    run = run_of(start(), *map(train, range(100)), end(99))
    run.replace_source()
    fresh = FedState("fed")
    fresh.resets = 1
    assert known(run) == known(fresh)
    run.feed(["step,loss", "1,2.5"])
    assert run.format == "csv"
    assert run.name == "fed"
