"""Text copied by the multiplexer one sits in: into its own paste buffer, by its own program, and said in words.

A terminal never says whether it took what was sent to its clipboard; tmux and GNU screen do say what they hold.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tdiff.terminal.detect import Terminal

_PATIENCE = 2.0
"""Seconds that a program of the multiplexer may take."""
_READ = 0.5
"""Seconds after which GNU screen has read a file that it was named."""


@dataclass(frozen=True, slots=True)
class Copied:
    """What was done with a text."""

    buffer: str = ""
    """In whose buffer it is, and the key that pastes it; "" where it is in none."""
    sent: bool = False
    """Whether the multiplexer has sent it on to the terminal's clipboard."""

    def words(self, count: int, *, sent: bool) -> str:
        """The same for a user; `sent`: the app has sent it to the terminal's clipboard itself."""
        size = f"{count:,} character{'s' * (count != 1)}"
        if not self.buffer:
            return f"sent {size} to the terminal, which does not say whether it took them"
        if self.sent:
            return f"copied {size} to {self.buffer} and sent to the clipboard"
        return f"copied {size} to {self.buffer}" + ("; sent to the terminal too" if sent else "")


def copied(terminal: Terminal, text: str, environ: Mapping[str, str]) -> Copied:
    """Put text into the buffer of the tmux or the GNU screen that we run in, where it can be reached. May take a while.

    On the other end of ssh it cannot: then nothing is done.
    """
    if terminal.program == "tmux" and environ.get("TMUX"):
        return _tmux(text.encode("utf-8", "replace"), environ)
    if terminal.program == "screen" and environ.get("STY"):
        return _screen(text.encode("utf-8", "replace"), environ)
    return Copied()


def _tmux(text: bytes, environ: Mapping[str, str]) -> Copied:
    buffer = "tmux (prefix ] pastes)"
    if _done(["tmux", "load-buffer", "-w", "-"], environ, text) is not None:
        features = _done(["tmux", "display-message", "-p", "#{client_termfeatures}"], environ)
        return Copied(buffer, b"clipboard" in (features or b""))
    # Before 3.2 it knows no -w.
    return Copied(buffer) if _done(["tmux", "load-buffer", "-"], environ, text) is not None else Copied()


def _screen(text: bytes, environ: Mapping[str, str]) -> Copied:
    # It reads a file by itself, some time after the program that named it has ended.
    file, name = tempfile.mkstemp(prefix="tdiff-copy-")
    try:
        with os.fdopen(file, "wb") as opened:
            opened.write(text)
        command = ["screen", "-S", environ["STY"], "-X", "readbuf", "-e", "utf8", name]
        if _done(command, environ) is None:
            return Copied()
        time.sleep(_READ)
        return Copied("GNU screen (ctrl+a ] pastes)")
    finally:
        Path(name).unlink(missing_ok=True)


def _done(command: list[str], environ: Mapping[str, str], text: bytes = b"") -> bytes | None:
    """What a command printed; None where it failed."""
    try:
        done = subprocess.run(command, input=text, capture_output=True, timeout=_PATIENCE, env=dict(environ))
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout if done.returncode == 0 else None
