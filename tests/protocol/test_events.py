"""The lines that cross between the engine and the terminal, and the run folder they are kept in."""

import dataclasses
import json
import os
import typing

import pytest
from hypothesis import example, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from tdiff.config.settings import Settings
from tdiff.errors import TdiffError
from tdiff.protocol.events import (
    FORMAT,
    Alert,
    Checkpoint,
    End,
    Eval,
    Event,
    Heartbeat,
    Record,
    Resume,
    Sample,
    Start,
    TraceEnd,
    TraceHeader,
    TraceStep,
    Train,
    fold,
    parse,
    to_line,
)
from tdiff.runs import run as runs
from tdiff.runs.run import Run, check_free, create, find_config, find_model, find_run, free_name, write_whole
from tdiff.visible import visible

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
def test_every_record_comes_back_from_its_line_with_its_text_made_visible(kind, data):
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
def test_a_line_is_one_line_of_utf8_that_no_terminal_obeys(text):
    line = to_line(Sample(time=1.0, step=2, prompt=text, text=text, path="samples/a.jsonl"))
    assert len(line.splitlines()) == 1
    assert line.encode("utf-8").decode("utf-8") == line
    assert visible(line) == line
    assert json.loads(line)["kind"] == "sample"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_not_finite_are_null_so_that_the_line_is_json(value):
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


def start_of(**more) -> Start:
    usual = {
        "time": 1.0,
        "run": "r",
        "version": "0",
        "settings": {},
        "corpus": "c",
        "tokens": 10,
        "vocabulary": 5,
        "parameters": 7,
        "device": "cpu",
        "threads": 1,
        "pid": 2,
        "host": "h",
    }
    return Start(**(usual | more))


def test_fields_that_are_none_are_left_out_and_headers_carry_the_format():
    pairs = json.loads(to_line(start_of(steps=None, minutes=3.0)))
    assert "steps" not in pairs and pairs["minutes"] == 3.0
    assert pairs["format"] == FORMAT and pairs["kind"] == "start"


def test_the_kinds_are_distinct():
    assert len({kind.kind for kind in KINDS}) == len(KINDS)


def test_fields_of_a_newer_writer_are_passed_over():
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
def test_a_line_of_another_kind_or_of_nonsense_is_none(line):
    assert parse(line) is None


def test_a_line_torn_anywhere_is_none():
    line = to_line(Eval(time=1.0, step=2, nats_per_token=1.5, nats_per_char=1.5, interval_95=(1.4, 1.6), tokens=9))
    assert parse(line) is not None
    assert all(parse(line[:end]) is None for end in range(len(line) - 1))


def train_at(step: int, time: float = 0.0) -> Train:
    return Train(
        time=time,
        step=step,
        tokens=step * 10,
        loss=2.0,
        loss_by_mask=[],
        lr=1e-3,
        grad_norm=1.0,
        tokens_per_second=5.0,
        progress=0.1,
        eta=1.0,
    )


def resume_at(step: int, time: float = 0.0) -> Resume:
    return Resume(time=time, step=step, pid=1, host="h")


def test_what_a_resume_took_back_is_dropped_and_nothing_is_twice():
    start, again = start_of(), resume_at(20, 5.0)
    before = [train_at(step) for step in (10, 20, 30, 40)]
    after = [train_at(step, 6.0) for step in (30, 40, 50)]
    events = list(fold([start, *before, again, *after]))
    assert events == [start, *before[:2], again, *after]
    steps = [event.step for event in events if isinstance(event, Train)]
    assert steps == sorted(set(steps)) == [10, 20, 30, 40, 50]


def test_a_resume_from_further_back_takes_back_an_earlier_resume_too():
    events = list(fold([train_at(1), train_at(5), resume_at(5), train_at(6), resume_at(1), train_at(2)]))
    assert events == [train_at(1), resume_at(1), train_at(2)]


