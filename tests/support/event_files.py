"""Writes TensorBoard event files, without its package."""

import struct
from pathlib import Path

from tdiff.watch.formats.tfevents import masked_crc


def _record(data: bytes) -> bytes:
    head = struct.pack("<Q", len(data))
    return head + struct.pack("<I", masked_crc(head)) + data + struct.pack("<I", masked_crc(data))


def _varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def _field(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def beginning(time: float = 1.7e9) -> bytes:
    """The first record of a file."""
    return _record(b"\x09" + struct.pack("<d", time) + _field(3, b"brain.Event:2"))


def scalar(step: int, tag: str, value: float, time: float) -> bytes:
    """A value of one tag."""
    summary = _field(1, _field(1, tag.encode()) + b"\x15" + struct.pack("<f", value))
    return _record(b"\x09" + struct.pack("<d", time) + b"\x10" + _varint(step) + _field(5, summary))


def write_events(path: Path, rows: list[tuple[int, dict[str, float]]], time: float = 1.7e9, mode: str = "wb") -> None:
    """Write rows (step, tag -> value) into a file; the time of a row is `time` plus its step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open(mode) as file:
        if mode == "wb":
            file.write(beginning(time))
        for step, values in rows:
            for tag, value in values.items():
                file.write(scalar(step, tag, value, time + step))
