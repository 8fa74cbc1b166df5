"""Files that are no plain text become text: gzip, UTF-16, TensorBoard events."""

import gzip
import os

import pytest

from tdiff.watch.follow import Watched
from tdiff.watch.sources import ssh
from tdiff.watch.sources.local import PipeSource
from tdiff.watch.sources.transcode import FileSplitter, Transcoder
from tdiff.watch.targets import locate
from tests.watch.formats.test_tfevents import FILE

TEXT = "step,loss\n10,2.5\n20,2.25\n"


def text_of(data: bytes, piece: int) -> str:
    transcoder = Transcoder()
    parts = []
    for at in range(0, len(data), piece):
        parts.append(transcoder.feed(data[at : at + piece]))
        while transcoder.pending:
            parts.append(transcoder.feed(b""))
    return b"".join([*parts, transcoder.flush()]).decode()


@pytest.mark.parametrize("piece", [1, 5, 1000])
@pytest.mark.parametrize(
    "data",
    [
        TEXT.encode(),
        gzip.compress(TEXT.encode()),
        gzip.compress(TEXT[:12].encode()) + gzip.compress(TEXT[12:].encode()),
        TEXT.encode("utf-16-le").join([b"\xff\xfe", b""]),
        TEXT.encode("utf-16-be").join([b"\xfe\xff", b""]),
    ],
    ids=["text", "gzip", "two members", "little-endian", "big-endian"],
)
def test_the_text_is_the_same_however_the_bytes_come(data, piece):
    assert text_of(data, piece) == TEXT


def test_event_files_become_lines_of_json():
    assert text_of(FILE, 10).count('"train/loss"') == 5


def test_a_short_first_piece_is_not_lost():
    transcoder = Transcoder()
    assert transcoder.feed(b"s") == b"" and transcoder.waiting() == "s"
    assert transcoder.feed(b"tep") == b"step"


def test_a_small_file_that_expands_hugely_is_given_in_pieces():
    transcoder = Transcoder()
    sizes = [len(transcoder.feed(gzip.compress(b"loss 1\n" * 10_000_000)))]
    while transcoder.pending:
        sizes.append(len(transcoder.feed(b"")))
    assert max(sizes) <= 1 << 24 and sum(sizes) == 70_000_000


def test_damage_is_said():
    transcoder = Transcoder()
    data = bytearray(gzip.compress(TEXT.encode()))
    data[-6] ^= 0xFF  # of the check sum
    transcoder.feed(bytes(data))
    assert "damaged" in transcoder.problem and transcoder.feed(b"more") == b""


PACKED = {"gzip": gzip.compress(TEXT.encode()), "UTF-16": b"\xff\xfe" + TEXT.encode("utf-16-le"), "events": FILE}


@pytest.mark.parametrize("kind", PACKED)
def test_packed_logs_are_read_over_a_pipe(kind):
    reader, writer = os.pipe()
    os.write(writer, PACKED[kind])
    os.close(writer)
    watched = Watched(locate("-"), source=PipeSource(reader, splitter=FileSplitter))
    assert watched.finish(5)
    assert watched.run_state.metrics["train/loss"].count == (5 if kind == "events" else 2)
    watched.close()


@pytest.mark.parametrize("kind", ["gzip", "UTF-16"])
def test_packed_logs_are_read_over_ssh(kind, tmp_path, monkeypatch):
    fake = tmp_path / "fake"
    fake.write_text("#!/bin/sh\nexec sh\n")
    fake.chmod(0o755)
    monkeypatch.setenv("TDIFF_SSH", str(fake))
    (tmp_path / "log").write_bytes(PACKED[kind])
    watched = Watched(locate(f"ssh://host{tmp_path}/log"))
    assert watched.finish(20)
    assert watched.run_state.metrics["train/loss"].last == (20, 2.25)
    watched.close()


def test_a_big_packed_file_on_another_host_is_not_read_from_its_middle(tmp_path, monkeypatch):
    fake = tmp_path / "fake"
    fake.write_text("#!/bin/sh\nexec sh\n")
    fake.chmod(0o755)
    monkeypatch.setenv("TDIFF_SSH", str(fake))
    monkeypatch.setattr(ssh, "_NEWEST", 1000)
    (tmp_path / "log").write_bytes(gzip.compress(os.urandom(5000)))
    watched = Watched(locate(f"ssh://host{tmp_path}/log"))
    watched.finish(20)
    assert "ssh HOST zcat FILE | tdiff watch - reads it" in watched.status().text
    watched.close()
