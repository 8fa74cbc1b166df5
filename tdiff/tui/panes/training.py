"""The training pane: curves of the watched runs, their figures, and a cursor on the curve."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from textual import events
from textual.message import Message
from textual.widget import Widget

from tdiff.draw import chart
from tdiff.draw.axes import Axis
from tdiff.draw.curves import ChartLayout, Curve, Ranges, View, layout, pan, ranges, readout, zoom
from tdiff.draw.palettes import Theme
from tdiff.draw.render import Line
from tdiff.errors import TdiffError
from tdiff.tui.figures import Figure, average, figures, flow, number, progress
from tdiff.tui.gpu_figures import gpu_figures
from tdiff.tui.key import Key, bindings
from tdiff.tui.panes.attempts import attempt_curves
from tdiff.tui.panes.base import Pane, Scene
from tdiff.tui.widgets.lines import Lines, fold
from tdiff.tui.widgets.question_line import Question
from tdiff.watch.run_state import RunState

LOSS = "train/loss"
_COMPANIONS = {LOSS: "eval/loss"}
"""A metric that is drawn with another."""
_SMOOTHINGS = (0.0, 0.3, 0.6, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995)
_STYLES = {
    "dark": (
        ("color(215)", "color(229)"),
        ("color(80)", "color(123)"),
        ("color(176)", "color(225)"),
        ("color(150)", "color(193)"),
    ),
    "light": (
        ("color(166)", "color(94)"),
        ("color(25)", "color(24)"),
        ("color(90)", "color(54)"),
        ("color(28)", "color(22)"),
    ),
    "16": (("color(3)", "color(11)"), ("color(6)", "color(14)"), ("color(5)", "color(13)"), ("color(2)", "color(10)")),
}
"""Styles of each run: its training curve, and its held-out curve."""
_NO_RUN = "No run in this folder yet. In another window:"
_COMMANDS = (
    ("tdiff train --run mine", "a run on Tiny Shakespeare"),
    ("tdiff watch", "watch the newest run"),
    ("tdiff watch train.log", "any log with a loss in it"),
    ("tdiff watch ssh://host/path", "one on another machine"),
)
_FOLLOWING = View(smoothing=0.6)
_AXES: tuple[Axis, ...] = ("step", "time", "tokens")


class CurvesView(Lines):
    """The chart, drawn on request and when its size changes."""

    DEFAULT_CSS = "CurvesView { height: 1fr; }"

    def __init__(self, draw: Callable[[int, int], list[Line]]) -> None:
        super().__init__(id="curves")
        self._draw = draw

    def redraw(self) -> None:
        """Draw the changed rows."""
        width, height = self.size
        self.show(self._draw(width, height) if width > 0 and height > 0 else [])

    def on_resize(self) -> None:
        """Draw the chart for another size."""
        self.redraw()


class TrainingPane(Pane):
    """Curves of up to four runs."""

    KEYS = (
        Key("cursor_left", "left,h", "move the cursor left", "training", "cursor", "move_cursor(-1)"),
        Key("cursor_right", "right,l", "move the cursor right", "training", "cursor", "move_cursor(1)"),
        Key("cursor_leap_left", "shift+left,H,pageup", "move left by a tenth", "training", "", "leap(-1)"),
        Key("cursor_leap_right", "shift+right,L,pagedown", "move right by a tenth", "training", "", "leap(1)"),
        Key("cursor_first", "home,circumflex_accent", "go to the start of the curve", "training"),
        Key("follow", "f,end,G", "follow the newest step; show the whole curve", "training", "follow"),
        Key("zoom_in", "up,k", "zoom into the curve", "training", "zoom", "zoom_curve(2.0)"),
        Key("zoom_out", "down,j", "zoom out", "training", "zoom", "zoom_curve(0.5)"),
        Key("pan_left", "less_than_sign,comma", "pan to the left", "training", "", "pan(-0.25)"),
        Key("pan_right", "greater_than_sign,full_stop", "pan to the right", "training", "", "pan(0.25)"),
        Key("smoother", "plus,equals_sign", "smooth the curve more", "training", "smooth", "smooth(1)"),
        Key("rougher", "minus", "smooth the curve less", "training", "smooth", "smooth(-1)"),
        Key("raw", "0", "do not smooth", "training"),
        Key("x_axis", "a", "x axis by step, time or tokens", "training", "axis"),
        Key("log_axis", "A", "linear or logarithmic loss axis", "training", "log"),
        Key("log_x_axis", "X", "linear or logarithmic x axis", "training"),
        Key("earlier_attempts", "E", "show or hide what a restart discarded", "training"),
        Key("filter", "slash", "select metrics by name", "training", "metric", "ask('filter')", opens_line=True),
        Key("next_metric", "m", "show the next metric", "training", "", "step_metric(1)"),
        Key("previous_metric", "M", "show the previous metric", "training", "", "step_metric(-1)"),
    )
    BINDINGS = bindings(KEYS)  # type: ignore[assignment]

    class Moved(Message):
        """The cursor moved to a step; None: it was removed."""

        def __init__(self, step: float | None) -> None:
            super().__init__()
            self.step = step

    def __init__(self, theme: Theme, *, id: str = "training") -> None:
        super().__init__(theme, id=id)
        self._runs: Sequence[RunState] = ()
        self._now = 0.0
        self._gpu_figures: list[Figure] = []
        self._view = _FOLLOWING
        self._metric = LOSS
        self._with_attempts = True
        self._filter = ""
        self._curves_view = CurvesView(self._chart)
        self._figures = Lines(id="figures")

    def body(self) -> list[Widget]:
        """Chart above figures."""
        return [self._curves_view, self._figures]

    def on_resize(self) -> None:
        """Draw titles and figures for another width; the chart draws itself."""
        self._draw_figures()

    # What is shown

    def show_scene(self, scene: Scene) -> None:
        """Draw the runs; also where it is not displayed, so that its figures are right once it is."""
        self._runs, self._now, self._gpu_figures = scene.runs, scene.now, gpu_figures(scene)
        names = self.metrics()
        if names and self._metric not in names:
            self._metric = names[0]
        self.redraw()

    def redraw(self) -> None:
        """Draw chart, figures and frame again."""
        if self.is_mounted:
            self._curves_view.redraw()
            self._draw_figures()

    def metrics(self) -> list[str]:
        """Names of the metrics of all runs that match the filter, the losses first."""
        names = {name for story in self._runs for name in story.metrics if self._filter in name.lower()}
        return sorted(
            names, key=lambda name: (name != LOSS, name not in _COMPANIONS.values(), "loss" not in name.lower(), name)
        )

    @property
    def smoothing(self) -> float:
        """Weight of the past in the smoothed curves, 0 to 1."""
        return self._view.smoothing

    def question(self, key_id: str) -> Question | None:
        """Which metrics to show."""
        text = "metric (a part of its name; empty: the loss)"
        return Question(text, self.choose) if key_id == "filter" else None

    def choose(self, part: str) -> None:
        """Show the first metric with `part` in its name, and step through these only; "" selects all metrics.

        Raises TdiffError where no metric matches.
        """
        self._filter = part.strip().lower()
        names = self.metrics()
        if not names:
            self._filter = ""
            raise TdiffError(f"no metric name contains {part!r}; metrics: {', '.join(self.metrics()[:12])}")
        self._metric = names[0]
        self._view = replace(self._view, x0=None, x1=None)
        self.redraw()

    def put_cursor(self, step: float | None) -> None:
        """Put the cursor at a step, without a message; None removes it."""
        curves = self._curves()
        x = curves[-1].x(step) if curves and step is not None else None
        self._view = replace(self._view, cursor=x)
        self.redraw()

    def _curves(self) -> list[Curve]:
        """The curves, the first run last, so that it is on top."""
        return [curve for _, curve in self._curves_of()]

    def _curves_of(self) -> list[tuple[RunState, Curve]]:
        curves = []
        several = len(self._runs) > 1
        depth = "16" if self.theme.colour == "16" else self.theme.background
        companion = _COMPANIONS.get(self._metric, "")
        for n, story in reversed(list(enumerate(self._runs))):
            clock = {"time": story.clock, "tokens": story.tokens}.get(self._view.axis)
            origin = clock.high[0] if clock and clock.steps and self._view.axis == "time" else 0.0
            for name, style in zip((companion, self._metric), reversed(_STYLES[depth][n % 4]), strict=True):
                series = story.metrics.get(name)
                if series is not None and (series.steps or series.broken):
                    label = f"{chr(65 + n)} {name}" if several else name
                    # Evaluations are few, and averages.
                    curve = Curve(series, style, label, clock, origin, smooth=not name.startswith("eval/"))
                    curves.append((story, curve))
        return curves

    def _attempts(self) -> list[Curve]:
        depth = "16" if self.theme.colour == "16" else self.theme.background
        styles = [style for style, _ in _STYLES[depth]]
        return attempt_curves(self._runs, self._metric, self._view.axis, styles) if self._with_attempts else []

    def _marked(self) -> View:
        """The view, with a mark for each alert of a run that has a curve."""
        style = "bold color(203)" if self.theme.colour != "16" else "bold color(9)"
        of = {id(story): (story, curve) for story, curve in self._curves_of()}
        marks = tuple(
            (curve.x(notice.step), style)
            for story, curve in of.values()
            for notice in story.alerts
            if notice.what != "ended"
        )
        return replace(self._view, marks=marks[-64:])

    def _chart(self, width: int, height: int) -> list[Line]:
        curves = self._curves()
        if not curves:
            note = next((story.note for story in self._runs if story.note), "")
            waiting = fold([(f" {note}", "")], width) if note else [[(" waiting for the first record ...", "dim")]]
            hint = waiting if self._runs else _no_run_lines(width, height)
            return [[], *hint][-height:] if len(hint) >= height else [[], *hint]
        view = self._marked()
        theme = self.theme
        return chart.draw(
            [*self._attempts(), *curves], view, width, height, ascii=theme.ascii, colour=theme.colour != "none"
        )

    def _draw_figures(self) -> None:
        view, width = self._view, max(1, self.size.width - 2)
        if not self._runs:
            self.frame([("training", "")], [], [], [])
            self._figures.show([])
            return
        story = self._runs[0]
        title = self._metric if len(self._runs) == 1 else f"{self._metric} · {len(self._runs)} runs"
        smooth = average(view.smoothing) if view.smoothing else "raw"
        axes = ("log" if view.log_y else "lin") + (" · log x" if view.log_x else "")
        zoomed = " · zoomed" if view.x0 is not None or view.x1 is not None else ""
        self.frame(
            [(title, "")],
            [(f"{smooth} · {axes} · by {view.axis}{zoomed}", "")],
            [(progress(story, self._now) if view.cursor is None else f"step {story.step:,}", "")],
            self._at_cursor(),
        )
        if view.cursor is None and len(self._runs) > 1:
            values = self._newest_values()
            rows = min(3, len(flow(values, width, 4)))
            self._figures.styles.height = rows
            self._figures.show(flow(values, width, rows))
        else:
            most = 3 if self.size.height >= 16 else 2 if self.size.height >= 12 else 1
            lines = flow([*figures(story, view.smoothing), *self._gpu_figures], width, most)
            self._figures.styles.height = len(lines)
            self._figures.show(lines)

    def _newest_values(self) -> list[tuple[str, str]]:
        """The newest value of each run, where several are overlaid."""
        pairs = []
        for n, story in enumerate(self._runs):
            series = story.metrics.get(self._metric)
            value = number(series.last[1]) if series is not None and series.last else "n/a"
            pairs.append((f"{chr(65 + n)} {story.name}", value))
        return pairs

    def _at_cursor(self) -> Line:
        """The values under the cursor."""
        cursor = self._view.cursor
        if cursor is None:
            return []
        values = readout(self._curves(), cursor, self._view.smoothing)
        values.reverse()
        if not values:
            return []
        step = values[0][2]
        return [(f"@{step:,.0f}", "bold"), *((f"  {label} {number(value)}", "") for label, value, _ in values)]

    # Keys and the mouse

    def _move(self, columns: int) -> None:
        """Move the cursor by so many columns of the chart; it first appears at the right end."""
        curves = self._curves()
        if not curves:
            return
        chart_layout = self._layout(curves)
        last = chart_layout.left + chart_layout.columns - 1
        column = chart_layout.column_of(self._view.cursor) if self._view.cursor is not None else None
        if column is None:
            column, columns = last, min(columns, 0)
        self._put(chart_layout.x_of(min(max(column + columns, chart_layout.left), last)))

    def _put(self, x: float) -> None:
        self._view = replace(self._view, cursor=x)
        self.redraw()
        values = readout(self._curves(), x)
        if values:
            self.post_message(self.Moved(values[-1][2]))

    def _layout(self, curves: Sequence[Curve]) -> ChartLayout:
        width, height = self._curves_view.size
        theme = self.theme
        return layout(
            [*self._attempts(), *curves], self._view, width, height, ascii=theme.ascii, colour=theme.colour != "none"
        )

    def on_click(self, event: events.Click) -> None:
        """Put the cursor where the mouse is."""
        curves = self._curves()
        if curves and event.widget is self._curves_view:
            self._put(self._layout(curves).x_of(event.x))

    def _set_view(self, view: View) -> None:
        self._view = view
        self.redraw()

    def _full_ranges(self) -> Ranges:
        return ranges([*self._attempts(), *self._curves()], replace(self._view, x0=None, x1=None))

    def action_move_cursor(self, columns: int) -> None:
        """Move the cursor to the right by so many columns; to the left where negative."""
        self._move(columns)

    def action_leap(self, tenths: int) -> None:
        """Move the cursor to the right by so many tenths of the chart; to the left where negative."""
        self._move(tenths * max(1, self._curves_view.size.width // 10))

    def action_cursor_first(self) -> None:
        """Move the cursor to the left end."""
        self._move(-10_000)

    def action_follow(self) -> None:
        """Show the whole curve, and follow the newest step."""
        self._set_view(replace(self._view, x0=None, x1=None, y0=None, y1=None, cursor=None))
        self.post_message(self.Moved(None))

    def action_zoom_curve(self, factor: float) -> None:
        """Magnify by `factor` around the cursor, or around the newest step."""
        if curves := self._curves():
            x0, x1, _, _ = ranges([*self._attempts(), *curves], self._view)
            cursor = self._view.cursor
            center = cursor if cursor is not None and x0 <= cursor <= x1 else x1
            self._set_view(zoom(self._view, self._full_ranges(), factor, center))

    def action_pan(self, share: float) -> None:
        """Move the view to the right by a share of its width; to the left where negative."""
        if self._curves():
            self._set_view(pan(self._view, self._full_ranges(), share))

    def action_smooth(self, levels: int) -> None:
        """Smooth the curve more; less where negative."""
        nearest = min(range(len(_SMOOTHINGS)), key=lambda n: abs(_SMOOTHINGS[n] - self._view.smoothing))
        level = min(max(nearest + levels, 0), len(_SMOOTHINGS) - 1)
        self._set_view(replace(self._view, smoothing=_SMOOTHINGS[level]))

    def action_earlier_attempts(self) -> None:
        """Show or hide what restarts discarded."""
        self._with_attempts = not self._with_attempts
        self.redraw()

    def action_raw(self) -> None:
        """Show the values without smoothing."""
        self._set_view(replace(self._view, smoothing=0.0))

    def action_x_axis(self) -> None:
        """Use the next x axis: steps, time or tokens."""
        axes = [axis for axis in _AXES if axis == "step" or self._has(axis)]
        axis = axes[(axes.index(self._view.axis) + 1) % len(axes)] if self._view.axis in axes else "step"
        self._set_view(replace(self._view, axis=axis, x0=None, x1=None, cursor=None))

    def _has(self, axis: Axis) -> bool:
        return any((story.clock if axis == "time" else story.tokens).steps for story in self._runs)

    def action_log_axis(self) -> None:
        """Switch the y axis between linear and logarithmic."""
        self._set_view(replace(self._view, log_y=not self._view.log_y))

    def action_log_x_axis(self) -> None:
        """Switch the x axis between linear and logarithmic."""
        self._set_view(replace(self._view, log_x=not self._view.log_x, x0=None, x1=None))

    def action_step_metric(self, count: int) -> None:
        """Show the metric that is `count` further in the list."""
        if names := self.metrics():
            current = names.index(self._metric) if self._metric in names else 0
            self._metric = names[(current + count) % len(names)]
            self._set_view(replace(self._view, x0=None, x1=None))


def _no_run_lines(width: int, height: int) -> list[Line]:
    """Without a watched run: commands, and what each does, in_columns or below it as there is room."""
    in_columns = [f"   {command:<30}{does}" for command, does in _COMMANDS]
    below = [line for command, does in _COMMANDS for line in (f"   {command}", f"     {does}")]
    commands = in_columns if max(map(len, in_columns)) <= width else below
    if commands is below and len(below) + 2 > height:
        commands = below[::2]
    return [*fold([(f" {_NO_RUN}", "")], width), [], *([(line, "")] for line in commands)]
