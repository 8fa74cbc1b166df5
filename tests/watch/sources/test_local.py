"""Sources: whatever happens to a file or a pipe, the lines are those of an oracle, each once."""

import os
import pty
import re
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tdiff.errors import TdiffError
from tdiff.watch.sources import local
from tdiff.watch.sources.local import CUT, LONGEST, FileSource, LineSplitter, PipeSource, newest, where_newest


def split(data: bytes) -> list[str]:
    """The oracle: the whole lines of `data`, cut one character at a time."""
    lines, line, before = [], bytearray(), b""
    for byte in (data[i : i + 1] for i in range(len(data))):
        if byte in (b"\n", b"\r"):
            if not (byte == b"\n" and before == b"\r"):
                lines.append(line.decode("utf-8", "replace"))
            line = bytearray()
        else:
            line += byte
        before = byte
    return lines


PIECE = st.one_of(
    st.sampled_from([b"\n", b"\r", b"\r\n", b"\0", b"a", b"\xe2\x96\x88", b"\xe2\x96", b"\x88\xff", b"{'loss': 1}\n"]),
    st.binary(max_size=12),
)
BYTES = st.lists(PIECE, max_size=12).map(b"".join)


@given(st.lists(BYTES, max_size=12))
def test_pieces_of_any_size_give_the_same_lines(pieces):
    lines = LineSplitter()
    found = [line for piece in pieces for line in lines.feed(piece)]
    whole = b"".join(pieces)
    assert found == split(whole)
    assert lines.unfinished() == re.split(rb"[\r\n]", whole)[-1].decode("utf-8", "replace")
    assert "".join(lines.finish()) == re.split(rb"[\r\n]", whole)[-1].decode("utf-8", "replace")
    assert lines.finish() == []


@given(st.data())
def test_long_lines_are_cut_and_the_dropped_bytes_counted(data):
    longest = data.draw(st.integers(4, 12))
    pieces = data.draw(st.lists(BYTES, max_size=12))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "LONGEST", longest)
        lines = LineSplitter()
        found = [line for piece in pieces for line in lines.feed(piece)]
        held = len(lines._unfinished)
    raw = re.split(rb"\r\n|\r|\n", b"".join(pieces))[:-1]
    cut = [line for line in raw if len(line) > longest]
    assert lines.cut == len(cut)
    assert held <= longest + 1
    assert len(found) == len(raw)
    kept = 0
    for text, line in zip(found, raw, strict=True):
        if len(line) <= longest:
            assert text == line.decode("utf-8", "replace")
        else:
            end = next(end for end in range(longest, longest - 5, -1) if end == longest - 4 or line[end] & 0xC0 != 0x80)
            assert text == line[:end].decode("utf-8", "replace") + CUT
            kept += end
    assert lines.dropped == sum(map(len, cut)) - kept


def test_unfinished_megabyte_is_cut_and_the_next_line_complete(tmp_path):
    path = tmp_path / "log"
    path.write_bytes(b"x" * (3 << 20) + b"\nnext\n")
    source = FileSource(path)
    found = drain(source, 1 << 16)
    assert [len(line) for line in found] == [LONGEST + len(CUT), 4]
    assert found[0].endswith("x" + CUT)
    assert found[1] == "next"
    assert source.status().lost == 1
    assert source.status().text == f"1 line cut after 1 MiB, {2 << 20:,} bytes dropped"


