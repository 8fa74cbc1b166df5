"""A live generation, one text after another: what is asked of the model's process, and its answers as recordings.

It knows neither the screen nor where the process runs; time is told to it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, assert_never

from tdiff.config.decoding import DECODERS, SAMPLING, DecodeSettings, laid_over, readers
from tdiff.errors import TdiffError
from tdiff.protocol.events import TraceEnd, TraceHeader, TraceLine, TraceStep
from tdiff.protocol.messages import Answer, Begin, Cancel, Cancelled, Generate, Load, Ready, Refused, Request, Scores
from tdiff.watch.generation.recording import Recording

KEPT = 16
"""Recordings kept of what was generated."""
_TOLD = 10.0
"""Seconds for which a refusal is told, where the process goes on."""
_PAUSE, _LONGEST_PAUSE = 5.0, 300.0
"""Seconds before what was refused is asked for again, doubled each time."""
_UNSEEN = 19.0
"""Times the seconds of the last text that pass before the next where nobody seems to watch: a twentieth of the time."""
_THRESHOLD_STEP = 0.05
_MOVED = 1.0
"""Seconds between two looks at whether the process has to keep out of a run's way."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What a text is asked for with."""

    row: int
    """With the seed, the key of the noise."""
    prompt: str | None
    """None: one of the model's own openings."""
    length: int
    """0: as many tokens as fill the model's window."""


class Process(Protocol):
    """The model's process, as `child.Child` is."""

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        ...

    @property
    def reason(self) -> str | None:
        """Why it ended; None while it runs."""
        ...

    def take(self) -> list[Answer | TraceLine]:
        """What it has said since it was last asked."""
        ...

    def send(self, request: Request) -> bool:
        """Ask it something; False where it cannot be asked."""
        ...

    def halt(self) -> None:
        """Stop it where it is."""
        ...

    def go_on(self) -> None:
        """Let it go on from there."""
        ...

    def close(self) -> None:
        """End it."""
        ...


class _Never:
    """A process that could not be started."""

    alive = False

    def __init__(self, reason: str) -> None:
        self.reason: str | None = reason

    def take(self) -> list[Answer | TraceLine]:
        """Nothing."""
        return []

    def send(self, request: Request) -> bool:
        """Nobody is there."""
        return False

    def halt(self) -> None:
        """Nothing to stop."""

    def go_on(self) -> None:
        """Nothing to let go on."""

    def close(self) -> None:
        """Nothing to end."""


