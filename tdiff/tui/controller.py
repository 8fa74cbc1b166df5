"""One canvas: a model's live generation, the pane that shows it, and the texts that the user can step through."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tdiff.config.decoding import label
from tdiff.draw.render import Line
from tdiff.errors import TdiffError
from tdiff.formatting import duration
from tdiff.runs.retention import model_name
from tdiff.tui.gallery import Entry, Gallery
from tdiff.tui.panes.generation import GenerationPane
from tdiff.tui.panes.lens import UNTRACED
from tdiff.visible import visible_line
from tdiff.watch.follow import Watched
from tdiff.watch.generation.branches import Change, Fork, Node, branch_request, next_name, tree
from tdiff.watch.generation.pair import ModelPair
from tdiff.watch.generation.recording import Recording
from tdiff.watch.run_state import RunState

if TYPE_CHECKING:
    from tdiff.watch.generation.session import Live


class CanvasController:
    """A generation pane and its model, alone or beside another."""

    def __init__(self, pane: GenerationPane, live: Live | None, models: ModelPair) -> None:
        """`live` is one of `models`; None: no model generates, and only recorded texts are shown."""
        self.pane, self.live, self._models = pane, live, models
        self.gallery = Gallery()
        self._runs: Sequence[RunState] = ()  # the watched runs
        self._sample: Entry | None = None  # the recorded sample that is shown until the model generates
        self._taken_in: Recording | None = None  # the newest text of the model in the gallery

    @property
    def name(self) -> str:
        """The name of its model, with the step; a number distinguishes two that are the same."""
        return self._name(self.live) if self.live is not None else ""

    def _name(self, live: Live) -> str:
        other = self._models.other(live)
        if other is None:
            return live.caption if self._run_of(live) is not None else live.caption.removesuffix("@0")
        path = Path(live.model)
        name = live.caption if live.ready else model_name(path) or path.name
        name = visible_line(name).removesuffix("@0")  # a model whose training step is unknown
        if other.model != live.model and other.caption != live.caption:
            return name
        return f"{name} ({self._models.lives.index(live) + 1})"

    def _run_of(self, live: Live) -> RunState | None:
        """The watched run that wrote the weights of the model."""
        runs = [run for run in self._runs if run.start is not None]
        return next((run for run in runs if live.ready is not None and _run_name(live.ready.model) == run.name), None)

    @property
    def _behind(self) -> str:
        """How many steps ago the run saved the weights of the model; "" where they are the newest."""
        run = self._run_of(self.live) if self.live is not None else None
        if run is None or self.live is None or self.live.ready is None:
            return ""
        steps = int(run.step) - self.live.ready.step
        return f"{steps:,} step{'s' * (steps != 1)} ago" if steps > 0 else ""

    @property
    def dead(self) -> bool:
        """Whether its process has ended unexpectedly."""
        return self.live is not None and self.live.state == "dead"

    @property
    def trouble(self) -> str:
        """The last problem; "" where there is none."""
        return self.named(self.live.message) if self.live is not None and self.live.message else ""

    def named(self, text: str) -> str:
        """A text about its model, with the name of the model where there are two."""
        has_name = self.live is not None and self.live.ready and text.startswith(self.live.ready.model)
        return f"{self.name}: {text}" if self._of_two and not has_name else text

    @property
    def _of_two(self) -> bool:
        return self.live is not None and self._models.other(self.live) is not None

    def in_a_line(self, text: bool) -> Line:
        """The progress of one of two models in a line, and with `text` what it has generated."""
        content = self.pane.in_a_line() if text else self.pane.readout()
        return [(f" {self.name}", "bold"), (f"  {content} ", "")]

    def choose_decoder(self, settings: Mapping[str, Any]) -> str:
        """Use a decoder, with other fields of DecodeSettings, for the next text; a notice."""
        assert self.live is not None, "the pane has a model"
        self.live.choose_decoder(settings)
        return self.named(f"decoder {label(self.live.settings.decoder, dataclasses.asdict(self.live.settings))}")

    def change(self, what: str) -> tuple[bool, str]:
        """Change `what` (threshold_down or threshold_up) for the next text; whether it could, and a notice."""
        live = self.live
        assert live is not None, "the pane has a model"
        if not live.has_threshold:
            return False, self.named(f"the decoder {live.settings.decoder} has no threshold")
        return True, self.named(f"threshold {live.shift_threshold(1 if what == 'threshold_up' else -1):g}")

    # What is shown

    def take_in(self) -> None:
        """Add the text that has started to the gallery, and show it if the pane follows."""
        live = self.live
        if live is None or live.recording is None or live.recording is self._taken_in:
            return
        self._taken_in = live.recording
        if live.branch is not None and live.branch.recording is live.recording:
            self.gallery.add_live(live.recording, None)
            self.gallery.selected = None
            self._show_node(live.branch, live.branch.forked)
            return
        step = live.ready.step if live.ready and not self._of_two else None  # the name of one of two includes it
        self.gallery.add_live(live.recording, step)
        if self.pane.following and self.gallery.selected is None:
            self.pane.show(live.recording, caption=self._caption, follow=True)

    # Branches

    def fork(self, change: Change) -> str:
        """Continue the changed text that is shown as a branch; a notice, "" where it begins at once."""
        live, recording = self.live, self.pane.recording
        step = self.pane.at if change.step is None else change.step
        if live is None or recording is None:
            return "no model is here to continue this text; tdiff watch --model NAME TRACE opens a trace with one"
        if recording.untraced:
            return UNTRACED
        if refusal := live.why_not_continued(recording):
            return refusal
        node = self.pane.node
        if node is None or node.recording is not recording:
            node = Node("A", recording)
        name = next_name({other.name for other in tree(node.root)})
        try:
            request = branch_request(self.pane.lens.insight(recording), step, change)
        except TdiffError as error:
            return str(error)
        self.pane.node = node
        self.pane.end_selection()
        waits = live.state != "waiting"
        live.fork(Fork(node, step, name, request))
        return f"branch {name} from step {recording.index(step)} begins when the model is ready" if waits else ""

    def walk(self, *, undo: bool) -> str:
        """Show what a branch continues (`undo`), or the next text of the tree; a notice."""
        node = self.pane.node
        if node is None or node.recording is not self.pane.recording:
            return "this text has no branches: select positions with v, then m remasks and e edits them"
        if undo:
            if node.parent is None:
                return f"{node.name} is the first text: there is nothing to undo"
            self._show_node(node.parent, node.step, follow=False)
            return f"{node.parent.name} at step {node.parent.recording.index(node.step)}"
        nodes = tree(node.root)
        following = nodes[(nodes.index(node) + 1) % len(nodes)]
        self._show_node(following, following.recording.steps, follow=following.recording.ended is None)
        names = [f"[{other.name}]" if other is following else other.name for other in nodes]
        parents = [f" of {other.parent.name}" if other.parent is not None else "" for other in nodes]
        return " · ".join(map("".join, zip(names, parents, strict=True)))

    def _show_node(self, node: Node, at: int, *, follow: bool = True) -> None:
        parent = node.parent
        caption = f"branch {node.name} of {parent.name} at step {parent.recording.index(node.step)}" if parent else "A"
        self.pane.node = node
        self.pane.show(node.recording, caption=caption, follow=follow, at=at)

    # Samples

    def show_sample(self) -> None:
        """Show the newest recorded sample where nothing else is shown: until a model generates."""
        newest = self.gallery.newest_recorded()
        sample_shown = self._sample is not None and self.pane.following and self.gallery.selected is None
        if newest is None or newest is self._sample or not (self.pane.recording is None or sample_shown):
            return
        if self.live is not None and self.live.recording is not None:
            return
        self._sample = newest
        self.pane.show(newest.recording(), caption=newest.label, follow=True, live=False)

    @property
    def _caption(self) -> str:
        """Caption of a text of the model; the title names one of two anyway."""
        return "" if self._of_two else self.name

    def show_entry(self, label: str, recording: Recording, live: bool) -> None:
        """Show a text that the user selected, or that another process generates."""
        by_this_model = self.live is not None and any(item is recording for item in self.live.recordings)
        caption = f"{self.name}, {label}" if by_this_model and self._of_two else label
        self.pane.show(recording, caption=caption, follow=live and recording.ended is None, live=live)

    def go_live(self, instead: Recording | None) -> None:
        """Return to the live edge; where no model has generated, to `instead` or to the newest recorded sample."""
        self.gallery.selected = None
        recording = (self.live.recording if self.live is not None else None) or instead
        newest = self.gallery.newest_recorded()
        if recording is not None:
            self.pane.show(recording, caption=self._caption, follow=True)
        elif newest is not None:
            self.pane.show(newest.recording(), caption=newest.label, follow=True, live=False)

    def update_gallery(self, watched: list[Watched]) -> None:
        """Update the samples of the first watched run."""
        for run in watched[:1]:
            self.gallery.update(run.run_state.samples, run.target.run.path if run.target.run else None)

    def describe(self, now: float, runs: Sequence[RunState] = ()) -> None:
        """Say in the pane what the model's process does, and how old its weights are compared with the watched run."""
        live, self._runs = self.live, runs
        if live is None or live.state == "off":
            self.pane.describe("", 0.0)
            return
        due, other = self._models.remaining(live, now), self._models.other(live)
        waits = f"next text in {due:.0f} s", f"next {due:.0f} s"
        if live.resting:
            waits = "idle: detached", "idle"
        elif live.slow and due > 0:
            waits = f"next text in {duration(due)} · any key: now", f"next {duration(due)}"
        message, short = {
            "loading": (f"loading {live.model} ...", "loading"),
            "dead": (live.message or "the model's process has ended", "ended"),
            "generating": (self._behind if self._of_two or not self._behind else f"{self.name} · {self._behind}", ""),
            "waiting": waits if due < 1e6 or live.resting else ("", ""),
        }.get(live.state, ("", ""))
        if other is not None and self._models.waits(live):
            message, short = f"waits for {self._name(other)}", "waits"
        if not self.pane.following:
            message = short = ""
        self.pane.describe(message, live.seconds, short=short, called=self.name)


def _run_name(model: str) -> str:
    """The run of a model's name: that of RUN, RUN:best and RUN:STEP."""
    return model.partition(":")[0]
