"""TensorBoard event files, read without its package: records of bytes become lines of JSON, one for each step.

The file is a sequence of records (TFRecord): length (uint64), a check sum of the length, the data, a check sum of the
data. The data is a protocol buffer `Event`: wall_time (1, double), step (2, varint), summary (5) with values (1), each
with a tag (1) and a simple_value (2, float) or a tensor (8) of one number. Images, graphs and the like are skipped.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from functools import cache

from tdiff.visible import json_line

LARGEST = 1 << 26
"""Bytes of one record; a length beyond it is damage."""
_HEAD, _TAIL = 12, 4
_TAGS = 512
_TYPES = {1: "f", 2: "d", 3: "i", 9: "q"}  # DataType -> struct code: float, double, int32, int64


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


def is_events(head: bytes) -> bool:
    """Whether a file that begins with these bytes (12 or more) is an event file."""
    return len(head) >= _HEAD and struct.unpack("<I", head[8:12])[0] == masked_crc(head[:8])


class Decoder:
    """Bytes in pieces of any size become lines of JSON."""

    def __init__(self) -> None:
        self.damaged = False
        """A record was not what its check sum says; nothing after it is read."""
        self._held = bytearray()
        self._row: tuple[int, float, dict[str, float | None]] | None = None

    def feed(self, data: bytes) -> list[str]:
        """The steps that `data` completes. A step stays open until a record of another comes; see `flush`."""
        lines: list[str] = []
        self._held += data
        at = 0
        while not self.damaged and len(self._held) - at >= _HEAD:
            length, check = struct.unpack_from("<QI", self._held, at)
            if check != masked_crc(bytes(self._held[at : at + 8])) or length > LARGEST:
                self.damaged = True
                break
            end = at + _HEAD + length
            if len(self._held) < end + _TAIL:
                break
            self._event(bytes(self._held[at + _HEAD : end]), lines)
            at = end + _TAIL
        del self._held[:at]
        if self.damaged:
            self._held.clear()
        return lines

    def open_step(self) -> list[str]:
        """The line of the step that is still open, if there is one; it stays open."""
        lines: list[str] = []
        row = self._row
        self._close(lines)
        self._row = row
        return lines

    def flush(self) -> list[str]:
        """The step that is still open, where nothing more has come for a while."""
        lines: list[str] = []
        self._close(lines)
        return lines

    def _event(self, data: bytes, lines: list[str]) -> None:
        step, time, values = 0, 0.0, dict[str, float]()
        try:
            for number, value in _fields(data):
                if number == 1 and isinstance(value, bytes) and len(value) == 8:
                    time = struct.unpack("<d", value)[0]
                elif number == 2 and isinstance(value, int):
                    step = value if value < 1 << 63 else value - (1 << 64)
                elif number == 5 and isinstance(value, bytes):
                    for field, part in _fields(value):
                        if field == 1 and isinstance(part, bytes):
                            tag, scalar = _scalar(part)
                            if scalar is not None and len(values) < _TAGS:
                                values[tag] = scalar
        except (ValueError, struct.error, IndexError):
            return  # its check sum was right: a record of another kind
        if not values:
            return
        if self._row is None or self._row[0] != step or set(self._row[2]) & set(values):
            self._close(lines)
            self._row = (step, time, {})
        self._row[2].update(values)

    def _close(self, lines: list[str]) -> None:
        if self._row is not None:
            step, time, values = self._row
            row: dict[str, float | str | None] = {"step": step, "wall_time": time}
            for tag, value in values.items():
                row[tag] = value if value is not None and math.isfinite(value) else str(value)
            lines.append(json_line(row))
            self._row = None


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(number, value) of each field of a protocol buffer: a varint as int, everything else as its bytes."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        match key & 7:
            case 0:
                value, at = _varint(data, at)
                yield key >> 3, value
                continue
            case 1:
                size = 8
            case 2:
                size, at = _varint(data, at)
            case 5:
                size = 4
            case other:
                raise ValueError(f"wire type {other}")
        if at + size > len(data):
            raise ValueError("cut short")
        yield key >> 3, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError("no varint")


def _scalar(data: bytes) -> tuple[str, float | None]:
    """(tag, number) of a summary value; None where it is no single number."""
    tag, number = "", None
    for field, value in _fields(data):
        if field == 1 and isinstance(value, bytes):
            tag = value.decode("utf-8", "replace")[:200]
        elif field == 2 and isinstance(value, bytes) and len(value) == 4:
            number = float(f"{struct.unpack('<f', value)[0]:.7g}")  # the digits that a float32 has
        elif field == 8 and isinstance(value, bytes):
            number = _tensor(value)
    return tag, number


def _tensor(data: bytes) -> float | None:
    """The number of a tensor that holds one."""
    code, numbers = "", []
    for field, value in _fields(data):
        if field == 1 and isinstance(value, int):
            code = _TYPES.get(value, "")
        elif field == 4 and isinstance(value, bytes) and code and len(value) == struct.calcsize(code):
            numbers.append(struct.unpack(f"<{code}", value)[0])
        elif field in (5, 6) and isinstance(value, bytes) and len(value) in (4, 8):
            numbers.append(struct.unpack("<f" if len(value) == 4 else "<d", value)[0])
        elif field in (7, 10) and isinstance(value, int):
            numbers.append(value)
    return float(numbers[0]) if len(numbers) == 1 else None
