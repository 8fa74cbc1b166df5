"""One model that writes: its live generation, the pane that shows it, and the texts one can go through there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tdiff.draw.render import Line
from tdiff.formatting import duration
from tdiff.tui.gallery import Entry, Gallery
from tdiff.tui.panes.generation import GenerationPane
from tdiff.visible import visible_line
from tdiff.watch.follow import Watched
from tdiff.watch.generation.pair import ModelPair
from tdiff.watch.generation.recording import Recording
from tdiff.watch.generation.session import Live
from tdiff.watch.run_state import RunState


class CanvasController:
    """A pane, and who writes in it; beside others that do so too, or alone."""

    def __init__(self, pane: GenerationPane, live: Live | None, company: ModelPair) -> None:
        """`live` is one of `company`; None: nobody writes, and only what is recorded is shown."""
        self.pane, self.live, self._company = pane, live, company
        self.gallery = Gallery()
        self._stories: Sequence[RunState] = ()  # what is watched
        self._sample: Entry | None = None  # the recorded sample that was shown unasked
        self._begun: Recording | None = None  # the text of its model that was taken in last

    @property
    def name(self) -> str:
        """What its model is called, and its step: two that are the same are told apart by a number."""
        return self._name(self.live) if self.live is not None else ""

    def _name(self, live: Live) -> str:
        other = self._company.beside(live)
        if other is None:
            return live.caption if self._run_of(live) is not None else live.caption.removesuffix("@0")
        place = Path(live.model)
        name = live.caption if live.ready else place.parent.name if place.name == "model" else place.name
        name = visible_line(name).removesuffix("@0")  # somebody else's, whose steps nobody knows
        if other.model != live.model and other.caption != live.caption:
            return name
        return f"{name} ({self._company.lives.index(live) + 1})"

    def _run_of(self, live: Live) -> RunState | None:
        """The watched run whose weights write."""
        runs = [story for story in self._stories if story.start is not None]
        return next((story for story in runs if live.ready is not None and live.ready.model == story.name), None)

    @property
    def _behind(self) -> str:
        """How far the run has gone on since its weights that write were saved; "" where it stands there."""
        story = self._run_of(self.live) if self.live is not None else None
        if story is None or self.live is None or self.live.ready is None:
            return ""
        steps = int(story.step) - self.live.ready.step
        return f"{steps:,} step{'s' * (steps != 1)} ago" if steps > 0 else ""

    @property
    def dead(self) -> bool:
        """Whether its process is gone."""
        return self.live is not None and self.live.state == "dead"

    @property
    def trouble(self) -> str:
        """What went wrong last; "" when all is well."""
        return self.told(self.live.message) if self.live is not None and self.live.message else ""

    def told(self, what: str) -> str:
        """Something that is said of its model, which of two is named."""
        named = self.live is not None and self.live.ready and what.startswith(self.live.ready.model)
        return f"{self.name}: {what}" if self._of_two and not named else what

    @property
    def _of_two(self) -> bool:
        return self.live is not None and self._company.beside(self.live) is not None

    def in_a_line(self, text: bool) -> Line:
        """How far one of two is, for where there is no room for its canvas; and what it has written."""
        told = self.pane.in_a_line() if text else self.pane.readout()
        return [(f" {self.name}", "bold"), (f"  {told} ", "")]

    def changed(self, what: str) -> str:
        """Change the decoder, or the threshold (threshold_down, threshold_up), for the next text; what it is now."""
        assert self.live is not None
        if what == "decoder":
            return f"decoder {self.live.next_decoder()}"
        return f"threshold {self.live.shift_threshold(1 if what == 'threshold_up' else -1):g}"

    # What is shown

    def take_in(self) -> None:
        """Take in that another text has begun, and show it to whoever follows."""
        live = self.live
        if live is None or live.recording is None or live.recording is self._begun:
            return
        self._begun = live.recording
        step = live.ready.step if live.ready and not self._of_two else None  # the name of one of two tells it
        self.gallery.add_live(live.recording, step)
        if self.pane.following and self.gallery.chosen is None:
            self.pane.show(live.recording, caption=self._caption, follow=True)

    def show_sample(self) -> None:
        """The newest recorded sample, where nothing else is shown: until the model writes, or while none does."""
        newest = self.gallery.newest_recorded()
        sample_shown = self._sample is not None and self.pane.following and self.gallery.chosen is None
        if newest is None or newest is self._sample or not (self.pane.recording is None or sample_shown):
            return
        if self.live is not None and self.live.recording is not None:
            return
        self._sample = newest
        self.pane.show(newest.recording(), caption=newest.label, follow=True, live=False)

    @property
    def _caption(self) -> str:
        """Of a text of the model's own: the name of one of two is in the title anyway."""
        return "" if self._of_two else self.name

    def show_entry(self, label: str, recording: Recording, live: bool) -> None:
        """A text that the user went to, or that somebody else is writing."""
        own = self.live is not None and any(one is recording for one in self.live.recordings)
        caption = f"{self.name}, {label}" if own and self._of_two else label
        self.pane.show(recording, caption=caption, follow=live and recording.ended is None, live=live)

    def go_live(self, instead: Recording | None) -> None:
        """Back to the live edge; where no model has written, to `instead` or to the newest recorded sample."""
        self.gallery.chosen = None
        recording = (self.live.recording if self.live is not None else None) or instead
        newest = self.gallery.newest_recorded()
        if recording is not None:
            self.pane.show(recording, caption=self._caption, follow=True)
        elif newest is not None:
            self.pane.show(newest.recording(), caption=newest.label, follow=True, live=False)

    def know(self, watched: list[Watched]) -> None:
        """The samples of the first watched run."""
        for one in watched[:1]:
            self.gallery.know(one.story.samples, one.target.run.path if one.target.run else None)

    def describe(self, now: float, stories: Sequence[RunState] = ()) -> None:
        """Say in the pane what the model's process is doing, and how old its weights are beside what is watched."""
        live, self._stories = self.live, stories
        if live is None or live.state == "off":
            self.pane.describe("", 0.0)
            return
        due, other = self._company.remaining(live, now), self._company.beside(live)
        waits = f"next text in {due:.0f} s", f"next {due:.0f} s"
        if live.resting:
            waits = "rests: nobody looks", "rests"
        elif live.slow and due > 0:
            waits = f"next text in {duration(due)} · any key: sooner", f"next {duration(due)}"
        message, short = {
            "loading": (f"loading {live.model} ...", "loading"),
            "dead": (live.message or "the model's process is gone", "process gone"),
            "generating": (self._behind if self._of_two or not self._behind else f"{self.name} · {self._behind}", ""),
            "waiting": waits if due < 1e6 or live.resting else ("", ""),
        }.get(live.state, ("", ""))
        if other is not None and self._company.waits(live):
            message, short = f"waits for {self._name(other)}", "waits"
        if not self.pane.following:
            message = short = ""
        self.pane.describe(message, live.seconds, short=short, called=self.name)
