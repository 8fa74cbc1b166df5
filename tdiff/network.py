"""Network work in another thread, so that no wait is longer than a limit."""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")
_LAST_REPORT = 1.0  # seconds in which abandoned work may still remove its temporary files


class Abandoned(Exception):
    """Raised inside the work when no caller waits for its reports any more."""


def reports(
    work: Callable[[Callable[[T], None]], object],
    silence: float,
    seconds: float = math.inf,
    pulse: Callable[[], object] | None = None,
) -> Generator[T]:
    """Run `work(report)` in a daemon thread and yield what it reports, in order.

    Raises what `work` raises. Raises TimeoutError when no report arrives for `silence` seconds, or when all of it takes
    more than `seconds`. Before the first report, a changed value of `pulse` also counts as a sign of life.

    The timeouts of an HTTP library do not bound the lookup of a host name, a list of addresses that are tried in turn,
    or a server that sends one byte now and then. This limit does, because the caller does not wait for the thread.
    """
    # The queue is short because a disk can be slower than the network.
    reported: queue.Queue[tuple[T] | Exception | None] = queue.Queue(16)
    abandoned = threading.Event()

    def report(value: T) -> None:
        if abandoned.is_set():
            raise Abandoned
        reported.put((value,))

    def run() -> None:
        end: Exception | None = None
        try:
            work(report)
        except Exception as error:
            end = error
        reported.put(end)

    deadline = time.monotonic() + seconds
    last_pulse = pulse() if pulse else None
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    is_silent = False
    try:
        while True:
            try:
                message = reported.get(timeout=max(0.0, min(silence, deadline - time.monotonic())))
            except queue.Empty:
                latest_pulse = pulse() if pulse else None
                if latest_pulse != last_pulse and time.monotonic() < deadline:
                    last_pulse = latest_pulse
                    continue
                is_silent = True
                raise TimeoutError from None
            if isinstance(message, Exception):
                raise message
            if message is None:
                return
            pulse = last_pulse = None
            yield message[0]
    finally:
        abandoned.set()
        with suppress(queue.Empty):  # the thread may be waiting for room
            while True:
                reported.get_nowait()
        if not is_silent:
            thread.join(_LAST_REPORT)
