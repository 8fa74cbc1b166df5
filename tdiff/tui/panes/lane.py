"""One of several texts that are generated at once: its canvas, and its numbers in the frame."""

from __future__ import annotations

from rich.cells import cell_len
from rich.style import Style
from textual.color import Color
from textual.message import Message
from textual.widget import Widget

from tdiff.config.decoding import label
from tdiff.draw.lens import flow_line, in_a_line
from tdiff.draw.overlay import Overlay
from tdiff.draw.palettes import WINNERS, Theme, winner_style
from tdiff.draw.render import Line
from tdiff.protocol.canvas import Canvas
from tdiff.protocol.counters import calls_text
from tdiff.tui.panes.base import Pane
from tdiff.tui.panes.lens import Lens
from tdiff.tui.widgets.canvas import CanvasView
from tdiff.tui.widgets.lines import Lines, fold, line_width, two_ends
from tdiff.visible import visible_line
from tdiff.watch.generation.insight import tau
from tdiff.watch.generation.lane import Lane
from tdiff.watch.generation.recording import Recording

_TALL = 12
"""Rows of a pane from which it has room for more than a text."""


_LOW, _NARROW = 9, 56
"""Rows from which, and columns below which, a line below a text has the numbers that the frame has no room for."""


_STEPS_OF_ORDER = 8
"""Steps of a text in progress after which its order is measured again, which takes as long as drawing it."""
_NOTHING_DRAWN = (None, 0, 0, Overlay())


def _class_of(style: str) -> str:
    """The CSS class of a frame of one of the styles of a winner."""
    return f"-winner-{style.removeprefix('color(').removesuffix(')')}"


def _winner_rule(style: str) -> str:
    colour = Color.from_rich_color(Style.parse(style).color).hex
    sides = " ".join(f"border-{side}: round {colour};" for side in ("left", "right"))
    return f"LanePane.{_class_of(style)} > #body {{ {sides} }}\n"


