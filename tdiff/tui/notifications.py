"""Notifies the user of news about the watched runs: title, bell or desktop notification, and a command."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from tdiff.terminal import notify
from tdiff.terminal.detect import Terminal
from tdiff.watch.alerts import Notice
from tdiff.watch.follow import Watched
from tdiff.watch.notify import AlertCommand, News

QUIET = frozenset({"spike", "restart"})
"""Kinds of alerts that run the command, and do not call the user."""


class Notifications:
    """Decides what is news, and sends it."""

    def __init__(self, terminal: Terminal, mode: str, command: str, write: Callable[[str], None]) -> None:
        """`mode` is one of `notify.MODES`; `command` may be empty; `write` sends a sequence, from any thread."""
        self._terminal, self._mode, self._write = terminal, mode, write
        self._command = AlertCommand(command) if command else None
        self._news = News()
        self._title_saved = False

    def take(self, watched: Watched, notices: Sequence[Notice], now: float) -> None:
        """Take in the newest notices of a source. Never waits."""
        if self._command is None and self._mode == "off":
            return
        current = not watched.behind and watched.filling is None and watched.status().current
        for alert in self._news.take(watched, watched.run_state, notices, now, current=current):
            if self._command is not None:
                self._command.run(alert)
            if alert.kind not in QUIET and self._mode != "off":
                self._set_title(f"{alert.run}: {alert.text if alert.kind == 'ended' else alert.kind}")
                text = f"tdiff: {alert}"
                if self._mode == "desktop" and self._terminal.program == "tmux":  # tmux is asked, which takes time
                    threading.Thread(target=self._notify, args=(text,), daemon=True, name="notify").start()
                else:
                    self._notify(text)

    def failures(self) -> list[str]:
        """What has gone wrong with the command since the last call, a line each, safe to print."""
        return self._command.failures() if self._command is not None else []

    @property
    def restoration(self) -> str:
        """What to write after the view has left the terminal."""
        return notify.title_restored(self._terminal) if self._title_saved else ""

    def _notify(self, text: str) -> None:
        self._write(notify.notification(self._terminal, text, self._mode))

    def _set_title(self, text: str) -> None:
        if sequence := notify.title(self._terminal, text):
            self._write(sequence if self._title_saved else notify.title_saved(self._terminal) + sequence)
            self._title_saved = True
