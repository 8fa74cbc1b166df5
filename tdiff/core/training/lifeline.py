"""Which of the processes that train together are alive.

Each counts in the store that all of them reach, from a thread, so that a long evaluation is not taken for death. Where
a count stands still, its process was killed, stopped or cut off.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta

from torch.distributed import PrefixStore, Store  # type: ignore[attr-defined]  # listed as private by its stubs

BEAT = 1.0
"""Seconds between two counts."""
SILENCE = 40.0
"""Seconds without a count after which a process is lost."""
_LOOK = 4.0
"""Seconds for which the counts are observed once an exchange has failed."""
_FAILED = 1
_FAILURES = "failures"
"""The key of the number of processes that have failed by themselves."""


class Lifeline:
    """The counts of all processes, as one of them sees them."""

    def __init__(self, store: Store, rank: int, size: int, host: str) -> None:
        self.rank, self.size = rank, size
        self.if_lost = "the command ends without a result: start it again"
        """What the loss of a process means, for the line about it."""
        self._own_host, self._hosts = host, dict[int, str]()
        self._store = PrefixStore("tdiff-lifeline", store)
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._count = 0
        self._seen: dict[int, tuple[bytes, float]] = {}
        """The last count of each other process, and when it changed."""

    def meet(self, limit: timedelta) -> None:
        """Wait until all processes are here. Raises RuntimeError after `limit`."""
        self._store.set(f"host/{self.rank}", f"{self._own_host} {os.getpid()}")
        keys = [f"host/{n}" for n in range(self.size)]
        try:
            self._store.wait(keys, limit)
        except RuntimeError:
            missing = [n for n, key in enumerate(keys) if not self._store.check([key])]
            if not missing:
                raise
            raise RuntimeError(f"process {missing[0]} of {self.size} has not come within {limit}") from None
        self._hosts = {n: self._store.get(key).decode() for n, key in enumerate(keys)}

    def host(self, rank: int) -> str:
        """The machine of a process."""
        return self._hosts.get(rank, "?").partition(" ")[0]

    def watch(self, exit_process: Callable[[int], object] = os._exit) -> None:
        """Count from now on, and leave this process with code 1 if another one falls silent."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, args=(exit_process,), daemon=True, name="lifeline")
            self._thread.start()

    def leave(self) -> None:
        """Say that this process has finished; the others do not miss it."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join(2 * BEAT)
        try:
            self._store.set(f"count/{self.rank}", "left")
        except RuntimeError:  # the store has ended with the process that had it
            return

    def fail_first(self) -> bool:
        """Whether no other process has failed by itself before this one, which says why and ends."""
        try:
            with self._lock:
                return self._store.add(_FAILURES, 1) == 1
        except RuntimeError:  # the store has ended with the process that had it
            return True

    def report(self, error: str) -> str:
        """After an exchange failed with `error`: the line about it, if this process is the one that prints it."""
        try:
            lost = self._standing_still()
            if self._has_failed():
                return ""
        except RuntimeError:  # the store has ended with the process that had it
            return self._line_of_store()
        if lost:
            return self._line(lost)
        first = error.strip().partition("\n")[0][:200]
        return "" if self.rank else f"the processes could not exchange their results: {first}; {self.if_lost}"

    def _standing_still(self) -> set[int]:
        """The processes that do not count for a while. Raises RuntimeError if the store is lost."""
        self._observe()
        before = {n: count for n, (count, _) in self._seen.items()}
        deadline = time.monotonic() + _LOOK
        while time.monotonic() < deadline:
            time.sleep(BEAT / 4)
            if self._thread is None:
                self._beat()
            self._observe()
        lost = {n for n, (count, _) in self._seen.items() if count == before.get(n) and count != b"left"}
        return lost | {n for n in range(self.size) if n != self.rank and n not in self._seen}

    def _line_of_store(self) -> str:
        """The line once the store is lost: it is with the first process, or with its launcher."""
        if self.rank:
            return self._line({0})
        return f"the launcher of the {self.size} processes has ended or does not answer; {self.if_lost}"

    def _line(self, lost: set[int]) -> str:
        """The line about `lost` processes; empty if a process before this one is alive and prints it."""
        if any(n not in lost for n in range(self.rank)):
            return ""
        number = min(lost)
        host, _, pid = self._hosts.get(number, "? ?").partition(" ")
        others = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
        return (
            f"process {number} of {self.size} ({host}, pid {pid}){others} has ended or does not answer; {self.if_lost}"
        )

    def _has_failed(self) -> bool:
        """Whether a process has failed by itself, and said why."""
        try:
            with self._lock:
                return self._store.check([_FAILURES])
        except RuntimeError:  # the store is lost
            return False

    def _beat(self) -> None:
        with self._lock:
            self._count += 1
            self._store.set(f"count/{self.rank}", str(self._count))

    def _observe(self) -> None:
        now = time.monotonic()
        with self._lock:
            for n in range(self.size):
                if n != self.rank and self._store.check([key := f"count/{n}"]):
                    count = self._store.get(key)
                    if n not in self._seen or self._seen[n][0] != count:
                        self._seen[n] = count, now

    def _watch(self, exit_process: Callable[[int], object]) -> None:
        began = time.monotonic()
        while not self._ended.wait(BEAT):
            try:
                self._beat()
                self._observe()
            except RuntimeError:  # the store is lost, and with it the first machine
                time.sleep(_LOOK)  # the exchange that fails in the main thread says more
                if self._ended.is_set():
                    return
                self._leave_process(self._line_of_store(), exit_process)
                return
            now = time.monotonic()
            silent = {n for n, (count, at) in self._seen.items() if count != b"left" and now - at > SILENCE}
            silent |= {n for n in range(self.size) if n not in self._seen and n != self.rank and now - began > SILENCE}
            if silent:
                self._leave_process("" if self._has_failed() else self._line(silent), exit_process)
                return

    def _leave_process(self, text: str, exit_process: Callable[[int], object]) -> None:
        if text:
            print(f"tdiff: {text}", file=sys.stderr, flush=True)
        exit_process(_FAILED)
