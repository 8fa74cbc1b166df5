"""Labels at the right ends of curves: their texts in the room that there is, and rows in which none hides another."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size

_MOST, _FEWEST = 16, 3
"""Cells of a label; with fewer there are letters."""
_SHARE = 5
"""Labels take at most one of so many columns."""
_ROOM = 9
"""Columns from which there is room for letters."""


def texts(labels: Sequence[str], width: int) -> list[str]:
    """The texts to draw for these labels beside a chart of `width` columns: all empty where there is no room.

    Labels that are too long are cut; where that makes two the same, each is a letter.
    """
    most = min(_MOST, width // _SHARE)
    if most >= _FEWEST:
        shown = [label if cell_len(label) <= most else set_cell_size(label, most).rstrip() for label in labels]
        if len(set(shown)) == len(shown) and all(shown):
            return shown
    return letters(labels) if width >= _ROOM else [""] * len(labels)


def letters(labels: Sequence[str]) -> list[str]:
    """A letter for each label: its first, in the other case if a later label begins with the same.

    If these letters are not distinct, they are A, B, C and so on.
    """
    first = [label[:1] for label in labels]
    initials = [letter.swapcase() if letter in first[n + 1 :] else letter for n, letter in enumerate(first)]
    if len(set(initials)) == len(initials) and all(letter.isascii() and letter.isalnum() for letter in initials):
        return initials
    return [chr(ord("A") + n % 26) for n in range(len(labels))]


def rows_of(wanted: Sequence[float | None], rows: int) -> list[int | None]:
    """A row for each label, near its wanted position in rows and in the same order from top to bottom.

    None where no label is wanted; where there are more labels than rows, the first ones have none.
    """
    placed: list[int | None] = [None] * len(wanted)
    labelled = [n for n, row in enumerate(wanted) if row is not None][-rows:] if rows > 0 else []
    order = sorted(labelled, key=lambda n: wanted[n] or 0)
    free = 0
    for n in order:
        placed[n] = free = max(free, min(int(wanted[n] or 0), rows - 1))
        free += 1
    last = rows - 1
    for n in reversed(order):  # what was pushed out at the bottom moves up, and pushes others
        placed[n] = last = min(placed[n] or 0, last)
        last -= 1
    return placed
