"""A file on another host, followed through one `ssh` process.

The other host needs a POSIX sh, ls, head, tail, cksum and sleep. It receives a script on stdin, so that no login shell
reads it. The script writes the file's bytes in frames. A frame counts only after the script has checked, having sent
it, that the file is still the same. The next connection continues after the last counted frame, so a dropped
connection loses nothing and repeats nothing; `tail -F` would lose what is written during a drop, and would repeat lines
when it is started again. Like other sources, this one does not interpret its lines.

The same connection carries requests for the state of the GPUs there, on stdin, and the answers, on stderr. A process of
its own answers them, so that a GPU driver that hangs does not delay the file.
"""

from __future__ import annotations

import math
import os
import secrets
import select
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

from tdiff.visible import visible_line
from tdiff.watch.devices import script as devices
from tdiff.watch.devices.answers import Answer, Answers
from tdiff.watch.generation import processes
from tdiff.watch.jobs.job import UNKNOWN, Job
from tdiff.watch.jobs.slurm import is_unknown, parse_jobs
from tdiff.watch.sources.address import Address
from tdiff.watch.sources.folder_files import shortened
from tdiff.watch.sources.local import LineSplitter, Read, Status
from tdiff.watch.sources.ssh_script import SCRIPT
from tdiff.watch.sources.transcode import FileSplitter, begins_text

_NEWEST = 16 << 20
"""Of a bigger file only this many bytes are read, from its end."""
_CHUNK = 1 << 20
"""The most bytes in one frame; the first frames are smaller, so that a slow link shows something soon."""
_UNPACK = "ssh HOST zcat FILE | tdiff watch - reads it"
_CONVERT = "copy it here to read it"
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0
_SILENCE = 60.0
"""Seconds without a message after which a connection counts as dead; the other host sends one every five seconds."""

_AT_REST = 5.0
"""Seconds without a byte after which the newest step of an event file, which further values might join, is read."""
_IDLE = 120
"""Pauses of the script, of half a second or more, without news, after which it searches a folder for a newer file."""
_MOST_OTHERS = 3
"""Names of other files in the folder that are shown."""
_GZIP = b"\x1f\x8b"
_WAITS = {"missing": "is not there yet; waiting for it", "kind": "is not a file", "closed": "is not readable there"}
_WAITS["empty"] = "has no log with a loss in it yet; waiting for one"


class Frames:
    """Splits what the other host writes into messages, once its banner has come."""

    def __init__(self, banner: str) -> None:
        self._banner = banner.encode() + b"\n"
        self._started = False
        self._buffer = bytearray()

    def take(self, data: bytes) -> Iterator[tuple[list[str], bytes]]:
        """Yield the words and bytes of each message that `data` completes. Raises ValueError at anything else."""
        self._buffer += data
        if not self._started:  # a login shell may write text before the banner
            at = self._buffer.find(self._banner)
            if at < 0:
                del self._buffer[: -len(self._banner)]
                return
            del self._buffer[: at + len(self._banner)]
            self._started = True
            yield ["hello"], b""
        while (end := self._buffer.find(b"\n", 0, 128)) >= 0:
            words = self._buffer[:end].decode("ascii").split()
            size = int(words[1]) if words[0] in ("D", "H", "P", "S") else 0
            if not 0 <= size <= _CHUNK:
                raise ValueError(size)
            if len(self._buffer) < end + 1 + size:
                return
            payload = bytes(self._buffer[end + 1 : end + 1 + size])
            del self._buffer[: end + 1 + size]
            yield words, payload
        if len(self._buffer) >= 128:
            raise ValueError


