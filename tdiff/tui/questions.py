"""What is asked in the asked line: a prompt, a text to find, a metric; and the keys that ask it.

It says what is wanted and where the answer goes. The line itself is `ask`; whoever has it is the app.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tdiff.tui import status
from tdiff.tui.keys import KEYS, names_of

if TYPE_CHECKING:
    from tdiff.tui.app import WatchApp

RESTART = next(key for key in KEYS if key.id == "restart")


class Questions:
    """The questions of an app."""

    def __init__(self, app: WatchApp) -> None:
        self._app = app
        self._by_key: dict[str, Callable[[], None]] = {
            "prompt": self.prompt,
            "filter": self.metric,
            "find": self.find,
            "palette": app.action_palette,
        }

    def opens(self, pressed: str) -> bool:
        """Ask at once where a key of the focused pane asks something; whether it does."""
        pane = self._app.focused_pane()
        if pane is None or self._app.screen is not pane.screen:
            return False
        for key in KEYS:
            asked = key.id in self._by_key and key.where in (pane.where, "app")
            if asked and pressed in names_of(self._app.liked.keys.get(key.id, key.keys)):
                self._app.on_key()
                self._by_key[key.id]()
                return True
        return False

    def prompt(self) -> None:
        """What the next text goes on from."""
        live = self._app.live
        if live is None or live.state == "off":
            ascii = self._app.terminal.glyphs == "ascii"
            key = status.first_name(RESTART, self._app.liked.keys, ascii=ascii)
            self._app.say("there is no model's process" + (f"; {key} starts one" if live is not None else ""))
            return
        said = (live.prompt or "").replace("\n", "\\n")
        what, whose = "prompt", "the model's"
        if len(self._app.writings) > 1:
            what, whose = "prompt of both", "the first model's"
        what = f"{what} (\\n is a new line; empty: {whose} own openings)"
        self._app.ask_for(what, said, self._app.set_prompt)

    def find(self) -> None:
        """What to find in the log."""
        self._app.ask_for("find", "", self._app.log_pane.find)

    def metric(self) -> None:
        """Which metrics to show."""
        self._app.ask_for("metric (a part of its name; empty: the loss)", "", self._app.training.choose)
