"""The far side of `--detach`: runs a command within the session that was made for it, and reports how it begins.

`main`, which `detach` starts with the path of a private folder, reads what to run from `spec.json` there, with the
caller's environment, since the server of tmux has another one. Everything that the command prints goes to a log, and to
the terminal of the session if there is one. Signals go to the command: a training saves and stops.

The command finds the folder by the variable `FOLDER` of its environment, and reports there when its run is known and
when it has started (`report`); then the log moves into the folder of the run.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from tdiff.files import write_atomic

FOLDER = "TDIFF_DETACHED"
SPEC, STATUS, OVER = "spec.json", "status.json", "over.json"
LOG = "log"
"""The log's name in the folder of the run."""
_FROM_SESSION = ("TERM", "TMUX", "TMUX_PANE", "STY", "WINDOW")
"""Variables that belong to the session rather than to the caller."""
_FROM_TERMINAL, _FORWARDED = ("SIGINT", "SIGQUIT"), ("SIGHUP", "SIGTERM")
"""Signals that the command gets from the terminal as well, and signals that only this process may get: a terminal that
closes sends its hang-up to the first process of the session alone."""
_CHUNK = 1 << 16


def report(**values: Any) -> None:
    """Tell the caller of `--detach`, if there is one, such as `run`, its folder, or `first_step`, a text."""
    if folder := os.environ.get(FOLDER):
        _write(Path(folder) / STATUS, read(Path(folder) / STATUS) | values)


def _write(path: Path, values: dict[str, Any]) -> None:
    """Write a table to the private folder, unless the caller has gone, and the folder with it."""
    if path.parent.is_dir():
        with suppress(OSError):
            write_atomic(path, json.dumps(values).encode())


def read(path: Path) -> dict[str, Any]:
    """The table in a file of the private folder; empty if there is none yet."""
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


class _Log:
    """The log: a file beside the runs at first, and `log` in the folder of the run from when that is known."""

    def __init__(self, folder: Path, path: Path) -> None:
        self._folder, self._path, self._moved = folder, path, False
        self._file: IO[bytes] = path.open("ab", buffering=0)
        self.error = self.last = ""
        """The first line that is an error of tdiff, and the last line that is not empty."""
        self._rest = b""

    def write(self, data: bytes) -> None:
        """Append some output. A full disk does not end the run."""
        self._move()
        with suppress(OSError):
            self._file.write(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            text = line.decode("utf-8", "replace").strip()
            self.last = text or self.last
            if text.startswith("tdiff: ") and not self.error:
                self.error = text

    def _move(self) -> None:
        if self._moved or not (run := read(self._folder / STATUS).get("run")):
            return
        self._moved = True
        with suppress(OSError):
            file = (Path(run) / LOG).open("ab", buffering=0)
            file.write(self._path.read_bytes())
            self._file.close()
            self._file = file
            self._path.unlink()


def main() -> int:
    """Run the command. Returns its exit code."""
    folder = Path(sys.argv[1])
    spec = json.loads((folder / SPEC).read_bytes())
    (folder / SPEC).unlink()  # it contains the caller's environment
    children: list[subprocess.Popen[bytes]] = []
    _handle_signals(children)
    environment = spec["environment"] | {name: os.environ[name] for name in _FROM_SESSION if name in os.environ}
    log = _Log(folder, Path(spec["log"]))
    code, problem = 1, ""
    try:
        with subprocess.Popen(
            spec["command"],
            cwd=spec["cwd"],
            env=environment | {FOLDER: str(folder)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as child:
            children.append(child)
            assert child.stdout is not None
            while data := os.read(child.stdout.fileno(), _CHUNK):
                log.write(data)
                with suppress(OSError):  # the terminal of the session may be gone
                    os.write(1, data)
        code = child.returncode
    except OSError as error:
        problem = f"tdiff: {error}"
    log.write(b"")
    _write(folder / OVER, {"code": code, "error": problem or log.error, "last": log.last})
    return code


def _handle_signals(children: list[subprocess.Popen[bytes]]) -> None:
    """Outlive the command, and forward to it what it does not get itself."""

    def forward(number: int, _frame: object) -> None:
        for child in children:
            child.send_signal(number)

    for name in (*_FROM_TERMINAL, *_FORWARDED):
        if hasattr(signal, name):  # not SIG_IGN, which the command would inherit
            signal.signal(getattr(signal, name), forward if name in _FORWARDED else lambda *_: None)
