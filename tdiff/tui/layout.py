"""Which panes a window of a size shows, and how: beside one another, stacked, one alone, or not even that.

Pure: sizes and names go in, what to display comes out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

PANES = ("generation", "training", "log", "details")
"""All panes, in the order in which one goes through them."""
PANES_OF_TWO = ("generation", "second", "training", "log", "details")
"""As `PANES`, where two models write: each has a canvas."""
CANVASES = ("generation", "second")
SIDES = {"left": ("generation", "log"), "right": ("training", "details")}
"""The two columns, or halves, and the panes in each."""
SIDES_OF_TWO = {"left": CANVASES, "right": ("training", "log", "details")}
"""As `SIDES`, where two models write; the left side is the upper one then."""
_TOLD = frozenset((*CANVASES, "training"))
"""Panes of which a line tells while they have no room."""
NARROWEST, LOWEST = 20, 6
"""Columns and rows from which a pane is shown."""
_STACKED = 40
"""Columns below which one pane at a time is shown."""
_BESIDE = 100
"""Columns from which the two sides, or two canvases, stand beside one another."""
_ROOMY = (140, 30)
"""Columns and rows from which log and details are shown unasked."""
_ALONE = 16
"""Rows below which one pane at a time is shown."""
_ALL_STACKED = 22
"""Rows below which two canvases, one above the other, leave no room for a side below them."""
_PANE = 6
"""Rows of a pane that stands above or below another, at least."""
_AROUND = 4
"""Rows above and below all panes, at most."""


@dataclass(frozen=True, slots=True)
class Arrangement:
    """What is displayed."""

    panes: frozenset[str]
    beside: bool
    """Whether the sides, or two canvases and what is in the side below them, stand beside one another."""
    aside: bool
    """A line for the pane that is not shown."""
    bottom: bool
    hints: bool

    @property
    def tiny(self) -> bool:
        """Whether there is room for the first line only."""
        return not self.panes


def chosen(
    width: int,
    height: int,
    wanted: Mapping[str, bool],
    only_traces: bool,
    *,
    two: bool = False,
    watched: bool = True,
) -> list[str]:
    """The panes that are shown where there is room, at least one: by the user's choice, else by the window's size.

    `two`: two models write, whose canvases are shown and hidden together; then details are shown unasked only where
    anything is `watched`, and the log never is.
    """
    usual = {"generation"} if only_traces else {"generation", "training"}
    if width >= _ROOMY[0] and height >= _ROOMY[1]:
        usual |= ({"details"} if watched else set()) if two else {"log", "details"}
    shown = [name for name in PANES if wanted.get(name, name in usual)] or [PANES[0]]
    if two and shown[0] == CANVASES[0] and not only_traces:
        shown[:1] = CANVASES
    return shown


def arrange(
    width: int, height: int, shown: Sequence[str], focused: str, zoomed: bool, two: bool = False
) -> Arrangement:
    """How `shown`, which names at least one pane, stands in a window; `focused` is the pane that is shown alone."""
    tiny = width < NARROWEST or height < LOWEST
    alone = zoomed or height < _ALONE or width < _STACKED
    here = focused if focused in shown else shown[0]
    panes = {here} if alone else _fitting(width, height, shown, here, two)
    hidden = set(shown) - panes
    return Arrangement(
        panes=frozenset() if tiny else frozenset(panes),
        beside=width >= _BESIDE,
        aside=(alone or not hidden.isdisjoint(_TOLD)) and not zoomed and height >= 8 and not tiny,
        bottom=not tiny and height >= 9,
        hints=not tiny and height >= 7,
    )


def _fitting(width: int, height: int, shown: Sequence[str], here: str, two: bool) -> set[str]:
    """Those of `shown` that stand on the screen at once, each of some rows, and `here` among them."""
    rows = height - _AROUND
    if two:
        canvases, others = ([name for name in shown if (name in CANVASES) is upper] for upper in (True, False))
        if width < _BESIDE and height < _ALL_STACKED and canvases and others:
            return set(canvases if here in CANVASES else _first(others, here, 1))
        below = rows // (2 if width >= _BESIDE else 3) if canvases else rows
        if width >= _BESIDE:  # the curves have a column of their own
            narrow = [name for name in others if name != "training"]
            return {*canvases, *set(others).difference(narrow), *_first(narrow, here, below // _PANE)}
        return {*canvases, *_first(others, here, below // _PANE)}
    if width < _BESIDE:
        return set(_first(shown, here, rows // _PANE))
    sides = ([name for name in shown if name in side] for side in SIDES.values())
    return {name for side in sides for name in _first(side, here, rows // _PANE)}


def _first(names: Sequence[str], here: str, most: int) -> list[str]:
    """At most so many of the names, but one at least: `here` where it is among them, and the first others."""
    return sorted(names, key=lambda name: name != here)[: max(1, most)]
