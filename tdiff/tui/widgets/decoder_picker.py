"""The picker of decoders: a line to type in, above the decoders that match it, each with its explanation."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len, set_cell_size
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.widgets import Input

from tdiff.config.decoding import DECODERS
from tdiff.draw.render import Line
from tdiff.errors import TdiffError
from tdiff.tui.decoder_search import matching, options_text, typed
from tdiff.tui.widgets.lines import Lines, fold

MAX_MARKS = 4
"""Settings that race."""
_MAX_ROWS = 14
_ABOUT_ROWS = 4
"""Rows below the list: the whole explanation of the selected decoder, and its options."""
_OTHER_ROWS = 4
"""Rows of the box besides decoders and explanation: its edges, the line of text, and the line of marks."""
_NAME = 17
"""Cells of a name, and blanks around it."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What the user chose."""

    settings: dict[str, Any]
    """Fields of DecodeSettings for the next text; empty for a race."""
    racers: tuple[str, ...] = ()
    """Decoders with options, as `parse_decoder` reads them, that race."""


class DecoderPicker(Vertical):
    """A box over the panes. It always exists, and is displayed while the user chooses a decoder."""

    BINDINGS = [  # noqa: RUF012 - textual declares this type
        Binding("down,ctrl+n", "move(1)", show=False),
        Binding("up,ctrl+p", "move(-1)", show=False),
        Binding("pagedown", f"move({_MAX_ROWS})", show=False),
        Binding("pageup", f"move({-_MAX_ROWS})", show=False),
    ]
    DEFAULT_CSS = """
    DecoderPicker { layer: above; dock: top; width: 116; max-width: 100%; height: auto; border: round $foreground;
        background: $background; padding: 0 1; }
    #picker-line { height: 1; border: none; padding: 0 1; background: $background; color: $foreground; }
    #picker-line > .input--cursor { background: $background; color: $foreground; text-style: reverse; }
    """

    def __init__(self, choose: Callable[[Choice | None], Awaitable[None]]) -> None:
        """`choose` is called once the picker is closed, with what the user chose, or None."""
        super().__init__(id="picker")
        self.border_title = "decoders · enter chooses, tab marks for a race, esc or ctrl+c closes"
        self.display = False
        self._choose = choose
        self._line = _Line(id="picker-line", placeholder="a part of a name or explanation, and NAME=VALUE options")
        self._list, self._marks, self._about = (
            Lines(id="picker-list"),
            Lines(id="picker-marks"),
            Lines(id="picker-about"),
        )
        self._known: Collection[str] = tuple(DECODERS)
        self._current = ""
        self._matches: list[str] = []
        self._selected = 0
        self._why = ""  # why the last line was refused
        self.marked: list[str] = []
        """The settings that are marked for a race."""

    def compose(self) -> ComposeResult:
        """The line of text, the list, what is marked, and the explanation."""
        yield self._line
        yield self._list
        yield self._marks
        yield self._about

    def open(self, current: str, known: Collection[str] = ()) -> None:
        """Show the picker; `current` is the decoder in use, `known` are those that the model supports, () for all."""
        self._current, self._known = current, known or tuple(DECODERS)
        self._line.value, self.marked, self._matches = "", [], []
        self._look_up()
        self._selected = self._matches.index(current) if current in self._matches else 0
        height = self.app.size.height
        self._about.styles.height = about = _ABOUT_ROWS if height >= 20 else 1 if height >= 12 else 0
        self._list.styles.height = max(1, min(_MAX_ROWS, height - _OTHER_ROWS - about))
        self.display = True
        self.screen.set_focus(self._line)
        self.call_after_refresh(self._draw)

    def on_input_changed(self, message: Input.Changed) -> None:
        """Look up what is typed."""
        message.stop()
        self._why = ""
        self._look_up()

    def on_resize(self) -> None:
        """Draw the rows as wide as the box."""
        self._draw()

    async def on_click(self, event: events.Click) -> None:
        """Choose the decoder under the mouse."""
        if event.widget is self._list and 0 <= (row := self._first + event.y) < len(self._matches):
            self._selected = row
            await self.choose_selected()

    def action_move(self, rows: int) -> None:
        """Select another decoder, `rows` below the selected one."""
        self._selected = min(max(self._selected + rows, 0), max(0, len(self._matches) - 1))
        self._draw()

    def mark(self) -> None:
        """Mark the selected decoder with the typed options for a race, or remove its mark."""
        text = self._checked()
        if text is None:
            return
        if text in self.marked:
            self.marked.remove(text)
        elif len(self.marked) == MAX_MARKS:
            self._why = f"up to {MAX_MARKS} settings race; tab on a marked one removes it"
        else:
            self.marked.append(text)
            self._line.value = ""
        self._draw()

    async def choose_selected(self) -> None:
        """Choose the selected decoder; with marks, begin their race."""
        self._look_up(self._selected)  # also what was typed just before Enter
        if not self.marked:
            text = self._checked()
            if text is not None:
                await self.close(Choice(typed(self._line.value).settings(self._matches[self._selected])))
            return
        racers = list(self.marked)
        if len(racers) == 1 or self._line.value.strip():  # what is selected races too
            text = self._checked()
            if text is None:
                return
            racers += [text] if text not in racers else []
        if len(racers) < 2:
            self._why = "a race is between two or more settings: select or mark another one"
        elif len(racers) > MAX_MARKS:
            self._why = f"up to {MAX_MARKS} settings race"
        else:
            await self.close(Choice({}, tuple(racers)))
            return
        self._draw()

    async def close(self, choice: Choice | None) -> None:
        """Hide the picker and report what was chosen."""
        if not self.display:
            return
        self.display = False
        await self._choose(choice)

    def _checked(self) -> str | None:
        """The selected decoder with the typed options; None if there is none, or an option is refused."""
        if not self._matches:
            return None
        name, line = self._matches[self._selected], typed(self._line.value)
        try:
            line.settings(name)
        except TdiffError as error:
            self._why = str(error)
            self._draw()
            return None
        return line.text(name)

    def _look_up(self, at: int = 0) -> None:
        matches = matching(typed(self._line.value).words, self._known)
        self._selected = at if matches == self._matches else 0
        self._matches = matches
        self._draw()

    @property
    def _first(self) -> int:
        """The decoder in the first row: the selected one stays in view."""
        return max(0, self._selected - max(1, self._list.size.height) + 1)

    def _draw(self) -> None:
        width, rows = self._list.size
        names = [text.split()[0] for text in self.marked]
        lines: list[Line] = []
        for n, name in enumerate(self._matches[self._first : self._first + max(rows, 1)], self._first):
            style = "reverse" if n == self._selected else ""
            sign = "+" if name in names else ">" if name == self._current else " "
            summary = _cut(DECODERS[name].summary, max(0, width - _NAME - 3))
            row: Line = [(f" {sign} {name:<{_NAME - 1}}", f"bold {style}".strip()), (summary, style)]
            gap = width - sum(cell_len(text) for text, _ in row)
            lines.append([*row, (" " * max(0, gap), style)])
        self._list.show(lines or [[(" no decoder has these words", "dim")]])
        marks: Line = [(" race: ", "dim")]
        for letter, text in zip("ABCD", self.marked, strict=False):
            marks += [(f"{letter} ", "bold"), (f"{text}  ", "")]
        self._marks.show([marks if self.marked else [(" > in use   tab marks two to four, enter races them", "dim")]])
        self._about.show(self._explanation(width))

    def _explanation(self, width: int) -> list[Line]:
        if self._why:
            return fold([(f" {self._why}", "bold")], width)[:_ABOUT_ROWS]
        if not self._matches:
            return []
        name = self._matches[self._selected]
        about = fold([(f" {DECODERS[name].summary}", "")], width)
        return (about + fold([(f" {options_text(name)}", "dim")], width))[:_ABOUT_ROWS]


