"""The log pane: the lines of a log, with find and a filter; it follows the newest line or stays at an older one."""

from __future__ import annotations

from collections.abc import Sequence

from textual.widget import Widget

from tdiff.draw.palettes import Theme
from tdiff.draw.render import Line
from tdiff.tui.key import Key, bindings
from tdiff.tui.panes.base import Pane, Scene
from tdiff.tui.widgets.lines import Lines
from tdiff.tui.widgets.question_line import Question
from tdiff.watch.log_lines import Kind, kind_of, kinds

_FILTERS: dict[str, tuple[Kind, ...]] = {
    "": ("error", "warning", "record", "other"),
    "without records": ("error", "warning", "other"),
    "warnings and errors": ("error", "warning"),
    "errors": ("error",),
}
"""Name of a filter -> the kinds of lines that it shows."""
_STYLES = {"16": ("bold color(9)", "color(11)"), "none": ("bold", "underline")}
"""Styles of errors and of warnings; with more colours they are those of the ground."""
_STYLES_OF_GROUND = {"dark": ("bold color(203)", "color(215)"), "light": ("bold color(160)", "color(130)")}


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
        Key("log_first", "home,circumflex_accent", "go to the oldest line", "log"),
        Key("log_follow", "end,G,f", "follow the newest line", "log", "follow"),
        Key("find", "slash", "find text in the log", "log", "find", "ask('find')", opens_line=True),
        Key("log_filter", "w", "leave out what the curve shows, or all but warnings", "log", "filter"),
        Key("find_next", "n", "go to the next match", "log", "next", "step_match(1)"),
        Key("find_previous", "N", "go to the previous match", "log", "", "step_match(-1)"),
    )
    BINDINGS = bindings(KEYS)  # type: ignore[assignment]

    def __init__(self, theme: Theme, *, id: str = "log") -> None:
        super().__init__(theme, id=id)
        self._all: list[str] = []
        self._all_first = 0  # the number of the oldest line that is stored
        self._filter = ""
        self._log: list[str] = []  # the lines that the filter shows
        self._first = 0  # the number of the oldest of them
        self._top: int | None = None  # the uppermost line in view; None: the newest are followed
        self._match: int | None = None
        self._query = ""
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
        self._all, self._all_first = list(log), first
        self._select()
        self._draw()

    def _select(self) -> None:
        """Apply the filter. With one, lines are counted among those that it shows."""
        if not self._filter:
            self._log, self._first = self._all, self._all_first
            return
        shown = _FILTERS[self._filter]
        self._log = [line for line, kind in zip(self._all, kinds(self._all), strict=True) if kind in shown]
        self._first = 0

    def question(self, key_id: str) -> Question | None:
        """What to find."""
        return Question("find", self.find) if key_id == "find" else None

    def on_resize(self) -> None:
        """Draw the rows that are in view."""
        self._draw()

    def find(self, text: str) -> None:
        """Find `text`, ignoring case, from the newest line back; "" ends the search."""
        self._query, self._match = text.lower(), None
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
            style = "reverse" if self._match is not None and n == self._match - self._first else self._style(text)
            rows.append(_marked(text, self._query, style))
        self._view.show(rows)
        position = "following" if self._top is None else f"line {self._first + top + 1:,} of {self._first + end:,}"
        matches = sum(self._query in text.lower() for text in self._log) if self._query else 0
        search = f" · /{self._query} {matches} matching" if self._query else ""
        shown = f"{self._filter} {end:,} of {len(self._all):,} · " if self._filter else ""
        self.frame([("log", "")], [(shown + position + search, "")], [], [])

    def _style(self, text: str) -> str:
        """Errors and warnings stand out."""
        kind = kind_of(text)
        if kind not in ("error", "warning"):
            return ""
        styles = _STYLES.get(self.theme.colour) or _STYLES_OF_GROUND[self.theme.background]
        return styles[kind == "warning"]

    def _move(self, rows: int) -> None:
        height = max(1, self._view.size.height)
        newest = self._first + max(0, len(self._log) - height)
        top = (newest if self._top is None else self._top) + rows
        self._top = None if top >= newest else max(self._first, top)
        self._draw()

    def _seek(self, direction: int) -> None:
        """Go to the next line that contains the query, in that direction, and around the end."""
        count = len(self._log)
        if not self._query or not count:
            return
        start = (self._match - self._first) if self._match is not None else (0 if direction > 0 else count)
        for n in range(1, count + 1):
            at = (start + direction * n) % count
            if self._query in self._log[at].lower():
                self._match = self._first + at
                self._top = max(self._first, self._match - max(1, self._view.size.height) // 2)
                return

    # Keys

    def action_scroll_log(self, rows: int) -> None:
        """Scroll down by so many rows; up where negative."""
        self._move(rows)

    def action_page(self, pages: int) -> None:
        """Scroll down by a number of pages; a negative number scrolls up."""
        self._move(pages * max(1, self._view.size.height - 1))

    def action_log_first(self) -> None:
        """Go to the oldest line."""
        self._move(-len(self._log))

    def action_log_follow(self) -> None:
        """Follow the newest line."""
        self._top = None
        self._draw()

    def action_log_filter(self) -> None:
        """Show the next kinds of lines, from the newest on."""
        names = list(_FILTERS)
        self._filter = names[(names.index(self._filter) + 1) % len(names)]
        self._top = self._match = None
        self._select()
        self._draw()

    def action_step_match(self, direction: int) -> None:
        """Go to the next match, or to the previous one where `direction` is negative."""
        self._seek(direction)
        self._draw()


def _marked(text: str, query: str, style: str) -> Line:
    """The line with each occurrence of `query` in bold."""
    lowered = text.lower()
    if not query or query not in lowered or len(lowered) != len(text):
        return [(text, style)]
    line: Line = []
    at = 0
    while (start := lowered.find(query, at)) >= 0:
        if start > at:
            line.append((text[at:start], style))
        line.append((text[start : start + len(query)], f"bold underline {style}".strip()))
        at = start + len(query)
    return [*line, (text[at:], style)] if at < len(text) else line
