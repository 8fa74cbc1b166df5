"""The predictions at masked positions in a trace, packed, so that it grows at most threefold. No torch.

A live text, which a view reads from a pipe, may have more bytes; the view packs it again when it saves the trace.

In every step a model predicts a distribution at every masked position. Written out, they would be far larger than the
trace: 100 steps of 256 positions have about 13,000 distributions. So the writer repeats a position only when its
distribution has changed, starts with the positions that are unmasked in the step and those that have changed most, and
writes no more than twice the bytes of the trace without details. Where the bytes do not suffice, a position has fewer
alternatives, or its last reported prediction stays.

The packed text of a step is base 85 of raw deflate of five columns, one after another, with an item for each reported
position in ascending order (varints are little-endian base 128):

    the number of positions, then for each of them the gap to the one before it    varints
    the number of its alternatives, + 16 if their ids are those reported last       a byte each
    entropy: 255 * sqrt(nats / MOST_NATS), rounded                                  a byte each
    the ids of the alternatives, likeliest first, unless they are those before      varints
    their probabilities: 255 * sqrt(p), rounded down                                a byte each

Rounding down keeps the sum of the probabilities of a position at most 1.
"""

from __future__ import annotations

import base64
import itertools
import math
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tdiff.visible import json_line

TOP = 8
"""Alternatives of a position, at most."""
MOST_NATS = 13.0
"""The largest entropy that can be written, in nats: that of a uniform choice among 442,000 tokens."""
FACTOR = 3
"""A trace with details has at most this many times the bytes of one without."""
LIVE_BYTES = 4096
"""Bytes of predictions that a step of a live text has beside those: enough for all alternatives of 150 positions."""
_SAME = 16
_MOST_BYTES = 1 << 22
"""Bytes of the columns of a step, at most."""
_CHANGE = 0.02
"""Total variation from the last reported distribution from which a position is reported again."""
_WIDTHS = (TOP, 4, 2, 1)
"""Alternatives of positions that are not unmasked in the step: the first number with which all of them fit."""
_BYTES = 3
"""Bytes of a position in the columns, beside those of its alternatives."""
_NAMES = len(',"detail":"","tokens":')


@dataclass(frozen=True, slots=True)
class Guess:
    """What the model predicts at a masked position in one step."""

    alternatives: tuple[tuple[int, float], ...]
    """(token id, probability), the likeliest first; at most TOP. Their probabilities add up to at most 1."""
    entropy: float
    """Of the full distribution, in nats."""

    @property
    def draft(self) -> int:
        """The id of the likeliest token."""
        return self.alternatives[0][0]

    @property
    def confidence(self) -> float:
        """The probability of the likeliest token."""
        return self.alternatives[0][1]

    @property
    def margin(self) -> float:
        """Probability of the likeliest token less that of the second."""
        return self.confidence - (self.alternatives[1][1] if len(self.alternatives) > 1 else 0.0)

    def probability(self, token: int) -> float:
        """The probability of a token; 0 if it is not among the alternatives."""
        return next((p for other, p in self.alternatives if other == token), 0.0)


@dataclass(frozen=True, slots=True)
class _Packed:
    """A prediction as it is written."""

    ids: tuple[int, ...]
    levels: bytes
    """The written probabilities."""
    entropy: int

    def cut(self, width: int) -> _Packed:
        return self if len(self.ids) <= width else _Packed(self.ids[:width], self.levels[:width], self.entropy)


