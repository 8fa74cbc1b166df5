"""The picker of decoders: a line to type in, above the decoders that match it, each with its explanation."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len, set_cell_size
from textual.app import ComposeResult
from textual.binding import Binding
from textual.widgets import Input

from tdiff.config.decoding import DECODERS
from tdiff.draw.render import Line
from tdiff.errors import TdiffError
from tdiff.tui.decoder_search import matching, options_text, typed, zeros_text
from tdiff.tui.widgets.lines import Lines, fold
from tdiff.tui.widgets.search_box import SearchBox, SearchLine

MAX_MARKS = 4
"""Settings that race."""
_ABOUT_ROWS = 4
"""Rows below the list: the whole explanation of the selected decoder, and its options."""
_OTHER_ROWS = 4
"""Rows of the box besides decoders and explanation: its edges, the line of text, and the line of marks."""
_COMMON_WORDS = "Unmask the scheduled number of positions, "
_NAME = 17
"""Cells of a name, and blanks around it."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What the user chose."""

    settings: dict[str, Any]
    """Fields of DecodeSettings for the next text; empty for a race."""
    racers: tuple[str, ...] = ()
    """Decoders with options, as `parse_decoder` reads them, that race."""


class DecoderPicker(SearchBox[str]):
    """A box over the panes. It always exists, and is displayed while the user chooses a decoder."""

    DEFAULT_CSS = """
    DecoderPicker { width: 116; }
    #picker-line { height: 1; border: none; padding: 0 1; background: $background; color: $foreground; }
    #picker-line > .input--cursor { background: $background; color: $foreground; text-style: reverse; }
    """
    HINTS = (("↑↓", "select"), ("enter", "use"), ("tab", "mark for a race"), ("esc", "close"))
    NOTHING = "no decoder has these words"

    def __init__(self, choose: Callable[[Choice | None], Awaitable[None]]) -> None:
        """`choose` is called once the picker is closed, with what the user chose, or None."""
        line = _Line(id="picker-line", placeholder="a part of a name or explanation, and NAME=VALUE options")
        title = "decoders · enter chooses, tab marks for a race, esc or ctrl+c closes"
        super().__init__(self, id="picker", line=line, title=title)
        self._choose = choose
        self._marks, self._about = Lines(id="picker-marks"), Lines(id="picker-about")
        self._known: Collection[str] = tuple(DECODERS)
        self._current = ""
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
        self._line.value, self.marked, self._matches = "", [], ()
        self._why = ""
        self.look_up()
        height = self.app.size.height
        self._about.styles.height = about = _ABOUT_ROWS if height >= 20 else 1 if height >= 12 else 0
        selected = self._matches.index(current) if current in self._matches else 0
        self.show(selected, height - _OTHER_ROWS - about)

    def found(self) -> Sequence[str]:
        """The decoders that have the words of the line."""
        return matching(typed(self._line.value).words, self._known)

    def on_input_changed(self, message: Input.Changed) -> None:
        """Look up what is typed; why the last line was refused is no longer true."""
        self._why = ""
        super().on_input_changed(message)

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
        self.draw()

    async def choose_selected(self) -> None:
        """Choose the selected decoder; with marks, begin their race."""
        self.look_up(self._selected)  # also what was typed just before Enter
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
        self.draw()

    async def leave(self) -> None:
        """Close the picker without a choice."""
        await self.close(None)

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
            self.draw()
            return None
        return line.text(name)

    def row(self, entry: str, width: int, style: str) -> Line:
        """A decoder, with a sign for one that is in use or marked, and its summary."""
        sign = "+" if entry in (text.split()[0] for text in self.marked) else ">" if entry == self._current else " "
        summary = _cut(DECODERS[entry].summary, max(0, width - _NAME - 4))
        row: Line = [(f" {sign} {entry:<{_NAME - 1}}", f"bold {style}".strip()), (summary, style)]
        gap = width - sum(cell_len(text) for text, _ in row)
        return [*row, (" " * max(0, gap), style)]

    def draw(self) -> None:
        """Draw the list, what is marked, and the explanation of the selected decoder."""
        super().draw()
        marks: Line = [(" race: ", "dim")]
        for letter, text in zip("ABCD", self.marked, strict=False):
            marks += [(f"{letter} ", "bold"), (f"{text}  ", "")]
        self._marks.show([marks if self.marked else [(" > in use   tab marks two to four, enter races them", "dim")]])
        self._about.show(self._explanation(self._list.size.width))

    def _explanation(self, width: int) -> list[Line]:
        if self._why:
            return fold([(f" {self._why}", "bold")], width)[:_ABOUT_ROWS]
        if not self._matches:
            return []
        name = self._matches[self._selected]
        about = fold([(f" {DECODERS[name].summary}", "")], width)
        words = " · ".join(filter(None, (options_text(name), zeros_text(name))))
        return (about + fold([(f" {words}", "dim")], width))[:_ABOUT_ROWS]


def _cut(text: str, width: int) -> str:
    """The text in at most `width` cells, cut after a word."""
    if cell_len(text) <= width:
        return text
    text = text.replace(_COMMON_WORDS, "Scheduled, ")  # what distinguishes the decoders comes last
    if cell_len(text) <= width:
        return text
    return f"{set_cell_size(text, max(0, width - 2)).rpartition(' ')[0].rstrip(',')} …"


class _Line(SearchLine):
    """The line of text, in which Tab marks."""

    BINDINGS = [Binding("tab", "mark", "mark", show=False)]  # noqa: RUF012 - textual declares this type

    def action_mark(self) -> None:
        """Mark the selected decoder."""
        if isinstance(self.parent, DecoderPicker):
            self.parent.mark()
