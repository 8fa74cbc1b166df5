"""The one exception that a surface turns into a single line on stderr and exit code 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class TdiffError(Exception):
    """Something the user can mend. Its text names the thing, the rule, what came, and the nearest right answer."""


def unknown(kind: str, name: object, known: Iterable[str]) -> TdiffError:
    """The error for a name outside a fixed list: it names the nearest right one, or the whole list."""
    names = sorted(known)
    near = difflib.get_close_matches(str(name), names, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(names)}"
    return TdiffError(f"unknown {kind} {str(name)!r}; {hint}")
