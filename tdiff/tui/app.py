"""The app of `tdiff watch`: what the keys and the messages of the panes do in the view."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from textual import events

from tdiff.draw.render import Line
from tdiff.tui.adjustable import AdjustableView
from tdiff.tui.controller import CanvasController
from tdiff.tui.key import Key, bindings
from tdiff.tui.key_table import APP_KEYS
from tdiff.tui.panes.base import Pane
from tdiff.tui.panes.details import alert_lines
from tdiff.tui.panes.generation import GenerationPane
from tdiff.tui.panes.looking import LookingPane
from tdiff.tui.panes.training import TrainingPane
from tdiff.tui.questions import opening_key, prompt_question
from tdiff.tui.widgets.decoder_picker import Choice
from tdiff.tui.widgets.help import help_lines
from tdiff.tui.widgets.question_line import Question, QuestionLine
from tdiff.tui.widgets.renewable import RenewableScreen

if TYPE_CHECKING:
    from tdiff.tui.race_screen import RaceScreen
    from tdiff.watch.generation.lane import Entry

_ALERTS = "alerts"
"""The title of the page with all alerts."""


class WatchApp(AdjustableView):
    """The live view, with its keys."""

    BINDINGS = bindings(APP_KEYS, app=True)  # type: ignore[assignment]
    ENABLE_COMMAND_PALETTE = False  # the view has another palette
    TITLE = "tdiff watch"
    CSS_PATH = "app.tcss"
    racers: Sequence[Entry] = ()
    """What races at first."""

    # Keys

    async def on_event(self, event: events.Event) -> None:
        """Note when the user did something."""
        if isinstance(event, events.InputEvent):
            self._last_input = self._clock()
        await super().on_event(event)

    def takes_key(self, pressed: str) -> bool:
        """Remove the notice and the news; open a line of text where a key of the focused pane does so."""
        self.lines.clear()
        if self.racing.screen is not None and self.screen is self.racing.screen:
            return self.racing.screen.takes_key(pressed)
        pane = self.arranger.focused
        if pane is None or self.screen is not pane.screen:
            return False
        if pane.takes_key(pressed):
            return True
        key = opening_key(pressed, pane.where, self.preferences.keys)
        if key is None:
            return False
        self._open_line(key, pane)
        return True

    def _open_line(self, key: Key, pane: Pane) -> None:
        if key.where == "app":
            self.action_palette()
        elif key.id == "prompt":
            self._ask_for_prompt()
        elif key.id == "decoder":
            self._open_picker()
        elif question := pane.question(key.id):
            self._ask(question)

    async def action_quit(self) -> None:
        """Leave."""
        self.exit()

    def action_help(self) -> None:
        """Show all keys."""
        ascii = self.terminal.glyphs == "ascii"
        self._open_page("keys", help_lines(self.preferences.keys, ascii=ascii, two=self.panes.two))

    def action_alerts(self) -> None:
        """Show all alerts."""
        self._open_page(_ALERTS, self._alerts())

    def _alerts(self) -> list[Line]:
        lines = [line for run in self.runs for line in alert_lines(run, with_name=len(self.runs) > 1)]
        return lines or [[("nothing yet", "dim")]]

    def renew_page(self) -> None:
        """The list of alerts, or the screen of samples, also shows those that come while it is open."""
        if isinstance(self.screen, RenewableScreen):
            self.screen.renew()
        elif (
            self.screen is self._page
            and self._page.title_text == _ALERTS
            and self._page.lines != (lines := self._alerts())
        ):
            self._page.turn_to(_ALERTS, lines)

    def _open_page(self, title: str, lines: Sequence[Line]) -> None:
        self._page.turn_to(title, lines)
        if self.screen is not self._page:
            self.push_screen("page")

    def action_palette(self) -> None:
        """Find a command by its name."""
        pane = self.arranger.current
        self.palette.open(pane.where if pane is not None else "")

    async def run_command(self, key: Key | None) -> None:
        """Return from the palette to the pane, and run the command that was chosen there."""
        self.arranger.focus_back()
        if key is None:
            return
        node = self._node_of(key)
        if key.opens_line and isinstance(node, Pane):
            self._open_line(key, node)
        else:
            await self.run_action(key.runs, node)

    def _node_of(self, key: Key) -> WatchApp | Pane:
        """The app or the pane that a key acts on."""
        if key.where == "app":
            return self
        return self.canvases.pane if key.where == self.canvases.pane.where else self.panes.by_name[key.where]

    # Meanings

    def on_generation_pane_mode_changed(self, message: GenerationPane.ModeChanged) -> None:
        """The colours of positions mean the same everywhere."""
        self.panes.set_mode(message.mode)

    # Samples

    def action_sample(self, count: int) -> None:
        """Show the text that is `count` further among samples and live texts, and its step on the curve."""
        entry = self.canvases.step_sample(count, self.watched)
        if entry is None:
            self.say("no samples yet")
            return
        if entry.step is not None:
            self.training.put_cursor(entry.step)
        self.draw_sample()

    def action_then_and_now(self) -> None:
        """Show the first, a middle and the newest sample of the first run."""
        if not self.runs or not self.runs[0].samples:
            self.say("no samples yet")
            return
        from tdiff.tui.samples_screen import SamplesScreen

        selected = self.canvases.current.gallery.selected_sample
        middle = self.runs[0].samples[selected] if selected is not None else None
        run = self.watched[0]
        self.push_screen(SamplesScreen(lambda: run.run_state, middle, ascii=self.terminal.theme.ascii))

    def on_training_pane_moved(self, message: TrainingPane.Moved) -> None:
        """Show what the model generated at that step of its training."""
        if message.step is None:
            self.canvases.update_galleries(self.watched)
            self.go_live(self.canvases.current)
        else:
            self.canvases.show_sample_at(message.step, self.watched)
        self.draw_sample()

    def on_generation_pane_live(self, message: GenerationPane.Live) -> None:
        """Return to the live edge, together with all canvases whose live text is paused where the user unpauses."""
        self.go_live(*self.canvases.paused(message.pane, message.together))

    def on_generation_pane_paused(self) -> None:
        """Pause every canvas."""
        self.canvases.pause()

    # The models

    def on_generation_pane_request(self, message: GenerationPane.Request) -> None:
        """Do what the user requests of a generation."""
        controller = self.canvases.of(message.pane)
        live = controller.live
        if message.what == "replay":
            controller.pane.replay(self._clock())
            self._frames.resume()
        elif message.what == "texts":
            self.action_texts()
        elif message.what == "decoder":
            self._open_picker()
        elif message.what == "prompt" or live is None or live.state == "off":
            self._ask_for_prompt()
        elif message.what == "new_text":
            self.models.new_text()
            self._follow()
        else:
            changed, notice = controller.change(message.what)
            self.say(notice)
            if changed:
                self._follow(controller)

    def _open_picker(self) -> None:
        """Choose a decoder."""
        live = self.canvases.live
        if live is None or live.state == "off":
            self._ask_for_prompt()  # it says that there is no model's process
        else:
            self.picker.open(live.settings.decoder, live.ready.decoders if live.ready else ())

    async def use_choice(self, choice: Choice | None) -> None:
        """Return from the picker to the pane, and use what was chosen there."""
        self.arranger.focus_back()
        if choice is not None and choice.racers:
            from tdiff.watch.generation.race import entries

            self._open_race(entries(choice.racers))
        elif choice is not None:
            controller = self.canvases.current
            self.say(controller.choose_decoder(choice.settings))
            self._follow(controller)

    def _start_models(self) -> None:
        """Begin with the race that was asked for; the models follow."""
        if self.racers:
            self._open_race(self.racers)
        else:
            super()._start_models()

    def _open_race(self, chosen: Sequence[Entry]) -> None:
        if live := self.canvases.live:
            self._show_race(self.racing.race(live, chosen, self.canvases.pane.theme))

    def action_texts(self) -> None:
        """Generate several texts of one batch, beside each other."""
        live = self.canvases.live
        if live is None or live.state == "off":
            self._ask_for_prompt()  # it says that there is no model's process
        else:
            self._show_race(self.racing.batch(live, 4, self.canvases.pane.theme))

    def _show_race(self, screen: RaceScreen) -> None:
        self.models.halt(self._clock())
        self._frames.pause()
        self.push_screen(screen, self._close_race)

    def _close_race(self, _: None) -> None:
        """Return to the view and its models."""
        self.racing.screen = None
        if self.models.started:
            self.models.resume(self._clock())
            self._frames.resume()
        else:
            super()._start_models()

    def on_looking_pane_branch(self, message: LookingPane.Branch) -> None:
        """Continue the changed text as a branch."""
        if notice := self.canvases.of(message.pane).fork(message.change):
            self.say(notice)
        if self.models.started:
            self._frames.resume()

    def on_looking_pane_refused(self, message: LookingPane.Refused) -> None:
        """Say why a key does nothing."""
        self.say(message.why)

    def on_looking_pane_walk(self, message: LookingPane.Walk) -> None:
        """Go back from a branch, or to the next one."""
        self.say(self.canvases.of(message.pane).walk(undo=message.undo))

    def _follow(self, *controllers: CanvasController) -> None:
        self.go_live(*controllers)
        self._frames.resume()

    def action_restart(self) -> None:
        """Start the model's process again."""
        if self.canvases.live is None:
            self.say("there is no model's process here")
            return
        self.models.restart(self.canvases.live)
        self._frames.resume()
        self.say("starting the model's process again ...")

    # Questions

    def _ask(self, question: Question) -> None:
        """Ask in the line below the panes."""
        self.lines.ask.put(question, self.arranger.focused or self.canvases.pane)
        self.lines.draw(self._clock())

    def on_pane_asks(self, message: Pane.Asks) -> None:
        """Ask what a pane asks."""
        self._ask(message.question)

    def _ask_for_prompt(self) -> None:
        live = self.canvases.live
        if live is None:
            self.say("there is no model's process")
        elif live.state == "off":
            self.say(f"there is no model's process; {self.lines.restart_key} starts one")
        else:
            self._ask(prompt_question(live, self.panes.two, self._set_prompt))

    def _set_prompt(self, text: str) -> None:
        """Begin the next text at once, with this prompt."""
        if self.models:
            self.models.set_prompt(text.replace("\\n", "\n") or None)
            self._follow()

    def on_question_line_refused(self, message: QuestionLine.Refused) -> None:
        """Say why an answer is not accepted."""
        self.say(message.why)

    # Texts for elsewhere

    async def action_copy(self) -> None:
        """Copy the text that is shown, and say where it can be pasted from."""
        text = self.canvases.pane.text()
        if not text:
            self.say("there is no text to copy yet")
            return
        self.run_worker(self._copy(text), group="copy", exclusive=True)  # tmux and screen may take their time

    async def _copy(self, text: str) -> None:
        from tdiff.terminal.clipboard import copy_text

        result = await asyncio.to_thread(copy_text, self.terminal, text, os.environ)
        if not result.sent:
            self.copy_to_clipboard(text)
        self.say(result.notice(len(text), sent=not result.sent))

    def action_export(self) -> None:
        """Save the trace that is shown, and a player of it, to files in the working directory."""
        recording = self.canvases.pane.recording
        if recording is None:
            self.say("there is no trace to save yet")
            return
        from tdiff.draw.palettes import Theme
        from tdiff.files import write_atomic
        from tdiff.report.export import html, timeline
        from tdiff.watch.generation.recording import free_path, save

        path = free_path()
        shown = self.canvases.pane.theme
        theme = Theme(palette=shown.palette, background=shown.background)
        try:
            save(recording, path)
            page = html.document([recording], theme, 10.0, 3.0, timeline.footer(recording))
            write_atomic(path.with_suffix(".html"), page.encode())
        except OSError as why:
            self.say(f"{path} cannot be written: {why.strerror}")
            return
        self.say(f"saved {path} and a player, {path.stem}.html; tdiff export {path} makes a GIF")
