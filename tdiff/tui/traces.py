"""Watched traces as recordings: a trace that grows is a generation that somebody else is making."""

from __future__ import annotations

from tdiff.records import TraceHeader
from tdiff.watch.recording import Recording
from tdiff.watch.story import Story


class Traces:
    """The recordings of the traces among some stories, brought up to date when asked."""

    def __init__(self) -> None:
        self._taken: dict[str, tuple[Story, int, int]] = {}  # by name: the story, its resets, and lines taken in
        self.newest: Recording | None = None
        """The recording that began last."""

    def follow(self, stories: list[Story]) -> bool:
        """Take in what is new; whether another recording has begun."""
        before = self.newest
        for story in stories:
            if story.format == "trace":
                self._follow(story)
        return self.newest is not before

    def _follow(self, story: Story) -> None:
        known, resets, taken = self._taken.get(story.name, (story, story.resets, 0))
        if known is not story or resets != story.resets or taken > len(story.trace):
            taken = 0
        for line in story.trace[taken:]:
            if isinstance(line, TraceHeader):
                self.newest = Recording(line)
            elif self.newest is not None:
                self.newest.take(line)
        self._taken[story.name] = (story, story.resets, len(story.trace))
