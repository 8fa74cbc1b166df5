"""A generation that can be scrubbed: every canvas of it, forwards and backwards, whatever its trace says."""

import json
import math
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from tdiff.protocol.canvas import GIVEN, MASKED, Canvas
from tdiff.protocol.events import to_line
from tdiff.protocol.trace import TraceEnd, TraceHeader, TraceStep
from tdiff.watch.generation import recording as module
from tdiff.watch.generation.recording import MAX_CELLS, Recording, recordings

FEW = examples(derandomize=True, deadline=None, max_examples=150, database=None)
KNOWN = {"version": "0", "model": "m", "decoder": "d", "settings": {}, "seed": 0, "row": 0, "prompt": ""}
END = TraceEnd(text="done", model_calls=99, forced=0, tokens=3, seconds=0.5)


def header(cells: int, given=()) -> TraceHeader:
    return TraceHeader(cells=cells, given=list(given), **KNOWN)


def step(index: int, *cells) -> TraceStep:
    """A step from (place, text, confidence), a place that is remasked, or a cell as it stands in a trace."""
    full = [
        (c, "", 0, 0.0, "remask") if isinstance(c, int) else (c[0], c[1], 7, c[2], "commit") if len(c) == 3 else c
        for c in cells
    ]
    return TraceStep(index=index, t=0.5, calls=2 * index, cells=full)


def taken(first: TraceHeader, *lines) -> Recording:
    recording = Recording(first)
    for line in lines:
        recording.take(line)
    return recording


def test_a_finished_trace_knows_its_last_step_and_an_unfinished_one_its_most_steps():
    recording = taken(header(3), step(1, (0, "a", 0.5)), step(4, (1, "b", 0.5)))
    assert recording.total == 0, "it can be any"
    recording.take(END)
    assert recording.total == 4
    assert taken(replace(header(3), steps=64), step(1, (0, "a", 0.5))).total == 64


def test_a_step_of_the_model_advances_its_number_and_a_change_of_the_user_does_not():
    recording = taken(header(3), step(1, (0, "a", 0.5)), step(1, (1, "b", 1.0)), step(2, (2, "c", 0.5)))
    assert [recording.by_user(n) for n in range(5)] == [False, False, True, False, False]
    assert taken(header(3), step(0, (1, "b", 1.0))).by_user(1), "also before the first step"


def replayed(first: TraceHeader, steps: list[TraceStep], end: TraceEnd | None, k: int) -> Canvas:
    """The canvas after step k the slow way: from the start, believing only what can be true."""
    cells = max(first.cells, 0)
    places = {}
    for item in first.given:
        sound = isinstance(item, (list, tuple)) and len(item) == 3 and type(item[0]) is int and isinstance(item[1], str)
        if sound and 0 <= item[0] < cells and item[0] not in places:
            places[item[0]] = tuple(item)
    canvas = Canvas.begin(replace(first, cells=cells, given=list(places.values())))
    for line in steps[:k]:
        last = {}
        for cell in line.cells:
            if isinstance(cell, (list, tuple)) and len(cell) == 5 and type(cell[0]) is int:
                place, text, token, confidence, what = cell
                if 0 <= place < cells and place not in places:
                    if what == "commit" and isinstance(text, str):
                        number = isinstance(confidence, (int, float)) and confidence == confidence
                        last[place] = (place, text, token, min(1.0, max(0.0, confidence)) if number else 0.0, what)
                    elif what == "remask":
                        last[place] = (place, "", token, 0.0, what)
        kept = [c for c in last.values() if c[4] == "commit" or canvas.confidence[c[0]] != MASKED]
        canvas.apply(replace(line, cells=kept))
    if end is not None and k >= len(steps):
        canvas.apply(end)
    return canvas


def same(one: Canvas, other: Canvas) -> bool:
    return replace(one, total=0.0) == replace(other, total=0.0) and one.total == pytest.approx(other.total, abs=1e-9)


