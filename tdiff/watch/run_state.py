"""The state of one watched run, log, table or trace, built up from what its parser reports.

This module knows no files, no formats and no screen, and of processes only the run's own id. All texts in it are safe
to print.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, assert_never

from tdiff.formatting import duration
from tdiff.protocol.events import Alert, Checkpoint, End, Eval, Event, Heartbeat, Resume, Sample, Start, Train, Verdicts
from tdiff.protocol.trace import TraceEnd, TraceHeader, TraceLine, TraceStep
from tdiff.series.series import Series
from tdiff.visible import visible_line
from tdiff.watch import lifecycle
from tdiff.watch.alerts import MAX_KIND, Losses, Notice
from tdiff.watch.attempts import Attempt, Attempts, Former
from tdiff.watch.curves import Curves
from tdiff.watch.formats.base import MAX_STEP, MAX_TIME
from tdiff.watch.formats.endings import Ending
from tdiff.watch.lifecycle import State
from tdiff.watch.log import MAX_WIDTH, Log, event_line
from tdiff.watch.notices import Notices
from tdiff.watch.timing import Timing
from tdiff.watch.trace_buffer import TraceBuffer

if TYPE_CHECKING:  # few logs are those of a job
    from tdiff.watch.jobs.job import Job
    from tdiff.watch.jobs.notices import JobNotices
    from tdiff.watch.sight import Sight

MAX_SAMPLES = 4_096
"""Samples that are stored; of more, every second one is dropped."""
_END_WORDS = {"finished": "finished", "stopped": "stopped", "nan": "failed: the loss is not finite"}
_SAMPLE_LENGTH, _REASON_LENGTH, _DOING_LENGTH = 20_000, 300, 100
"""Characters that are stored."""


class RunState:
    """What is known of one run, log, table or trace; a parser fills it (see `formats.base.Sink`). Not thread-safe."""

    def __init__(self, name: str = "") -> None:
        """Create the state of a run of which nothing is known yet."""
        self.name = visible_line(name)
        self.resets = 0
        """How often its source was replaced or truncated."""
        self.source = ""
        """Which file is read, where the user named something else, and what else there is: one sentence."""
        self.job: Job | None = None
        """The scheduler's job that writes it."""
        self.held_back = 0.0
        """Seconds for which the program may hold back what it writes."""
        self.absence = ""
        """Why there is nothing to read so far, on one line; "" if there is, or if its job says why."""
        self.sight: Sight | None = None
        """What is seen of its process; None where only its log names one."""
        self.seen_until: float | None = None
        """Until when its log is known (s since the epoch), while it cannot be read; None while it can."""
        self._forget()

    def _forget(self) -> None:
        self.closed = False
        """Whether nothing can come any more: its pipe has ended."""
        self.format = ""
        """A name of `formats.detect.ORDER`, pattern, or log; "" while unknown."""
        self.note = ""
        """What the reader of its lines did not find, on one line; "" where it found a loss."""
        self._curves = Curves()
        self.attempts = Attempts()
        """What restarts discarded."""
        self._former: Former | None = None  # what the file held before, until it is known whether that is an attempt
        self.metrics: dict[str, Series] = self._curves.metrics
        """By name: train/loss and eval/loss (nats per token in tdiff's runs), gpu/load (%), mask/0.05 to mask/0.95."""
        self.clock: Series = self._curves.clock
        """Step -> seconds since the epoch, or since the start if the source reports only those."""
        self.tokens: Series = self._curves.tokens
        """Step -> tokens seen."""
        self.timing = Timing(self.clock)
        self.start: Start | None = None
        self.ended: End | None = None
        """Its time is 0 if unknown."""
        self.ending = Ending()
        """Signs in the log that the program died."""
        self.process: tuple[int, str] | None = None
        """The process id and the host of a tdiff run."""
        self.checkpoint: Checkpoint | None = None
        self.evaluation: Eval | None = None
        """The newest evaluation of a tdiff run."""
        self.verdicts: Verdicts | None = None
        """The newest measurement of how well the model classifies."""
        self.step = 0
        self.total: int | None = None
        self.progress: float | None = None
        """The share of the work done, 0..1."""
        self.samples: list[Sample] = []
        self._trace = TraceBuffer()
        self.trace: deque[TraceLine] = self._trace.lines
        """The newest lines of a trace."""
        self._notices = Notices()
        self.alerts: list[Notice] = self._notices.stored
        self.doing = ""
        """The long operation without records that the run announced, in its own words."""
        self._log = Log()
        self._eta: float | None = None
        self._losses = Losses()
        self._noticed_failure = ""  # the failure that has a notice
        self._job_notices: JobNotices | None = None
        self._warned: set[str] = set()  # of stall and death, those that have a notice since the newest record

    # What the reader of its lines reports

    def arrive(self, time: float) -> None:
        """The newest lines came, or were written, at `time` (s since the epoch). Ignored if records have dates."""
        if self.timing.dated or self.format == "tdiff":
            return
        self._seen(time)
        self.timing.arrive(time, self.step)
        by_step = self.timing.since_start is not None
        self._notices.change(
            lambda n: n if n.time is not None else replace(n, time=self.timing.time_of(n.step) if by_step else time)
        )
        if self.ended is not None and not self.ended.time:
            self.ended = replace(self.ended, time=time)

    def reset(self, *, rewritten: bool = False) -> None:
        """Forget everything but the name.

        With `rewritten` (the file was replaced or truncated) its curves are an earlier attempt, unless the new file
        begins with the same record.
        """
        former = self._former
        if "train/loss" in self.metrics:
            former = Former(self._curves, self.attempts, self.last_time, self._why_ended)
        self._forget()
        self._former = former if rewritten else None
        self.resets += 1

    # What a viewer asks

    @property
    def last_time(self) -> float | None:
        """The time of the newest record, seconds since the epoch; its arrival if records have no dates."""
        return self.timing.newest

    @property
    def eta(self) -> float | None:
        """Seconds left, as of the newest record: those that it reports, else by its pace.

        None if unknown, or after the run has ended.
        """
        if self.ended is not None or self.failure:
            return None
        return self._eta if self._eta is not None or not self.total else self.timing.left(self.step, self.total)

    def left(self, now: float) -> float | None:
        """Seconds left at `now`: `eta`, less the time since then; None unless it runs."""
        eta = self.eta
        if eta is None or self.state(now) != "running":
            return None
        return max(0.0, eta - max(0.0, now - (self.last_time or now)))

    @property
    def complete(self) -> bool:
        """Whether it has reached its last step."""
        return self.progress == 1.0 or bool(self.total and self.step >= self.total)

    @property
    def failure(self) -> str:
        """Why it died, by the end of its log or else by its job, on one line; "" if neither gives a reason."""
        reason = self.ending.reason or (self.job.failure if self.job is not None and self.ended is None else "")
        return visible_line(reason[:_REASON_LENGTH])

    @property
    def log(self) -> deque[str]:
        """The newest 5,000 lines."""
        return self._log.lines

    @property
    def logged(self) -> int:
        """Lines of the log so far, including those that are no longer stored."""
        return self._log.count

    @property
    def traced_lines(self) -> int:
        """Lines of the trace so far, including those that are no longer stored."""
        return self._trace.count

    def state(self, now: float) -> State:
        """The state at `now`, seconds since the epoch."""
        return lifecycle.state_at(self, now)

    def check(self, now: float) -> list[Notice]:
        """The notices since the last call, of any kind. A stall and a death are only noticed here."""
        (state, why), last = lifecycle.judged(self, now), self.last_time
        # A log without a number has no pace to fall behind.
        if (state in ("died", "lost") or (state == "stalled" and self.metrics)) and state not in self._warned:
            self._warned.add(state)
            if state == "died":
                self._notice("died", last, self.step, f"{why}, without an end")
            elif state == "lost":
                self._notice("stall", last, self.step, f"lost: {why}")
            elif last is not None:
                gap, patience = self.timing.gap, lifecycle.patience(self)
                usual = f", usually one in {duration(gap)}" if gap >= 1 else ""
                self._notice("stall", last + patience, self.step, f"no record for {duration(patience)}{usual}")
        if self.failure != self._noticed_failure:
            self._notices.change(lambda notice: None if notice.what == "failed" else notice)
            self._noticed_failure = self.failure
            if self.failure:
                self._notice("failed", last, self.step, self.failure)
        if self.job is not None:
            if self._job_notices is None:
                from tdiff.watch.jobs.notices import JobNotices

                self._job_notices = JobNotices()
            for what, text in self._job_notices.examine(self.job, self.left(now), self.ended is not None, now):
                self._notice(what, now, self.step, text)
        return self._notices.take_new()

    def add_alert(self, kind: str, text: str, *, time: float | None = None) -> None:
        """Add an alert of any kind, a word such as `limit`, at the newest step; nothing if the same is in the list.

        `time`: seconds since the epoch; None for that of the newest record.
        """
        kind, text = visible_line(kind[:MAX_KIND]), visible_line(text[:MAX_WIDTH])
        if not any((notice.what, notice.text) == (kind, text) for notice in self.alerts):
            self._notice(kind, self.last_time if time is None else time, self.step, text)

    # What a parser reports: see `formats.base.Sink`

    def points(
        self,
        steps: Sequence[float],
        values: Mapping[str, Sequence[float]],
        times: Sequence[float] | None = None,
        tokens: Sequence[float] | None = None,
        since: Sequence[float] | None = None,
        *,
        training: bool = True,
    ) -> None:
        """Values of some metrics at ascending steps; training below its newest step means a restart."""
        earlier = self._curves.is_restart(steps[0], values)
        # What only judges an earlier step, such as a late evaluation, is no restart of the training.
        if training and earlier and ("train/loss" in values or "train/loss" not in self.metrics):
            earlier = False
            time = times[0] if times is not None and 0 <= times[0] < MAX_TIME else None
            if before := self._restart(math.nextafter(steps[0], -math.inf), int(steps[0]), time):
                self.write(f"-- started again at step {int(steps[0]):,}, after {before.reached}")
        if self._former is not None and "train/loss" in values:
            self._compare_with_former(steps[0], values["train/loss"][0])
        for name, column in values.items():
            self._curves.add(name, steps, column)
        notice_times: list[float | None]
        if times is not None:
            dates = [time if 0 <= time < MAX_TIME else math.nan for time in times]
            self.timing.add_dates(dates)
            self._seen(dates[-1])
            self._curves.add_times(steps, dates)
            notice_times = [None if math.isnan(date) else date for date in dates]
        else:
            if since is not None:
                self.timing.since_start = since[-1]
            if self.timing.since_start is not None:
                self._curves.add_times(steps, since or [self.timing.since_start] * len(steps))
            notice_times = [self.last_time if self.timing.dated else None] * len(steps)
        if tokens is not None:
            self._curves.add_tokens(steps, tokens)
        self._notices.add(*self._losses.examine(steps, values, notice_times, self.total))
        if training and not earlier:
            self.step = int(steps[-1])
            if self.total and self.progress is not None and self.progress < self.step / self.total:
                self.progress = min(1.0, self.step / self.total)  # records have passed the newest progress
        self.ending.survived()
        if "train/loss" in values:
            self.ended = None

    def extra_points(self, name: str, steps: Sequence[float], values: Sequence[float]) -> None:
        """Values of one metric that neither restarts anything nor raises a notice."""
        self._curves.add(name, steps, values)

    def step_of(self, name: str, value: float) -> int | None:
        """The step at which a rising metric first reached `value`; None while its newest value is not greater."""
        series = self.metrics.get(name)
        if series is None or series.last is None or not value < series.last[1]:
            return None
        return int(series.steps[min(bisect_left(series.mean, value), len(series.steps) - 1)])

    def rename(self, metric: str, name: str) -> None:
        """Call a metric by another name from now on, with the points that it has."""
        self._curves.rename(metric, name)

    def restart(self, step: float) -> None:
        """The run continues from `step`: everything later belongs to an earlier attempt."""
        self._restart(step, int(step), None)

    @property
    def _why_ended(self) -> str:
        return self.failure or (_END_WORDS[self.ended.reason] if self.ended else "")

    def _compare_with_former(self, step: float, loss: float) -> None:
        """The first training record of a file that was written anew: what the file held before may be an attempt."""
        former, self._former = self._former, None
        if former is None or former.begins_with(step, loss):
            return
        reached = former.curves.newest_step
        if (curves := former.curves.split_after(math.nextafter(step, -math.inf))) is not None:
            self.attempts = former.attempts
            attempt = self.attempts.add(curves, int(step), int(reached), former.time, former.reason)
            self._notice("restart", None, int(step), f"at step {int(step):,}, after {attempt.reached}")
            self.write(f"-- the file was written anew at step {int(step):,}, after {attempt.reached}")

    def _restart(self, step: float, at: int, time: float | None) -> Attempt | None:
        """Keep what is later than `step` as an attempt, and forget it otherwise. Returns the attempt, if there is one.

        The next attempt continues at step `at` and at `time`.
        """
        reached, why = self._curves.newest_step, self._why_ended
        curves = self._curves.split_after(step)
        self.samples = [sample for sample in self.samples if sample.step <= step]
        self._notices.drop_after(step)
        attempt = None
        trained = any(
            "loss" in name or len(series.steps) > 1 for name, series in (curves.metrics if curves else {}).items()
        )
        if curves is not None and trained:  # else it was a line of settings before the log
            attempt = self.attempts.add(curves, at, int(reached), self.last_time, why)
            self._notice("restart", time, at, f"at step {at:,}, after {attempt.reached}")
        for name in ("checkpoint", "evaluation", "verdicts", "ended"):
            if (event := getattr(self, name)) is not None and event.step > step:
                setattr(self, name, None)
        self._losses = Losses()
        return attempt

    def record(self, event: Event) -> None:
        """An event of a tdiff run, except `Train`, whose values come through `points`."""
        step = 0 if isinstance(event, Start) else event.step
        if not 0 <= step < MAX_STEP:
            return
        if not (isinstance(event.time, (int, float)) and 0 <= event.time < MAX_TIME):
            event = replace(event, time=self.last_time or 0.0)
        if isinstance(event, Resume):
            self._restart(event.step, event.step, event.time)
            self.step = event.step
            if event.steps or event.minutes:  # it was resumed with another end
                self.total = event.steps or None
        if isinstance(event, (Start, Resume)):
            self.process, self.ended = (event.pid, event.host), None
        self.timing.use_dates()
        self._seen(event.time)
        self._take(event)
        self.step = max(self.step, step)
        if line := event_line(event):
            self.write(line)

    def trace_line(self, line: TraceLine) -> None:
        """A line of a generation's trace."""
        self._trace.add(line)
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

    def advance(self, step: int, total: int, left: float | None, elapsed: float | None) -> None:
        """Progress: step, total, and the seconds left and elapsed, where they are known."""
        if step > self.step:
            self.ending.moved()
        if elapsed is not None:
            if step != self.step:
                self.timing.add_elapsed(elapsed)
            self.timing.advance(step, elapsed)
        self.step, self.total = step, total
        self.set_progress(step / total if total else None, left)

    def set_progress(self, share: float | None, left: float | None) -> None:
        """The share of the work done (0..1) and the seconds left, where they are known and finite."""
        self.progress = min(1.0, max(0.0, share)) if share is not None and math.isfinite(share) else None
        self._eta = max(0.0, left) if left is not None and math.isfinite(left) else None

    def elapsed(self, seconds: float) -> None:
        """Seconds since the start of the program, by its own clock, as of the next points."""
        self.timing.add_elapsed(seconds)

    def finish(self) -> None:
        """The program reported that it is done."""
        self.ending.survived()
        self._end(End(time=self.last_time or 0.0, step=self.step, reason="finished"), self.last_time)

    def write(self, text: str) -> None:
        """A raw line for the log."""
        self._log.write(text)

    def write_later(
        self, render: Callable[[tuple[Any, ...]], str], rows: Iterable[tuple[Any, ...]], count: int
    ) -> None:
        """`count` lines for the log, rendered from their rows only when the log is read."""
        self._log.write_later(render, rows, count)

    def output(self, text: str) -> None:
        """A raw line of program output: it goes to the log, and may say that the program died."""
        self.ending.take(text)
        self.write(text)

    # What follows from it

    def _take(self, event: Event) -> None:
        match event:
            case Start():
                self.start, self.total = event, event.steps or None
            case Eval():
                self.evaluation = event
                self._measured(event, {"eval/loss": event.nats_per_token, "eval/nats_per_char": event.nats_per_char})
            case Verdicts():
                self.verdicts = event
                self._measured(event, {"eval/accuracy": event.accuracy, "eval/calibration_error": event.ece})
            case Sample():
                shortened = {name: getattr(event, name)[:_SAMPLE_LENGTH] for name in ("prompt", "text", "path")}
                self.samples.append(replace(event, **shortened))
                if len(self.samples) > MAX_SAMPLES:
                    del self.samples[1:-1:2]  # the rest still covers the run from its beginning
            case Checkpoint():
                self.checkpoint = event
            case Heartbeat():
                self.doing = visible_line(event.doing[:_DOING_LENGTH])
            case Alert():
                text = visible_line(event.text[:MAX_WIDTH])
                if event.what == "nan":
                    if self._losses.broken and self.alerts and self.alerts[-1].what == "nan":
                        replaced = self.alerts[-1]  # the run's own words say more
                        self._notices.change(lambda notice: None if notice is replaced else notice)
                    self._notice("nan", event.time, event.step, text)
                else:
                    self._notice("alert", event.time, event.step, f"{visible_line(event.what[:100])}: {text}")
            case End():
                self._end(event, event.time)
            case Resume():
                pass  # `record` has dropped the later records
            case Train():
                raise ValueError("train records come through `points`, many at once")
            case _:
                assert_never(event)

    def _measured(self, event: Eval | Verdicts, values: Mapping[str, float | None]) -> None:
        """Points of an evaluation; null in a record means not finite."""
        self.points([event.step], {name: (math.nan if value is None else value,) for name, value in values.items()})

    def _end(self, end: End, time: float | None) -> None:
        self.ended, self.doing = end, ""
        self._notice("ended", time, end.step, _END_WORDS[end.reason])

    def _notice(self, what: str, time: float | None, step: int, text: str) -> None:
        self._notices.add(Notice(time=time, step=step, what=what, text=text))

    def _seen(self, time: float) -> None:
        self.timing.see(time)
        self.doing = ""
        self._warned.clear()
