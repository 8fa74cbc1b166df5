"""A cursor on a position of a text, and the positions that are selected from there on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Selection:
    """The cursor and the selected positions of a text."""

    cursor: int | None = None
    """The position of the cursor; None: it is off."""
    selected: frozenset[int] = frozenset()
    """The selected positions."""
    anchor: int | None = None
    """The position where the selection began; None: the cursor moves without selecting."""

    @property
    def positions(self) -> frozenset[int]:
        """The selected positions, or the one of the cursor."""
        return self.selected or (frozenset() if self.cursor is None else frozenset({self.cursor}))

    def move(self, position: int | None, cells: int) -> None:
        """Put the cursor on a position, or on the nearest one of a text of so many, and select all from the anchor on.

        None, or no positions: remove the cursor and the selection.
        """
        if position is None or not cells:
            self.cursor = None
            self.end()
            return
        self.cursor = min(max(position, 0), cells - 1)
        if self.anchor is not None:
            self.selected = frozenset(range(min(self.anchor, self.cursor), max(self.anchor, self.cursor) + 1))

    def begin(self) -> None:
        """Begin a selection at the cursor, unless there is an anchor already."""
        if self.anchor is None:
            self.anchor, self.selected = self.cursor, self.positions

    def end(self) -> None:
        """Select nothing."""
        self.anchor, self.selected = None, frozenset()
