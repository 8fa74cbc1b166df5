"""Branches: texts that continue another one from one of its steps, after a change. Each is a complete trace.

The recording of a branch repeats the steps of its parent up to that step, then the change as a step of its own, and
then what the model generates from there.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tdiff.config.decoding import FIELDS
from tdiff.errors import TdiffError
from tdiff.protocol.canvas import MASKED
from tdiff.protocol.trace import Cell, TraceEnd, TraceHeader, TraceStep
from tdiff.visible import visible_line
from tdiff.watch.generation.insight import Insight
from tdiff.watch.generation.recording import Recording

if TYPE_CHECKING:
    from tdiff.protocol.messages import Branch


@dataclass(frozen=True, slots=True)
class Change:
    """What the user changes before a text goes on."""

    remask: frozenset[int] = frozenset()
    """Positions to mask."""
    at: int = 0
    """Where `text` begins."""
    room: int = 0
    """The positions that `text` has; 0: there is no text."""
    text: str = ""
    force: tuple[int, int] | None = None
    """A position, and the id of the token to write there."""
    step: int | None = None
    """The step to continue from; None: the one that is shown."""


def branch_request(insight: Insight, step: int, change: Change) -> Branch:
    """The request, with id 0, that continues a recording after one of its steps and a change.

    Raises TdiffError for a text with classifier-free guidance, which a branch would lose.
    """
    recording = insight.recording
    header = recording.header
    if "guidance" in header.settings:
        name = visible_line(str(header.settings.get("class", "")))
        raise TdiffError(f"this text was generated for the class {name}; a branch cannot continue it with guidance")
    tokens = insight.tokens(step)
    for position in change.remask:
        tokens[position] = None
    given = [position for position, _, _ in header.given]
    if change.force is not None:
        position, token = change.force
        tokens[position] = token
        given = sorted({*given, position})
    settings = {name: value for name, value in header.settings.items() if name in _SETTINGS}
    from tdiff.protocol.messages import Branch

    return Branch(
        id=0,
        tokens=[-1 if token is None else token for token in tokens],
        frozen=[position for position in given if tokens[position] is not None],
        prompt=header.prompt,
        at=change.at,
        room=change.room,
        text=change.text,
        steps=recording.index(step),
        seed=header.seed,
        row=header.row,
        settings=settings,
    )


_SETTINGS = frozenset({"preset", *(field.name for field in FIELDS)})
"""What a branch takes of the `settings` of a header, which hold more than the fields of DecodeSettings."""


class Node:
    """A text in the tree of branches."""

    def __init__(self, name: str, recording: Recording, parent: Node | None = None, step: int = 0) -> None:
        """`recording` continues that of `parent` after `step`; without a parent it is the root."""
        self.name, self.recording, self.parent, self.step = name, recording, parent, step
        self.children: list[Node] = []
        self._offset = self._calls = 0

    @classmethod
    def continuing(cls, parent: Node, step: int, header: TraceHeader, name: str) -> Node:
        """A branch of `parent` after `step`, whose changed canvas is what the `header` of the model gives."""
        before = parent.recording
        now = {position: (text, token) for position, text, token in header.given}
        # A changed position of the prompt belongs to the prompt of the branch; one that was masked does not.
        given = [(n, *now[n]) for n, _, _ in before.header.given if n in now]
        # A branch has no ending: it fills the canvas.
        settings = {name: value for name, value in before.header.settings.items() if name != "until"}
        first = dataclasses.replace(before.header, given=given, settings=settings)
        recording = Recording(first)
        for n in range(1, step + 1):
            recording.take(before.step_line(n))
        node = cls(name, recording, parent, step)
        canvas = before.canvas(step)
        cells: list[Cell] = []
        old = Insight(before)
        old.update()
        tokens = old.tokens(step)
        prompt = {n for n, _, _ in given}
        for n in range(before.header.cells):
            if n in prompt:
                continue
            if n not in now and canvas.confidence[n] != MASKED:
                cells.append((n, "", tokens[n] or 0, 0.0, "remask"))
            elif n in now and tokens[n] != now[n][1]:
                cells.append((n, now[n][0], now[n][1], 1.0, "commit"))
        node._offset, node._calls = before.index(step), canvas.calls
        if cells:
            recording.take(TraceStep(index=node._offset, t=0.0, calls=node._calls, cells=cells))
        parent.children.append(node)
        return node

    @property
    def root(self) -> Node:
        """The text that the tree begins with."""
        return self if self.parent is None else self.parent.root

    @property
    def forked(self) -> int:
        """Steps of the recording before the model went on: those of the parent, and the change."""
        return self.step + (self.parent is not None and self.recording.by_user(self.step + 1))

    def take(self, line: TraceStep | TraceEnd) -> None:
        """Read the next line of the model."""
        if isinstance(line, TraceStep):
            line = dataclasses.replace(line, index=line.index + self._offset, calls=line.calls + self._calls)
        else:
            line = dataclasses.replace(line, model_calls=line.model_calls + self._calls)
        self.recording.take(line)


@dataclass(frozen=True, slots=True)
class Fork:
    """A branch to generate."""

    parent: Node
    step: int
    """Steps of the parent that it repeats."""
    name: str
    request: Branch


def first_difference(one: Sequence[str], other: Sequence[str]) -> int | None:
    """The first position at which the texts of two canvases differ where both are unmasked; None if there is none."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((n for n, (a, b) in pairs if a and b and a != b), None)


def tree(root: Node) -> list[Node]:
    """The root and all branches, each after its parent."""
    nodes = [root]
    for child in root.children:
        nodes += tree(child)
    return nodes


def next_name(taken: Collection[str]) -> str:
    """The first free one of A, B, ... Z, A1, B1, ..."""
    letters = (chr(ord("A") + n % 26) + (str(n // 26) if n >= 26 else "") for n in itertools.count())
    return next(name for name in letters if name not in taken)