class Live:
    """Texts of one model, each `every` seconds after the last; prompt and decoder may change between and within."""

    def __init__(
        self,
        start: Callable[[str], Process],
        model: str,
        *,
        seed: int,
        options: dict[str, Any] | None = None,
        prompt: str | None = None,
        length: int = 0,
        every: float = 5.0,
        newest: Callable[[], tuple[str, float] | None] = lambda: None,
        courteous: Callable[[], bool] = lambda: False,
        ended: Callable[[str], str] = "the model's process ended: {}".format,
    ) -> None:
        """`start` starts the process for a model.

        `newest` tells the model to use now and the time its weights were written (s), or None where that never changes.
        `courteous` tells whether a process that is started now keeps out of the way of a run; where that changes, it
        is started again: at once to keep out of the way, else between two texts.
        `ended` makes a line for the user of the reason for which the process ended.
        """
        self._start, self.model, self._newest, self._say_ended = start, model, newest, ended
        self._courteous, self._keeps_away, self._asked = courteous, False, 0.0
        self._seed, self._count, self._every = seed, 0, every
        self.settings = DecodeSettings(**(options or {}))
        self._options: dict[str, Any] = dict(options or {})
        self.prompt, self.length = prompt, length
        self.recordings: deque[Recording] = deque(maxlen=KEPT)
        """What was generated, the newest last; the last may still be going on."""
        self.ready: Ready | None = None
        """The model that is loaded."""
        self.message = ""
        """What went wrong last; "" when all is well."""
        self.resting = False
        """Whether no text is begun for now: nobody looks."""
        self.slow = False
        """Whether texts of the same weights are to come seldom: nobody has touched a key for long."""
        self.turn: Callable[[float], Turn | None] = self._own_turn
        """What the next text is asked for with, when it is time; None where it is to wait, and it is asked again."""
        self.yields = False
        """Whether a model that writes from left to right does so, where the options name a decoder it refuses."""
        self.whole = False
        """Whether the text that was asked for last has been written to its end."""
        self._id = 0
        self._running = 0  # id of the generation that is going on; 0: none
        self._due = 0.0
        self._ended = 0.0  # when the last text did
        self._loading = False
        self._tried: tuple[str, float] | None = None  # the newest weights that a load was asked for
        self.seconds = 0.0
        """Since the running text began, or that the last one took."""
        self._began = 0.0
        self._halted: float | None = None  # when it was
        self._told_death = False
        self._told_at = 0.0  # when the message came
        self._refused = 0  # refusals of what is asked for now, one after another
        self._good: tuple[str | None, dict[str, Any]] | None = None  # the prompt and options that were last taken
        self._process: Process | None = None

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
    def recording(self) -> Recording | None:
        """The text that is going on, or the last."""
        return self.recordings[-1] if self.recordings else None

    @property
    def caption(self) -> str:
        """Which model writes, and of which step."""
        return f"{self.ready.model}@{self.ready.step:,}" if self.ready else self.model

    @property
    def refused(self) -> bool:
        """Whether what is asked for now was refused."""
        return self._refused > 0

    def remaining(self, now: float) -> float:
        """Seconds until the next text begins; 0 while one is going on."""
        return max(0.0, self._next_due - now) if self.state == "waiting" else 0.0

    @property
    def _next_due(self) -> float:
        """When the next text of these weights begins."""
        return max(self._due, self._ended + _UNSEEN * self.seconds) if self.slow and self._due else self._due

    def start(self) -> None:
        """Start the process, again where it has died."""
        if self._process is not None:
            self._process.close()
        self.ready, self._loading, self._running, self._due, self.message = None, False, 0, 0.0, ""
        self._told_death = self.whole = False
        self._halted = None
        newest = self._newest()
        if newest:
            self.model = newest[0]
        self._keeps_away = self._courteous()
        try:
            self._process = self._start(self.model)
        except TdiffError as why:
            self._process = _Never(str(why))

    def poll(self, now: float) -> bool:
        """Take in what the process said, and ask for the next text when it is time. True where something changed."""
        if self._process is None:
            return False
        before = self.state, self.message
        if self.message and self.ready and not self._refused and self._process.alive and now - self._told_at > _TOLD:
            self.message = ""
        answers = self._process.take()
        for answer in answers:
            self._fold(answer, now)
        if self._running:
            self.seconds = now - self._began
        if self._process.alive and not 0 <= now - self._asked < _MOVED:
            self._asked = now
            if self._courteous() != self._keeps_away and (not self._keeps_away or not self._running):
                self.start()
        if self.state == "dead" and not self._told_death:
            self._running, self._told_death = 0, True
            self.message = self._say_ended(str(self._process.reason))
        elif isinstance(self._process, _Never) and (newest := self._newest()) and newest != self._tried:
            self.start()  # what could not be loaded is another one by now
        elif (
            self.state == "waiting"
            and not self.resting
            and now >= self._due
            and (now >= self._next_due or self._newer() is not None)
        ):
            self._next(now)
        return bool(answers) or before != (self.state, self.message)

    def new_text(self) -> None:
        """Begin another text at once."""
        self._due, self._refused, self.whole = 0.0, 0, False
        if self._running and self._process is not None:
            self._process.send(Cancel(id=self._running))
            self._running = 0

    def hurry(self) -> None:
        """Ask again at once for what was refused: it is something else by now."""
        self._due = 0.0

    def set_prompt(self, prompt: str | None) -> None:
        """Go on from this text, or from the model's own openings where it is None."""
        self.prompt = prompt
        self.new_text()

    def set_option(self, name: str, value: Any) -> None:
        """Change a field of DecodeSettings, for the next text, which begins at once. Raises TdiffError."""
        options = self._options | {name: value}
        self.settings = self._settings_of(options)
        self._options = options
        self.new_text()

    def _settings_of(self, options: dict[str, Any]) -> DecodeSettings:
        """What the model makes of them. Raises TdiffError for what is no setting."""
        own = self.ready.decoding if self.ready else {}
        try:
            return DecodeSettings(**laid_over(own, options))
        except (TdiffError, TypeError):  # another version of the program may know other settings
            return DecodeSettings(**options)

    def next_decoder(self) -> str:
        """Change to the next decoder that the model's process knows."""
        names = list(self.ready.decoders) if self.ready and self.ready.decoders else sorted(DECODERS)
        names = [name for name in names if name in DECODERS] or sorted(DECODERS)
        here = names.index(self.settings.decoder) if self.settings.decoder in names else -1
        self.set_option("decoder", names[(here + 1) % len(names)])
        return self.settings.decoder

    @property
    def has_threshold(self) -> bool:
        """Whether the decoder has one to shift."""
        return self.settings.decoder in readers("threshold")

    def shift_threshold(self, steps: int) -> float:
        """Move the confidence threshold by so many times 0.05, within 0..1."""
        value = round(min(1.0, max(0.0, self.settings.threshold + steps * _THRESHOLD_STEP)), 4)
        self.set_option("threshold", value)
        return value

    def halt(self, now: float) -> None:
        """Stop the process where it is, since whoever looks stops too."""
        if self._process is not None and self._halted is None:
            self._process.halt()
            self._halted = now

    def go_on(self, now: float) -> None:
        """Let it go on; what it did not compute in takes no part of a text's seconds."""
        if self._process is not None and self._halted is not None:
            self._process.go_on()
            self._began += max(0.0, now - self._halted)
            self._halted = None

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.close()

    def _fold(self, answer: Answer | TraceLine, now: float) -> None:
        match answer:
            case Ready():
                self.ready, self._loading, self.message = answer, False, ""
                self.settings = self._settings_of(self._options)
            case Begin():
                self._id = answer.id
            case Refused():
                if answer.id in (None, self._running):
                    self._refuse(answer, now)
            case Cancelled():
                if answer.id == self._running:
                    self._finish(now)
            case TraceHeader():
                self._began = now
                if self._id == self._running:
                    self._good, self._refused = (self.prompt, self._options), 0
                    self.recordings.append(Recording(answer))
            case TraceStep() | TraceEnd():
                if self._id != self._running or not self.recordings:
                    return
                self.recordings[-1].take(answer)
                if isinstance(answer, TraceEnd):
                    self.whole, self.seconds = True, now - self._began
                    self._finish(now)
            case Scores():
                pass  # of texts that are being weighed, for which nobody asked here
            case _:
                assert_never(answer)

    def _refuse(self, answer: Refused, now: float) -> None:
        self.message, self._told_at = answer.text, now
        self._finish(now)
        if answer.id is None and self.ready is None:
            self._give_up(answer.text)
        elif answer.id is None:
            self._loading = False
        elif self._good is not None and self._good != (self.prompt, self._options):
            self.prompt, self._options = self._good  # what was asked for last cannot be: go on as before
            self.settings, self._due = self._settings_of(self._options), now
        elif self._good is None and self._left_to_right():
            self._options, self._due = self._of_drawing(), now
            self.settings = self._settings_of(self._options)
        else:  # it may be refused again, or memory may be free by then
            self._refused += 1
            self._due = now + min(_LONGEST_PAUSE, _PAUSE * 2**self._refused)

    def _left_to_right(self) -> bool:
        """Whether the model would write so by itself, and the options say otherwise."""
        own = self.ready.decoding.get("decoder") if self.ready else None
        return self.yields and own == "autoregressive" and self._options.get("decoder", own) != own

    def _of_drawing(self) -> dict[str, Any]:
        return {name: value for name, value in self._options.items() if name in SAMPLING}

    def _give_up(self, why: str) -> None:
        """The first model cannot be had: end the process, so that it is started again."""
        assert self._process is not None
        self._process.close()
        self._process, self._tried = _Never(why), self._newest()

    def _finish(self, now: float) -> None:
        self._running, self._due, self._ended = 0, now + self._every, now

    def _newer(self) -> tuple[str, float] | None:
        """Weights that are newer than those that are loaded, where nobody has asked for them yet."""
        newest = self._newest()
        if newest is None or self.ready is None or newest == self._tried:
            return None
        return newest if newest[0] != self.model or newest[1] > self.ready.weights else None

    def _next(self, now: float) -> None:
        assert self._process is not None
        if (newest := self._newer()) is not None:
            self._tried, self.model, self._loading = newest, newest[0], True
            self._process.send(Load(model=newest[0]))
            return
        turn = self.turn(now)
        if turn is None:
            return
        self._count += 1
        self._running, self._began, self.seconds, self.whole = self._count, now, 0.0, False
        self._process.send(
            Generate(
                id=self._count,
                prompt=turn.prompt,
                length=turn.length,
                seed=self._seed,
                row=turn.row,
                settings={k: v for k, v in self._options.items() if k != "seed"},
            )
        )

    def _own_turn(self, now: float) -> Turn:
        return Turn(self._count, self.prompt, self.length)
