"""Lines as textual strips, on the background of the widget that shows them."""

from __future__ import annotations

from functools import lru_cache

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip
from textual.widget import Widget

from tdiff.draw.render import Line

_NULL = Style.null()


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
