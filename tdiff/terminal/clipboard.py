"""Copying text into the paste buffer of tmux or GNU screen, with their own programs.

A terminal never confirms what was sent to its clipboard; tmux and GNU screen do report the content of their buffers.
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

_TIMEOUT = 2.0
"""Time limit in seconds for a command of tmux or screen."""
_READ = 0.5
"""Seconds after which GNU screen has read a file by its name."""


@dataclass(frozen=True, slots=True)
class Copied:
    """Where a text was copied."""

    buffer: str = ""
    """The program whose buffer has the text, with the key that pastes it; "" where none has it."""
    sent: bool = False
    """Whether tmux has sent it on to the terminal's clipboard."""

    def notice(self, count: int, *, sent: bool) -> str:
        """What the user is shown; `sent` says that the app has sent the text to the terminal's clipboard itself."""
        size = f"{count:,} character{'s' * (count != 1)}"
        if not self.buffer:
            return f"sent {size} to the terminal, which does not confirm it"
        if self.sent:
            return f"copied {size} to {self.buffer} and sent to the clipboard"
        return f"copied {size} to {self.buffer}" + ("; sent to the terminal too" if sent else "")


def copy_text(terminal: Terminal, text: str, environ: Mapping[str, str]) -> Copied:
    """Put text into the buffer of the tmux or GNU screen session that the view runs in. This may take seconds.

    A session on the other end of ssh cannot be reached: then nothing is done.
    """
    if terminal.program == "tmux" and environ.get("TMUX"):
        return _tmux(text.encode("utf-8", "replace"), environ)
    if terminal.program == "screen" and environ.get("STY"):
        return _screen(text.encode("utf-8", "replace"), environ)
    return Copied()


def _tmux(text: bytes, environ: Mapping[str, str]) -> Copied:
    buffer = "tmux (prefix ] pastes)"
    if _output(["tmux", "load-buffer", "-w", "-"], environ, text) is not None:
        features = _output(["tmux", "display-message", "-p", "#{client_termfeatures}"], environ)
        return Copied(buffer, b"clipboard" in (features or b""))
    # tmux before 3.2 has no -w.
    return Copied(buffer) if _output(["tmux", "load-buffer", "-"], environ, text) is not None else Copied()


def _screen(text: bytes, environ: Mapping[str, str]) -> Copied:
    # screen reads the file itself, some time after the command has ended.
    file, name = tempfile.mkstemp(prefix="tdiff-copy-")
    try:
        with os.fdopen(file, "wb") as opened:
            opened.write(text)
        command = ["screen", "-S", environ["STY"], "-X", "readbuf", "-e", "utf8", name]
        if _output(command, environ) is None:
            return Copied()
        time.sleep(_READ)
        return Copied("GNU screen (ctrl+a ] pastes)")
    finally:
        Path(name).unlink(missing_ok=True)


def _output(command: list[str], environ: Mapping[str, str], text: bytes = b"") -> bytes | None:
    """The output of a command; None where it failed."""
    try:
        done = subprocess.run(command, input=text, capture_output=True, timeout=_TIMEOUT, env=dict(environ))
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout if done.returncode == 0 else None
