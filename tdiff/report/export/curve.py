"""The loss of one run or several as a picture, or as a table of values."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tdiff.draw import chart
from tdiff.draw.canvas_layout import lay_out
from tdiff.draw.curves import Curve, View, layout
from tdiff.draw.palettes import Theme
from tdiff.draw.render import Line
from tdiff.draw.run_styles import run_styles
from tdiff.draw.strips import Strip, draw_strip
from tdiff.errors import TdiffError
from tdiff.protocol.metrics import METRICS, curve_name
from tdiff.report.export.chart_picture import Picture, picture
from tdiff.report.export.frames import Frame, Size, fit, shortened
from tdiff.visible import visible_line
from tdiff.watch.follow import Watched
from tdiff.watch.run_state import RunState
from tdiff.watch.targets import locate

_LOSS, _HELD_OUT = METRICS["train/loss"], METRICS["eval/loss"]
_STRIPS = (METRICS["train/lr"], METRICS["train/grad_norm"])
_STRIP_ROWS = 2
"""Rows of a strip, without the row of its name: on the curve, the name would cover the warm-up."""
_SECONDS = 30.0
"""How long a log on another machine may take to be read."""
_CAPTIONS = 3
_CAPTION_ROWS = 2


def read(words: Sequence[str]) -> list[RunState]:
    """The runs or logs that `tdiff watch` would open by these words.

    Raises TdiffError for one that cannot be read or has no loss.
    """
    watched = [Watched(locate(word)) for word in words]
    try:
        for word, followed in zip(words, watched, strict=True):
            followed.finish(_SECONDS)
            run = followed.run_state
            if not any(metric.name in run.metrics for metric in (_LOSS, _HELD_OUT)):
                raise TdiffError(f"{word!r} has no loss to draw: {followed.status().text or run.note or 'no records'}")
        return [followed.run_state for followed in watched]
    finally:
        for followed in watched:
            followed.close()


@dataclass(frozen=True, slots=True)
class Drawing:
    """What is asked of a drawing of curves."""

    size: Size
    theme: Theme
    smoothing: float = 0.9
    title: str = ""
    """The name and the newest values of the runs where it is empty."""
    captions: bool = False
    """Whether samples of the first run are below."""
    strips: bool = False
    """Whether learning rate and gradient norm are below the curves."""


def frame(runs: Sequence[RunState], drawing: Drawing) -> Frame:
    """The curves in characters, as on the screen: a title and the chart.

    On request, learning rate and gradient norm are below it, and then what was generated on the way. Raises TdiffError
    where there is no room, or no record of them.
    """
    size, view = drawing.size, View(smoothing=drawing.smoothing)
    curves, strips, captions, rows = _parts(runs, drawing)
    chart_layout = layout(curves, view, size.width, rows)
    drawn = chart.draw(curves, view, size.width, rows, frame=chart_layout)
    for strip in strips:
        drawn.append([(" " * chart_layout.left + strip.label, "dim")])
        drawn += draw_strip(replace(strip, label=""), view, chart_layout, _STRIP_ROWS, ascii=False, colour=True)
    lines: list[Line] = [[(drawing.title or _title(runs), "bold")], [], *drawn, *captions]
    return Frame([fit(line, size.width) for line in lines], 0.0)


def lines(runs: Sequence[RunState], drawing: Drawing) -> Picture:
    """As `frame`, with lines instead of characters."""
    curves, strips, captions, _ = _parts(runs, drawing)
    named = [(strip.label, strip.curve) for strip in strips]
    title = shortened(drawing.title or _title(runs), drawing.size.width)
    return picture(
        curves,
        named,
        title,
        captions,
        size=drawing.size,
        strip_rows=_STRIP_ROWS,
        smoothing=drawing.smoothing,
        background=drawing.theme.background,
    )


def _parts(runs: Sequence[RunState], drawing: Drawing) -> tuple[list[Curve], list[Strip], list[Line], int]:
    """The curves, the strips, the captions, and the rows that remain for the chart."""
    size, theme = drawing.size, drawing.theme
    captions = _captions(runs[0], size.width) if drawing.captions else []
    strips = _strips(runs, theme) if drawing.strips else []
    rows = size.height - 2 - len(captions) - (1 + _STRIP_ROWS) * len(strips)
    if rows < 3:
        raise TdiffError(f"--size leaves {rows} rows for the chart; it needs {3 + size.height - rows} rows in all")
    curves = []
    for number, run in reversed(list(enumerate(runs))):
        train, held_out = run_styles(number, theme)
        for metric, style in ((_LOSS, train), (_HELD_OUT, held_out)):
            if (series := run.metrics.get(metric.name)) is not None:
                name = curve_name(metric.name)
                label = name if len(runs) == 1 else f"{chr(65 + number)} {name}"
                curves.append(Curve(series, style, label, smooth=metric is _LOSS))
    return curves, strips, captions, rows


def table(runs: Sequence[RunState]) -> str:
    """The values as CSV: a row for each run and step, a column for each metric.

    A series of more than 65,536 records has the mean of some neighbouring ones instead.
    """
    names = list(dict.fromkeys(name for run in runs for name in run.metrics))
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["run", "step", *names])
    for run in runs:
        rows = dict[float, dict[str, float]]()
        for name, series in run.metrics.items():
            for step, value in zip(series.steps, series.mean, strict=True):
                rows.setdefault(step, {})[name] = value
        for step in sorted(rows):
            values = [f"{rows[step][name]:.7g}" if name in rows[step] else "" for name in names]
            writer.writerow([visible_line(run.name), f"{step:.15g}", *values])
    return file.getvalue()


def _strips(runs: Sequence[RunState], theme: Theme) -> list[Strip]:
    """Learning rate and gradient norm of each run that records them, with their newest values in their names."""
    found = []
    for metric in _STRIPS:
        for number, run in enumerate(runs):
            series = run.metrics.get(metric.name)
            if series is None or not series.last:
                continue
            letter = f"{chr(65 + number)} " if len(runs) > 1 else ""
            style = run_styles(number, theme)[0] if len(runs) > 1 else "dim"
            label = f"{letter}{metric.label} {metric.text(series.last[1])}"
            found.append(Strip(Curve(series, style, metric.label), label, ""))
    if not found:
        names = " and ".join(visible_line(run.name) for run in runs)
        raise TdiffError(f"--strips draws learning rate and gradient norm, and {names} has neither")
    return found


def _title(runs: Sequence[RunState]) -> str:
    parts = []
    for number, run in enumerate(runs):
        name = visible_line(run.name)
        values = [
            f"{curve_name(metric.name)} {metric.text(series.last[1])}"
            for metric in (_LOSS, _HELD_OUT)
            if (series := run.metrics.get(metric.name)) is not None and series.last
        ]
        parts.append(" · ".join([f"{chr(65 + number)} {name}" if len(runs) > 1 else name, *values]))
    return "   ".join(parts)


def _captions(run: RunState, width: int) -> list[Line]:
    """The first, the middle and the newest sample of a run, of at most two rows each."""
    samples = run.samples
    chosen = [samples[n] for n in sorted({0, len(samples) // 2, len(samples) - 1})][:_CAPTIONS] if samples else []
    lines: list[Line] = []
    for sample in chosen:
        lines.append([(f"step {sample.step:,}", "dim")])
        text = " ".join(visible_line(sample.text.replace("\n", " ")).split())
        rows = lay_out([word + " " for word in text.split(" ")], width - 2).rows[:_CAPTION_ROWS]
        lines += [[("  " + "".join(part for _, part in row), "")] for row in rows]
    return lines
