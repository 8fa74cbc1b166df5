"""Whether a client is attached: while a screen or tmux session is detached, nothing need be drawn.

The answer costs one `stat` of a socket file. An unknown state counts as attached: a view that draws unseen wastes
little, and a view that stays blank is broken.
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
"""Seconds for which an answer is valid: "attached"; "detached", after which the user may find a stale screen."""
_TMUX_PAUSE = 2.0
"""Minimum seconds between two queries to tmux."""
_TMUX_AGE = 10.0
"""Seconds after which tmux is queried again though its socket has not changed: a client may have switched sessions."""


class Attached:
    """Whether a client is attached to the session that the view runs in; `program` is screen, tmux or plain."""

    def __init__(
        self, program: str, environ: Mapping[str, str] | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        environ = os.environ if environ is None else environ
        self._clock = clock
        self._answer = True
        self._due = clock()
        self._query: Callable[[], bool] = lambda: True
        self._tmux: _Tmux | None = None
        if program == "screen" and environ.get("STY"):
            self._query = _Screen(environ).attached
        elif program == "tmux" and environ.get("TMUX"):
            self._tmux = _Tmux(environ, clock)
            self._query = self._tmux.attached

    def now(self) -> bool:
        """The current answer, at most about a second old (ten in tmux with several sessions). It never waits."""
        now = self._clock()
        if now >= self._due:
            self._answer = self._query()
            self._due = now + (_FRESH if self._answer else _SOON)
        return self._answer

    def close(self) -> None:
        """End a query that is running."""
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
    """tmux marks its socket as executable while a client is attached to any session; a query says to which."""

    def __init__(self, environ: Mapping[str, str], clock: Callable[[], float]) -> None:
        self._socket = environ["TMUX"].split(",")[0]
        self._pane = environ.get("TMUX_PANE", "")
        self._tty = _tty()
        self._clock = clock
        self._asked = float("-inf")
        self._changed = 0
        self._child: subprocess.Popen[str] | None = None
        self._ours = True

    def attached(self) -> bool:
        try:
            status = Path(self._socket).stat()
        except OSError:
            return True
        self._read_answer()
        if not status.st_mode & stat.S_IXUSR:
            self._ours = True  # assume that a returning client attaches to our session, until tmux says otherwise
            return False
        age = self._clock() - self._asked
        if self._child is None and (age >= _TMUX_AGE or (age >= _TMUX_PAUSE and status.st_ctime_ns != self._changed)):
            self._changed = status.st_ctime_ns
            self._ask()
        return self._ours

    def close(self) -> None:
        if self._child:
            self._child.kill()
            self._child.communicate()
            self._child = None

    def _ask(self) -> None:
        self._asked = self._clock()
        target = ["-t", self._pane] if self._pane else []
        command = ["tmux", "-S", self._socket, "display-message", "-p", *target, "#{session_attached} #{pane_tty}"]
        with suppress(OSError):
            self._child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )

    def _read_answer(self) -> None:
        """Read the answer where it has arrived; stop waiting after a time limit."""
        if self._child is None:
            return
        if self._child.poll() is None:
            if self._clock() - self._asked > _TMUX_AGE:
                self.close()
                self._ours = True
            return
        output, _ = self._child.communicate()
        self._child = None
        count, _, tty = output.strip().partition(" ")
        # tmux does not know a terminal that only inherited $TMUX.
        self._ours = count != "0" or bool(self._tty and tty and tty != self._tty)


def _tty() -> str:
    for fd in (0, 1, 2):
        with suppress(OSError):
            return os.ttyname(fd)
    return ""
