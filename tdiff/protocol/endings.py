"""Where a generated text ends: at the end of a paragraph or of a story."""

from __future__ import annotations

import re

ENDINGS = {"paragraph": re.compile(r"\n"), "story": re.compile(r"\n[ \t]*\n")}
"""Kind of an ending -> what follows the text: a line break, or a blank line."""
MOST_TOKENS = 1024
"""Tokens that are generated at most where an ending is requested and no length."""


def find_end(text: str, start: int, kind: str) -> int | None:
    """Return the length of `text` up to its end, or None if it has none after the character `start`.

    The text ends before the first line break (paragraph) or blank line (story) that follows a character after `start`
    other than white space: a text is never empty.
    """
    first = re.compile(r"\S").search(text, start)
    if first is None:
        return None
    end = ENDINGS[kind].search(text, first.end())
    return end.start() if end else None
