"""A job of Slurm: whether it waits, runs or has ended, where, and how much of its time limit is left."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tdiff.formatting import duration
from tdiff.visible import visible_line

UNKNOWN = "UNKNOWN"
"""The state of a job that the scheduler no longer knows."""
_WAITING = frozenset(
    ["PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "RESV_DEL_HOLD", "SPECIAL_EXIT"]
)
_RUNNING = frozenset(["RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING"])
_ENDS = {
    "BOOT_FAIL": "failed: a node could not be booted",
    "CANCELLED": "was cancelled",
    "DEADLINE": "was ended at its deadline",
    "NODE_FAIL": "failed with its node",
    "OUT_OF_MEMORY": "ran out of memory",
    "PREEMPTED": "was preempted",
    "REVOKED": "was revoked",
    "FAILED": "failed",
    "LAUNCH_FAILED": "could not be launched",
}
_MAX_NODES = 10_000
"""Nodes of a range; of longer ones none is known."""
_SOON = 43_200.0
"""Seconds within which a time of day is unambiguous."""
_MARGIN, _SHARE = 60.0, 0.05
"""Seconds, and share of the time left, by which the end of the run must be later than the limit before that is
reported: both are estimates."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What the scheduler reports about a job. Texts are safe to print."""

    id: str
    name: str = ""
    state: str = UNKNOWN
    """In Slurm's own words: PENDING, RUNNING, TIMEOUT and so on."""
    reason: str = ""
    """Why it waits or has failed, in Slurm's own words; "" if it does not say."""
    nodes: str = ""
    starts: float | None = None
    """When a waiting job is expected to start, seconds since the epoch."""
    deadline: float | None = None
    """When a running job reaches its time limit, seconds since the epoch; None without a limit."""
    limit: float | None = None
    """Its time limit (s); None without a limit."""
    exit_code: str = ""
    """`code:signal`, such as 1:0."""
    output: Path | None = None
    """The file to which it writes; None if it has none."""
    others: tuple[str, ...] = ()
    """Ids of further jobs to which the request also applies, such as the other tasks of an array."""

    @property
    def waits(self) -> bool:
        """Whether it has not started yet."""
        return self.state in _WAITING

    @property
    def runs(self) -> bool:
        """Whether it has started, and has not ended."""
        return self.state in _RUNNING

    @property
    def over(self) -> bool:
        """Whether the scheduler reported its end."""
        return not (self.waits or self.runs or self.state == UNKNOWN)

    @property
    def outcome(self) -> Literal["", "finished", "failed"]:
        """How it ended; "" if it has not, or if that is unknown."""
        if not self.over:
            return ""
        return "finished" if self.state == "COMPLETED" else "failed"

    @property
    def failure(self) -> str:
        """Why it failed, in one sentence; "" if it has not."""
        if self.outcome != "failed":
            return ""
        if self.state == "TIMEOUT":
            why = f"reached its time limit{f' of {duration(self.limit)}' if self.limit else ''}"
        else:
            why = _ENDS.get(self.state, f"ended as {self.state}")
        code, _, signal = self.exit_code.partition(":")
        if self.state == "FAILED":
            why += f" with exit code {code}" if code not in ("", "0") else f" by signal {signal}" if signal else ""
        if self.reason and self.reason not in ("None", self.state, "NonZeroExitCode", "TimeLimit"):
            why += f" ({self.reason})"
        return f"Slurm job {self.id} {why}"

    def on(self, host: str) -> bool:
        """Whether it runs on this host, by the name that the host gives itself; True where its nodes are unknown."""
        return not self.nodes or not host or host.partition(".")[0] in node_names(self.nodes)

    def left(self, now: float) -> float | None:
        """Seconds until its time limit at `now`; None unless it runs and has a limit."""
        return max(0.0, self.deadline - now) if self.runs and self.deadline is not None else None

    def limit_line(self, now: float) -> str:
        """The time left against the limit, in a few words; "" unless it runs and has a limit."""
        left = self.left(now)
        return "" if left is None else f"limit {duration(left)}"

    def line(self, now: float) -> str:
        """Its state, in a few words: `job 7 runs on gpu01, 42 min until its limit`."""
        head = f"job {self.id}"
        if self.waits:
            reason = f" ({self.reason})" if self.reason not in ("", "None") else ""
            return f"{head} is {self.state.lower()}{reason}{self._start(now)}"
        if self.runs:
            verb = "runs" if self.state == "RUNNING" else f"is {self.state.lower()}"
            left = self.left(now)
            until = "" if left is None else f", {duration(left)} until its limit" if left else ", at its time limit"
            return f"{head} {verb}{f' on {self.nodes}' if self.nodes else ''}{until}"
        if self.state == UNKNOWN:
            return f"{head} is no longer known to Slurm"
        return f"{head} {'is complete' if self.outcome == 'finished' else 'has failed'}: {self.state}"

    def _start(self, now: float) -> str:
        """When a waiting job is expected to start; "" if that is unknown."""
        if self.starts is None or self.starts <= now:
            return ""
        if self.starts > now + _SOON:
            return f", starts in about {duration(self.starts - now)}"
        return f", starts about {time.strftime('%H:%M', time.localtime(self.starts))}"

    def shortfall(self, eta: float | None, now: float) -> str:
        """If the time limit comes before the end of the run, `eta` seconds from now: a sentence; otherwise ""."""
        left = self.left(now)
        if left is None or eta is None or eta <= left * (1 + _SHARE) + _MARGIN:
            return ""
        return f"time limit in {duration(left)}, before the ETA of {duration(eta)}"


def seconds(text: str) -> float | None:
    """A duration as Slurm writes it, `[days-]hours:minutes:seconds`, in seconds; None for UNLIMITED and the like."""
    days, dash, rest = text.strip().rpartition("-")
    parts = rest.split(":")
    if (dash and not days.isdecimal()) or not 1 <= len(parts) <= 3 or not all(part.isdecimal() for part in parts):
        return None
    numbers = [int(part) for part in parts]
    if dash:  # days-hours[:minutes[:seconds]]
        hours, minutes, secs = (*numbers, 0, 0)[:3]
    elif len(numbers) == 1:  # minutes
        hours, minutes, secs = 0, numbers[0], 0
    else:
        hours, minutes, secs = (0, *numbers)[-3:]
    return int(days or 0) * 86_400.0 + hours * 3600 + minutes * 60 + secs


def node_names(nodes: str) -> set[str]:
    """The short names of a list of nodes as Slurm writes it, such as gpu[01-03,7],login."""
    names: set[str] = set()
    for item in re.findall(r"(?:[^,\[]|\[[^\]]*\])+", nodes[:10_000]):
        head, bracket, rest = item.partition("[")
        numbers, _, tail = rest.partition("]")
        if not bracket:
            names.add(item.partition(".")[0])
            continue
        for part in numbers.split(","):
            first, _, last = part.partition("-")
            last = last or first
            if first.isdecimal() and last.isdecimal() and int(last) - int(first) < _MAX_NODES:
                names |= {f"{head}{n:0{len(first)}d}{tail}".partition(".")[0] for n in range(int(first), int(last) + 1)}
    return names


def safe(text: str) -> str:
    """A text of the scheduler, or "" where it says that there is none."""
    return "" if text in ("(null)", "N/A", "None assigned") else visible_line(text[:200])
