"""A run folder: creation, settings, and its event log."""

import pytest

from tdiff.config.settings import Settings
from tdiff.errors import TdiffError
from tdiff.protocol.events import to_line
from tdiff.runs.lookup import find_run
from tdiff.runs.run import Run, check_free, create, free_name
from tests.support.events import resume_at, start_of, train_at


def run_in(tmp_path) -> Run:
    return create("r", Settings(), tmp_path)


def test_records_are_written_and_flushed_before_they_are_yielded(tmp_path):
    run = run_in(tmp_path)
    records = [start_of(), train_at(1), train_at(2)]
    seen = []
    for record in run.recorded(records):
        assert run.events.read_text().endswith(to_line(record))  # and flushed
        seen.append(record)
    assert seen == records and run.history() == records


def test_a_resumed_run_appends_to_its_log(tmp_path):
    run = run_in(tmp_path)
    list(run.recorded([start_of(), train_at(1), train_at(2)]))
    list(run.recorded([resume_at(1), train_at(2, 9.0)]))
    assert len(run.events.read_text().splitlines()) == 5
    assert run.history() == [start_of(), train_at(1), resume_at(1), train_at(2, 9.0)]


def test_a_torn_last_line_is_skipped_and_does_not_damage_the_next(tmp_path):
    run = run_in(tmp_path)
    list(run.recorded([start_of(), train_at(1), train_at(2)]))
    whole = run.events.read_bytes()
    run.events.write_bytes(whole[:-30])
    assert run.history() == [start_of(), train_at(1)]
    list(run.recorded([resume_at(1), train_at(2, 9.0)]))
    assert run.history() == [start_of(), train_at(1), resume_at(1), train_at(2, 9.0)]


def test_a_line_without_its_line_feed_is_skipped(tmp_path):
    run = run_in(tmp_path)
    run.events.write_text(to_line(train_at(1)) + to_line(train_at(2)).rstrip("\n"))
    assert run.history() == [train_at(1)]


@pytest.mark.parametrize("junk", [b"\xff\xfe\xc3", b"\0" * 4096, b"{}\n\n\n[]"])
def test_invalid_bytes_in_the_log_are_skipped(tmp_path, junk):
    run = run_in(tmp_path)
    run.events.write_bytes(to_line(train_at(1)).encode() + junk + b"\n" + to_line(train_at(2)).encode())
    assert run.history() == [train_at(1), train_at(2)]


def test_a_run_without_a_log_has_an_empty_history(tmp_path):
    assert run_in(tmp_path).history() == []


def test_a_new_run_stores_all_its_settings(tmp_path):
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
def test_a_run_name_must_be_a_single_folder(tmp_path, name):
    with pytest.raises(TdiffError, match="one folder under"):
        create(name, Settings(), tmp_path)


def test_a_run_folder_that_cannot_be_created_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TdiffError, match="cannot be created"):
        create("r", Settings(), tmp_path / "file")


def test_free_name_appends_a_number(tmp_path):
    assert free_name("r", tmp_path) == "r"
    (tmp_path / "r").mkdir()
    (tmp_path / "r-2").mkdir()
    assert free_name("r", tmp_path) == "r-3"
