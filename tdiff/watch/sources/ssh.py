"""A file on another host, followed through one `ssh` process: `ssh://[user@]host[:port]/path`.

The far side needs a POSIX sh, ls, head, tail, cksum and sleep. A script that is sent to it on stdin, so that no login
shell reads it, writes the file's bytes in frames; each is counted only when the far side has found, after sending it,
that the file is still the one it was. What was counted is where the next connection goes on: a drop loses nothing and
repeats nothing. Like other sources this one knows nothing of what its lines say.
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
from tdiff.watch.generation import processes
from tdiff.watch.sources.address import Address
from tdiff.watch.sources.local import LineSplitter, Read, Status

_NEWEST = 16 << 20
"""Bytes of a bigger file that are read, from its end."""
_CHUNK = 1 << 20
"""Bytes in one frame at most; the first ones are smaller, so that a slow link shows something soon."""
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0
_SILENCE = 60.0
"""Seconds without a word, where the far side speaks every five, after which a connection counts as dead."""

# R inode offset mark: another file, or the first, read from there on. H n: its first n bytes, where that is not its
# beginning. D n: n bytes more (zeros where the file was cut off meanwhile); then X: they do not count, or K offset mark
# age: they do, and the file was written so many seconds ago. I: that is all there is. W why: no file. I and W come
# again every few seconds: so we know that the far side lives, and it dies of a closed pipe when we are gone. The mark
# of an offset is a sum of the bytes at the beginning and before it, by which a file written anew is told: also one that
# is, while a part of it is sent, so that the sum of what was sent is taken before and after.
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
say "$banner"
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
done </dev/null
"""
_WAITS = {"missing": "is not there; waiting for it", "kind": "is not a file", "closed": "may not be read there"}


class Frames:
    """What the far side writes, cut into its messages, once its banner has come."""

    def __init__(self, banner: str) -> None:
        self._banner = banner.encode() + b"\n"
        self._greeted = False
        self._rest = bytearray()

    def take(self, data: bytes) -> Iterator[tuple[list[str], bytes]]:
        """The words and the bytes of each message that `data` completes. Raises ValueError at anything else."""
        self._rest += data
        if not self._greeted:  # a login shell may have written before
            at = self._rest.find(self._banner)
            if at < 0:
                del self._rest[: -len(self._banner)]
                return
            del self._rest[: at + len(self._banner)]
            self._greeted = True
            yield ["hello"], b""
        while (end := self._rest.find(b"\n", 0, 128)) >= 0:
            words = self._rest[:end].decode("ascii").split()
            size = int(words[1]) if words[0] in ("D", "H") else 0
            if not 0 <= size <= _CHUNK:
                raise ValueError(size)
            if len(self._rest) < end + 1 + size:
                return
            payload = bytes(self._rest[end + 1 : end + 1 + size])
            del self._rest[: end + 1 + size]
            yield words, payload
        if len(self._rest) >= 128:
            raise ValueError


