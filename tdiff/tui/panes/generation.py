"""The generation pane: a text that is unmasked, live or recorded, and the position among its steps."""

from __future__ import annotations

from dataclasses import replace

from rich.cells import cell_len
from textual.message import Message
from textual.widget import Widget

from tdiff.config.decoding import label
from tdiff.draw.palettes import PALETTES, Theme
from tdiff.draw.render import Line, legend
from tdiff.draw.steps_line import scrub_line
from tdiff.protocol.canvas import Canvas
from tdiff.protocol.counters import calls_text, counters
from tdiff.tui.key import Key, bindings
from tdiff.tui.panes.looking import LOOKING_KEYS, LookingPane
from tdiff.tui.widgets.lines import Lines, line_width
from tdiff.visible import visible_line
from tdiff.watch.generation.recording import Recording

_REPLAY_STEPS_PER_SECOND = 20.0
_LOW = 8
"""Rows up to which one of two canvases shows the line of steps in its frame."""
_SHORTEST = 20
"""Minimum cells of a useful line of steps."""


class GenerationPane(LookingPane):
    """A recording, at one of its steps.

    While it follows, it shows the newest step as it arrives; a pause keeps the step, and generation is still
    recorded.
    """

    KEYS = (
        Key("pause", "space", "pause or resume; generation continues meanwhile", "generation", "pause"),
        Key("step_back", "left,h", "one step back", "generation", "step", "step(-1)"),
        Key("step_forward", "right,l", "one step forward", "generation", "step", "step(1)"),
        Key("leap_back", "shift+left,H,pageup", "ten steps back", "generation", "", "step(-10)"),
        Key("leap_forward", "shift+right,L,pagedown", "ten steps forward", "generation", "", "step(10)"),
        Key("first_step", "home,circumflex_accent", "go to the first step", "generation"),
        Key("live", "end,G", "go to the live edge", "generation", "live"),
        Key("replay", "r", "replay this text from its first step", "generation", "", "request('replay')"),
        Key("scroll_up", "up,k", "scroll the text up", "generation", "", "scroll_text(-1)"),
        Key("scroll_down", "down,j", "scroll the text down", "generation", "", "scroll_text(1)"),
        Key("prompt", "i", "edit the prompt", "generation", "prompt", "request('prompt')", opens_line=True),
        Key("new_text", "n", "start another text now", "generation", "new", "request('new_text')"),
        Key(
            "decoder",
            "d",
            "choose a decoder, or race some",
            "generation",
            "decoder",
            "request('decoder')",
            opens_line=True,
        ),
        Key("texts", "s", "several texts of one batch at once", "generation", "", "request('texts')"),
        Key("threshold_down", "less_than_sign,comma", "lower the threshold by 0.05", "generation", "", "shift(-1)"),
        Key("threshold_up", "greater_than_sign,full_stop", "raise the threshold by 0.05", "generation", "", "shift(1)"),
        Key("palette_next", "P", "use the next palette of confidence colours", "generation"),
        *LOOKING_KEYS,
    )
    BINDINGS = bindings(KEYS)  # type: ignore[assignment]

    class Live(Message):
        """The user goes to the live edge; `together`: in every paused canvas."""

        def __init__(self, pane: GenerationPane, together: bool) -> None:
            super().__init__()
            self.pane, self.together = pane, together

    class Paused(Message):
        """The user has paused, which pauses every canvas."""

    class Request(Message):
        """The user requests replay, prompt, new_text, decoder, threshold_down or threshold_up."""

        def __init__(self, pane: GenerationPane, what: str) -> None:
            super().__init__()
            self.pane, self.what = pane, what

    class ModeChanged(Message):
        """The colours mean something else from now on: one of `overlay.MODES`."""

        def __init__(self, mode: str) -> None:
            super().__init__()
            self.mode = mode

    class ThemeChanged(Message):
        """The user has selected another palette."""

        def __init__(self, theme: Theme) -> None:
            super().__init__()
            self.theme = theme

    def __init__(self, theme: Theme, *, id: str = "generation", of_two: bool = False) -> None:
        """`of_two`: beside another canvas, the title names the model, and the legend is outside."""
        super().__init__(theme, id=id, where="generation")
        self._of_two = of_two
        self.following = True
        """Whether it shows the newest step as it arrives."""
        self._replayed: float | None = None  # time of step 0 of the replay
        self._drawn: tuple[Recording | None, int, int] = (None, 0, 0)
        self._live = False  # whether the recording is of the live model
        self._caption, self._called, self._seconds = "", "", 0.0
        self._message, self._short = "", ""
        self._legend, self._scrub = Lines(id="legend"), Lines(id="scrub")

    def body(self) -> list[Widget]:
        """Canvas, legend, and the line of steps."""
        canvases = [self._parent_view, self._rule, self._canvas_view]
        return [*canvases, *([] if self._of_two else [self._legend]), self._scrub, self._below]

    def on_mount(self) -> None:
        """The legend changes with the palette only."""
        self._draw_legend()

    def on_resize(self) -> None:
        """Draw what depends on the size."""
        self._draw_legend()
        if self.recording is not None and self.node is not None:
            self.draw()  # how much a branch shows of the text that it continues
        else:
            self._draw_frame_texts()

    # What is shown

    def show(
        self, recording: Recording | None, *, caption: str, follow: bool, live: bool = True, at: int | None = None
    ) -> None:
        """Show a recording: at its end, or after `at` steps. `live`: a model generates it now, or did in this view."""
        if recording is not self.recording:
            self._tried = self.lens.alternative = None
        self.recording, self._caption, self.following, self._replayed = recording, caption, follow, None
        self._live = live
        self.at = (recording.steps if at is None else at) if recording else 0
        self._canvas_view.follow()
        self.draw()

    def describe(self, message: str, seconds: float, *, short: str = "", called: str = "") -> None:
        """Set what the model's process does, in a few words or in fewer (`short`), the seconds that its text has taken,
        and the name of the model.
        """
        self._seconds = seconds  # drawn with the next step, so that time alone draws nothing
        if (message, called) != (self._message, self._called):
            self._message, self._short, self._called = message, short, called
            self._draw_frame_texts()

    def tick(self, now: float) -> None:
        """Draw the next step of what is followed or replayed."""
        if self.recording is None:
            return
        if self._replayed is not None:
            self.at = min(int((now - self._replayed) * _REPLAY_STEPS_PER_SECOND), self.recording.steps)
            if self.at == self.recording.steps:
                self._replayed = None
        elif self.following:
            self.at = self.recording.steps
        if self._drawn != (self.recording, self.at, self.recording.taken):
            self.draw()

    @property
    def moving(self) -> bool:
        """Whether a replay is running."""
        return self._replayed is not None

    def draw(self) -> None:
        """Draw the recording at this step: only the changed positions where the same recording was drawn before."""
        recording, at = self.recording, self.at
        before, at_before, taken_before = self._drawn
        self._drawn = recording, at, recording.taken if recording else 0
        if recording is None:
            self._canvas_view.clear()
        else:
            changed: set[int] | None = None
            # A step that has absorbed others may differ from its former state.
            if before is recording and not (at == at_before == recording.steps and recording.taken != taken_before):
                changed = set()
                for step in range(min(at, at_before), max(at, at_before) + 1):
                    changed.update(recording.changed(step))
            canvas = self.canvas
            self._canvas_view.show(canvas, changed, self.show_parent(canvas))
        self._draw_frame_texts()

    @property
    def canvas(self) -> Canvas:
        """The canvas that is shown."""
        return self.text_of.canvas(self.at)

    def text(self) -> str:
        """The shown text, with masks as blocks."""
        if self.recording is None:
            return ""
        return "".join(text or "█" for text in self.canvas.texts)

    def in_a_line(self) -> str:
        """Step, share unmasked, positions left, and the text, for a single line."""
        if self.recording is None:
            return self._message
        return "  ".join(filter(None, (self.readout(), " ".join(self.text().split()))))

    def readout(self) -> str:
        """Step, share unmasked and positions left; where there is no text yet, what the model's process does."""
        return self._readout(self.canvas) if self.recording is not None else self._message

    def _readout(self, canvas: Canvas) -> str:
        assert self.recording is not None
        return "" if self.recording.untraced else counters(canvas, self.recording.total, confidence=False)

    def _draw_frame_texts(self) -> None:
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
            self._below.styles.height = 0
            return
        canvas = self.canvas
        if self.lens.mode == "step":  # its legend has numbers of steps
            self._draw_legend()
        if hidden := self._canvas_view.rows[0]:
            title.append((f" · {'^' if self.theme.ascii else '↑'} {hidden} more row{'s' * (hidden != 1)}", "dim"))
        looked = self.draw_below(recording)
        if looked is not None:
            self.frame(title, _words(self._readout(canvas)), *looked)
        elif self._of_two:
            self._frame_of_two(title, canvas)
        else:
            below: Line = [(self._message or self._caption, "")]
            speed = self._speed(canvas, explained=True)
            if line_width(below) + cell_len(speed) > self.size.width - 9:
                speed = self._speed(canvas)
            self.frame(title, _words(self._readout(canvas)), below, _words(speed))
        self._scrub.show([self._steps_line(recording, self.size.width - 2)])

    def _steps_line(self, recording: Recording, width: int) -> Line:
        if recording.untraced:
            return []
        at, steps = recording.index(self.at), recording.index(recording.steps)
        if recording.ended is not None:
            return scrub_line(at, steps, True, width)
        cap = recording.header.steps
        # Where the number of steps is unknown, the share of unmasked positions shows the progress.
        share = steps / cap if cap > 0 else self.text_of.canvas(recording.steps).revealed
        return scrub_line(at, steps, False, width, share=share, cap=max(0, cap))

    def _title_of_two(self, state: str, mark: str) -> Line:
        """The model, or the caption of another text; and the state where it is not live."""
        name = self._caption or self._called
        if state in ("live", "recorded"):
            return [(f"{mark} {name}", "bold")]
        return [(f"{mark} {state}", "reverse" if state in ("paused", "replay") else "bold"), (f" · {name}", "")]

    def _frame_of_two(self, title: Line, canvas: Canvas) -> None:
        """The frame in half a window: it drops the words that are also shown elsewhere."""
        readout, room = self._readout(canvas), self.size.width - 9  # the frame, and blanks around both texts
        without_left = readout.rpartition(" · ")[0]
        readouts = [readout, without_left, without_left.removeprefix("step "), f"{canvas.revealed:.0%}"]
        room_above = room - line_width(title)
        readout = next((text for text in readouts if cell_len(text) <= room_above), readouts[-1])
        speed = self._speed(canvas)
        pairs = [(self._message, speed), (self._short, speed), (self._short, speed.partition(" · ")[2])]
        message, speed = next((pair for pair in pairs if cell_len("".join(pair)) <= room), pairs[-1])
        below: Line = [(message, "")] if message else []
        self._scrub.display = self.size.height > _LOW
        room_below = room - cell_len(message + speed)
        has_line = self.recording is not None and not self.recording.untraced and not self._scrub.display
        if self.recording is not None and has_line and room_below >= _SHORTEST:
            (head, style), *line, (tail, last) = self._steps_line(self.recording, room_below + 1 + (not message))
            below += [(head if message else head.lstrip(), style), *line, (tail.rstrip(), last)]
        self.frame(title, _words(readout), below, _words(speed))

    def _speed(self, canvas: Canvas, *, explained: bool = False) -> str:
        assert self.recording is not None
        if self.recording.untraced:
            return ""
        ended = self.recording.ended
        seconds = ended.seconds if ended else self._seconds
        done = ended.tokens if ended else canvas.maskable - canvas.left
        rate = done / seconds if seconds > 0 else 0.0
        parts = [f"conf {canvas.mean_confidence:.2f}"] if canvas.left < canvas.maskable else []
        parts.append(calls_text(canvas) if explained else f"{canvas.calls} call{'s' * (canvas.calls != 1)}")
        if rate or ended is None:
            parts.append(f"{rate:,.{0 if rate >= 10 else 1}f} tok/s" if rate else "… tok/s")
        return " · ".join(parts)

    def _draw_legend(self) -> None:
        if not self._of_two:
            steps = self.recording.index(self.recording.steps) if self.recording is not None else 0
            self._legend.show([[(" ", ""), *legend(self.theme, max(1, self.size.width - 4), self.lens.mode, steps)]])

    # Keys

    def action_colour_mode(self) -> None:
        """Use the colours for something else, on every canvas."""
        self.post_message(self.ModeChanged(self.lens.next_mode()))

    def set_mode(self, mode: str) -> None:
        """Use the colours for `mode` from now on."""
        self.lens.mode = mode
        self._draw_legend()
        self.draw()

    def _to(self, step: int) -> None:
        if self.recording is None:
            return
        self.at = min(max(step, 0), self.recording.steps)
        self.following, self._replayed = False, None
        self.draw()

    def action_pause(self) -> None:
        """Pause at this step, or resume at the live edge."""
        if self.pause():
            self.post_message(self.Paused())
        else:
            self.post_message(self.Live(self, True))

    def pause(self) -> bool:
        """Pause at this step; whether it was moving."""
        if not (self.following or self.moving):
            return False
        self.following, self._replayed = False, None
        self._draw_frame_texts()
        return True

    def action_step(self, steps: int) -> None:
        """Go so many steps forward; back where negative."""
        self._to(self.at + steps)

    def action_first_step(self) -> None:
        """Go to the canvas before the first step."""
        self._to(0)

    def action_live(self) -> None:
        """Go to the live edge."""
        self.post_message(self.Live(self, False))

    def replay(self, now: float) -> None:
        """Play the recording from its first step."""
        if self.recording is not None:
            self.following, self._replayed, self.at = False, now, 0
            self.draw()

    def action_scroll_text(self, rows: int) -> None:
        """Scroll down by so many rows; up where negative."""
        self._canvas_view.scroll_rows(rows)

    def action_palette_next(self) -> None:
        """Use the next palette."""
        names = list(PALETTES)
        name = names[(names.index(self.theme.palette) + 1) % len(names)]
        self.set_theme(replace(self.theme, palette=name))
        self.post_message(self.ThemeChanged(self.theme))

    def set_theme(self, theme: Theme) -> None:
        """Draw with another theme."""
        self.theme = self._canvas_view.theme = self._parent_view.theme = theme
        self._drawn = (None, 0, 0)
        self._draw_legend()
        self.draw()

    def action_request(self, what: str) -> None:
        """Request something of the generation, as `Request` lists it."""
        self.post_message(self.Request(self, what))

    def action_shift(self, steps: int) -> None:
        """Raise the threshold of the decoder by one step; lower it where negative."""
        self.action_request("threshold_up" if steps > 0 else "threshold_down")


def _words(text: str) -> Line:
    """A text of the frame; where it is empty, the frame has no gap."""
    return [(text, "")] if text else []