class SshSource:
    """The lines of a file on another host."""

    def __init__(self, address: Address) -> None:
        """Connects at the first read. Raises TdiffError if there is no ssh client."""
        self.name = address.label
        self.offset = 0
        """Bytes of the file that have been read or skipped."""
        self._address = address
        self._command = [*address.command(), "exec sh"]
        self._process: subprocess.Popen[bytes] | None = None
        self._frames = Frames("")
        self._inode = self._mark = "0"
        self._lines: LineSplitter = FileSplitter()
        self._unreadable = False  # whether it is no text, and its beginning was skipped
        self._torn_start = False  # whether the next line began before the first offset
        self._chunk = b""
        self._errors = bytearray()
        self._connected = self._current = False
        self._problem = f"connecting to {address.host}"
        self._note = ""
        self._chosen = b""  # the file that is read in a folder
        self.choice = ""
        """Which file is read in a folder, and what else there is: one sentence, safe to print."""
        self.short = ""
        """The end of the path of that file, safe to print."""
        self.job: Job | None = None
        """The Slurm job that was named."""
        self._job_problem = ""
        self._attempts = 0
        self._reconnect_at = -math.inf  # by the monotonic clock
        self._last_message = 0.0
        self._newest_byte: float | None = None
        self.connections = 0
        """How often it has connected."""
        self._answers = Answers("")  # about the devices there
        self._device_answers: list[Answer] = []
        self._serving = False  # whether the script is running, so that it reads requests
        self._named: bytes | None = None  # the file whose processes it searches for

    def read(self, limit: int = 1 << 20) -> Read:
        """Read at most about `limit` more bytes."""
        if not self._process:
            if time.monotonic() < self._reconnect_at:
                return Read()
            self._connect()
            if not self._process:
                return Read()
        data, ended = self._receive(limit)
        lines: list[str] = []
        reset = False
        try:
            for words, payload in self._frames.take(data):
                if words[0] == "R":
                    reset, lines = reset or self.offset > 0, []
                lines += self._process_message(words, payload)
        except (ValueError, LookupError):
            self._drop("the other host sent an invalid message")
        else:
            if ended:
                self._drop()
            elif time.monotonic() - self._last_message > _SILENCE:
                self._drop(f"no message for {_SILENCE:.0f} s")
        return Read(lines, reset, has_more=self._waiting())

    def status(self) -> Status:
        """Connected while the other host answers; `current` once everything there has been read."""
        text = "; ".join(filter(None, (self._problem, self._note, self._lines.note())))
        if not self._process and (wait := self._reconnect_at - time.monotonic()) > 0:
            text += f"; reconnecting in {math.ceil(wait)} s"
        age = None if self._newest_byte is None else time.monotonic() - self._newest_byte
        return Status(self._connected, visible_line(text), self._lines.cut, self.offset, age, self._current)

    def close(self) -> None:
        """End the ssh process."""
        self._reconnect_at = math.inf
        self._end()

    def ask_devices(self, line: str) -> bool:
        """Send a request to the script of `devices`. Returns whether it was sent. Does not block."""
        if not self._process or not self._process.stdin or not self._serving:
            return False
        file = self.file
        naming = devices.name_file(file) if file is not None and file != self._named else ""
        try:
            sent = self._process.stdin.write((naming + line).encode()) == len(naming + line)
            self._named = file if sent else self._named
            return sent
        except OSError:  # the connection has ended, or does not take anything now
            return False

    @property
    def file(self) -> bytes | None:
        """The file that is read in a folder, or that a job writes; None where the user named the file."""
        if self.job is not None and self.job.output is not None:
            return os.fsencode(self.job.output)
        return self._chosen or None

    def device_answers(self) -> list[Answer]:
        """The answers to such requests since the last call."""
        answers, self._device_answers = self._device_answers, []
        return answers

    def _connect(self) -> None:
        banner = f"tdiff-{secrets.token_hex(8)}"
        token = devices.new_token()
        # A scheduler that does not answer now must not end the reading of a file that is known.
        known = self.job is not None and self.file
        file = shlex.quote(os.fsdecode(known)) if known else self._address.quoted
        script = SCRIPT.format(
            banner=banner, file=file, inode=self._inode, offset=self.offset, mark=self._mark,
            most=_NEWEST, chunk=_CHUNK, idle=_IDLE, job=self._address.job,
            chosen=shlex.quote(self._chosen.decode("utf-8", "surrogateescape")),
            devices=devices.functions(token, '"${watched:-$f}"'),
        )  # fmt: skip
        pipe = subprocess.PIPE
        try:
            # In its own session ssh neither uses our terminal nor receives its Ctrl-C.
            self._process = subprocess.Popen(
                self._command, stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0, start_new_session=True
            )
        except OSError as error:
            self._drop(f"ssh cannot be started: {error.strerror}")
            return
        processes.started(self._process.pid)
        assert self._process.stdin and self._process.stdout and self._process.stderr
        for stream in (self._process.stdout, self._process.stderr):
            os.set_blocking(stream.fileno(), False)
        with suppress(OSError):  # its stderr gives the reason
            self._process.stdin.write(script.encode("utf-8", "surrogateescape"))
            os.set_blocking(self._process.stdin.fileno(), False)
        self._answers, self._serving, self._named = Answers(token), False, None
        self.connections += 1
        self._frames = Frames(banner)
        self._errors.clear()
        self._last_message = time.monotonic()

    def _receive(self, limit: int) -> tuple[bytes, bool]:
        """The new bytes, and whether the stream has ended."""
        assert self._process and self._process.stdout and self._process.stderr
        data, ended = bytearray(), False
        with suppress(BlockingIOError):
            while len(data) < limit and not ended:
                part = os.read(self._process.stdout.fileno(), min(limit - len(data), 1 << 16))
                data, ended = data + part, not part
        if ended:  # so that its last messages are read
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(0.05)
        with suppress(BlockingIOError):
            while part := os.read(self._process.stderr.fileno(), 4096):
                answers, errors = self._answers.take(part)
                self._device_answers += answers
                self._errors = (self._errors + errors)[-4096:]
        if data:
            self._last_message = time.monotonic()
        return bytes(data), ended

    def _process_message(self, words: list[str], payload: bytes) -> list[str]:
        """Process one message. Returns the lines that it completes."""
        self._current, self._serving = False, words[0] != "hello"
        match words:
            case ["hello"]:
                self._connected, self._problem = True, ""
                self._errors.clear()
            case ["R", inode, offset, *mark]:
                self._inode, self.offset, self._mark = str(int(inode)), int(offset), self._digits(mark)
                self._lines, self._note = LineSplitter() if self.offset else FileSplitter(), ""
                self._torn_start, self._unreadable = self.offset > 0, False
                self._problem = ""
            case ["H", _]:
                if not begins_text(payload):
                    self._unreadable = True
                    remedy = _UNPACK if payload.startswith(_GZIP) else _CONVERT
                    self._note = f"not read: more than 16 MiB that are not plain text; {remedy}"
                    return []
                self._note = f"only the newest 16 MiB are read; {self.offset:,} bytes skipped"
                return LineSplitter().feed(payload)[:1]  # the heading of a table, or the start record of a run
            case ["D", _]:
                self._chunk = payload
            case ["K", offset, mark, *age]:
                if int(offset) != self.offset + len(self._chunk):
                    raise ValueError(offset)
                self.offset, self._mark = int(offset), self._digits([mark])
                self._newest_byte = time.monotonic() - max(0, int(age[0]) if age else 0)
                self._attempts, self._problem = 0, ""
                lines, self._chunk = [] if self._unreadable else self._lines.feed(self._chunk), b""
                if self._torn_start and lines:
                    self._torn_start = False
                    return lines[1:]
                return lines
            case ["X"]:
                self._chunk = b""
            case ["P", _]:
                self._choose(payload.splitlines())
            case ["S", _]:
                self._take_job(payload.decode("utf-8", "surrogateescape"))
            case ["I"]:
                self._current, self._attempts, self._problem = True, 0, ""
                at_rest = self._newest_byte is not None and time.monotonic() - self._newest_byte > _AT_REST
                if at_rest and isinstance(self._lines, FileSplitter):
                    return self._lines.flush()
            case ["W", *reason]:
                self._current, self._attempts = True, 0
                path = self.job.output if self.job is not None else self._address.path
                waits = _WAITS[reason[0]] if reason else "is changing"
                self._problem = self._job_problem or f"{path} on {self._address.host} {waits}"
            case _:
                raise ValueError(words)
        return []

    def _take_job(self, text: str) -> None:
        """The other host's Slurm answered about the job."""
        jobs = parse_jobs(text, time.time())
        if jobs:
            self.job, self._job_problem = jobs[0], ""
            if jobs[0].output is None:
                self._job_problem = f"job {jobs[0].id} has no output file: Slurm on {self._address.host} reports none"
        elif self.job is not None:
            if is_unknown(text) and not self.job.over:
                self.job = replace(self.job, state=UNKNOWN)
        else:
            lines = [line.strip() for line in text.splitlines() if line.strip()]
            self._job_problem = f"Slurm on {self._address.host}: {lines[-1] if lines else 'no answer'}"

    def _choose(self, paths: list[bytes]) -> None:
        """The other host reads the first of these files in the folder; the others are there too."""
        self._chosen = paths[0]
        top = self._address.path.rstrip("/") + "/"
        names = [
            visible_line(path.decode("utf-8", "replace").partition(top)[2] or path.decode("utf-8", "replace"))
            for path in paths
        ]
        more = f" and {len(names) - 1 - _MOST_OTHERS} more" if len(names) - 1 > _MOST_OTHERS else ""
        others = f"; also there: {', '.join(names[1 : 1 + _MOST_OTHERS])}{more}" if names[1:] else ""
        self.choice = f"reading {names[0]}{others}"
        self.short = shortened(names[0])

    @staticmethod
    def _digits(mark: list[str]) -> str:
        """The mark for the next script; an empty file has none."""
        return str(int(mark[0])) if mark else "''"

    def _waiting(self) -> bool:
        """Whether more bytes have come already."""
        if not self._process or not self._process.stdout:
            return False
        return bool(select.select([self._process.stdout], [], [], 0)[0])

    def _drop(self, problem: str = "") -> None:
        """The connection has ended: store the reason, and schedule the next attempt."""
        messages = [line for line in self._errors.decode("utf-8", "replace").splitlines() if line.strip()]
        code = self._process.poll() if self._process else None
        self._end()
        self._problem = problem or (messages[-1].strip() if messages else f"ssh ended with status {code}")
        self._reconnect_at = time.monotonic() + min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**self._attempts)
        self._attempts = min(self._attempts + 1, 10)

    def _end(self) -> None:
        process, self._process = self._process, None
        self._connected = self._current = self._serving = False
        self._chunk = b""
        if not process:
            return
        if process.poll() is None:
            with suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
            with suppress(subprocess.TimeoutExpired):
                process.wait(1)
        if process.returncode is not None:
            processes.ended(process.pid)
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream:
                with suppress(OSError):
                    stream.close()
