"""A pyramid of minima and maxima over leaves, which answers those of any span fast."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable

_FAN = 4
"""Entries of one level under one entry of the next."""
_MAX_CACHED = 1000
"""Spans whose answers are cached."""


class Pyramid:
    """Leaves, each with a lowest and a highest value; only the last leaf may still change."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        """The typecode of the arrays, "f" or "d"."""
        self.levels: list[tuple[array[float], array[float]]] = [(array(kind), array(kind))]
        """(lows, highs) of the leaves, then of each group of four of them, and so on."""
        self._cache: dict[tuple[int, int], tuple[float, float]] = {}  # a redrawn chart asks for the same spans again

    def extend(self, low: Iterable[float], high: Iterable[float]) -> None:
        """Add leaves."""
        self.levels[0][0].extend(low)
        self.levels[0][1].extend(high)

    def stretch(self, low: float, high: float) -> None:
        """Extend the range of the last leaf to these values."""
        lows, highs = self.levels[0]
        lows[-1] = min(lows[-1], low)
        highs[-1] = max(highs[-1], high)

    def cut(self, keep: int) -> None:
        """Drop all but the first `keep` leaves."""
        self._cache.clear()
        for lows, highs in self.levels:
            del lows[keep:], highs[keep:]
            keep //= _FAN

    def halved(self) -> Pyramid:
        """A pyramid whose leaves are these leaves, merged in pairs."""
        (low, high), new = self.levels[0], Pyramid(self.kind)
        new.extend(map(min, low[::2], low[1::2]), map(max, high[::2], high[1::2]))
        return new

    def span(self, a: int, b: int, final: int) -> tuple[float, float] | None:
        """The lowest and highest value of leaves a..b-1. The first `final` leaves will not change any more."""
        cached = self._cache.get((a, b))
        if cached is not None:
            return cached
        a, b = max(0, a), min(b, len(self.levels[0][0]))
        if a >= b:
            return None
        if len(self._cache) >= _MAX_CACHED:
            self._cache.clear()
        extremes = self._search(a, b, final)
        if b <= final:
            self._cache[a, b] = extremes
        return extremes

    def _search(self, a: int, b: int, final: int) -> tuple[float, float]:
        if final - len(self.levels[1][0]) * _FAN >= _FAN if len(self.levels) > 1 else final >= _FAN:
            self._grow(final)
        low, high = math.inf, -math.inf
        level = 0
        while b <= final and not (a | b) % _FAN and b - a > 4 * _FAN:  # nothing is left over at either end
            a, b, final, level = a // _FAN, b // _FAN, final // _FAN, level + 1
        while b - a > 4 * _FAN and level + 1 < len(self.levels):
            lows, highs = self.levels[level]
            first, stop = -(-a // _FAN), min(b // _FAN, len(self.levels[level + 1][0]))
            if a < first * _FAN:
                low = min(low, *lows[a : first * _FAN])
                high = max(high, *highs[a : first * _FAN])
            if stop * _FAN < b:
                low = min(low, *lows[stop * _FAN : b])
                high = max(high, *highs[stop * _FAN : b])
            a, b, level = first, stop, level + 1
        lows, highs = self.levels[level]
        return min(low, *lows[a:b]), max(high, *highs[a:b])

    def _grow(self, final: int) -> None:
        """Build the levels above the first `final` leaves as far as there are complete groups."""
        level = 0
        while final >= _FAN:
            final //= _FAN
            lows, highs = self.levels[level]
            level += 1
            if level == len(self.levels):
                self.levels.append((array(self.kind), array(self.kind)))
            above_low, above_high = self.levels[level]
            begin, end = len(above_low) * _FAN, final * _FAN
            above_low.extend(map(min, *(lows[begin + n : end : _FAN] for n in range(_FAN))))
            above_high.extend(map(max, *(highs[begin + n : end : _FAN] for n in range(_FAN))))
