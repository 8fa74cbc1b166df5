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
_BESIDE = 100
"""Columns from which the two sides, or two canvases, stand beside one another."""
_ROOMY = (140, 30)
"""Columns and rows from which log and details are shown unasked."""
_ALONE = 16
"""Rows below which one pane at a time is shown."""
_ALL_STACKED = 22
"""Rows below which two canvases, one above the other, leave no room for a side below them."""


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
    tiny = width < 40 or height < 6
    alone = zoomed or height < _ALONE
    here = focused if focused in shown else shown[0]
    panes = {here} if alone else set(shown)
    if two and not alone and width < _BESIDE and height < _ALL_STACKED:
        panes = {name for name in shown if (name in CANVASES) == (here in CANVASES)}
    return Arrangement(
        panes=frozenset() if tiny else frozenset(panes),
        beside=width >= _BESIDE,
        aside=(alone or panes != set(shown)) and not zoomed and height >= 8 and not tiny,
        bottom=not tiny and height >= 9,
        hints=not tiny and height >= 7,
    )