def test_a_character_at_the_cut_is_not_split():
    lines = LineSplitter()
    (found,) = lines.feed("█".encode() * LONGEST + b"\n")
    assert found == "█" * (LONGEST // 3) + CUT


def drain(source, limit: int = 1 << 20) -> list[str]:
    """All that there is now, of which what came before a reset is forgotten."""
    lines, more = [], True
    while more:
        read = source.read(limit)
        lines = read.lines if read.reset else lines + read.lines
        more = read.has_more
    return lines


class Scene:
    """A file that things happen to, and one who follows it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "log"
        self.source = FileSource(self.path)
        self.lines: list[str] = []
        self.resets = 0

    @property
    def content(self) -> bytes:
        return self.path.read_bytes() if self.path.exists() else b""

    def append(self, data: bytes) -> None:
        with self.path.open("ab") as file:
            file.write(data)

    def rewrite(self, data: bytes) -> None:  # the same inode
        with self.path.open("r+b" if self.path.exists() else "wb") as file:
            file.truncate(0)
            file.write(data)

    def truncate(self, share: int) -> None:
        if self.path.exists():
            os.truncate(self.path, len(self.content) * share // 8)

    def replace(self, data: bytes) -> None:  # another inode
        other = self.path.with_name("other")
        other.write_bytes(data)
        other.replace(self.path)

    def delete(self) -> None:
        self.path.unlink(missing_ok=True)

    def away_and_back(self) -> None:
        if self.path.exists():
            moved = self.path.rename(self.path.with_name("moved"))
            self.read(5)
            moved.rename(self.path)

    def read(self, limit: int) -> bool:
        read = self.source.read(limit)
        self.resets += read.reset
        self.lines = read.lines if read.reset else self.lines + read.lines
        return read.has_more

    def catch_up(self, limit: int) -> None:
        while self.read(limit):
            pass


ACTION = st.one_of(
    st.tuples(st.just("append"), BYTES),
    st.tuples(st.just("append"), BYTES),
    st.tuples(st.just("rewrite"), BYTES),
    st.tuples(st.just("truncate"), st.integers(0, 7)),
    st.tuples(st.just("replace"), BYTES),
    st.tuples(st.just("delete")),
    st.tuples(st.just("away_and_back")),
    st.tuples(st.just("read"), st.integers(1, 40)),
    st.tuples(st.just("read"), st.integers(1, 40)),
    st.tuples(st.just("catch_up"), st.integers(1, 40)),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(ACTION, max_size=24), st.integers(1, 50))
def test_lines_match_the_file_whatever_happens_to_it(tmp_path_factory, actions, limit):
    scene = Scene(tmp_path_factory.mktemp("scene"))
    for what, *how in actions:
        getattr(scene, what)(*how)
    scene.catch_up(limit)
    if scene.path.exists():
        assert scene.lines == split(scene.content)
        assert scene.source.offset == len(scene.content)
        assert scene.source.torn() == re.split(rb"[\r\n]", scene.content)[-1].decode("utf-8", "replace")
    before = (list(scene.lines), scene.resets)
    scene.catch_up(limit)
    assert (scene.lines, scene.resets) == before
    if {what for what, *_ in actions} <= {"append", "read", "catch_up"}:
        assert scene.resets == 0
    scene.source.close()


def test_bytes_written_before_a_deletion_are_read(tmp_path):
    scene = Scene(tmp_path)
    scene.append(b"one\n")
    scene.catch_up(100)
    scene.append(b"two\n")
    scene.delete()
    scene.catch_up(3)
    assert scene.lines == ["one", "two"]
    assert scene.resets == 0
    assert not scene.source.status().connected
    assert scene.source.status().text.endswith("is gone; waiting for it")
    scene.append(b"three\n")
    scene.catch_up(100)
    assert (scene.lines, scene.resets) == (["three"], 1)
    assert scene.source.status().connected
    assert scene.source.status().text == ""


@pytest.mark.parametrize("part", ["beginning", "bytes before the place reached", "line before it, a long one"])
def test_rewritten_file_is_detected_at_either_end(tmp_path, part):
    scene = Scene(tmp_path)
    same = b"".join(b"the same for both, line %d\n" % i for i in range(200))
    line = b"run 1" + b"." * 3000 * ("long" in part) + b"\n"
    parts = [line, same] if part == "beginning" else [same, line]
    scene.append(b"".join(parts))
    scene.catch_up(1000)
    scene.rewrite(b"".join(parts).replace(b"run 1", b"run 2") + b"and longer\n")
    scene.catch_up(1000)
    assert scene.resets == 1
    assert scene.lines == split(scene.content)


def test_missing_file_is_waited_for(tmp_path):
    source = FileSource(tmp_path / "none" / "log")
    assert source.read() == local.Read()
    assert source.status().text.endswith("is not there yet; waiting for it")
    assert not source.status().connected
    assert source.status().age is None
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "log").write_text("a\n")
    assert source.read() == local.Read(["a"])


def test_non_file_is_reported_and_not_read(tmp_path):
    source = FileSource(tmp_path)
    assert source.read() == local.Read()
    assert "not a file" in source.status().text
    assert FileSource("nul\0in the name").read() == local.Read()


def test_idle_read_costs_one_stat(tmp_path, monkeypatch):
    path = tmp_path / "log"
    path.write_text("a\n")
    os.utime(path, (1e9, 1e9))
    source = FileSource(path)
    assert source.read().lines == ["a"]
    monkeypatch.setattr(source, "_at", None)  # any look inside would call it
    assert source.read() == local.Read()
    assert source.status().age > 1e6
    os.utime(path, (2e9, 2e9))
    with pytest.raises(TypeError):
        source.read()


def test_a_start_in_the_middle_reads_from_there_unless_the_file_is_shorter(tmp_path):
    path = tmp_path / "log"
    path.write_text("one\ntwo\n")
    source = FileSource(path, 4)
    assert source.read() == local.Read(["two"])
    path.write_text("ONE\ntwo\nthree\n")  # not the file that it was, though the last bytes are
    assert source.read() == local.Read(["ONE", "two", "three"], reset=True)
    assert FileSource(path, 4000).read() == local.Read(["ONE", "two", "three"], reset=True)


@given(BYTES, st.integers(1, 6), st.integers(1, 9))
def test_newest_lines_are_the_last_ones(tmp_path_factory, data, count, block):
    path = tmp_path_factory.mktemp("newest") / "log"
    path.write_bytes(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "_BLOCK", block)
        lines, offset = newest(path, count)
    assert lines == split(data)[-count:]
    assert split(data[offset:]) == lines
    assert offset == 0 or data[:offset].endswith((b"\n", b"\r"))


def test_search_for_newest_lines_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(local, "_BLOCK", 64)
    monkeypatch.setattr(local, "_SEARCH_LIMIT", 256)
    path = tmp_path / "log"
    path.write_bytes(b"x" * 1000 + b"\n" + b"y" * 199 + b"\n")
    assert where_newest(path, 5) == 1001
    path.write_bytes(b"x" * 1000)
    assert where_newest(path, 5) == 1000


def test_pipe_is_read_as_it_comes_with_its_unfinished_last_line():
    reader, writer = os.pipe()
    source = PipeSource(reader)
    assert source.read() == local.Read()
    assert source.status().connected
    os.write(writer, b"a\nb")
    assert source.read() == local.Read(["a"])
    os.write(writer, b"c\n" + "█".encode()[:1])
    assert source.read() == local.Read(["bc"])
    os.write(writer, "█".encode()[1:])
    os.close(writer)
    read = source.read()
    while not read.done:
        read = source.read()
    assert read.lines == ["█"]
    assert source.read() == local.Read(done=True)
    assert not source.status().connected
    assert source.status().text == "the pipe has closed"
    assert source.status().bytes == 8
    source.close()


@given(BYTES, st.integers(1, 9))
def test_limited_read_of_a_pipe_reports_more(data, limit):
    reader, writer = os.pipe()
    os.write(writer, data)
    os.close(writer)
    source, lines, done = PipeSource(reader), [], False
    while not done:
        read = source.read(limit)
        assert read.has_more is not read.done
        lines, done = lines + read.lines, read.done
    rest = re.split(rb"[\r\n]", data)[-1].decode("utf-8", "replace")
    assert lines == split(data) + ([rest] if rest else [])
    source.close()


def test_a_redirected_file_ends(tmp_path):
    (tmp_path / "log").write_text("a\nb\n")
    source = PipeSource(os.open(tmp_path / "log", os.O_RDONLY))
    lines, done = [], False
    while not done:
        read = source.read()
        lines, done = lines + read.lines, read.done
    assert lines == ["a", "b"]
    source.close()


def test_a_pipe_closed_while_reading_is_done():
    reader, writer = os.pipe()
    source = PipeSource(reader)
    os.close(reader)
    os.close(writer)
    assert source.read().done


def test_terminal_is_refused_as_a_pipe():
    main, side = pty.openpty()
    with pytest.raises(TdiffError, match=r"pipe a log, as in `tail -f"):
        PipeSource(side)
    os.close(main)
    os.close(side)


def test_the_age_of_a_file_is_that_of_its_last_write(tmp_path):
    path = tmp_path / "log"
    path.write_text("a\n")
    os.utime(path, (time.time() - 100, time.time() - 100))
    source = FileSource(path)
    source.read()
    assert 99 < source.status().age < 130
