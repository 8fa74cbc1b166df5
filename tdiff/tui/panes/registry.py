"""The panes of the view: one row each.

To add a pane, write its class and add a row here. The layout, the keys, the help screen and the command palette read
this table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from tdiff.draw.palettes import Theme
from tdiff.tui.key import Key
from tdiff.tui.panes.base import Pane
from tdiff.tui.panes.details import DetailsPane
from tdiff.tui.panes.generation import GenerationPane
from tdiff.tui.panes.gpus import GpusPane
from tdiff.tui.panes.log import LogPane
from tdiff.tui.panes.training import TrainingPane

_TALL = 40
"""Rows from which a roomy window has room for the GPUs too."""
_ROOMY = (140, 30)
"""Columns and rows of a window that has room for more than text and curves."""


@dataclass(frozen=True, slots=True)
class Situation:
    """What decides which panes are shown unless the user shows or hides them."""

    width: int
    """Columns of the window."""
    height: int
    """Rows of the window."""
    two: bool = False
    """Two models generate."""
    watched: bool = True
    """At least one run is watched."""
    only_traces: bool = False
    """Only traces of generations are watched, so there are no curves."""
    only_curves: bool = False
    """No text exists: only the curves of another program's run."""
    gpus: bool = False
    """The host of a run has a GPU."""

    @property
    def roomy(self) -> bool:
        """Whether the window has room for log and details."""
        return self.width >= _ROOMY[0] and self.height >= _ROOMY[1]

    @property
    def tall(self) -> bool:
        """Whether a third pane has room in a column too."""
        return self.roomy and self.height >= _TALL


class PaneClass(Protocol):
    """A subclass of `Pane`."""

    @property
    def KEYS(self) -> tuple[Key, ...]:
        """The keys that act in the pane."""

    def __call__(self, theme: Theme, *, id: str) -> Pane:
        """Make the pane."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PaneSpec:
    """One pane: its class, its place in the layout, and its words."""

    name: str
    """Its id as a widget, and its `where` in the table of keys."""
    pane_class: PaneClass
    title: str
    """What the help screen calls it."""
    content: str
    """What it shows, after "show or hide"."""
    key: str
    """Textual's name of the key that shows and hides it."""
    side: Literal["left", "right"]
    """Its column, or half of a narrow window. Where two models generate, only their canvases are on the left."""
    shown: Callable[[Situation], bool]
    """Whether it is shown unless the user says otherwise."""
    column: bool = False
    """Whether it has a column of its own below two canvases; the other panes share one."""
    in_a_line: bool = False
    """Whether a line sums it up when it has no room."""


PANES: tuple[PaneSpec, ...] = (
    PaneSpec(
        name="generation",
        pane_class=GenerationPane,
        title="Generation",
        content="the generation",
        key="5",
        side="left",
        shown=lambda now: not now.only_curves,
        in_a_line=True,
    ),
    PaneSpec(
        name="training",
        pane_class=TrainingPane,
        title="Training",
        content="the training curves",
        key="6",
        side="right",
        shown=lambda now: now.only_curves or not now.only_traces,
        column=True,
        in_a_line=True,
    ),
    PaneSpec(
        name="log",
        pane_class=LogPane,
        title="Log",
        content="the log",
        key="7",
        side="left",
        shown=lambda now: now.only_curves or (now.roomy and not now.two and not now.only_traces),
    ),
    PaneSpec(
        name="details",
        pane_class=DetailsPane,
        title="Details",
        content="loss by mask ratio, samples and alerts",
        key="8",
        side="right",
        shown=lambda now: now.roomy and (now.watched or not now.two) and not now.only_traces,
    ),
    PaneSpec(
        name="gpus",
        pane_class=GpusPane,
        title="GPU",
        content="the GPUs and the processes of the run",
        key="g",
        side="right",
        shown=lambda now: now.gpus and now.tall,
    ),
)
"""All panes, in the order in which Tab goes through them."""
CANVASES = ("generation", "second")
"""Names of the canvases where two models generate: the generation pane, and a second one like it."""
