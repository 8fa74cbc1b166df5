"""One generation as its trace tells it, kept so that one can go back and forth in it. It knows no screen.

What a trace says is judged before it is believed: a place outside the canvas, a place that was given, a mask that is
masked again, or an item that is no change at all is left out and counted.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tdiff.files import write_atomic
from tdiff.protocol import events
from tdiff.protocol.canvas import MASKED, Canvas
from tdiff.protocol.trace import Cell, TraceEnd, TraceHeader, TraceLine, TraceStep
from tdiff.schema import LARGEST
from tdiff.visible import visible

MOST_CELLS = 1 << 17
"""Places of a canvas that are kept."""
MOST_CHANGES = 1 << 16
"""Changes of the steps that are kept one by one; all that comes later is the last step."""
MOST_STEPS = 1 << 14
"""Steps that are kept one by one."""
_LONGEST = 1024
"""Characters of the text of a place; no tokenizer has a longer token."""

_WORDS = re.compile(r"\s{0,64}\S{1,64}|\s{1,64}")

_State = tuple[str, float]
"""Text and confidence of a place, as in `Canvas`."""
_MASK: _State = ("", MASKED)


class _Step(NamedTuple):
    """The canvas after a step, told by what differs from the one before it."""

    line: TraceStep
    """As it came, without what could not be true, and each place once."""
    was: list[_State]
    """What each of its places was before."""
    left: int
    total: float


class Recording:
    """A generation, finished or still going on: every canvas of it, in any order."""

    def __init__(self, header: TraceHeader) -> None:
        """Begin with what was given."""
        self.ignored = 0
        """Changes and lines that were left out, since they could not be true."""
        self.taken = 0
        """Lines that were taken in."""
        self.ended: TraceEnd | None = None
        """The last line, once it has come."""
        self.header = self._honest(header)
        """The first line, with only those given places that are on the canvas."""
        self._given = {place for place, _, _ in self.header.given}
        self._newest = Canvas.begin(self.header)
        self._steps: list[_Step] = []
        self._before = [0]  # changes of the steps before each step, and of all
        self._rest: dict[int, int] = {}  # where a place is in the last step, once that takes in all that comes
        self._at = 0  # the step after which the two lists below are the canvas
        self._texts, self._confidence = self._newest.texts.copy(), self._newest.confidence.copy()

    @classmethod
    def read(cls, lines: Iterable[str]) -> Recording | None:
        """The first generation in the lines of a trace file; None where there is no header among them."""
        return next(iter(recordings(lines)), None)

    @classmethod
    def of_text(cls, prompt: str, text: str) -> Recording:
        """A finished text of which nothing else is known: no steps, and no confidence of any place."""
        words = [(place, word, 0) for place, word in enumerate(_WORDS.findall(text))]
        known: dict[str, Any] = {"version": "", "model": "", "decoder": "", "settings": {}, "seed": 0, "row": 0}
        recording = cls(TraceHeader(**known, prompt=prompt, cells=len(words), given=words))
        recording.take(TraceEnd(text=text, model_calls=0, forced=0, tokens=0, seconds=0.0))
        return recording

    @property
    def steps(self) -> int:
        """Steps so far. Steps that changed nothing are not in a trace, so the model may have made more."""
        return len(self._steps)

    def take(self, line: TraceLine) -> None:
        """Take in the next line. Lines after the end, and a second header, are left out."""
        if self.ended is not None or isinstance(line, TraceHeader):
            self.ignored += 1
            return
        self.taken += 1
        if isinstance(line, TraceEnd):
            self.ended = dataclasses.replace(line, seconds=_bounded(line.seconds))
            self._newest.apply(line)
        else:
            self._take_step(line)

    def canvas(self, step: int) -> Canvas:
        """The canvas after a step, 0 (before the first) to `steps`; beyond them, the nearest. The caller's own."""
        step = min(max(step, 0), self.steps)
        if step == self.steps:
            newest = self._newest
            texts, confidence = newest.texts.copy(), newest.confidence.copy()
            fresh, remasked = set(newest.fresh), set(newest.remasked)
            return dataclasses.replace(newest, texts=texts, confidence=confidence, fresh=fresh, remasked=remasked)
        self._seek(step)
        texts, confidence, maskable = self._texts.copy(), self._confidence.copy(), self._newest.maskable
        if step == 0:
            return Canvas(texts, confidence, set(), maskable, maskable)
        line, _, left, total = self._steps[step - 1]
        fresh = {cell[0] for cell in line.cells if cell[4] == "commit"}
        remasked = {cell[0] for cell in line.cells if cell[4] == "remask"}
        return Canvas(texts, confidence, fresh, maskable, left, line.index, line.calls, total, remasked)

    def index(self, step: int) -> int:
        """The number that the model gave to a step, 0 before the first: steps that changed nothing have one too."""
        return self._steps[min(step, self.steps) - 1].line.index if step > 0 and self.steps else 0

    def changed(self, step: int) -> tuple[int, ...]:
        """The places that step 1..`steps` changed, each once; none for another number."""
        return tuple(cell[0] for cell in self._steps[step - 1].line.cells) if 1 <= step <= self.steps else ()

    def lines(self) -> Iterator[TraceLine]:
        """The trace, so far as it was believed."""
        yield self.header
        for step in self._steps:
            yield step.line
        if self.ended is not None:
            yield self.ended

    def _honest(self, header: TraceHeader) -> TraceHeader:
        cells = min(max(header.cells, 0), MOST_CELLS)
        given: dict[int, tuple[int, str, int]] = {}
        for item in header.given:
            match item:
                case [int(place), str(text), token] if 0 <= place < cells and place not in given:
                    given[place] = place, visible(text)[:_LONGEST], token
                case _:
                    self.ignored += 1
        return dataclasses.replace(header, cells=cells, given=list(given.values()))

    def _take_step(self, line: TraceStep) -> None:
        newest = self._newest
        cells = list(self._believed(line.cells))
        was = [self._state(cell[0]) for cell in cells]
        line = dataclasses.replace(line, cells=cells)
        newest.apply(line)
        if self.steps >= MOST_STEPS or self._before[-1] >= MOST_CHANGES:
            line, was = self._joined(line, was)
        self._steps.append(_Step(line, was, newest.left, newest.total))
        self._before.append(self._before[-1] + len(was))

    def _state(self, place: int) -> _State:
        confidence = self._newest.confidence[place]
        return _MASK if confidence == MASKED else (self._newest.texts[place], confidence)

    def _joined(self, line: TraceStep, was: list[_State]) -> tuple[TraceStep, list[_State]]:
        """The last step, which is taken away, and this one as one step."""
        last = self._steps.pop()
        self._before.pop()
        self._rest = self._rest or {cell[0]: n for n, cell in enumerate(last.line.cells)}
        for cell, state in zip(line.cells, was, strict=True):
            at = self._rest.setdefault(cell[0], len(last.was))
            last.line.cells[at : at + 1] = [cell]
            last.was[at : at + 1] = [last.was[at] if at < len(last.was) else state]
        return dataclasses.replace(line, cells=last.line.cells), last.was

    def _believed(self, cells: Iterable[Any]) -> Iterator[Cell]:
        """The changes that can be true; of several of one place, the last."""
        last: dict[int, Cell] = {}
        for cell in cells:
            match cell:
                case [int(place), str(text), token, confidence, "commit"] if self._open(place):
                    last[place] = place, visible(text)[:_LONGEST], token, _share(confidence), "commit"
                case [int(place), _, token, _, "remask"] if self._open(place):
                    last[place] = place, "", token, 0.0, "remask"
                case _:
                    self.ignored += 1
        for place, cell in last.items():
            if cell[4] == "remask" and self._newest.confidence[place] == MASKED:
                self.ignored += 1
            else:
                yield cell

    def _open(self, place: int) -> bool:
        return 0 <= place < self.header.cells and place not in self._given

    def _seek(self, step: int) -> None:
        """Bring the two lists to the canvas after `step`, from where the way is shortest."""
        before = self._before
        way = abs(before[step] - before[self._at])
        if before[step] < way:
            start = Canvas.begin(self.header)
            self._at, self._texts, self._confidence = 0, start.texts, start.confidence
        elif before[-1] - before[step] < way:
            newest = self._newest
            self._at, self._texts, self._confidence = self.steps, newest.texts.copy(), newest.confidence.copy()
        texts, confidence = self._texts, self._confidence
        for entry in self._steps[self._at : step]:
            for place, text, _, sure, what in entry.line.cells:
                texts[place], confidence[place] = (text, sure) if what == "commit" else _MASK
        for entry in reversed(self._steps[step : self._at]):
            for cell, state in zip(entry.line.cells, entry.was, strict=True):
                texts[cell[0]], confidence[cell[0]] = state
        self._at = step


def _bounded(seconds: Any) -> float:
    """A time as far as it can be believed; 0 for what is none."""
    return float(seconds) if isinstance(seconds, int | float) and 0 <= seconds < LARGEST else 0.0


def _share(confidence: Any) -> float:
    """A confidence within 0..1, whatever the trace says; 0 for what is no number."""
    if isinstance(confidence, int | float) and confidence > 0:
        return float(min(confidence, 1.0))
    return 0.0


def recordings(lines: Iterable[str]) -> list[Recording]:
    """Every generation in the lines of a trace file, in order. Lines that are torn or of no trace are passed over."""
    found: list[Recording] = []
    for line in lines:
        record = events.parse(line)
        if isinstance(record, TraceHeader):
            found.append(Recording(record))
        elif isinstance(record, TraceStep | TraceEnd) and found:
            found[-1].take(record)
    return found


def free_path() -> Path:
    """The name of a trace in the current folder that is not taken."""
    names = (Path(f"trace-{n}.jsonl") for n in range(1, 1_000_000))
    return next(path for path in names if not path.exists())


def keep(recording: Recording, path: Path) -> None:
    """Write the trace of a recording, whole or not at all. Raises OSError."""
    write_atomic(path, "".join(map(events.to_line, recording.lines())).encode())
