"""A live generation, one text after another: requests to the model's process, and its answers as recordings.

This module knows neither the screen nor where the process runs; the caller passes the time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, assert_never

from tdiff.config.decoding import DecodeSettings
from tdiff.errors import TdiffError
from tdiff.protocol.messages import (
    Answer,
    Begin,
    Cancel,
    Cancelled,
    Generate,
    Load,
    Measured,
    Ready,
    Refused,
    Scores,
)
from tdiff.protocol.trace import TraceEnd, TraceHeader, TraceLine, TraceStep
from tdiff.watch.generation.branches import Fork, Node
from tdiff.watch.generation.decoding_options import DecodingOptions
from tdiff.watch.generation.model_process import FailedProcess, ModelProcess
from tdiff.watch.generation.recording import Recording
from tdiff.watch.generation.text_timer import TextTimer
from tdiff.watch.generation.weights import NewestWeights, Weights

KEPT = 16
"""Recordings that are stored."""
_MESSAGE_SECONDS = 10.0
"""Seconds for which a refusal is shown if the process continues."""
_FOREVER = 1e12
"""When the next text begins after a branch: not by itself."""
_COURTESY_SECONDS = 1.0
"""Seconds between two checks whether the process has to yield to a run."""


@dataclass(frozen=True, slots=True)
class Turn:
    """The row, prompt and length of the next text."""

    row: int
    """With the seed, the key of the noise."""
    prompt: str | None
    """None: one of the model's default prompts."""
    length: int
    """0: as many tokens as fill the context length."""


