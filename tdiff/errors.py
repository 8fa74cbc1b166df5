"""The exception for user errors, which the command line prints as one line on stderr, with exit code 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_SHORT = 12  # names that fit on a line


class TdiffError(Exception):
    """A user-facing error. Its text names the thing, the rule, the value received, and the nearest valid one."""


def unknown(kind: str, name: object, known: Iterable[str]) -> TdiffError:
    """The error for a name that is not in a fixed list; it suggests the nearest one, and the list unless it is long."""
    names = sorted(known)
    near = difflib.get_close_matches(str(name), names, n=1)
    hints = [f"did you mean {near[0]}?"] if near else []
    if not near or len(names) <= _SHORT:
        hints.append(f"known: {', '.join(names)}")
    return TdiffError(f"unknown {kind} {str(name)!r}; {' '.join(hints)}")
