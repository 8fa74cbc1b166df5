"""Whether a run waits, runs, is stalled, has ended or is lost: for a view of one run and for a table of many.

Its log says what it recorded; its process, where that is seen, decides between slow and dead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

from tdiff.formatting import age as age_text
from tdiff.protocol.events import End
from tdiff.watch import alerts
from tdiff.watch.formats.endings import Ending

if TYPE_CHECKING:
    from tdiff.watch.jobs.job import Job
    from tdiff.watch.sight import Sight
    from tdiff.watch.timing import Timing

State = Literal["waiting", "running", "stalled", "finished", "stopped", "failed", "died", "lost"]


class Vitals(Protocol):
    """What the state of a run depends on."""

    @property
    def format(self) -> str:
        """Its log format; "" while unknown."""

    @property
    def closed(self) -> bool:
        """Whether its source has ended."""

    @property
    def ended(self) -> End | None:
        """The end that it reported."""

    @property
    def complete(self) -> bool:
        """Whether it has reached its last step."""

    @property
    def doing(self) -> str:
        """The long operation that it announced; "" if none."""

    @property
    def process(self) -> tuple[int, str] | None:
        """The process id and the host that its log names."""

    @property
    def sight(self) -> Sight | None:
        """What is seen of its process; None where only its log names one."""

    @property
    def ending(self) -> Ending:
        """Signs in its log that the program died."""

    @property
    def job(self) -> Job | None:
        """The scheduler's job that writes the log."""

    @property
    def held_back(self) -> float:
        """Seconds for which the program may hold back what it writes."""

    @property
    def seen_until(self) -> float | None:
        """Until when its log is known (s since the epoch), while it cannot be read; None while it can."""

    @property
    def timing(self) -> Timing:
        """When its records came."""


def state_at(run: Vitals, now: float) -> State:
    """The state at `now`, seconds since the epoch."""
    return judged(run, now)[0]


def judged(run: Vitals, now: float) -> tuple[State, str]:
    """The state at `now` (s since the epoch), and why it is not at work, where its process or its silence says so."""
    kind, seen = _by_log(run, now), _seen(run, now)
    if kind not in ("running", "stalled", "waiting") or (run.job is not None and run.job.waits):
        return kind, ""
    sight = run.sight
    if sight is None:
        silence = 0.0 if run.timing.newest is None else seen - run.timing.newest
        if run.process is not None and run.format and alerts.gone(*run.process):
            return "died", f"its process {run.process[0]} is gone"
        if kind == "stalled" and silence > alerts.OVER:
            return "lost", f"no record for {age_text(silence)}"
    elif sight.presence == "gone":
        return "died", f"its process {sight.pid} is gone"
    elif sight.presence == "unknown" and sight.heartbeat is not None and seen - sight.heartbeat > _lost():
        return "lost", f"no heartbeat from {sight.host} for {age_text(seen - sight.heartbeat)}"
    return kind, ""


def _lost() -> float:
    from tdiff.runs.process import LOST  # a log whose process is not seen does without that module

    return LOST


def _seen(run: Vitals, now: float) -> float:
    """Until when it is known what happened: later records may exist."""
    return now if run.seen_until is None else min(now, run.seen_until)


def _by_log(run: Vitals, now: float) -> State:
    if run.job is not None and run.job.waits:  # perhaps again, after a failure
        return "waiting"
    if run.ending.reason:
        return "stopped" if run.ending.interrupted else "failed"
    if run.ended is not None:
        return "failed" if run.ended.reason == "nan" else run.ended.reason
    if run.job is not None and run.job.outcome:
        return run.job.outcome
    if run.closed:
        return "finished" if run.complete else "stopped"
    if not run.format:
        return "waiting"
    silence = 0.0 if run.timing.newest is None else _seen(run, now) - run.timing.newest
    if silence <= alerts.SILENCE + run.held_back:
        return "running"
    if run.format != "tdiff":  # a tdiff run records its end; other programs need not
        if run.complete:
            return "finished"
        # Without a pace nothing shows that there was to be more.
        limit = max(alerts.OVER, patience(run)) if run.timing.gap else patience(run)
        if silence > limit and not (run.job is not None and run.job.runs):
            return "stopped"
    return "stalled" if silence > patience(run) else "running"


def patience(run: Vitals) -> float:
    """Seconds of silence after which the run counts as stalled."""
    gap = run.timing.gap
    if run.format == "tdiff":
        return alerts.patience(gap, bool(run.doing))
    if not gap:
        return alerts.BUSY
    return run.held_back + max(alerts.patience(gap, bool(run.doing)), alerts.SLOW * run.timing.long_gap)
