"""The training pane: curves of the watched runs, their figures, and a cursor on the curve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from textual import events
from textual.message import Message
from textual.widget import Widget

from tdiff.draw import chart
from tdiff.draw.curves import ChartLayout, Curve, Ranges, View, layout, ranges, readout
from tdiff.draw.palettes import Theme
from tdiff.draw.render import Line
from tdiff.draw.run_styles import run_styles
from tdiff.draw.strips import Strip, StripCache, draw_strip
from tdiff.draw.zoom import pan, pan_y, zoom, zoom_y
from tdiff.errors import TdiffError
from tdiff.tui import heat_map, run_curves, training_texts
from tdiff.tui.figures import Figure, flow, progress
from tdiff.tui.key import Key, bindings
from tdiff.tui.panes.attempts import attempt_curves
from tdiff.tui.panes.base import Pane, Scene
from tdiff.tui.panes.no_run import no_run_lines
from tdiff.tui.readout import cursor_line
from tdiff.tui.run_curves import COMPANIONS, HELD_OUT, LOSS, CurveBuilder, RunCurve, Selection
from tdiff.tui.widgets.curves import CurvesView
from tdiff.tui.widgets.lines import Lines, fold
from tdiff.tui.widgets.question_line import Question
from tdiff.watch.run_state import RunState

_SMOOTHINGS = (0.0, 0.3, 0.6, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995)
_FOLLOWING = View(smoothing=0.6)
_ROWS_FOR_STRIPS, _ROWS_FOR_TALL_STRIPS = 14, 22  # rows of the chart from which strips have one row, and two


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
        Key("zoom_in_values", "K,shift+up", "zoom into the values", "training", "", "zoom_values(2.0)"),
        Key("zoom_out_values", "J,shift+down", "zoom out of the values", "training", "", "zoom_values(0.5)"),
        Key("pan_up", "u", "pan to higher values", "training", "", "pan_values(0.25)"),
        Key("pan_down", "d", "pan to lower values", "training", "", "pan_values(-0.25)"),
        Key("all_values", "e", "y axis without outliers, or with all values", "training"),
        Key("smoother", "plus,equals_sign", "smooth the curve more", "training", "smooth", "smooth(1)"),
        Key("rougher", "minus", "smooth the curve less", "training", "smooth", "smooth(-1)"),
        Key("raw", "0", "do not smooth", "training"),
        Key("x_axis", "a", "x axis by step, time, epoch or tokens", "training", "axis"),
        Key("from_start", "s", "count x from the start of each run, or not", "training"),
        Key("log_axis", "A", "linear or logarithmic loss axis", "training", "log"),
        Key("log_x_axis", "X", "linear or logarithmic x axis", "training"),
        Key("earlier_attempts", "E", "show or hide what a restart discarded", "training"),
        Key("filter", "slash", "select metrics by name", "training", "metric", "ask('filter')", opens_line=True),
        Key("next_metric", "m", "show the next metric", "training", "", "step_metric(1)"),
        Key("previous_metric", "M", "show the previous metric", "training", "", "step_metric(-1)"),
        Key("compare", "c", "show A-B, val-train or val/train, or the curves", "training"),
        Key("target", "t", "draw a line at a target", "training", "", "ask('target')", opens_line=True),
        Key("heat", "v", "show loss by mask ratio as a heat map, or the curves", "training", "mask ratio"),
        Key("strips", "w", "show or hide learning rate and gradient norm", "training"),
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
        self._strip_cache = StripCache()
        self._timed = ""  # what the time alone changes, as it was drawn
        self._with_attempts = True
        self._view = _FOLLOWING
        self._selection = Selection()
        self._filter = ""
        self._target: float | None = None
        self._strips = True
        self._heat = False  # whether the loss by mask ratio is shown instead of the curves
        self._pointed: int | None = None  # the column of the chart under the mouse
        self._builder = CurveBuilder()
        self._curves_view = CurvesView(self._chart, self._point, self._wheel)
        self._figures = Lines(id="figures")

    def begin_with(self, smoothing: float, target: float | None, align: str) -> None:
        """Begin with the weight of the smoothing (0..1), a target value, and one of `options.ALIGNMENTS`."""
        self._view = replace(self._view, smoothing=smoothing)
        self._target = target
        self._selection = Selection(axis="time" if align == "time" else "step", from_start=align == "start")

    def body(self) -> list[Widget]:
        """Chart above figures."""
        return [self._curves_view, self._figures]

    def on_resize(self) -> None:
        """Draw titles and figures for another width; the chart draws itself."""
        self._draw_figures()

    # What is shown

    def show_scene(self, scene: Scene) -> None:
        """Draw the runs; also where it is not displayed, so that its figures are right once it is."""
        self._runs, self._now, self._gpu_figures = scene.runs, scene.now, []
        if scene.devices:
            from tdiff.tui.gpu_figures import gpu_figures

            self._gpu_figures = gpu_figures(scene)
        self._timed = self._words()
        names = self.metrics()
        if names and self._selection.metric not in names:
            self._selection = replace(self._selection, metric=names[0])
        if self._selection.comparison not in run_curves.comparisons(self._curves_of()):
            self._selection = replace(self._selection, comparison="")
        self.redraw()

    def show_time(self, now: float) -> None:
        """Draw what depends on the time alone, if it is different: the time left, or why there is no curve."""
        before, self._now = self._timed, now
        self._timed = self._words()
        if self._timed != before:
            self.redraw() if "train/loss" not in self._runs[0].metrics else self._draw_figures()

    def _words(self) -> str:
        """What the time alone changes."""
        return "".join(f"{progress(run, self._now)} {training_texts.waiting(run, self._now)}" for run in self._runs[:1])

    def redraw(self) -> None:
        """Draw chart, figures and frame again."""
        if self.is_mounted:
            self._curves_view.redraw()
            self._draw_figures()

    def metrics(self) -> list[str]:
        """Names of the metrics of all runs that match the filter, the losses first."""
        names = {name for story in self._runs for name in story.metrics if self._filter in name.lower()}
        return sorted(
            names, key=lambda name: (name != LOSS, name not in COMPANIONS.values(), "loss" not in name.lower(), name)
        )

    @property
    def smoothing(self) -> float:
        """Weight of the past in the smoothed curves, 0 to 1."""
        return self._view.smoothing

    def question(self, key_id: str) -> Question | None:
        """Which metrics to show, or where to draw a line."""
        if key_id == "target":
            value = "" if self._target is None else f"{self._target:g}"
            return Question("target (a number; empty: none)", self.aim, value)
        text = "metric (a part of its name; empty: the loss)"
        return Question(text, self.choose) if key_id == "filter" else None

    def aim(self, text: str) -> None:
        """Draw a line at this number, "" for none. Raises TdiffError for anything else."""
        self._target = training_texts.number_of(text)
        self.redraw()

    def choose(self, part: str) -> None:
        """Show the first metric with `part` in its name, and step through these only; "" selects all metrics.

        Raises TdiffError where no metric matches.
        """
        self._filter = part.strip().lower()
        names = self.metrics()
        if not names:
            self._filter = ""
            raise TdiffError(f"no metric name contains {part!r}; metrics: {', '.join(self.metrics()[:12])}")
        self._show_metric(names[0])

    def _show_metric(self, name: str) -> None:
        self._selection = replace(self._selection, metric=name, comparison="")
        self._set_view(replace(self._view, x0=None, x1=None, y0=None, y1=None))

    def put_cursor(self, step: float | None) -> None:
        """Put the cursor at a step, without a message; None removes it."""
        curves = self._curves_of()
        x = curves[-1].curve.x(step) if curves and step is not None else None
        self._view = replace(self._view, cursor=x)
        self.redraw()

    def _curves(self) -> list[Curve]:
        """What is drawn: the curves, the first run last, so that it is on top, or a comparison of them."""
        compared = self._builder.compared(self._curves_of(), self._selection.comparison, self._view.smoothing)
        return [one.curve for one in compared]

    def _curves_of(self) -> list[RunCurve]:
        return self._builder.curves(self._runs, self._selection, self.theme)

    def _attempts(self) -> list[Curve]:
        """The faint curves of what restarts discarded."""
        selection, axis = self._selection, self._builder.axis(self._runs, self._selection)
        if not self._with_attempts or selection.comparison or axis == "epoch":
            return []
        if selection.from_start and axis != "time":
            return []
        styles = [run_styles(number, self.theme)[0] for number in range(max(1, len(self._runs)))]
        return attempt_curves(self._runs, selection.metric, axis, styles)

    def _drawn_view(self) -> View:
        """The view, with a mark for each alert of a run that has a curve, and with the lines across the chart."""
        marks = run_curves.marks(self._curves_of(), self.theme)
        levels = run_curves.levels(self._selection, self._target)
        return replace(self._view, marks=marks, levels=levels, axis=self._builder.axis(self._runs, self._selection))

    def _chart(self, width: int, height: int) -> list[Line]:
        curves = self._curves()
        if not curves:
            run = next((run for run in self._runs if run.note), self._runs[0] if self._runs else None)
            text = training_texts.waiting(run, self._now) if run is not None else ""
            waiting = fold([(f" {text}", "" if run is not None and run.note else "dim")], width)
            hint = waiting if self._runs else no_run_lines(width, height)
            return [[], *hint][-height:] if len(hint) >= height else [[], *hint]
        if self._shows_heat and height >= heat_map.MIN_ROWS:
            frame = layout(curves, self._drawn_view(), width, height, ascii=self.theme.ascii)
            own = next((one.curve for one in self._curves_of() if one.run is self._runs[0]), curves[-1])
            return heat_map.draw(self._runs[0], own, frame, width, height, self._x, self.theme)
        view, ascii, colour = self._drawn_view(), self.theme.ascii, self.theme.colour != "none"
        strips, rows = self._strips_in(height)
        height -= len(strips) * rows
        curves = [*self._attempts(), *curves]
        frame = layout(curves, view, width, height, ascii=ascii)
        if self._pointed is not None and frame.left <= self._pointed < frame.left + frame.columns:
            view = replace(view, cursor=frame.x_of(self._pointed))
        lines = chart.draw(curves, view, width, height, ascii=ascii, colour=colour, frame=frame)
        for strip in strips:
            lines += draw_strip(strip, view, frame, rows, ascii=ascii, colour=colour, cache=self._strip_cache)
        return lines

    @property
    def _shows_heat(self) -> bool:
        return self._heat and bool(self._runs) and heat_map.has_ratios(self._runs[0])

    def _strips_in(self, height: int) -> tuple[list[Strip], int]:
        """The strips below a chart of so many rows, and the rows of each."""
        if not self._strips or height < _ROWS_FOR_STRIPS or self._selection.metric not in (LOSS, HELD_OUT):
            return [], 0
        strips = self._builder.strips(self._runs[:1], self._curves_of(), self._selection, self.theme)
        return strips, 2 if height >= _ROWS_FOR_TALL_STRIPS else 1

    def _draw_figures(self) -> None:
        view, width = self._view, max(1, self.size.width - 2)
        if not self._runs:
            self.frame([("training", "")], [], [], [])
            self._figures.show([])
            return
        run, selection = self._runs[0], self._selection
        axis = self._builder.axis(self._runs, selection)
        drawn = {id(one.run) for one in self._curves_of()} if axis != "step" else set(map(id, self._runs))
        left_out = [n for n, other in enumerate(self._runs) if id(other) not in drawn]
        letter = "A " if len(self._runs) > 1 else ""
        self.frame(
            [("loss by mask ratio" if self._shows_heat else training_texts.title(selection, len(self._runs)), "")],
            [(f"by {axis}" if self._shows_heat else training_texts.state(view, selection, axis, left_out), "")],
            [(letter + (progress(run, self._now) if self._x is None else f"step {run.step:,}"), "")],
            self._at_cursor(),
        )
        if len(self._runs) > 1 and self._x is None:
            values, styles = training_texts.newest_values(self._runs, selection.metric, self.theme)
            rows = min(3, len(flow(values, width, 4)))
        else:
            values = [*training_texts.run_figures(run, view.smoothing, self._target), *self._gpu_figures]
            styles = training_texts.figure_styles(selection, view.smoothing, self.theme)
            rows = 3 if self.size.height >= 16 else 2 if self.size.height >= 12 else 1
        lines = flow(values, width, rows, styles)
        self._figures.styles.height = len(lines)
        self._figures.show(lines)

    @property
    def _x(self) -> float | None:
        """The x of the mouse, or of the cursor."""
        if self._pointed is not None and (curves := self._curves()):
            frame = self._layout(curves)
            if frame.left <= self._pointed < frame.left + frame.columns:
                return frame.x_of(self._pointed)
        return self._view.cursor

    def _at_cursor(self) -> Line:
        """The values under the mouse or the cursor, with their step and time."""
        if (x := self._x) is None:
            return []
        return cursor_line(self._curves_of(), self._curves(), x, self._view.smoothing, self._selection, self.theme)

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
        values = readout([one.curve for one in self._curves_of()], x)
        if values:
            self.post_message(self.Moved(values[-1][2]))

    def _layout(self, curves: Sequence[Curve]) -> ChartLayout:
        width, height = self._curves_view.size
        strips, rows = self._strips_in(height)
        drawn = [*self._attempts(), *curves]
        return layout(drawn, self._drawn_view(), width, height - len(strips) * rows, ascii=self.theme.ascii)

    def on_click(self, event: events.Click) -> None:
        """Put the cursor where the mouse is."""
        curves = self._curves()
        if curves and event.widget is self._curves_view:
            self._put(self._layout(curves).x_of(event.x))

    def _point(self, column: int | None) -> None:
        """Show the values where the mouse is."""
        if column != self._pointed:
            self._pointed = column
            self.redraw()

    def _wheel(self, column: int, notches: int) -> None:
        """Zoom around the mouse."""
        if curves := self._curves():
            x = self._layout(curves).x_of(column)
            self._set_view(zoom(self._view, self._full_ranges(), 1.5**notches, x))

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

    def action_zoom_values(self, factor: float) -> None:
        """Magnify the y axis by `factor` around the value at the cursor, or around the newest value."""
        if curves := self._curves():
            drawn = ranges(curves, self._drawn_view())
            cursor = self._view.cursor
            values = readout(curves, drawn[1] if cursor is None else cursor, self._view.smoothing)
            center = values[-1][1] if values else (drawn[2] + drawn[3]) / 2
            self._set_view(zoom_y(self._view, drawn, factor, center))

    def action_pan_values(self, share: float) -> None:
        """Move the view up by a share of its height; down where negative."""
        if curves := self._curves():
            self._set_view(pan_y(self._view, ranges(curves, self._drawn_view()), share))

    def action_all_values(self) -> None:
        """Leave out outliers on the y axis or show all values, and follow the data again."""
        zoomed = self._view.y0 is not None or self._view.y1 is not None
        self._set_view(replace(self._view, y0=None, y1=None, robust=zoomed or not self._view.robust))

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
        """Use the next x axis: steps, time, epochs or tokens."""
        axes = self._builder.axes(self._runs)
        axis = self._builder.axis(self._runs, self._selection)
        self._select(replace(self._selection, axis=axes[(axes.index(axis) + 1) % len(axes)]))

    def action_from_start(self) -> None:
        """Count x from the start of each run, or not."""
        self._select(replace(self._selection, from_start=not self._selection.from_start))

    def _select(self, selection: Selection) -> None:
        self._selection = selection
        self._set_view(replace(self._view, x0=None, x1=None, cursor=None))

    def action_compare(self) -> None:
        """Show the next comparison, or the curves."""
        found = run_curves.comparisons(self._curves_of())
        current = self._selection.comparison
        following = found[(found.index(current) + 1) % len(found)] if current in found else ""
        self._selection = replace(self._selection, comparison=following)
        self._set_view(replace(self._view, y0=None, y1=None))

    def action_heat(self) -> None:
        """Show the loss by mask ratio, or the curves."""
        self._heat = not self._heat
        self.redraw()

    def action_strips(self) -> None:
        """Show or hide the strips below the curve."""
        self._strips = not self._strips
        self.redraw()

    def action_log_axis(self) -> None:
        """Switch the y axis between linear and logarithmic."""
        self._set_view(replace(self._view, log_y=not self._view.log_y))

    def action_log_x_axis(self) -> None:
        """Switch the x axis between linear and logarithmic."""
        self._set_view(replace(self._view, log_x=not self._view.log_x, x0=None, x1=None))

    def action_step_metric(self, count: int) -> None:
        """Show the metric that is `count` further in the list."""
        if names := self.metrics():
            metric = self._selection.metric
            current = names.index(metric) if metric in names else 0
            self._show_metric(names[(current + count) % len(names)])
