"""The one exception that a surface turns into a single line on stderr and exit code 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_SHORT = 12  # names that a line still has room for


class TdiffError(Exception):
    """Something the user can mend. Its text names the thing, the rule, what came, and the nearest right answer."""


def unknown(kind: str, name: object, known: Iterable[str]) -> TdiffError:
    """The error for a name outside a fixed list: it names the nearest right one, and the list unless it is long."""
    names = sorted(known)
    near = difflib.get_close_matches(str(name), names, n=1)
    hints = [f"did you mean {near[0]}?"] if near else []
    if not near or len(names) <= _SHORT:
        hints.append(f"known: {', '.join(names)}")
    return TdiffError(f"unknown {kind} {str(name)!r}; {' '.join(hints)}")
