"""When a frame may be drawn: up to a frame rate, as many as the link carries, and none while no client is attached.

Textual hands frames to a thread that writes them, and stops answering keys once thirty wait there. So a frame is
skipped while more than the last one waits. Where that queue cannot be inspected, the time of the writes decides.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

MAX_RATE = 30.0
"""Frames a second."""
MIN_RATE = 2.0
"""Frames a second on the slowest link."""
_SLOWER, _FASTER = 0.7, 1.05
_EARLY = 0.25
"""Share of the shortest time between two frames by which a timer may be early."""


class Pacer:
    """Decides before every frame. The app may not have started yet."""

    def __init__(
        self,
        app: Any,
        *,
        max_rate: float = MAX_RATE,
        clock: Callable[[], float] = time.monotonic,
        computed: Callable[[], float] = time.thread_time,
    ) -> None:
        """`app` is a textual app, `max_rate` the frames a second on a fast link; both clocks give seconds."""
        self.share = 1.0
        """Share of a core that drawing may take: while a model computes on the same machine, each frame delays it."""
        self._computed = computed
        self._cpu_at_frame, self._time_of_frame = 0.0, -math.inf  # of the last frame
        self.paused = False
        """True while no client is attached: no frame is ready."""
        self.rate = max_rate
        """The current target in frames a second: less than `max_rate` on a slow link."""
        self._app, self._max_rate, self._clock = app, max_rate, clock
        self._due = clock()
        self._slowed = False  # since the last frame
        self._timed: Any = None  # the driver whose writing is timed
        self._spent = 0.0  # seconds that writing took since the last frame

    def ready(self) -> bool:
        """Whether a frame may be drawn now; a True counts as drawing it."""
        now = self._clock()
        if self._spent > 1 / self._max_rate:  # as much time for the keys as for the screen
            self._due = max(self._due, now + self._spent)
            self._slow_down()
        self._spent = 0.0
        if self.paused or now < self._due - _EARLY / self._max_rate:
            return False
        if now < self._time_of_frame + min((self._computed() - self._cpu_at_frame) / self.share, 1 / MIN_RATE):
            return False
        if self._behind():
            self._due = now + 1 / self._max_rate
            self._slow_down()
            return False
        if not self._slowed:
            self.rate = min(self._max_rate, self.rate * _FASTER)
        self._slowed = False
        self._due = max(self._due, now - 1 / self.rate) + 1 / self.rate
        self._time_of_frame, self._cpu_at_frame = now, self._computed()
        return True

    def _slow_down(self) -> None:
        """Reduce the rate, at most once per frame."""
        if not self._slowed:
            self._slowed, self.rate = True, max(MIN_RATE, self.rate * _SLOWER)

    def _behind(self) -> bool:
        """Whether more than the last frame is waiting to be written."""
        driver = getattr(self._app, "_driver", None)
        if driver is None:
            return False
        waiting = _waiting(driver)
        if waiting is None:
            self._time(driver)
            return False
        # A synchronized frame is three pieces: a start, the frame and an end.
        return waiting > (3 if getattr(self._app, "_sync_available", False) else 1)

    def _time(self, driver: Any) -> None:
        """Measure the time of `driver.write` from now on."""
        if driver is self._timed:
            return
        self._timed, write, clock = driver, driver.write, self._clock

        def timed(data: str) -> None:
            start = clock()
            write(data)
            self._spent += clock() - start

        with suppress(AttributeError):  # a driver with a fixed `write` is not timed
            driver.write = timed


def _waiting(driver: Any) -> int | None:
    """Pieces that the driver's thread has not written yet; None where that is unknown."""
    queue = getattr(getattr(driver, "_writer_thread", None), "_queue", None)
    try:
        return int(queue.qsize()) if queue is not None else None
    except (AttributeError, NotImplementedError, TypeError, ValueError):
        return None
