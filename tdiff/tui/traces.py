"""Watched traces as recordings: a trace that grows is a generation that somebody else is making."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from tdiff.protocol.trace import TraceHeader
from tdiff.watch.generation.recording import Recording
from tdiff.watch.run_state import RunState


@dataclass(slots=True)
class _Taken:
    """How far a story's trace has been taken in."""

    story: RunState
    resets: int
    lines: int = 0
    recording: Recording | None = None


class Traces:
    """The recordings of the traces among some stories, brought up to date when asked."""

    def __init__(self) -> None:
        self._taken: dict[int, _Taken] = {}
        self.newest: Recording | None = None
        """The recording that began last."""

    def follow(self, stories: Sequence[RunState]) -> bool:
        """Take in what is new; whether another recording has begun."""
        before = self.newest
        # A big file's story gives way to that of the whole: the one that is gone is let go.
        self._taken = {id(story): self._of(story) for story in stories if story.format == "trace"}
        for taken in self._taken.values():
            self._follow(taken)
        return self.newest is not before

    def _of(self, story: RunState) -> _Taken:
        known = self._taken.get(id(story))
        return known if known is not None and known.resets == story.resets else _Taken(story, story.resets)

    def _follow(self, taken: _Taken) -> None:
        story = taken.story
        new = min(story.traced_lines - taken.lines, len(story.trace))
        for line in islice(story.trace, len(story.trace) - new, None):
            if isinstance(line, TraceHeader):
                self.newest = taken.recording = Recording(line)
            elif taken.recording is not None:
                taken.recording.take(line)
        taken.lines = story.traced_lines
