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
    """A line as a strip of exactly `width` cells; `base` is under every style. Half a wide character is a blank."""
    segments = [Segment(text, _style(style, base)) for text, style in line if text]
    size = sum(cell_len(text) for text, _, _ in segments)
    strip = Strip(segments, size)
    return strip if size == width else strip.adjust_cell_length(width, base)


def base_style(widget: Widget) -> Style:
    """The style under the lines of a widget: the colours of the theme, or the terminal's.

    Text without a colour needs that of the theme: the terminal's may have no contrast to the theme's background.
    """
    if widget.app.native_ansi_color:
        return _NULL
    _, _, background, foreground = widget.colors
    return Style(color=foreground.rich_color, bgcolor=background.rich_color)


@lru_cache(maxsize=4096)
def _style(style: str, base: Style) -> Style:
    parsed = Style.parse(style)
    return base + parsed if base else parsed
