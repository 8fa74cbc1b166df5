"""`tdiff watch --all`: a live table of runs, from which one is opened in the view of a single run."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding
from textual.widgets import Input

from tdiff.draw.ascii_only import ascii_text
from tdiff.draw.render import Line
from tdiff.report.runs import table
from tdiff.terminal.attached import Attached
from tdiff.terminal.detect import Terminal
from tdiff.tui.app import WatchApp
from tdiff.tui.terminal_app import TerminalApp
from tdiff.tui.widgets.lines import Lines, clip, two_ends
from tdiff.visible import visible_line
from tdiff.watch.listing.here import AllRuns
from tdiff.watch.listing.rows import Row, matching

_UPDATE_SECONDS, _DRAW_SECONDS = 0.25, 1.0
"""Seconds between two looks for something new, and between two drawings of the ages."""
_DETACHED_SECONDS = 30.0
"""Seconds between two drawings while no client is attached to the terminal."""
_HINTS = (("↑↓", "select"), ("enter", "open"), ("/", "filter"), ("q", "quit"))
_STYLES = {
    "running": "bold",
    "reading": "dim",
    "waiting": "dim",
    "stopped": "dim",
    "failed": "bold",
    "died": "bold",
    "lost": "bold",
}


class Choice:
    """What the user has selected; it outlives the table while a run is open."""

    def __init__(self) -> None:
        self.where = ""
        """The run under the cursor, as `Row.where`."""
        self.words = ""
        """The filter."""
        self.opened: Row | None = None
        """The run to open when the table has closed; None to leave."""
        self.message = ""
        """Why a run could not be opened, until the next key."""


class RunsApp(TerminalApp):
    """The table."""

    BINDINGS = [  # noqa: RUF012 - as textual has it
        Binding("q,ctrl+q,ctrl+c", "quit", "quit", show=False),
        Binding("escape", "leave", "clear the filter, or quit", show=False),
        Binding("up,k", "move(-1)", "up", show=False),
        Binding("down,j", "move(1)", "down", show=False),
        Binding("pageup", "page(-1)", "a page up", show=False),
        Binding("pagedown,space", "page(1)", "a page down", show=False),
        Binding("home,g", "move(-1000000)", "to the first", show=False),
        Binding("end,G", "move(1000000)", "to the last", show=False),
        Binding("enter,right,l", "open", "open", show=False),
        Binding("slash", "filter", "filter", show=False),
        Binding("ctrl+z", "suspend_process", "suspend", show=False),
    ]
    CSS = """
    #filter { height: 1; border: none; padding: 0 1; background: $background; color: $foreground; }
    #filter > .input--cursor { background: $background; color: $foreground; text-style: reverse; }
    #table { height: 1fr; }
    """
    AUTO_FOCUS = ""  # the line of the filter would get the focus
    ENABLE_COMMAND_PALETTE = False
    TITLE = "tdiff watch"

    def __init__(
        self,
        all_runs: AllRuns,
        terminal: Terminal,
        choice: Choice,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`clock` gives seconds, for the updates."""
        super().__init__(terminal)
        self.all_runs, self.choice = all_runs, choice
        self.attached = Attached(terminal.program)
        self.shown: list[Row] = []
        """The rows that pass the filter."""
        self._rows: list[Row] = []
        self._clock, self._drawn = clock, -math.inf
        self._was_attached = True
        self._first = 0  # the first row on the screen
        self._top, self._body, self._note, self._hints = (Lines(id=i) for i in ("top", "table", "note", "hints"))
        self._filter = Input(id="filter", compact=True, placeholder="words of a name or a state")

    def compose(self) -> ComposeResult:
        """A line above, the table, and the lines below."""
        yield self._top
        yield self._body
        yield self._filter
        yield self._note
        yield self._hints

    def on_mount(self) -> None:
        """Draw at once what is known."""
        self._filter.display = False
        self._update()
        self.set_interval(_UPDATE_SECONDS, self._update)
        self.call_after_refresh(self._draw)

    def on_unmount(self) -> None:
        """The runs stay open: the table may return."""
        self.attached.close()

    def on_resize(self, event: events.Resize) -> None:
        """Draw for another size."""
        self.call_after_refresh(self._draw)

    # Keys

    def action_leave(self) -> None:
        """Clear the filter, or leave where there is none."""
        if self.choice.words:
            self._set_filter("")
        else:
            self.exit()

    def action_move(self, count: int) -> None:
        """Move the cursor `count` rows down."""
        if self.shown:
            at = min(max(0, self._at() + count), len(self.shown) - 1)
            self.choice.where = self.shown[at].where
            self._draw()

    def action_page(self, count: int) -> None:
        """Move the cursor `count` pages down."""
        self.action_move(count * max(1, self._room() - 1))

    def action_open(self) -> None:
        """Open the run under the cursor."""
        if self.shown:
            self.choice.opened = self.shown[self._at()]
            self.choice.where = self.choice.opened.where
            self.exit()

    def action_filter(self) -> None:
        """Enter the words of the filter."""
        self._filter.value = self.choice.words
        self._filter.display = True
        self.screen.set_focus(self._filter)

    def on_input_changed(self, message: Input.Changed) -> None:
        """Filter while the user types."""
        if self._filter.display:
            self._set_filter(message.value)

    def on_input_submitted(self) -> None:
        """Return to the table."""
        self._close_filter()

    def takes_key(self, key: str) -> bool:
        """Keys of the line of the filter that act on the table."""
        self.choice.message = ""
        if self.focused is not self._filter:
            return False
        if key in ("escape", "ctrl+c"):
            self._set_filter("")
        elif key not in ("down", "up"):
            return False
        self._close_filter()
        return True

    def _close_filter(self) -> None:
        self._filter.display = False
        self.screen.set_focus(None)
        self._draw()

    def _set_filter(self, words: str) -> None:
        self.choice.words = words
        self._select()
        self._draw()

    # Updates

    def _update(self) -> None:
        if not self.screen_stack:  # the timer fires once more after the end
            return
        new = self.all_runs.poll()
        attached = self.attached.now()
        if attached and not self._was_attached:
            self.redraw_screen()
            self._drawn = -math.inf
        self._was_attached = attached
        due = self._clock() - self._drawn >= (_DRAW_SECONDS if attached or not self._rows else _DETACHED_SECONDS)
        if due or (attached and new and self.all_runs.complete):
            self._drawn = self._clock()
            self._rows = self.all_runs.rows()
            self._select()
            self._draw()

    def _select(self) -> None:
        self.shown = matching(self._rows, self.choice.words)

    def _at(self) -> int:
        """The row under the cursor; the first one where the selected run is not shown."""
        return next((n for n, row in enumerate(self.shown) if row.where == self.choice.where), 0)

    def _room(self) -> int:
        return max(1, self._body.size.height - 1)

    # Drawing

    def _draw(self) -> None:
        width, height = self.size.width, self._body.size.height
        if not width or not height:
            return
        at, room = self._at(), self._room()
        self._first = min(max(self._first, at - room + 1), at, max(0, len(self.shown) - room))
        ascii = self.terminal.theme.ascii
        self._top.show([self._title(width)])
        page = self.shown[self._first : self._first + room]
        texts = table(page, width - 2, wide=True, ascii=ascii)  # of all rows it would take long
        body: list[Line] = [[(f" {texts[0]}", "dim")]] if page else []
        for n, (row, text) in enumerate(zip(page, texts[1:], strict=True), self._first):
            line = f" {text}"
            body.append([(line.ljust(width), "reverse")] if n == at else [(line, _STYLES.get(row.state, ""))])
        if not self.shown:
            body.append([(f" {self._nothing()}", "dim")])
        self._body.show(body)
        self._note.show([clip([(" ", ""), (self._below(at), "dim")], width)])
        hints: Line = [part for key, word in _HINTS for part in ((f" {key} ", "bold"), (f"{word} ", "dim"))]
        self._hints.show([[(ascii_text(text) if ascii else text, style) for text, style in clip(hints, width)]])

    def _title(self, width: int) -> Line:
        counts = Counter(row.state for row in self._rows)
        parts = [f"{count} {state}" for state, count in counts.items() if state != "waiting"]
        filtered = f" · {len(self.shown)} of {len(self._rows)} match '{self.choice.words}'" if self.choice.words else ""
        left: Line = [(" tdiff watch ", "bold"), (f" {self.all_runs.label} ", "")]
        right: Line = [(f"{', '.join(parts)}{filtered} ", "dim")]
        return two_ends(left, right, width)

    def _nothing(self) -> str:
        if self.choice.words:
            return "no run matches the filter; esc clears it"
        if self.all_runs.problem:
            return self.all_runs.problem
        return "no run here yet" if self.all_runs.complete else "reading ..."

    def _below(self, at: int) -> str:
        """The line below the table: the connection, else what is to be said of the run under the cursor."""
        if self.choice.message:
            return visible_line(self.choice.message)
        if self.all_runs.problem and self.shown:
            return self.all_runs.problem
        if self.shown and self.shown[at].reason:
            return f"{self.shown[at].name}: {self.shown[at].reason}"
        left_out = self.all_runs.left_out
        return f"left out: {left_out}" if left_out else ""


class OpenedApp(WatchApp):
    """The view of a run that was opened from the table, to which Esc and q return."""

    BINDINGS = [Binding("escape", "quit", "back to the table", show=False)]  # noqa: RUF012

    left_for_good = False
    """Whether the user leaves the table too."""

    async def on_event(self, event: events.Event) -> None:
        """Note which key may leave."""
        if isinstance(event, events.Key):
            self.left_for_good = event.key in ("ctrl+c", "ctrl+q")
        await super().on_event(event)

    def hang_up(self) -> None:
        """Leave the table too."""
        self.left_for_good = True
        super().hang_up()
