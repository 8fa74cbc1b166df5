"""The named corpora: Tiny Shakespeare, fetched once into the user's cache, and Python's language reference."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

from tdiff.errors import TdiffError
from tdiff.files import write_atomic
from tdiff.network import reports
from tdiff.visible import visible_line

NAMES = ("python", "shakespeare")
SHAKESPEARE_URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
SHAKESPEARE_BYTES = 1_115_394
SHAKESPEARE_SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
STALL_SECONDS = 5.0  # the longest wait for the first or the next bytes of a fetch
FETCH_SECONDS = 20.0  # the longest a whole fetch may take

Progress = Callable[[int, int], None]


class Absent(TdiffError):
    """Tiny Shakespeare is not available; `reason` says why, and the message also what helps."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"{reason}; set TDIFF_SHAKESPEARE=FILE to a copy of it")
        self.reason = reason


def python() -> str:
    """Return the language reference that comes with the interpreter.

    Its chapters repeat sections, which would put held-out text into the training part too: only the first copy of a
    paragraph stays. Raises TdiffError if the interpreter comes without it.
    """
    try:
        from pydoc_data.topics import topics
    except ImportError:
        raise TdiffError("corpus python: this interpreter comes without pydoc_data; name a text file instead") from None
    return "\n\n".join(dict.fromkeys("\n\n".join(topics[key].strip("\n") for key in sorted(topics)).split("\n\n")))


def is_shakespeare(data: bytes) -> bool:
    """Return whether the data is Tiny Shakespeare."""
    return len(data) == SHAKESPEARE_BYTES and hashlib.sha256(data).hexdigest() == SHAKESPEARE_SHA256


def has_shakespeare() -> bool:
    """Return whether Tiny Shakespeare is on this machine, so that `shakespeare` fetches nothing."""
    import platformdirs

    cache = platformdirs.user_cache_path("tdiff") / "shakespeare.txt"
    return bool(os.environ.get("TDIFF_SHAKESPEARE")) or cache.is_file()


def shakespeare(progress: Progress | None) -> tuple[bytes, str]:
    """Return Tiny Shakespeare from $TDIFF_SHAKESPEARE, the user's cache or the web, and a note, mostly empty.

    Raises Absent if it is not cached and cannot be fetched, and TdiffError if the variable names another file.
    """
    import platformdirs

    if path := os.environ.get("TDIFF_SHAKESPEARE"):
        label = visible_line(f"TDIFF_SHAKESPEARE={path}")
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise TdiffError(f"{label} cannot be read: {error.strerror}") from None
        if not is_shakespeare(data):
            raise TdiffError(f"{label} must name {SHAKESPEARE_BYTES:,} bytes with sha256 {SHAKESPEARE_SHA256}")
        return data, ""
    cache = platformdirs.user_cache_path("tdiff") / "shakespeare.txt"
    with suppress(OSError):
        if is_shakespeare(data := cache.read_bytes()):
            return data, ""
    try:
        data = _fetch(os.environ.get("TDIFF_SHAKESPEARE_URL") or SHAKESPEARE_URL, progress)
    except OSError as error:
        raise Absent(visible_line(f"shakespeare is not cached and could not be fetched ({error})")) from None
    try:
        write_atomic(cache, data)
    except OSError as error:
        note = f"shakespeare could not be saved in {cache.parent} ({error.strerror}) and will be fetched again"
        return data, visible_line(note)
    return data, ""


def _fetch(url: str, progress: Progress | None) -> bytes:
    """Return Tiny Shakespeare from `url`. Raises OSError, whose text is the reason, within FETCH_SECONDS."""
    import urllib.request  # only a fetch pays for this import

    def read(report: Callable[[bytes], None]) -> None:
        left = SHAKESPEARE_BYTES + 1  # one byte too many is enough to know that the file is another one
        with urllib.request.urlopen(url, timeout=FETCH_SECONDS) as answer:
            while chunk := answer.read1(min(left, 1 << 16)):
                left -= len(chunk)
                report(chunk)

    data, deadline = b"", time.monotonic() + FETCH_SECONDS
    try:
        with closing(reports(read, STALL_SECONDS, FETCH_SECONDS)) as chunks:
            if progress:
                progress(0, SHAKESPEARE_BYTES)
            for chunk in chunks:
                data += chunk
                if progress:
                    progress(min(len(data), SHAKESPEARE_BYTES), SHAKESPEARE_BYTES)
    except TimeoutError:
        if time.monotonic() > deadline:
            arrived = f"{len(data):,} of {SHAKESPEARE_BYTES:,} bytes arrived"
            raise TimeoutError(f"only {arrived} within {FETCH_SECONDS:g} seconds") from None
        raise TimeoutError(f"the server fell silent after {len(data):,} of {SHAKESPEARE_BYTES:,} bytes") from None
    except Exception as error:  # whatever it is, it is the reason
        reason = str(error).removeprefix("<urlopen error ").removesuffix(">").strip()
        raise OSError(reason or type(error).__name__) from None
    if len(data) < SHAKESPEARE_BYTES:
        raise OSError(f"only {len(data):,} of {SHAKESPEARE_BYTES:,} bytes arrived")
    if not is_shakespeare(data):
        raise OSError("the file has another sha256")
    return data
