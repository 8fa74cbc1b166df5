"""The details pane: loss by mask ratio over the steps, the samples of the run, and the alerts."""

from __future__ import annotations

import time
from itertools import groupby

from textual.widget import Widget

from tdiff.draw.palettes import Theme
from tdiff.draw.render import Line
from tdiff.draw.then_and_now import changed, words_of
from tdiff.tui import heat_map
from tdiff.tui.panes.base import Pane, Scene
from tdiff.tui.widgets.lines import Lines, clip
from tdiff.watch.alerts import Notice
from tdiff.watch.run_state import RunState

_ROW = 400
"""Characters of a sample that a row shows at most."""


class DetailsView(Lines):
    """The rows of the pane."""

    DEFAULT_CSS = "DetailsView { height: 1fr; }"


class DetailsPane(Pane):
    """Details of the first run."""

    def __init__(self, theme: Theme, *, id: str = "details") -> None:
        super().__init__(theme, id=id)
        self._view = DetailsView(id="details-lines")
        self._run: RunState | None = None
        self._sample: int | None = None

    def body(self) -> list[Widget]:
        """One column of lines."""
        return [self._view]

    def show_scene(self, scene: Scene) -> None:
        """Show the first run."""
        if scene.runs and self.display:
            self._run, self._sample = scene.runs[0], scene.sample
            self._draw()

    def show_sample(self, scene: Scene) -> None:
        """Mark the sample that is selected."""
        self.show_scene(scene)

    def set_theme(self, theme: Theme) -> None:
        """Draw the heat map in the colours of another theme."""
        super().set_theme(theme)
        self._draw()

    def on_resize(self) -> None:
        """Draw for another width."""
        self._draw()

    def _draw(self) -> None:
        if not self.is_mounted or self._run is None:
            return
        width, height = self._view.size
        if width <= 0 or height <= 0:
            return
        run = self._run
        first_lines = classification_lines(run) + heat_map.small(run, width, self.theme)
        alerts = alert_lines(run, 3)
        room = max(0, height - len(first_lines) - (len(alerts) + 1 if alerts else 0) - 1)
        samples = sample_lines(run, self._sample, room)
        lines = first_lines + (
            [[("samples", "bold"), ("   [ ] step through, S then and now", "dim")], *samples] if samples else []
        )
        if alerts:
            lines += [[("alerts", "bold"), ("   ! lists all", "dim")], *alerts]
        lines = lines or [[("no alerts and no samples so far", "dim")]]
        self._view.show([clip(line, width) for line in lines[:height]])
        self.frame([("details", "")], [], [], [])


def classification_lines(run: RunState) -> list[Line]:
    """How well the run classifies held-out texts; no line where it was not measured."""
    if run.verdicts is None:
        return []
    from tdiff.report.snapshot import classification_parts

    return [[("classifier ", "bold"), (" · ".join(filter(None, classification_parts(run.verdicts))), "")]]


def sample_lines(run: RunState, selected: int | None, rows: int) -> list[Line]:
    """The samples of the run, the newest last; the selected one stays in view.

    Words that are as in the sample before are dim.
    """
    samples = list(enumerate(run.samples))
    if not samples or rows <= 0:
        return []
    end = len(samples) if selected is None else min(len(samples), max(rows, selected + 1 + rows // 2))
    lines: list[Line] = []
    for n, sample in samples[max(0, end - rows) : end]:
        marked = n == selected
        head = (f"{sample.step:>8,}{'▸' if marked else ' '} ", "bold" if marked else "dim")
        before = _beginning(run.samples[n - 1].text) if n else ""
        lines.append([head, *_words(before, _beginning(sample.text), "bold" if marked else "")])
    return lines


def _beginning(text: str) -> str:
    """What a row can show of a text."""
    return " ".join(text[:_ROW].split())


def _words(before: str, text: str, style: str) -> Line:
    """A text in a style, with the words that are as in the text before dim."""
    new, _ = changed(before, text)
    line: Line = []
    for same, words in groupby(enumerate(words_of(text)), key=lambda word: word[0] not in new):
        line.append(("".join(word for _, word in words), "dim" if same else style))
    return line


def alert_lines(run: RunState, rows: int | None = None, *, with_name: bool = False) -> list[Line]:
    """The alerts, the newest first; with the name of their run where `with_name`."""
    notices = list(reversed(run.alerts))[:rows]
    return [
        [
            (f" {_time_of_day(notice.time)} ", "dim"),
            (f"{run.name} " if with_name else "", ""),
            (f"{notice.what:<6} ", "bold"),
            (f"{notice.text} {_at(notice)}", ""),
        ]
        for notice in notices
    ]


def _at(notice: Notice) -> str:
    return f"(step {notice.step:,})" if f"step {notice.step:,}" not in notice.text else ""


def _time_of_day(when: float | None) -> str:
    return time.strftime("%H:%M", time.localtime(when)) if when is not None else "     "
