"""Queries to the terminal: how wide it draws a block, its background, and whether it is screen or tmux.

They are sent before anything is drawn, on /dev/tty, and each ends with one that every terminal answers (the cursor
position), so that no late answer is read as keys.
"""

from __future__ import annotations

import os
import select
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from tdiff.patterns import lazy

LIMIT = 0.2
"""Time limit in seconds for the first answer."""

_POSITION = "\x1b[6n"
_WIDTHS = f"\x1b7{_POSITION}█{_POSITION}\u28a0{_POSITION}\x1b8\x1b[K"
_BACKGROUND = "\x1b]11;?\x1b\\"
_IDENTITY = f"\x1b[>c{_POSITION}"
_IS_POSITION = lazy(rb"\x1b\[(\d+);(\d+)R")
_IS_BACKGROUND = lazy(rb"\x1b\]11;rgba?:([0-9a-fA-F]+)/([0-9a-fA-F]+)/([0-9a-fA-F]+)")
_IS_ANSWER = lazy(rb"\x1b\[[?>\d;]*[Rc]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)")
_IS_MODEL = lazy(rb"\x1b\[>(\d+);(\d+)(?:;\d+)?c")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """The answers of the terminal; None and "" where it gave none."""

    block: int | None = None
    """Width of a full block in cells."""
    braille: int | None = None
    """Width of a braille character in cells: more than 2 where its bytes are read as characters."""
    background: str = ""
    """dark or light."""
    program: str = ""
    """screen, tmux, or plain (neither of the two)."""
    version: str = ""
    """Version of screen, such as 4.09.00."""
    typed: bytes = b""
    """The other input: keys that were typed meanwhile."""


def ask(
    query_program: bool = True, query_background: bool = True, *, path: str = "/dev/tty", limit: float = LIMIT
) -> Answers:
    """Query the terminal. Answers are empty where it is silent for `limit` seconds, or for a background job.

    Widths are always queried; the program and the background only where the query itself is harmless, which the caller
    knows. All answers are read, and the terminal's settings are restored.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_NOCTTY)
    except OSError:
        return Answers()
    try:
        with _quiet(fd) as ready:
            if not ready:
                return Answers()
            start = time.monotonic()
            widths = _exchange(fd, _WIDTHS, 3, limit)
            positions = _IS_POSITION.findall(widths)
            if len(positions) < 3:
                return Answers(typed=_IS_ANSWER.sub(b"", widths))
            # A late answer would be read as keys: wait as long as this round trip may take.
            patience = limit + 4 * (time.monotonic() - start)
            query = (_BACKGROUND if query_background else "") + _IDENTITY
            identity = _exchange(fd, query, 1, patience) if query_program else b""
    finally:
        os.close(fd)
    block, braille = _width(positions[0], positions[1]), _width(positions[1], positions[2])
    program, version = _model(identity)
    return Answers(
        block=block,
        braille=braille,
        background=_background(identity),
        program=program,
        version=version,
        typed=_IS_ANSWER.sub(b"", widths + identity),
    )


@contextmanager
def _quiet(fd: int) -> Iterator[bool]:
    """The terminal without echo and line editing; False where this process may not change it."""
    try:
        import termios

        if os.tcgetpgrp(fd) != os.getpgrp():
            yield False
            return
        before = termios.tcgetattr(fd)
    except (ImportError, OSError, termios.error):
        yield False
        return
    quiet = termios.tcgetattr(fd)
    quiet[3] &= ~(termios.ECHO | termios.ICANON)
    quiet[6][termios.VMIN], quiet[6][termios.VTIME] = 0, 0
    termios.tcsetattr(fd, termios.TCSANOW, quiet)
    try:
        yield True
    finally:
        with suppress(termios.error):
            termios.tcsetattr(fd, termios.TCSANOW, before)  # without a flush: keys may wait there


def _exchange(fd: int, query: str, positions: int, seconds: float) -> bytes:
    """The input until `positions` cursor positions have arrived, or the time is over."""
    os.write(fd, query.encode())
    end = time.monotonic() + seconds
    received = b""
    while len(_IS_POSITION.findall(received)) < positions and (left := end - time.monotonic()) > 0:
        if select.select([fd], [], [], left)[0]:
            piece = os.read(fd, 4096)
            if not piece:
                break
            received += piece
    return received


def _width(before: tuple[bytes, bytes], after: tuple[bytes, bytes]) -> int | None:
    """Cells between two cursor positions; None where the line has wrapped between them."""
    width = int(after[1]) - int(before[1])
    return width if before[0] == after[0] and width > 0 else None


def _background(answer: bytes) -> str:
    match = _IS_BACKGROUND.search(answer)
    if not match:
        return ""
    red, green, blue = (int(part, 16) / (16 ** len(part) - 1) for part in match.groups())
    return "light" if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.5 else "dark"


def _model(answer: bytes) -> tuple[str, str]:
    """Program and version. GNU screen reports model 83 (S) and its version; tmux reports 84 (T)."""
    match = _IS_MODEL.search(answer)
    if not match:
        return "", ""
    if match[1] != b"83":
        return "tmux" if match[1] == b"84" else "plain", ""
    number = int(match[2])
    return "screen", f"{number // 10000}.{number // 100 % 100:02d}.{number % 100:02d}"


def tmux_version() -> str:
    """The version of the tmux server around this process, such as 3.3a; "" where it does not answer."""
    with suppress(OSError, subprocess.SubprocessError):
        command = ["tmux", "display-message", "-p", "#{version}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=0.5, stdin=subprocess.DEVNULL)
        return done.stdout.strip()
    return ""
