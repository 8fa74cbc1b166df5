"""The borders between panes: which one the mouse is on, and how many cells are on either side of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from textual.geometry import Region
from textual.widget import Widget

from tdiff.tui.sizes import LEAST, Axis, Division, moved


@dataclass(frozen=True, slots=True)
class Border:
    """The border behind member number `n` of a division."""

    division: Division
    n: int


@dataclass(frozen=True, slots=True)
class Held:
    """A border that the mouse holds."""

    border: Border
    cells: Sequence[int]
    """The cells of the members when it was taken."""
    at: int
    """The row or column of the screen where it was taken."""


class Requested:
    """Cells that keys have requested and that are not drawn yet: several keys may come before the next frame."""

    def __init__(self) -> None:
        self._division: Division | None = None
        self._shown: Sequence[int] = ()
        self._cells: Sequence[int] = ()

    def put(self, division: Division, shown: Sequence[int], cells: Sequence[int]) -> None:
        """Note that `cells` are requested for the members of a division, which are drawn with the cells `shown`."""
        self._division, self._shown, self._cells = division, shown, cells

    def cells(self, division: Division, shown: Sequence[int]) -> Sequence[int]:
        """The cells of a division as they will be, where it is drawn with the cells `shown`."""
        return self._cells if division == self._division and shown == self._shown else shown

    def keep(self, weights: Mapping[str, int]) -> None:
        """Forget the request, unless the panes are about to be arranged by it."""
        if self._division is not None and [weights.get(name) for name in self._division.members] != [*self._cells]:
            self._division = None


class Borders:
    """The borders of what is displayed."""

    def __init__(self, divisions: Sequence[Division], widgets: Mapping[str, Widget]) -> None:
        """`widgets` are the panes and groups by name."""
        self._divisions, self._widgets = divisions, widgets

    def at(self, x: int, y: int) -> Border | None:
        """The border at a cell of the screen; None where there is none."""
        for division in self._divisions:
            regions = self._regions(division)
            for n, (first, second) in enumerate(pairwise(regions)):
                if division.axis == "rows":
                    on = first.bottom - 1 <= y <= second.y and first.x <= x < first.right
                else:
                    on = first.right - 1 <= x <= second.x and first.y <= y < first.bottom
                if on:
                    return Border(division, n)
        return None

    def beside(self, name: str, axis: Axis) -> tuple[Border, int] | None:
        """The border to move to resize a pane, and the direction (1 or -1) in which it grows; None where none can."""
        parts: set[object] = {name}
        part = self._widgets[name].parent
        while part is not None:
            parts.add(getattr(part, "id", None))
            part = part.parent
        for division in reversed(self._divisions):  # the innermost first
            if division.axis == axis and (own := [n for n, member in enumerate(division.members) if member in parts]):
                last = own[0] == len(division.members) - 1
                return Border(division, own[0] - last), -1 if last else 1
        return None

    def cells(self, border: Border) -> list[int]:
        """The rows or columns of all members of the division of a border."""
        regions, rows = self._regions(border.division), border.division.axis == "rows"
        return [region.height if rows else region.width for region in regions]

    def moved(self, border: Border, cells: Sequence[int], by: int) -> dict[str, int]:
        """The cells of all members of a division, which were `cells`, after the border has moved by so many."""
        axis, members = border.division.axis, border.division.members
        least = [LEAST[axis] * (self._panes_in(name) if axis == "rows" else 1) for name in members]
        return dict(zip(members, moved(cells, border.n, by, least), strict=True))

    def _panes_in(self, name: str) -> int:
        """Panes that share the rows of a member."""
        inside = [division.members for division in self._divisions if division.axis == "rows"]
        return max([len(names) for names in inside if self._contains(name, names)], default=1)

    def _contains(self, name: str, names: Sequence[str]) -> bool:
        group = self._widgets[name]
        return any(group in self._widgets[other].ancestors for other in names)

    def _regions(self, division: Division) -> list[Region]:
        return [self._widgets[name].region for name in division.members]
