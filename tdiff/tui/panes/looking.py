"""A pane in which a user looks at positions of a canvas, selects some, and changes them to continue as a branch."""

from __future__ import annotations

from abc import abstractmethod
from bisect import bisect_right
from collections.abc import Callable

from textual.message import Message

from tdiff.draw.lens import Facts, in_a_line
from tdiff.draw.overlay import NOTHING, Overlay
from tdiff.draw.palettes import Theme
from tdiff.draw.render import Line
from tdiff.protocol.canvas import MASKED, Canvas
from tdiff.protocol.trace import TraceEnd
from tdiff.tui.key import Key
from tdiff.tui.panes.base import Hints, Pane
from tdiff.tui.panes.lens import NO_DETAIL, Lens
from tdiff.tui.widgets.canvas import CanvasView
from tdiff.tui.widgets.lines import Lines, line_width, two_ends
from tdiff.tui.widgets.question_line import Question
from tdiff.watch.generation.branches import Change, Node, first_difference
from tdiff.watch.generation.ending import up_to_end
from tdiff.watch.generation.recording import Recording

LOOKING_KEYS = (
    Key("cursor", "c", "look at a position; arrows move, h and l step", "generation", "lens"),
    Key("drafts", "D", "show or hide the best guess of each mask", "generation"),
    Key("colour_mode", "o", "colour by confidence, entropy, margin, step, rank", "generation"),
    Key("select", "v", "select from the cursor on, or end the selection", "generation"),
    Key("remask", "m", "remask the selection; continue as a branch", "generation"),
    Key("edit", "e", "write over the selection; continue as a branch", "generation", opens_line=True),
    Key("undo", "u", "back from a branch to the text it continues", "generation"),
    Key("next_branch", "b", "the next branch", "generation"),
)
"""The keys of a pane in which positions can be looked at."""
_ARROWS = ("←→↑↓", "move")
_LOOKING: Hints = (
    _ARROWS,
    ("enter", "force"),
    ("select", "select"),
    ("remask", "remask"),
    ("edit", "edit"),
    ("cursor", "off"),
    ("drafts", "drafts"),
    ("colour_mode", "colours"),
    ("undo", "undo"),
    ("next_branch", "branch"),
)
_SELECTING: Hints = (_ARROWS, ("remask", "remask"), ("edit", "edit"), ("select", "select nothing"), ("esc", "close"))
_CHOOSING: Hints = (("↑↓", "alternative"), ("enter", "force it"), ("esc", "back"))


_OTHER_ROWS = 4
"""Rows of a pane besides its texts: the frame, the legend and the line of steps."""
_ROWS_FOR_BOTH, _ROWS_FOR_RULE = 7, 3
"""Rows from which a branch has the text that it continues above it, and a line that names that text."""