def test_an_end_from_which_a_run_went_on_stays_in_its_place():
    end = End(time=0.0, step=20, reason="stopped")
    assert list(fold([train_at(20), end, resume_at(20), train_at(30)])) == [
        train_at(20),
        end,
        resume_at(20),
        train_at(30),
    ]


def test_every_kind_of_event_is_taken_back_and_none_but_events_are_kept():
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


def run_in(tmp_path) -> Run:
    return create("r", Settings(), tmp_path)


def test_records_are_in_the_log_before_they_are_handed_on(tmp_path):
    run = run_in(tmp_path)
    records = [start_of(), train_at(1), train_at(2)]
    seen = []
    for record in run.recorded(records):
        assert run.events.read_text().endswith(to_line(record))  # and flushed
        seen.append(record)
    assert seen == records and run.history() == records


def test_a_run_that_goes_on_appends_to_its_log(tmp_path):
    run = run_in(tmp_path)
    list(run.recorded([start_of(), train_at(1), train_at(2)]))
    list(run.recorded([resume_at(1), train_at(2, 9.0)]))
    assert len(run.events.read_text().splitlines()) == 5
    assert run.history() == [start_of(), train_at(1), resume_at(1), train_at(2, 9.0)]


def test_a_torn_last_line_is_passed_over_and_does_not_spoil_the_next(tmp_path):
    run = run_in(tmp_path)
    list(run.recorded([start_of(), train_at(1), train_at(2)]))
    whole = run.events.read_bytes()
    run.events.write_bytes(whole[:-30])
    assert run.history() == [start_of(), train_at(1)]
    list(run.recorded([resume_at(1), train_at(2, 9.0)]))
    assert run.history() == [start_of(), train_at(1), resume_at(1), train_at(2, 9.0)]


def test_a_line_torn_before_its_line_feed_is_not_yet_written(tmp_path):
    run = run_in(tmp_path)
    run.events.write_text(to_line(train_at(1)) + to_line(train_at(2)).rstrip("\n"))
    assert run.history() == [train_at(1)]


@pytest.mark.parametrize("junk", [b"\xff\xfe\xc3", b"\0" * 4096, b"{}\n\n\n[]"])
def test_junk_in_the_log_is_passed_over(tmp_path, junk):
    run = run_in(tmp_path)
    run.events.write_bytes(to_line(train_at(1)).encode() + junk + b"\n" + to_line(train_at(2)).encode())
    assert run.history() == [train_at(1), train_at(2)]


def test_a_run_without_a_log_has_no_history(tmp_path):
    assert run_in(tmp_path).history() == []


def test_a_file_is_written_whole_with_its_folder_and_readable_by_all(tmp_path):
    path = tmp_path / "a" / "b" / "file"
    write_whole(path, b"old")
    write_whole(path, b"new")
    assert path.read_bytes() == b"new" and path.stat().st_mode & 0o777 == 0o644
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("call", ["fsync", "fdopen"])
def test_a_write_that_is_interrupted_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, error, call):
    path = tmp_path / "file"
    write_whole(path, b"old")

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(type(error)):
        write_whole(path, b"new")
    with pytest.raises(type(error)):
        write_whole(tmp_path / "first", b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_bytes_are_on_disk_before_the_old_file_is_replaced(tmp_path, monkeypatch):
    path, synced = tmp_path / "file", []
    write_whole(path, b"old")
    real = os.fsync

    def spy(handle):
        real(handle)
        synced.append((os.fstat(handle).st_size, path.read_bytes()))

    monkeypatch.setattr(os, "fsync", spy)
    write_whole(path, b"newer")
    assert synced == [(5, b"old")]


def test_a_new_run_holds_its_settings_whole(tmp_path):
    settings = Settings.of([{"model": {"width": 64}, "data": {"sources": ["ä\n.txt"]}}])
    run = create("mine", settings, tmp_path)
    assert run.settings() == settings and run.name == "mine"
    assert find_run("mine", tmp_path).settings() == find_run(str(run.path), tmp_path).settings() == settings


@pytest.mark.parametrize("kind", ["run", "empty folder", "file", "dangling link"])
def test_a_run_is_never_overwritten(tmp_path, kind):
    path = tmp_path / "r"
    if kind == "run":
        create("r", Settings(), tmp_path)
    elif kind == "empty folder":
        path.mkdir()
    elif kind == "file":
        path.write_text("mine")
    else:
        path.symlink_to(tmp_path / "nowhere")
    before = sorted(tmp_path.rglob("*"))
    for attempt in (lambda: check_free("r", tmp_path), lambda: create("r", Settings(), tmp_path)):
        with pytest.raises(TdiffError, match=r"exists already .* not overwritten.*--resume r"):
            attempt()
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/tmp", "a/", "../x"])
def test_a_run_name_that_is_not_one_folder_is_refused(tmp_path, name):
    with pytest.raises(TdiffError, match="one folder under"):
        create(name, Settings(), tmp_path)


def test_a_run_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TdiffError, match="cannot be made"):
        create("r", Settings(), tmp_path / "file")


