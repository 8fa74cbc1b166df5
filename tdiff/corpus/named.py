"""The named corpora: Tiny Shakespeare, fetched once into the user's cache, and the prose that comes with Python."""

from __future__ import annotations

import hashlib
import os
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tdiff.errors import TdiffError
from tdiff.files import write_atomic
from tdiff.visible import visible_line

NAMES = ("python", "shakespeare")
SHAKESPEARE_URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
SHAKESPEARE_BYTES = 1_115_394
SHAKESPEARE_SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
STALL_SECONDS = 5.0  # the longest wait for the first or the next bytes of a fetch
FETCH_SECONDS = 20.0  # the longest a whole fetch may take

Progress = Callable[[int, int], None]


class Absent(TdiffError):
    """Tiny Shakespeare is not to be had; `reason` says why, and the whole text what helps."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"{reason}; set TDIFF_SHAKESPEARE=FILE to a copy of it")
        self.reason = reason


def python() -> str:
    """The language reference that comes with the interpreter.

    Its chapters repeat their sections, so that held-out text would stand in the training part: each paragraph is kept
    where it comes first. Raises TdiffError where the interpreter comes without it.
    """
    try:
        from pydoc_data.topics import topics
    except ImportError:
        raise TdiffError("corpus python: this interpreter comes without pydoc_data; name a text file instead") from None
    return "\n\n".join(dict.fromkeys("\n\n".join(topics[key].strip("\n") for key in sorted(topics)).split("\n\n")))


def is_shakespeare(data: bytes) -> bool:
    """Whether these bytes are Tiny Shakespeare, whatever their file is called."""
    return len(data) == SHAKESPEARE_BYTES and hashlib.sha256(data).hexdigest() == SHAKESPEARE_SHA256


def shakespeare(progress: Progress | None) -> tuple[bytes, str]:
    """Tiny Shakespeare from $TDIFF_SHAKESPEARE, the user's cache or the web, and a line of talk where there is need.

    Raises Absent where it is not cached and cannot be fetched, and TdiffError where the variable names something else.
    """
    import platformdirs

    if named := os.environ.get("TDIFF_SHAKESPEARE"):
        label = visible_line(f"TDIFF_SHAKESPEARE={named}")
        try:
            data = Path(named).read_bytes()
        except OSError as why:
            raise TdiffError(f"{label} cannot be read: {why.strerror}") from None
        if not is_shakespeare(data):
            raise TdiffError(f"{label} must name {SHAKESPEARE_BYTES:,} bytes with sha256 {SHAKESPEARE_SHA256}")
        return data, ""
    cache = platformdirs.user_cache_path("tdiff") / "shakespeare.txt"
    with suppress(OSError):
        if is_shakespeare(data := cache.read_bytes()):
            return data, ""
    try:
        data = _fetch(os.environ.get("TDIFF_SHAKESPEARE_URL") or SHAKESPEARE_URL, progress)
    except OSError as why:
        raise Absent(visible_line(f"shakespeare is not cached and could not be fetched ({why})")) from None
    try:
        write_atomic(cache, data)
    except OSError as why:
        kept = f"shakespeare could not be kept in {cache.parent} ({why.strerror}) and will be fetched again"
        return data, visible_line(kept)
    return data, ""


def _fetch(url: str, progress: Progress | None) -> bytes:
    """Tiny Shakespeare from `url`. Raises OSError, whose text is the reason, within FETCH_SECONDS.

    Another thread talks to the network: no timeout of the standard library bounds the look-up of a name, a row of
    addresses tried in turn, or a server that sends a byte now and then. This thread waits only as long as it should.
    """
    import urllib.request  # only a fetch pays for it

    deadline = time.monotonic() + FETCH_SECONDS
    arrivals: queue.SimpleQueue[bytes | str] = queue.SimpleQueue()  # chunks, then b"" or the reason why there are none

    def talk() -> None:
        left = SHAKESPEARE_BYTES + 1  # one byte too many is enough to know that it is something else
        try:
            with urllib.request.urlopen(url, timeout=FETCH_SECONDS) as answer:
                while time.monotonic() < deadline and (chunk := answer.read1(min(left, 1 << 16))):
                    left -= len(chunk)
                    arrivals.put(chunk)
            arrivals.put(b"")
        except Exception as why:  # whatever it is, it is the reason
            arrivals.put(str(why).removeprefix("<urlopen error ").removesuffix(">").strip() or type(why).__name__)

    threading.Thread(target=talk, daemon=True).start()
    data, chunk = b"", None
    while chunk != b"":
        if progress:
            progress(min(len(data), SHAKESPEARE_BYTES), SHAKESPEARE_BYTES)
        try:
            chunk = arrivals.get(timeout=max(0.0, min(STALL_SECONDS, deadline - time.monotonic())))
        except queue.Empty:
            raise TimeoutError(f"the server fell silent after {len(data):,} of {SHAKESPEARE_BYTES:,} bytes") from None
        if isinstance(chunk, str):
            raise OSError(chunk)
        data += chunk
    if len(data) < SHAKESPEARE_BYTES:
        raise OSError(f"only {len(data):,} of {SHAKESPEARE_BYTES:,} bytes came in time")
    if not is_shakespeare(data):
        raise OSError("what came has another sha256")
    return data
