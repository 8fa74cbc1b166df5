"""The live view: what is watched on one side, what models write on the other, and the keys between them.

It folds what others bring: sources bring lines, the models' processes bring traces. It reads no file and computes
nothing itself, and it draws nothing while nobody looks.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

from textual import events
from textual.app import ComposeResult
from textual.geometry import Size
from textual.screen import Screen

from tdiff.draw.render import Line
from tdiff.formatting import duration
from tdiff.terminal.attached import Attached
from tdiff.terminal.clipboard import copied
from tdiff.terminal.detect import Terminal
from tdiff.tui import status
from tdiff.tui.absence import AWAY, Absence
from tdiff.tui.controller import CanvasController
from tdiff.tui.keys import Key, bindings, shown
from tdiff.tui.layout import CANVASES, arrange, chosen
from tdiff.tui.pacing import Pacer
from tdiff.tui.panes.base import Pane
from tdiff.tui.panes.details import DetailsPane, alert_lines
from tdiff.tui.panes.generation import GenerationPane
from tdiff.tui.panes.log import LogPane
from tdiff.tui.panes.sides import Panes
from tdiff.tui.panes.training import TrainingPane
from tdiff.tui.questions import RESTART, Questions
from tdiff.tui.traces import Traces
from tdiff.tui.widgets.ask import Ask
from tdiff.tui.widgets.help import Page, help_lines
from tdiff.tui.widgets.lines import Lines
from tdiff.tui.widgets.paint import TerminalApp
from tdiff.tui.widgets.palette import Palette
from tdiff.visible import visible_line
from tdiff.watch.follow import Watched
from tdiff.watch.generation.pair import ModelPair
from tdiff.watch.generation.recording import free_path, keep
from tdiff.watch.generation.session import Live
from tdiff.watch.preferences import Preferences
from tdiff.watch.run_state import RunState

_LOOK_EVERY = 0.25
"""Seconds between looks at the sources."""
_FRAME = 1 / 30
"""Seconds between frames while something moves."""
_COURTEOUS = 0.03
"""Of a core that drawing may take while the model computes on the CPU: its threads wait for one another."""
_TRIES = 60
"""Looks at whether the first frame is whole; then it is shown as it is."""
_UNTOUCHED = 60.0
"""Seconds without a key after which texts of the same weights come seldom."""
_NOTED = 8.0
"""Seconds for which a word of ours stands below."""


class WatchApp(TerminalApp):
    """The view."""

    BINDINGS = bindings("app")  # type: ignore[assignment]
    ENABLE_COMMAND_PALETTE = False  # ours is another
    TITLE = "tdiff watch"
    CSS_PATH = "app.tcss"

    def __init__(
        self,
        watched: list[Watched],
        company: ModelPair,
        terminal: Terminal,
        liked: Preferences,
        *,
        look_for: Callable[[], Watched | None] = lambda: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`look_for` is asked for a run where none is watched yet, and what it finds is added to `watched`.

        `clock` tells seconds since the epoch.
        """
        super().__init__(terminal)
        self.watched = watched
        self.company = company
        self.liked, self._look_for, self._clock = liked, look_for, clock
        self.attached = Attached(terminal.program)
        self._absence = Absence(clock())
        self._unseen = _TRIES  # looks that are left before the first frame is shown; 0: it was
        self._sizes: object = None  # of all lines, when it was looked at last
        self._touched = clock()  # when somebody pressed a key, or came back
        self._left: tuple[str, ...] | None = None  # what a screen at which nobody looks says
        self._undrawn = True  # whether the stories have gone on since they were drawn
        self._news: list[str] = []  # what happened while nobody looked
        self._note, self._noted = "", 0.0
        self._wanted: dict[str, bool] = {}  # panes that the user has shown or hidden
        self._zoomed = False
        self._displayed: frozenset[str] = frozenset()
        self._curves_alone = False  # whether they have been arranged so
        self._window = Size(0, 0)  # textual's own is still the old one while a new size is told
        self._last_pane: Pane | None = None  # the pane that had the focus last
        self.traces = Traces()
        names = CANVASES[: max(1, len(company.lives))]
        canvases = [GenerationPane(terminal.look, id=name, of_two=len(names) > 1) for name in names]
        self.writings = [
            CanvasController(pane, live, company) for pane, live in zip(canvases, company.lives or [None], strict=True)
        ]
        self._last_writing = self.writings[0]
        self.training = TrainingPane(terminal.look)
        self.log_pane, self.details = LogPane(), DetailsPane()
        self._panes = Panes(canvases, self.training, self.log_pane, self.details, terminal.look)
        self._top, self._bottom, self._hints = Lines(id="top"), Lines(id="bottom"), Lines(id="hints")
        self._aside = Lines(id="aside")
        self._ask, self._questions = Ask(id="ask"), Questions(self)
        self._palette = Palette(self._names_of)
        self._page = Page()
        self._pacer = Pacer(self)

    # Making it

    def compose(self) -> ComposeResult:
        """A line above, the panes, and two lines below."""
        yield self._top
        yield self._panes
        yield self._ask
        yield self._aside
        yield self._bottom
        yield self._hints
        yield self._palette

    def on_mount(self) -> None:
        """Show at once what there is; the model's process comes after."""
        self.install_screen(self._page, "page")
        if self.liked.keys:
            self.set_keymap(dict(self.liked.keys))
        self._window = self.size
        self._arrange()
        self._look()
        (self.training if self._only_curves else self.generation).focus()
        self.set_interval(_LOOK_EVERY, self._look)
        self._frames = self.set_interval(_FRAME, self._frame, pause=True)
        if self.company and not self._only_traces:
            self.call_after_refresh(self._start_models)

        self.call_after_refresh(self._show_whole)

    def _show_whole(self) -> None:
        """Show the first frame once nothing in it moves any more: sizes come first, and what depends on them later."""
        sizes = [lines.size for lines in self.query(Lines)]
        panes = [pane for pane in self.query(Pane) if pane.display]
        still = any(sizes) and sizes == self._sizes and all(pane.settled for pane in panes)
        self._sizes = sizes
        self._unseen = 0 if still else self._unseen - 1
        if self._unseen:
            self.call_after_refresh(self._show_whole)
        elif at_once := getattr(getattr(self.screen, "_compositor", None), "render_update", None):
            self._display(self.screen, at_once(full=True))
        else:
            self.draw_anew()

    def _display(self, screen: Screen[Any], renderable: Any) -> None:
        """Write a frame, unless it is one of those before the first that is whole."""
        if not self._unseen:
            super()._display(screen, renderable)

    @property
    def writing(self) -> CanvasController:
        """Who writes on the canvas that has the focus, or had it last."""
        return self._last_writing

    @property
    def live(self) -> Live | None:
        """Its model."""
        return self.writing.live

    @property
    def generation(self) -> GenerationPane:
        """That canvas."""
        return self.writing.pane

    @property
    def _only_traces(self) -> bool:
        """Whether nothing is watched but generations of somebody else's."""
        return bool(self.watched) and all(story.format == "trace" for story in self.stories)

    @property
    def _only_curves(self) -> bool:
        """Whether there is no text to show: what is watched has no model of its own, none was asked for, none wrote."""
        lives = self.company.lives
        if not self.watched or self.traces.newest or any(story.samples for story in self.stories):
            return False
        foreign = all(story.format not in ("", "tdiff", "trace") for story in self.stories)
        return not lives or (foreign and all(live.state == "dead" and not live.recordings for live in lives))

    def _start_models(self) -> None:
        self.company.start()
        self._frames.resume()

    def hang_up(self) -> None:
        """Leave, and end the models' processes first."""
        self.company.close()
        self.exit()

    def on_unmount(self) -> None:
        """Nothing stays behind."""
        self.company.close()
        for one in self.watched:
            one.close()
        self.attached.close()

    # The course of time

    @property
    def stories(self) -> list[RunState]:
        """What is known of what is watched."""
        return [one.story for one in self.watched]

    def _look(self) -> None:
        """Read what is new, and draw what it changes."""
        if not self.screen_stack:  # the timer's last word, when all is over
            return
        now = self._clock()
        self.company.go_on(now)  # whoever looks is not stopped, or no more
        if not self.watched and (found := self._look_for()):
            self.watched.append(found)
            self._arrange()
        for one in self.watched:
            self._undrawn |= one.poll()
            self._undrawn |= bool(one.story.check(now))
        if self.traces.follow(self.stories) and self.traces.newest is not None:
            first = self.writings[0]
            first.gallery.add_live(self.traces.newest, None)
            if first.pane.following:
                first.show_entry(first.gallery.entries[-1].label, self.traces.newest, True)
            self._arrange()
        self._first_sample()
        if self._only_curves is not self._curves_alone:
            self._arrange()
        attached = self._see_whether_attached(now)
        self.company.slow_down(now - self._touched >= _UNTOUCHED)
        if not attached:
            self._leave_true(now)
            return
        self._left = None
        if self.company.started and not self._frames_needed:
            self._frame()
        if self._undrawn:
            self._draw_training()
        self._draw_lines(now)

    def _see_whether_attached(self, now: float) -> bool:
        attached = self.attached.now()
        self._pacer.paused = not attached
        self.company.rest(not attached)
        since = self._absence.ended(attached, now)
        if since is not None:
            if now - since >= AWAY:
                self._tell_what_happened(since, now)
            self._touched = now
            self.draw_anew()
        return attached

    def _leave_true(self, now: float) -> None:
        """Nobody looks, and nothing is drawn but what would be untrue when it stays: who writes, what has ended."""
        states = tuple(story.state(now) for story in self.stories)
        said = (*states, *(f"{live.state} {live.resting}" for live in self.company.lives))
        if said == self._left:
            return
        if self._left is not None and self._left[: len(states)] != states:
            self._draw_training()
        self._left = said
        for writing in self.writings:
            writing.pane.tick(now)
        self._draw_lines(now, aged=False)

    def _tell_what_happened(self, since: float, now: float) -> None:
        lines = [line for story in self.stories for line in story.away(since)]
        if lines:
            self._news = [f"while you were away ({duration(now - since)}): {lines[0]}", *lines[1:]]

    @property
    def _frames_needed(self) -> bool:
        return self.company.busy or any(writing.pane.moving for writing in self.writings)

    def _frame(self) -> None:
        """Take in what the model said; draw it if a frame can be drawn now."""
        if not self.screen_stack:
            return
        now = self._clock()
        self.company.poll(now)
        for writing in self.writings:
            writing.take_in()
        self._pacer.share = _COURTEOUS if self.company.computes_here else 1.0
        if self.attached.now() and self._pacer.ready():
            for writing in self.writings:
                writing.describe(now, self.stories)
                writing.pane.tick(now)
        if self._frames_needed:
            self._frames.resume()
        else:
            self._frames.pause()

    # Samples

    def _first_sample(self) -> None:
        """The newest recorded sample, until the model writes."""
        self._fill_galleries()
        self.writings[0].show_sample()

    def _fill_galleries(self) -> None:
        for writing in self.writings:
            writing.know(self.watched)

    def _go_to_sample(self, ways: int) -> None:
        self._fill_galleries()
        shown = self.writing.gallery.move(ways)
        if shown is None:
            self.say("no samples yet")
            return
        self.writing.show_entry(shown.label, shown.recording(), shown.live)
        if shown.step is not None:
            self.training.put_cursor(shown.step)
        self._draw_details()

    def on_training_pane_moved(self, message: TrainingPane.Moved) -> None:
        """What the model wrote at that moment of its training."""
        self._fill_galleries()
        gallery = self.writing.gallery
        entry = gallery.at(message.step) if message.step is not None else None
        if message.step is None:
            self._go_live(self.writing)
        elif entry is not None and entry is not gallery.chosen:
            gallery.chosen = entry
            self.writing.show_entry(entry.label, entry.recording(), False)
        self._draw_details()

    def on_generation_pane_live(self, message: GenerationPane.Live) -> None:
        """Back to the live edge; with all canvases whose model's text stands still, where it is paused no more."""
        for writing in self.writings:
            stands = not writing.pane.following and writing.gallery.chosen is None
            if writing.pane is message.pane or (message.together and stands):
                self._go_live(writing)

    def on_generation_pane_paused(self) -> None:
        """Every canvas stands still: two are looked at together."""
        for writing in self.writings:
            writing.pane.pause()

    def on_generation_pane_looked(self, message: GenerationPane.Looked) -> None:
        """The palette is that of all."""
        self._panes.set_look(message.look)

    def _go_live(self, *writings: CanvasController) -> None:
        """Back to the live edge, of these or of all."""
        for writing in writings or self.writings:
            writing.go_live(self.traces.newest if writing is self.writings[0] else None)
        self.training.put_cursor(None)
        self._frame()

    # Drawing

    def _draw_training(self) -> None:
        self._undrawn = False
        self.training.show_stories(self.stories, self._clock())
        if self.watched:
            story = self.watched[0].story
            if self.log_pane.display:
                self.log_pane.show_log(story.log, story.logged - len(story.log))
            self._draw_details()

    def _draw_details(self) -> None:
        if self.details.display and self.watched:
            self.details.show_story(self.watched[0].story, self.writing.gallery.chosen_sample)

    def _draw_lines(self, now: float, *, aged: bool = True) -> None:
        """The line above, with ages or for good, and those below."""
        width, ascii = self._window.width, self.terminal.glyphs == "ascii"
        pane = self.focused_pane()
        above = status.above(self.watched, self.terminal, now, width, aged=aged)
        self._top.show([above if self._displayed else status.too_small(*self._window, above)])
        told, more = status.below(self._telling(), self.stories, width)
        self._bottom.show([told])
        self._aside.show([self._in_a_line(now, width)])
        # What does not fit into the line above takes the place of the hints.
        self._hints.show([more or status.hints(pane.where if pane else "", self.liked.keys, width, ascii=ascii)])
        for writing in self.writings:
            writing.describe(now, self.stories)

    def _in_a_line(self, now: float, width: int) -> Line:
        hidden = [writing for writing in self.writings if not writing.pane.display]
        if self._curves_alone and self.training.display:
            return [(" log ", "dim"), (self.stories[0].log[-1] if self.stories[0].log else "", "")]
        if self._curves_alone:
            hidden = []
        if hidden and len(self.writings) == 1:
            return [(" generation ", "dim"), (self.generation.in_a_line(), "")]
        if hidden and not (self._only_traces and self.generation.display):
            return [(" not shown:", "dim"), *(run for one in hidden for run in one.in_a_line(len(hidden) == 1))]
        return status.training_in_a_line(self.stories[0], self.training.smoothing, now, width) if self.watched else []

    def _telling(self) -> Line:
        """What must be told before what happened last: a word of ours, a process that is gone, what one missed."""
        if self._ask.display:
            return [(f" {self._ask.placeholder}", "")]
        if self._note and self._clock() - self._noted < _NOTED:
            return [(f" {self._note}", "")]
        dead = [writing for writing in self.writings if writing.dead]
        troubles = [writing.trouble for writing in self.writings if writing.trouble]
        if dead:
            key = status.first_name(RESTART, self.liked.keys, ascii=self.terminal.glyphs == "ascii")
            whom = "the model" if len(self.writings) == 1 else " and ".join(writing.name for writing in dead)
            return [(f" {key} starts {whom} again", "bold"), (f" · {' · '.join(troubles)}", "")]
        if troubles:
            return [(f" {' · '.join(troubles)}", "bold")]
        if self._news:
            return [(" " + " · ".join(self._news), "bold")]
        return [(f" {self.terminal.remedy}", "")] if self.terminal.remedy else []

    def say(self, text: str) -> None:
        """A word on the line below, for some seconds or until the next key."""
        self._note, self._noted = visible_line(text), self._clock()
        self._draw_lines(self._clock())

    # Panes

    def on_resize(self, event: events.Resize) -> None:
        """Another size may want another arrangement."""
        self._window = event.size
        self._arrange()
        self.call_after_refresh(self._draw_all)

    def _draw_all(self) -> None:
        self._draw_training()
        self._draw_lines(self._clock())

    def on_descendant_focus(self) -> None:
        """In a short window, only the focused pane is shown whole."""
        self._last_pane = self.focused_pane() or self._last_pane
        here = [writing for writing in self.writings if writing.pane is self._last_pane]
        self._last_writing = here[0] if here else self._last_writing
        self._arrange()
        self._draw_lines(self._clock())

    def focused_pane(self) -> Pane | None:
        """The pane that has the focus."""
        return self.focused if isinstance(self.focused, Pane) else None

    def _arrange(self) -> None:
        """Which panes are shown, and how: beside one another, stacked, one alone, or a single line."""
        width, height = self._window
        if not width or not height:
            return
        self._curves_alone = self._only_curves
        focused = self.focused_pane() or self._last_pane
        who = str(focused.id) if focused else ""
        how = arrange(width, height, self._shown(), who, self._zoomed, self._panes.two)
        self._panes.stand(how, bool(self.watched))
        self._undrawn |= not how.panes <= self._displayed  # it may be long ago that one was drawn
        self._displayed = how.panes
        self._aside.display, self._bottom.display, self._hints.display = how.aside, how.bottom, how.hints
        at_the_panes = self.screen is self.generation.screen  # else the focus belongs to what lies over them
        if at_the_panes and self.focused is None and self._last_pane is not None and self._last_pane.display:
            self.screen.set_focus(self._last_pane)  # it was hidden, which takes the focus away

    def _shown(self) -> list[str]:
        two, watched = self._panes.two, bool(self.watched)
        usual = {"generation": False, "training": True, "log": True} if self._only_curves else {}
        return chosen(*self._window, usual | self._wanted, self._only_traces, two=two, watched=watched)

    def _toggle(self, name: str) -> None:
        """Hide a pane that stands on the screen, unless it is the last one; bring one that does not."""
        before = set(self._shown())
        of_it = set(CANVASES) if name in CANVASES else {name}
        bring = self._displayed.isdisjoint(of_it) or not before - of_it
        self._wanted[name] = bring
        self._arrange()
        focused = self.focused_pane()
        if bring and self._displayed.isdisjoint(of_it):  # no room beside the others
            self._focus_on(name)
        elif focused is None or not focused.display:
            self._step_focus(1)
        self._draw_training()
        self._draw_lines(self._clock())

    # Keys

    async def on_event(self, event: events.Event) -> None:
        """Open the asked line before the next key is looked at, which may have come with this one and belongs there.

        Textual hands a key to the pane that has the focus, and the pane would answer after the keys that follow.
        """
        if isinstance(event, events.InputEvent):
            self._touched = self._clock()
        if isinstance(event, events.Key) and self._questions.opens(event.key):
            return
        await super().on_event(event)

    def on_key(self) -> None:
        """A key wipes the last word and the news."""
        self._note, self._news = "", []

    async def action_quit(self) -> None:
        """Leave."""
        self.exit()

    def suspending(self) -> None:
        """The models' processes stop too: a job that is stopped computes nothing."""
        self.company.halt(self._clock())

    def action_help(self) -> None:
        """All keys."""
        ascii = self.terminal.glyphs == "ascii"
        self._turn_to("keys", help_lines(self.liked.keys, ascii=ascii, two=self._panes.two))

    def action_palette(self) -> None:
        """Commands by name."""
        pane = self.focused_pane() or self._last_pane
        self._palette.open(pane.where if pane is not None else "")

    def _names_of(self, key: Key) -> str:
        return shown(self.liked.keys.get(key.id, key.keys), ascii=self.terminal.glyphs == "ascii")

    def on_palette_chosen(self, message: Palette.Chosen) -> None:
        """Back to the pane, where the command acts."""
        self.screen.set_focus(self._last_pane if self._last_pane is not None and self._last_pane.display else None)
        if message.key is not None:
            self._perform(message.key)

    def _perform(self, key: Key) -> None:
        names = {"app": self, "generation": self.generation, "training": self.training, "log": self.log_pane}
        node = names[key.where]
        self.run_worker(self.run_action(key.id, node))

    def action_next_pane(self) -> None:
        """Focus on the next pane."""
        self._step_focus(1)

    def action_previous_pane(self) -> None:
        """Focus on the pane before."""
        self._step_focus(-1)

    def _step_focus(self, ways: int) -> None:
        names = self._shown()
        focused = self.focused_pane()
        here = names.index(str(focused.id)) if focused is not None and focused.id in names else -ways
        self._focus_on(names[(here + ways) % len(names)])

    def _focus_on(self, name: str) -> None:
        self.screen.set_focus(self._panes.reveal(name))
        self._arrange()

    def action_zoom(self) -> None:
        """One pane, or all."""
        self._zoomed = not self._zoomed
        self._arrange()

    def action_toggle_generation(self) -> None:
        """Show or hide the generation."""
        self._toggle("generation")

    def action_toggle_training(self) -> None:
        """Show or hide the curves."""
        self._toggle("training")

    def action_toggle_log(self) -> None:
        """Show or hide the log."""
        self._toggle("log")

    def action_toggle_details(self) -> None:
        """Show or hide the details."""
        self._toggle("details")

    def action_alerts(self) -> None:
        """All alerts."""
        lines = [line for story in self.stories for line in alert_lines(story, of=len(self.stories) > 1)]
        self._turn_to("alerts", lines or [[("nothing yet", "dim")]])

    def _turn_to(self, title: str, lines: Sequence[Line]) -> None:
        self._page.turn_to(title, lines)
        if self.screen is not self._page:
            self.push_screen("page")

    def action_previous_sample(self) -> None:
        """The sample before."""
        self._go_to_sample(-1)

    def action_next_sample(self) -> None:
        """The sample after."""
        self._go_to_sample(1)

    def action_restart(self) -> None:
        """The model's process, again."""
        if self.live is None:
            self.say("there is no model's process here")
            return
        self.company.restart(self.live)
        self._frames.resume()
        self.say("starting the model's process again ...")

    async def action_copy(self) -> None:
        """The shown text to where it can be pasted from; what was done is said."""
        text = self.generation.text()
        if not text:
            self.say("there is no text to copy yet")
            return
        self.run_worker(self._copy(text), group="copy", exclusive=True)  # tmux and screen may take their time

    async def _copy(self, text: str) -> None:
        done = await asyncio.to_thread(copied, self.terminal, text, os.environ)
        if not done.sent:
            self.copy_to_clipboard(text)
        self.say(done.words(len(text), sent=not done.sent))

    def action_export(self) -> None:
        """The shown trace to a file here."""
        recording = self.generation.recording
        if recording is None:
            self.say("there is no trace to save yet")
            return
        path = free_path()
        try:
            keep(recording, path)
        except OSError as why:
            self.say(f"{path} cannot be written: {why.strerror}")
            return
        self.say(f"saved {path}; tdiff watch {path} shows it again")

    def on_generation_pane_ask(self, message: GenerationPane.Ask) -> None:
        """What a generation pane wants of its model."""
        [writing] = [one for one in self.writings if one.pane is message.pane]
        live = writing.live
        if message.what == "replay":
            writing.pane.replay(self._clock())
            self._frames.resume()
        elif message.what == "prompt" or live is None or live.state == "off":
            self._questions.prompt()
        elif message.what == "new_text":
            self.company.new_text()
            self._follow()
        elif message.what != "decoder" and not live.has_threshold:
            self.say(writing.told(f"the decoder {live.settings.decoder} has no threshold"))
        else:
            self.say(writing.told(writing.changed(message.what)))
            self._follow(writing)

    def set_prompt(self, text: str) -> None:
        """The next text goes on from this, and begins at once."""
        if self.company:
            self.company.set_prompt(text.replace("\\n", "\n") or None)
            self._follow()

    def _follow(self, *writings: CanvasController) -> None:
        self._go_live(*writings)
        self._frames.resume()

    def on_log_pane_find(self) -> None:
        """Ask what to find."""
        self._questions.find()

    def on_training_pane_asked(self) -> None:
        """Ask which metrics to show."""
        self._questions.metric()

    def ask_for(self, what: str, value: str, then: Callable[[str], None]) -> None:
        """Ask in the line below the panes; `then` takes the answer."""
        self._ask.put(what, value, then, self.focused_pane() or self.generation)
        self._draw_lines(self._clock())

    def on_ask_refused(self, message: Ask.Refused) -> None:
        """An answer that cannot be taken."""
        self.say(message.why)
