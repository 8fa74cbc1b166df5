"""The GPU pane: a row for each GPU of the runs' hosts, and the processes of the runs; `gpu_lines` makes its lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from textual.widget import Widget

from tdiff.draw.palettes import Theme
from tdiff.tui.key import Key, bindings
from tdiff.tui.panes.base import Pane, Scene
from tdiff.tui.widgets.lines import Lines, clip

if TYPE_CHECKING:
    from tdiff.watch.devices.reading import Devices


class GpusView(Lines):
    """The rows that are in view."""

    DEFAULT_CSS = "GpusView { height: 1fr; }"


class GpusPane(Pane):
    """The GPUs of all hosts, with the newest reading of each."""

    KEYS = (
        Key("gpus_up", "up,k", "scroll up one line", "gpus", "", "scroll_gpus(-1)"),
        Key("gpus_down", "down,j", "scroll down one line", "gpus", "", "scroll_gpus(1)"),
    )
    BINDINGS = bindings(KEYS)  # type: ignore[assignment]
    DEFAULT_CSS = "GpusView { padding: 0 1; }"

    def __init__(self, theme: Theme, *, id: str = "gpus") -> None:
        super().__init__(theme, id=id)
        self._view = GpusView(id="gpu-lines")
        self._hosts: Sequence[Devices] = ()
        self._now = 0.0
        self._top = 0

    def body(self) -> list[Widget]:
        """The rows."""
        return [self._view]

    def show_scene(self, scene: Scene) -> None:
        """Show the GPUs of all hosts."""
        self._hosts, self._now = scene.hosts, scene.now
        if self.display:
            self._draw()

    def set_theme(self, theme: Theme) -> None:
        """Draw with another theme from now on."""
        super().set_theme(theme)
        self._draw()

    def on_resize(self) -> None:
        """Draw for another size."""
        self._draw()

    def action_scroll_gpus(self, rows: int) -> None:
        """Scroll down by so many rows; up where negative."""
        self._top += rows
        self._draw()

    def _draw(self) -> None:
        if not (self.is_mounted and self.display):
            return
        from tdiff.tui import gpu_lines  # a hidden pane, as the first frame mostly has it, loads nothing

        width, height = max(1, self.size.width - 4), self._view.size.height
        rows = 1 if self._window_rows < 2 * sum(len(host.gpus) for host in self._hosts) + 4 else 2
        lines = gpu_lines.device_lines(self._hosts, self._now, width, self.theme, histories=rows == 2)
        # It shares a column: what it does not need belongs to the others.
        self.styles.max_height = max(4, len(lines) + 2) if self._shares else None
        self._top = min(max(0, self._top), max(0, len(lines) - max(1, height)))
        self._view.show([clip(line, width) for line in lines[self._top : self._top + max(0, height)]])
        below = len(lines) - self._top - height
        more = f"{below} more below" if below > 0 else f"{self._top} more above" if self._top else ""
        marked = any(process.pid in host.pids for host in self._hosts for gpu in host.gpus for process in gpu.processes)
        self.frame(
            [(gpu_lines.title(self._hosts), "")],
            [(sources, "")] if (sources := gpu_lines.sources(self._hosts, self._now)) else [],
            [(f"{gpu_lines.MARK} a process of the run", "")] if marked else [],
            [(more, "")] if more else [],
        )

    @property
    def _shares(self) -> bool:
        """Whether another pane is displayed beside it in the same column."""
        return self.parent is not None and any(other.display for other in self.siblings if isinstance(other, Widget))

    @property
    def _window_rows(self) -> int:
        """Rows that it may use."""
        column = self.parent
        rows = column.size.height if isinstance(column, Widget) else self.size.height
        others = sum(other.display for other in self.siblings if isinstance(other, Widget))
        return rows // (1 + others)
