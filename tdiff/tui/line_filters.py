"""Filters that reduce what is drawn to the colours and characters of a terminal.

This is the one place where the colour depth is enforced: every strip of every widget passes these filters, so that no
theme, style sheet or widget of textual can write a code of another depth. They replace textual's own filters, which
turn palette entries into 24-bit colours, and write grey ones under NO_COLOR.
"""

from __future__ import annotations

from functools import lru_cache

from rich.color import Color as RichColor
from rich.color import ColorSystem, ColorType
from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.filter import LineFilter

from tdiff.draw.ascii_only import ascii_text
from tdiff.terminal.detect import Terminal

_SYSTEMS = {"256": ColorSystem.EIGHT_BIT, "16": ColorSystem.STANDARD}
_LIGHT, _DARK = RichColor.from_ansi(15), RichColor.from_ansi(0)


class Depth(LineFilter):
    """Reduces every colour to one of 256 or of 16. Colours of that palette stay unchanged."""

    def __init__(self, depth: str) -> None:
        super().__init__()
        self._system = _SYSTEMS[depth]
        self._known: dict[Style | None, Style] = {}

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """The segments at this colour depth."""
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
        foreground, background = self._at_depth(style.color), self._at_depth(style.bgcolor)
        if foreground and foreground == background and _apart(style.color, style.bgcolor):  # invisible text
            foreground = _DARK if sum(foreground.get_truecolor()) > 3 * 127 else _LIGHT
        self._known[style] = shown = style + Style.from_color(foreground, background)
        return shown

    def _at_depth(self, colour: RichColor | None) -> RichColor | None:
        if colour is None or colour.type is ColorType.DEFAULT:
            return colour
        reduced = colour.downgrade(self._system)
        assert reduced.number is not None, "a colour of a palette has a number"
        return RichColor.from_ansi(reduced.number)  # without a name, so that equal colours compare equal


def _apart(foreground: RichColor | None, background: RichColor | None) -> bool:
    """Whether the original colours differ enough for text to be readable."""
    if foreground is None or background is None or foreground.is_default or background.is_default:
        return False
    pairs = zip(foreground.get_truecolor(), background.get_truecolor(), strict=True)
    return sum(abs(first - second) for first, second in pairs) > 3 * 40


class NoColours(LineFilter):
    """Removes all colours, also the default one; bold, dim, underline and reverse stay."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """The segments without colours."""
        return [Segment(text, _bare(style), control) for text, style, control in segments]


@lru_cache(maxsize=4096)
def _bare(style: Style | None) -> Style | None:
    return style and style.without_color


class AsciiOnly(LineFilter):
    """Replaces drawn characters by ASCII; with `everything` also the text, for a terminal that is not UTF-8."""

    def __init__(self, everything: bool) -> None:
        super().__init__()
        self._everything = everything

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """The segments in ASCII."""
        return [Segment(ascii_text(text, self._everything), style, control) for text, style, control in segments]


def filters(terminal: Terminal) -> list[LineFilter]:
    """The filters for every strip that is written to this terminal."""
    line_filters: list[LineFilter] = []
    if terminal.colour == "none":
        line_filters.append(NoColours())
    elif terminal.colour in _SYSTEMS:
        line_filters.append(Depth(terminal.colour))
    if terminal.glyphs == "ascii":
        line_filters.append(AsciiOnly(not terminal.utf8))
    return line_filters
