"""A canvas drawn in one call, as the tests compare it."""

from tdiff.draw.canvas_layout import CanvasLayout, lay_out
from tdiff.draw.palettes import Theme
from tdiff.draw.render import DEFAULT_THEME, Line, drawn_texts, row_line
from tdiff.protocol.canvas import Canvas


def canvas_lines(
    canvas: Canvas, width: int, theme: Theme = DEFAULT_THEME, laid: CanvasLayout | None = None
) -> list[Line]:
    """The canvas, broken at line feeds and at `width` cells; `laid` is its layout if the caller has it."""
    laid = laid or lay_out(drawn_texts(canvas, theme), width)
    return [row_line(canvas, row, theme) for row in laid.rows]
