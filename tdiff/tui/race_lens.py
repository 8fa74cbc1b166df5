"""The lens of a race: a cursor on one position of all texts, and branches of the selected text beside it."""

from __future__ import annotations

from abc import abstractmethod

from textual.screen import ModalScreen

from tdiff.errors import TdiffError
from tdiff.tui.panes.lane import LanePane
from tdiff.tui.panes.looking import question_of_text
from tdiff.tui.selection import Selection
from tdiff.tui.widgets.abstract import AbstractWidgetMeta
from tdiff.tui.widgets.question_line import QuestionLine
from tdiff.watch.generation.branches import Change
from tdiff.watch.generation.lane import Lane
from tdiff.watch.generation.race import AXES, Race


class RaceLens(ModalScreen[None], metaclass=AbstractWidgetMeta):
    """Texts beside each other, of which the user looks at positions, selects some, and changes them."""

    AUTO_FOCUS = ""  # the line of text has the focus only while it asks
    race: Race

    def __init__(self) -> None:
        super().__init__()
        self.axis = AXES[0]
        """What all texts are in step by."""
        self.point = 0.0
        """The point of the axis that is shown."""
        self.following = True
        """Whether the newest point is shown as it is reached."""
        self.panes: list[LanePane] = []
        """A pane for each text."""
        self._batch = False  # whether the texts are of one batch
        self._chosen, self._note = 0, ""
        self._zoomed = False  # whether the selected text is shown alone
        self.selection = Selection()
        """The cursor, which is in every text, and the selected positions of the selected text."""
        self._ask = QuestionLine(id="race-ask")

    @abstractmethod
    def draw(self) -> None:
        """Draw all texts at this point."""

    @abstractmethod
    def fit_panes(self) -> None:
        """Show a pane for each text, after texts came or went."""

    @abstractmethod
    def action_select(self, count: int) -> None:
        """Select another text."""

    @abstractmethod
    def action_live(self) -> None:
        """Go to the live edge."""

    @property
    def _lane(self) -> Lane:
        return self.race.lanes[self._chosen]

    def difference(self, lane: Lane) -> int | None:
        """The first position at which a text differs from the first of the race, or from the one that it continues."""
        comparable = lane.parent is not None or not self._batch
        return self.race.difference(lane, self.axis, self.point) if comparable else None

    # The cursor

    def takes_key(self, pressed: str) -> bool:
        """While the cursor is on, the arrows move it; h and l still step. Whether the key did."""
        if self.selection.cursor is None or self._ask.display:
            return False
        pane = self.panes[self._chosen]
        if pressed == "escape":
            self.look_at(None)
        elif pressed in ("left", "right"):
            self.look_at(self.selection.cursor + (1 if pressed == "right" else -1))
        elif pressed in ("up", "down"):
            self.look_at(pane.beside(self.selection.cursor, 1 if pressed == "down" else -1))
        else:
            return False
        return True

    def look_at(self, position: int | None) -> None:
        """Put the cursor on a position of every text, the nearest of the selected one; None: remove it."""
        recording = self._lane.recording
        cells = recording.header.cells if recording is not None else 0
        self.selection.move(position, cells)
        self.draw()
        for pane in self.panes:
            if self.selection.cursor is not None:
                pane.reveal(self.selection.cursor)

    def action_lens(self) -> None:
        """Show the cursor where a text first differs or was changed last, or remove it."""
        lane = self._lane
        if self.selection.cursor is not None or lane.recording is None:
            self.look_at(None)
            return
        difference = self.difference(lane)
        canvas = lane.recording.canvas(lane.at(self.axis, self.point))
        first = min(canvas.fresh, default=len(lane.recording.header.given))
        self.look_at(first if difference is None else difference)

    def on_lane_pane_looked(self, message: LanePane.Looked) -> None:
        """Look at the position under the mouse, and select its text; the same one again removes the cursor.

        Dragging the mouse selects positions.
        """
        chosen = self.panes.index(message.pane)
        if message.dragged and chosen == self._chosen:
            self.selection.begin()
            self.look_at(message.position)
        elif not message.dragged:
            same = message.position == self.selection.cursor and chosen == self._chosen
            self.action_select(chosen - self._chosen)
            self.look_at(None if same else message.position)

    # Branches

    def action_mark(self) -> None:
        """Begin a selection at the cursor, or end it."""
        if self.selection.anchor is not None:
            self.end_selection()
        else:
            if self.selection.cursor is None:
                self.action_lens()
            self.selection.begin()
        self.draw()

    def end_selection(self) -> None:
        """Select nothing."""
        self.selection.end()

    def action_remask(self) -> None:
        """Remask what is selected in the selected text, and continue as a branch beside it."""
        if self.selection.positions:
            self._fork(Change(remask=self.selection.positions))
        else:
            self.action_mark()

    def action_edit(self) -> None:
        """Write over what is selected in the selected text, and continue as a branch beside it."""
        lane = self._lane
        if not self.selection.positions or lane.recording is None:
            self.action_mark()
            return
        step = lane.at(self.axis, self.point)
        facts = self.panes[self._chosen].lens.facts(lane.recording, step)
        canvas = lane.recording.canvas(step)
        self._ask.put(question_of_text(self.selection.positions, canvas, facts, self._fork), None)
        self.draw()

    def on_input_blurred(self) -> None:
        """The question is answered, or the user has left it."""
        self.call_after_refresh(self.draw)

    def say(self, text: str) -> None:
        """Show a notice until the next key that moves."""
        self._note = text
        self.draw()

    def _fork(self, change: Change) -> None:
        """Continue the selected text as a branch, which is selected and shown as it is generated."""
        lane = self._lane
        try:
            branch, notice = self.race.fork(lane, lane.at(self.axis, self.point), change)
        except TdiffError as why:
            self.say(str(why))
            return
        self.end_selection()
        self._zoomed = False
        self.fit_panes()
        self.action_select(self.race.lanes.index(branch) - self._chosen)
        self.action_live()
        self.say(notice)

    def action_undo(self) -> None:
        """Remove the selected branch, and select the text that it continues."""
        lane = self._lane
        if lane.parent is None:
            self.say(f"{lane.letter} is no branch: v selects positions, then m remasks and e edits them")
            return
        self.race.remove(lane)
        self.point = min(self.point, self.race.end(self.axis))
        self._zoomed = False
        self.fit_panes()
        self.action_select(self.race.lanes.index(lane.parent) - self._chosen)