class LookingPane(Pane):
    """A canvas with a lens, and with the text that it continues above it."""

    class Branch(Message):
        """The user has changed the text that is shown, and wants it to continue from there."""

        def __init__(self, pane: LookingPane, change: Change) -> None:
            super().__init__()
            self.pane, self.change = pane, change

    class Walk(Message):
        """The user goes back from a branch (`undo`), or to the next one."""

        def __init__(self, pane: LookingPane, undo: bool) -> None:
            super().__init__()
            self.pane, self.undo = pane, undo

    class Refused(Message):
        """A key cannot do here what it does elsewhere; `why` says the reason."""

        def __init__(self, why: str) -> None:
            super().__init__()
            self.why = why

    def __init__(self, theme: Theme, *, id: str, where: str = "") -> None:
        super().__init__(theme, id=id, where=where)
        self.recording: Recording | None = None
        """What is shown."""
        self.at = 0
        """Steps of the recording that are shown."""
        self.node: Node | None = None
        """The place of the recording in a tree of branches; None where it is in none."""
        self.lens = Lens()
        """The cursor, the drafts and the meaning of the colours."""
        self._text_of: tuple[Recording, TraceEnd | None, Recording] | None = None
        self._tried: tuple[frozenset[int], str] | None = None  # the positions and text of the last edit
        self._canvas_view = CanvasView(theme)
        self._parent_view = CanvasView(theme)
        self._rule = Lines(id="rule")
        self._below = Lines(id="below")  # what is known about the cursor's position, and about the order
        self._parent_view.display = self._rule.display = False

    @property
    def text_of(self) -> Recording:
        """What is shown, without the positions after the end of its text."""
        assert self.recording is not None
        known, ended, cut = self._text_of or (None, None, self.recording)
        if known is not self.recording or ended is not self.recording.ended:
            cut = up_to_end(self.recording)
            self._text_of = self.recording, self.recording.ended, cut
        return cut

    @property
    @abstractmethod
    def canvas(self) -> Canvas:
        """The canvas that is shown."""

    @abstractmethod
    def draw(self) -> None:
        """Draw the recording at this step."""

    # Drawing

    def show_parent(self, canvas: Canvas) -> Overlay:
        """Show what a branch continues above it, at the same step of the model; the overlay of the branch."""
        recording, node = self.recording, self.node
        assert recording is not None
        parent = node.parent if node is not None and node.recording is recording else None
        rows = self.size.height - _OTHER_ROWS
        self._parent_view.display = parent is not None and rows >= _ROWS_FOR_BOTH
        self._rule.display = parent is not None and rows >= _ROWS_FOR_RULE
        self.lens.differing = None
        if node is not None and parent is not None:
            at = _same_step(parent.recording, recording.index(self.at))
            above = up_to_end(parent.recording).canvas(at)
            self.lens.differing = n = first_difference(above.texts, canvas.texts)
            # The difference is that of the branch; in the parent it is only marked.
            marks = NOTHING if n is None else Overlay(differing=n)
            self._parent_view.show(above, None, marks)
            if n is not None:
                self._parent_view.reveal(n)
            self._rule.show([self._rule_line(parent, node, n, max(1, self.size.width - 2))])
        return self.lens.overlay(recording, canvas, self.at, self.theme)

    def _rule_line(self, parent: Node, node: Node, differing: int | None, width: int) -> Line:
        """The line above a branch: what is above and below it, and where they first differ, as much as fits whole."""
        step = parent.recording.index(node.step)
        left: Line = [("─ ", "dim"), (parent.name, "bold"), (" above, ", "dim"), (node.name, "bold")]
        left.append((f" from step {step} below ", "dim"))
        short: Line = [("─ ", "dim"), (node.name, "bold"), (f" from step {step} ", "dim")]
        if not self._parent_view.display:
            left = [("─ ", "dim"), (node.name, "bold"), (f" continues {parent.name} from step {step} ", "dim")]
        found = [] if differing is None else [f" first difference @{differing} ", f" differs @{differing} "]
        rights: list[Line] = [*([(text, ""), ("─", "dim")] for text in found), []]
        ends: list[tuple[Line, Line]] = [(one, right) for right in rights for one in (left, short)]
        return two_ends(
            *next((pair for pair in ends if sum(map(line_width, pair)) <= width), ends[-1]), width, "─", "dim"
        )

    def draw_below(self, recording: Recording) -> tuple[Line, Line] | None:
        """Draw what has room below the line of steps; the lens as the lower edge of the frame, where it has no room."""
        self.lens.drop_unlisted(recording, self.at)
        facts = self.lens.facts(recording, self.at)
        width, height = self.size
        if self._parent_view.display:
            height -= 6
        lines, has_lens = self.lens.below(
            recording, self.text_of.header.cells, self.at, facts, width, height, self.theme
        )
        if self._below.size.height != len(lines):
            self._below.styles.height = len(lines)
        self._below.show(lines)
        return None if facts is None or has_lens else in_a_line(facts, self.size.width - 10)

    # The cursor

    def takes_key(self, pressed: str) -> bool:
        """While the cursor is on, the arrows move it; h and l still step."""
        if self.lens.cursor is None or self.recording is None:
            return False
        if pressed == "enter":
            self._force()
        elif self.lens.alternative is not None and pressed in ("up", "down"):
            self.lens.move_alternative(self.recording, self.at, 1 if pressed == "down" else -1)
            self.draw()
        elif self.lens.alternative is not None and pressed == "escape":
            self.lens.alternative = None
            self.draw()
        elif pressed == "escape":
            self.look_at(None)
        elif pressed in ("left", "right"):
            self.look_at(self.lens.cursor + (1 if pressed == "right" else -1))
        elif pressed in ("up", "down"):
            self.look_at(self._canvas_view.beside(self.lens.cursor, 1 if pressed == "down" else -1))
        else:
            return False
        return True

    def _force(self) -> None:
        """Select the likeliest alternative that does not stand at the cursor; the selected one is forced."""
        assert self.recording is not None
        facts = self.lens.facts(self.recording, self.at)
        if facts is None:
            return
        if not facts.alternatives:
            why = f"no predictions here: {facts.note or 'this is a position of the prompt'}"
            self.post_message(self.Refused(NO_DETAIL if facts.note == NO_DETAIL else why))
        elif self.lens.alternative is None:
            self.lens.select_alternative(self.recording, self.at, 1 if facts.chosen == 0 else 0)
        elif (change := self.lens.forced(self.recording, self.at)) is None:
            self.post_message(self.Refused("that token stands there already; the arrows select another one"))
        else:
            self.lens.alternative = None
            self.post_message(self.Branch(self, change))
        self.draw()

    @property
    def hints(self) -> Hints:
        """With the cursor on, the keys of the lens; the most useful first."""
        if self.lens.cursor is None or self.recording is None:
            return ()
        if self.lens.alternative is not None:
            return _CHOOSING
        return _SELECTING if self.lens.selection.anchor is not None else _LOOKING

    def look_at(self, position: int | None) -> None:
        """Put the cursor on a position, the nearest of the canvas; None: remove it, and the selection."""
        cells = self.text_of.header.cells if self.recording is not None else 0
        self.lens.alternative = None
        self.lens.selection.move(position, cells)
        if self.lens.cursor is not None:
            self._canvas_view.reveal(self.lens.cursor)
        self.draw()

    def action_cursor(self) -> None:
        """Show the cursor at the first position that the last step changed, or remove it."""
        if self.lens.cursor is not None or self.recording is None:
            self.look_at(None)
            return
        canvas = self.canvas
        masked = canvas.confidence.index(MASKED) if canvas.left else len(self.recording.header.given)
        self.look_at(min(canvas.fresh, default=masked))

    def on_canvas_view_pressed(self, message: CanvasView.Pressed) -> None:
        """Look at the position under the mouse, the same one again removes the cursor; dragging selects."""
        message.stop()
        if message.dragged:
            self.lens.selection.begin()
            self.look_at(message.position)
        else:
            self.end_selection()
            self.look_at(None if message.position == self.lens.cursor else message.position)

    def action_select(self) -> None:
        """Begin a selection at the cursor, or end it."""
        if self.lens.selection.anchor is not None:
            self.end_selection()
        else:
            if self.lens.cursor is None:
                self.action_cursor()
            self.lens.selection.begin()
        self.draw()

    def end_selection(self) -> None:
        """Select nothing."""
        self.lens.selection.end()

    # Branches

    def action_remask(self) -> None:
        """Remask what is selected, and continue as a branch."""
        if chosen := self.lens.selection.positions:
            self.post_message(self.Branch(self, Change(remask=chosen)))
        else:
            self.action_select()

    def question(self, key_id: str) -> Question | None:
        """The text to write over what is selected."""
        chosen = self.lens.selection.positions
        if key_id != "edit" or self.recording is None:
            return None
        if not chosen:
            self.action_select()
            return None
        facts = self.lens.facts(self.recording, self.at)

        typed = ""
        if self._tried is not None and self.lens.cursor in self._tried[0] and not self.lens.selected:
            chosen, typed = self._tried  # it was refused: nothing of it is lost
            self.lens.selection.selected = chosen
            self.draw()

        def answer(change: Change) -> None:
            self._tried = chosen, change.text
            self.post_message(self.Branch(self, change))

        return question_of_text(chosen, self.canvas, facts, answer, typed)

    def action_edit(self) -> None:
        """Write over what is selected, and continue as a branch."""
        self.action_ask("edit")

    def action_undo(self) -> None:
        """Go from a branch to what it continues."""
        self.post_message(self.Walk(self, True))

    def action_next_branch(self) -> None:
        """Go to the next branch."""
        self.post_message(self.Walk(self, False))

    # The meaning of the colours

    def action_drafts(self) -> None:
        """Show or hide the best guess of each masked position."""
        self.lens.drafts = not self.lens.drafts
        self.draw()


def question_of_text(
    chosen: frozenset[int], canvas: Canvas, facts: Facts | None, answer: Callable[[Change], None], typed: str = ""
) -> Question:
    """Ask for the text to write over the chosen positions, which are beside each other.

    The line begins with what was `typed` before, else with the text that is there, else with the best guess among the
    `facts`.
    """
    first, room = min(chosen), len(chosen)
    value = typed or "".join(canvas.texts[first : first + room])
    if not value and facts is not None and facts.alternatives:
        value = facts.alternatives[0][0]

    def take(text: str) -> None:
        answer(Change(at=first, room=room, text=text.replace("\\n", "\n")))

    words = f"text for position {first}" if room == 1 else f"text for positions {first} to {first + room - 1}"
    return Question(f"{words} (\\n is a new line)", take, value.replace("\n", "\\n"))


def _same_step(recording: Recording, index: int) -> int:
    """The last step of a recording that has at most the number `index` of the model."""
    return bisect_right(range(1, recording.steps + 1), index, key=recording.index)
