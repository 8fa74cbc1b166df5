"""Questions to the terminal itself: how wide it draws a block, its ground, and whether it is screen or tmux.

They are asked before anything is drawn, on /dev/tty, and each is ended by one that every terminal answers (where is
the cursor?), so that no answer is left to be taken for keys.
"""

from __future__ import annotations

import os
import re
import select
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

LIMIT = 0.2
"""Seconds that the first answer may take."""

_WHERE = "\x1b[6n"
_WIDTHS = f"\x1b7{_WHERE}█{_WHERE}\u28a0{_WHERE}\x1b8\x1b[K"
_GROUND = "\x1b]11;?\x1b\\"
_WHO = f"\x1b[>c{_WHERE}"
_IS_PLACE = re.compile(rb"\x1b\[(\d+);(\d+)R")
_IS_GROUND = re.compile(rb"\x1b\]11;rgba?:([0-9a-fA-F]+)/([0-9a-fA-F]+)/([0-9a-fA-F]+)")
_IS_ANSWER = re.compile(rb"\x1b\[[?>\d;]*[Rc]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)")
_IS_MODEL = re.compile(rb"\x1b\[>(\d+);(\d+)(?:;\d+)?c")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What the terminal said; None and "" where it did not."""

    block: int | None = None
    """Cells that a full block takes."""
    braille: int | None = None
    """Cells that a braille character takes: more than 2 where its bytes are taken for characters."""
    ground: str = ""
    """dark or light."""
    program: str = ""
    """screen, tmux, or plain: neither of the two."""
    version: str = ""
    """Of screen, such as 4.09.00."""
    typed: bytes = b""
    """What else came: keys that were typed meanwhile."""


def ask(who: bool = True, ground: bool = True, *, path: str = "/dev/tty", limit: float = LIMIT) -> Answers:
    """Ask the terminal; nothing is known where it is silent for `limit` seconds, or where we are in the background.

    Widths are always asked for; `who` it is and its `ground` only where the question itself does no harm. The answers
    are read, and the terminal's settings are as before.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_NOCTTY)
    except OSError:
        return Answers()
    try:
        with _quiet(fd) as asked:
            if not asked:
                return Answers()
            begun = time.monotonic()
            widths = _exchange(fd, _WIDTHS, 3, limit)
            places = _IS_PLACE.findall(widths)
            if len(places) < 3:
                return Answers(typed=_IS_ANSWER.sub(b"", widths))
            # An answer that comes too late is of no use: wait as long as this way there and back may take.
            patience = limit + 4 * (time.monotonic() - begun)
            told = _exchange(fd, (_GROUND if ground else "") + _WHO, 1, patience) if who else b""
    finally:
        os.close(fd)
    block, braille = _width(places[0], places[1]), _width(places[1], places[2])
    program, version = _model(told)
    return Answers(
        block=block,
        braille=braille,
        ground=_ground(told),
        program=program,
        version=version,
        typed=_IS_ANSWER.sub(b"", widths + told),
    )


@contextmanager
def _quiet(fd: int) -> Iterator[bool]:
    """The terminal without echo and line editing; False where it is not ours to change."""
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


def _exchange(fd: int, question: str, places: int, seconds: float) -> bytes:
    """What comes back until `places` answers about the cursor have come, or the time is over."""
    os.write(fd, question.encode())
    end = time.monotonic() + seconds
    heard = b""
    while len(_IS_PLACE.findall(heard)) < places and (left := end - time.monotonic()) > 0:
        if select.select([fd], [], [], left)[0]:
            piece = os.read(fd, 4096)
            if not piece:
                break
            heard += piece
    return heard


def _width(before: tuple[bytes, bytes], after: tuple[bytes, bytes]) -> int | None:
    """Cells between two places; None where the line has ended between them."""
    width = int(after[1]) - int(before[1])
    return width if before[0] == after[0] and width > 0 else None


def _ground(told: bytes) -> str:
    found = _IS_GROUND.search(told)
    if not found:
        return ""
    red, green, blue = (int(part, 16) / (16 ** len(part) - 1) for part in found.groups())
    return "light" if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.5 else "dark"


def _model(told: bytes) -> tuple[str, str]:
    """GNU screen calls itself model 83 (S) and adds its version; tmux calls itself 84 (T)."""
    found = _IS_MODEL.search(told)
    if not found:
        return "", ""
    if found[1] != b"83":
        return "tmux" if found[1] == b"84" else "plain", ""
    number = int(found[2])
    return "screen", f"{number // 10000}.{number // 100 % 100:02d}.{number % 100:02d}"


def tmux_version() -> str:
    """The version of the tmux server we are in, such as 3.3a; "" where it does not answer."""
    with suppress(OSError, subprocess.SubprocessError):
        asked = ["tmux", "display-message", "-p", "#{version}"]
        done = subprocess.run(asked, capture_output=True, text=True, timeout=0.5, stdin=subprocess.DEVNULL)
        return done.stdout.strip()
    return ""
