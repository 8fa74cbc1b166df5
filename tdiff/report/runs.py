"""A table of runs as text, for a pipe and for the live view."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tdiff import formatting
from tdiff.draw.ascii_only import ascii_text
from tdiff.draw.columns import Column, lines
from tdiff.formatting import short
from tdiff.watch.listing.rows import Row

MARKS = {
    "running": "●",
    "reading": "…",
    "waiting": "○",
    "stalled": "▲",
    "finished": "✓",
    "stopped": "■",
    "failed": "✗",
    "died": "✗",
    "lost": "?",
}
"""A mark for each state."""
UNKNOWN = "-"
_LEAST_NAME, _ROOMY = (12, 20), 70
"""Cells that a name has at least, in a narrow table and in one of so many cells."""
_FLAT = 0.0005
"""Relative changes of a loss below this are shown as none."""


def table(rows: Sequence[Row], width: int, *, wide: bool = False, ascii: bool = False) -> list[str]:
    """The titles, then a line for each row, in at most `width` cells.

    With `wide` there are columns for the host, the process id, the GPU and the size too.
    """
    columns = [
        Column("name", [row.name for row in rows], left=True, least=_LEAST_NAME[width >= _ROOMY]),
        Column("state", [f"{MARKS.get(row.state, '·')} {row.state}" for row in rows], left=True),
        Column("step", [step(row) for row in rows], 2),
        Column("loss", [_loss(row.loss) for row in rows], 1),
        Column("val", [_loss(row.eval_loss) for row in rows], 6),
        Column("trend", [_trend(row.trend) for row in rows], 4),
        Column("ETA", [UNKNOWN if row.eta is None else span(row.eta) for row in rows], 3),
        Column("age", [UNKNOWN if row.age is None else span(row.age) for row in rows], 5),
    ]
    if wide:
        columns += [
            Column("host", [row.host or UNKNOWN for row in rows], 7, left=True),
            Column("pid", [UNKNOWN if row.pid is None else str(row.pid) for row in rows], 8),
            Column("GPU", [row.gpu or row.device or UNKNOWN for row in rows], 9, left=True, least=8),
            Column("size", [formatting.size(row.size) for row in rows], 10),
        ]
    if not any(row.eval_loss is not None for row in rows):
        columns = [column for column in columns if column.title != "val"]
    texts = lines(columns, width)
    return [ascii_text(line, True) for line in texts] if ascii else texts


def step(row: Row) -> str:
    """The step with the total, in few characters: 1,250/20k."""
    if row.step is None:
        return UNKNOWN
    return f"{count(row.step)}/{count(row.total)}" if row.total else count(row.step)


def count(number: int) -> str:
    """A count in at most six characters: 1,250, 20k, 12.5k, 2.5M."""
    if number < 10_000:
        return f"{number:,}"
    for unit, name in ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= unit:
            scaled = number / unit
            digits = 1 if scaled < 1000 and number % unit else 0
            return f"{scaled:.{digits}f}{name}".replace(".0" + name, name)
    return str(number)


def span(seconds: float) -> str:
    """A time in at most seven characters: 45 s, 12 min, 2h05, 3d 4h."""
    if not math.isfinite(seconds):
        return UNKNOWN
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 24 * 60:
        return f"{minutes // 60}h{minutes % 60:02d}"
    hours = round(seconds / 3600)
    return f"{hours // 24}d {hours % 24}h" if hours < 24 * 10 else f"{hours // 24} d"


def _loss(value: float | None) -> str:
    if value is None:
        return UNKNOWN
    if not math.isfinite(value):
        return "NaN"
    return formatting.loss(value) if abs(value) < 1e5 else short(value)


def _trend(change: float | None) -> str:
    if change is None:
        return UNKNOWN
    if abs(change) < _FLAT:
        return "→"
    return f"{'↓' if change < 0 else '↑'} {abs(change):.1%}" if abs(change) < 10 else ("↓" if change < 0 else "↑")
