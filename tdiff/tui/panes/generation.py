"""The generation pane: blocks that resolve, live or recorded, and the recorder's place among the steps."""

from __future__ import annotations

from rich.cells import cell_len
from textual.message import Message
from textual.widget import Widget

from tdiff.config.decoding import label
from tdiff.draw.palettes import PALETTES, Theme
from tdiff.draw.render import Line, legend
from tdiff.protocol.canvas import Canvas
from tdiff.tui.keys import bindings
from tdiff.tui.panes.base import Pane
from tdiff.tui.widgets.canvas import CanvasView
from tdiff.tui.widgets.lines import Lines, line_width
from tdiff.visible import visible_line
from tdiff.watch.generation.recording import Recording

_LEAP = 10
_REPLAY_STEPS_A_SECOND = 20.0
_LOW = 8
"""Rows up to which the line of steps of one of two canvases stands in its frame."""
_SHORTEST = 20
"""Cells of a line of steps that tells anything."""


class GenerationPane(Pane):
    """A recording, at one of its steps.

    While it follows, the newest step is shown as it comes; pausing keeps the step, and what is generated meanwhile is
    recorded all the same.
    """

    BINDINGS = bindings("generation")  # type: ignore[assignment]

    class Live(Message):
        """The user wants the live edge; `together`: of every canvas that was paused."""

        def __init__(self, pane: GenerationPane, together: bool) -> None:
            super().__init__()
            self.pane, self.together = pane, together

    class Paused(Message):
        """The user has paused, and wants every canvas to stand still."""

    class Ask(Message):
        """The user wants something of the generation: prompt, new_text, decoder, threshold_down or threshold_up."""

        def __init__(self, pane: GenerationPane, what: str) -> None:
            super().__init__()
            self.pane, self.what = pane, what

    class Looked(Message):
        """The user has chosen another palette."""

        def __init__(self, look: Theme) -> None:
            super().__init__()
            self.look = look

    def __init__(self, look: Theme, *, id: str = "generation", of_two: bool = False) -> None:
        """`of_two`: another canvas stands beside it: its title names the model, and the legend is elsewhere."""
        super().__init__(id=id, where="generation")
        self.look = look
        self._of_two = of_two
        self.recording: Recording | None = None
        self.at = 0
        """Steps of the recording that are shown."""
        self.following = True
        """Whether the newest step is shown as it comes."""
        self._replayed: float | None = None  # when the replay was at step 0
        self._drawn: tuple[Recording | None, int, int] = (None, 0, 0)
        self._live = False  # whether the recording is of the model that writes now
        self._caption, self._called, self._seconds = "", "", 0.0
        self._message, self._short = "", ""
        self._canvas_view = CanvasView(look)
        self._legend, self._scrub = Lines(id="legend"), Lines(id="scrub")

    def body(self) -> list[Widget]:
        """Canvas, legend, and the line of steps."""
        return [self._canvas_view, *([] if self._of_two else [self._legend]), self._scrub]

    def on_mount(self) -> None:
        """The legend never changes but for the palette."""
        self._draw_legend()

    def on_resize(self) -> None:
        """Everything that depends on the width."""
        self._draw_legend()
        self._tell()

    # What is shown

    def show(
        self, recording: Recording | None, *, caption: str, follow: bool, live: bool = True, at: int | None = None
    ) -> None:
        """Show a recording: at its end, or after `at` steps. `live`: it is being written, or was written here."""
        self.recording, self._caption, self.following, self._replayed = recording, caption, follow, None
        self._live = live
        self.at = (recording.steps if at is None else at) if recording else 0
        self._canvas_view.follow()
        self.draw()

    def describe(self, message: str, seconds: float, *, short: str = "", called: str = "") -> None:
        """What the model's process is doing, in a few words or fewer, and the seconds that its text has taken so far;
        and what the model is called.
        """
        self._seconds = seconds  # told with the next step: a figure that changes without one would be drawn for nothing
        if (message, called) != (self._message, self._called):
            self._message, self._short, self._called = message, short, called
            self._tell()

    def tick(self, now: float) -> None:
        """Go on with what is followed or replayed."""
        if self.recording is None:
            return
        if self._replayed is not None:
            self.at = min(int((now - self._replayed) * _REPLAY_STEPS_A_SECOND), self.recording.steps)
            if self.at == self.recording.steps:
                self._replayed = None
        elif self.following:
            self.at = self.recording.steps
        if self._drawn != (self.recording, self.at, self.recording.taken):
            self.draw()

    @property
    def moving(self) -> bool:
        """Whether a replay is going on."""
        return self._replayed is not None

    def draw(self) -> None:
        """Draw the recording as it is at this step: only the places that changed, where it is the one drawn before."""
        recording, at = self.recording, self.at
        before, at_before, taken_before = self._drawn
        self._drawn = recording, at, recording.taken if recording else 0
        if recording is None:
            self._canvas_view.clear()
        else:
            changed: set[int] | None = None
            # A step that took in others is not told apart from what it was.
            if before is recording and not (at == at_before == recording.steps and recording.taken != taken_before):
                changed = set()
                for step in range(min(at, at_before), max(at, at_before) + 1):
                    changed.update(recording.changed(step))
            self._canvas_view.show(self.canvas, changed)
        self._tell()

    @property
    def canvas(self) -> Canvas:
        """The canvas that is shown."""
        assert self.recording is not None
        return self.recording.canvas(self.at)

    def text(self) -> str:
        """What is shown, as text; masks as blocks."""
        if self.recording is None:
            return ""
        return "".join(text or "█" for text in self.canvas.texts)

    def in_a_line(self) -> str:
        """Step, share, places left, and the text as it is, for where there is one line."""
        if self.recording is None:
            return self._message
        return f"{self.readout()}  {' '.join(self.text().split())}"

    def readout(self) -> str:
        """Step, share and places left; what the model's process does, where there is no text yet."""
        return self._readout(self.canvas) if self.recording is not None else self._message

    def _readout(self, canvas: Canvas) -> str:
        assert self.recording is not None
        cap = f"/{self.recording.header.steps}" if self.recording.header.steps else ""
        return f"step {canvas.index}{cap} · {canvas.revealed:.0%} · {canvas.left} left"

    def _tell(self) -> None:
        if not self.is_mounted:
            return
        recording = self.recording
        state = "replay" if self.moving else "paused" if not self.following and self._live else "live"
        if state == "live" and not self._live:
            state = "recorded"
        mark = {"live": "▶", "replay": "▷", "paused": "‖", "recorded": "◇"}[state]
        title: Line = [(f"{mark} {state}", "reverse" if state in ("paused", "replay") else "bold")]
        if self._of_two:
            title = self._title_of_two(state, mark)
        if recording is not None and recording.header.decoder:
            title.append((f" · {visible_line(label(recording.header.decoder, recording.header.settings))}", ""))
        if recording is None:
            name = (self._of_two and self._called) or "generation"
            self.frame([(name, "")], [], [(self._message, "")] if self._message else [], [])
            self._scrub.show([])
            return
        canvas = self.canvas
        if self._of_two:
            self._frame_of_two(title, canvas)
        else:
            below: Line = [(self._message or self._caption, "")]
            self.frame(title, [(self._readout(canvas), "")], below, [(self._speed(canvas), "")])
        self._scrub.show([self._steps_line(recording, self.size.width - 2)])

    def _steps_line(self, recording: Recording, width: int) -> Line:
        at, steps = recording.index(self.at), recording.index(recording.steps)
        if recording.ended is not None:
            return scrub_line(at, steps, True, width)
        cap = recording.header.steps
        # Where nobody knows how many steps there will be, the places that are left tell how far it is.
        share = steps / cap if cap > 0 else recording.canvas(recording.steps).revealed
        return scrub_line(at, steps, False, width, share=share, cap=max(0, cap))

    def _title_of_two(self, state: str, mark: str) -> Line:
        """The model, or what is shown in its place; and a word for what is no text of now."""
        name = self._caption or self._called
        if state in ("live", "recorded"):
            return [(f"{mark} {name}", "bold")]
        return [(f"{mark} {state}", "reverse" if state in ("paused", "replay") else "bold"), (f" · {name}", "")]

    def _frame_of_two(self, title: Line, canvas: Canvas) -> None:
        """The frame, of whose words those give way that are told elsewhere too: half a window is narrow."""
        readout, room = self._readout(canvas), self.size.width - 9  # the frame, and blanks around both texts
        without_left = readout.rpartition(" · ")[0]
        readouts = [readout, without_left, without_left.removeprefix("step "), f"{canvas.revealed:.0%}"]
        room_above = room - line_width(title)
        readout = next((one for one in readouts if cell_len(one) <= room_above), readouts[-1])
        speed = self._speed(canvas)
        pairs = [(self._message, speed), (self._short, speed), (self._short, speed.partition(" · ")[2])]
        message, speed = next((pair for pair in pairs if cell_len("".join(pair)) <= room), pairs[-1])
        below: Line = [(message, "")] if message else []
        self._scrub.display = self.size.height > _LOW
        room_below = room - cell_len(message + speed)
        if not self._scrub.display and self.recording is not None and room_below >= _SHORTEST:
            (head, style), *line, (tail, last) = self._steps_line(self.recording, room_below + 1 + (not message))
            below += [(head if message else head.lstrip(), style), *line, (tail.rstrip(), last)]
        self.frame(title, [(readout, "")], below, [(speed, "")])

    def _speed(self, canvas: Canvas) -> str:
        assert self.recording is not None
        ended = self.recording.ended
        seconds = ended.seconds if ended else self._seconds
        done = ended.tokens if ended else canvas.maskable - canvas.left
        rate = done / seconds if seconds > 0 else 0.0
        speed = f"{rate:,.{0 if rate >= 10 else 1}f} tok/s" if rate else "… tok/s"
        return f"conf {canvas.mean_confidence:.2f} · {canvas.calls} calls · {speed}"

    def _draw_legend(self) -> None:
        if not self._of_two:
            self._legend.show([[(" ", ""), *legend(self.look, max(1, self.size.width - 4))]])

    # Keys

    def _to(self, step: int) -> None:
        if self.recording is None:
            return
        self.at = min(max(step, 0), self.recording.steps)
        self.following, self._replayed = False, None
        self.draw()

    def action_pause(self) -> None:
        """Pause here, or go on at the live edge."""
        if self.pause():
            self.post_message(self.Paused())
        else:
            self.post_message(self.Live(self, True))

    def pause(self) -> bool:
        """Stand still at this step; whether it moved."""
        if not (self.following or self.moving):
            return False
        self.following, self._replayed = False, None
        self._tell()
        return True

    def action_step_back(self) -> None:
        """One step back."""
        self._to(self.at - 1)

    def action_step_forward(self) -> None:
        """One step forward."""
        self._to(self.at + 1)

    def action_leap_back(self) -> None:
        """Ten steps back."""
        self._to(self.at - _LEAP)

    def action_leap_forward(self) -> None:
        """Ten steps forward."""
        self._to(self.at + _LEAP)

    def action_first_step(self) -> None:
        """To the canvas before the first step."""
        self._to(0)

    def action_live(self) -> None:
        """To the live edge."""
        self.post_message(self.Live(self, False))

    def replay(self, now: float) -> None:
        """Play the recording from its first step."""
        if self.recording is not None:
            self.following, self._replayed, self.at = False, now, 0
            self.draw()

    def action_scroll_up(self) -> None:
        """Scroll the text up."""
        self._canvas_view.scroll_rows(-1)

    def action_scroll_down(self) -> None:
        """Scroll the text down."""
        self._canvas_view.scroll_rows(1)

    def action_palette_next(self) -> None:
        """The next palette."""
        names = list(PALETTES)
        name = names[(names.index(self.look.palette) + 1) % len(names)]
        self.set_look(
            Theme(
                palette=name,
                ground=self.look.ground,
                colour=self.look.colour,
                glyphs=self.look.glyphs,
                utf8=self.look.utf8,
            )
        )
        self.post_message(self.Looked(self.look))

    def set_look(self, look: Theme) -> None:
        """Draw with another look."""
        self.look = self._canvas_view.look = look
        self._drawn = (None, 0, 0)
        self._draw_legend()
        self.draw()

    def action_replay(self) -> None:
        """Play this text again."""
        self.post_message(self.Ask(self, "replay"))

    def action_prompt(self) -> None:
        """Edit the prompt."""
        self.post_message(self.Ask(self, "prompt"))

    def action_new_text(self) -> None:
        """Begin another text."""
        self.post_message(self.Ask(self, "new_text"))

    def action_decoder(self) -> None:
        """The next decoder."""
        self.post_message(self.Ask(self, "decoder"))

    def action_threshold_down(self) -> None:
        """A lower threshold."""
        self.post_message(self.Ask(self, "threshold_down"))

    def action_threshold_up(self) -> None:
        """A higher threshold."""
        self.post_message(self.Ask(self, "threshold_up"))


def scrub_line(at: int, steps: int, ended: bool, width: int, *, share: float = 1.0, cap: int = 0) -> Line:
    """Where the shown step is among all: ◀ 0 ━━━╸37───┄┄┄ 64 …: thick up to it, thin where others follow.

    The `steps` so far are that `share` of all, of which there are `cap` at most where that is known.
    """
    head = " ◀ 0 "
    tail = f" {steps} ▶ " if ended else f" {cap} … " if cap else " … "
    here = str(at) if at > 0 and not (ended and at >= steps) else ""
    room = max(0, width - len(head) - len(tail) - len(here) - 1)
    whole = round(room * min(1.0, max(0.0, share)))
    done = min(whole, max(0, round(whole * at / steps))) if steps else 0  # a trace may count backwards
    line: Line = [(head, "dim"), ("━" * done + "╸", ""), (here, "bold"), ("─" * (whole - done), "dim")]
    return [*line, ("┄" * (room - whole), "dim"), (tail, "dim")]