def test_a_free_name_counts_up(tmp_path):
    assert free_name("r", tmp_path) == "r"
    (tmp_path / "r").mkdir()
    (tmp_path / "r-2").mkdir()
    assert free_name("r", tmp_path) == "r-3"


@pytest.fixture
def nothing_there(tmp_path, monkeypatch):
    """A working folder with an empty ./checkpoints and ./configs, and no package."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runs, "_SHELVES", (runs.ROOT,))
    monkeypatch.setattr(runs, "_PACKAGE", tmp_path / "package" / "tdiff")
    return tmp_path


@pytest.mark.parametrize("find", [find_run, find_model, find_config])
@pytest.mark.parametrize("name", ["", "x", "a/b/c", "x" * 5000, "a\0b", "~nobody-of-that-name"])
def test_a_name_of_nothing_is_refused_on_one_line(nothing_there, find, name):
    with pytest.raises(TdiffError, match=r"no (run|model|configuration)") as error:
        find(name)
    assert "\n" not in str(error.value)


def test_a_missing_run_is_answered_with_the_nearest_or_all(nothing_there):
    for name in ("poems", "plays"):
        create(name, Settings())
    with pytest.raises(TdiffError, match=r"no run 'peoms' to resume under checkpoints/; did you mean poems\?"):
        find_run("peoms")
    with pytest.raises(TdiffError, match="there are: plays, poems"):
        find_run("zzz")
    assert find_run("poems").path == runs.ROOT / "poems"


def test_a_missing_model_is_answered_with_the_nearest_that_has_weights(nothing_there):
    for name in ("poems", "plays"):
        create(name, Settings())
    write_whole(runs.ROOT / "plays" / "model" / "config.json", b"{}")
    with pytest.raises(TdiffError, match=r"did you mean plays\?"):
        find_model("pleys")
    with pytest.raises(TdiffError, match="run 'poems' has no weights yet"):
        find_model("poems")
    assert find_model("plays") == runs.ROOT / "plays" / "model"


def test_a_configuration_is_found_by_path_and_by_name_and_here_before_elsewhere(nothing_there):
    mine, theirs = nothing_there / "configs" / "a.toml", nothing_there / "package" / "configs" / "a.toml"
    write_whole(theirs, b"")
    assert find_config("a") == find_config("a.toml") == theirs
    write_whole(mine, b"")
    assert find_config("a").resolve() == mine
    assert find_config(str(theirs)) == theirs
    with pytest.raises(TdiffError, match=r"no configuration 'shakespear'; there are: a"):
        find_config("shakespear")


def test_the_shipped_configuration_is_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_config("shakespeare").is_file()
    with pytest.raises(TdiffError, match=r"did you mean shakespeare\?"):
        find_config("shakespere")
