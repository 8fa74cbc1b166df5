"""Lines as textual strips, and an app that writes no more colours and characters than its terminal can take.

This is the one place where the depth of colour is enforced: every strip of every widget passes the filters here, so
that no theme, style sheet or widget of textual's own can write a code of another depth. The filters stand in place of
textual's own: those turn palette entries into 24-bit colours, and write grey ones under NO_COLOR.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from rich.cells import cell_len
from rich.color import Color as RichColor
from rich.color import ColorSystem, ColorType
from rich.segment import Segment
from rich.style import Style
from textual.app import App
from textual.color import Color
from textual.driver import Driver
from textual.filter import LineFilter
from textual.messages import TerminalSupportsSynchronizedOutput
from textual.strip import Strip
from textual.widget import Widget

from tdiff.draw.ascii_only import ascii_text
from tdiff.draw.render import Line
from tdiff.terminal.detect import Terminal, clipboard

WINDOWS = sys.platform == "win32"
_NULL = Style.null()
_SYSTEMS = {"256": ColorSystem.EIGHT_BIT, "16": ColorSystem.STANDARD}
_LIGHT, _DARK = RichColor.from_ansi(15), RichColor.from_ansi(0)


def paint(line: Line, width: int, base: Style = _NULL) -> Strip:
    """A line as a strip of exactly `width` cells; `base` lies under every style. A character cut in two is a blank."""
    segments = [Segment(text, _style(style, base)) for text, style in line if text]
    size = sum(cell_len(text) for text, _, _ in segments)
    strip = Strip(segments, size)
    return strip if size == width else strip.adjust_cell_length(width, base)


def ground(widget: Widget) -> Style:
    """What lies under the lines of a widget: the theme's background, or the terminal's own."""
    if widget.app.native_ansi_color:
        return _NULL
    return Style(bgcolor=widget.background_colors[1].rich_color)


@lru_cache(maxsize=4096)
def _style(style: str, base: Style) -> Style:
    own = Style.parse(style)
    return base + own if base else own


class Depth(LineFilter):
    """Every colour as one of 256 or of 16. Entries of that palette stay what they are."""

    def __init__(self, depth: str) -> None:
        super().__init__()
        self._system = _SYSTEMS[depth]
        self._known: dict[Style | None, Style] = {}

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """The segments at this depth."""
        known = self._known
        return [
            Segment(text, known[style] if style in known else self._learn(style), control)
            for text, style, control in segments
        ]

    def _learn(self, style: Style | None) -> Style | None:
        if style is None:
            return None
        if len(self._known) > 4096:
            self._known.clear()
        face, ground = self._at_depth(style.color), self._at_depth(style.bgcolor)
        if face and ground and face == ground and _apart(style.color, style.bgcolor):  # text would vanish
            face = _DARK if sum(ground.get_truecolor()) > 3 * 127 else _LIGHT
        self._known[style] = shown = style + Style.from_color(face, ground)
        return shown

    def _at_depth(self, colour: RichColor | None) -> RichColor | None:
        if colour is None or colour.type is ColorType.DEFAULT:
            return colour
        reduced = colour.downgrade(self._system)
        assert reduced.number is not None, "every colour of a palette has a number"
        return RichColor.from_ansi(reduced.number)  # so that names do not tell equal colours apart


def _apart(face: RichColor | None, ground: RichColor | None) -> bool:
    """Whether one was meant to be read on the other."""
    if face is None or ground is None or face.is_default or ground.is_default:
        return False
    pairs = zip(face.get_truecolor(), ground.get_truecolor(), strict=True)
    return sum(abs(one - other) for one, other in pairs) > 3 * 40


class NoColours(LineFilter):
    """No colour at all, not even the default one; bold, dim, underline and reverse stay."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """The segments without colours."""
        return [Segment(text, _bare(style), control) for text, style, control in segments]


@lru_cache(maxsize=4096)
def _bare(style: Style | None) -> Style | None:
    return style and style.without_color


class AsciiOnly(LineFilter):
    """Nothing beyond ASCII in what is drawn, and where the terminal is not UTF-8 nothing in what is told either."""

    def __init__(self, everything: bool) -> None:
        super().__init__()
        self._everything = everything

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """The segments in ASCII."""
        return [Segment(ascii_text(text, self._everything), style, control) for text, style, control in segments]


def filters(terminal: Terminal) -> list[LineFilter]:
    """What every strip passes before it is written to this terminal."""
    chosen: list[LineFilter] = []
    if terminal.colour == "none":
        chosen.append(NoColours())
    elif terminal.colour in _SYSTEMS:
        chosen.append(Depth(terminal.colour))
    if terminal.glyphs == "ascii":
        chosen.append(AsciiOnly(not terminal.utf8))
    return chosen


class TerminalApp(App[None]):
    """An app that keeps to what its terminal can take. Run it with `run(mouse=app.terminal.mouse)`."""

    def __init__(self, terminal: Terminal, **options: Any) -> None:
        self.terminal = terminal
        self._line_filters = filters(terminal)
        self.crash: Exception | None = None
        """The program's own error that ended the view."""
        super().__init__(**options)
        # The terminal's own colours and ground, unless a theme is asked for: as one's shell looks, in fewer bytes.
        self.theme = f"ansi-{terminal.ground}"

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Ours, in place of textual's."""
        return self._line_filters

    def on_terminal_supports_synchronized_output(self, message: TerminalSupportsSynchronizedOutput) -> None:
        """Some terminals say that they can and break it."""
        if not self.terminal.synchronized:
            message.prevent_default()

    def get_driver_class(self) -> type[Driver]:
        """Ours; on Windows textual's own."""
        base = super().get_driver_class()
        if WINDOWS:  # pragma: no cover
            return base
        from tdiff.tui.driver import ViewDriver

        return ViewDriver

    def run(self, **options: Any) -> None:
        """Run until the user leaves. Signals then do what they did before."""
        try:
            super().run(**options)
        finally:
            if end := getattr(self._driver, "end", None):
                end()

    def suspending(self) -> None:
        """The process is about to stop, by Ctrl+Z or by a signal from elsewhere; may be called twice."""

    def action_suspend_process(self) -> None:
        """Stop as in a shell."""
        self.suspending()
        super().action_suspend_process()

    def hang_up(self) -> None:
        """Leave at once: the terminal has gone, or the program was told to end."""
        self.exit()

    def _handle_exception(self, error: Exception) -> None:
        """Leave after an error of the program's own; the first one is kept in `crash`."""
        if self.is_headless:  # tests see it themselves
            super()._handle_exception(error)
            return
        self._return_code = 1
        if self._exception is None:
            self._exception = error
            self._exception_event.set()
        self.crash = self.crash or error
        self._close_messages_no_wait()

    def draw_anew(self) -> None:
        """Draw every cell, as if nothing were there."""
        for widget in self.screen.walk_children():
            if lose := getattr(widget, "lose", None):
                lose()
            widget.refresh()
        self.screen.refresh(layout=True)

    def copy_to_clipboard(self, text: str) -> None:
        """Put text on the clipboard of the terminal one sits at, through screen and tmux too."""
        self._clipboard = text
        if self._driver is not None:
            self._driver.write(clipboard(self.terminal, text))
