"""The records of runs and traces, and their JSON lines."""

import dataclasses
import json
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
    Record,
    Sample,
    Train,
    fold,
    parse,
    to_line,
)
from tdiff.protocol.trace import FORMAT, TraceEnd, TraceHeader, TraceStep
from tdiff.visible import visible
from tests.support.events import resume_at, start_of, train_at

FEW = examples(derandomize=True, deadline=None, max_examples=40, database=None)
HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202egnp.exe\u2066\x00\x7f\u2028\ufeff\U000e0041"
TEXT = st.one_of(st.just(HOSTILE), st.text(max_size=20))
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
WHOLE = st.integers(0, 2**53)
PLACES = st.integers(0, 5000)
JSON = st.recursive(
    st.one_of(st.booleans(), WHOLE, FLOATS, TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)),
    max_leaves=6,
)
CELL = st.tuples(PLACES, TEXT, PLACES, st.floats(0, 1), st.sampled_from(["commit", "remask"]))
BY_TYPE = {
    float: FLOATS,
    int: WHOLE,
    str: TEXT,
    bool: st.booleans(),
    int | None: st.none() | WHOLE,
    str | None: st.none() | TEXT,
    list[tuple[int, str]] | None: st.none() | st.lists(st.tuples(WHOLE, TEXT), max_size=3),
    float | None: st.none() | FLOATS,
    dict[str, typing.Any]: st.dictionaries(TEXT, JSON, max_size=3),
    list[float | None]: st.lists(st.none() | FLOATS, max_size=10),
    tuple[float, float]: st.tuples(FLOATS, FLOATS),
    list[tuple[int, str, int]]: st.lists(st.tuples(PLACES, TEXT, PLACES), max_size=4),
    typing.get_type_hints(TraceStep)["cells"]: st.lists(CELL, max_size=4),
    typing.get_type_hints(End)["reason"]: st.sampled_from(["finished", "stopped", "nan"]),
}
KINDS = typing.get_args(Record)


def strategy(kind) -> st.SearchStrategy:
    hints = typing.get_type_hints(kind)
    return st.builds(kind, **{f.name: BY_TYPE[hints[f.name]] for f in dataclasses.fields(kind)})


def made_safe(value):
    """What a reader should get: tuples as lists, and every text visible."""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, (list, tuple)):
        return [made_safe(v) for v in value]
    if isinstance(value, dict):
        return {visible(k): made_safe(v) for k, v in value.items()}
    return value


def fields_of(record) -> dict:
    return {f.name: getattr(record, f.name) for f in dataclasses.fields(record)}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@given(data=st.data())
@FEW
def test_every_record_round_trips_with_its_text_made_visible(kind, data):
    record = data.draw(strategy(kind))
    line = to_line(record)
    assert line.endswith("\n") and line.count("\n") == 1
    again = parse(line)
    assert type(again) is kind
    assert fields_of(again) == {name: made_safe(value) for name, value in fields_of(record).items()}
    assert parse(to_line(again)) == again


@given(text=TEXT)
@example(text="\ud800")
@example(text="a\r\nb\u2028c")
@FEW
def test_a_line_is_utf8_without_control_characters(text):
    line = to_line(Sample(time=1.0, step=2, prompt=text, text=text, path="samples/a.jsonl"))
    assert len(line.splitlines()) == 1
    assert line.encode("utf-8").decode("utf-8") == line
    assert visible(line) == line
    assert json.loads(line)["kind"] == "sample"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_not_finite_are_written_as_null(value):
    train = Train(
        time=1.0,
        step=3,
        tokens=4,
        loss=value,
        loss_by_mask=[0.5, value, None],
        lr=1e-3,
        grad_norm=value,
        tokens_per_second=1.0,
        progress=0.5,
        eta=value,
    )
    line = to_line(train)
    pairs = json.loads(line, parse_constant=pytest.fail)  # NaN and Infinity are no JSON
    assert pairs["loss"] is None and pairs["loss_by_mask"] == [0.5, None, None]
    again = parse(line)
    assert (again.loss, again.grad_norm, again.eta, again.step) == (None, None, None, 3)
    start = json.loads(to_line(start_of(settings={"a": {"b": [value, 1]}})), parse_constant=pytest.fail)
    assert start["settings"] == {"a": {"b": [None, 1]}}


def test_fields_that_are_none_are_left_out_and_headers_carry_the_format():
    pairs = json.loads(to_line(start_of(steps=None, minutes=3.0)))
    assert "steps" not in pairs and pairs["minutes"] == 3.0
    assert pairs["format"] == FORMAT and pairs["kind"] == "start"


def test_the_kinds_are_distinct():
    assert len({kind.kind for kind in KINDS}) == len(KINDS)


def test_unknown_fields_are_ignored():
    line = to_line(End(time=1.0, step=2, reason="finished"))
    newer = json.dumps(json.loads(line) | {"mood": "good", "__class__": "x"})
    assert parse(newer) == End(time=1.0, step=2, reason="finished")


@pytest.mark.parametrize(
    "line",
    [
        "",
        "\n",
        "{",
        "null",
        "3",
        "[]",
        '"end"',
        "{}",
        '{"kind":"party","time":1}',
        '{"kind":["end"]}',
        '{"kind":null}',
        '{"kind":"end","time":1.0}',
        "[" * 100_000,
        "9" * 5000,
    ],
)
def test_an_unknown_kind_or_an_invalid_line_is_none(line):
    assert parse(line) is None


def test_a_line_torn_anywhere_is_none():
    line = to_line(Eval(time=1.0, step=2, nats_per_token=1.5, nats_per_char=1.5, interval_95=(1.4, 1.6), tokens=9))
    assert parse(line) is not None
    assert all(parse(line[:end]) is None for end in range(len(line) - 1))


def test_fold_drops_the_events_that_a_resume_undid():
    start, again = start_of(), resume_at(20, 5.0)
    before = [train_at(step) for step in (10, 20, 30, 40)]
    after = [train_at(step, 6.0) for step in (30, 40, 50)]
    events = list(fold([start, *before, again, *after]))
    assert events == [start, *before[:2], again, *after]
    steps = [event.step for event in events if isinstance(event, Train)]
    assert steps == sorted(set(steps)) == [10, 20, 30, 40, 50]


def test_a_resume_from_an_earlier_step_undoes_a_previous_resume():
    events = list(fold([train_at(1), train_at(5), resume_at(5), train_at(6), resume_at(1), train_at(2)]))
    assert events == [train_at(1), resume_at(1), train_at(2)]


def test_the_end_before_a_resume_stays():
    end = End(time=0.0, step=20, reason="stopped")
    assert list(fold([train_at(20), end, resume_at(20), train_at(30)])) == [
        train_at(20),
        end,
        resume_at(20),
        train_at(30),
    ]


def test_fold_drops_every_kind_of_event_and_all_trace_lines():
    later = [
        Sample(time=0.0, step=30, prompt="", text="", path=""),
        Checkpoint(time=0.0, step=30, path=""),
        Alert(time=0.0, step=30, what="nan", text=""),
        Heartbeat(time=0.0, step=30, doing="x"),
    ]
    trace = [TraceStep(index=1, t=0.5, calls=1, cells=[]), None]
    assert list(fold([*later, *trace])) == later
    assert list(fold([*later, *trace, resume_at(29)])) == [resume_at(29)]
    assert set(typing.get_args(Event)) == set(KINDS) - {TraceHeader, TraceStep, TraceEnd}
