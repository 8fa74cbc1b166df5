"""One watched thing, as a fold over what its source says: curves, progress, samples, notices, log.

It knows no files, no processes but the run's own id, and no screen. Everything it holds is safe to print.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, assert_never

from tdiff.formatting import duration
from tdiff.protocol.events import (
    Alert,
    Checkpoint,
    End,
    Eval,
    Event,
    Heartbeat,
    Resume,
    Sample,
    Start,
    TraceEnd,
    TraceHeader,
    TraceLine,
    TraceStep,
    Train,
    Verdicts,
)
from tdiff.series.series import Series
from tdiff.visible import visible_line
from tdiff.watch import alerts, summary
from tdiff.watch.alerts import Losses, Notice, What
from tdiff.watch.formats import detect, events
from tdiff.watch.formats.columns import FARTHEST
from tdiff.watch.formats.endings import Ending

State = Literal["waiting", "running", "stalled", "finished", "stopped", "failed", "died"]

LOG_LINES, LOG_WIDTH = 5_000, 1_000
"""Lines of the log that are kept, and characters of each."""
MOST_METRICS, MOST_SAMPLES, MOST_NOTICES, MOST_TRACE = 256, 4_096, 1_000, 1 << 24
"""How much of each is kept, whatever a source says; of a trace, characters."""
_CAPS = {"train/loss": 1 << 16}
_CAP, _SMALL_CAP, _MASK_CAP = 1 << 14, 1 << 11, 1 << 12
_CLOCK, _TOKENS = "\nclock", "\ntokens"
"""No metric is called so."""
_USUAL, _GAPS = 65, 513
"""Times from which the usual gap is told, and the longest ones."""
_SAMPLE_LENGTH, _REASON_LENGTH = 20_000, 300
"""Characters that are kept."""
_ARRIVALS = 4_096


class RunState:
    """What is known of one run, log, table or trace. Not for two threads at once."""

    def __init__(self, name: str = "") -> None:
        """A story of which nothing has been told yet."""
        self.name = visible_line(name)
        self.resets = 0
        """How often its source began anew."""
        self._forget()

    def _forget(self) -> None:
        self.closed = False
        """Whether nothing can come any more: its pipe has ended."""
        self.format = ""
        """tdiff, huggingface, json, csv, trace or log; "" while it is not known."""
        self.metrics: dict[str, Series] = {}
        """By name: train/loss and eval/loss (nats a token where tdiff trains), gpu/load (%), mask/0.05 to mask/0.95."""
        self.clock = Series(_CAP)
        """Step -> seconds since the epoch, or since the start where the source tells only those."""
        self.tokens = Series(_CAP)
        """Step -> tokens seen."""
        self.start: Start | None = None
        self.ended: End | None = None
        """Its time is 0 where that is not known."""
        self.checkpoint: Checkpoint | None = None
        self.evaluation: Eval | None = None
        """The newest evaluation of a run of tdiff, whole."""
        self.verdicts: Verdicts | None = None
        """How well it told classes apart when that was last measured."""
        self.step = 0
        self.total: int | None = None
        self.progress: float | None = None
        """Share of the work done, 0..1."""
        self.samples: list[Sample] = []
        self.trace: deque[TraceLine] = deque()
        """The newest lines of a trace."""
        self.traced_lines = 0
        """Lines of it so far, with those that are not kept any more."""
        self._trace_size = 0
        self.alerts: list[Notice] = []
        self.last_time: float | None = None
        """Of the newest record, seconds since the epoch; where records tell no time, of its arrival."""
        self.doing = ""
        """What a run that gives no records just now is busy with, in its own words."""
        self.logged = 0
        """Lines of the log so far, with those that are not kept any more."""
        self._eta: float | None = None
        self._log: deque[str] = deque(maxlen=LOG_LINES)
        self._unwritten: deque[str | tuple[Any, ...]] = deque(maxlen=LOG_LINES)
        self._reader = detect.Reader(self)
        self._process: tuple[int, str] | None = None
        self._times: deque[float] = deque(maxlen=_GAPS)
        self._own: deque[float] = deque(maxlen=_GAPS)  # seconds since its start that bars and columns tell
        self._pace = 0.0  # seconds that a step takes, by its bar
        self._ending = Ending()
        self._told_failure = ""  # the failure of which there is a notice
        self._at: dict[str, float] = {}  # the newest step of each metric, of broken records too
        self._losses = Losses()
        self._new: list[Notice] = []
        self._warned: set[str] = set()  # of stall and death, those told since the newest record
        self._timed = False  # whether records tell the time
        self._elapsed: float | None = None  # seconds since the start, where only those are told
        self._epoch: float | None = None  # what makes the clock seconds since the epoch
        self._arrivals: deque[tuple[float, int]] = deque(
            maxlen=_ARRIVALS
        )  # when lines came that tell no time, and step

    # What the source says

    def feed(self, lines: Iterable[str], arrived: float | None = None) -> None:
        """Take in the next lines, whole, without their ends.

        `arrived` is when they came or were written, seconds since the epoch, for formats whose records tell no time;
        None where it is not known, as of lines that are not the newest.
        """
        lines = lines if isinstance(lines, list) else list(lines)
        self._reader.feed(lines)
        if arrived is None or not lines or self._timed or self.format == "tdiff":
            return
        self._seen(arrived)
        self._times.append(arrived)
        self._arrivals.append((arrived, self.step))
        if self._elapsed is not None:
            self._epoch = arrived - self._elapsed
        known = self._elapsed is not None
        self._change(lambda n: n if n.time is not None else replace(n, time=self.when(n.step) if known else arrived))
        if self.ended is not None and not self.ended.time:
            self.ended = replace(self.ended, time=arrived)

    def settle(self, *, over: bool = False) -> bool:
        """Nothing has come for a while: take in what waits for the next line. Whether there was anything.

        `over`: nothing will ever come.
        """
        return self._reader.settle(over)

    def reset(self) -> None:
        """Forget all: the file was replaced or truncated."""
        self._forget()
        self.resets += 1

    # What a watcher asks

    @property
    def eta(self) -> float | None:
        """Seconds to go, as of the newest record; None where it is not known, or the run has ended."""
        return self._eta if self.ended is None and not self._ending.reason else None

    def left(self, now: float) -> float | None:
        """Seconds to go at `now`: what was told, less the time since; None unless it runs."""
        if self.eta is None or self.state(now) != "running":
            return None
        return max(0.0, self.eta - max(0.0, now - (self.last_time or now)))

    @property
    def gap(self) -> float:
        """Seconds between records: the median of the newest 64, or what its own clock says; 0 while it is not known."""
        usual = max(alerts.usual_gap(list(clock)[-_USUAL:]) for clock in (self._times, self._own))
        return max(usual, self._pace)

    @property
    def failure(self) -> str:
        """Why it died, by the last lines of its log, on one line that is safe to print; "" where they tell nothing."""
        return visible_line(self._ending.reason[:_REASON_LENGTH])

    @property
    def log(self) -> deque[str]:
        """The newest 5,000 lines."""
        if self._unwritten:
            self._log.extend(told if isinstance(told, str) else events.train_line(told) for told in self._unwritten)
            self._unwritten.clear()
        return self._log

    def state(self, now: float) -> State:
        """How it is at `now`, seconds since the epoch."""
        if self._ending.reason:
            return "stopped" if self._ending.interrupted else "failed"
        if self.ended is not None:
            return "failed" if self.ended.reason == "nan" else self.ended.reason
        if self.closed:
            return "finished" if self._complete else "stopped"
        if not self.format:
            return "waiting"
        if self._process is not None and alerts.gone(*self._process):
            return "died"
        silence = 0.0 if self.last_time is None else now - self.last_time
        if silence <= alerts.SILENCE:
            return "running"
        if self.format != "tdiff":  # whose runs tell of their end
            if self._complete:
                return "finished"
            if silence > max(alerts.OVER, self._patience()):
                return "stopped"
        return "stalled" if silence > self._patience() else "running"

    @property
    def _complete(self) -> bool:
        """Whether it has come to its last step."""
        return self.progress == 1.0 or bool(self.total and self.step >= self.total)

    def check(self, now: float) -> list[Notice]:
        """The notices that are new since this was last asked, of any kind; a stall and a death are found only here."""
        state, last = self.state(now), self.last_time
        # A log without a number has no pace to fall behind.
        if (state == "died" or (state == "stalled" and self.metrics)) and state not in self._warned:
            self._warned.add(state)
            if state == "died" and self._process is not None:
                self._notice("died", last, self.step, f"its process {self._process[0]} is gone, without an end")
            elif last is not None:
                usual = f", usually one in {duration(self.gap)}" if self.gap >= 1 else ""
                patience = self._patience()
                self._notice("stall", last + patience, self.step, f"no record for {duration(patience)}{usual}")
        if self.failure != self._told_failure:
            self._change(lambda notice: None if notice.what == "failed" else notice)
            self._told_failure = self.failure
            if self.failure:
                self._notice("failed", last, self.step, self.failure)
        new, self._new = self._new, []
        return new

    def when(self, step: float) -> float | None:
        """Seconds since the epoch at which it came to `step`; None where that is not known."""
        times = self.clock.mean
        if self._epoch is None or not times:
            return None
        when = self._epoch + times[min(self.clock.index(step), len(times) - 1)]
        return when if 0 <= when < events.LATEST else None

    def away(self, since: float) -> list[str]:
        """What happened after `since`, seconds since the epoch, in up to four short lines."""
        timed = self._epoch is not None or self._arrivals
        begun = timed and self.last_time is not None and self.last_time > since
        return summary.told(self, since, self._step_at(since)) if begun else []

    def _step_at(self, time: float) -> float:
        """The newest step that the clock knows of at `time`, seconds since the epoch; 0 before the first."""
        if self._epoch is None:
            return next((step for arrived, step in reversed(self._arrivals) if arrived <= time), 0)
        at = bisect_right(self.clock.mean, time - self._epoch)
        return self.clock.steps[at - 1] if at else 0.0

    # What the parsers tell

    def points(
        self,
        steps: Sequence[float],
        values: Mapping[str, Sequence[float]],
        times: Sequence[float] | None = None,
        tokens: Sequence[float] | None = None,
    ) -> None:
        """Values of some metrics at steps that do not fall; where they begin before the newest, it was started again.

        Times are seconds since the epoch. Any number may be not finite, but for the steps.
        """
        if any(steps[0] < self._at.get(name, -math.inf) for name in values):
            self._drop_after(math.nextafter(steps[0], -math.inf))
            self.write(f"-- started again before step {steps[0]:,.0f}; what it said of later steps is forgotten")
        for name, column in values.items():
            self.add(name, steps, column)
        days: Sequence[float] | None = None
        if times is not None:
            days = [time if 0 <= time < events.LATEST else math.nan for time in times]
            self._timed, self._epoch = True, 0.0
            self._times.extend(days[-_GAPS:])
            self._seen(days[-1])
            self._add(self.clock, _CLOCK, steps, days)
        elif self._elapsed is not None:
            self._add(self.clock, _CLOCK, steps, [self._elapsed] * len(steps))
        if tokens is not None:
            self._add(self.tokens, _TOKENS, steps, tokens)
        known = [self.last_time if self._timed else None] * len(steps) if days is None else _known(days)
        self._tell(*self._losses.judge(steps, values, known))
        self.step = int(steps[-1])
        self._ending.survived()
        if "train/loss" in values:
            self.ended = None

    def add(self, name: str, steps: Sequence[float], values: Sequence[float]) -> None:
        """Values of one metric, of no consequence for anything else."""
        series = self.metrics.get(name)
        if series is None:
            if len(self.metrics) >= MOST_METRICS:
                return
            cap = _MASK_CAP if name.startswith("mask/") else _CAP if len(self.metrics) < 64 else _SMALL_CAP
            series = self.metrics[name] = Series(_CAPS.get(name, cap))
        self._add(series, name, steps, values)

    def record(self, event: Event) -> None:
        """Any record of a run of tdiff, but for those of training."""
        step = 0 if isinstance(event, Start) else event.step
        if not 0 <= step < FARTHEST:
            return
        if not (isinstance(event.time, (int, float)) and 0 <= event.time < events.LATEST):
            event = replace(event, time=self.last_time or 0.0)
        if isinstance(event, (Start, Resume)):
            self._process, self.ended = (event.pid, event.host), None
        if isinstance(event, Resume):
            self._drop_after(event.step)
            self.step = event.step
            if event.steps or event.minutes:  # it may have been given another end
                self.total = event.steps or None
        self._timed, self._epoch = True, 0.0
        self._seen(event.time)
        self._take(event)
        self.step = max(self.step, step)
        if line := events.line_of(event):
            self.write(line)

    def advance(self, step: int, total: int, left: float | None, elapsed: float) -> None:
        """How far it is, as a bar shows it; `left` and `elapsed` in seconds."""
        if step > self.step:
            self._ending.moved()
        if step != self.step:
            self.elapse(elapsed)
        self._pace = elapsed / step if step else 0.0
        self.step, self.total, self._elapsed = step, total, elapsed
        self.progress = min(1.0, step / total) if total else None
        self.expect(left)

    def elapse(self, seconds: float) -> None:
        """Its own clock: seconds since its start, as of a record or a bar."""
        if math.isfinite(seconds):
            self._own.append(seconds)

    def expect(self, seconds: float | None) -> None:
        """The time to go."""
        self._eta = max(0.0, seconds) if seconds is not None and math.isfinite(seconds) else None

    def finish(self) -> None:
        """It said that it is done."""
        self._ending.survived()
        self._end(End(time=self.last_time or 0.0, step=self.step, reason="finished"), self.last_time)

    def traced(self, line: TraceLine) -> None:
        """A line of a trace."""
        self.trace.append(line)
        self.traced_lines += 1
        self._trace_size += _size(line)
        while self._trace_size > MOST_TRACE and len(self.trace) > 1:
            self._trace_size -= _size(self.trace.popleft())
        match line:
            case TraceHeader():
                self.step, self.total, self.progress, self.ended = 0, line.steps or None, 0.0, None
            case TraceStep():
                self.step = line.index
                self.progress = min(1.0, max(0.0, 1 - line.t)) if isinstance(line.t, (int, float)) else None
            case TraceEnd():
                self.progress = 1.0
                self.ended = End(time=self.last_time or 0.0, step=self.step, reason="finished")
            case _:
                assert_never(line)

    def write(self, text: str) -> None:
        """A line of the log, raw."""
        self._unwritten.append(visible_line(text if len(text) <= LOG_WIDTH else f"{text[:LOG_WIDTH]} …"))
        self.logged += 1

    def remark(self, text: str) -> None:
        """A line of a program's output that is no record: it is for the log, and may tell of the program's end."""
        self._ending.take(text)
        self.write(text)

    def write_trains(self, told: Iterable[tuple[Any, ...]], count: int) -> None:
        """Lines of the log for train records, `count` of them, written out only where somebody looks."""
        self._unwritten.extend(told)
        self.logged += count

    # What follows from it

    def _take(self, event: Event) -> None:
        match event:
            case Start():
                self.start, self.total = event, event.steps or None
            case Eval():
                self.evaluation = event
                held = {"eval/loss": event.nats_per_token, "eval/nats_per_char": event.nats_per_char}
                self.points([event.step], {name: (number_or_nan(value),) for name, value in held.items()})
            case Verdicts():
                self.verdicts = event
                measured = {"eval/accuracy": event.accuracy, "eval/calibration_error": event.ece}
                self.points([event.step], {name: (number_or_nan(value),) for name, value in measured.items()})
            case Sample():
                short = {name: getattr(event, name)[:_SAMPLE_LENGTH] for name in ("prompt", "text", "path")}
                self.samples.append(replace(event, **short))
                if len(self.samples) > MOST_SAMPLES:
                    del self.samples[1:-1:2]  # thinned, so that the whole run is still there
            case Checkpoint():
                self.checkpoint = event
            case Heartbeat():
                self.doing = visible_line(event.doing[:100])
            case Alert():
                if event.what == "nan" and self._losses.broken and self.alerts and self.alerts[-1].what == "nan":
                    found = self.alerts[-1]
                    self._change(lambda notice: None if notice is found else notice)  # the run says it better
                text = visible_line(event.text[:LOG_WIDTH])
                if event.what == "nan":
                    self._notice("nan", event.time, event.step, text)
                else:
                    self._notice("alert", event.time, event.step, f"{visible_line(event.what[:100])}: {text}")
            case End():
                self._end(event, event.time)
            case Resume():
                pass  # what it takes back was dropped before
            case Train():
                raise ValueError("train records come by `points`, many at once")
            case _:
                assert_never(event)

    def _end(self, end: End, time: float | None) -> None:
        self.ended, self.doing = end, ""
        said = {"finished": "finished", "stopped": "stopped", "nan": "failed: the loss is not finite"}[end.reason]
        self._notice("ended", time, end.step, said)

    def _add(self, series: Series, name: str, steps: Sequence[float], values: Sequence[float]) -> None:
        if not steps or steps[0] < self._at.get(name, -math.inf):
            return
        if len(steps) == 1:
            series.append(steps[0], values[0])
        else:
            series.extend(steps, values)
        self._at[name] = steps[-1]

    def _notice(self, what: What, time: float | None, step: int, text: str) -> None:
        self._tell(Notice(time=time, step=step, what=what, text=text))

    def _tell(self, *notices: Notice) -> None:
        for kept in (self.alerts, self._new):
            kept.extend(notices)
            del kept[:-MOST_NOTICES]

    def _change(self, change: Callable[[Notice], Notice | None]) -> None:
        """Put others in the place of notices, or none."""
        self.alerts = [new for notice in self.alerts if (new := change(notice)) is not None]
        self._new = [new for notice in self._new if (new := change(notice)) is not None]

    def _drop_after(self, step: float) -> None:
        for series in (*self.metrics.values(), self.clock, self.tokens):
            series.drop_after(step)
        self._at = {name: min(at, step) for name, at in self._at.items()}
        self.samples = [sample for sample in self.samples if sample.step <= step]
        self._change(lambda notice: notice if notice.step <= step else None)
        for name in ("checkpoint", "evaluation", "verdicts", "ended"):
            if (event := getattr(self, name)) is not None and event.step > step:
                setattr(self, name, None)
        self._losses = Losses()

    def _seen(self, time: float) -> None:
        if not math.isnan(time):
            self.last_time = time
        self.doing = ""
        self._warned.clear()

    def _patience(self) -> float:
        gap = self.gap
        if self.format == "tdiff":
            return alerts.patience(gap, bool(self.doing))
        if not gap:
            return alerts.BUSY
        longest = max(alerts.long_gap(clock) for clock in (self._times, self._own))
        return max(alerts.patience(gap, bool(self.doing)), alerts.SLOW * longest)


def _size(line: TraceLine) -> int:
    """About the characters that a line of a trace takes."""
    match line:
        case TraceHeader():
            return 64 + len(line.prompt) + 32 * len(line.given)
        case TraceStep():
            return 64 + sum(16 + len(str(cell[1:2])) for cell in line.cells if isinstance(cell, (list, tuple)))
        case TraceEnd():
            return 64 + len(line.text)
        case _:
            assert_never(line)


def number_or_nan(value: float | None) -> float:
    """A number of a record, in which null was not finite."""
    return math.nan if value is None else value


def _known(times: Sequence[float]) -> list[float | None]:
    return [None if math.isnan(time) else time for time in times]
