"""The help screen: all keys, from the one table of keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.screen import ModalScreen

from tdiff.draw.render import Line
from tdiff.tui.key import shown
from tdiff.tui.key_table import KEYS
from tdiff.tui.panes.registry import PANES
from tdiff.tui.race_keys import RACE_KEYS
from tdiff.tui.widgets.lines import Lines, fold, line_width

_WIDTH = 75
"""Columns inside the page's box in a window of 80 columns, without its scroll bar."""
_TITLES = {
    "app": "Everywhere",
    **{pane.name: f"{pane.title} pane" for pane in PANES if pane.pane_class.KEYS},
    "texts": "Race, and several texts",
}
"""What each part of the table of keys is called."""


_OF_TWO = (
    "Pause, resume, new text, prompt and palette apply to both models; all other",
    "keys of the generation pane act on the canvas that has the focus.",
    "A new decoder or threshold generates the same text again, for that model.",
    "Both get the same prompt, seed and length; without a prompt, the first",
    "model's default prompt. The next text starts when both have finished.",
)


def help_lines(changed: Mapping[str, str], *, ascii: bool, two: bool = False) -> list[Line]:
    """The keys of the view after the user's changes (id -> keys); with `two`, how they act on two models."""
    lines: list[Line] = []
    if two:
        lines += [[("Two models side by side", "bold")], *([(f"  {line}", "")] for line in _OF_TWO)]
    for where, title in _TITLES.items():
        lines += [[], [(title, "bold")]] if lines else [[(title, "bold")]]
        for key in (*KEYS, *RACE_KEYS):
            if key.where == where:
                names = shown(changed.get(key.id, key.keys), ascii=ascii)
                line: Line = [(f"  {names:<18}", "bold"), (f" {key.does}", "")]
                name: Line = [(f"  ({key.id})", "dim")]
                # The id is what watch.toml needs: where it would be cut off, it has a line of its own.
                fits = line_width([*line, *name]) <= _WIDTH
                lines += [[*line, *name]] if fits else [line, [(" " * 19, ""), *name]]
    lines += [
        [],
        [("Keys and colours", "bold")],
        [("  Change them in watch.toml in your configuration folder:", "")],
        [('    palette = "light"', "")],
        [("    [keys]", "")],
        [('    pause = "space,p"', "")],
    ]
    return lines


PAGE_KEYS = (
    Binding("down,j", "scroll(1)", show=False),
    Binding("up,k", "scroll(-1)", show=False),
    Binding("pagedown,space", "scroll(10)", show=False),
    Binding("pageup,b", "scroll(-10)", show=False),
    Binding("ctrl+z", "app.suspend_process", show=False),
)
"""Keys of every screen of lines over the view, by its `action_scroll`."""


class Page(ModalScreen[None]):
    """A page of lines over the view. There is one for all titles, since textual caches the drawing of every screen."""

    BINDINGS = [  # noqa: RUF012 - textual declares this type
        Binding("q,escape,question_mark,enter,exclamation_mark,ctrl+c,ctrl+q", "leave", "close", show=False),
        *PAGE_KEYS,
    ]
    DEFAULT_CSS = """
    Page { align: center middle; }
    Page > VerticalScroll { width: 80; max-width: 100%; max-height: 100%; scrollbar-size-vertical: 1;
        height: auto; border: round $foreground;
        padding: 0 1; background: $background; }
    Page Lines { height: auto; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.title_text = ""
        self.lines: Sequence[Line] = ()
        """The lines of the page, before they are folded."""
        self._page = Lines(id="page")

    def turn_to(self, title: str, lines: Sequence[Line]) -> None:
        """Show these lines from now on."""
        self.title_text, self.lines = title, lines
        self._lay(self.app.size.width)

    def _lay(self, window: int) -> None:
        """Fold the lines that are wider than the page."""
        width = max(1, min(_WIDTH, window - 5))
        rows = [row for line in self.lines for row in fold(line, width)]
        self._page.styles.height = len(rows)
        self._page.show(rows)

    def on_resize(self, event: events.Resize) -> None:
        """Fold the lines for another width."""
        self._lay(event.size.width)

    def compose(self) -> ComposeResult:
        """The page in a box that scrolls."""
        with VerticalScroll() as box:
            box.can_focus = False
            yield self._page

    def on_screen_resume(self) -> None:
        """Start at the top."""
        box = self.query_one(VerticalScroll)
        box.border_title = f"{self.title_text} · q closes"
        box.scroll_home(animate=False)

    def action_leave(self) -> None:
        """Return to the view."""
        self.dismiss()

    def action_scroll(self, rows: int) -> None:
        """Scroll the page."""
        self.query_one(VerticalScroll).scroll_relative(y=rows, animate=False)