class LanePane(Pane):
    """A text after one of its steps."""

    DEFAULT_CSS = """
    LanePane { height: 1fr; width: 1fr; }
    LanePane #said { height: 1fr; padding: 0 1; display: none; }
    LanePane #facts { height: 2; display: none; }
    """ + "".join(map(_winner_rule, WINNERS))
    can_focus = False

    class Looked(Message):
        """The mouse was pressed on a position, or dragged to it."""

        def __init__(self, pane: LanePane, position: int, dragged: bool) -> None:
            super().__init__()
            self.pane, self.position, self.dragged = pane, position, dragged

    class Fitted(Message):
        """The pane has another size, for which its texts have to be drawn."""

    def __init__(self, theme: Theme, *, id: str) -> None:
        super().__init__(theme, id=id, where="texts")
        self.chosen = False
        """Whether the user has selected it."""
        self._canvas_view = CanvasView(theme)
        self._said, self._facts = Lines(id="said"), Lines(id="facts")
        self._best = False  # whether it is drawn as the winner
        self.lens = Lens()
        """The cursor, and what is known about its position."""
        self._drawn: tuple[Recording | None, int, int, Overlay] = _NOTHING_DRAWN
        self._order: tuple[Recording | None, int, float | None] = (None, 0, None)  # of a recording, near a step

    def body(self) -> list[Widget]:
        """The canvas, or why there is none."""
        return [self._canvas_view, self._said, self._facts]

    def on_resize(self) -> None:
        """Its texts depend on the size."""
        self.post_message(self.Fitted())

    def show(self, lane: Lane, step: int, difference: int | None, *, best: bool, alone: bool, waiting: str) -> None:
        """Show a text after a step. `alone`: it is the only one; `waiting` is said where it has not started."""
        recording = lane.recording
        said = lane.refused or (waiting if recording is None else "")
        self._said.display, self._canvas_view.display = bool(said), not said
        mark = "▸" if self.chosen and not alone else ""
        # What is at the beginning is never cut.
        winner: Line = [("✓ winner", "reverse"), (" · ", "")] if best else []
        title: Line = [(f"{mark}{lane.letter} ", "bold"), *winner, (self._title(lane), "bold" if self.chosen else "")]
        self._mark(best)
        if recording is None or said:
            style = "" if lane.refused else "dim"
            self._said.show(fold([(visible_line(said), style)], max(1, self.size.width - 4)))
            self._drawn = _NOTHING_DRAWN
            self.frame(title, [], [], [])
            return
        canvas = recording.canvas(step)
        overlay = Overlay(cursor=self.lens.cursor, selected=self.lens.selected, differing=difference)
        self._draw(recording, canvas, step, overlay)
        index, cap = canvas.index, recording.total
        ended = recording.ended is not None and step >= recording.steps
        done = "done" if ended else f"{canvas.revealed:.0%}"
        readout = f"{done} · step {index}/{cap}" if cap else f"{done} · step {index}"
        room = self.size.width - 9 - line_width(title)  # without the frame, and blanks around both texts
        shorter = [readout, readout.replace("step ", ""), done]
        readout = next((text for text in shorter if cell_len(text) <= room), done)
        differs = self._difference(difference, canvas)
        facts = self.lens.facts(recording, step)
        if facts is None:
            self._draw_facts(lane, recording, step, differs)
            shown = [] if self._facts.display else differs
            self.frame(title, [(readout, "")], self._numbers(lane, canvas, step), shown)
            return
        width, height = self.size
        lines, has_lens = self.lens.below(recording, recording.header.cells, step, facts, width, height, self.theme)
        self._facts.display = bool(lines)
        self._facts.styles.height = max(1, len(lines))
        self._facts.show(lines)
        looked = (self._numbers(lane, canvas, step), differs) if has_lens else in_a_line(facts, width - 10)
        self.frame(title, [(readout, "")], *looked)

    def _draw_facts(self, lane: Lane, recording: Recording, step: int, differs: Line) -> None:
        """Below a text in a tall pane: the positions unmasked in each step and their order, and more numbers."""
        width, height = self.size
        rows = 2 if height >= _TALL else 1 if height >= _LOW and width < _NARROW else 0
        self._facts.display = rows > 0
        if not rows:
            return
        self._facts.styles.height = rows
        width = max(1, width - 2)
        numbers = f" {lane.remasked(step)} remasked · {lane.seconds(step):.1f} s "
        room = width - cell_len(numbers) - 1
        right = next((line for line in (differs, differs[:1]) if line_width(line) <= room), [])
        if rows == 1:
            self._facts.show([two_ends([(numbers, "dim")], [*right, (" ", "")], width)])
            return
        insight = self.lens.insight(recording)
        near = step if recording.ended is not None else step - step % _STEPS_OF_ORDER
        if self._order[:2] != (recording, near):
            self._order = recording, near, tau(insight.order(step))
        flow = flow_line(insight.commits, step, self._order[2], width, self.theme)
        self._facts.show([flow, two_ends([(numbers, "dim")], [*right, (" ", "")], width)])

    def _title(self, lane: Lane) -> str:
        header = lane.recording.header if lane.recording is not None else None
        if header is None or not lane.entry.label or lane.entry.label.startswith("row ") or lane.entry.settings:
            name = lane.entry.label
        else:  # the label does not say which decoder the model uses
            name = f"{lane.entry.label} · {label(header.decoder, header.settings)}"
        return visible_line(name)

    def _numbers(self, lane: Lane, canvas: Canvas, step: int) -> Line:
        seconds, done = lane.seconds(step), canvas.maskable - canvas.left
        rate = done / seconds if seconds > 0 else 0.0
        parts = [calls_text(canvas)]
        timed = lane.parent is None or lane.ended  # the time of a branch is known at its end
        parts += [f"{rate:,.{0 if rate >= 10 else 1}f} tok/s"] if rate and timed else []
        parts += [f"conf {canvas.mean_confidence:.2f}"] if done else []
        if (remasked := lane.remasked(step)) and not self._facts.display:
            parts.insert(1, f"{remasked} remasked")
        return [(" · ".join(parts), "")]

    def _difference(self, difference: int | None, canvas: Canvas) -> Line:
        if difference is None:
            return []
        text = " ".join(canvas.texts[difference].split())
        return [(f"differs @{difference}", ""), (f' · "{text}"' if text else "", "")]

    def beside(self, position: int, rows: int) -> int:
        """The position that is drawn `rows` below a position; above where negative."""
        return self._canvas_view.beside(position, rows)

    def reveal(self, position: int) -> None:
        """Scroll to a position."""
        self._canvas_view.reveal(position)

    def on_canvas_view_pressed(self, message: CanvasView.Pressed) -> None:
        """Say which position of which text the mouse is on."""
        message.stop()
        self.post_message(self.Looked(self, message.position, message.dragged))

    def _draw(self, recording: Recording, canvas: Canvas, step: int, overlay: Overlay) -> None:
        before, step_before, taken_before, overlay_before = self._drawn
        self._drawn = recording, step, recording.taken, overlay
        same = before is recording and step == step_before
        if same and (step < recording.steps or recording.taken == taken_before) and overlay == overlay_before:
            return
        changed: set[int] | None = None
        # A step that has absorbed others may differ from its former state.
        if before is recording and not (same and step == recording.steps and recording.taken != taken_before):
            changed = set()
            for n in range(min(step, step_before), max(step, step_before) + 1):
                changed.update(recording.changed(n))
        self._canvas_view.show(canvas, changed, overlay)

    def _mark(self, best: bool) -> None:
        """Draw the frame in green where the text is the winner; `_draw_frame` draws its upper and lower edge."""
        if best == self._best:
            return
        self._best = best
        if style := winner_style(self.theme):
            self.set_class(best, _class_of(style))

    def _draw_frame(self) -> None:
        title, readout, below, below_right = self._titles
        style = (winner_style(self.theme) if self._best else "") or ("" if self.chosen else "dim")
        self._upper.put(title, readout, style)
        self._lower.put(below, below_right, style)
