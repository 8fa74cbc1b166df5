"""One of several texts that are generated at once, or a branch of one of them: as far as it is generated."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tdiff.protocol.trace import TraceEnd, TraceHeader, TraceLine, TraceStep
from tdiff.watch.generation.branches import Fork, Node
from tdiff.watch.generation.recording import Recording


@dataclass(frozen=True, slots=True)
class Entry:
    """One text to generate."""

    label: str
    """What distinguishes it from the others."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Fields of DecodeSettings over the model's own."""
    model: str | None = None
    """Another model than that of the view."""
    row: int = 0
    """With the seed, the key of the noise."""


class Lane:
    """One text, as far as it is generated."""

    def __init__(self, entry: Entry, letter: str) -> None:
        self.entry, self.letter = entry, letter
        self.recording: Recording | None = None
        self.refused = ""
        """Why there is no text; "" if there is one or will be."""
        self.parent: Lane | None = None
        """The text that it continues; None where it is no branch."""
        self._seconds: list[float] = []  # until after each step
        self._remasked: list[int] = []  # likewise: remasked positions
        self._node: Node | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return bool(self.refused) or (self.recording is not None and self.recording.ended is not None)

    def at(self, axis: str, point: float) -> int:
        """The last step that was made by this point of an axis."""
        if self.recording is None:
            return 0
        if axis == "seconds":
            return bisect_right(self._seconds, point)
        return bisect_right(range(1, self.recording.steps + 1), point, key=self.recording.calls)

    def reached(self, axis: str) -> float:
        """How far it is on an axis."""
        if self.recording is None:
            return 0.0
        if axis == "seconds":
            return self._seconds[-1] if self._seconds else 0.0
        return float(self.recording.calls(self.recording.steps))

    def seconds(self, step: int) -> float:
        """Seconds until after a step; for the last one, of the whole text."""
        if self.recording is not None and self.recording.ended is not None and step >= self.recording.steps:
            return self.recording.ended.seconds
        return self.seconds_until(step)

    def seconds_until(self, step: int) -> float:
        """Seconds until after a step, without what follows the last one."""
        return self._seconds[min(step, len(self._seconds)) - 1] if step > 0 and self._seconds else 0.0

    def remasked(self, step: int) -> int:
        """How many positions were remasked until after a step."""
        return self._remasked[min(step, len(self._remasked)) - 1] if step > 0 and self._remasked else 0

    @property
    def root(self) -> Lane:
        """The text of the race that it continues, or itself."""
        return self if self.parent is None else self.parent.root

    @property
    def node(self) -> Node | None:
        """It in the tree of its branches; None before it has started."""
        if self._node is None and self.recording is not None:
            self._node = Node(self.letter, self.recording)
        return self._node

    def take(self, line: TraceLine, seconds: float) -> None:
        """Take in a line of its trace."""
        if isinstance(line, TraceHeader):
            self.recording, self._node, self._seconds, self._remasked = Recording(line), None, [], []
        elif self.recording is not None:
            before = self.recording.steps
            self.recording.take(line)
            if isinstance(line, TraceStep) and self.recording.ended is None:
                self._count(line, before, seconds)

    def _count(self, line: TraceStep, before: int, seconds: float) -> None:
        """Count what the newest step has done; `before` is the number of steps before it."""
        assert self.recording is not None
        remasked = (self._remasked[-1] if self._remasked else 0) + sum(cell[4] == "remask" for cell in line.cells)
        if self.recording.steps == before and before:  # it was merged into the last step
            self._seconds.pop()
            self._remasked.pop()
        self._seconds.append(max(seconds, self._seconds[-1] if self._seconds else 0.0))
        self._remasked.append(remasked)


class BranchLane(Lane):
    """A text that continues another one from one of its steps, after a change.

    The time of its steps is known once it is complete: they are taken to be equally long.
    """

    def __init__(self, parent: Lane, fork: Fork) -> None:
        """`fork` is of the node of `parent`."""
        step = fork.parent.recording.index(fork.step)
        super().__init__(replace(parent.entry, label=f"branch of {parent.letter} at step {step}"), fork.name)
        self.parent: Lane = parent
        self.fork = fork

    @property
    def _leaves_at(self) -> float:
        """Seconds until it leaves its parent; those of a branch are known at its end."""
        return self.parent.seconds_until(self.fork.step)

    def reached(self, axis: str) -> float:
        """How far it is on an axis; before it has started, where it leaves its parent."""
        if self.recording is not None:
            return super().reached(axis)
        return self._leaves_at if axis == "seconds" else float(self.fork.parent.recording.calls(self.fork.step))

    def seconds(self, step: int) -> float:
        """Seconds until after a step, with those of the text that it continues."""
        return self.seconds_until(step)

    def take(self, line: TraceLine, seconds: float) -> None:
        """Take in a line of its own part of the trace."""
        if isinstance(line, TraceHeader):
            started = Node.continuing(self.fork.parent, self.fork.step, line, self.fork.name)
            self._node, self.recording = started, started.recording
            self._seconds = [self.parent.seconds_until(n + 1) for n in range(self.fork.step)]
            self._remasked = [self.parent.remasked(n + 1) for n in range(self.fork.step)]
            for n in range(self.fork.step, started.forked):
                self._count(started.recording.step_line(n + 1), n, self._leaves_at)
            return
        node, recording = self._node, self.recording
        if node is None or recording is None or recording.ended is not None:
            return
        before = recording.steps
        node.take(line)
        if isinstance(line, TraceStep):
            self._count(line, before, self._leaves_at)
        elif isinstance(line, TraceEnd) and (own := recording.steps - node.forked):
            each = line.seconds / own
            self._seconds[node.forked :] = [self._leaves_at + each * (n + 1) for n in range(own)]
