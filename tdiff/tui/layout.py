"""Which panes a window of a size shows, and how: side by side, stacked, one alone, or only the first line.

Pure functions: sizes and names go in, and what to display comes out. Names and sides come from the table of panes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tdiff.tui.panes.registry import CANVASES, PANES, Situation

NAMES = tuple(pane.name for pane in PANES)
"""Names of all panes, in the order in which Tab goes through them."""
SIDES = {side: tuple(pane.name for pane in PANES if pane.side == side) for side in ("left", "right")}
"""The two columns, or halves, and the panes in each."""
SIDES_OF_TWO = {"left": CANVASES, "right": NAMES[1:]}
"""As `SIDES`, where two models generate; the left side is the upper half then."""
COLUMNS_OF_TWO = tuple(pane.name for pane in PANES[1:] if pane.column)
"""Panes that have a column of their own below two canvases."""
_IN_A_LINE = frozenset((*CANVASES[1:], *(pane.name for pane in PANES if pane.in_a_line)))
"""Panes that a line sums up when they have no room."""
MIN_COLUMNS, MIN_ROWS = 20, 6
"""The minimum size of the window: below it, only the first line is shown."""
_STACKED_COLUMNS = 40
"""Columns below which one pane at a time is shown."""
_SIDE_BY_SIDE_COLUMNS = 100
"""Columns from which the two sides, or two canvases, are side by side."""
_CURVES_SIDE_BY_SIDE_COLUMNS = 140
"""The same where there are only curves and the lines of a log, which are long."""
_STACKED_ROWS = 16
"""Rows below which one pane at a time is shown."""
_THREE_STACKED_ROWS = 22
"""Rows below which two stacked canvases leave no room for another pane."""
_PANE_ROWS = 6
"""Minimum number of rows of a stacked pane."""
_OTHER_ROWS = 4
"""Maximum number of rows above and below all panes."""


@dataclass(frozen=True, slots=True)
class Arrangement:
    """What is displayed."""

    panes: frozenset[str]
    side_by_side: bool
    """Whether the sides, or two canvases and the panes below them, are side by side; else they are stacked."""
    curves_first: bool
    """Whether the side with the curves is the first one, and has more room."""
    summary: bool
    """Whether a line sums up the panes that are not shown."""
    bottom: bool
    """Whether the line of messages is shown."""
    hints: bool
    """Whether the line of keys is shown."""

    @property
    def tiny(self) -> bool:
        """Whether there is room for the first line only."""
        return not self.panes


def shown_panes(situation: Situation, wanted: Mapping[str, bool]) -> list[str]:
    """The panes that are shown where there is room, at least one.

    `wanted` (name -> shown) holds what the user has shown or hidden; the table of panes decides about the others. Two
    canvases are shown and hidden together.
    """
    names = [pane.name for pane in PANES if wanted.get(pane.name, pane.shown(situation))] or [NAMES[0]]
    if situation.two and names[0] == CANVASES[0] and not situation.only_traces:
        names[:1] = CANVASES
    return names


def arrange(
    width: int,
    height: int,
    shown: Sequence[str],
    focused: str,
    zoomed: bool,
    two: bool = False,
    only_curves: bool = False,
) -> Arrangement:
    """Arrange the panes of `shown`, at least one, in a window; `focused` is the pane that is shown where one is.

    Where there are `only_curves`, these come first and have more room than the others.
    """
    side_by_side = width >= (_CURVES_SIDE_BY_SIDE_COLUMNS if only_curves else _SIDE_BY_SIDE_COLUMNS)
    tiny = width < MIN_COLUMNS or height < MIN_ROWS
    alone = zoomed or height < _STACKED_ROWS or width < _STACKED_COLUMNS
    focused = focused if focused in shown else shown[0]
    panes = {focused} if alone else _fitting(height, shown, focused, two, side_by_side)
    hidden = set(shown) - panes
    return Arrangement(
        panes=frozenset() if tiny else frozenset(panes),
        side_by_side=side_by_side,
        curves_first=only_curves,
        summary=(alone or not hidden.isdisjoint(_IN_A_LINE)) and not zoomed and height >= 8 and not tiny,
        bottom=not tiny and height >= 9,
        hints=not tiny and height >= 7,
    )


def _fitting(height: int, shown: Sequence[str], focused: str, two: bool, side_by_side: bool) -> set[str]:
    """Those of `shown` that fit on the screen together with enough rows each, `focused` among them."""
    rows = height - _OTHER_ROWS
    if two:
        canvases, others = ([name for name in shown if (name in CANVASES) is upper] for upper in (True, False))
        if not side_by_side and height < _THREE_STACKED_ROWS and canvases and others:
            return set(canvases if focused in CANVASES else _first(others, focused, 1))
        below = rows // (2 if side_by_side else 3) if canvases else rows
        if side_by_side:
            stacked = [name for name in others if name not in COLUMNS_OF_TWO]
            return {*canvases, *set(others).difference(stacked), *_first(stacked, focused, below // _PANE_ROWS)}
        return {*canvases, *_first(others, focused, below // _PANE_ROWS)}
    if not side_by_side:
        return set(_first(shown, focused, rows // _PANE_ROWS))
    sides = ([name for name in shown if name in side] for side in SIDES.values())
    return {name for side in sides for name in _first(side, focused, rows // _PANE_ROWS)}


def _first(names: Sequence[str], focused: str, count: int) -> list[str]:
    """At most `count` of the names, but at least one: `focused` where it is among them, then the first others."""
    return sorted(names, key=lambda name: name != focused)[: max(1, count)]
