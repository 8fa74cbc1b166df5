"""The command palette: a line for a command's name, above the commands that match it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.widgets import Input

from tdiff.draw.render import Line
from tdiff.tui.command_search import ranked
from tdiff.tui.key import Key
from tdiff.tui.key_table import KEYS
from tdiff.tui.widgets.lines import Lines, line_width, two_ends

_MAX_ROWS = 14
"""Maximum number of commands that are shown at once."""
_OTHER_ROWS = 3
"""Rows of the box besides its commands: its edges and the line of text."""


class CommandPalette(Vertical):
    """A box over the panes. It always exists, and is displayed while the user looks for a command."""

    BINDINGS = [  # noqa: RUF012 - textual declares this type
        Binding("down,ctrl+n", "move(1)", show=False),
        Binding("up,ctrl+p", "move(-1)", show=False),
        Binding("pagedown", f"move({_MAX_ROWS})", show=False),
        Binding("pageup", f"move({-_MAX_ROWS})", show=False),
    ]
    DEFAULT_CSS = """
    CommandPalette { layer: above; dock: top; width: 84; max-width: 100%; height: auto; border: round $foreground;
        background: $background; padding: 0 1; }
    """

    def __init__(self, names: Callable[[Key], str], run: Callable[[Key | None], Awaitable[None]]) -> None:
        """`names` returns the keys of a command as a person reads them.

        `run` is called once the palette is closed, with the command that the user chose, or None.
        """
        super().__init__(id="palette")
        self.border_title = "commands · enter runs one, esc or ctrl+c closes"
        self.display = False
        self._names, self._run = names, run
        self._line, self._list = _Line(id="palette-line"), Lines(id="palette-list")
        self._where = ""
        self._used: list[str] = []  # ids, the newest first
        self._matches: Sequence[Key] = KEYS
        self._selected = 0

    def compose(self) -> ComposeResult:
        """The line of text above the list."""
        yield self._line
        yield self._list

    def open(self, where: str) -> None:
        """Show the palette with an empty line; `where` is the pane whose commands come first."""
        self._where = where
        self._line.value = ""
        self._look_up()
        self._list.styles.height = max(1, min(_MAX_ROWS, self.app.size.height - _OTHER_ROWS))
        self.display = True
        self.screen.set_focus(self._line)

    def on_input_changed(self, message: Input.Changed) -> None:
        """Look up what is typed."""
        message.stop()
        self._look_up()

    async def run_selected(self) -> None:
        """Run the selected command."""
        self._look_up(self._selected)  # also what was typed just before Enter
        await self.close(self._matches[self._selected] if self._matches else None)

    def on_resize(self) -> None:
        """Draw the rows as wide as the box."""
        self._draw()

    async def on_click(self, event: events.Click) -> None:
        """Run the command under the mouse."""
        if event.widget is self._list and 0 <= (row := self._first + event.y) < len(self._matches):
            await self.close(self._matches[row])

    def action_move(self, rows: int) -> None:
        """Select another command, `rows` below the selected one."""
        self._selected = min(max(self._selected + rows, 0), max(0, len(self._matches) - 1))
        self._draw()

    async def close(self, key: Key | None) -> None:
        """Hide the palette and report what was chosen."""
        if not self.display:
            return
        self.display = False
        if key is not None:
            self._used = [key.id, *(used for used in self._used if used != key.id)]
        await self._run(key)

    def _look_up(self, at: int = 0) -> None:
        matches = ranked(self._line.value, KEYS, self._where, self._used)
        self._selected = at if matches == self._matches else 0
        self._matches = matches
        self._draw()

    @property
    def _first(self) -> int:
        """The command in the first row: the selected one stays in view."""
        return max(0, self._selected - max(1, self._list.size.height) + 1)

    def _draw(self) -> None:
        width, rows = self._list.size
        first = self._first
        lines: list[Line] = []
        for n, key in enumerate(self._matches[first : first + max(rows, 1)], first):
            style = "reverse" if n == self._selected else ""
            does: Line = [(f" {key.does}", style)]
            names: Line = [(f" {self._names(key)} ", style)]
            fits = line_width([*does, *names]) <= width
            lines.append(two_ends(does, names if fits else [], width, style=style))
        self._list.show(lines or [[(" no command has these words", "dim")]])


class _Line(Input):
    """The line of text."""

    BINDINGS = [Binding("escape,ctrl+g,ctrl+c", "leave", "leave", show=False)]  # noqa: RUF012

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id, compact=True, select_on_focus=False)

    async def on_input_submitted(self, message: Input.Submitted) -> None:
        """Run the selected command before the line takes another key."""
        message.stop()
        if isinstance(self.parent, CommandPalette):
            await self.parent.run_selected()

    async def action_leave(self) -> None:
        """Close the palette."""
        if isinstance(self.parent, CommandPalette):
            await self.parent.close(None)

    async def on_input_blurred(self) -> None:
        """Close the palette when a pane gets the focus, but not when another window does."""
        if self.app.app_focus:
            await self.action_leave()
