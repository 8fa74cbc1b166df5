"""Reads the hosts of the watched runs again and again: at most once a second, seldom while they are not shown."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

from tdiff.watch.devices.readers import Reader
from tdiff.watch.devices.reading import Devices

VISIBLE, HIDDEN = 1.0, 15.0
"""Seconds between readings while they are shown, and while only the alerts need them."""
FIND = 30.0
"""Seconds between searches for the processes of a job; between them only their figures are read."""
_HOLD = 4.0
"""A host that takes long to answer is asked seldom: the pause is this many times as long as the answer takes."""
_SHARE, _SHARE_ELSEWHERE = 0.01, 0.05
"""The share of a core that reading may cost, on this host and on another; it is read less often if it costs more."""
_LONGEST_PAUSE, _LONGEST_FIND = 30.0, 600.0
_HISTORY = 1024
"""Loads that are stored for each GPU."""


class Monitor:
    """The readings of one host."""

    def __init__(self, reader: Reader, host: str = "") -> None:
        """`host`: its name; "" for this host."""
        self.host = host
        self.devices = Devices(host)
        """The newest reading."""
        self.read_gpus = True
        """False where another monitor reads the GPUs of the same host."""
        self.answered = False
        """Whether a reading has come, or has failed."""
        self._reader = reader
        self._share = _SHARE_ELSEWHERE if host else _SHARE
        self._asked = self._found = -math.inf
        self._pause = self._find_pause = 0.0
        self._finding = False
        self._cost_known = False
        self._spent = 0.0
        self._read_at: float | None = None
        self._histories: dict[str, deque[tuple[float, float]]] = {}

    @property
    def own_host(self) -> str:
        """The name that the host gives itself; "" while unknown."""
        return self._reader.interpreter.host

    def replace_reader(self, reader: Reader) -> None:
        """Use another reader from now on."""
        self._reader.close()
        self._reader, self._asked, self._found, self._cost_known, self._spent = reader, -math.inf, -math.inf, False, 0.0

    def update(self, now: float, interval: float | None, known: Sequence[int]) -> bool:
        """Take in what has come, and ask again after `interval` seconds; None: do not ask. Returns whether it is new.

        `known`: for each watched file the process that writes it, or 0.
        """
        new = self._reader.poll(now)
        if new:
            self._take(now)
        elif self._reader.waiting and self._reader.interpreter.problem != self.devices.problem:
            self._publish(now)
            new = True
        early = self._asked <= now < self._asked + max(interval or 0.0, self._pause)
        if interval is None or self._reader.waiting or early:
            return new
        find = not self._found <= now < self._found + max(FIND, self._find_pause)
        if self._reader.ask(now, gpus=self.read_gpus, find=find, known=known):
            self._asked, self._finding = now, find
            self._found = now if find else self._found
        return new

    def close(self) -> None:
        """End the reading."""
        self._reader.close()

    def _take(self, now: float) -> None:
        self.answered = True
        spent, self._spent = self._reader.spent - self._spent, self._reader.spent
        cost = max(0.0, spent) if self._cost_known else 0.0  # the first one includes the start
        self._cost_known = True
        if self._finding:
            self._find_pause = min(_LONGEST_FIND, cost / self._share)
        else:
            self._pause = min(_LONGEST_PAUSE, max(_HOLD * (now - self._asked), cost / self._share))
        interpreter = self._reader.interpreter
        if not interpreter.problem:
            self._read_at = now
            for gpu in interpreter.gpus:
                history = self._histories.setdefault(gpu.index, deque(maxlen=_HISTORY))
                history.append((now, math.nan if gpu.load is None else gpu.load))
        self._publish(now)

    def _publish(self, now: float) -> None:
        interpreter = self._reader.interpreter
        self.devices = Devices(
            self.host,
            interpreter.source,
            interpreter.gpus if self.read_gpus else (),
            interpreter.jobs,
            interpreter.problem if self.read_gpus else "",
            read_at=self._read_at,
            histories=self._histories,
        )
