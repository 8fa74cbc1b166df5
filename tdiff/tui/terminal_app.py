"""An app that writes no more than its terminal can take, stops like a shell job and leaves with its terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from textual.driver import Driver
from textual.filter import LineFilter
from textual.messages import TerminalSupportsSynchronizedOutput

from tdiff.terminal.detect import Terminal, clipboard_sequence
from tdiff.tui.line_filters import filters
from tdiff.tui.typed_keys import TypedKeysApp

WINDOWS = sys.platform == "win32"


class TerminalApp(TypedKeysApp):
    """An app that uses only what its terminal supports. Run it with `run(mouse=app.terminal.mouse)`."""

    def __init__(self, terminal: Terminal, **options: Any) -> None:
        self.terminal = terminal
        self._line_filters = filters(terminal)
        self.crash: Exception | None = None
        """The internal error that ended the view."""
        super().__init__(**options)
        # The terminal's own colours and background unless the user sets a theme: as in the shell, and in fewer bytes.
        self.theme = f"ansi-{terminal.background}"

    def get_line_filters(self) -> Sequence[LineFilter]:
        """The filters for this terminal, in place of textual's."""
        return self._line_filters

    def on_terminal_supports_synchronized_output(self, message: TerminalSupportsSynchronizedOutput) -> None:
        """Ignore the report of a terminal that does not do it right."""
        if not self.terminal.synchronized:
            message.prevent_default()

    def get_driver_class(self) -> type[Driver]:
        """`ViewDriver`; on Windows textual's driver."""
        base = super().get_driver_class()
        if WINDOWS:  # pragma: no cover
            return base
        from tdiff.tui.driver import ViewDriver

        return ViewDriver

    def run(self, **options: Any) -> None:
        """Run until the user quits. Afterwards signals have their default effects."""
        try:
            super().run(**options)
        finally:
            if end := getattr(self._driver, "end", None):
                end()

    def suspending(self) -> None:
        """The process is about to stop, by Ctrl+Z or by a signal from elsewhere; may be called twice."""

    def action_suspend_process(self) -> None:
        """Suspend, as in a shell."""
        self.suspending()
        super().action_suspend_process()

    def hang_up(self) -> None:
        """Leave at once: the terminal has closed, or a signal ends the program."""
        self.exit()

    def report_error(self, error: Exception) -> None:
        """Leave after an internal error; the first one is saved in `crash`."""
        self._handle_exception(error)

    def _handle_exception(self, error: Exception) -> None:
        """Leave after an internal error; the first one is saved in `crash`."""
        if self.is_headless:  # tests report it themselves
            super()._handle_exception(error)
            return
        self._return_code = 1
        if self._exception is None:
            self._exception = error
            self._exception_event.set()
        self.crash = self.crash or error
        self._close_messages_no_wait()

    def redraw_screen(self) -> None:
        """Draw every cell, as on an empty screen."""
        for widget in self.screen.walk_children():
            if lose := getattr(widget, "lose", None):
                lose()
            widget.refresh()
        self.screen.refresh(layout=True)

    def write(self, sequence: str) -> None:
        """Send a sequence to the terminal while the app uses it. From any thread."""
        if sequence and self._driver is not None:
            self._driver.write(sequence)

    def copy_to_clipboard(self, text: str) -> None:
        """Put text on the clipboard of the user's terminal, also through screen and tmux."""
        self._clipboard = text
        if self._driver is not None:
            self._driver.write(clipboard_sequence(self.terminal, text))
