"""How panes share the room of a window: weights that a user changes, and presets of them.

Pure functions: names and numbers of cells go in, weights come out. A weight is relative to those of the other panes, or
groups of panes, in the same row or column. Weights are whole numbers, often of cells, so that dividing a window of the
same size by them leaves no remainder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tdiff.tui.layout import COLUMNS_OF_TWO, NAMES, SIDES, SIDES_OF_TWO, Arrangement
from tdiff.tui.panes.registry import CANVASES, Situation

Axis = Literal["rows", "columns"]
Weights = Mapping[str, int]
"""Name of a pane, or of a group of panes (`left`, `right`, `more`, `legend`) -> its weight."""

LEAST: Mapping[Axis, int] = {"rows": 5, "columns": 20}
"""Minimum rows and columns of a pane beside another one."""


_WITHOUT_RUN = 3.0
"""The share of the text beside or above the rest while no run is watched."""


@dataclass(frozen=True, slots=True)
class Division:
    """Panes, or groups of panes, that share the rows or the columns of one part of the window."""

    axis: Axis
    members: tuple[str, ...]
    """Their names, from the top or from the left."""


@dataclass(frozen=True, slots=True)
class Preset:
    """A named arrangement."""

    name: str
    does: str
    """What it shows, as the help screen says it."""
    text: int
    """The tenths of the room that the text has, beside or above the curves; the curves have the rest."""
    everything: bool = False
    """Whether it shows all panes, rather than text and curves."""

    def wanted(self, now: Situation) -> dict[str, bool]:
        """Which panes are shown where there is room: name -> shown."""
        if now.only_traces:
            names = {CANVASES[0]}
        else:
            names = {"log" if now.only_curves else CANVASES[0], "training"}
            if self.everything:
                names |= set(NAMES) - {CANVASES[0]} - (set() if now.gpus else {"gpus"})
                names -= set() if now.watched else {"log", "details"}  # they have nothing to show
        return {name: name in names for name in NAMES}

    def sizes(self) -> dict[str, dict[str, int]]:
        """The weights of each kind of layout."""
        text, curves = self.text, 10 - self.text
        beside = {"left": text, "right": curves}
        stacked = dict.fromkeys((*CANVASES, "log"), text) | dict.fromkeys(SIDES["right"], curves)
        of_two = {name: 2 * weight for name, weight in stacked.items()} | dict.fromkeys(CANVASES, text)
        rows = {"generation": 3, "log": 1, "training": 2, "details": 2, "gpus": 1} if self.everything else {}
        return {
            kind_of(beside=True): beside | rows,
            kind_of(): stacked,
            kind_of(beside=True, two=True): beside,
            kind_of(two=True): of_two,
        }


PRESETS = (
    Preset("text", "the text large, the curves small", 7),
    Preset("curves", "the curves large, the text small", 3),
    Preset("equal", "text and curves of equal size", 5),
    Preset("everything", "every pane that has room", 6, everything=True),
)
"""The presets, by their digits from 1."""


def preset_named(name: str) -> Preset | None:
    """The preset of a name; None where there is none."""
    return next((preset for preset in PRESETS if preset.name == name), None)


def kind_of(*, beside: bool = False, two: bool = False) -> str:
    """The name of a kind of layout, each of which has its own weights."""
    return ("beside" if beside else "stacked") + (" of two" if two else "")


def groups(two: bool) -> dict[str, tuple[str, ...]]:
    """The groups of panes and what is in them, the outer ones first; with the legend of two canvases."""
    if not two:
        return dict(SIDES)
    right = SIDES_OF_TWO["right"]
    more = tuple(name for name in right if name not in COLUMNS_OF_TWO)
    return {"left": (*CANVASES, "legend"), "right": right, "canvases": CANVASES, "more": more}


def divisions(arrangement: Arrangement, two: bool) -> list[Division]:
    """The divisions of what an arrangement displays, each of at least two members."""
    parts = groups(two)

    def shown(names: Sequence[str]) -> tuple[str, ...]:
        return tuple(name for name in names if name in arrangement.panes)

    sides = [side for side in ("left", "right") if shown(parts[side])]
    sides = sides[::-1] if arrangement.curves_first else sides
    if not arrangement.side_by_side:
        found = [Division("rows", tuple(name for side in sides for name in shown(parts[side])))]
    elif not two:
        found = [Division("columns", tuple(sides)), *(Division("rows", shown(parts[side])) for side in sides)]
    else:
        below = (*shown(COLUMNS_OF_TWO), *(["more"] if shown(parts["more"]) else []))
        found = [
            Division("rows", tuple(sides)),
            Division("columns", shown(CANVASES)),
            Division("columns", below),
            Division("rows", shown(parts["more"])),
        ]
    return [division for division in found if len(division.members) > 1]


def moved(cells: Sequence[int], border: int, by: int, least: Sequence[int]) -> list[int]:
    """The cells of members after the border behind number `border` has moved by so many cells.

    Only the two members at the border change; neither becomes smaller than its minimum `least`, or than it was.
    """
    first, second = cells[border : border + 2]
    low = min(0, least[border] - first)
    high = max(0, second - least[border + 1])
    by = min(max(by, low), high)
    return [*cells[:border], first + by, second - by, *cells[border + 2 :]]


Shares = Mapping[tuple[str, Axis], float]
"""Name of a pane or a group, and an axis -> its share; a missing one is 1."""


def default_shares(arrangement: Arrangement, two: bool, watched: bool) -> Shares:
    """The shares where the user has resized nothing.

    Panes that are stacked have the same number of rows, but curves that come first have more. Where no run is
    `watched`, the text has nearly all the room. Below two canvases, the
    others have half as much where they are stacked, or no run is `watched`.
    """
    if two:
        return {("left", "rows"): 1.0 if arrangement.side_by_side and watched else 2.0}
    if not watched and not arrangement.curves_first and CANVASES[0] in arrangement.panes:
        return {("left", "columns" if arrangement.side_by_side else "rows"): _WITHOUT_RUN}
    first = {"training": 2.0} if arrangement.curves_first else {}
    found: dict[tuple[str, Axis], float] = {(name, "rows"): share for name, share in first.items()}
    if not arrangement.side_by_side:
        for side, names in SIDES.items():
            found[side, "rows"] = sum(first.get(name, 1.0) for name in arrangement.panes.intersection(names)) or 1.0
    return found


def shares(arrangement: Arrangement, found: Sequence[Division], weights: Weights, two: bool) -> Shares:
    """The shares by `weights` in these divisions; a member without a weight has the mean of the others."""
    result: dict[tuple[str, Axis], float] = {}
    for division in found:
        known = [weights[name] for name in division.members if name in weights]
        mean = sum(known) / len(known) if known else 1.0
        result |= {(name, division.axis): weights.get(name, mean) for name in division.members}
    if not arrangement.side_by_side:  # a group has what is in it
        legend: dict[tuple[str, Axis], float] = {("legend", "rows"): weights.get("legend", 0)}
        for group, names in groups(two).items():
            result[group, "rows"] = sum((result | legend).get((name, "rows"), 0.0) for name in names) or 1.0
    return result


def stacked_in(name: str, arrangement: Arrangement, two: bool) -> int:
    """How many panes are stacked in a pane or a group."""
    names = groups(two).get(name, (name,))
    if two and arrangement.side_by_side:
        names = groups(two)["more"] if name in ("right", "more") else (name,)
    return max(1, len(arrangement.panes.intersection(names)))
