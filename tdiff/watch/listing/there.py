"""All runs of a folder of another host, through one ssh process.

The other host needs a POSIX sh, stat, head, tail and uname. It receives a script on stdin, which then reads commands
from there: it searches the folder, sends parts of files and looks up process ids. It does nothing between commands, and
ends when its stdin closes. A connection that is lost is made again, and what was read is not read again.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from urllib.parse import quote_from_bytes

from tdiff.runs.process import Machine
from tdiff.visible import visible_line
from tdiff.watch.listing.collect import Collection, Request
from tdiff.watch.listing.connection import Connection
from tdiff.watch.listing.entries import DEPTH, MAX_EXAMINED, SKIPPED_FOLDERS, SUFFIXES, TENSORBOARD, Entry, FileInfo
from tdiff.watch.listing.here import left_out
from tdiff.watch.listing.rows import Row, ordered
from tdiff.watch.sources.address import Address

_POLL_SECONDS = 5.0
_MOST_AT_ONCE = 16
"""Parts of files that are requested together."""
_MAX_PROCESSES = 200
"""Processes that are looked up together."""
_SAME_CLOCK = 2.0
"""Seconds by which two clocks may differ and count as the same: the other one reports whole seconds, and late."""

# The commands, a line each, and the answers:
# L: M host boot namespace clock; then a line `F mode size modified inode path` for each file; then E. W if there is no
#   such folder.
# T offset count, and the path on the next line: D count, then so many bytes (zeros if the file has become shorter).
# P ids: `P id began` for each, with ? for an unknown moment and - for a process that is gone; then E.
_SCRIPT = """\
LC_ALL=C
export LC_ALL
nl='
'
say() {{ printf '%s\\n' "$*" || exit; }}
if stat -c %s / >/dev/null 2>&1; then
    look() {{ stat -L -c 'F %f %s %Y %i %n' "$@" 2>/dev/null; }}
else
    look() {{ stat -L -f 'F %Xp %z %m %i %N' "$@" 2>/dev/null; }}
fi
walk() {{
    if [ -f "$1/events.jsonl" ] || {{ [ -f "$1/config.toml" ] && [ -f "$1/process.json" ]; }}; then
        look "$1/events.jsonl" "$1/config.toml" "$1/process.json"
        return
    fi
    for e in "$1"/*; do
        left=$((left - 1))
        [ "$left" -gt 0 ] || break
        case $e in *"$nl"*) continue ;; esac
        if [ -d "$e" ]; then
            case ${{e##*/}} in {skipped}) continue ;; esac
            [ "$2" -eq 0 ] || [ -h "$e" ] || walk "$e" $(($2 - 1))
        else
            case $e in {wanted}) set -- "$@" "$e" ;; esac
        fi
    done
    [ $# -le 2 ] || {{ shift 2; look "$@"; }}
}}
part() {{ {{ tail -c "+$(($2 + 1))" "$1" 2>/dev/null | head -c "$3"; head -c "$3" /dev/zero; }} | head -c "$3"; }}
began() {{
    id=$1 line=
    if [ -r /proc/self/stat ]; then
        [ ! -r "/proc/$id/stat" ] || read -r line <"/proc/$id/stat"
        set -f
        set -- ${{line##*)}}
        set +f
        case $1 in ''|Z|X) say "P $id -" ;; *) say "P $id ${{20}}" ;; esac
    elif kill -0 "$id" 2>/dev/null; then
        say "P $id $(ps -o lstart= -p "$id" 2>/dev/null || echo '?')"
    else
        say "P $id -"
    fi
}}
say {banner}
in=
while read -r word a b; do
    case $word in
    L)
        left={most}
        [ "$in" ] || {{ cd {folder} 2>/dev/null && in=1; }} || {{ say W; say E; continue; }}
        say "M $(uname -n) $(cat /proc/sys/kernel/random/boot_id 2>/dev/null || echo -)" \\
            "$(readlink /proc/self/ns/pid 2>/dev/null || echo -) $(date +%s)"
        walk . {depth}
        say E
        ;;
    T)
        IFS= read -r path
        say "D $b"
        part "./$path" "$a" "$b"
        ;;
    P)
        for id in $a $b; do began "$id"; done
        say E
        ;;
    esac
