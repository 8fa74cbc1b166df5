"""The lines around the panes as widgets: the runs above; below, what happened last, what has no room, and the keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tdiff.draw.render import Line
from tdiff.terminal.detect import Terminal
from tdiff.tui import status_text
from tdiff.tui.arranger import Arranger
from tdiff.tui.canvases import Canvases
from tdiff.tui.key import first_name
from tdiff.tui.key_table import RESTART
from tdiff.tui.layout import Arrangement
from tdiff.tui.panes.base import Pane
from tdiff.tui.panes.training import TrainingPane
from tdiff.tui.widgets.lines import Lines
from tdiff.tui.widgets.question_line import ASKING, KEYS_OF_ASKING, QuestionLine
from tdiff.tui.widgets.search_box import SearchBox
from tdiff.visible import visible_line
from tdiff.watch.follow import Watched

_NOTE_SECONDS = 8.0
"""Seconds for which a notice stays."""


class StatusLines:
    """Draws four lines; it has no timer."""

    def __init__(
        self,
        watched: list[Watched],
        terminal: Terminal,
        changed_keys: Mapping[str, str],
        arranger: Arranger,
        canvases: Canvases,
        training: TrainingPane,
        clock: Callable[[], float],
    ) -> None:
        """`changed_keys` (id -> keys) are the user's own; `clock` gives seconds since the epoch."""
        self._watched, self._terminal, self._changed_keys = watched, terminal, changed_keys
        self._arranger, self._canvases, self._training, self._clock = arranger, canvases, training, clock
        self.top, self.bottom, self.hints = Lines(id="top"), Lines(id="bottom"), Lines(id="hints")
        self.summary = Lines(id="summary")
        self.ask = QuestionLine(id="ask")
        self.boxes: Sequence[SearchBox[Any]] = ()
        """The boxes that may lie over the panes."""
        self._note, self._noted = "", 0.0
        self.news: Sequence[str] = ()
        """What happened while the user was away."""

    def note(self, text: str) -> None:
        """Show a notice for some seconds, or until the next key."""
        self._note, self._noted = visible_line(text), self._clock()

    def clear(self) -> None:
        """Drop the notice and the news."""
        self._note, self.news = "", ()

    def arrange(self, arrangement: Arrangement) -> None:
        """Display the lines that have room."""
        self.summary.display, self.bottom.display = arrangement.summary, arrangement.bottom
        self.hints.display = arrangement.hints

    def draw(self, now: float, *, aged: bool = True) -> None:
        """Draw the lines; without ages (`aged`) where they stay on the screen while nothing is drawn."""
        size = self._arranger.situation
        width, ascii = size.width, self._terminal.glyphs == "ascii"
        runs = [run.run_state for run in self._watched]
        above = status_text.above(self._watched, self._terminal, now, width, aged=aged)
        fits = bool(self._arranger.displayed)
        self.top.show([above if fits else status_text.too_small(width, size.height, above)])
        message, overflow = status_text.below(self._message(), runs, width)
        self.bottom.show([message])
        self.summary.show([self._in_a_line(now, width)])
        # What does not fit into the line above replaces the hints.
        pane = self._arranger.focused
        self.hints.show([overflow or self._hints(pane, width, ascii)])
        self._canvases.describe(now, runs)

    def _hints(self, pane: Pane | None, width: int, ascii: bool) -> Line:
        """The keys that act now: those of a question, of a box over the panes, of what a pane does, or of a pane."""
        box = next((box for box in self.boxes if box.display), None)
        own = ASKING if self.ask.display else box.HINTS if box is not None else pane.hints if pane is not None else ()
        if own:
            return status_text.own_hints(own, self._changed_keys, width, ascii=ascii)
        return status_text.hints(pane.where if pane else "", self._changed_keys, width, ascii=ascii)

    def _in_a_line(self, now: float, width: int) -> Line:
        """A pane that has no room, in a line."""
        runs, situation = [run.run_state for run in self._watched], self._arranger.situation
        controllers = self._canvases.controllers
        hidden = [controller for controller in controllers if not controller.pane.display]
        if situation.only_curves and self._training.display:
            return [(" log ", "dim"), (runs[0].log[-1] if runs[0].log else "", "")]
        if hidden and not situation.only_curves:
            if len(controllers) == 1:
                return [(" generation ", "dim"), (self._canvases.pane.in_a_line(), "")]
            if not (situation.only_traces and self._canvases.pane.display):
                parts = (part for controller in hidden for part in controller.in_a_line(len(hidden) == 1))
                return [(" not shown:", "dim"), *parts]
        return status_text.training_in_a_line(runs[0], self._training.smoothing, now, width) if runs else []

    def _message(self) -> Line:
        """What precedes the newest alert: a question, a notice, a process that has ended, the news."""
        if self.ask.display:
            words = self.ask.placeholder
            return [(f" {words.partition(KEYS_OF_ASKING)[0] if self.hints.display else words}", "")]
        if self._note and self._clock() - self._noted < _NOTE_SECONDS:
            return [(f" {self._note}", "")]
        controllers = self._canvases.controllers
        dead = [controller for controller in controllers if controller.dead]
        troubles = " · ".join(controller.trouble for controller in controllers if controller.trouble)
        if dead:
            names = "the model" if len(controllers) == 1 else " and ".join(controller.name for controller in dead)
            return [(f" {self.restart_key} starts {names} again", "bold"), (f" · {troubles}", "")]
        if troubles:
            return [(f" {troubles}", "bold")]
        if self.news:
            return [(" " + " · ".join(self.news), "bold")]
        return [(f" {self._terminal.remedy}", "")] if self._terminal.remedy else []

    @property
    def restart_key(self) -> str:
        """The key that starts the model's process again, as a person reads it."""
        return first_name(RESTART, self._changed_keys, ascii=self._terminal.glyphs == "ascii")
