"""Is anybody looking? While a screen or tmux session is detached, nothing need be drawn.

The answer costs a look at a socket file. What cannot be known counts as attached: a view that draws for nobody wastes
little, one that draws nothing for somebody is broken.
"""

from __future__ import annotations

import os
import stat
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

_FRESH, _SOON = 1.0, 0.2
"""Seconds for which an answer holds: that somebody looks, and that nobody does, who may come back to a dead screen."""
_TMUX_PAUSE = 2.0
"""Seconds between two questions to tmux, at least."""
_TMUX_AGE = 10.0
"""Seconds after which tmux is asked again though its socket has not changed: a client may have gone to another
session."""


class Attached:
    """Whether somebody is attached to the session we run in: `program` is screen, tmux or plain."""

    def __init__(
        self, program: str, environ: Mapping[str, str] | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        environ = os.environ if environ is None else environ
        self._clock = clock
        self._answer = True
        self._due = clock()
        self._look: Callable[[], bool] = lambda: True
        self._tmux: _Tmux | None = None
        if program == "screen" and environ.get("STY"):
            self._look = _Screen(environ).attached
        elif program == "tmux" and environ.get("TMUX"):
            self._tmux = _Tmux(environ, clock)
            self._look = self._tmux.attached

    def now(self) -> bool:
        """The answer, at most about a second old (in tmux with several sessions: ten). Never waits."""
        now = self._clock()
        if now >= self._due:
            self._answer = self._look()
            self._due = now + (_FRESH if self._answer else _SOON)
        return self._answer

    def close(self) -> None:
        """End a question that is under way."""
        if self._tmux:
            self._tmux.close()


class _Screen:
    """GNU screen marks the socket of an attached session as executable by its owner."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._socket = self._find()

    def attached(self) -> bool:
        for _ in range(2):
            if self._socket is None:
                return True
            try:
                return bool(self._socket.stat().st_mode & stat.S_IXUSR)
            except OSError:  # renamed: the number before the dot stays
                self._socket = self._find()
        return True

    def _find(self) -> Path | None:
        session = self._environ["STY"]
        number = session.partition(".")[0]
        for folder in _screen_folders(self._environ):
            with suppress(OSError):
                named = folder / session
                if named.exists():
                    return named
                if renamed := sorted(folder.glob(f"{number}.*")) if number.isdecimal() else []:
                    return renamed[0]
        return None


def _screen_folders(environ: Mapping[str, str]) -> Iterator[Path]:
    if environ.get("SCREENDIR"):
        yield Path(environ["SCREENDIR"])
    user = environ.get("LOGNAME") or environ.get("USER") or ""
    with suppress(ImportError, KeyError):
        import pwd

        user = pwd.getpwuid(os.geteuid()).pw_name
    for parent in ("/run/screen", "/var/run/screen", "/tmp/screens", "/tmp/uscreens"):
        yield Path(parent) / f"S-{user}"
    if environ.get("HOME"):
        yield Path(environ["HOME"]) / ".screen"
    if environ.get("TMPDIR"):
        yield Path(environ["TMPDIR"]) / ".screen"


class _Tmux:
    """tmux marks its socket as executable while a client is attached to any session, and knows which when asked."""

    def __init__(self, environ: Mapping[str, str], clock: Callable[[], float]) -> None:
        self._socket = environ["TMUX"].split(",")[0]
        self._pane = environ.get("TMUX_PANE", "")
        self._tty = _own_tty()
        self._clock = clock
        self._asked = float("-inf")
        self._changed = 0
        self._child: subprocess.Popen[str] | None = None
        self._ours = True

    def attached(self) -> bool:
        try:
            found = Path(self._socket).stat()
        except OSError:
            return True
        self._hear()
        if not found.st_mode & stat.S_IXUSR:
            self._ours = True  # whoever comes back comes to us, until tmux says otherwise
            return False
        age = self._clock() - self._asked
        if self._child is None and (age >= _TMUX_AGE or (age >= _TMUX_PAUSE and found.st_ctime_ns != self._changed)):
            self._changed = found.st_ctime_ns
            self._ask()
        return self._ours

    def close(self) -> None:
        if self._child:
            self._child.kill()
            self._child.communicate()
            self._child = None

    def _ask(self) -> None:
        self._asked = self._clock()
        where = ["-t", self._pane] if self._pane else []
        command = ["tmux", "-S", self._socket, "display-message", "-p", *where, "#{session_attached} #{pane_tty}"]
        with suppress(OSError):
            self._child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )

    def _hear(self) -> None:
        """Take the answer, where it has come; one that does not come is given up."""
        if self._child is None:
            return
        if self._child.poll() is None:
            if self._clock() - self._asked > _TMUX_AGE:
                self.close()
                self._ours = True
            return
        told, _ = self._child.communicate()
        self._child = None
        count, _, tty = told.strip().partition(" ")
        # Of a terminal that only inherited $TMUX, tmux knows nothing.
        self._ours = count != "0" or bool(self._tty and tty and tty != self._tty)


def _own_tty() -> str:
    for fd in (0, 1, 2):
        with suppress(OSError):
            return os.ttyname(fd)
    return ""
