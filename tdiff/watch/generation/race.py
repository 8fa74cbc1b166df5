"""Several texts from one prompt at once: settings or models that race, or rows of one batch. It knows no screen.

All texts are compared at one point of an axis: the model calls that each has made, or the seconds that each has
computed. The caller passes the time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import assert_never

from tdiff.config.decoding import parse_decoder
from tdiff.errors import TdiffError
from tdiff.protocol.messages import (
    MAX_LANES,
    Answer,
    Begin,
    Cancel,
    Cancelled,
    Lanes,
    Measure,
    Measured,
    Ready,
    Refused,
    Scores,
)
from tdiff.protocol.trace import TraceEnd, TraceHeader, TraceLine, TraceStep
from tdiff.watch.generation.branches import Change, Fork, branch_request, first_difference, next_name
from tdiff.watch.generation.insight import Insight
from tdiff.watch.generation.lane import BranchLane, Entry, Lane
from tdiff.watch.generation.model_process import FailedProcess, ModelProcess

LETTERS = "ABCDEFGHI"
"""The names of the texts."""
AXES = ("calls", "seconds")
"""What the texts are in step by."""
MIN_RACERS, MAX_RACERS = 2, 4
_IDS = 100
"""Ids of one request: those of its texts, and one that measures them."""
_CLOSE = 1.0
"""Least difference of two distances from held-out text that says anything."""


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
    answering: Lane | None = None
    """The text whose lines are coming."""
    waiting: list[BranchLane] = field(default_factory=list)
    """Branches to request."""
    branch: BranchLane | None = None
    """The branch that was requested last."""
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
        self.lanes: list[Lane] = [Lane(one, letter) for one, letter in zip(chosen, LETTERS, strict=False)]
        """The texts, each before its branches."""
        self.measured: Measured | None = None
        """How near the complete texts are to held-out text, and who decided that, once it is known."""
        self.why_not = ""
        """Why nothing decides which text reads best."""
        self.finishers: list[Lane] = []
        """The texts that were measured, in the order of `measured`."""
        self._measuring: list[Lane] = []
        self._judges: list[_Runner] = []  # those that can be asked for a measurement, the next one last
        self._judge: _Runner | None = None  # the one that measures
        self._measurement = 0  # the id of its request
        self._refusal = ""  # why the first of them could not decide
        self._runners: list[_Runner] = []
        self._number = 0

    @property
    def models(self) -> int:
        """How many models generate."""
        return len({one.model for one in self._entries})

    @property
    def roots(self) -> list[Lane]:
        """The texts that are no branches."""
        return [lane for lane in self.lanes if lane.parent is None]

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
            runner.asked, runner.answering, runner.branch, runner.waiting = False, None, None, []
        self.row, self.measured, self.why_not = row, None, ""
        self._measuring, self._judge = [], None
        roots = self.roots
        fresh = [Lane(lane.entry, lane.letter) for lane in roots]
        for runner in self._runners:
            runner.lanes = [new for new, old in zip(fresh, roots, strict=True) if old in runner.lanes]
        self.lanes = fresh

    def poll(self) -> bool:
        """Take in the answers, and request what is due. Returns whether something changed."""
        changed = False
        for runner in self._runners:
            for answer in runner.process.take():
                self._take(runner, answer)
                changed = True
            lanes = [lane for lane in self.lanes if lane.root in runner.lanes]
            if not runner.process.alive and not all(lane.ended for lane in lanes):
                for lane in lanes:
                    if not lane.ended:
                        lane.refused = f"the model's process ended: {runner.process.reason}"
                changed = True
            if runner.ready is not None and not runner.asked:
                self._ask(runner)
        if self._judge is not None and not self._judge.process.alive:
            self._refusal = self._refusal or f"the model's process ended: {self._judge.process.reason}"
            self._ask_judge()
            changed = True
        if all(lane.ended for lane in self.roots):
            if self._measures and not self._measuring and self.measured is None and not self.why_not:
                self._measure()
                changed = True
            if not self._measuring:  # another request would end it
                for runner in self._runners:
                    changed |= self._request_branch(runner)
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
        runner.asked, runner.answering, runner.id = True, None, self._number * _IDS
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
                runner.answering, runner.seconds = self._named(runner, answer.id), answer.seconds or 0.0
            case TraceHeader() | TraceStep() | TraceEnd():
                if runner.asked and runner.answering in self.lanes:
                    runner.answering.take(answer, runner.seconds)
            case Measured():
                if self._is_measurement(runner, answer.id) and len(answer.nats) == len(self._measuring):
                    self.measured, self.finishers = answer, self._measuring
                    self._measuring, self._judge = [], None
            case Refused():
                self._refuse(runner, answer)
            case Cancelled() | Scores():
                pass  # a text that is no longer shown, or the answer to what is never requested here
            case _:
                assert_never(answer)

    def _refuse(self, runner: _Runner, answer: Refused) -> None:
        if self._is_measurement(runner, answer.id):
            self._refusal = self._refusal or answer.text
            self._ask_judge()
            return
        if answer.id is not None and not runner.asked:
            return  # of a text that is no longer shown
        named = None if answer.id is None else self._named(runner, answer.id)
        everyone = answer.id is None or (answer.id == runner.id and runner.branch is None)
        for lane in (*runner.lanes, *filter(None, [runner.branch])):
            if not lane.ended and (everyone or lane is named):
                lane.refused = answer.text

    def _named(self, runner: _Runner, identity: int) -> Lane | None:
        """The text that an answer with this id is about."""
        number = identity - runner.id - 1
        if runner.branch is not None:
            return runner.branch if identity == runner.id else None
        return runner.lanes[number] if 0 <= number < len(runner.lanes) else None

    # Branches

    def fork(self, lane: Lane, step: int, change: Change) -> tuple[BranchLane, str]:
        """Continue a text after a step and a change, as a text after it and its branches; the branch, and a notice.

        Raises TdiffError where nothing can continue it.
        """
        node = lane.node
        if node is None:
            raise TdiffError("this text has not started: there is nothing to change")
        if len(self.lanes) >= MAX_LANES:
            raise TdiffError(f"{MAX_LANES} texts are the most that are shown at once; u removes a branch")
        insight = Insight(node.recording)
        insight.update()
        request = branch_request(insight, step, change)
        name = next_name({other.letter for other in self.lanes})
        branch = BranchLane(lane, Fork(node, step, name, request))
        after = self.lanes.index(lane) + 1
        while after < len(self.lanes) and lane in _ancestors(self.lanes[after]):
            after += 1
        self.lanes.insert(after, branch)
        runner = next(runner for runner in self._runners if lane.root in runner.lanes)
        runner.waiting.append(branch)
        waits = not all(root.ended for root in self.roots) or bool(self._measuring)
        return branch, f"branch {name} begins when the texts of the race are complete" if waits else ""

    def remove(self, branch: Lane) -> bool:
        """Remove a branch and those that continue it; False where it is none."""
        if branch.parent is None:
            return False
        gone = [lane for lane in self.lanes if lane is branch or branch in _ancestors(lane)]
        self.lanes = [lane for lane in self.lanes if lane not in gone]
        for runner in self._runners:
            runner.waiting = [lane for lane in runner.waiting if lane not in gone]
            if runner.branch in gone and not runner.branch.ended:
                runner.process.send(Cancel(id=runner.id))
        return True

    def _request_branch(self, runner: _Runner) -> bool:
        """Request the next branch where none is in progress; whether there was one."""
        in_progress = runner.branch is not None and runner.branch in self.lanes and not runner.branch.ended
        if not runner.waiting or in_progress or not runner.process.alive:
            return False
        self._number += 1
        runner.branch, runner.id, runner.answering = runner.waiting.pop(0), self._number * _IDS, None
        runner.process.send(replace(runner.branch.fork.request, id=runner.id))
        return True

    # Which text reads best

    def _is_measurement(self, runner: _Runner, identity: int | None) -> bool:
        """Whether an answer with this id is that of the judge."""
        return runner is self._judge and identity == self._measurement

    def _measure(self) -> None:
        self._refusal = ""
        self._measuring = [
            lane for lane in self.roots if lane.recording is not None and lane.recording.ended is not None
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
            self.why_not = self._refusal or "no model's process is left"
            self._measuring, self._judge = [], None
            return
        self._number += 1
        self._judge, self._measurement = self._judges.pop(), self._number * _IDS
        texts = [lane.recording.ended.text for lane in self._measuring if lane.recording and lane.recording.ended]
        prompt = header.prompt if (header := self.header) else ""
        self._judge.process.send(Measure(id=self._measurement, prompt=prompt, texts=texts))

    @property
    def best(self) -> list[Lane]:
        """The text that is nearest to held-out text, with all that are hardly farther; none while that is unknown."""
        if self.measured is None:
            return []
        least = min(self.measured.distances)
        pairs = zip(self.finishers, self.measured.distances, strict=True)
        return [lane for lane, distance in pairs if distance - least < _CLOSE]

    def difference(self, lane: Lane, axis: str, point: float) -> int | None:
        """The first position at which a text differs from the first one at a point of an axis; a branch, from the one
        that it continues.

        None: there is none, or the texts are of models that may have different tokens.
        """
        first = lane.parent or self.lanes[0]
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


def _ancestors(lane: Lane) -> list[Lane]:
    """The texts that a text continues, the nearest first."""
    return [lane.parent, *_ancestors(lane.parent)] if lane.parent is not None else []
