"""The live generations of one view: none, one, or two that write the same text side by side.

Two models are asked for the same row with the same seed, prompt and length, so that their texts can be compared. The
next row begins for both when both have finished the last one. This module knows neither the screen nor where the
processes run.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a log of another program has no model
    from tdiff.protocol.trace import TraceHeader
    from tdiff.watch.generation.session import Live, Turn

MAX_MODELS = 2
"""Models that write side by side."""


class ModelPair:
    """Up to two live generations, each with its own process."""

    def __init__(self, *lives: Live) -> None:
        """Two must have the same seed, length and prompt; the first one selects the default prompt of each row."""
        self.lives = lives
        self._row = 0  # the row that two write now
        self._requested = [-1] * len(lives)  # the row last requested from each
        self._prompt = lives[0].prompt if lives else None  # the common prompt of two
        if len(lives) == MAX_MODELS:
            for live in lives:
                live.turn, live.falls_back = partial(self._turn, live), True

    def __bool__(self) -> bool:
        return bool(self.lives)

    @property
    def started(self) -> bool:
        """Whether processes have been started."""
        return any(live.state != "off" for live in self.lives)

    @property
    def busy(self) -> bool:
        """Whether a model loads or writes."""
        return any(live.state in ("generating", "loading") for live in self.lives)

    @property
    def computes_here(self) -> bool:
        """Whether a model uses the processors of this machine now."""
        return any(live.state == "generating" and live.ready and live.ready.device == "cpu" for live in self.lives)

    def start(self) -> None:
        """Start the processes."""
        for live in self.lives:
            live.start()

    def restart(self, live: Live) -> None:
        """Restart the processes that have died; if none has, that of `live`."""
        for restarted in [live for live in self.lives if live.state == "dead"] or [live]:
            restarted.start()

    def poll(self, now: float) -> None:
        """Process the answers, and request the next text when it is due."""
        for live in self.lives:
            live.poll(now)

    def rest(self, resting: bool) -> None:
        """Begin no text for now, or continue."""
        for live in self.lives:
            live.resting = resting

    def halt(self, now: float) -> None:
        """Stop the processes until `resume`."""
        for live in self.lives:
            live.halt(now)

    def resume(self, now: float) -> None:
        """Continue the halted processes."""
        for live in self.lives:
            live.resume(now)

    def slow_down(self, slow: bool) -> None:
        """Make texts of the same weights rare, or as frequent as the options say."""
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
        """Generate from this prompt, or from the first model's default prompts if it is None."""
        self._row, self._prompt = self._row + 1, prompt
        for live in self.lives:
            live.set_prompt(prompt)

    def other(self, live: Live) -> Live | None:
        """The other of two; None if there is only one."""
        return next((other for other in self.lives if other is not live), None)

    def waits(self, live: Live) -> bool:
        """Whether it is idle until the other one has finished its text."""
        other = self.other(live)
        return live.state == "waiting" and other is not None and _can_continue(other) and other.state != "waiting"

    def remaining(self, live: Live, now: float) -> float:
        """Seconds until its next text begins, as far as time alone decides that."""
        return max(waiting.remaining(now) for waiting in self.lives if waiting is live or _can_continue(waiting))

    def _turn(self, live: Live, now: float) -> Turn | None:
        """The next text of one of two; None while it has to wait for the other."""
        from tdiff.watch.generation.session import Turn

        other = self.other(live)
        assert other is not None
        if live.prompt != self._prompt:  # a new prompt was refused and taken back: take it back for both
            self._row, self._prompt = self._row + 1, live.prompt
            other.set_prompt(live.prompt)
        if self._has_finished(live):
            if _can_continue(other) and (not self._has_finished(other) or other.remaining(now)):
                return None
            self._row += 1
            if other.refused and live.prompt is None:
                other.retry()  # another default prompt may be accepted
        prompt, length = live.prompt, live.length
        if prompt is None or not length:
            header = self._header_of_row()
            if header is None and live is not self.lives[0] and _can_continue(other):
                return None
            if header is not None:
                prompt = header.prompt if prompt is None else prompt
                length = length or header.cells - len(header.given)
        self._requested[self.lives.index(live)] = self._row
        return Turn(self._row, prompt, length)

    def _has_finished(self, live: Live) -> bool:
        """Whether it has written the current row to its end."""
        return self._requested[self.lives.index(live)] == self._row and live.complete

    def _header_of_row(self) -> TraceHeader | None:
        """The header of the current row, if one of the two has started it."""
        headers = [live.recording.header for live in self.lives if live.recording is not None]
        return next((header for header in headers if header.row == self._row), None)


def _can_continue(live: Live) -> bool:
    """Whether the other one may wait for it."""
    return live.state in ("loading", "generating", "waiting") and not live.refused