class DetailWriter:
    """Packs the predictions of one generation, step by step, in at most twice the bytes of its plain trace."""

    def __init__(self, text_of: Callable[[int], str], *, live: bool = False) -> None:
        """`text_of` returns the text of a token id. `live`: the trace goes to a view, so it may have more bytes."""
        self._text_of, self._live = text_of, live
        self._reported: dict[int, _Packed] = {}
        self._named: set[int] = set()
        self._room = 0
        self._ratio = 1.0  # written bytes for a byte of the columns, in the last step

    def earn(self, plain_bytes: int) -> None:
        """A line of so many bytes without details was or will be written."""
        self._room += (FACTOR - 1) * plain_bytes
        if self._live:
            self._room = max(self._room, LIVE_BYTES)

    def pack(
        self,
        predictions: Mapping[int, tuple[Sequence[float], Sequence[float], float]],
        committed: Collection[int],
    ) -> tuple[str, list[tuple[int, str]]]:
        """Return the packed predictions of a step, and the texts of tokens that occur for the first time.

        `predictions` holds for each position the ids of its likeliest tokens, their probabilities in descending order,
        and the entropy in nats; `committed` are the positions that the step unmasks. Both results may be empty.
        """
        now = {position: _packed(*prediction) for position, prediction in predictions.items()}
        changes: dict[int, float] = {}
        for position, packed in now.items():
            known = self._reported.get(position)
            if known != packed:
                change = _change(known, packed)
                if change >= _CHANGE or position in committed:
                    changes[position] = change
        first = sorted(position for position in changes if position in committed)
        others = sorted((n for n in changes if n not in committed), key=lambda n: -changes[n])
        for committed_width in _WIDTHS:
            chosen = {n: now[n].cut(committed_width) for n in first}
            if not first or self._fits(chosen):
                break
        else:
            while first and not self._fits(chosen):
                del chosen[first.pop()]
        text, tokens = self._widest(chosen, others, now)
        if not text:
            return "", []
        self._room -= _size(text, tokens)
        self._named.update(token for token, _ in tokens)
        return text, tokens

    def _widest(
        self, first: dict[int, _Packed], others: list[int], now: Mapping[int, _Packed]
    ) -> tuple[str, list[tuple[int, str]]]:
        """Pack `first`, and as much of `others` as has room, with as many alternatives as all of them have room for."""
        # From the size of the last step: trying every width would take longer than a call of a small model.
        fixed = sum(_BYTES + 2 * len(packed.ids) for packed in first.values())
        room, count = self._room / self._ratio - fixed, len(others)
        width = next((width for width in _WIDTHS if (_BYTES + 2 * width) * count <= 1.1 * room), 1)
        if width == 1:
            count = max(0, min(count, int(1.1 * room / (_BYTES + 2))))
        while True:
            chosen = first | {n: now[n].cut(width) for n in others[:count]}
            if not chosen:
                return "", []
            text, tokens = self._write(chosen)
            size, raw = _size(text, tokens), sum(_BYTES + 2 * len(packed.ids) for packed in chosen.values())
            self._ratio = min(2.0, max(0.2, len(text) / raw))
            if size <= self._room:
                self._reported.update(chosen)
                return text, tokens
            if not count:
                return "", []
            if width > 1 and 0.8 * size > self._room:
                width = _WIDTHS[_WIDTHS.index(width) + 1]
            else:
                count = min(count - 1, int(0.95 * count * self._room / size))

    def _fits(self, chosen: Mapping[int, _Packed]) -> bool:
        return _size(*self._write(chosen)) <= self._room

    def _write(self, chosen: Mapping[int, _Packed]) -> tuple[str, list[tuple[int, str]]]:
        gaps, heads, entropies, ids, levels = bytearray(), bytearray(), bytearray(), bytearray(), bytearray()
        _put_varint(gaps, len(chosen))
        before = -1
        fresh: dict[int, None] = {}
        for position in sorted(chosen):
            packed, known = chosen[position], self._reported.get(position)
            same = known is not None and known.ids == packed.ids
            _put_varint(gaps, position - before - 1)
            before = position
            heads.append(len(packed.ids) + _SAME * same)
            entropies.append(packed.entropy)
            levels += packed.levels
            if not same:
                for token in packed.ids:
                    _put_varint(ids, token)
                    if token not in self._named:
                        fresh[token] = None
        deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
        raw = deflate.compress(bytes(gaps + heads + entropies + ids + levels)) + deflate.flush()
        return base64.b85encode(raw).decode("ascii"), [(token, self._text_of(token)) for token in fresh]


