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
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress

from tdiff.visible import visible_line
from tdiff.watch.devices import script as devices
from tdiff.watch.devices.answers import Answer, Answers
from tdiff.watch.generation import processes
from tdiff.watch.sources.address import Address
from tdiff.watch.sources.local import LineSplitter, Read, Status

_NEWEST = 16 << 20
"""Of a bigger file only this many bytes are read, from its end."""
_CHUNK = 1 << 20
"""The most bytes in one frame; the first frames are smaller, so that a slow link shows something soon."""
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0
_SILENCE = 60.0
"""Seconds without a message after which a connection counts as dead; the other host sends one every five seconds."""

# The messages of the script:
# R inode offset mark: the first file, or another one, is read from this offset on.
# H n: its first n bytes, if the offset is not 0.
# D n: n more bytes (zeros if the file was truncated meanwhile). Then X: they do not count; or K offset mark age: they
#   count, and the file was written `age` seconds ago.
# I: there is no more. W reason: there is no readable file. Both are repeated every few seconds, which shows that the
#   other host is alive, and ends the script through its closed pipe once this process is gone.
# The mark of an offset is a checksum of the bytes at the beginning of the file and of those before the offset. It
# detects a file that was rewritten. The marks are computed before and after sending, since a file may be rewritten
# while a part of it is sent.
_SCRIPT = """\
banner={banner} f={file} i={inode} o={offset} m={mark} most={most} chunk=65536 beat=0 last=
LC_ALL=C
export LC_ALL
unset BLOCK_SIZE LS_BLOCK_SIZE
set -f
say() {{ printf '%s\\n' "$*" || exit; }}
look() {{ set -- $(ls -lniL "$p" 2>/dev/null); j=$1 s=$6; }}
part() {{ tail -c "+$(($1 + 1))" "$p" 2>/dev/null | head -c "$2"; }}
whole() {{ {{ part "$1" "$2"; head -c "$2" /dev/zero; }} | head -c "$2"; }}
mark() {{
    h=$(($1 < 1024 ? $1 : 1024)) k=$(($1 < 4096 ? $1 : 4096))
    [ "$1" -eq 0 ] || {{ part 0 "$h"; part "$(($1 - k))" "$k"; }} | cksum | {{ read -r sum _; echo "$sum"; }}
}}
age() {{ t=$(stat -c %Y "$p" 2>/dev/null || stat -f %m "$p" 2>/dev/null) && echo "$(($(date +%s) - t))"; }}
rest() {{ beat=$(((beat + 1) % 10)); sleep 0.5 2>/dev/null || sleep 1; }}
{devices}say "$banner"
{{
devices <&3 3<&- >&2 &
while :; do
    p=$f why=
    [ ! -d "$f" ] || p=$f/events.jsonl
    look
    if [ ! -e "$p" ]; then why=missing; elif [ ! -f "$p" ]; then why=kind; elif [ ! -r "$p" ]; then why=closed; fi
    if [ "$why" ] || [ -z "$s" ]; then
        i=
        [ "$why" = "$last" ] || beat=0
        last=$why
        [ "$beat" -gt 0 ] || say "W $why"
        rest
        continue
    fi
    if [ "$j" != "$i" ] || [ "$s" -lt "$o" ]; then
        i=$j o=0 beat=0
        [ "$s" -le "$most" ] || o=$((s - most))
        m=$(mark "$o")
        say "R $i $o $m"
        [ "$o" -eq 0 ] || {{ say "H 16384"; whole 0 16384; }}
    fi
    n=$((s - o))
    [ "$n" -le "$chunk" ] || n=$chunk
    if [ "$n" -gt 0 ]; then
        new=$(mark "$((o + n))")
        say "D $n"
        whole "$o" "$n"
        again=$(mark "$((o + n))") old=$(mark "$o")
        look
        if [ "$j" = "$i" ] && [ "$old" = "$m" ] && [ "$again" = "$new" ] && [ "$s" -ge "$((o + n))" ]; then
            o=$((o + n)) m=$new beat=0
            [ "$chunk" -ge {chunk} ] || chunk=$((chunk * 2))
            say "K $o $m $(age)"
        else
            i=
            say X
        fi
        continue
    fi
    if [ "$beat" -eq 0 ]; then
        [ "$(mark "$o")" = "$m" ] || {{ i=; continue; }}
        say I
        chunk=65536
    fi
    rest
done
}} 3<&0 </dev/null
"""
_WAITS = {"missing": "is not there yet; waiting for it", "kind": "is not a file", "closed": "is not readable there"}


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
            size = int(words[1]) if words[0] in ("D", "H") else 0
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
        self._lines = LineSplitter()
        self._torn_start = False  # whether the next line began before the first offset
        self._chunk = b""
        self._errors = bytearray()
        self._connected = self._current = False
        self._problem = f"connecting to {address.host}"
        self._note = ""
        self._attempts = 0
        self._reconnect_at = -math.inf  # by the monotonic clock
        self._last_message = 0.0
        self._newest_byte: float | None = None
        self.connections = 0
        """How often it has connected."""
        self._answers = Answers("")  # about the devices there
        self._device_answers: list[Answer] = []
        self._serving = False  # whether the script is running, so that it reads requests

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
        try:
            return self._process.stdin.write(line.encode()) == len(line)
        except OSError:  # the connection has ended, or does not take anything now
            return False

    def device_answers(self) -> list[Answer]:
        """The answers to such requests since the last call."""
        answers, self._device_answers = self._device_answers, []
        return answers

    def _connect(self) -> None:
        banner = f"tdiff-{secrets.token_hex(8)}"
        token = devices.new_token()
        script = _SCRIPT.format(
            banner=banner, file=self._address.quoted, inode=self._inode, offset=self.offset, mark=self._mark,
            most=_NEWEST, chunk=_CHUNK, devices=devices.functions(token, '"$f"'),
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
        self._answers, self._serving = Answers(token), False
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
                self._lines, self._note = LineSplitter(), ""
                self._torn_start = self.offset > 0
                self._problem = ""
            case ["H", _]:
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
                lines, self._chunk = self._lines.feed(self._chunk), b""
                if self._torn_start and lines:
                    self._torn_start = False
                    return lines[1:]
                return lines
            case ["X"]:
                self._chunk = b""
            case ["I"]:
                self._current, self._attempts, self._problem = True, 0, ""
            case ["W", *reason]:
                self._current, self._attempts = True, 0
                self._problem = (
                    f"{self._address.path} on {self._address.host} {_WAITS[reason[0]] if reason else 'is changing'}"
                )
            case _:
                raise ValueError(words)
        return []

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
