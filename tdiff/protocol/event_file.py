"""TensorBoard event files as bytes: the check sum of their records, and records of scalars, texts and restarts.

The file is a sequence of records (TFRecord): length (uint64), a check sum of the length, the data, a check sum of the
data; numbers are little-endian. The data is a protocol buffer `Event`: wall_time (1, double), step (2, varint),
file_version (3), summary (5), session_log (7). A summary is a list of values (1), each with a tag (1) and a
simple_value (2, float) or a tensor (8) with metadata (9).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from functools import cache

_VARINT, _DOUBLE, _BYTES, _FLOAT = 0, 1, 2, 5
"""Wire types of a protocol buffer's fields."""
_STRING = 7
"""DataType DT_STRING of a tensor."""


@cache
def _table() -> list[int]:
    rows = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        rows.append(value)
    return rows


def masked_crc(data: bytes) -> int:
    """CRC-32C of `data`, masked as TFRecord does."""
    crc, table = 0xFFFFFFFF, _table()
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 0xFF]
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def first_record(time: float) -> bytes:
    """The record that an event file begins with; `time` in seconds since the epoch, as in all records."""
    return _record(_event(time, 0) + _field(3, b"brain.Event:2"))


def scalars(step: int, time: float, values: Mapping[str, float]) -> bytes:
    """A record of values at a step, by tag. TensorBoard shows NaN and infinities as gaps with a mark."""
    summary = b"".join(
        _field(1, _field(1, tag.encode()) + _key(2, _FLOAT) + _float32(value)) for tag, value in values.items()
    )
    return _record(_event(time, step) + _field(5, summary))


def text(step: int, time: float, tag: str, content: str) -> bytes:
    """A record of a text at a step, for TensorBoard's text tab, which shows it as Markdown."""
    metadata = _field(1, _field(1, b"text"))
    tensor = _key(1, _VARINT) + _varint(_STRING) + _field(8, content.encode())
    value = _field(1, tag.encode()) + _field(9, metadata) + _field(8, tensor)
    return _record(_event(time, step) + _field(5, _field(1, value)))


def restart(step: int, time: float) -> bytes:
    """A record that training starts again: TensorBoard forgets what earlier files tell of `step` and later ones."""
    return _record(_event(time, step) + _field(7, _key(1, _VARINT) + _varint(1)))


def _record(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", masked_crc(length)) + data + struct.pack("<I", masked_crc(data))


def _event(time: float, step: int) -> bytes:
    return _key(1, _DOUBLE) + struct.pack("<d", time) + _key(2, _VARINT) + _varint(step)


def _float32(value: float) -> bytes:
    try:
        return struct.pack("<f", value)
    except OverflowError:
        return struct.pack("<f", float("inf") if value > 0 else float("-inf"))


def _key(number: int, wire: int) -> bytes:
    return _varint(number << 3 | wire)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _field(number: int, data: bytes) -> bytes:
    return _key(number, _BYTES) + _varint(len(data)) + data
