"""How wide masks are drawn where a place holds more than a character: they give way to what is revealed.

A word is seldom as wide as the mask that hid it. So that the text around it stays where it is, masks of its row become
narrower or wider, the nearest first; only what they cannot make up for moves into another row. Nothing here draws.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Mapping, MutableMapping, Sequence

from rich.cells import cell_len

from tdiff.draw.layout import CanvasLayout

WIDEST = 8
"""Cells of a mask before anything gives way."""
_STRETCHED = 2 * WIDEST
"""Cells of a mask at most."""


def make_room(
    laid: CanvasLayout, texts: Sequence[str], masks: MutableMapping[int, int], changed: Collection[int]
) -> None:
    """Change the widths of masks so that the rows of `laid` go on holding what they hold.

    `texts` are those of the places from now on, and `masks` the cells of each that is masked; `laid` is the layout of
    what was drawn before, from which only the places in `changed` differ.
    """
    if not changed or not masks:
        return
    near = sorted(changed)
    rows, width, last = laid.rows, laid.width, laid.row[near[-1]]
    spill = 0  # places that come from the row above; below 0: that went there
    for row in range(laid.row[near[0]], len(rows)):
        if row > last and not spill:
            return
        begin, stop = bisect_left(laid.row, row), bisect_left(laid.row, row + 1)
        places = range(begin - spill, stop)
        used = _cells(texts, masks, places)
        used += _give_way(masks, places, sum(cell_len(text) for _, text in rows[row]) - used, [*near, begin])
        spill = 0
        if any(place not in masks and not texts[place].isprintable() for place in places):
            continue  # a line feed: whatever comes after it begins a row of its own
        while used > width and spill < len(places) - 1:
            spill += 1
            used -= _cells(texts, masks, (places[-spill],))
        while spill <= 0 and stop - spill < len(texts):
            used += _cells(texts, masks, (stop - spill,))
            if used > width:
                break
            spill -= 1


def _cells(texts: Sequence[str], masks: Mapping[int, int], places: Collection[int]) -> int:
    return sum(masks.get(place) or cell_len(texts[place]) for place in places)


def _give_way(masks: MutableMapping[int, int], places: Collection[int], change: int, near: Sequence[int]) -> int:
    """Make masks among `places` wider by `change` in all, or narrower, as far as they go; by how much they are."""
    left = change
    for place in sorted(filter(masks.__contains__, places), key=lambda place: min(abs(place - n) for n in near)):
        if not left:
            break
        old = masks[place]
        masks[place] = min(max(1, old + left), max(old, _STRETCHED))
        left -= masks[place] - old
    return change - left
