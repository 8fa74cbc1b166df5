"""A connection to another machine: one ssh process, at whose other end the program `far` answers requests.

Nothing that a user can name is part of a shell command: folder, names and commands travel as JSON on stdin.
"""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import threading
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import resources
from types import TracebackType
from typing import IO, Any

from tdiff.errors import TdiffError
from tdiff.remote.far import READY
from tdiff.visible import visible_line
from tdiff.watch.sources.address import Address

_NO_PYTHON = "tdiff-no-python"
_MAX_NOISE = 1 << 20
"""Bytes that a login shell may write before the program begins."""
_MAX_LINE = 64 << 20
_MAX_ERRORS = 4096
_WAIT = 5.0
_PAYS = 0.6
"""The part of its size to which a sample has to shrink, so that data is sent compressed."""
# Constant, so that nothing in it is quoted for the user's login shell, which may be fish or csh.
_START = "exec sh -c " + shlex.quote(
    "for p in python3 python3.14 python3.13 python3.12 python3.11 python; do "
    'if command -v "$p" >/dev/null 2>&1 && '
    '"$p" -c "import sys; sys.exit(sys.version_info < (3, 8))" 2>/dev/null; then '
    'exec "$p" -u -c "import sys; f = sys.stdin.buffer; exec(f.read(int(f.readline())))"; '
    f"fi; done; echo {_NO_PYTHON}"
)


class ConnectionLost(TdiffError):
    """The connection has ended before an answer came."""


class Link:
    """The connection; a context manager. Requests raise TdiffError with what the other machine reports."""

    def __init__(self, address: Address, *, create: bool = False) -> None:
        """Connect, and enter the folder of the address, which is made if `create` is True.

        Raises TdiffError if there is no ssh client, no connection, no Python there, or no such folder.
        """
        self.address = address
        self.host = visible_line(address.host)
        self._errors = bytearray()
        command = [*address.command(), _START]
        pipe = subprocess.PIPE
        try:
            # In its own session ssh does not receive our Ctrl-C before this process has had its say.
            self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True)
        except OSError as error:
            raise TdiffError(f"ssh cannot be started: {error.strerror}") from None
        self._in, self._out = _stream(self._process.stdin), _stream(self._process.stdout)
        self._listener = threading.Thread(target=self._listen, args=(_stream(self._process.stderr),), daemon=True)
        self._listener.start()
        try:
            self._begin()
            self.facts = self.ask("open", path=address.path, at_home=address.at_home, create=create)
        except BaseException:
            self.close()
            raise

    @property
    def root(self) -> str:
        """The absolute path of the folder there."""
        return str(self.facts["root"])

    def has(self, program: str) -> bool:
        """Whether the other machine has tmux, screen, sbatch or rsync."""
        return program in self.facts["programs"]

    def ask(self, op: str, data: bytes = b"", **values: Any) -> dict[str, Any]:
        """Send a request and return its answer; `data` of the answer holds the bytes that come with it."""
        self.send(op, data, **values)
        return self.receive()

    def send(self, op: str, data: bytes = b"", **values: Any) -> None:
        """Send a request, whose answer `receive` returns later. Bytes that shrink are sent compressed."""
        smaller = _shrinks(data)
        body = zlib.compress(data, 1) if smaller else data
        head = json.dumps({"op": op, "size": len(body), "packed": smaller, **values})
        try:
            self._in.write(head.encode() + b"\n" + body)
            self._in.flush()
        except OSError:
            raise self._lost() from None

    def receive(self, on_line: Callable[[str, str], None] | None = None) -> dict[str, Any]:
        """The next answer. `on_line(stream, text)` takes the lines that a command prints before it ends."""
        while True:
            line = self._out.readline(_MAX_LINE)
            if not line.endswith(b"\n"):
                raise self._lost()
            try:
                values: dict[str, Any] = json.loads(line)
                size = int(values.pop("size"))
            except (ValueError, KeyError, TypeError, AttributeError):
                raise TdiffError(f"{self.host} sent an invalid answer: {visible_line(repr(line[:80]))}") from None
            values["data"] = self._out.read(size) if size else b""
            if len(values["data"]) != size:
                raise self._lost()
            if "error" in values:
                raise TdiffError(f"{self.host}: {visible_line(str(values['error']))}")
            if "line" not in values:
                return values
            if on_line:
                on_line(str(values["stream"]), str(values["line"]))

    def run(
        self,
        command: Sequence[str],
        on_line: Callable[[str, str], None] | None = None,
        environment: dict[str, str] | None = None,
    ) -> tuple[int, str, list[str]]:
        """Run a command in the folder there; a relative program is one of the folder. No shell reads its words.

        Returns its exit code, its stdout and the last lines of both streams. `{root}` in the environment is the folder.
        """
        out: list[str] = []
        last: list[str] = []

        def take(stream: str, line: str) -> None:
            last.append(line)
            del last[:-40]
            if stream == "stdout":
                out.append(line)
            if on_line:
                on_line(stream, line)

        self.send("run", command=list(command), environment=environment or {})
        return int(self.receive(take)["code"]), "\n".join(out), last

    def close(self) -> None:
        """End the connection, and with it a command that still runs."""
        with suppress(OSError):
            self._in.close()
        try:
            self._process.wait(_WAIT)
        except subprocess.TimeoutExpired:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
        self._listener.join(_WAIT)
        self._out.close()

    def __enter__(self) -> Link:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _begin(self) -> None:
        program = resources.files("tdiff.remote").joinpath("far.py").read_bytes()
        program = program.replace(b'if __name__ == "__main__":\n    main()', b"main()")
        with suppress(OSError):  # the reason is what ssh says
            self._in.write(f"{len(program)}\n".encode() + program)
            self._in.flush()
        noise = 0
        while line := self._out.readline(_MAX_LINE):
            word = line.decode("ascii", "replace").strip()
            if word == READY:
                self._errors.clear()
                return
            if word == _NO_PYTHON:
                raise TdiffError(f"{self.host} has no python3 on its PATH: tdiff requires Python 3.11 or newer there")
            noise += len(line)
            if noise > _MAX_NOISE:
                break
        raise self._lost(f"cannot connect to {self.host}")

    def _lost(self, what: str = "") -> ConnectionLost:
        with suppress(OSError):
            self._in.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_WAIT)
        self._listener.join(_WAIT)
        said = [line for line in self._errors.decode("utf-8", "replace").splitlines() if line.strip()]
        reason = said[-1].strip() if said else f"ssh ended with status {self._process.poll()}"
        return ConnectionLost(
            f"{what or f'the connection to {self.host} has ended'}: {visible_line(reason).rstrip('.')}"
        )

    def _listen(self, stream: IO[bytes]) -> None:
        with stream:
            for line in stream:
                self._errors = (self._errors + line)[-_MAX_ERRORS:]


def _shrinks(data: bytes) -> bool:
    """Whether compression pays, as it does for text; a fast network outruns it for less."""
    sample = data[: 1 << 16]
    return len(data) > 1 << 10 and len(zlib.compress(sample, 1)) < _PAYS * len(sample)


def _stream(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None
    return stream