def _cut(text: str, width: int) -> str:
    """The text in at most `width` cells, cut after a word."""
    if cell_len(text) <= width:
        return text
    return f"{set_cell_size(text, max(0, width - 2)).rpartition(' ')[0].rstrip(',')} …"


class _Line(Input):
    """The line of text."""

    BINDINGS = [  # noqa: RUF012 - textual declares this type
        Binding("escape,ctrl+g,ctrl+c", "leave", "leave", show=False),
        Binding("tab", "mark", "mark", show=False),
    ]

    def __init__(self, *, id: str, placeholder: str) -> None:
        super().__init__(id=id, compact=True, select_on_focus=False, placeholder=placeholder)

    async def on_input_submitted(self, message: Input.Submitted) -> None:
        """Choose before the line takes another key."""
        message.stop()
        if isinstance(self.parent, DecoderPicker):
            await self.parent.choose_selected()

    def action_mark(self) -> None:
        """Mark the selected decoder."""
        if isinstance(self.parent, DecoderPicker):
            self.parent.mark()

    async def action_leave(self) -> None:
        """Close the picker."""
        if isinstance(self.parent, DecoderPicker):
            await self.parent.close(None)

    async def on_input_blurred(self) -> None:
        """Close the picker when a pane gets the focus, but not when another window does."""
        if self.app.app_focus:
            await self.action_leave()
