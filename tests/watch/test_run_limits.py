"""What a run state stores is bounded, and hostile lines are inert in it."""

import itertools
import json
import math

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from tdiff.protocol.events import (
    Alert,
    Checkpoint,
    Heartbeat,
    parse,
    to_line,
)
from tdiff.protocol.trace import TraceEnd, TraceHeader, TraceStep
from tdiff.visible import visible, visible_line
from tdiff.watch import notices, trace_buffer
from tdiff.watch.curves import MAX_METRICS
from tdiff.watch.log import MAX_LINES, MAX_WIDTH
from tdiff.watch.run_state import MAX_SAMPLES
from tests.support.fed import FedState
from tests.support.run_records import (
    STARTED,
    end,
    run_of,
    sample,
    start,
    train,
)

FEW = examples(derandomize=True, deadline=None, max_examples=60, database=None)


def test_log_stores_the_newest_lines_and_counts_all():
    run = run_of(*(train(n) for n in range(MAX_LINES + 10)))
    assert run.logged == MAX_LINES + 10
    assert len(run.log) == MAX_LINES
    assert "step 10 " in run.log[0]
    run.feed([to_line(train(9999)).rstrip()])
    assert "step 9,999 " in run.log[-1]
    assert len(run.log) == MAX_LINES


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