CONFIDENCE = st.one_of(st.floats(0, 1), st.sampled_from([None, math.nan, -3, 5.0, 10**400, "0.5"]))
CELL = st.one_of(
    st.tuples(
        st.integers(0, 9), st.sampled_from(["a", " b", "日", ""]), st.just(7), st.floats(0, 1), st.just("commit")
    ),
    st.tuples(st.integers(0, 9), st.just(""), st.just(0), st.just(0.0), st.just("remask")),
    st.tuples(
        st.integers(-3, 14), st.sampled_from(["x", 5, None]), st.none(), CONFIDENCE, st.sampled_from(["commit", "?"])
    ),
    st.sampled_from([(), 7, None, "abcde", [1, "a"], (1.5, "a", 1, 0.5, "commit"), ({}, "a", 1, 0.5, "remask")]),
)
GIVEN_ITEM = st.one_of(
    st.tuples(st.integers(-1, 11), st.sampled_from(["p", "q"]), st.just(1)), st.sampled_from([(), 3, (0, 1, 2), "abc"])
)


@given(
    cells=st.integers(-1, 10),
    known=st.lists(GIVEN_ITEM, max_size=4),
    steps=st.lists(st.lists(CELL, max_size=6), max_size=12),
    ended=st.booleans(),
    moves=st.lists(st.integers(-2, 14), max_size=12),
)
@FEW
def test_every_canvas_equals_a_replay_from_the_start(cells, known, steps, ended, moves):
    first = header(cells, known)
    lines = [TraceStep(index=3 * n, t=0.5, calls=n, cells=cells) for n, cells in enumerate(steps, 1)]
    end = END if ended else None
    recording = Recording(first)
    for n, line in enumerate(lines, 1):
        recording.take(line)
        look = moves[n % len(moves)] if moves else 0  # scrubbing while it goes on
        assert same(recording.canvas(look), replayed(first, lines[:n], None, max(0, look)))
    if end:
        recording.take(end)
    assert recording.steps == len(lines) and recording.ended == end
    for k in [*moves, *range(len(lines) + 1)]:
        assert same(recording.canvas(k), replayed(first, lines, end, max(0, k)))


def test_changed_positions_are_listed_once():
    recording = taken(
        header(5, [(0, "p", 1)]), step(1, (1, "a", 0.5), (2, "b", 0.5)), step(4, 1, 3, (0, "x", 1.0)), step(5)
    )
    assert [recording.changed(k) for k in range(-1, 5)] == [(), (), (1, 2), (1,), (), ()]
    assert recording.ignored == 2  # a mask that was remasked, and a given place


def test_canvas_is_a_copy():
    recording = taken(header(3), step(1, (0, "a", 0.5)), step(2, (1, "b", 0.5)))
    for k in (0, 1, 2):
        mine = recording.canvas(k)
        mine.texts[0], mine.confidence[0] = "spoilt", 0.0
        mine.fresh.add(2), mine.remasked.add(2)
        assert "spoilt" not in recording.canvas(k).texts
        assert 2 not in recording.canvas(k).fresh | recording.canvas(k).remasked


def test_finished_recording_accepts_no_lines():
    recording = taken(header(1), step(3, (0, "a", 0.9)), END, step(4, 0), END, header(5))
    assert recording.steps == 1 and recording.ended == END and recording.ignored == 3
    assert recording.canvas(1).fresh == set() and recording.canvas(1).calls == 99


def test_invalid_changes_are_counted():
    first = header(2, [(0, "p", 1), (0, "again", 1), (7, "far", 1), "?"])
    recording = taken(first, step(1, (5, "a", 0.5), (-1, "a", 0.5), (0, "x", 0.5), 1), step(2, (1, "b", 0.5)))
    assert recording.ignored == 3 + 4
    assert recording.header.given == [(0, "p", 1)] and recording.canvas(2).texts == ["p", "b"]
    assert recording.canvas(2).confidence == [GIVEN, 0.5] and recording.canvas(1).remasked == set()


def test_text_is_safe_and_bounded():
    recording = taken(header(2, [(0, "\x1b[31m", 1)]), step(1, (1, "\x9b" * 10**6, 0.5)))
    assert recording.canvas(1).texts[0] == "␛[31m"
    assert set(recording.canvas(1).texts[1]) == set("\\x9b") and len(recording.canvas(1).texts[1]) < 2000


@pytest.mark.parametrize("cells", [10**6, 10**15, 0, -5])
def test_a_canvas_of_any_number_of_cells_is_taken(cells):
    recording = taken(header(cells, [(cells - 1, "z", 1)]), step(1, (0, "a", 0.5), (cells - 1, "b", 0.5)))
    shown = recording.canvas(1)
    assert len(shown.texts) == min(max(cells, 0), MAX_CELLS) and recording.canvas(0).left == shown.maskable
    assert recording.ignored > 0


