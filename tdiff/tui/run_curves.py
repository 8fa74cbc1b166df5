"""The curves of the watched runs: which metric is drawn over which x, in which colour and under which label."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from tdiff.draw.axes import Axis
from tdiff.draw.curves import Curve, Level
from tdiff.draw.differences import difference
from tdiff.draw.palettes import Theme
from tdiff.draw.run_styles import run_styles
from tdiff.draw.strips import Strip
from tdiff.protocol.metrics import METRICS, curve_name
from tdiff.series.series import Series
from tdiff.watch.curves import epoch_clock
from tdiff.watch.run_state import RunState

LOSS, HELD_OUT = METRICS["train/loss"].name, METRICS["eval/loss"].name
COMPANIONS = {LOSS: HELD_OUT}
"""A metric that is drawn with another."""
STRIPS = ("train/lr", "train/grad_norm")
"""Metrics that have a strip below the curve."""
AXES: tuple[Axis, ...] = ("step", "time", "epoch", "tokens")

Comparison = Literal["", "runs", "gap", "ratio"]
"""What replaces the curves: the first run less the second, validation less training loss, or their ratio."""
SIGNS: dict[Comparison, str] = {"runs": "A-B", "gap": "val-train", "ratio": "val/train"}
"""What a comparison is called."""
EQUAL: dict[Comparison, float] = {"runs": 0.0, "gap": 0.0, "ratio": 1.0}
"""The value of a comparison of two curves that are the same."""


@dataclass(frozen=True, slots=True)
class Selection:
    """What of the runs is drawn."""

    metric: str = LOSS
    axis: Axis = "step"
    from_start: bool = False
    """Whether x counts from the first record of each run; times always do."""
    comparison: Comparison = ""


class RunCurve(NamedTuple):
    """A curve and the run that it belongs to."""

    run: RunState
    curve: Curve
    metric: str
    """The name of its metric."""


def run_label(number: int, run: RunState) -> str:
    """The name of a run among several: its letter, then its name."""
    return f"{chr(65 + number)} {run.name}"


class CurveBuilder:
    """Builds the curves of a selection, and caches what it derives from series until these change."""

    def __init__(self) -> None:
        self._cache: dict[tuple[object, ...], tuple[object, Series]] = {}

    def curves(self, runs: Sequence[RunState], selection: Selection, theme: Theme) -> list[RunCurve]:
        """The curves without comparison, the first run last, so that it is on top.

        Runs for which x is unknown are left out; if it is unknown for all, x is the step.
        """
        axis = self.axis(runs, selection)
        built = []
        for number, run in reversed(list(enumerate(runs))):
            clock = self._clock(run, axis)
            if axis != "step" and (clock is None or not clock.steps):
                continue
            train, held = run_styles(number, theme)
            companion = COMPANIONS.get(selection.metric, "")
            shown = [(companion, held), (selection.metric, train)]
            drawn = [
                (name, style, series)
                for name, style in shown
                if (series := run.metrics.get(name)) is not None and (series.steps or series.broken)
            ]
            origin = 0.0
            if clock is not None and (axis == "time" or selection.from_start):
                origin = clock.high[0]
            elif selection.from_start:
                origin = min((series.steps or series.broken)[0] for _, _, series in drawn) if drawn else 0.0
            for name, style, series in drawn:
                label = curve_name(name) if selection.metric in COMPANIONS else name
                if len(runs) > 1:
                    label = f"{chr(65 + number)} {label}" if name == companion else run_label(number, run)
                # Evaluations are few, and averages.
                curve = Curve(series, style, label, clock, origin, smooth=not name.startswith("eval/"))
                built.append(RunCurve(run, curve, name))
        return built

    def compared(self, curves: Sequence[RunCurve], comparison: Comparison, smoothing: float) -> list[RunCurve]:
        """The comparison of these curves in their place; the curves themselves where there is nothing to compare."""
        by_run: dict[int, list[RunCurve]] = {}
        for one in curves:
            if not one.curve.faint:
                by_run.setdefault(id(one.run), []).append(one)
        pairs: list[tuple[RunCurve, RunCurve, str]] = []
        if comparison == "runs":
            mains = [of_run[-1] for of_run in by_run.values() if of_run[-1].metric == curves[-1].metric]
            if len(mains) > 1:
                pairs = [(mains[-1], mains[-2], SIGNS[comparison])]
        elif comparison:
            for of_run in by_run.values():
                if [one.metric for one in of_run] == [HELD_OUT, LOSS]:
                    letter = f"{of_run[1].curve.label[:1]} " if len(by_run) > 1 else ""
                    pairs.append((of_run[0], of_run[1], letter + SIGNS[comparison]))
        built = []
        for first, second, label in pairs:
            style = second.curve.style if comparison != "runs" else first.curve.style
            series = self._difference(first.curve, second.curve, smoothing, comparison == "ratio")
            built.append(RunCurve(first.run, Curve(series, style, label, smooth=False), label))
        return built or list(curves)

    def strips(
        self, runs: Sequence[RunState], curves: Sequence[RunCurve], selection: Selection, theme: Theme
    ) -> list[Strip]:
        """Strips of these runs below `curves`, with the same start of x."""
        origins = {id(one.run): one.curve.origin for one in curves}
        strips = []
        for name in STRIPS:
            for run, curve, _ in self.curves(runs, replace(selection, metric=name), theme):
                shifted = replace(curve, style="dim", origin=origins.get(id(run), curve.origin))
                last = curve.series.last
                strips.append(Strip(shifted, METRICS[name].label, METRICS[name].text(last[1]) if last else ""))
        return strips

    def axis(self, runs: Sequence[RunState], selection: Selection) -> Axis:
        """The selected x axis, or "step" where no run has the selected one."""
        return selection.axis if self._known(runs, selection.axis) else "step"

    def axes(self, runs: Sequence[RunState]) -> list[Axis]:
        """The x axes of which at least one run knows the values."""
        return [axis for axis in AXES if self._known(runs, axis)]

    def _known(self, runs: Sequence[RunState], axis: Axis) -> bool:
        clocks = (self._clock(run, axis) for run in runs)
        return axis == "step" or any(clock is not None and clock.steps for clock in clocks)

    def _clock(self, run: RunState, axis: Axis) -> Series | None:
        if axis == "epoch":
            epochs = run.metrics.get("epoch")
            if epochs is None:
                return None
            return self._derived(("epoch", id(epochs)), _state(epochs), lambda: epoch_clock(epochs))
        return {"time": run.clock, "tokens": run.tokens}.get(axis)

    def _difference(self, first: Curve, second: Curve, smoothing: float, ratio: bool) -> Series:
        parts = [part for curve in (first, second) for part in (curve.series, curve.clock) if part is not None]
        name = ("difference", *map(id, parts), smoothing, ratio, first.origin, second.origin)
        state = tuple(map(_state, parts))
        return self._derived(name, state, lambda: difference(first, second, smoothing, ratio=ratio))

    def _derived(self, name: tuple[object, ...], state: object, make: Callable[[], Series]) -> Series:
        known = self._cache.get(name)
        if known is not None and known[0] == state:
            return known[1]
        if len(self._cache) >= 16:
            self._cache.clear()
        series = make()
        self._cache[name] = (state, series)
        return series


def comparisons(curves: Sequence[RunCurve]) -> list[Comparison]:
    """The comparisons that these curves allow, after "" for none."""
    mains = {id(one.run) for one in curves if one.metric not in COMPANIONS.values()}
    held = {id(one.run) for one in curves if one.metric in COMPANIONS.values()}
    found: list[Comparison] = [""]
    if len(mains) > 1:
        found.append("runs")
    if mains & held:
        found += ["gap", "ratio"]
    return found


def levels(selection: Selection, target: float | None) -> tuple[Level, ...]:
    """The lines across the chart: a target for the loss, or the value of a comparison of equal curves."""
    if selection.comparison:
        return (Level(EQUAL[selection.comparison], "", ""),)
    if target is None or selection.metric not in (LOSS, HELD_OUT):
        return ()
    return (Level(target, f"target {target:g}", ""),)


def marks(curves: Sequence[RunCurve], theme: Theme) -> tuple[tuple[float, str], ...]:
    """(x, style) of the newest alerts of the runs that have a curve."""
    style = "bold color(203)" if theme.colour != "16" else "bold color(9)"
    of = {id(one.run): one for one in curves}
    return tuple(
        (one.curve.x(notice.step), style) for one in of.values() for notice in one.run.alerts if notice.what != "ended"
    )[-64:]


def _state(series: Series) -> tuple[object, ...]:
    """What changes with every record."""
    return series.count, series.stride, series.last
