"""Files that are no plain text become text: gzip, UTF-16, TensorBoard events."""

import gzip

import pytest

from tdiff.watch.sources.transcode import Transcoder
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
