"""Then and now: the first, a middle and the newest sample of a run, with the words that changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding

from tdiff.draw.render import Line
from tdiff.draw.then_and_now import Moment, draw, rows_of
from tdiff.protocol.events import Sample
from tdiff.protocol.metrics import METRICS
from tdiff.tui.widgets.help import PAGE_KEYS
from tdiff.tui.widgets.lines import Lines, clip, line_width, two_ends
from tdiff.tui.widgets.renewable import RenewableScreen
from tdiff.visible import visible_line
from tdiff.watch.run_state import RunState

_OTHER_ROWS = 2
"""Rows above and below the texts."""


class SamplesView(Lines):
    """The texts."""

    DEFAULT_CSS = "SamplesView { height: 1fr; padding: 0 1; }"


class SamplesScreen(RenewableScreen):
    """Up to three samples of a run over the view. New samples appear while it is open."""

    BINDINGS = [  # noqa: RUF012 - textual declares this type
        Binding("q,escape,S,enter,ctrl+c,ctrl+q", "leave", "close", show=False),
        Binding("left,h,left_square_bracket", "middle(-1)", show=False),
        Binding("right,l,right_square_bracket", "middle(1)", show=False),
        *PAGE_KEYS,
    ]
    DEFAULT_CSS = "SamplesScreen { background: $background; layout: vertical; }"

    def __init__(self, run: Callable[[], RunState | None], middle: Sample | None, *, ascii: bool) -> None:
        """`run` returns the run whose samples are shown; `middle` is the sample between its first and its newest."""
        super().__init__()
        self._run, self._middle, self._ascii = run, middle, ascii
        self._top = 0  # the first row of the texts that is in view
        self._known: tuple[object, ...] = ()
        self._head, self._view, self._hints = (
            Lines(id="samples-head"),
            SamplesView(id="samples"),
            Lines(id="samples-keys"),
        )

    def compose(self) -> ComposeResult:
        """A line above, the texts, and the keys."""
        yield self._head
        yield self._view
        yield self._hints

    def on_resize(self, event: events.Resize) -> None:
        """Draw for another size."""
        self._known = ()
        self.renew()

    def renew(self) -> None:
        """Draw the samples, if there are other ones."""
        run = self._run()
        chosen, size = self._chosen(run), self.app.size
        known = (*((sample.step, sample.text) for sample in chosen), self._top, size)
        if known == self._known or run is None:
            return
        self._known = known
        width, height = max(1, size.width - 2), max(0, size.height - _OTHER_ROWS)
        moments = [
            Moment(_title(run, sample, first=n == 0, newest=n == len(chosen) - 1), sample.text, sample.prompt)
            for n, sample in enumerate(chosen)
        ]
        self._top = min(self._top, max(0, rows_of(moments, width) - 1))
        self._view.show(draw(moments, width, height, self._top, ascii=self._ascii))
        left: Line = [(" then and now ", "bold"), (f" {visible_line(run.name)}", "")]
        count, every = len(comparable(run.samples)), len(run.samples)
        counted = f"{count} samples" if count == every else f"{count} of {every} samples have this prompt"
        right: Line = [(f"{counted} · bold: new words ", "dim")]
        right = right if line_width([*left, *right]) < size.width else []
        self._head.show([two_ends(left, right, size.width)])
        arrows = ("left/right", "up/down") if self._ascii else ("← →", "↑ ↓")
        keys = ((arrows[0], "another middle one"), (arrows[1], "scroll"), ("q", "close"))
        hints: Line = [part for key, does in keys for part in ((f" {key} ", "bold"), (f"{does} ", "dim"))]
        self._hints.show([clip(hints, size.width)])

    def _chosen(self, run: RunState | None) -> list[Sample]:
        """The first, the middle and the newest sample, as many as there are."""
        samples = comparable(run.samples if run is not None else [])
        return [samples[n] for n in sorted({0, self._at(samples), len(samples) - 1})] if samples else []

    def _at(self, samples: list[Sample]) -> int:
        found = [n for n, sample in enumerate(samples) if sample is self._middle]
        return found[0] if found and 0 < found[0] < len(samples) - 1 else len(samples) // 2

    # Keys

    def action_leave(self) -> None:
        """Return to the view."""
        self.dismiss()

    def action_middle(self, count: int) -> None:
        """Show another sample between the first and the newest."""
        run = self._run()
        samples = comparable(run.samples if run is not None else [])
        if len(samples) > 2:
            self._middle = samples[min(max(self._at(samples) + count, 1), len(samples) - 2)]
            self.renew()

    def action_scroll(self, rows: int) -> None:
        """Scroll all texts together."""
        self._top = max(0, self._top + rows)
        self.renew()


def comparable(samples: Sequence[Sample]) -> list[Sample]:
    """The samples with the prompt of the newest one, which alone can be compared with it; all, if no other has it."""
    same = [sample for sample in samples if sample.prompt == samples[-1].prompt]
    return same if len(same) > 1 else list(samples)


def _title(run: RunState, sample: Sample, *, first: bool, newest: bool) -> str:
    """Which sample it is, its step, and the loss there."""
    parts = ["first"] * first + ["newest"] * (newest and not first) + [f"step {sample.step:,}"]
    series = run.metrics.get(METRICS["train/loss"].name)
    if series is not None and series.steps:
        at = min(series.index(sample.step), len(series.steps) - 1)
        parts.append(f"loss {METRICS['train/loss'].text(series.mean[at])}")
    return " · ".join(parts)
