"""Watched traces as recordings: a trace that grows is a generation of another process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from tdiff.protocol.trace import TraceHeader
from tdiff.watch.generation.recording import Recording
from tdiff.watch.run_state import RunState


@dataclass(slots=True)
class _Taken:
    """How far the trace of a run state has been read."""

    run: RunState
    resets: int
    lines: int = 0
    recording: Recording | None = None


class Traces:
    """The recordings of the watched traces."""

    def __init__(self) -> None:
        self._taken: dict[int, _Taken] = {}
        self.newest: Recording | None = None
        """The recording that started last."""

    def follow(self, runs: Sequence[RunState]) -> bool:
        """Read what is new; whether another recording has started."""
        before = self.newest
        # The first state of a big file is replaced by that of the complete file: the old one is dropped.
        self._taken = {id(run): self._of(run) for run in runs if run.format == "trace"}
        for taken in self._taken.values():
            self._follow(taken)
        return self.newest is not before

    def _of(self, run: RunState) -> _Taken:
        known = self._taken.get(id(run))
        return known if known is not None and known.resets == run.resets else _Taken(run, run.resets)

    def _follow(self, taken: _Taken) -> None:
        run = taken.run
        new = min(run.traced_lines - taken.lines, len(run.trace))
        for line in islice(run.trace, len(run.trace) - new, None):
            if isinstance(line, TraceHeader):
                self.newest = taken.recording = Recording(line)
            elif taken.recording is not None:
                taken.recording.take(line)
        taken.lines = run.traced_lines
