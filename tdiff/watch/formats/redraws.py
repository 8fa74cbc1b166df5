"""Bars of a program's own making, which are drawn again and again: which of their lines are records.

Each line of such a bar counts batches (`[###...] 40/240 loss: 1.79`). Either each is a record, or the last of an epoch
says more than the others and sums up the epoch, as Keras does. The first full bar decides; the lines before it wait.
"""

from __future__ import annotations

from collections.abc import Iterator

from tdiff.patterns import lazy
from tdiff.watch.formats.fields import Fields

_DRAWN = lazy(r"[=#>.*_\u2580-\u259f\u2500-\u257f-]{4}")
"""Part of a bar."""
_MOST = 2_000
"""Lines that wait for the first full bar. After more of them only full bars are records."""


class Redraws:
    """Decides which lines of a bar are records."""

    def __init__(self) -> None:
        self._waiting: list[Fields] = []
        self._each: bool | None = None  # each line is a record; None while that is unknown
        self._names: frozenset[str] = frozenset()  # of a line that is no full bar
        self._last = -1.0
        self.turns = 0.0
        """How often a bar has started again."""

    def take(self, fields: Fields, *, in_epoch: bool) -> Iterator[Fields]:
        """The records that are certain once this line with a count and a loss has come.

        `in_epoch`: the log counts epochs. Elsewhere the bar is that of the whole run, and nothing sums it up.
        """
        assert fields.progress is not None
        n, total = fields.progress
        names = frozenset(fields.values)
        again, full = n < self._last, n >= total
        if self._each is None and not self._waiting and not (in_epoch and (full or _DRAWN.search(fields.text))):
            self._each = True
        if self._each is None and self._waiting:
            summary = full and names != self._names
            if summary or len(self._waiting) >= _MOST:
                self._each, self._waiting = False, []
            elif again:
                yield from self.settle()
        if self._each is None:
            if full and not self._waiting:
                yield fields  # nothing has been drawn again
                return
            self._waiting.append(fields)
            self._names, self._last = names, n
        elif self._each:
            if n != self._last:
                yield self._counted(fields, n, total)
        elif full and names != self._names:
            yield fields
        else:
            self._names = names if not full else self._names

    def settle(self) -> Iterator[Fields]:
        """Something else has come after a full bar, or nothing will: the lines that wait are records."""
        waiting, self._waiting = self._waiting, []
        if waiting:
            self._each, self._last = True, -1.0
        for fields in waiting:
            assert fields.progress is not None
            yield self._counted(fields, *fields.progress)

    @property
    def undecided(self) -> bool:
        """Whether it is unknown which lines are records."""
        return self._each is None and bool(self._waiting)

    @property
    def waits(self) -> bool:
        """Whether a full bar waits for what comes after it."""
        return bool(self._waiting) and self._waiting[-1].progress is not None and self._is_full(self._waiting[-1])

    @staticmethod
    def _is_full(fields: Fields) -> bool:
        return fields.progress is not None and fields.progress[0] >= fields.progress[1]

    def _counted(self, fields: Fields, n: float, total: float) -> Fields:
        self.turns += n < self._last
        self._last = n
        fields.values = {**fields.values, "batch": n}
        fields.totals["batch"] = total
        return fields
