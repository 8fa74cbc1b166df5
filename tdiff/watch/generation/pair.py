"""The models that write in one view: none, one, or two, which write the same text side by side.

Two are asked for the same row with the same seed, prompt and length, so that what they write can be compared; another
row begins for both when both have written the last. It knows neither the screen nor where they run.
"""

from __future__ import annotations

from functools import partial

from tdiff.protocol.trace import TraceHeader
from tdiff.watch.generation.session import Live, Turn

MOST = 2
"""Models that write side by side."""


class ModelPair:
    """The live generations of a view, each with a process of its own."""

    def __init__(self, *lives: Live) -> None:
        """Up to two, of the same seed, length and prompt, the first of which tells the opening of each row."""
        self.lives = lives
        self._row = 0  # the row that two write now
        self._asked = [-1] * len(lives)  # the row that each was last asked for
        self._prompt = lives[0].prompt if lives else None  # what two have agreed on
        if len(lives) == MOST:
            for live in lives:
                live.turn, live.yields = partial(self._turn, live), True

    def __bool__(self) -> bool:
        return bool(self.lives)

    @property
    def started(self) -> bool:
        """Whether there are processes, or were."""
        return any(live.state != "off" for live in self.lives)

    @property
    def busy(self) -> bool:
        """Whether one of them loads or writes."""
        return any(live.state in ("generating", "loading") for live in self.lives)

    @property
    def computes_here(self) -> bool:
        """Whether one of them wants the processors of this machine now."""
        return any(live.state == "generating" and live.ready and live.ready.device == "cpu" for live in self.lives)

    def start(self) -> None:
        """Start the processes."""
        for live in self.lives:
            live.start()

    def restart(self, wanted: Live) -> None:
        """Start those again that have died; where none has, the one that is wanted."""
        for live in [live for live in self.lives if live.state == "dead"] or [wanted]:
            live.start()

    def poll(self, now: float) -> None:
        """Take in what the processes said, and ask for the next text when it is time."""
        for live in self.lives:
            live.poll(now)

    def rest(self, resting: bool) -> None:
        """Begin no text for now, or go on."""
        for live in self.lives:
            live.resting = resting

    def halt(self, now: float) -> None:
        """Stop the processes where they are."""
        for live in self.lives:
            live.halt(now)

    def go_on(self, now: float) -> None:
        """Let those go on that were halted."""
        for live in self.lives:
            live.go_on(now)

    def slow_down(self, slow: bool) -> None:
        """Begin texts of the same weights seldom, or as often as was asked for."""
        for live in self.lives:
            live.slow = slow

    def close(self) -> None:
        """End the processes."""
        for live in self.lives:
            live.close()

    def new_text(self) -> None:
        """Begin another text at once."""
        self._row += 1
        for live in self.lives:
            live.new_text()

    def set_prompt(self, prompt: str | None) -> None:
        """Go on from this text, or from the first model's own openings where it is None."""
        self._row, self._prompt = self._row + 1, prompt
        for live in self.lives:
            live.set_prompt(prompt)

    def beside(self, live: Live) -> Live | None:
        """The other of two."""
        return next((other for other in self.lives if other is not live), None)

    def waits(self, live: Live) -> bool:
        """Whether it has nothing to do before the other has gone on."""
        other = self.beside(live)
        return live.state == "waiting" and other is not None and _there(other) and other.state != "waiting"

    def remaining(self, live: Live, now: float) -> float:
        """Seconds until its next text begins, so far as time alone decides that."""
        return max(one.remaining(now) for one in self.lives if one is live or _there(one))

    def _turn(self, live: Live, now: float) -> Turn | None:
        """What one of two is asked for now; None while it has to wait for the other."""
        other = self.beside(live)
        assert other is not None
        if live.prompt != self._prompt:  # it was refused, and taken back: for both, or they could not be compared
            self._row, self._prompt = self._row + 1, live.prompt
            other.set_prompt(live.prompt)
        if self._has_written(live):
            if _there(other) and (not self._has_written(other) or other.remaining(now)):
                return None
            self._row += 1
            if other.refused and live.prompt is None:
                other.hurry()  # another opening may not be refused
        prompt, length = live.prompt, live.length
        if prompt is None or not length:
            begun = self._begun()
            if begun is None and live is not self.lives[0] and _there(other):
                return None
            if begun is not None:
                prompt = begun.prompt if prompt is None else prompt
                length = length or begun.cells - len(begun.given)
        self._asked[self.lives.index(live)] = self._row
        return Turn(self._row, prompt, length)

    def _has_written(self, live: Live) -> bool:
        """Whether it has written the row of now to its end."""
        return self._asked[self.lives.index(live)] == self._row and live.whole

    def _begun(self) -> TraceHeader | None:
        """How the row of now begins, where one of the two has begun it."""
        headers = [live.recording.header for live in self.lives if live.recording is not None]
        return next((header for header in headers if header.row == self._row), None)


def _there(live: Live) -> bool:
    """Whether it is worth waiting for."""
    return live.state in ("loading", "generating", "waiting") and not live.refused
