"""One generation, recorded from its trace so that every step of it can be shown. This module knows no screen.

A trace is validated: a position outside the canvas, a position of the prompt, a mask that is remasked, and an item that
is not a change are ignored and counted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, assert_never

from tdiff.files import write_atomic
from tdiff.patterns import lazy
from tdiff.protocol import events
from tdiff.protocol.canvas import MASKED, Canvas
from tdiff.protocol.detail import DetailReader, DetailWriter
from tdiff.protocol.trace import Cell, TraceEnd, TraceHeader, TraceLine, TraceStep
from tdiff.schema import LARGEST
from tdiff.visible import visible

MAX_CELLS = 1 << 17
"""Positions of a canvas that are stored."""
MAX_CHANGES = 1 << 16
"""Changes that are stored step by step; all later ones are merged into the last step."""
MAX_STEPS = 1 << 14
"""Steps that are stored one by one."""
_MAX_TOKEN = 1024
"""Characters of the text at a position; no tokenizer has a longer token."""

_WORDS = lazy(r"\s{0,64}\S{1,64}|\s{1,64}")

_State = tuple[str, float]
"""Text and confidence at a position, as in `Canvas`."""
_MASK: _State = ("", MASKED)


class _Step(NamedTuple):
    """A step, stored as its difference from the canvas before it."""

    line: TraceStep
    """The trace line, without invalid changes, and with each position once."""
    before: list[_State]
    """The state of each of its positions before the step."""
    left: int
    total: float


class Recording:
    """A generation, finished or in progress: gives its canvas after any step."""

    def __init__(self, header: TraceHeader) -> None:
        """Begin with the prompt."""
        self.ignored = 0
        """Invalid changes and lines, which were left out."""
        self.taken = 0
        """Lines that were accepted."""
        self.ended: TraceEnd | None = None
        """The last line, once it has come."""
        self.header = self._validated(header)
        """The first line, with only those prompt positions that are on the canvas."""
        self._prompt = {position for position, _, _ in self.header.given}
        self._newest = Canvas.begin(self.header)
        self._steps: list[_Step] = []
        self._changes = [0]  # the number of changes before each step, and in total
        self._merged: dict[int, int] = {}  # position -> its index in the last step, once later steps are merged into it
        self._step = 0  # the step that the two lists below show
        self._texts, self._confidence = self._newest.texts.copy(), self._newest.confidence.copy()

    @classmethod
    def read(cls, lines: Iterable[str]) -> Recording | None:
        """The first generation in the lines of a trace file; None if there is none."""
        return next(iter(recordings(lines)), None)

    @classmethod
    def of_text(cls, prompt: str, text: str) -> Recording:
        """A finished text without steps or confidences."""
        words = [(position, word, 0) for position, word in enumerate(_WORDS.findall(text))]
        unknown: dict[str, Any] = {"version": "", "model": "", "decoder": "", "settings": {}, "seed": 0, "row": 0}
        recording = cls(TraceHeader(**unknown, prompt=prompt, cells=len(words), given=words))
        recording.take(TraceEnd(text=text, model_calls=0, forced=0, tokens=0, seconds=0.0))
        return recording

    @property
    def steps(self) -> int:
        """The number of steps so far. A trace omits steps without changes, so the model may have made more."""
        return len(self._steps)

    @property
    def untraced(self) -> bool:
        """Whether it is a finished text of which nothing else is known."""
        return self.ended is not None and not self._steps and not self._newest.maskable

    def take(self, line: TraceLine) -> None:
        """Read the next line. Lines after the end, and a second header, are ignored."""
        if self.ended is not None or isinstance(line, TraceHeader):
            self.ignored += 1
            return
        self.taken += 1
        match line:
            case TraceStep():
                self._take_step(line)
            case TraceEnd():
                self.ended = dataclasses.replace(line, seconds=_valid_seconds(line.seconds))
                self._newest.apply(line)
            case _:
                assert_never(line)

    def canvas(self, step: int) -> Canvas:
        """A copy of the canvas after step 0 (before the first) to `steps`; other numbers give the nearest."""
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
        """The model's number of a step, which also counts steps without changes; 0 before the first."""
        return self._steps[min(step, self.steps) - 1].line.index if step > 0 and self.steps else 0

    @property
    def total(self) -> int:
        """The model's number of the last step; before that is known the most that it can be, 0 where it can be any."""
        return self.index(self.steps) if self.ended is not None else max(0, self.header.steps)

    def by_user(self, step: int) -> bool:
        """Whether a step is not the model's: it is a change with which a branch begins."""
        return 1 <= step <= self.steps and self.index(step) == self.index(step - 1)

    def calls(self, step: int) -> int:
        """Model calls until after a step; 0 before the first."""
        return self._steps[min(step, self.steps) - 1].line.calls if step > 0 and self.steps else 0

    def changed(self, step: int) -> tuple[int, ...]:
        """The positions that step 1..`steps` changed, each once; none for other numbers."""
        return tuple(cell[0] for cell in self._steps[step - 1].line.cells) if 1 <= step <= self.steps else ()

    def step_line(self, step: int) -> TraceStep:
        """The valid line of step 1..`steps`."""
        return self._steps[step - 1].line

    def lines(self) -> Iterator[TraceLine]:
        """The lines of the trace, without what was ignored."""
        yield self.header
        for step in self._steps:
            yield step.line
        if self.ended is not None:
            yield self.ended

    def _validated(self, header: TraceHeader) -> TraceHeader:
        cells = min(max(header.cells, 0), MAX_CELLS)
        prompt: dict[int, tuple[int, str, int]] = {}
        for item in header.given:
            match item:
                case [int(position), str(text), token] if 0 <= position < cells and position not in prompt:
                    prompt[position] = position, visible(text)[:_MAX_TOKEN], token
                case _:
                    self.ignored += 1
        return dataclasses.replace(header, cells=cells, given=list(prompt.values()))

    def _take_step(self, line: TraceStep) -> None:
        newest = self._newest
        cells = list(self._valid(line.cells))
        before = [self._state(cell[0]) for cell in cells]
        line = dataclasses.replace(line, cells=cells)
        newest.apply(line)
        if self.steps >= MAX_STEPS or self._changes[-1] >= MAX_CHANGES:
            line, before = self._merge(line, before)
        self._steps.append(_Step(line, before, newest.left, newest.total))
        self._changes.append(self._changes[-1] + len(before))

    def _state(self, position: int) -> _State:
        confidence = self._newest.confidence[position]
        return _MASK if confidence == MASKED else (self._newest.texts[position], confidence)

    def _merge(self, line: TraceStep, before: list[_State]) -> tuple[TraceStep, list[_State]]:
        """Remove the last step, and return it merged with this one."""
        last = self._steps.pop()
        self._changes.pop()
        self._merged = self._merged or {cell[0]: n for n, cell in enumerate(last.line.cells)}
        for cell, state in zip(line.cells, before, strict=True):
            n = self._merged.setdefault(cell[0], len(last.before))
            last.line.cells[n : n + 1] = [cell]
            last.before[n : n + 1] = [last.before[n] if n < len(last.before) else state]
        # The predictions of merged steps are left out: a step has one for each position.
        return dataclasses.replace(line, cells=last.line.cells, detail=None, tokens=None), last.before

    def _valid(self, cells: Iterable[Any]) -> Iterator[Cell]:
        """The valid changes; of several changes of one position, the last."""
        last: dict[int, Cell] = {}
        for cell in cells:
            match cell:
                case [int(position), str(text), token, confidence, "commit"] if self._maskable(position):
                    last[position] = position, visible(text)[:_MAX_TOKEN], token, _valid_share(confidence), "commit"
                case [int(position), _, token, _, "remask"] if self._maskable(position):
                    last[position] = position, "", token, 0.0, "remask"
                case _:
                    self.ignored += 1
        for position, cell in last.items():
            if cell[4] == "remask" and self._newest.confidence[position] == MASKED:
                self.ignored += 1
            else:
                yield cell

    def _maskable(self, position: int) -> bool:
        return 0 <= position < self.header.cells and position not in self._prompt

    def _seek(self, step: int) -> None:
        """Make the two lists show `step`, from the start, the end or the current step: whichever is nearest."""
        changes = self._changes
        distance = abs(changes[step] - changes[self._step])
        if changes[step] < distance:
            start = Canvas.begin(self.header)
            self._step, self._texts, self._confidence = 0, start.texts, start.confidence
        elif changes[-1] - changes[step] < distance:
            newest = self._newest
            self._step, self._texts, self._confidence = self.steps, newest.texts.copy(), newest.confidence.copy()
        texts, confidence = self._texts, self._confidence
        for entry in self._steps[self._step : step]:
            for position, text, _, share, change in entry.line.cells:
                texts[position], confidence[position] = (text, share) if change == "commit" else _MASK
        for entry in reversed(self._steps[step : self._step]):
            for cell, state in zip(entry.line.cells, entry.before, strict=True):
                texts[cell[0]], confidence[cell[0]] = state
        self._step = step