class Live:
    """Texts of one model, each `every` seconds after the last. Prompt and decoder may change at any time."""

    def __init__(
        self,
        start: Callable[[str], ModelProcess],
        model: str,
        *,
        seed: int,
        options: dict[str, Any] | None = None,
        prompt: str | None = None,
        length: int = 0,
        every: float = 5.0,
        newest: Callable[[], Weights | None] = lambda: None,
        courteous: Callable[[], bool] = lambda: False,
        ended: Callable[[str], str] = "the model's process ended: {}".format,
    ) -> None:
        """`start` starts the process of a model.

        `newest` returns the model to use now and the time its weights were written (s), or None if that never changes.
        `courteous` returns whether a process started now would yield to a run. When that changes, the process is
        restarted: at once to yield, otherwise between two texts. `ended` makes a line for the user of the reason for
        which the process ended.
        """
        self._start, self.model, self._message_of_end = start, model, ended
        self._courteous, self._yields_to_run, self._courtesy_checked = courteous, False, 0.0
        self._seed, self._count = seed, 0
        self._weights = NewestWeights(newest)
        self._decoding = DecodingOptions(options or {})
        self._timer = TextTimer(every)
        self.prompt, self.length = prompt, length
        self.recordings: deque[Recording] = deque(maxlen=KEPT)
        """The generated texts, newest last; the last may still be in progress."""
        self.ready: Ready | None = None
        """The loaded model."""
        self.message = ""
        """The last problem; "" if there is none."""
        self.resting = False
        """Whether no text begins for now, since no view is attached."""
        self.turn: Callable[[float], Turn | None] = self._default_turn
        """Returns the next text to request at a given time, or None to wait and be asked again."""
        self.falls_back = False
        """Whether an autoregressive model that refuses the decoder in the options uses its own decoder instead."""
        self.complete = False
        """Whether the text requested last has been written to its end."""
        self.branch: Node | None = None
        """The branch that is generated, or was last; None once another text is generated."""
        self._fork: Fork | None = None  # the branch to request once no text is in progress
        self._requested: tuple[int, Fork] | None = None  # the branch that is requested, until its header comes
        self._answering = 0  # id of the generation whose lines are coming
        self._running = 0  # id of the requested generation; 0: none
        self._loading = False
        self._noticed_death = False
        self._message_came = 0.0
        self._accepted: tuple[str | None, dict[str, Any]] | None = None  # the last accepted prompt and options
        self._process: ModelProcess | None = None

    @property
    def state(self) -> str:
        """Off (not started), loading, generating, waiting, or dead."""
        if self._process is None:
            return "off"
        if not self._process.alive:
            return "dead"
        if self.ready is None or self._loading:
            return "loading"
        return "generating" if self._running else "waiting"

    @property
    def settings(self) -> DecodeSettings:
        """The decoding settings of the next text."""
        return self._decoding.settings

    @property
    def recording(self) -> Recording | None:
        """The text in progress, or the last one."""
        return self.recordings[-1] if self.recordings else None

    @property
    def caption(self) -> str:
        """The model's name, and the step of its weights."""
        return f"{self.ready.model}@{self.ready.step:,}" if self.ready else self.model

    @property
    def refused(self) -> bool:
        """Whether the current request was refused."""
        return self._timer.refusals > 0

    @property
    def seconds(self) -> float:
        """Seconds since the current text began, or that the last one took."""
        return self._timer.seconds

    @property
    def slow(self) -> bool:
        """Whether texts of the same weights are to be rare: the user has not pressed a key for long."""
        return self._timer.slow

    @slow.setter
    def slow(self, slow: bool) -> None:
        self._timer.slow = slow

    def remaining(self, now: float) -> float:
        """Seconds until the next text begins; 0 while one is in progress."""
        return max(0.0, self._timer.next_due - now) if self.state == "waiting" else 0.0

    @property
    def seed(self) -> int:
        """The seed of all texts."""
        return self._seed

    @property
    def options(self) -> dict[str, Any]:
        """Fields of DecodeSettings that the user set."""
        return self._decoding.options

    # The process

    def another_process(self, model: str | None = None) -> ModelProcess:
        """Start another process where this one runs, of the same model unless `model` names one. Raises TdiffError."""
        return self._start(model or self.model)

    def start(self) -> None:
        """Start the process, or restart it."""
        if self._process is not None:
            self._process.close()
        self.ready, self._loading, self._running, self.message = None, False, 0, ""
        if self._requested is not None:  # the process that it was sent to is gone
            self._fork, self._requested = self._fork or self._requested[1], None
        self._decoding.use_model(None)
        self._noticed_death = self.complete = False
        self._timer.due = 0.0
        self._timer.forget_halt()
        newest = self._weights.newest()
        if newest:
            self.model = newest[0]
        self._yields_to_run = self._courteous()
        try:
            self._process = self._start(self.model)
        except TdiffError as error:
            self._process = FailedProcess(str(error))

    def halt(self, now: float) -> None:
        """Stop the process until `resume`: the view is suspended."""
        if self._process is not None and self._timer.halt(now):
            self._process.halt()

    def resume(self, now: float) -> None:
        """Continue the process; the time while it was halted does not count as part of a text."""
        if self._process is not None and self._timer.resume(now):
            self._process.resume()

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.close()

    def poll(self, now: float) -> bool:
        """Process the answers, and request the next text when it is due. Returns whether something changed."""
        if self._process is None:
            return False
        before = self.state, self.message
        self._expire_message(now)
        answers = self._process.take()
        for answer in answers:
            self._take(answer, now)
        if self._running:
            self._timer.tick(now)
        self._check_courtesy(now)
        if self.state == "dead" and not self._noticed_death:
            self._running, self._noticed_death = 0, True
            self.message = self._message_of_end(str(self._process.reason))
        elif isinstance(self._process, FailedProcess) and self._weights.untried:
            self.start()  # the weights that could not be loaded have been replaced
        elif self.state == "waiting" and self._fork is not None:
            self._request_branch(self._fork, now)
        elif self.state == "waiting" and not self.resting and now >= self._timer.due:
            newer = self._weights.newer_than(self.model, self.ready)
            if newer is not None:
                self._load(newer)
            elif now >= self._timer.next_due:
                self._request(now)
        return bool(answers) or before != (self.state, self.message)

    def _expire_message(self, now: float) -> None:
        alive = self._process is not None and self._process.alive
        if self.message and self.ready and not self.refused and alive and now - self._message_came > _MESSAGE_SECONDS:
            self.message = ""

    def _check_courtesy(self, now: float) -> None:
        """Restart the process if it has to yield to a run, or no longer has to and no text is in progress."""
        if self._process is None or not self._process.alive or 0 <= now - self._courtesy_checked < _COURTESY_SECONDS:
            return
        self._courtesy_checked = now
        if self._courteous() != self._yields_to_run and (not self._yields_to_run or not self._running):
            self.start()

    # What the user changes

    def why_not_continued(self, recording: Recording) -> str:
        """Why the model cannot continue a text; "" if it can, or while the model is unknown."""
        if self.ready is None or recording.header.model == self.ready.model:
            return ""
        return f"{recording.header.model} wrote this text; {self.ready.model} cannot continue it"

    def fork(self, fork: Fork) -> None:
        """Generate a branch once the text in progress is complete. Afterwards no text begins until `new_text`."""
        self._fork = fork
        if self.state in ("off", "dead"):
            self.start()

    def new_text(self) -> None:
        """Begin another text at once."""
        self._fork = self._requested = None
        self._timer.due, self._timer.refusals, self.complete = 0.0, 0, False
        if self._running and self._process is not None:
            self._process.send(Cancel(id=self._running))
            self._running = 0

    def retry(self) -> None:
        """Send a refused request again at once: its prompt has changed."""
        self._timer.due = 0.0

    def set_prompt(self, prompt: str | None) -> None:
        """Generate from this prompt, or from the model's default prompts if it is None."""
        self.prompt = prompt
        self.new_text()

    def set_option(self, name: str, value: Any) -> None:
        """Change a field of DecodeSettings and begin another text at once. Raises TdiffError."""
        self._decoding.set(name, value)
        self.new_text()

    def choose_decoder(self, options: Mapping[str, Any]) -> str:
        """Use these fields of DecodeSettings from now on, which name a decoder. Raises TdiffError."""
        self._decoding.replace({**self._decoding.options, **options})
        self.new_text()
        return self.settings.decoder

    @property
    def has_threshold(self) -> bool:
        """Whether the decoder reads a threshold."""
        return self._decoding.has_threshold

    def shift_threshold(self, steps: int) -> float:
        """Move the confidence threshold by `steps` times 0.05, within 0..1."""
        value = self._decoding.shifted_threshold(steps)
        self.set_option("threshold", value)
        return value

    # Requests and answers

    def _load(self, weights: Weights) -> None:
        assert self._process is not None
        self._weights.tried(weights)
        self.model, self._loading = weights[0], True
        self._process.send(Load(model=weights[0]))

    def _request(self, now: float) -> None:
        assert self._process is not None
        turn = self.turn(now)
        if turn is None:
            return
        self._count += 1
        self._running, self.complete = self._count, False
        self._timer.begin(now)
        settings = {name: value for name, value in self._decoding.options.items() if name != "seed"}
        self._process.send(
            Generate(
                id=self._count,
                prompt=turn.prompt,
                length=turn.length,
                seed=self._seed,
                row=turn.row,
                settings=settings,
                detail=True,
            )
        )

    def _default_turn(self, now: float) -> Turn:
        return Turn(self._count, self.prompt, self.length)

    def _request_branch(self, fork: Fork, now: float) -> None:
        assert self._process is not None and self.ready is not None
        self._fork = None
        if refusal := self.why_not_continued(fork.parent.recording):
            self.message, self._message_came = refusal, now
            return
        self._count += 1
        self._running, self.complete = self._count, False
        self._timer.begin(now)
        self._requested = self._count, fork
        self._process.send(replace(fork.request, id=self._count))

    def _take(self, answer: Answer | TraceLine, now: float) -> None:
        match answer:
            case Ready():
                self.ready, self._loading, self.message = answer, False, ""
                self._decoding.use_model(answer)
            case Begin():
                self._answering = answer.id
            case Refused():
                if answer.id in (None, self._running):
                    self._refuse(answer, now)
            case Cancelled():
                if answer.id == self._running:
                    self._end_text(now)
            case TraceHeader():
                if self._answering == self._running:
                    self._timer.first_line(now)
                    fork, self.branch = self._take_requested(), None
                    if fork is None:
                        self._accepted = self.prompt, self._decoding.options
                        self.recordings.append(Recording(answer))
                    else:
                        self.branch = Node.continuing(fork.parent, fork.step, answer, fork.name)
                        self.recordings.append(self.branch.recording)
            case TraceStep() | TraceEnd():
                if self._answering != self._running or not self.recordings:
                    return
                if self.branch is not None:
                    self.branch.take(answer)
                else:
                    self.recordings[-1].take(answer)
                if isinstance(answer, TraceEnd):
                    self.complete = True
                    self._timer.tick(now)
                    self._end_text(now)
            case Scores() | Measured():
                pass  # of requests that are never made here
            case _:
                assert_never(answer)

    def _take_requested(self) -> Fork | None:
        """The branch that the generation in progress is, the first time; None for another text."""
        if self._requested is None or self._requested[0] != self._running:
            return None
        fork, self._requested = self._requested[1], None
        return fork

    def _end_text(self, now: float) -> None:
        self._running = 0
        self._timer.end(now)
        if self.branch is not None:
            self._timer.due = _FOREVER

    def _refuse(self, answer: Refused, now: float) -> None:
        self.message, self._message_came = answer.text, now
        is_branch = answer.id is not None and self._take_requested() is not None
        self._end_text(now)
        if is_branch:
            self._timer.due = _FOREVER
            return
        if answer.id is None and self.ready is None:
            self._give_up(answer.text)
        elif answer.id is None:
            self._loading = False
        elif self._accepted is not None and self._accepted != (self.prompt, self._decoding.options):
            self.prompt, options = self._accepted  # the change was refused: continue as before
            self._decoding.replace(options)
            self._timer.due = now
        elif self._accepted is None and self.falls_back and self._decoding.overrides_autoregressive:
            self._decoding.replace(self._decoding.sampling)
            self._timer.due = now
        else:  # it may be refused again, or memory may be free by then
            self._timer.refuse(now)

    def _give_up(self, reason: str) -> None:
        """The first model cannot be loaded: end the process, so that it is restarted once there are other weights."""
        assert self._process is not None
        self._process.close()
        self._process = FailedProcess(reason)
        self._weights.try_newest()
