"""Alerts about the GPUs under a run: idle while it should compute, nearly out of memory, too hot."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tdiff.watch.devices.reading import GIB, Devices, Gpu, RunProcesses

IDLE_LOAD = 2.0
"""Percent; at most this load is idle."""
IDLE_SECONDS = 300.0
FULL, NOT_FULL = 0.97, 0.95
"""Shares of the memory at which it is nearly full, and below which it is not any more."""
HOT, NOT_HOT = 90.0, 85.0
"""Degrees Celsius."""
_SPACING = 30.0
"""Seconds between the readings of memory that are compared."""
_LONGEST_GAP = 120.0
"""Seconds between two readings after which nothing is known of the time between them."""


@dataclass(slots=True)
class _Seen:
    """What was seen of one GPU."""

    newest: float = 0.0
    idle_since: float | None = None
    busy_before: bool = False
    memory: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=3))
    hot: int = 0
    said: set[str] = field(default_factory=set)


class DeviceAlerts:
    """Examines the readings of one run's host."""

    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = {}

    def examine(self, devices: Devices, job: RunProcesses, now: float, *, awaited: bool) -> list[str]:
        """Examine a new reading at `now` (s). Returns the alerts, each on one line that is safe to print.

        `awaited`: the run has neither ended nor failed, so that its next record is awaited. Only the GPUs that its
        processes use are examined. If it is unknown which ones these are, as in some containers, then those that were
        busy while the run was awaited.
        """
        used = [gpu for gpu in devices.gpus if job.pids & {process.pid for process in gpu.processes}]
        texts: list[str] = []
        for gpu in used or devices.gpus:
            seen = self._seen.setdefault(gpu.index, _Seen())
            if now - seen.newest > _LONGEST_GAP:
                seen.idle_since = None
                seen.memory.clear()
            seen.newest = now
            if awaited and gpu.load is not None and gpu.load > 5 * IDLE_LOAD:
                seen.busy_before = True
            if used or seen.busy_before:
                texts += self._of(gpu, seen, now, awaited)
        return texts

    def _of(self, gpu: Gpu, seen: _Seen, now: float, awaited: bool) -> Iterator[str]:
        yield from _once(seen, "idle", self._idle(gpu, seen, now, awaited))
        yield from _once(seen, "memory", self._memory(gpu, seen, now))
        yield from _once(seen, "heat", self._heat(gpu, seen))

    def _idle(self, gpu: Gpu, seen: _Seen, now: float, awaited: bool) -> str | None:
        if gpu.load is None or gpu.load > IDLE_LOAD or not awaited:
            seen.idle_since = None
            return ""
        if seen.idle_since is None:
            seen.idle_since = now
        idle = now - seen.idle_since
        return f"GPU {gpu.index} idle {idle / 60:.0f} min while loss is awaited" if idle >= IDLE_SECONDS else None

    def _memory(self, gpu: Gpu, seen: _Seen, now: float) -> str | None:
        share = gpu.memory_share
        if share is None or gpu.memory is None or gpu.total is None:
            return None
        if not seen.memory or now - seen.memory[-1][0] >= _SPACING:
            seen.memory.append((now, gpu.memory))
        if share < NOT_FULL:
            return ""
        used = [memory for _, memory in seen.memory]
        # A program that reserves memory once stays at its share.
        rising = len(used) == 3 and used[0] < used[1] < used[2]
        if share < FULL or not rising:
            return None
        return f"GPU {gpu.index} memory {share:.0%} and rising: {gpu.memory / GIB:.1f} of {gpu.total / GIB:.1f} GiB"

    def _heat(self, gpu: Gpu, seen: _Seen) -> str | None:
        degrees = gpu.temperature
        hot = gpu.hot or (degrees is not None and degrees >= HOT)
        if not hot:
            seen.hot = 0
            return "" if degrees is None or degrees < NOT_HOT else None
        seen.hot += 1
        if seen.hot < 2:
            return None
        at = f" at {degrees:.0f} °C" if degrees is not None else ""
        return f"GPU {gpu.index} is slowed down by heat{at}" if gpu.hot else f"GPU {gpu.index} is hot:{at[3:]}"


def _once(seen: _Seen, kind: str, text: str | None) -> Iterator[str]:
    """The text when it first appears; None changes nothing, and "" allows it again."""
    if text == "":
        seen.said.discard(kind)
    elif text and kind not in seen.said:
        seen.said.add(kind)
        yield text


def job_at(jobs: Sequence[RunProcesses], index: int) -> RunProcesses:
    """The job of a watched file; an empty one if nothing is known."""
    return jobs[index] if index < len(jobs) else RunProcesses()
