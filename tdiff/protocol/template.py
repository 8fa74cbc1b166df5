"""Text templates with gaps, such as `To be, or ____ to be: that is the {12}`."""

from __future__ import annotations

from tdiff.errors import TdiffError
from tdiff.patterns import lazy
from tdiff.schema import MOST

Template = tuple[str | int, ...]
"""Texts, and gaps as their number of tokens, in order."""
_PIECE = lazy(r"\\([\\_{}])|(_+)|\{(\d+)\}|([{}])")


def parse(text: str) -> Template:
    r"""Parse a template. A run of N underscores is a gap of N tokens, and so is `{N}`.

    A backslash before `_`, `{`, `}` or another backslash makes them literal.
    Raises TdiffError if there is no gap, or a brace that does not form one.
    """
    parts: list[str | int] = []

    def add(part: str | int) -> None:
        if parts and type(parts[-1]) is type(part):
            parts[-1] += part  # type: ignore[operator]  # both are text, or both numbers
        elif part:
            parts.append(part)

    at = 0
    for match in _PIECE.finditer(text):
        add(text[at : match.start()])
        escaped, line, count, brace = match.groups()
        if brace:
            raise TdiffError(
                f"the template has a {brace!r} at character {match.start() + 1} that is not part of a gap: a gap is "
                rf"____ or {{12}}, and \{brace} is the brace itself"
            )
        if escaped:
            add(escaped)
        else:
            size = len(line) if line else int(count)
            if not 0 < size <= MOST:
                raise TdiffError(f"a gap of the template must have 1 to {MOST:,} tokens; got {match[0]}")
            add(size)
        at = match.end()
    add(text[at:])
    if not any(isinstance(part, int) for part in parts):
        raise TdiffError("the template has no gap to fill: a gap is ____ or {12}")
    return tuple(parts)


def shown(template: Template) -> str:
    """The template as text, each gap as `{N}`."""
    return "".join(part if isinstance(part, str) else f"{{{part}}}" for part in template)


def between(prefix: str, length: int, suffix: str) -> Template:
    """The template of a gap of `length` tokens between two texts, of which one may be empty."""
    return tuple(part for part in (prefix, length, suffix) if part)
