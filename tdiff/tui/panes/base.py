"""A framed part of the screen that takes the focus: a title and a readout above, another two below."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.message import Message
from textual.widget import Widget

from tdiff.draw.palettes import Theme
from tdiff.draw.render import Line
from tdiff.tui.key import Key
from tdiff.tui.widgets.abstract import AbstractWidgetMeta
from tdiff.tui.widgets.lines import Lines, first_part, line_width, shortened, two_ends, whole_figures
from tdiff.tui.widgets.question_line import Question

if TYPE_CHECKING:
    from tdiff.watch.devices.reading import Devices, RunProcesses
    from tdiff.watch.run_state import RunState

Hints = Sequence[tuple[str, str]]
"""Keys that act now, the most useful first: the id of a key or its name, and a word for what it does."""
_CORNERS = {True: ("╭─", "─╮"), False: ("╰─", "─╯")}


class Edge(Lines):
    """The upper or lower edge of a pane's frame, with text at both ends."""

    can_focus = False

    def __init__(self, upper: bool) -> None:
        super().__init__(classes="edge")
        self._corners = _CORNERS[upper]
        self._left: Line = []
        self._right: Line = []
        self._style = ""

    def put(self, left: Line, right: Line, style: str) -> None:
        """Show these texts in a frame of this style."""
        self._left, self._right, self._style = left, right, style
        width = self.size.width
        inner = max(0, width - 4)
        # Both start with their most important part: the right text gives way to the first part of the left one.
        reserved = min(first_part(left) + 2, inner // 2) if left else 0
        right = whole_figures(right, max(0, inner - reserved - 2))
        right = [(" ", style), *right, (" ", style)] if right else []
        left = shortened(left, max(0, inner - line_width(right) - 2))
        left = [(" ", style), *left, (" ", style)] if left else []
        middle = two_ends(left, right, inner, "─", style)
        self.show([[(self._corners[0], style), *middle, (self._corners[1], style)]] if width >= 4 else [])

    @property
    def settled(self) -> bool:
        """Whether it has been drawn for the width that it has."""
        return line_width(self._lines[0] if self._lines else []) == (width if (width := self.size.width) >= 4 else 0)

    def on_resize(self) -> None:
        """The fill between the ends depends on the width."""
        self.put(self._left, self._right, self._style)


@dataclass(frozen=True, slots=True)
class Scene:
    """The watched runs as the panes show them."""

    runs: Sequence[RunState]
    """The first run is the one that log, details and samples belong to."""
    now: float
    """Seconds since the epoch."""
    sample: int | None
    """Number of the sample of the first run that is selected."""
    hosts: Sequence[Devices] = ()
    """The newest reading of the GPUs of each host."""
    devices: Sequence[tuple[Devices, RunProcesses]] = ()
    """For each run, the reading of its host, and its processes there."""


class Pane(Vertical, metaclass=AbstractWidgetMeta):
    """A pane: edges around a body. A subclass implements `body` and calls `frame` when its titles change."""

    KEYS: ClassVar[tuple[Key, ...]] = ()
    """Its keys; `where` of each is the pane's name."""

    class Asks(Message):
        """The pane asks the user for a line of text."""

        def __init__(self, question: Question) -> None:
            super().__init__()
            self.question = question

    can_focus = True
    can_focus_children = False
    DEFAULT_CSS = """
    Pane { width: 1fr; height: 1fr; }
    Pane > .edge { height: 1; }
    Pane > #body { border-left: round $foreground 30%; border-right: round $foreground 30%; height: 1fr; }
    Pane:focus > #body { border-left: round $foreground; border-right: round $foreground; }
    """

    def __init__(self, theme: Theme, *, id: str, where: str = "") -> None:
        """`where` is the pane's name in the table of keys, `id` unless it says otherwise."""
        super().__init__(id=id)
        self.theme = theme
        self.where = where or id
        self._upper, self._lower = Edge(True), Edge(False)
        self._titles: tuple[Line, Line, Line, Line] = ([], [], [], [])

    @abstractmethod
    def body(self) -> list[Widget]:
        """The widgets within the frame, from top to bottom."""

    def show_scene(self, scene: Scene) -> None:
        """Show the runs. It is called when a run has changed; a pane that is not displayed may ignore it."""

    def show_sample(self, scene: Scene) -> None:
        """Show the scene after another sample was selected."""

    def set_theme(self, theme: Theme) -> None:
        """Draw with another theme from now on."""
        self.theme = theme

    @property
    def hints(self) -> Hints:
        """The keys that act now; nothing: those of the pane and of the view."""
        return ()

    def takes_key(self, pressed: str) -> bool:
        """Act on a key before the bindings; whether it did."""
        return False

    def question(self, key_id: str) -> Question | None:
        """What a key asks the user; None where it asks nothing."""
        return None

    def action_ask(self, key_id: str) -> None:
        """Ask what that key asks."""
        if question := self.question(key_id):
            self.post_message(self.Asks(question))

    def compose(self) -> ComposeResult:
        """Frame and body."""
        yield self._upper
        with Vertical(id="body"):
            yield from self.body()
        yield self._lower

    def frame(self, title: Line, readout: Line, below: Line, below_right: Line) -> None:
        """The four texts of the frame: above left and right, below left and right."""
        self._titles = (title, readout, below, below_right)
        self._draw_frame()

    @property
    def settled(self) -> bool:
        """Whether both edges have been drawn for the width that they have."""
        return self._upper.settled and self._lower.settled

    def on_focus(self) -> None:
        """The frame of the focused pane is bright."""
        self._draw_frame()

    def on_blur(self) -> None:
        """The frame of the others is dim."""
        self._draw_frame()

    def _draw_frame(self) -> None:
        title, readout, below, below_right = self._titles
        style = "" if self.has_focus else "dim"
        bold = [(text, f"bold {face}".strip() if self.has_focus else face) for text, face in title]
        self._upper.put(bold, readout, style)
        self._lower.put(below, below_right, style)
