"""Several texts from one prompt at once: settings or models that race, or rows of one batch. It knows no screen.

All texts are compared at one point of an axis: the model calls that each has made, or the seconds that each has
computed. The caller passes the time.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, assert_never

from tdiff.config.decoding import parse_decoder
from tdiff.errors import TdiffError
from tdiff.protocol.messages import Answer, Begin, Cancel, Cancelled, Lanes, Measure, Measured, Ready, Refused, Scores
from tdiff.protocol.trace import TraceEnd, TraceHeader, TraceLine, TraceStep
from tdiff.watch.generation.branches import first_difference
from tdiff.watch.generation.model_process import FailedProcess, ModelProcess
from tdiff.watch.generation.recording import Recording

LETTERS = "ABCDEFGHI"
"""The names of the texts."""
AXES = ("calls", "seconds")
"""What the texts are in step by."""
MIN_RACERS, MAX_RACERS = 2, 4
_IDS = 100
"""Ids of one request: those of its texts, and one that measures them."""
_CLOSE = 1.0
"""Least difference of two distances from held-out text that says anything."""


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


def entry(text: str) -> Entry:
    """An entry from a decoder with options, `model=NAME`, or both. Raises TdiffError where it is not valid."""
    words = text.split()
    models = [word.removeprefix("model=") for word in words if word.startswith("model=")]
    if not words or len(models) > 1 or "" in models:
        raise TdiffError(f'a race takes a decoder with options, and one model=NAME, as "remdm steps=64"; got {text!r}')
    rest = " ".join(word for word in words if not word.startswith("model="))
    label = " ".join(filter(None, (models[0] if models else "", rest)))
    return Entry(label, parse_decoder(rest), models[0] if models else None)


def entries(texts: Sequence[str]) -> list[Entry]:
    """The entries of a race. Raises TdiffError for fewer than two, more than four, or two that are the same."""
    if not MIN_RACERS <= len(texts) <= MAX_RACERS:
        raise TdiffError(f"a race is between {MIN_RACERS} to {MAX_RACERS} settings; got {len(texts)} of --race")
    found = [entry(text) for text in texts]
    for n, one in enumerate(found):
        if any((one.settings, one.model) == (other.settings, other.model) for other in found[:n]):
            raise TdiffError(f"a race is between different settings; {one.label!r} is there twice")
    return found


class Lane:
    """One text, as far as it is generated."""

    def __init__(self, entry: Entry, letter: str) -> None:
        self.entry, self.letter = entry, letter
        self.recording: Recording | None = None
        self.refused = ""
        """Why there is no text; "" if there is one or will be."""
        self._seconds: list[float] = []  # until after each step
        self._remasked: list[int] = []  # likewise: remasked positions

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
        return self._seconds[min(step, len(self._seconds)) - 1] if step > 0 and self._seconds else 0.0

    def remasked(self, step: int) -> int:
        """How many positions were remasked until after a step."""
        return self._remasked[min(step, len(self._remasked)) - 1] if step > 0 and self._remasked else 0

    def take(self, line: TraceLine, seconds: float) -> None:
        """Take in a line of its trace."""
        if isinstance(line, TraceHeader):
            self.recording, self._seconds, self._remasked = Recording(line), [], []
        elif self.recording is not None:
            before = self.recording.steps
            self.recording.take(line)
            if not isinstance(line, TraceStep) or self.recording.ended is not None:
                return
            remasked = (self._remasked[-1] if self._remasked else 0) + sum(cell[4] == "remask" for cell in line.cells)
            if self.recording.steps == before and before:  # it was merged into the last step
                self._seconds.pop()
                self._remasked.pop()
            self._seconds.append(max(seconds, self._seconds[-1] if self._seconds else 0.0))
            self._remasked.append(remasked)


@dataclass(slots=True)
class _Runner:
    """The process of a model, and the texts that it generates."""

    model: str | None
    lanes: list[Lane]
    process: ModelProcess
    ready: Ready | None = None
    asked: bool = False
    id: int = 0
    """Of its last request."""
    answering: int = -1
    """The text whose lines are coming."""
    seconds: float = 0.0


class Race:
    """Texts that are generated at once, each model in its own process."""

    def __init__(
        self,
        start: Callable[[str | None], ModelProcess],
        chosen: Sequence[Entry],
        *,
        prompt: str | None,
        length: int,
        seed: int,
        row: int = 0,
        measures: bool = True,
    ) -> None:
        """`start` starts the process of a model by its name, None for the view's. `row` is added to those of entries.

        `measures`: whether the texts are measured once all are complete.
        """
        self._start, self._measures = start, measures
        self._prompt, self._length, self.seed, self.row = prompt, length, seed, row
        self._entries = chosen
        self.lanes = [Lane(one, letter) for one, letter in zip(chosen, LETTERS, strict=False)]
        self.measured: Measured | None = None
        """How near the complete texts are to held-out text, and who decided that, once it is known."""
        self.why_not = ""
        """Why nothing decides which text reads best."""
        self.finishers: list[Lane] = []
        """The texts that were measured, in the order of `measured`."""
        self._measuring: list[Lane] = []
        self._judges: list[_Runner] = []  # those that can be asked for a measurement, the next one last
        self._runners: list[_Runner] = []
        self._number = 0

    @property
    def models(self) -> int:
        """How many models generate."""
        return len({one.model for one in self._entries})

    @property
    def complete(self) -> bool:
        """Whether no text is in progress."""
        return all(lane.ended for lane in self.lanes)

    @property
    def busy(self) -> bool:
        """Whether answers are expected."""
        return not self.complete or bool(self._measuring)

    @property
    def state(self) -> str:
        """What it does where no text can be seen yet."""
        if any(lane.recording is not None for lane in self.lanes):
            return ""
        return "loading the model ..." if any(not runner.ready for runner in self._runners) else "starting ..."

    @property
    def header(self) -> TraceHeader | None:
        """The header of the first text that has started."""
        return next((lane.recording.header for lane in self.lanes if lane.recording is not None), None)

    def begin(self) -> None:
        """Start the processes."""
        for model in dict.fromkeys(one.model for one in self._entries):
            lanes = [lane for lane in self.lanes if lane.entry.model == model]
            self._runners.append(_Runner(model, lanes, self._started(model)))

    def _started(self, model: str | None) -> ModelProcess:
        try:
            return self._start(model)
        except TdiffError as error:
            return FailedProcess(str(error))

    def again(self, row: int) -> None:
        """Generate other texts with the same entries: those of another row."""
        for runner in self._runners:
            runner.process.send(Cancel(id=runner.id))
            runner.asked, runner.answering = False, -1
        self.row, self.measured, self.why_not, self._measuring = row, None, "", []
        fresh = [Lane(lane.entry, lane.letter) for lane in self.lanes]
        for runner in self._runners:
            runner.lanes = [new for new, old in zip(fresh, self.lanes, strict=True) if old in runner.lanes]
        self.lanes = fresh

    def poll(self) -> bool:
        """Take in the answers, and request what is due. Returns whether something changed."""
        changed = False
        for runner in self._runners:
            for answer in runner.process.take():
                self._take(runner, answer)
                changed = True
            if not runner.process.alive and not all(lane.ended for lane in runner.lanes):
                for lane in runner.lanes:
                    if not lane.ended:
                        lane.refused = f"the model's process ended: {runner.process.reason}"
                changed = True
            if runner.ready is not None and not runner.asked:
                self._ask(runner)
        if self.complete and self._measures and not self._measuring and self.measured is None and not self.why_not:
            self._measure()
            changed = True
        return changed

    def _ask(self, runner: _Runner) -> None:
        prompt, length = self._prompt, self._length
        if runner is not self._runners[0] and (prompt is None or not length):
            # The others get what the first model has chosen, unless it cannot choose.
            header = self._runners[0].lanes[0].recording
            if header is None and not all(lane.ended for lane in self._runners[0].lanes):
                return
            if header is not None:
                prompt = header.header.prompt if prompt is None else prompt
                length = length or header.header.cells - len(header.header.given)
        self._number += 1
        runner.asked, runner.answering, runner.id = True, -1, self._number * _IDS
        runner.process.send(
            Lanes(
                id=runner.id,
                settings=[dict(lane.entry.settings) for lane in runner.lanes],
                rows=[lane.entry.row + self.row for lane in runner.lanes],
                prompt=prompt,
                length=length,
                seed=self.seed,
                detail=True,
            )
        )

    def _take(self, runner: _Runner, answer: Answer | TraceLine) -> None:
        match answer:
            case Ready():
                runner.ready = answer
            case Begin():
                runner.answering, runner.seconds = answer.id - runner.id - 1, answer.seconds or 0.0
            case TraceHeader() | TraceStep() | TraceEnd():
                if runner.asked and 0 <= runner.answering < len(runner.lanes):
                    runner.lanes[runner.answering].take(answer, runner.seconds)
            case Measured():
                if self._measuring and answer.id == self._number * _IDS and len(answer.nats) == len(self._measuring):
                    self.measured, self.finishers, self._measuring = answer, self._measuring, []
                    self.why_not = ""
            case Refused():
                self._refuse(runner, answer)
            case Cancelled() | Scores():
                pass  # a text that is no longer shown, or the answer to what is never requested here
            case _:
                assert_never(answer)

    def _refuse(self, runner: _Runner, answer: Refused) -> None:
        if self._measuring and answer.id == self._number * _IDS:
            self.why_not = self.why_not or answer.text
            self._ask_judge()
            return
        number = None if answer.id is None or answer.id == runner.id else answer.id - runner.id - 1
        for n, lane in enumerate(runner.lanes):
            if not lane.ended and number in (None, n):
                lane.refused = answer.text

    # Which text reads best

    def _measure(self) -> None:
        self._measuring = [
            lane for lane in self.lanes if lane.recording is not None and lane.recording.ended is not None
        ]
        if len(self._measuring) < MIN_RACERS:
            self.why_not, self._measuring = "fewer than two texts are complete", []
            return
        self._judges = self._runners[::-1]
        self._ask_judge()

    def _ask_judge(self) -> None:
        """Ask the first model for a measurement of all texts, or the next one that has not refused that."""
        while self._judges and not self._judges[-1].process.alive:
            self._judges.pop()
        if not self._judges:
            self.why_not, self._measuring = self.why_not or "no model's process is left", []
            return
        self._number += 1
        texts = [lane.recording.ended.text for lane in self._measuring if lane.recording and lane.recording.ended]
        prompt = header.prompt if (header := self.header) else ""
        self._judges.pop().process.send(Measure(id=self._number * _IDS, prompt=prompt, texts=texts))

    @property
    def best(self) -> list[Lane]:
        """The text that is nearest to held-out text, with all that are hardly farther; none while that is unknown."""
        if self.measured is None:
            return []
        least = min(self.measured.distances)
        pairs = zip(self.finishers, self.measured.distances, strict=True)
        return [lane for lane, distance in pairs if distance - least < _CLOSE]

    def difference(self, lane: Lane, axis: str, point: float) -> int | None:
        """The first position at which a text differs from the first one at a point of an axis.

        None: there is none, or the texts are of models that may have different tokens.
        """
        first = self.lanes[0]
        if lane is first or lane.entry.model != first.entry.model or not (lane.recording and first.recording):
            return None
        canvases = (one.recording.canvas(one.at(axis, point)) for one in (first, lane) if one.recording)
        return first_difference(*(canvas.texts for canvas in canvases))

    def reached(self, axis: str) -> float:
        """The point of an axis that every text in progress has reached; once all are complete, the last."""
        running = [lane.reached(axis) for lane in self.lanes if not lane.ended]
        return min(running) if running else self.end(axis)

    def end(self, axis: str) -> float:
        """The farthest point of an axis so far."""
        return max((lane.reached(axis) for lane in self.lanes), default=0.0)

    # The processes

    def halt(self) -> None:
        """Stop the processes until `resume`."""
        for runner in self._runners:
            runner.process.halt()

    def resume(self) -> None:
        """Continue the halted processes."""
        for runner in self._runners:
            runner.process.resume()

    def close(self) -> None:
        """End the processes."""
        for runner in self._runners:
            runner.process.close()
