"""The lowest and highest of leaves, and above them of each few, so that those of any span are found fast.

It knows arrays of numbers, and nothing of what they count.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable

_FAN = 4
"""Entries of one level under one entry of the next."""
_MOST_KNOWN = 1000


class Pyramid:
    """Leaves, each with a lowest and a highest value; only the last of them may still change."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        """"f" or "d", as of an array."""
        self.levels: list[tuple[array[float], array[float]]] = [(array(kind), array(kind))]
        """(lows, highs): of the leaves, then of each few of those, and so on."""
        self._known: dict[tuple[int, int], tuple[float, float]] = {}  # a redrawn chart asks for the same spans again

    def extend(self, low: Iterable[float], high: Iterable[float]) -> None:
        """More leaves."""
        self.levels[0][0].extend(low)
        self.levels[0][1].extend(high)

    def stretch(self, low: float, high: float) -> None:
        """The last leaf reaches as far as this too."""
        lows, highs = self.levels[0]
        lows[-1] = min(lows[-1], low)
        highs[-1] = max(highs[-1], high)

    def cut(self, keep: int) -> None:
        """Forget all but the first `keep` leaves."""
        self._known.clear()
        for lows, highs in self.levels:
            del lows[keep:], highs[keep:]
            keep //= _FAN

    def halved(self) -> Pyramid:
        """The leaves merged in pairs."""
        (low, high), new = self.levels[0], Pyramid(self.kind)
        new.extend(map(min, low[::2], low[1::2]), map(max, high[::2], high[1::2]))
        return new

    def span(self, a: int, b: int, whole: int) -> tuple[float, float] | None:
        """The lowest and highest of the leaves a..b-1; the first `whole` leaves will not change."""
        known = self._known.get((a, b))
        if known is not None:
            return known
        a, b = max(0, a), min(b, len(self.levels[0][0]))
        if a >= b:
            return None
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        found = self._search(a, b, whole)
        if b <= whole:
            self._known[a, b] = found
        return found

    def _search(self, a: int, b: int, whole: int) -> tuple[float, float]:
        if whole - len(self.levels[1][0]) * _FAN >= _FAN if len(self.levels) > 1 else whole >= _FAN:
            self._grow(whole)
        least, most = math.inf, -math.inf
        level = 0
        while b <= whole and not (a | b) % _FAN and b - a > 4 * _FAN:  # nothing is left over at either end
            a, b, whole, level = a // _FAN, b // _FAN, whole // _FAN, level + 1
        while b - a > 4 * _FAN and level + 1 < len(self.levels):
            lows, highs = self.levels[level]
            first, stop = -(-a // _FAN), min(b // _FAN, len(self.levels[level + 1][0]))
            if a < first * _FAN:
                least = min(least, *lows[a : first * _FAN])
                most = max(most, *highs[a : first * _FAN])
            if stop * _FAN < b:
                least = min(least, *lows[stop * _FAN : b])
                most = max(most, *highs[stop * _FAN : b])
            a, b, level = first, stop, level + 1
        lows, highs = self.levels[level]
        return min(least, *lows[a:b]), max(most, *highs[a:b])

    def _grow(self, whole: int) -> None:
        """Build the levels above the first `whole` leaves as far as whole groups go."""
        level = 0
        while whole >= _FAN:
            whole //= _FAN
            lows, highs = self.levels[level]
            level += 1
            if level == len(self.levels):
                self.levels.append((array(self.kind), array(self.kind)))
            above_low, above_high = self.levels[level]
            begin, end = len(above_low) * _FAN, whole * _FAN
            above_low.extend(map(min, *(lows[begin + n : end : _FAN] for n in range(_FAN))))
            above_high.extend(map(max, *(highs[begin + n : end : _FAN] for n in range(_FAN))))
