"""The chart as a widget: it is drawn on request and when its size changes, and reports where the mouse is."""

from __future__ import annotations

from collections.abc import Callable

from textual import events

from tdiff.draw.render import Line
from tdiff.tui.widgets.lines import Lines


class CurvesView(Lines):
    """The rows of the chart."""

    DEFAULT_CSS = "CurvesView { height: 1fr; }"

    def __init__(
        self,
        draw: Callable[[int, int], list[Line]],
        point: Callable[[int | None], None],
        wheel: Callable[[int, int], None],
    ) -> None:
        """`draw` returns the lines for a width and a height.

        `point` takes the column of the mouse, None once it leaves; `wheel` takes the column and the notches upwards.
        """
        super().__init__(id="curves")
        self._draw, self._point, self._wheel = draw, point, wheel

    def redraw(self) -> None:
        """Draw the changed rows."""
        width, height = self.size
        self.show(self._draw(width, height) if width > 0 and height > 0 else [])

    def on_resize(self) -> None:
        """Draw the chart for another size."""
        self.redraw()

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """Report the column."""
        self._point(event.x)

    def on_leave(self) -> None:
        """The mouse is elsewhere."""
        self._point(None)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """Report a notch of the wheel."""
        event.stop()
        self._wheel(event.x, 1)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """Report a notch of the wheel."""
        event.stop()
        self._wheel(event.x, -1)