def _valid_seconds(seconds: Any) -> float:
    """The seconds if they are valid, otherwise 0."""
    return float(seconds) if isinstance(seconds, int | float) and 0 <= seconds < LARGEST else 0.0


def _valid_share(confidence: Any) -> float:
    """The confidence clipped to 0..1; 0 if it is not a number."""
    if isinstance(confidence, int | float) and confidence > 0:
        return float(min(confidence, 1.0))
    return 0.0


def recordings(lines: Iterable[str]) -> list[Recording]:
    """Every generation in the lines of a trace file, in order. Torn lines and other records are skipped."""
    recorded: list[Recording] = []
    for line in lines:
        record = events.parse(line)
        if isinstance(record, TraceHeader):
            recorded.append(Recording(record))
        elif isinstance(record, TraceStep | TraceEnd) and recorded:
            recorded[-1].take(record)
    return recorded


def free_path() -> Path:
    """A file name for a trace in the current folder that is unused, and is so with .html for its player."""
    names = (Path(f"trace-{n}.jsonl") for n in range(1, 1_000_000))
    return next(path for path in names if not path.exists() and not path.with_suffix(".html").exists())


def save(recording: Recording, path: Path) -> None:
    """Write the trace of a recording to a file, atomically, with at most `detail.FACTOR` times its plain bytes.

    Raises OSError.
    """
    write_atomic(path, "".join(map(events.to_line, packed_again(recording.lines()))).encode())


def packed_again(lines: Iterable[TraceLine]) -> Iterator[TraceLine]:
    """The lines of a trace with its predictions within the bytes that a file may have."""
    texts: dict[int, str] = {}
    writer = DetailWriter(lambda token: texts.get(token, ""))
    reader = DetailReader(MAX_CELLS)
    for line in lines:
        if not isinstance(line, TraceStep):
            writer.earn(len(events.to_line(line).encode()))
            yield line
            continue
        texts.update(line.tokens or ())
        plain = dataclasses.replace(line, detail=None, tokens=None)
        writer.earn(len(events.to_line(plain).encode()))
        if not line.detail:
            yield line
            continue
        predictions = {
            position: ([token for token, _ in guess.alternatives], [p for _, p in guess.alternatives], guess.entropy)
            for position, guess in reader.unpack(line.detail)
        }
        detail, tokens = writer.pack(predictions, {cell[0] for cell in line.cells if cell[4] == "commit"})
        yield dataclasses.replace(plain, detail=detail or None, tokens=tokens or None)