class SshSource:
    """The lines of a file on another host."""

    def __init__(self, address: Address) -> None:
        """Connects at the first read. Raises TdiffError where there is no ssh client."""
        self.name = address.label
        self.offset = 0
        """Bytes of the file that have been read or passed over."""
        self._address = address
        self._command = [*address.command(), "exec sh"]
        self._process: subprocess.Popen[bytes] | None = None
        self._frames = Frames("")
        self._inode = self._mark = "0"
        self._lines = LineSplitter()
        self._torn_start = False  # whether the next line to end began before the place we began at
        self._chunk = b""
        self._errors = bytearray()
        self._connected = self._current = False
        self._why = f"connecting to {address.host}"
        self._note = ""
        self._tries = 0
        self._again = -math.inf  # when to connect again, by the monotonic clock
        self._heard = 0.0
        self._came: float | None = None

    def read(self, limit: int = 1 << 20) -> Read:
        """The lines of at most about `limit` bytes more."""
        if not self._process:
            if time.monotonic() < self._again:
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
                lines += self._obey(words, payload)
        except (ValueError, LookupError):
            self._drop("the far side says what is not understood")
        else:
            if ended:
                self._drop()
            elif time.monotonic() - self._heard > _SILENCE:
                self._drop(f"nothing was heard for {_SILENCE:.0f} s")
        return Read(lines, reset, more=self._waiting())

    def status(self) -> Status:
        """Connected while the far side answers; `current` when all that is there has been read."""
        text = "; ".join(filter(None, (self._why, self._note, self._lines.note())))
        if not self._process and (wait := self._again - time.monotonic()) > 0:
            text += f"; again in {math.ceil(wait)} s"
        age = None if self._came is None else time.monotonic() - self._came
        return Status(self._connected, visible_line(text), self._lines.cut, self.offset, age, self._current)

    def close(self) -> None:
        """End the ssh process."""
        self._again = math.inf
        self._end()

    def _connect(self) -> None:
        banner = f"tdiff-{secrets.token_hex(8)}"
        script = _SCRIPT.format(
            banner=banner, file=self._address.quoted, inode=self._inode, offset=self.offset, mark=self._mark,
            most=_NEWEST, chunk=_CHUNK,
        )  # fmt: skip
        pipe = subprocess.PIPE
        try:
            # A session of its own: neither our terminal nor its Ctrl-C is for it.
            self._process = subprocess.Popen(
                self._command, stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0, start_new_session=True
            )
        except OSError as why:
            self._drop(f"ssh cannot be started: {why.strerror}")
            return
        processes.started(self._process.pid)
        assert self._process.stdin and self._process.stdout and self._process.stderr
        for stream in (self._process.stdout, self._process.stderr):
            os.set_blocking(stream.fileno(), False)
        with suppress(OSError):  # its stderr will say why
            self._process.stdin.write(script.encode("utf-8", "surrogateescape"))
            self._process.stdin.close()
        self._frames = Frames(banner)
        self._errors.clear()
        self._heard = time.monotonic()

    def _receive(self, limit: int) -> tuple[bytes, bool]:
        """What has come, and whether nothing more will."""
        assert self._process and self._process.stdout and self._process.stderr
        data, ended = bytearray(), False
        with suppress(BlockingIOError):
            while len(data) < limit and not ended:
                part = os.read(self._process.stdout.fileno(), min(limit - len(data), 1 << 16))
                data, ended = data + part, not part
        if ended:  # so that its last words are heard
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(0.05)
        with suppress(BlockingIOError):
            while part := os.read(self._process.stderr.fileno(), 4096):
                self._errors = (self._errors + part)[-4096:]
        if data:
            self._heard = time.monotonic()
        return bytes(data), ended

    def _obey(self, words: list[str], payload: bytes) -> list[str]:
        """Take in one message; the lines it completes."""
        self._current = False
        match words:
            case ["hello"]:
                self._connected, self._why = True, ""
                self._errors.clear()
            case ["R", inode, offset, *mark]:
                self._inode, self.offset, self._mark = str(int(inode)), int(offset), self._digits(mark)
                self._lines, self._note = LineSplitter(), ""
                self._torn_start = self.offset > 0
                self._why = ""
            case ["H", _]:
                self._note = f"all but the newest 16 MiB, {self.offset:,} bytes, is passed over"
                return LineSplitter().feed(payload)[:1]  # the heading of a table, or the start of a run
            case ["D", _]:
                self._chunk = payload
            case ["K", offset, mark, *age]:
                if int(offset) != self.offset + len(self._chunk):
                    raise ValueError(offset)
                self.offset, self._mark = int(offset), self._digits([mark])
                self._came = time.monotonic() - max(0, int(age[0]) if age else 0)
                self._tries, self._why = 0, ""
                lines, self._chunk = self._lines.feed(self._chunk), b""
                if self._torn_start and lines:
                    self._torn_start = False
                    return lines[1:]
                return lines
            case ["X"]:
                self._chunk = b""
            case ["I"]:
                self._current, self._tries, self._why = True, 0, ""
            case ["W", *why]:
                self._current, self._tries = True, 0
                self._why = f"{self._address.path} on {self._address.host} {_WAITS[why[0]] if why else 'is changing'}"
            case _:
                raise ValueError(words)
        return []

    @staticmethod
    def _digits(mark: list[str]) -> str:
        """The mark, which goes into the next script; the empty file has none."""
        return str(int(mark[0])) if mark else "''"

    def _waiting(self) -> bool:
        """Whether more has come already."""
        if not self._process or not self._process.stdout:
            return False
        return bool(select.select([self._process.stdout], [], [], 0)[0])

    def _drop(self, why: str = "") -> None:
        """The connection is no more: say why, and set when to try again."""
        said = [line for line in self._errors.decode("utf-8", "replace").splitlines() if line.strip()]
        code = self._process.poll() if self._process else None
        self._end()
        self._why = why or (said[-1].strip() if said else f"ssh ended with status {code}")
        self._again = time.monotonic() + min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**self._tries)
        self._tries = min(self._tries + 1, 10)

    def _end(self) -> None:
        process, self._process = self._process, None
        self._connected = self._current = False
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
