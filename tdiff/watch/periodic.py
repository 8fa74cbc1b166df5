"""A slow question, such as to a file system or a scheduler, that is asked from time to time without a wait."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

_LARGEST_SHARE = 0.02
"""The share of the time that the question may take, where it takes long."""


class Periodic(Generic[T]):
    """Calls a function in a thread, with pauses. Its answers are taken by calls of `poll`, which never wait."""

    def __init__(self, ask: Callable[[], T], pause: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Call `ask` for the first time `pause` seconds from now; `clock` gives seconds."""
        self._ask, self._pause, self._clock = ask, pause, clock
        self._thread: threading.Thread | None = None
        self._answers: list[T] = []
        self._failure: Exception | None = None
        self._next = clock() + pause
        self.stopped = False
        """Whether the function is not called any more."""

    def poll(self) -> list[T]:
        """The answer since the last call, if there is one. Starts the next call when it is due.

        Raises what the function raised.
        """
        if self._thread is not None and self._thread.is_alive():
            return []
        if self._failure is not None:
            raise self._failure
        self._thread = None
        answers, self._answers = self._answers, []
        if not self.stopped and self._clock() >= self._next:
            self._thread = threading.Thread(target=self._run, name="periodic", daemon=True)
            self._thread.start()
        return answers

    def soon(self) -> None:
        """Call the function at the next poll."""
        self._next = self._clock()

    def wait(self, seconds: float | None = None) -> None:
        """Wait until the call that runs has its answer, for so many seconds at most."""
        if self._thread is not None:
            self._thread.join(seconds)

    def _run(self) -> None:
        start = self._clock()
        try:
            self._answers.append(self._ask())
        except Exception as error:
            self._failure = error  # for the thread that polls
        finally:
            end = self._clock()
            self._next = end + max(self._pause, (end - start) / _LARGEST_SHARE)