done
"""
_WANTED = "|".join(
    [*(f"*{suffix}" for suffix in SUFFIXES), f"*{TENSORBOARD}*", "*/hparams.yaml", "*/trainer_state.json"]
)


@dataclass(slots=True)
class _OtherMachine:
    """A machine as its script reports it."""

    host: str = ""
    boot: str = ""
    namespace: str = ""
    moments: dict[int, str | None] | None = None

    def began(self, pid: int) -> str | None:
        """See `Machine.began`; "" for a process that was not looked up yet."""
        return (self.moments or {}).get(pid, "")


class RemoteRuns:
    """All runs below a folder of another host."""

    def __init__(self, address: Address) -> None:
        """Connects at the first poll. Raises TdiffError if there is no ssh client."""
        self._address = address
        folder = address.path.rstrip("/") or "/"
        self.label = visible_line(f"{address.host}:{'~/' * address.at_home}{folder}")
        # "/." so that the folder may be named like an option of cd.
        script = _SCRIPT.format(
            banner="{banner}",
            folder=f"{replace(address, path=folder).quoted}/.",
            skipped="|".join(SKIPPED_FOLDERS),
            wanted=_WANTED,
            most=MAX_EXAMINED,
            depth=DEPTH,
        )
        self._connection = Connection(address, script)
        self._collection = Collection(folder.rpartition("/")[2] or folder, self._where)
        self._machine = _OtherMachine()
        self._ahead = 0.0  # seconds by which the other clock is ahead
        self._waiting: deque[Callable[[list[str], bytes], bool]] = deque()  # they take answers; True: it was the last
        self._files: list[FileInfo] = []
        self._polled = -1e9  # by the monotonic clock
        self._missing = False
        self._introduced = False  # whether the answer to a search has started
        self._unseen = False  # whether all processes are to be looked up again
        self._seen_until = 0.0  # until when everything there is known, by the clock there
        self.complete = False

    def poll(self, seconds: float = 0.05) -> bool:
        """See `AllRuns.poll`."""
        end, new = time.monotonic() + seconds, False
        while True:
            try:
                answers = list(self._connection.receive())
                for words, payload in answers:
                    new = True
                    self._take(words, payload)
            except (ValueError, LookupError):
                self._connection.drop("the other host sent an invalid message")
            if not self._connection.started:
                self._waiting.clear()
                self.complete, self._polled = False, -1e9
                return new
            if not self._waiting:
                self._ask()
            if not self._connection.has_more or time.monotonic() > end:
                return new

    def rows(self) -> list[Row]:
        """See `AllRuns.rows`."""
        machine: Machine | None = self._machine if self._machine.host else None
        moments = self._machine.moments or {}
        seen = self._seen_until + 2 * _POLL_SECONDS  # a search and its answer may take a while
        return ordered(
            self._collection.rows(self._now(), machine, looked_up=lambda pid: pid in moments, seen_until=seen)
        )

    @property
    def left_out(self) -> str:
        """See `AllRuns.left_out`."""
        return left_out(self._collection)

    @property
    def problem(self) -> str:
        """See `AllRuns.problem`."""
        return self._connection.status or (f"{self.label} is not a folder there" if self._missing else "")

    def close(self) -> None:
        """End the ssh process."""
        self._connection.close()

    def _now(self) -> float:
        return time.time() + self._ahead

    def _where(self, entry: Entry, file: FileInfo | None) -> str:
        path = entry.folder if entry.is_run or file is None else file.path
        address = self._address
        user = f"{address.user}@" if address.user else ""
        host = f"[{address.host}]" if ":" in address.host else address.host
        port = f":{address.port}" if address.port else ""
        whole = "/".join(filter(None, (address.path.rstrip("/"), path)))
        encoded = quote_from_bytes(whole.encode("utf-8", "surrogateescape"), safe="/~+,=@")
        return f"ssh://{user}{host}{port}{'/~/' * address.at_home}{encoded}"

    def _ask(self) -> None:
        """Send the next commands, if there are any to send now."""
        if time.monotonic() - self._polled >= _POLL_SECONDS:
            self._polled, self._files = time.monotonic(), []
            self._unseen, self._introduced = True, False
            self._connection.send(b"L\n")
            self._waiting.append(self._listed)
            return
        running = {process.pid for process in self._collection.processes}
        if pids := running.difference(self._machine.moments or ()):  # first of all: without it no state is known
            self._look_up(pids)
            return
        requests = list(islice(self._collection.requests(), _MOST_AT_ONCE))
        if requests:
            self.complete = False
        elif self._unseen:
            self._unseen = False
            self._look_up(running)
        elif not self.complete:
            self._collection.settle(self._now())
            self.complete = True
        for request in requests:
            path = request.file.path.encode("utf-8", "surrogateescape")
            self._connection.send(b"T %d %d\n%b\n" % (request.offset, request.count, path))

            def take(words: list[str], data: bytes, request: Request = request) -> bool:
                if words != ["D", str(request.count)]:
                    raise ValueError(words)
                request.take(data)
                return True

            self._waiting.append(take)

    def _look_up(self, pids: Iterable[int]) -> None:
        """Ask which of these processes exist."""
        for some in _batched(sorted(pids), _MAX_PROCESSES):
            self._connection.send(f"P {' '.join(map(str, some))}\n".encode())
            self._waiting.append(self._looked_up)

    def _take(self, words: list[str], payload: bytes) -> None:
        if words == ["hello"]:
            self._polled = -1e9
            return
        if self._waiting[0](words, payload):
            self._waiting.popleft()
        if not self._waiting:
            self._connection.answered()

    def _listed(self, words: list[str], payload: bytes) -> bool:
        match words:
            case ["W"]:
                self._missing = self._introduced = True
            case ["M", host, boot, namespace, clock]:
                self._machine.host, self._missing, self._introduced = host, False, True
                self._machine.boot, self._machine.namespace = boot.strip("-"), namespace.strip("-")
                self._ahead = int(clock) - time.time()
                if abs(self._ahead) < _SAME_CLOCK:
                    self._ahead = 0.0
            case ["F"]:
                if info := _file(payload):
                    self._files.append(info)
            case ["E"] if self._introduced:
                self._collection.update(self._files)
                self._seen_until = self._now()
                return True
            case _:
                raise ValueError(words)
        return False

    def _looked_up(self, words: list[str], payload: bytes) -> bool:
        if words == ["E"]:
            return True
        if len(words) < 3 or words[0] != "P":
            raise ValueError(words)
        moments = self._machine.moments = self._machine.moments or {}
        moments[int(words[1])] = None if words[2] == "-" else "" if words[2] == "?" else " ".join(words[2:])
        return False


def _batched(items: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    """The items in groups of at most `size`."""
    return (items[n : n + size] for n in range(0, len(items), size))


def _file(line: bytes) -> FileInfo | None:
    """The regular file of a line `mode size modified inode path`; None for anything else, such as a forged path."""
    try:
        mode, size, modified, inode, path = line.split(b" ", 4)
        name = path.decode("utf-8", "surrogateescape").removeprefix("./")
        regular = int(mode, 16) & 0o170000 == 0o100000
        info = FileInfo(name, int(size), float(modified), int(inode))
    except ValueError:
        return None
    inside = not name.startswith("/") and ".." not in name.split("/")
    return info if regular and inside and info.size >= 0 else None
