"""The messages between a view and the model's process: requests are read exactly, answers are safe to print."""

import dataclasses
import json
import subprocess
import sys
import typing

import pytest
from hypothesis import example, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from tdiff.protocol import events, messages
from tdiff.protocol.canvas import Canvas
from tdiff.protocol.messages import (
    Answer,
    Begin,
    Cancel,
    Generate,
    Load,
    Measured,
    Ready,
    Refused,
    Request,
    Scores,
    parse_answer,
    parse_request,
)
from tdiff.protocol.trace import TraceEnd, TraceHeader, TraceStep
from tdiff.visible import visible, visible_line

FEW = examples(derandomize=True, deadline=None, max_examples=60, database=None)
HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202egnp.exe\u2066\x00\x7f\u2028\ufeff\U000e0041\r\n\t[/x]\ud800"
TEXT = st.one_of(st.just(HOSTILE), st.text(max_size=20))
WHOLE = st.integers(-(2**53), 2**53)
FLOATS = st.floats(-1e18, 1e18)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), WHOLE, FLOATS, TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)),
    max_leaves=6,
)
BY_TYPE = {
    int: WHOLE,
    float: FLOATS,
    float | None: st.none() | FLOATS,
    str: TEXT,
    str | None: st.none() | TEXT,
    int | None: st.none() | WHOLE,
    bool: st.booleans(),
    list[int]: st.lists(WHOLE, max_size=4),
    list[str]: st.lists(TEXT, max_size=3),
    list[typing.Any] | None: st.none() | st.lists(JSON, max_size=3),
    dict[str, typing.Any]: st.dictionaries(TEXT, JSON, max_size=3),
    list[dict[str, typing.Any]]: st.lists(st.dictionaries(TEXT, JSON, max_size=2), max_size=2),
}
REQUESTS, ANSWERS = typing.get_args(Request), typing.get_args(Answer)


SHARES = st.floats(0, 1)


@st.composite
def standings(draw) -> Scores:
    classes = draw(st.lists(TEXT, min_size=2, max_size=4))
    return Scores(
        id=draw(WHOLE),
        classes=classes,
        posterior=[draw(SHARES) for _ in classes],
        interval=[draw(SHARES), draw(SHARES)],
        draws=draw(WHOLE),
        sure=draw(st.booleans()),
        final=draw(st.booleans()),
        words=[list(pair) for pair in draw(st.lists(st.tuples(TEXT, FLOATS), max_size=3))],
    )


@st.composite
def measures(draw) -> Measured:
    count = draw(st.integers(0, 3))

    def numbers(of, size=count):
        return draw(st.lists(of, min_size=size, max_size=size))

    model = draw(TEXT)
    return Measured(
        id=draw(WHOLE),
        corpus=draw(TEXT),
        model=model,
        distances=numbers(FLOATS),
        nats=numbers(FLOATS),
        distinct=numbers(SHARES, 0 if model else count),
        words=numbers(SHARES, 0 if model else count),
        real=numbers(FLOATS, 1 if model else 3),
    )


def strategy(kind) -> st.SearchStrategy:
    if kind in (Scores, Measured):
        return standings() if kind is Scores else measures()
    hints = typing.get_type_hints(kind)
    return st.builds(kind, **{f.name: BY_TYPE[hints[f.name]] for f in dataclasses.fields(kind)})


def made_safe(value, safe=visible_line):
    if isinstance(value, list):
        return [made_safe(item, safe) for item in value]
    if isinstance(value, dict):
        return {safe(key): made_safe(item, safe) for key, item in value.items()}
    return safe(value) if isinstance(value, str) else value


def test_all_kinds_are_distinct():
    kinds = [kind.kind for kind in (*REQUESTS, *ANSWERS, *typing.get_args(events.Record))]
    assert len(set(kinds)) == len(kinds)


@pytest.mark.parametrize("kind", REQUESTS, ids=lambda kind: kind.__name__)
@given(data=st.data())
@FEW
def test_a_request_is_read_exactly_as_it_was_written(kind, data):
    request = data.draw(strategy(kind))
    line = messages.to_line(request)
    assert line.endswith("\n") and len(line.splitlines()) == 1
    assert line.encode().decode() == line == visible_line(line[:-1]) + "\n"
    again = parse_request(line)
    assert type(again) is kind and again == request
    assert parse_answer(line) is None


@pytest.mark.parametrize("kind", ANSWERS, ids=lambda kind: kind.__name__)
@given(data=st.data())
@FEW
def test_an_answer_round_trips_with_its_text_on_one_line_and_visible(kind, data):
    answer = data.draw(strategy(kind))
    line = messages.to_line(answer)
    assert len(line.splitlines()) == 1
    again = parse_answer(line)
    assert type(again) is kind
    for f in dataclasses.fields(kind):
        lines_stay = (kind, f.name) == (Scores, "words")  # the words of a text may stand on several lines
        assert getattr(again, f.name) == made_safe(getattr(answer, f.name), visible if lines_stay else visible_line)
    assert parse_request(line) is None


HEADER = TraceHeader(
    version="0",
    model="m",
    decoder="topk",
    settings={},
    seed=1,
    row=0,
    prompt="a\n\x1b",
    cells=3,
    given=[(0, "a\x1b", 5)],
)
STEP = TraceStep(index=1, t=0.5, calls=1, cells=[(1, "\n\x9b", 7, 0.25, "commit"), (2, "", 1, 0.0, "remask")])
END = TraceEnd(text="a\x1b\n", model_calls=1, forced=0, tokens=2, seconds=0.5)
READY = Ready(
    model="m", window=3, device="cpu", threads=1, vocabulary=9, step=4, weights=1.5, decoders=["topk", "random"]
)


