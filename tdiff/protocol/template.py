"""A text with gaps, as one types it: `To be, or ____ to be: that is the {12}`."""

from __future__ import annotations

import re

from tdiff.errors import TdiffError
from tdiff.schema import MOST

Template = tuple[str | int, ...]
"""Text, and gaps of so many tokens, in turn."""
_PIECE = re.compile(r"\\([\\_{}])|(_+)|\{(\d+)\}|([{}])")


def parse(text: str) -> Template:
    r"""Text and gaps: each run of underscores is a gap of as many tokens, and so is `{N}`.

    Behind a backslash `_`, `{`, `}` and the backslash stand for themselves.
    Raises TdiffError where there is no gap, or a brace that makes none.
    """
    parts: list[str | int] = []

    def add(part: str | int) -> None:
        if parts and type(parts[-1]) is type(part):
            parts[-1] += part  # type: ignore[operator]  # both are text, or both numbers
        elif part:
            parts.append(part)

    at = 0
    for found in _PIECE.finditer(text):
        add(text[at : found.start()])
        escaped, line, count, brace = found.groups()
        if brace:
            raise TdiffError(
                f"the template has a {brace!r} at character {found.start() + 1} that makes no gap: a gap is ____ or "
                rf"{{12}}, and \{brace} is the brace itself"
            )
        if escaped:
            add(escaped)
        else:
            size = len(line) if line else int(count)
            if not 0 < size <= MOST:
                raise TdiffError(f"a gap of the template must have 1 to {MOST:,} tokens; got {found[0]}")
            add(size)
        at = found.end()
    add(text[at:])
    if not any(isinstance(part, int) for part in parts):
        raise TdiffError("the template has no gap, so there is nothing to write: a gap is ____ or {12}")
    return tuple(parts)


def shown(template: Template) -> str:
    """The text, with its gaps by their lengths."""
    return "".join(part if isinstance(part, str) else f"{{{part}}}" for part in template)


def between(prefix: str, length: int, suffix: str) -> Template:
    """A text with one gap of `length` tokens between its two ends, of which one may be empty."""
    return tuple(part for part in (prefix, length, suffix) if part)