class DetailReader:
    """Reads the predictions of one generation, step by step."""

    def __init__(self, positions: int) -> None:
        """`positions` of the canvas; others are ignored."""
        self._positions = positions
        self._ids: dict[int, tuple[int, ...]] = {}

    def unpack(self, text: str) -> Iterator[tuple[int, Guess]]:
        """The (position, prediction) pairs that a step reports; nothing from a text that is damaged."""
        try:
            inflate = zlib.decompressobj(-15)
            raw = inflate.decompress(base64.b85decode(text), _MOST_BYTES)
            yield from list(self._read(raw)) if inflate.eof else ()
        except (ValueError, IndexError, zlib.error):
            return

    def _read(self, raw: bytes) -> Iterator[tuple[int, Guess]]:
        """Raises IndexError where the columns end early, and ValueError where they contradict one another."""
        count, at = _varint(raw, 0)
        if count > self._positions:
            raise ValueError("more positions than the canvas has")
        positions, position = [], -1
        for _ in range(count):
            gap, at = _varint(raw, at)
            position += gap + 1
            positions.append(position)
        if position >= self._positions:
            raise ValueError("a position outside the canvas")
        heads, entropies = raw[at : at + count], raw[at + count : at + 2 * count]
        at += 2 * count
        chosen: list[tuple[int, ...]] = []
        for position, head in zip(positions, heads, strict=True):
            number, same = head & ~_SAME, head & _SAME
            if not 1 <= number <= TOP:
                raise ValueError("a wrong number of alternatives")
            ids = self._ids.get(position, ())
            if not same:
                read = []
                for _ in range(number):
                    token, at = _varint(raw, at)
                    read.append(token)
                ids = tuple(read)
            if len(ids) != number:
                raise ValueError("ids that were not reported")
            chosen.append(ids)
        if len(raw) - at != sum(map(len, chosen)):
            raise ValueError("another number of probabilities")
        for position, ids, entropy in zip(positions, chosen, entropies, strict=True):
            levels = raw[at : at + len(ids)]
            at += len(ids)
            p = [_P_OF[level] for level in levels]
            if sum(p) > 1 + 1e-9 or any(a < b for a, b in itertools.pairwise(p)):
                raise ValueError("no distribution")
            self._ids[position] = ids
            yield position, Guess(tuple(zip(ids, p, strict=True)), _NATS_OF[entropy])


_P_OF = tuple((level / 255) ** 2 for level in range(256))
_NATS_OF = tuple((level / 255) ** 2 * MOST_NATS for level in range(256))


def _packed(ids: Sequence[float], probabilities: Sequence[float], entropy: float) -> _Packed:
    levels = bytes([int(255 * math.sqrt(p) + 1e-9) if p < 1 else 255 for p in probabilities[:TOP]])
    number = max(1, len(levels.rstrip(b"\0")))
    nats = min(255, round(255 * math.sqrt(max(0.0, entropy) / MOST_NATS)))
    return _Packed(tuple(map(int, ids[:number])), levels[:number], nats)


def _change(known: _Packed | None, now: _Packed) -> float:
    """Total variation of the written alternatives; a position that was not reported, or has another likeliest token,
    comes before those that only moved.
    """
    if known is None:
        return 2.0
    before = dict(zip(known.ids, known.levels, strict=True))
    change = 0.0
    for token, level in zip(now.ids, now.levels, strict=True):
        change += abs(_P_OF[level] - _P_OF[before.pop(token, 0)])
    change += sum(_P_OF[level] for level in before.values())
    return change / 2 + (known.ids[0] != now.ids[0])


def _size(text: str, tokens: Sequence[tuple[int, str]]) -> int:
    """The bytes that a step needs for these in a line of JSON, at most."""
    if not text:
        return 0
    return len(text) + _NAMES + len(json_line(list(tokens), compact=True).encode("utf-8", "replace"))


def _put_varint(column: bytearray, number: int) -> None:
    while number >= 128:
        column.append(number & 127 | 128)
        number >>= 7
    column.append(number)


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    """The number that begins at a byte, and the byte after it."""
    number = shift = 0
    while raw[at] & 128:
        if shift > 56:
            raise ValueError("a number is too large")
        number |= (raw[at] & 127) << shift
        at, shift = at + 1, shift + 7
    return number | raw[at] << shift, at + 1
