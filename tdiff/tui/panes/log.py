"""The log pane: the lines of a log, following the newest or standing still, with find."""

from __future__ import annotations

from collections.abc import Sequence

from textual.widget import Widget

from tdiff.draw.palettes import Theme
from tdiff.draw.render import Line
from tdiff.tui.keymap import Key, bindings
from tdiff.tui.panes.base import Pane, Scene
from tdiff.tui.widgets.ask import Question
from tdiff.tui.widgets.lines import Lines


class LogView(Lines):
    """The rows of the log that are in view."""

    DEFAULT_CSS = "LogView { height: 1fr; }"


class LogPane(Pane):
    """The newest lines of a log."""

    KEYS = (
        Key("log_up", "up,k", "scroll up one line", "log", "", "scroll_log(-1)"),
        Key("log_down", "down,j", "scroll down one line", "log", "", "scroll_log(1)"),
        Key("log_page_up", "pageup", "scroll up one page", "log", "", "page(-1)"),
        Key("log_page_down", "pagedown", "scroll down one page", "log", "", "page(1)"),
        Key("log_first", "home,g", "go to the oldest line", "log"),
        Key("log_follow", "end,G,f", "follow the newest line", "log", "follow"),
        Key("find", "slash", "find text in the log", "log", "find", "ask('find')", opens_line=True),
        Key("find_next", "n", "go to the next match", "log", "next", "step_match(1)"),
        Key("find_previous", "N", "go to the previous match", "log", "", "step_match(-1)"),
    )
    BINDINGS = bindings(KEYS)  # type: ignore[assignment]

    def __init__(self, look: Theme, *, id: str = "log") -> None:
        super().__init__(look, id=id)
        self._log: list[str] = []
        self._first = 0  # of the log's lines so far, the number of the oldest that is kept
        self._top: int | None = None  # the uppermost line in view; None: the newest are followed
        self._found: int | None = None
        self._sought = ""
        self._view = LogView(id="log-lines")

    def body(self) -> list[Widget]:
        """The lines."""
        return [self._view]

    def show_scene(self, scene: Scene) -> None:
        """Show the log of the first run."""
        if scene.runs and self.display:
            run = scene.runs[0]
            self.show_log(run.log, run.logged - len(run.log))

    def show_log(self, log: Sequence[str], first: int) -> None:
        """Show these lines; `first` is the number of earlier lines that are no longer stored."""
        self._log, self._first = list(log), first
        self._draw()

    def question(self, key_id: str) -> Question | None:
        """What to find."""
        return Question("find", self.find) if key_id == "find" else None

    def on_resize(self) -> None:
        """Other rows are in view."""
        self._draw()

    def find(self, text: str) -> None:
        """Look for `text`, in either case, from the newest line back; "" ends the search."""
        self._sought, self._found = text.lower(), None
        if text:
            self._seek(-1)
        self._draw()

    def _draw(self) -> None:
        if not self.is_mounted:
            return
        height = max(1, self._view.size.height)
        end = len(self._log)
        top = end - height if self._top is None else min(self._top - self._first, end - height)
        top = max(0, top)
        rows: list[Line] = []
        for n, text in enumerate(self._log[top : top + height], top):
            style = "reverse" if self._found is not None and n == self._found - self._first else ""
            rows.append(_marked(text, self._sought, style))
        self._view.show(rows)
        where = "following" if self._top is None else f"line {self._first + top + 1:,} of {self._first + end:,}"
        matches = sum(self._sought in text.lower() for text in self._log) if self._sought else 0
        sought = f" · /{self._sought} {matches} found" if self._sought else ""
        self.frame([("log", "")], [(where + sought, "")], [], [])

    def _move(self, rows: int) -> None:
        height = max(1, self._view.size.height)
        newest = self._first + max(0, len(self._log) - height)
        top = (newest if self._top is None else self._top) + rows
        self._top = None if top >= newest else max(self._first, top)
        self._draw()

    def _seek(self, way: int) -> None:
        """Go to the next line that holds what is sought, in that direction, round the end."""
        count = len(self._log)
        if not self._sought or not count:
            return
        start = (self._found - self._first) if self._found is not None else (0 if way > 0 else count)
        for n in range(1, count + 1):
            at = (start + way * n) % count
            if self._sought in self._log[at].lower():
                self._found = self._first + at
                self._top = max(self._first, self._found - max(1, self._view.size.height) // 2)
                return

    # Keys

    def action_scroll_log(self, rows: int) -> None:
        """Scroll down by so many rows; up where negative."""
        self._move(rows)

    def action_page(self, pages: int) -> None:
        """Scroll down by so many pages; up where negative."""
        self._move(pages * max(1, self._view.size.height - 1))

    def action_log_first(self) -> None:
        """Go to the oldest line."""
        self._move(-len(self._log))

    def action_log_follow(self) -> None:
        """Follow the newest line."""
        self._top = None
        self._draw()

    def action_step_match(self, direction: int) -> None:
        """Go to the next match, or to the previous one where `direction` is negative."""
        self._seek(direction)
        self._draw()


def _marked(text: str, sought: str, style: str) -> Line:
    """The line with each occurrence of `sought` in bold."""
    lowered = text.lower()
    if not sought or sought not in lowered or len(lowered) != len(text):
        return [(text, style)]
    line: Line = []
    at = 0
    while (found := lowered.find(sought, at)) >= 0:
        if found > at:
            line.append((text[at:found], style))
        line.append((text[found : found + len(sought)], f"bold underline {style}".strip()))
        at = found + len(sought)
    return [*line, (text[at:], style)] if at < len(text) else line
