"""When the next text of a live generation begins, and how long the current one has taken."""

from __future__ import annotations

_REFUSAL_PAUSE, _MAX_REFUSAL_PAUSE = 5.0, 300.0
"""Seconds before a refused request is sent again, doubled with each refusal."""
_SLOW_FACTOR = 19.0
"""In slow mode the pause is this many times the seconds of the last text: texts then take a twentieth of the time."""


class TextTimer:
    """Pauses between texts. All times are seconds of one clock that the caller reads."""

    def __init__(self, every: float) -> None:
        """`every`: seconds between two texts."""
        self.slow = False
        """Whether texts of the same weights are to be rare."""
        self.refusals = 0
        """Consecutive refusals of the current request."""
        self.seconds = 0.0
        """Seconds since the current text began, or that the last one took."""
        self.due = 0.0
        """When the next text may begin, with new weights at least."""
        self._every = every
        self._began = self._ended = 0.0
        self._halted: float | None = None

    @property
    def next_due(self) -> float:
        """When the next text of the same weights begins."""
        return max(self.due, self._ended + _SLOW_FACTOR * self.seconds) if self.slow and self.due else self.due

    def begin(self, now: float) -> None:
        """A text is requested."""
        self._began, self.seconds = now, 0.0

    def first_line(self, now: float) -> None:
        """The first line of the text came: its seconds count from here."""
        self._began, self.refusals = now, 0

    def tick(self, now: float) -> None:
        """The text is still being written."""
        self.seconds = now - self._began

    def end(self, now: float) -> None:
        """The text has ended, in whatever way."""
        self.due, self._ended = now + self._every, now

    def refuse(self, now: float) -> None:
        """The request was refused: send it again after a pause."""
        self.refusals += 1
        self.due = now + min(_MAX_REFUSAL_PAUSE, _REFUSAL_PAUSE * 2**self.refusals)

    def halt(self, now: float) -> bool:
        """The process is to stop. Returns False if it has been halted before."""
        if self._halted is not None:
            return False
        self._halted = now
        return True

    def resume(self, now: float) -> bool:
        """The process continues; the time between does not count. Returns False if it was not halted."""
        if self._halted is None:
            return False
        self._began += max(0.0, now - self._halted)
        self._halted = None
        return True

    def forget_halt(self) -> None:
        """The halted process was replaced by another one."""
        self._halted = None
