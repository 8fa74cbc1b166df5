"""The widths of masks where a position holds more than a character: masks make room for unmasked tokens.

A word rarely has the same width as its mask. To keep the surrounding text in place, masks in its row become
narrower or wider, the nearest first; only the difference that they cannot absorb moves into another row. Nothing here
draws.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Mapping, MutableMapping, Sequence

from rich.cells import cell_len

from tdiff.draw.canvas_layout import CanvasLayout

WIDEST = 8
"""Cells of a mask at first."""
_STRETCHED = 2 * WIDEST
"""Cells of a mask, at most."""


def adjust_mask_widths(
    layout: CanvasLayout, texts: Sequence[str], masks: MutableMapping[int, int], changed: Collection[int]
) -> None:
    """Change the widths of masks so that the rows of `layout` keep their positions.

    `texts` are the new texts of all positions, and `masks` the cells of each masked one; `layout` is the layout that
    was drawn before, from which only the positions in `changed` differ.
    """
    if not changed or not masks:
        return
    near = sorted(changed)
    rows, width, last = layout.rows, layout.width, layout.row[near[-1]]
    spill = 0  # positions that come from the row above; below 0: that moved there
    for row in range(layout.row[near[0]], len(rows)):
        if row > last and not spill:
            return
        begin, stop = bisect_left(layout.row, row), bisect_left(layout.row, row + 1)
        positions = range(begin - spill, stop)
        used = _cells(texts, masks, positions) - _trimmed(texts, masks, row, begin - spill)
        used += _widen(masks, positions, sum(cell_len(text) for _, text in rows[row]) - used, [*near, begin])
        spill = 0
        if any(position not in masks and not texts[position].isprintable() for position in positions):
            continue  # a line feed: the text after it begins a new row
        while used > width and spill < len(positions) - 1:
            spill += 1
            used -= _cells(texts, masks, (positions[-spill],))
        while spill <= 0 and stop - spill < len(texts):
            used += _cells(texts, masks, (stop - spill,))
            if used > width:
                break
            spill -= 1


def _cells(texts: Sequence[str], masks: Mapping[int, int], positions: Collection[int]) -> int:
    return sum(masks.get(position) or cell_len(texts[position]) for position in positions)


def _trimmed(texts: Sequence[str], masks: Mapping[int, int], row: int, first: int) -> int:
    """The blanks of the first position of a row that the layout leaves out: all, where the row continues another."""
    if not row or first in masks or not 0 < first < len(texts) or not texts[first - 1].isprintable():
        return 0
    return len(texts[first]) - len(texts[first].lstrip(" "))


def _widen(masks: MutableMapping[int, int], positions: Collection[int], change: int, near: Sequence[int]) -> int:
    """Widen or narrow the masks among `positions` by `change` cells in total; returns how many cells were possible."""
    left = change
    masked = filter(masks.__contains__, positions)
    for position in sorted(masked, key=lambda position: min(abs(position - n) for n in near)):
        if not left:
            break
        old = masks[position]
        masks[position] = min(max(1, old + left), max(old, _STRETCHED))
        left -= masks[position] - old
    return change - left
