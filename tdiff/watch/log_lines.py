"""What a line of a log is for a reader: an error, a warning, a record that the curve shows, or something else."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Literal

from tdiff.patterns import lazy

if TYPE_CHECKING:
    from tdiff.watch.formats.text import LineReader

Kind = Literal["error", "warning", "record", "other"]

_ERROR = lazy(
    r"(?i)\b(?:error|exception|traceback|fatal|critical|panic|failed|failure|aborted|killed|out of memory)\b"
    r"|\b[A-Z]\w*(?:Error|Exception)\b|\bOOM\b|\bsegmentation fault\b|\bDUE TO\b|^ALERT\b"
)
_NO_ERROR = lazy(r"(?i)\b(?:0|no|without)\s+(?:errors?|failures?)\b|\b(?:errors?|failed)\s*[:=]\s*0\b")
_WARNING = lazy(
    r"(?i)\bwarn(?:ing)?s?\b|\w+Warning\b|\bdeprecated\b|\bnot finite\b|\b(?:loss|grad\w*)\W{1,3}(?:nan|inf)\b"
)
_TRACEBACK = "Traceback (most recent call last)"
_MOST = 16_384
"""Lines whose kinds are remembered."""


@lru_cache(_MOST)
def kind_of(line: str) -> Kind:
    """What a single line is. A record whose value is not finite is a warning: the curve has no point for it."""
    if _ERROR.search(line) and not _NO_ERROR.search(line):
        # A metric may be called error: a record stays one unless it names an exception.
        return "record" if _is_record(line) and not re.search(r"\b[A-Z]\w*(?:Error|Exception)\b", line) else "error"
    if _WARNING.search(line):
        return "warning"
    return "record" if _is_record(line) else "other"


def kinds(lines: Iterable[str]) -> list[Kind]:
    """What each of successive lines is; all lines of a traceback are errors."""
    found: list[Kind] = []
    prefix: str | None = None  # of the lines of the traceback that is open
    for line in lines:
        if (at := line.find(_TRACEBACK)) >= 0:
            prefix = line[:at]
            found.append("error")
            continue
        if prefix is not None:
            found.append("error")
            if not line.removeprefix(prefix).startswith((" ", "\t")):  # the exception itself
                prefix = None
            continue
        found.append(kind_of(line))
    return found


def _is_record(line: str) -> bool:
    """Whether the curves show what the line says: a loss or another number of training, or a progress bar."""
    from tdiff.watch.formats.names import Role, meaning

    fields = _reader().read(line)
    if fields.bar is not None or fields.progress is not None:
        return True
    recorded = (Role.LOSS, Role.LEARNING_RATE, Role.GRAD_NORM)
    return any(meaning(name).role in recorded for name in fields.values)


@cache
def _reader() -> LineReader:
    """The reader of lines of one thread: that of the view."""
    from tdiff.watch.formats.text import LineReader

    return LineReader()