@pytest.mark.parametrize("line", [HEADER, STEP, END], ids=lambda line: line.kind)
def test_trace_lines_are_answers_too(line):
    assert messages.to_line(line) == events.to_line(line)
    assert parse_answer(messages.to_line(line)) == events.parse(events.to_line(line)) is not None


def test_the_events_of_a_run_are_not_answers():
    line = events.to_line(events.Heartbeat(time=1.0, step=2, doing="x"))
    assert events.parse(line) is not None
    assert parse_answer(line) is parse_request(line) is None


def test_unknown_fields_are_ignored_and_optional_fields_may_be_missing():
    assert parse_request('{"kind":"generate","id":3,"mood":"good","__class__":1}') == Generate(id=3)
    assert parse_answer('{"kind":"refused","text":"no","colour":7}') == Refused(text="no")


def changed(record, **values) -> str:
    return json.dumps(json.loads(events.to_line(record)) | values)


@pytest.mark.parametrize(
    "line",
    [
        *("", "{", "null", "3", "[]", "{}", '{"kind":null}', '{"kind":["load"]}', '{"kind":"party"}'),
        *("[" * 100_000, "9" * 5000, '{"kind":"begin","id":' + "9" * 5000 + "}"),
        *('{"kind":"cancel"}', '{"kind":"cancel","id":null}', '{"kind":"cancel","id":true}'),
        *('{"kind":"begin","id":1.5}', '{"kind":"load","model":3}', '{"kind":"generate","id":1,"settings":[]}'),
        changed(HEADER, cells=-1),
        changed(HEADER, cells=10**12),
        changed(HEADER, given=[[3, "a", 5]]),
        changed(HEADER, given=[[-1, "a", 5]]),
        changed(HEADER, given=[[0, "a"]]),
        changed(HEADER, given=[0]),
        changed(HEADER, given=[[0, "a", 5]] * 4),
        changed(STEP, t=None),
        changed(STEP, t=1e999),
        changed(STEP, cells=[[1, "a", 7, None, "commit"]]),
        changed(STEP, cells=[[1, "a", 7, 2.0, "commit"]]),
        changed(STEP, cells=[[1, 5, 7, 0.5, "commit"]]),
        changed(STEP, cells=[["1", "a", 7, 0.5, "commit"]]),
        changed(STEP, cells=[[1, "a", 7, 0.5, "explode"]]),
        changed(STEP, cells=[None]),
        changed(END, seconds=None),
        changed(END, seconds=10**400),
        changed(END, model_calls=10**400),
        changed(READY, weights=None),
        changed(READY, decoders=["topk", 3]),
    ],
    ids=lambda line: line[:60],
)
def test_an_invalid_message_is_none(line):
    assert parse_request(line) is None
    assert parse_answer(line) is None


@pytest.mark.parametrize("message", [Generate(id=1, prompt="ä"), Load(model="m"), READY, STEP], ids=lambda m: m.kind)
def test_a_line_torn_anywhere_is_none(message):
    line = messages.to_line(message)
    read = parse_request if isinstance(message, Request) else parse_answer
    assert read(line) is not None
    assert all(read(line[:end]) is None for end in range(len(line) - 1))


CELL = st.lists(st.one_of(st.integers(-2, 5), TEXT, FLOATS, st.sampled_from(["commit", "remask"]), JSON), max_size=6)
ALMOST = st.tuples(st.integers(-1, 4), TEXT, st.integers(), st.floats(0, 1.1), st.sampled_from(["commit", "remask"]))


@given(
    header=st.fixed_dictionaries({}, optional={"cells": st.integers(-1, 4), "given": st.lists(CELL, max_size=3)}),
    steps=st.lists(st.lists(st.one_of(ALMOST, CELL), max_size=3), max_size=3),
)
@example(header={"given": [[True, "a", 5]]}, steps=[[[False, "a", 5, True, "commit"]]])
@FEW
def test_every_accepted_trace_can_be_drawn(header, steps):
    first = parse_answer(changed(HEADER, **header))
    if first is None:
        return
    canvas = Canvas.begin(first)
    assert 0 <= canvas.left <= first.cells
    for cells in steps:
        step = parse_answer(changed(STEP, cells=cells))
        if step is not None and all(cell[0] < first.cells for cell in step.cells):
            canvas.apply(step)
            assert 0.0 <= canvas.mean_confidence < 100.0


def test_messages_carry_the_id_of_their_request():
    assert json.loads(messages.to_line(Begin(id=7))) == {"kind": "begin", "id": 7}
    assert json.loads(messages.to_line(Cancel(id=7))) == {"kind": "cancel", "id": 7}
    assert json.loads(messages.to_line(Generate(id=7))) == {
        **{"kind": "generate", "id": 7, "length": 0, "seed": 0, "row": 0, "settings": {}, "detail": False}
    }


def test_the_messages_load_neither_engine_nor_screen():
    code = (
        "import sys, tdiff.protocol.messages, tdiff.watch.generation.process\n"
        "print({m.split('.')[0] for m in sys.modules} & {'torch', 'numpy', 'tokenizers', 'textual', 'rich', 'typer'})"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"
