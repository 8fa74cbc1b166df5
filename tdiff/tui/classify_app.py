"""`tdiff watch --classify TEXT`: the class probabilities of a text while mask samples arrive."""

from __future__ import annotations

import time
from collections.abc import Callable

from textual.app import ComposeResult
from textual.binding import Binding

from tdiff.draw.classification import text_lines, view
from tdiff.draw.predictions import words
from tdiff.draw.render import Line
from tdiff.errors import TdiffError
from tdiff.protocol.prediction import Contribution
from tdiff.terminal.detect import Terminal
from tdiff.tui.looks import chosen, dress
from tdiff.tui.session import run_view
from tdiff.tui.terminal_app import TerminalApp
from tdiff.tui.widgets.lines import Lines, two_ends
from tdiff.visible import visible, visible_line
from tdiff.watch.generation.live_prediction import LivePrediction
from tdiff.watch.generation.process import Child, command
from tdiff.watch.options import Options
from tdiff.watch.preferences import Preferences

_FRAME = 1 / 15
_HINTS = "n next text  p previous text  r other masks  up/down scroll  R restart  q quit"


class ClassifyApp(TerminalApp):
    """The view of a live classification."""

    BINDINGS = [  # noqa: RUF012 - textual declares this type
        Binding("q,ctrl+q,ctrl+c", "quit", "quit", show=False),
        Binding("n,right,l", "next_text(1)", "the next text", show=False),
        Binding("p,left,h", "next_text(-1)", "the text before", show=False),
        Binding("r", "reseed", "other masks", show=False),
        Binding("R", "restart", "start the model's process again", show=False),
        Binding("up,k", "scroll(-1)", "scroll up", show=False),
        Binding("down,j", "scroll(1)", "scroll down", show=False),
    ]
    ENABLE_COMMAND_PALETTE = False
    TITLE = "tdiff watch"

    def __init__(
        self, prediction: LivePrediction, terminal: Terminal, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(terminal)
        self.prediction, self._clock = prediction, clock
        self._row = 0
        self._top, self._body, self._hints = Lines(id="top"), Lines(id="prediction"), Lines(id="hints")

    def compose(self) -> ComposeResult:
        """A line above, the classification, and a line below."""
        yield self._top
        yield self._body
        yield self._hints

    def on_mount(self) -> None:
        """Draw at once; the model's process starts afterwards."""
        self._body.styles.height = "1fr"
        self._draw()
        self.set_interval(_FRAME, self._update)
        self.call_after_refresh(self._start)

    def suspending(self) -> None:
        """The model's process stops too, and resumes with the next update."""
        self.prediction.halt()

    def hang_up(self) -> None:
        """Leave, and end the model's process first."""
        self.prediction.close()
        self.exit()

    def on_unmount(self) -> None:
        """End the model's process."""
        self.prediction.close()

    def on_resize(self) -> None:
        """Draw for another size."""
        self.call_after_refresh(self._draw)

    def _start(self) -> None:
        try:
            self.prediction.start()
        except TdiffError as why:
            self.prediction.message = str(why)
        self._draw()

    def _update(self) -> None:
        if self.screen_stack and (self.prediction.poll(self._clock()) or self.prediction.state == "scoring"):
            self._draw()

    def _draw(self) -> None:
        prediction, (width, height) = self.prediction, (self.size.width, self.size.height)
        if not width or not height:
            return
        name = visible_line(prediction.ready.model) if prediction.ready else "tdiff"
        state = prediction.message or prediction.state
        left: Line = [(f" {name} ", "bold"), (f" text {prediction.index + 1} of {len(prediction.texts)}", "")]
        self._top.show([two_ends(left, [(f"{visible_line(state)} ", "bold" if prediction.message else "")], width)])
        self._hints.show([[(f" {_HINTS}", "dim")]])
        plain = [Contribution(visible(prediction.texts[prediction.index]), 0.0)]
        parts = words(prediction.words) if prediction.words else plain
        self._row = min(self._row, max(0, len(text_lines(parts, width - 2, self.terminal.theme)) - 1))
        self._body.show(
            view(
                [visible_line(name) for name in prediction.classes],
                prediction.rounds,
                parts,
                max_draws=prediction.max_draws,
                seconds=prediction.seconds,
                size=(width, max(1, height - 2)),
                top=self._row,
                theme=self.terminal.theme,
            )
        )

    def action_next_text(self, count: int) -> None:
        """Show the text that is `count` further."""
        self._row = 0
        self.prediction.move(count)
        self._draw()

    def action_reseed(self) -> None:
        """Classify the same text with other masks."""
        self.prediction.next_seed()
        self._draw()

    def action_restart(self) -> None:
        """Start the model's process again."""
        self._start()

    def action_scroll(self, rows: int) -> None:
        """Scroll the text."""
        self._row = max(0, self._row + rows)
        self._draw()


def run(options: Options, terminal: Terminal, preferences: Preferences) -> None:
    """Show the view until the user quits; then print the prediction."""
    assert options.model is not None, "the command requires a model"
    model = options.model
    prediction = LivePrediction(
        lambda: Child(command(model, options.device)),
        options.classify,
        seed=options.seed or 0,
    )
    app = ClassifyApp(prediction, terminal)
    dress(app, chosen(options, preferences))
    run_view(app)
    if prediction.rounds:
        last = prediction.rounds[-1]
        best = max(range(len(prediction.classes)), key=lambda n: last.posterior[n])
        print(f"{visible_line(prediction.classes[best])} {last.posterior[best]:.3f} after {last.draws} mask samples")
