"""The command palette: a line for a command's name, above the commands that match it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from textual.app import ComposeResult

from tdiff.draw.render import Line
from tdiff.tui.command_search import ranked
from tdiff.tui.key import Key
from tdiff.tui.key_table import KEYS
from tdiff.tui.widgets.lines import line_width, two_ends
from tdiff.tui.widgets.search_box import SearchBox, SearchLine

_OTHER_ROWS = 3
"""Rows of the box besides its commands: its edges and the line of text."""


class CommandPalette(SearchBox[Key]):
    """A box over the panes. It always exists, and is displayed while the user looks for a command."""

    DEFAULT_CSS = "CommandPalette { width: 84; }"
    NOTHING = "no command has these words"

    def __init__(self, names: Callable[[Key], str], run: Callable[[Key | None], Awaitable[None]]) -> None:
        """`names` returns the keys of a command as a person reads them.

        `run` is called once the palette is closed, with the command that the user chose, or None.
        """
        title = "commands · enter runs one, esc or ctrl+c closes"
        super().__init__(self, id="palette", line=SearchLine(id="palette-line"), title=title)
        self._names, self._run = names, run
        self._where = ""
        self._used: list[str] = []  # ids, the newest first

    def compose(self) -> ComposeResult:
        """The line of text above the list."""
        yield self._line
        yield self._list

    def open(self, where: str) -> None:
        """Show the palette with an empty line; `where` is the pane whose commands come first."""
        self._where = where
        self._line.value = ""
        self.look_up()
        self.show(0, self.app.size.height - _OTHER_ROWS)

    def found(self) -> Sequence[Key]:
        """The commands that have the words of the line."""
        return ranked(self._line.value, KEYS, self._where, self._used)

    def row(self, entry: Key, width: int, style: str) -> Line:
        """What a command does, and its keys where there is room."""
        does: Line = [(f" {entry.does}", style)]
        names: Line = [(f" {self._names(entry)} ", style)]
        fits = line_width([*does, *names]) <= width
        return two_ends(does, names if fits else [], width, style=style)

    async def choose_selected(self) -> None:
        """Run the selected command."""
        self.look_up(self._selected)  # also what was typed just before Enter
        await self.close(self._matches[self._selected] if self._matches else None)

    async def leave(self) -> None:
        """Close the palette without a command."""
        await self.close(None)

    async def close(self, key: Key | None) -> None:
        """Hide the palette and report what was chosen."""
        if not self.display:
            return
        self.display = False
        if key is not None:
            self._used = [key.id, *(used for used in self._used if used != key.id)]
        await self._run(key)
