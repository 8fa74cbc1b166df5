"""A thread that ends the program once its terminal has closed or a signal asks it to end, whatever state it is in.

It waits in one system call for a hang-up of the terminal or a byte in a pipe. Then it asks the event loop to leave,
and if the program still runs after some seconds (its event loop may be blocked in a write that no process reads) it
kills the processes that were started and ends the program. It takes no lock that another thread could hold, and a
signal handler needs only one `os.write` to alarm it.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable
from contextlib import suppress

PATIENCE = 2.0
"""Seconds that an orderly exit may take."""


class Watchdog:
    """Watches one terminal. `leave` is called once, from the watchdog's thread; `kill` just before a forced exit."""

    def __init__(
        self, fd: int, leave: Callable[[], None], kill: Callable[[], None], *, patience: float = PATIENCE
    ) -> None:
        self._fd, self._leave, self._kill, self._patience = fd, leave, kill, patience
        self.called = False
        """Whether the program must end."""
        self._read_end, self._write_end = os.pipe()
        os.set_blocking(self._write_end, False)  # a signal handler never waits
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._thread.start()

    def alarm(self) -> None:
        """End the program now. It may be called from a signal handler, and from any thread."""
        self.called = True
        with suppress(OSError):
            os.write(self._write_end, b"!")

    def close(self) -> None:
        """Stop watching and close the pipe: the program left the terminal by itself. An alarm raised before still ends
        the program. Call it where no signal handler calls `alarm` any more.
        """
        write_end, self._write_end = self._write_end, -1
        with suppress(OSError):
            os.write(write_end, b".")
            os.close(write_end)

    def _watch(self) -> None:
        if not self._called():
            os.close(self._read_end)
            return
        with suppress(Exception):  # the loop may be closed
            self._leave()
        time.sleep(self._patience)  # an orderly exit ends this thread too
        with suppress(Exception):
            self._kill()
        os._exit(1)

    def _called(self) -> bool:
        """Wait for a hang-up or an alarm; False where the program left by itself."""
        if not hasattr(select, "poll"):  # pragma: no cover - Windows
            return os.read(self._read_end, 1) == b"!"
        poll = select.poll()
        poll.register(self._read_end, select.POLLIN)
        with suppress(OSError, ValueError):
            poll.register(self._fd, 0)  # a hang-up is always reported
        while True:
            for fd, event in poll.poll():
                if fd == self._read_end:
                    return os.read(self._read_end, 1) == b"!"
                if event & (select.POLLHUP | select.POLLERR):
                    self.called = True
                    return True
                poll.unregister(fd)  # this file cannot be polled: its reader sees the end of the input
