"""A box over the panes with a line of text and a list of what has its words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Generic, Protocol, TypeVar

from textual import events
from textual.binding import Binding
from textual.containers import Vertical
from textual.widgets import Input

from tdiff.draw.render import Line
from tdiff.tui.widgets.lines import Lines

MAX_ROWS = 15
"""Maximum number of entries that are shown at once."""
T = TypeVar("T")


class Entries(Protocol[T]):
    """What a box looks for."""

    def found(self) -> Sequence[T]:
        """The entries that have the words of the line."""
        ...

    def row(self, entry: T, width: int, style: str) -> Line:
        """An entry in `width` cells; `style` is reverse for the selected one."""
        ...

    async def choose_selected(self) -> None:
        """Choose the selected entry."""
        ...

    async def leave(self) -> None:
        """Close the box without a choice."""
        ...


class SearchBox(Vertical, Generic[T]):
    """It always exists, and is displayed while the user looks for an entry."""

    BINDINGS = [  # noqa: RUF012 - textual declares this type
        Binding("down,ctrl+n", "move(1)", show=False),
        Binding("up,ctrl+p", "move(-1)", show=False),
        Binding("pagedown", f"move({MAX_ROWS})", show=False),
        Binding("pageup", f"move({-MAX_ROWS})", show=False),
    ]
    DEFAULT_CSS = """
    SearchBox { layer: above; dock: top; max-width: 100%; height: auto; border: round $foreground;
        background: $background; padding: 0 1; }
    """
    HINTS: ClassVar[tuple[tuple[str, str], ...]] = (("↑↓", "select"), ("enter", "run"), ("esc", "close"))
    """The keys while it is displayed, and what they do."""
    NOTHING = ""
    """What the list says where no entry has the words."""

    def __init__(self, entries: Entries[T], *, id: str, line: SearchLine, title: str) -> None:
        """`id` is also the beginning of the ids of its parts."""
        super().__init__(id=id)
        self.entries = entries
        self.border_title = title
        self.display = False
        self._line, self._list = line, Lines(id=f"{id}-list")
        self._matches: Sequence[T] = ()
        self._selected = 0

    def show(self, selected: int, rows: int) -> None:
        """Display the box with a list of `rows` rows, and give its line the focus."""
        self._selected = selected
        self._list.styles.height = max(1, min(MAX_ROWS, rows))
        self.display = True
        self.screen.set_focus(self._line)
        self.call_after_refresh(self.draw)

    def look_up(self, at: int = 0) -> None:
        """Look up what is typed; entry `at` is selected if the entries stay the same, else the first."""
        matches = self.entries.found()
        self._selected = at if matches == self._matches else 0
        self._matches = matches
        self.draw()

    def draw(self) -> None:
        """Draw the rows of the list; the selected entry stays in view."""
        width, rows = self._list.size
        first = self._first
        shown = enumerate(self._matches[first : first + max(rows, 1)], first)
        lines = [self.entries.row(entry, width, "reverse" if n == self._selected else "") for n, entry in shown]
        self._list.show(lines or [[(f" {self.NOTHING}", "dim")]])

    def on_input_changed(self, message: Input.Changed) -> None:
        """Look up what is typed."""
        message.stop()
        self.look_up()

    def on_resize(self) -> None:
        """Draw the rows as wide as the box."""
        self.draw()

    async def on_click(self, event: events.Click) -> None:
        """Choose the entry under the mouse."""
        if event.widget is self._list and 0 <= (row := self._first + event.y) < len(self._matches):
            self._selected = row
            await self.entries.choose_selected()

    def action_move(self, rows: int) -> None:
        """Select another entry, `rows` below the selected one."""
        self._selected = min(max(self._selected + rows, 0), max(0, len(self._matches) - 1))
        self.draw()

    @property
    def _first(self) -> int:
        """The entry in the first row."""
        return max(0, self._selected - max(1, self._list.size.height) + 1)


class SearchLine(Input):
    """The line of text of a box."""

    BINDINGS = [Binding("escape,ctrl+g,ctrl+c", "leave", "leave", show=False)]  # noqa: RUF012

    def __init__(self, *, id: str, placeholder: str = "") -> None:
        super().__init__(id=id, compact=True, select_on_focus=False, placeholder=placeholder)

    async def on_input_submitted(self, message: Input.Submitted) -> None:
        """Choose before the line takes another key."""
        message.stop()
        if isinstance(self.parent, SearchBox):
            await self.parent.entries.choose_selected()

    async def action_leave(self) -> None:
        """Close the box."""
        if isinstance(self.parent, SearchBox):
            await self.parent.entries.leave()

    async def on_input_blurred(self) -> None:
        """Close the box when a pane gets the focus, but not when another window does."""
        if self.app.app_focus:
            await self.action_leave()