def test_stored_changes_are_bounded_and_the_newest_canvas_is_correct(monkeypatch):
    monkeypatch.setattr(module, "MAX_CHANGES", 40)
    draw = random.Random(5)
    lines = []
    for n in range(200):
        cells = [(draw.randrange(20), draw.choice("abc"), draw.random()) for _ in range(3)]
        lines.append(step(n + 1, *cells, draw.randrange(20)))
    recording = Recording(header(20))
    for n, line in enumerate(lines, 1):
        recording.take(line)
        assert same(recording.canvas(recording.steps), replayed(header(20), lines, None, n))
    assert recording.steps < 20
    for k in range(recording.steps):
        assert same(recording.canvas(k), replayed(header(20), lines, None, k))
    assert sum(len(recording.changed(k)) for k in range(recording.steps + 1)) < 40 + 4 + 20
    again = taken(*recording.lines())
    assert again.canvas(again.steps).texts == recording.canvas(recording.steps).texts
    assert again.canvas(again.steps).confidence == recording.canvas(recording.steps).confidence


def test_steps_that_change_nothing_are_bounded_too(monkeypatch):
    monkeypatch.setattr(module, "MAX_STEPS", 10)
    recording = taken(header(3), *(step(n) for n in range(50)), step(50, (0, "a", 0.5)))
    assert recording.steps == 10 and recording.canvas(10).index == 50 and recording.canvas(9).texts[0] == ""
    assert recording.changed(10) == (0,)


def test_lines_reproduce_the_recording():
    lines = [header(4, [(0, "p", 1)]), step(1, (1, "a", 0.25)), step(3, 1, (2, "b", 0.5)), END]
    recording = taken(*lines)
    assert list(recording.lines()) == lines
    read = Recording.read([to_line(line) for line in recording.lines()])
    assert read and all(same(read.canvas(k), recording.canvas(k)) for k in range(3)) and read.ended == END


def test_trace_file_is_read():
    first, second = header(2), replace(header(3), row=1)
    good = [first, step(1, (0, "a", 0.5)), END, second, step(1, (2, "c", 0.5))]
    lines = [to_line(line) for line in good]
    noise = ["", "{", '{"kind": "step"}', '{"kind": "train", "loss": 1}', "[1, 2]", "\x00", to_line(good[1])[:20]]
    found = recordings([lines[1], *noise, *lines[:2], *noise, *lines[2:], *noise, lines[4][:-9]])
    assert [(r.header.row, r.steps, r.ended) for r in found] == [(0, 1, END), (1, 1, None)]
    read = Recording.read(lines)
    assert read is not None and read.header.row == 0
    assert Recording.read([]) is None and Recording.read(lines[1:3]) is None and Recording.read(noise) is None


def test_invalid_trace_file_is_read_safely():
    trace = json.loads(to_line(header(3)))
    for name, value in [("given", [[0, "a"], None, [9, "z", 1], [1, 2, 3]]), ("cells", 10**30), ("cells", True)]:
        recording = Recording.read([json.dumps(trace | {name: value}), *(to_line(step(1, (1, "x", 0.5))),)])
        assert recording is None or len(recording.canvas(1).texts) <= MAX_CELLS
    line = '{"kind":"step","index":1,"t":null,"calls":1,"cells":[[1,"a",7,NaN,"commit"],[2,"b",7,1e999,"commit"]]}'
    recording = Recording.read([to_line(header(3)), line])
    assert recording and recording.canvas(1).confidence == [MASKED, 0.0, 1.0]


def test_text_alone_is_a_recording_without_steps_or_confidence():
    text = "To be,\n\tor  not " + "x" * 200 + " " * 3000
    recording = Recording.of_text("To be", text)
    assert "".join(recording.canvas(0).texts) == text and recording.steps == 0 and recording.ended
    assert set(recording.canvas(0).confidence) == {GIVEN} and recording.canvas(0).left == 0
    assert Recording.of_text("", "").canvas(0).texts == []
    read = Recording.read(map(to_line, recording.lines()))
    assert read and read.canvas(0) == recording.canvas(0) and read.header.prompt == "To be"
