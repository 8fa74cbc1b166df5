"""The canvases together: what each shows of live texts, watched traces and the samples of a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tdiff.tui.controller import CanvasController
from tdiff.tui.gallery import Entry
from tdiff.tui.panes.base import Pane
from tdiff.tui.panes.generation import GenerationPane
from tdiff.tui.traces import Traces
from tdiff.watch.follow import Watched
from tdiff.watch.generation.pair import ModelPair
from tdiff.watch.run_state import RunState

if TYPE_CHECKING:
    from tdiff.watch.generation.session import Live


class Canvases:
    """One canvas, or two."""

    def __init__(self, panes: Sequence[GenerationPane], models: ModelPair) -> None:
        """A pane for each model; one pane where there is none."""
        lives = models.lives or [None]
        self.controllers = [CanvasController(pane, live, models) for pane, live in zip(panes, lives, strict=True)]
        self.current = self.controllers[0]
        """The canvas that has the focus, or had it last."""
        self.traces = Traces()
        """The watched traces, which the first canvas shows."""

    @property
    def live(self) -> Live | None:
        """The model of the current canvas."""
        return self.current.live

    @property
    def pane(self) -> GenerationPane:
        """The pane of the current canvas."""
        return self.current.pane

    @property
    def moving(self) -> bool:
        """Whether a replay is running."""
        return any(controller.pane.moving for controller in self.controllers)

    def of(self, pane: Pane) -> CanvasController:
        """The controller of a pane."""
        return next(controller for controller in self.controllers if controller.pane is pane)

    def focus(self, pane: Pane | None) -> None:
        """Make the canvas in this pane the current one; another pane changes nothing."""
        matches = [controller for controller in self.controllers if controller.pane is pane]
        self.current = matches[0] if matches else self.current

    # Samples and traces

    def update_galleries(self, watched: list[Watched]) -> None:
        """Add the new samples of the watched run to every gallery."""
        for controller in self.controllers:
            controller.update_gallery(watched)

    def show_first_sample(self, watched: list[Watched]) -> None:
        """Show the newest recorded sample until the model generates."""
        self.update_galleries(watched)
        self.controllers[0].show_sample()

    def follow_traces(self, runs: Sequence[RunState]) -> bool:
        """Take in what is new in the watched traces; whether another text has started."""
        if not self.traces.follow(runs) or self.traces.newest is None:
            return False
        first = self.controllers[0]
        first.gallery.add_live(self.traces.newest, None)
        if first.pane.following:
            first.show_entry(first.gallery.entries[-1].label, self.traces.newest, True)
        return True

    def step_sample(self, count: int, watched: list[Watched]) -> Entry | None:
        """Show the text that is `count` further in the gallery of the current canvas; None where there is none."""
        self.update_galleries(watched)
        entry = self.current.gallery.move(count)
        if entry is not None:
            self.current.show_entry(entry.label, entry.recording(), entry.live)
        return entry

    def show_sample_at(self, step: float, watched: list[Watched]) -> None:
        """Show what the model generated at that step of its training, in the current canvas."""
        self.update_galleries(watched)
        gallery = self.current.gallery
        entry = gallery.at(step)
        if entry is not None and entry is not gallery.selected:
            gallery.selected = entry
            self.current.show_entry(entry.label, entry.recording(), False)

    # The live edge

    def paused(self, pane: GenerationPane, together: bool) -> list[CanvasController]:
        """The canvas of `pane`; `together` with every other whose live text is paused."""
        return [
            controller
            for controller in self.controllers
            if controller.pane is pane
            or (together and not controller.pane.following and controller.gallery.selected is None)
        ]

    def go_live(self, *controllers: CanvasController) -> None:
        """Back to the live edge: these canvases, or all."""
        for controller in controllers or self.controllers:
            controller.go_live(self.traces.newest if controller is self.controllers[0] else None)

    def pause(self) -> None:
        """Pause every canvas: two are compared."""
        for controller in self.controllers:
            controller.pane.pause()

    # Time

    def take_in(self) -> None:
        """Show the texts that the models have started."""
        for controller in self.controllers:
            controller.take_in()

    def describe(self, now: float, runs: Sequence[RunState]) -> None:
        """Say in every pane what its model's process does."""
        for controller in self.controllers:
            controller.describe(now, runs)

    def tick(self, now: float) -> None:
        """Draw the next step of what is followed or replayed."""
        for controller in self.controllers:
            controller.pane.tick(now)
