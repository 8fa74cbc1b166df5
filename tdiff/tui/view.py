"""The view over time: it reads what is new, and draws what has changed, no more often than the terminal can take.

It folds what other parts deliver: sources deliver lines, the models' processes deliver traces. It reads no file,
computes nothing, and draws nothing while no client is attached to the terminal.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from textual import events
from textual.app import ComposeResult
from textual.geometry import Size
from textual.screen import Screen

from tdiff.formatting import duration
from tdiff.terminal.attached import Attached
from tdiff.terminal.detect import Terminal
from tdiff.tui.absence import AWAY, Absence
from tdiff.tui.arranger import Arranger
from tdiff.tui.canvases import Canvases
from tdiff.tui.controller import CanvasController
from tdiff.tui.key import Key, shown
from tdiff.tui.layout import Arrangement
from tdiff.tui.notifications import Notifications
from tdiff.tui.pacing import Pacer
from tdiff.tui.panes.base import Scene
from tdiff.tui.panes.registry import Situation
from tdiff.tui.panes.sides import Panes
from tdiff.tui.panes.training import TrainingPane
from tdiff.tui.racing import Racing
from tdiff.tui.status_lines import StatusLines
from tdiff.tui.terminal_app import TerminalApp
from tdiff.tui.widgets.command_palette import CommandPalette
from tdiff.tui.widgets.decoder_picker import Choice, DecoderPicker
from tdiff.tui.widgets.help import Page
from tdiff.tui.widgets.lines import Lines
from tdiff.watch import summary
from tdiff.watch.devices.board import Board
from tdiff.watch.follow import Watched
from tdiff.watch.generation.pair import ModelPair
from tdiff.watch.preferences import Preferences
from tdiff.watch.run_state import RunState

_UPDATE_SECONDS = 0.25
"""Seconds between updates from the sources."""
_FRAME_SECONDS = 1 / 30
"""Seconds between frames while something moves."""
_SHARE_BESIDE_MODEL = 0.03
"""Share of a core that drawing may take while the model computes on the CPU: its threads wait for one another."""
_MOST_CHECKS = 60
"""Checks of whether the first frame is complete; after them it is shown as it is."""
_IDLE_SECONDS = 60.0
"""Seconds without a key after which the model generates seldom while its weights stay the same."""


class WatchView(TerminalApp):
    """The widgets of the view, and what keeps them up to date."""

    def __init__(
        self,
        watched: list[Watched],
        models: ModelPair,
        terminal: Terminal,
        preferences: Preferences,
        *,
        find_run: Callable[[], Watched | None] = lambda: None,
        notify: str = "off",
        on_alert: str = "",
        board: Board | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`find_run` is called while no run is watched, and its result is added to `watched`.

        `notify` is one of `terminal.notify.MODES`, `on_alert` a command for each alert, or empty. `board` reads the
        GPUs under the runs. `clock` gives seconds since the epoch.
        """
        super().__init__(terminal)
        self.watched, self.models, self.preferences = watched, models, preferences
        self._find_run, self._clock, self._board = find_run, clock, board
        self.attached = Attached(terminal.program)
        self._absence = Absence(clock())
        self.notifications = Notifications(terminal, notify, on_alert, self.write)
        self._checks_left = _MOST_CHECKS  # before the first frame is shown; 0: it was
        self._sizes: object = None  # of all lines, at the last check
        self._last_input = clock()  # when the user pressed a key, or came back
        self._left: tuple[str, ...] | None = None  # what the screen says while no client is attached
        self._undrawn = True  # whether the runs have changed since they were drawn
        self._window = Size(0, 0)  # textual's own is still the old one while it reports a new size
        self.panes = Panes(terminal.theme, two=len(models.lives) > 1)
        self.arranger = Arranger(self.panes, self._situation, self._arranged)
        self.canvases = Canvases(self.panes.canvases, models)
        training = self.panes.by_name["training"]
        assert isinstance(training, TrainingPane)
        self.training = training
        self.lines = StatusLines(
            watched, terminal, preferences.keys, self.arranger, self.canvases, self.training, clock
        )
        self.palette = CommandPalette(self._names_of, self.run_command)
        self.picker = DecoderPicker(self.use_choice)
        self.lines.boxes = (self.picker, self.palette)
        self._page = Page()
        self.racing = Racing(preferences.keys, lambda: self.attached.now() and self._pacer.ready(), clock)
        self._pacer = Pacer(self)

    # Start and end

    def compose(self) -> ComposeResult:
        """A line above, the panes, and the lines below."""
        yield self.lines.top
        yield self.panes
        yield self.lines.ask
        yield self.lines.summary
        yield self.lines.bottom
        yield self.lines.hints
        yield self.palette
        yield self.picker

    def on_mount(self) -> None:
        """Show at once what there is; the models' processes start afterwards."""
        self.install_screen(self._page, "page")
        if self.preferences.keys:
            self.set_keymap(dict(self.preferences.keys))
        self._window = self.size
        self.arranger.arrange()
        self._update()
        (self.training if self._situation().only_curves else self.canvases.pane).focus()
        self.set_interval(_UPDATE_SECONDS, self._update)
        self._frames = self.set_interval(_FRAME_SECONDS, self._frame, pause=True)
        if self.models and not self._situation().only_traces:
            self.call_after_refresh(self._start_models)

        self.call_after_refresh(self._show_first_frame)

    def _show_first_frame(self) -> None:
        """Show the first frame once nothing in it changes any more: sizes come first, what depends on them later."""
        sizes = [lines.size for lines in self.query(Lines)]
        panes = [pane for pane in self.panes.by_name.values() if pane.display]
        still = any(sizes) and sizes == self._sizes and all(pane.settled for pane in panes)
        self._sizes = sizes
        self._checks_left = 0 if still else self._checks_left - 1
        if self._checks_left:
            self.call_after_refresh(self._show_first_frame)
        elif render := getattr(getattr(self.screen, "_compositor", None), "render_update", None):
            self._display(self.screen, render(full=True))
        else:
            self.redraw_screen()

    def _display(self, screen: Screen[Any], renderable: Any) -> None:
        """Write a frame, unless it is an incomplete one before the first."""
        if not self._checks_left:
            super()._display(screen, renderable)

    def _start_models(self) -> None:
        self.models.start()
        self._frames.resume()

    async def run_command(self, key: Key | None) -> None:
        """Run the command that was chosen in the palette; None: none was."""

    async def use_choice(self, choice: Choice | None) -> None:
        """Use what was chosen in the picker of decoders; None: nothing was."""

    def suspending(self) -> None:
        """The models' processes stop too: a stopped job computes nothing."""
        self.racing.halt()
        self.models.halt(self._clock())

    def hang_up(self) -> None:
        """Leave, and end the models' processes first."""
        self.models.close()
        self.exit()

    def on_unmount(self) -> None:
        """End the models' processes, and close what is watched."""
        self.models.close()
        for run in self.watched:
            run.close()
        if self._board is not None:
            self._board.close()
        self.attached.close()

    # Updates

    @property
    def runs(self) -> list[RunState]:
        """The state of each watched run."""
        return [run.run_state for run in self.watched]

    def _update(self) -> None:
        """Read what is new, and draw what it changes."""
        if not self.screen_stack:  # the timer fires once more after the end
            return
        now = self._clock()
        self.racing.resume()  # an update shows that the view is not stopped, or no longer
        if self.racing.screen is None:  # a race has the processors for itself
            self.models.resume(now)
        if not self.watched and (run := self._find_run()):
            self.watched.append(run)
            self.arranger.arrange()
        for run in self.watched:
            self._undrawn |= run.poll()
            if news := run.take_news():
                self.say(news)
            notices = run.run_state.check(now)
            self._undrawn |= bool(notices)
            self.notifications.take(run, notices, now)
        self._report_failures()
        if self.canvases.follow_traces(self.runs):
            self.arranger.arrange()
        self.canvases.show_first_sample(self.watched)
        attached = self._check_attached(now)
        self._read_devices(now, attached)
        situation, drawn = self._situation(), self.arranger.situation
        if (situation.only_curves, situation.gpus) != (drawn.only_curves, drawn.gpus):
            self.arranger.arrange()
        self.models.slow_down(now - self._last_input >= _IDLE_SECONDS)
        if not attached:
            self._draw_detached(now)
            return
        self._left = None
        if self.models.started and not self._frames_needed:
            self._frame()
        if self._undrawn:
            self._draw_runs()
        else:
            self.training.show_time(now)
        if len(self.screen_stack) > 1:
            self.renew_page()
        self.lines.draw(now)

    def _report_failures(self) -> None:
        """Say what has gone wrong with the command for alerts, and put it into the log."""
        for failure in self.notifications.failures():
            self.say(failure)
            for run in self.runs[:1]:
                run.write(f"-- {failure}")
                self._undrawn = True

    def _read_devices(self, now: float, attached: bool) -> None:
        """Read the GPUs: once a second while they are shown, seldom otherwise, never while no client is attached."""
        if self._board is None or self._checks_left:  # the first frame comes first
            return
        pane = self.panes.by_name["gpus"]
        visible = pane.display and "gpus" in self.arranger.displayed
        if self._board.update(self.watched, now, visible=visible, attached=attached) and visible and attached:
            pane.show_scene(self._scene())

    def _check_attached(self, now: float) -> bool:
        attached = self.attached.now()
        self._pacer.paused = not attached
        self.models.rest(not attached)
        since = self._absence.ended(attached, now)
        if since is not None:
            news = [line for run in self.runs for line in summary.since(run, since)] if now - since >= AWAY else []
            if news:
                self.lines.news = [f"while you were away ({duration(now - since)}): {news[0]}", *news[1:]]
            self._last_input = now
            self.redraw_screen()
        return attached

    def _draw_detached(self, now: float) -> None:
        """Draw only what would become false while no client is attached: which model generates, what has ended."""
        states = tuple(run.state(now) for run in self.runs)
        words = (*states, *(f"{live.state} {live.resting}" for live in self.models.lives))
        if words == self._left:
            return
        if self._left is not None and self._left[: len(states)] != states:
            self._draw_runs()
        self._left = words
        self.canvases.tick(now)
        self.lines.draw(now, aged=False)

    @property
    def _frames_needed(self) -> bool:
        return self.models.busy or self.canvases.moving

    def _frame(self) -> None:
        """Take in what the models said; draw it if a frame can be drawn now."""
        if not self.screen_stack or self.racing.screen is not None:
            return
        now = self._clock()
        self.models.poll(now)
        self.canvases.take_in()
        self._pacer.share = _SHARE_BESIDE_MODEL if self.models.computes_here else 1.0
        if self.attached.now() and self._pacer.ready():
            for controller in self.canvases.controllers:
                controller.describe(now, self.runs)
                controller.pane.tick(now)
        if self._frames_needed:
            self._frames.resume()
        else:
            self._frames.pause()

    # Drawing

    def _scene(self) -> Scene:
        sample = self.canvases.current.gallery.selected_sample
        if self._board is None or not (readings := self._board.readings):  # nothing is read before the first frame
            return Scene(self.runs, self._clock(), sample)
        devices = [self._board.of(run) for run in self.watched]
        return Scene(self.runs, self._clock(), sample, readings, devices)

    def _draw_runs(self) -> None:
        self._undrawn = False
        scene = self._scene()
        for pane in self.panes.by_name.values():
            pane.show_scene(scene)

    def draw_sample(self) -> None:
        """Draw what depends on the sample that is selected."""
        scene = self._scene()
        for pane in self.panes.by_name.values():
            pane.show_sample(scene)

    def draw_all(self) -> None:
        """Draw the runs, and the lines around the panes."""
        self._draw_runs()
        self.lines.draw(self._clock())

    def renew_page(self) -> None:
        """Bring the page over the view up to date."""

    def say(self, text: str) -> None:
        """Show a notice in the line below the panes, for some seconds or until the next key."""
        self.lines.note(text)
        self.lines.draw(self._clock())

    def go_live(self, *controllers: CanvasController) -> None:
        """Show the live edge in these canvases, or in all."""
        self.canvases.go_live(*controllers)
        self.training.put_cursor(None)
        self._frame()

    # Layout

    def on_resize(self, event: events.Resize) -> None:
        """Another size may need another arrangement."""
        self._window = event.size
        self.arranger.arrange()
        self.call_after_refresh(self.draw_all)

    def on_descendant_focus(self) -> None:
        """In a small window, only the focused pane is shown whole."""
        self.arranger.last = self.arranger.current
        self.canvases.focus(self.arranger.last)
        self.arranger.arrange()
        self.lines.draw(self._clock())

    def _situation(self) -> Situation:
        """What is there to show. Only curves where no watched run has a model of its own, and no text exists."""
        runs, lives = self.runs, self.models.lives
        text_exists = bool(self.canvases.traces.newest) or any(run.samples for run in runs)
        foreign = all(run.format not in ("", "tdiff", "trace") for run in runs)
        no_model = not lives or (foreign and all(live.state == "dead" and not live.recordings for live in lives))
        return Situation(
            *self._window,
            two=self.panes.two,
            watched=bool(runs),
            only_traces=bool(runs) and all(run.format == "trace" for run in runs),
            only_curves=bool(runs) and not text_exists and no_model,
            gpus=self._board is not None and any(reading.gpus for reading in self._board.readings),
        )

    def _arranged(self, arrangement: Arrangement) -> None:
        self._undrawn |= not arrangement.panes <= self.arranger.displayed  # a pane may have been drawn long ago
        self.lines.arrange(arrangement)

    def _names_of(self, key: Key) -> str:
        return shown(self.preferences.keys.get(key.id, key.keys), ascii=self.terminal.glyphs == "ascii")
