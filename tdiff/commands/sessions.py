"""Sessions that outlive the terminal of their caller: of tmux, of GNU screen, or a bare one of the system."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Sequence
from typing import Protocol

from tdiff.commands.external import output_of

_NOT_IN_NAMES = re.compile(r"[^\w-]", re.ASCII)
_TIMEOUT = 20.0
KINDS = ("tmux", "screen", "setsid")
"""The kinds of sessions, in the order in which they are preferred."""


class Session(Protocol):
    """A session in which a command runs."""

    kind: str
    name: str
    attach: str
    """The command that shows the session; "" if it has no terminal."""

    def start(self, command: Sequence[str]) -> None:
        """Run the command in a new session. Raises TdiffError with the reason if there is none."""

    def alive(self) -> bool:
        """Whether the session exists."""


def available(kind: str) -> bool:
    """Whether this machine has what a kind of session requires."""
    return kind == "setsid" or shutil.which(kind) is not None


def session(kind: str, name: str) -> Session:
    """A session that does not exist yet, of a name as similar to `name` as possible."""
    base = _NOT_IN_NAMES.sub("-", name)
    made = _BY_KIND[kind](base)
    number = 1
    while made.alive():
        number += 1
        made = _BY_KIND[kind](f"{base}-{number}")
    return made


class _Tmux:
    kind = "tmux"

    def __init__(self, name: str) -> None:
        self.name, self.attach = name, f"tmux attach -t {name}"

    def start(self, command: Sequence[str]) -> None:
        _run(["tmux", "new-session", "-d", "-s", self.name, "-x", "120", "-y", "40", shlex.join(command)])

    def alive(self) -> bool:
        return _succeeds(["tmux", "has-session", "-t", f"={self.name}"])


class _Screen:
    kind = "screen"

    def __init__(self, name: str) -> None:
        self.name, self.attach = name, f"screen -r {name}"

    def start(self, command: Sequence[str]) -> None:
        _run(["screen", "-dmS", self.name, *command])

    def alive(self) -> bool:
        try:
            done = subprocess.run(["screen", "-ls"], capture_output=True, text=True, timeout=_TIMEOUT)
        except (OSError, subprocess.SubprocessError):
            return False
        return re.search(rf"^\s+\d+\.{re.escape(self.name)}\s", done.stdout, re.MULTILINE) is not None


class _Setsid:
    kind, attach = "setsid", ""

    def __init__(self, name: str) -> None:
        self.name = name
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, command: Sequence[str]) -> None:
        null = subprocess.DEVNULL
        self._process = subprocess.Popen(command, stdin=null, stdout=null, stderr=null, start_new_session=True)

    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None


_BY_KIND: dict[str, Callable[[str], Session]] = {"tmux": _Tmux, "screen": _Screen, "setsid": _Setsid}


def _run(command: Sequence[str]) -> None:
    output_of(command, f"{command[0]} cannot start a session", _TIMEOUT)


def _succeeds(command: Sequence[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=_TIMEOUT).returncode == 0
    except (OSError, subprocess.SubprocessError):
        return False
