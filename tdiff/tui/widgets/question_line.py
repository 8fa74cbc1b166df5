"""The line for a prompt, a search, or a part of a metric's name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from textual import events
from textual.binding import Binding
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Input

from tdiff.errors import TdiffError

ASKING = (("enter", "accept"), ("esc", "cancel"), ("←→", "move"), ("ctrl+u", "delete to the beginning"))
"""The keys while a question is open, and what they do."""
KEYS_OF_ASKING = " · enter accepts, esc or ctrl+g cancels"
"""The same in words behind a question."""


@dataclass(frozen=True, slots=True)
class Question:
    """A line of text that the user is asked for."""

    text: str
    """What is asked for."""
    answer: Callable[[str], None]
    """Takes the answer, and may raise TdiffError."""
    value: str = ""
    """What the line contains at first."""


class QuestionLine(Input):
    """A line of text that replaces the panes' keys. It is displayed only while a question is open."""

    BINDINGS = [Binding("escape,ctrl+g,ctrl+c", "leave", "cancel", show=False)]  # noqa: RUF012

    class Refused(Message):
        """The answer is not accepted; `why` says the reason."""

        def __init__(self, why: str) -> None:
            super().__init__()
            self.why = why

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id, compact=True)
        self.display = False
        self._then: Callable[[str], None] | None = None
        self._back_to: Widget | None = None

    def put(self, question: Question, back_to: Widget | None) -> None:
        """Ask a question; the focus goes to `back_to` afterwards."""
        self._then, self._back_to = question.answer, back_to
        self.value, self.placeholder = question.value, question.text + KEYS_OF_ASKING
        self.display = True
        self.screen.set_focus(self)

    def _on_paste(self, event: events.Paste) -> None:
        """Join several lines with backslash and n: the input would use only the first."""
        event.prevent_default()
        event.stop()
        self.insert_text_at_cursor("\\n".join(event.text.rstrip("\n").splitlines()))

    def on_input_submitted(self, message: Input.Submitted) -> None:
        """Accept the answer."""
        self._close(message.value)

    def on_input_blurred(self) -> None:
        """Cancel when another pane gets the focus, but not when another window does."""
        if self.app.app_focus:
            self._close(None, back=False)

    def action_leave(self) -> None:
        """Cancel the question."""
        self._close(None)

    def _close(self, text: str | None, back: bool = True) -> None:
        then, self._then = self._then, None
        if then is None:
            return
        self.display = False
        if back:
            self.screen.set_focus(self._back_to)
        if text is None:
            return
        try:
            then(text)
        except TdiffError as why:
            self.post_message(self.Refused(str(why)))
