"""TensorBoard event files, beside those that its own writers make."""

import json
import math
import struct

import pytest

from tdiff.watch.formats.tfevents import Decoder, is_events, masked_crc


def record(data: bytes) -> bytes:
    head = struct.pack("<Q", len(data))
    return head + struct.pack("<I", masked_crc(head)) + data + struct.pack("<I", masked_crc(data))


def scalar(step: int, tag: str, value: float, time: float = 1.7e9) -> bytes:
    """An event, by the protocol buffer's own rules."""
    name = tag.encode()
    summary_value = b"\x0a" + bytes([len(name)]) + name + b"\x15" + struct.pack("<f", value)
    summary = b"\x0a" + bytes([len(summary_value)]) + summary_value
    return record(
        b"\x09" + struct.pack("<d", time) + b"\x10" + bytes([step]) + b"\x2a" + bytes([len(summary)]) + summary
    )


FILE = record(b"\x09" + struct.pack("<d", 1.7e9) + b"\x1a\x0dbrain.Event:2") + b"".join(
    scalar(step, tag, value)
    for step in range(0, 50, 10)
    for tag, value in (("train/loss", 3 - step / 20), ("lr", 1e-3))
)


def test_an_event_file_is_known_by_its_first_bytes():
    assert is_events(FILE[:12])
    assert not is_events(b'{"step": 1, "loss": 2}') and not is_events(b"short")


@pytest.mark.parametrize("piece", [1, 7, 100, 10_000])
def test_each_step_is_one_line_however_the_bytes_come(piece):
    decoder = Decoder()
    lines = [
        line for at in range(0, len(FILE), piece) for line in decoder.feed(FILE[at : at + piece])
    ] + decoder.flush()
    rows = [json.loads(line) for line in lines]
    assert [row["step"] for row in rows] == [0, 10, 20, 30, 40]
    assert rows[1] == {"step": 10, "wall_time": 1.7e9, "train/loss": 2.5, "lr": 0.001}


def test_damage_ends_the_reading_and_is_said():
    decoder = Decoder()
    lines = decoder.feed(FILE[:200]) + decoder.feed(b"\xff" * 100) + decoder.feed(FILE)
    assert decoder.damaged and len(lines) < 5


def test_what_another_writer_writes_is_read(tmp_path):
    writers = pytest.importorskip(
        "tensorboardX", reason="tensorboardX IS MISSING: no event file of another writer is read"
    )
    writer = writers.SummaryWriter(str(tmp_path))
    for step in range(5):
        writer.add_scalar("train/loss", 3 - step / 8, step)
        writer.add_scalar("val/loss", math.nan if step == 4 else 1.0, step)
    writer.add_text("notes", "hello", 1)
    writer.add_histogram("weights", list(range(100)), 1)
    writer.close()
    decoder = Decoder()
    (path,) = tmp_path.iterdir()
    rows = [json.loads(line) for line in decoder.feed(path.read_bytes()) + decoder.flush()]
    losses = {row["step"]: row["train/loss"] for row in rows if "train/loss" in row}
    assert losses == {step: 3 - step / 8 for step in range(5)}
    assert [row["val/loss"] for row in rows if row["step"] == 4 and "val/loss" in row] == ["nan"]
