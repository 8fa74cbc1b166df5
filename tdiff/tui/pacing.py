"""When a frame may be drawn: no more than so many a second, none that the link cannot carry, none that nobody sees.

Textual hands frames to a thread that writes them, and stops answering keys once thirty wait there. So a frame is left
out while more than the last one waits. Where that queue cannot be looked into, the time that writing takes tells. It
draws nothing itself.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

MOST = 30.0
"""Frames a second."""
LEAST = 2.0
"""Frames a second that are tried on the slowest link."""
_SLOWER, _FASTER = 0.7, 1.05
_EARLY = 0.25
"""By how much of the shortest time between two frames a timer may be early."""


class Pacer:
    """Asked before every frame. The app may not have started yet."""

    def __init__(
        self,
        app: Any,
        *,
        most: float = MOST,
        clock: Callable[[], float] = time.monotonic,
        computed: Callable[[], float] = time.thread_time,
    ) -> None:
        """`app` is a textual app, `most` the frames a second on a quick link, `clock` and `computed` give seconds."""
        self.share = 1.0
        """Of a core that drawing may take: while a model computes on the same machine, each frame holds it up."""
        self._computed, self._began, self._frame = (
            computed,
            0.0,
            -math.inf,
        )  # processor time, and time, of the last frame
        self.paused = False
        """True while nobody is attached: no frame is ready."""
        self.rate = most
        """Frames a second that are aimed at now: fewer than `most` on a slow link."""
        self._app, self._most, self._clock = app, most, clock
        self._due = clock()
        self._slowed = False  # since the last frame
        self._timed: Any = None  # the driver whose writing is timed
        self._spent = 0.0  # seconds that writing took since the last frame

    def ready(self) -> bool:
        """Whether a frame may be drawn now; a True counts as drawing it."""
        now = self._clock()
        if self._spent > 1 / self._most:  # as long for the keys as for the screen
            self._due = max(self._due, now + self._spent)
            self._slow_down()
        self._spent = 0.0
        if self.paused or now < self._due - _EARLY / self._most:
            return False
        if now < self._frame + min((self._computed() - self._began) / self.share, 1 / LEAST):
            return False
        if self._behind():
            self._due = now + 1 / self._most
            self._slow_down()
            return False
        if not self._slowed:
            self.rate = min(self._most, self.rate * _FASTER)
        self._slowed = False
        self._due = max(self._due, now - 1 / self.rate) + 1 / self.rate
        self._frame, self._began = now, self._computed()
        return True

    def _slow_down(self) -> None:
        """Aim at fewer frames, once for each that was drawn."""
        if not self._slowed:
            self._slowed, self.rate = True, max(LEAST, self.rate * _SLOWER)

    def _behind(self) -> bool:
        """Whether more than the last frame waits to be written."""
        driver = getattr(self._app, "_driver", None)
        if driver is None:
            return False
        waiting = _waiting(driver)
        if waiting is None:
            self._time(driver)
            return False
        # A synchronized frame is three pieces: a beginning, the frame and an end.
        return waiting > (3 if getattr(self._app, "_sync_available", False) else 1)

    def _time(self, driver: Any) -> None:
        """Measure what `driver.write` takes from now on."""
        if driver is self._timed:
            return
        self._timed, write, clock = driver, driver.write, self._clock

        def timed(data: str) -> None:
            begun = clock()
            write(data)
            self._spent += clock() - begun

        with suppress(AttributeError):  # a driver that cannot be changed is not timed
            driver.write = timed


def _waiting(driver: Any) -> int | None:
    """Pieces that the driver's thread has not written yet; None where that cannot be known."""
    queue = getattr(getattr(driver, "_writer_thread", None), "_queue", None)
    try:
        return int(queue.qsize()) if queue is not None else None
    except (AttributeError, NotImplementedError, TypeError, ValueError):
        return None
