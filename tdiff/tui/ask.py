"""The line in which a prompt, a search or a part of a metric's name is typed."""

from __future__ import annotations

from textual.binding import Binding
from textual.message import Message
from textual.widgets import Input


class Ask(Input):
    """A line of text that is asked for, in place of the panes' keys."""

    BINDINGS = [Binding("escape,ctrl+g", "leave", "leave it as it was", show=False)]  # noqa: RUF012

    class Left(Message):
        """It was left without an answer."""

    def action_leave(self) -> None:
        """Leave everything as it was."""
        self.post_message(self.Left())
