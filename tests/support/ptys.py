"""Programs on a pseudo-terminal, in tmux and in GNU screen: the bytes that they write, and the text on the screen."""

import contextlib
import fcntl
import os
import pty
import re
import select
import shutil
import struct
import subprocess
import tempfile
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

PATIENCE = 60.0
"""Time limit in seconds on a busy machine."""


class Pty:
    """A program on a new pseudo-terminal, which is its controlling terminal."""

    def __init__(self, command: list[str], columns: int = 80, lines: int = 24, **env: str) -> None:
        self.written = b""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            try:
                os.execvpe(command[0], command, clean(**env))
            finally:
                os._exit(127)
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def read(self, seconds: float = 0.0) -> bool:
        """Read its output; False once it has ended."""
        with contextlib.suppress(OSError):
            while select.select([self.fd], [], [], seconds)[0]:
                if not (piece := os.read(self.fd, 1 << 16)):
                    return False
                self.written += piece
                seconds = 0.0
            return True
        return False

    def until(self, text: bytes, after: int = 0) -> bytes:
        """Wait until its output since `after` contains `text`. Returns that output."""
        end = time.monotonic() + PATIENCE
        while text not in self.written[after:]:
            alive = self.read(0.05)
            assert alive or text in self.written[after:], f"ended without {text!r}: {self.written[-2000:]!r}"
            assert time.monotonic() < end, f"no {text!r} in {self.written[-2000:]!r}"
        return self.written[after:]

    def send(self, keys: bytes) -> None:
        os.write(self.fd, keys)

    def end(self, seconds: float = PATIENCE) -> int:
        """Wait until it has ended. Returns its exit code."""
        end = time.monotonic() + seconds
        while self.read(0.05):
            assert time.monotonic() < end, f"does not end: {self.written[-2000:]!r}"
        os.close(self.fd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def clean(**more: str) -> dict[str, str]:
    """The environment for a program in a test terminal: UTF-8, without variables of this process's terminal."""
    ours = r"NO_COLOR|FORCE_COLOR|COLORTERM|COLORFGBG|TMUX.*|STY|WINDOW|TERM.*|COLUMNS|LINES|SSH_.*|LC_.*|TEXTUAL.*"
    kept = {name: value for name, value in os.environ.items() if not re.fullmatch(ours, name)}
    return kept | {"LANG": "C.UTF-8", "TERM": "xterm-256color"} | more


def soon(what, seconds: float = PATIENCE) -> bool:
    """Whether `what()` becomes true within the time limit."""
    end = time.monotonic() + seconds
    while not (answer := what()) and time.monotonic() < end:
        time.sleep(0.05)
    return bool(answer)


@contextlib.contextmanager
def short_folder() -> Iterator[Path]:
    """A folder of mode 0700 with a short name: a socket's path has at most 108 bytes."""
    with tempfile.TemporaryDirectory(prefix="td", dir="/tmp") as folder:
        yield Path(folder)


class Tmux:
    """A tmux server with its default configuration."""

    def __init__(self, folder: Path) -> None:
        self.socket = str(folder / "t")

    def __call__(self, *arguments: str, **env: str) -> str:
        command = ["tmux", "-S", self.socket, "-f", "/dev/null", *arguments]
        done = subprocess.run(command, env=clean(**env), capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def attach(self, *more: str) -> Pty:
        return Pty(["tmux", "-S", self.socket, "attach", *more])


@contextlib.contextmanager
def tmux() -> Iterator[Tmux]:
    # What tmux passes on and draws is the case: a stand-in would only repeat what we believe of it. CI has it.
    if not shutil.which("tmux"):
        pytest.skip("TMUX IS MISSING: apt-get install tmux, or these paths stay untested")
    with short_folder() as folder:
        server = Tmux(folder)
        try:
            yield server
        finally:
            subprocess.run(["tmux", "-S", server.socket, "kill-server"], capture_output=True)


class Screen:
    """A GNU screen session with its default configuration."""

    name = "s"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {"SCREENDIR": str(folder), "HOME": str(folder), "SCREENRC": "/dev/null"}

    def start(self, *command: str, options: tuple[str, ...] = ("-U",), **env: str) -> None:
        where = clean(**self.env, **env)
        subprocess.run(["screen", *options, "-dmS", self.name, *command], env=where, check=True, timeout=PATIENCE)

    def command(self, *words: str) -> None:
        """Send a command to screen, such as `quit`."""
        subprocess.run(["screen", "-S", self.name, "-X", *words], env=clean(**self.env), capture_output=True)

    def attach(self) -> Pty:
        return Pty(["screen", "-U", "-r", self.name], **self.env)


@contextlib.contextmanager
def screen() -> Iterator[Screen]:
    # As for tmux: its own buffer, its own colours and its own way of passing keys are the case. CI has it.
    if not shutil.which("screen"):
        pytest.skip("GNU SCREEN IS MISSING: apt-get install screen, or these paths stay untested")
    with short_folder() as folder:
        session = Screen(folder)
        try:
            yield session
        finally:
            session.command("quit")


SGR = re.compile(rb"\x1b\[([\d;:]*)m")


def colour_codes(written: bytes) -> set[str]:
    """The colours in the SGR sequences: "38;5;166", "31", "49"; without attributes such as bold."""
    colours = set()
    for match in SGR.finditer(written):
        codes = re.split("[;:]", match[1].decode())
        while codes:
            code = codes.pop(0)
            if code in ("38", "48"):
                size = 2 if codes[0] == "5" else 4
                colours.add(";".join([code, *codes[:size]]))
                del codes[:size]
            elif code.isdecimal() and int(code) >= 30 and not 50 <= int(code) < 90:
                colours.add(code)
    return colours


def attributes(written: bytes) -> set[str]:
    """The attributes that were switched on, such as "1" for bold."""
    return {code for match in SGR.finditer(written) for code in match[1].decode().split(";") if code in set("12347")}
