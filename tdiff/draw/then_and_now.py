"""Texts of several moments beside each other or one below another, with the words that changed since the one before.

Pure functions: texts go in, lines come out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import lru_cache

from rich.cells import cell_len, set_cell_size

from tdiff.draw.canvas_layout import lay_out
from tdiff.draw.render import Line
from tdiff.visible import visible

BESIDE_COLUMNS = 33
"""Columns of a text from which texts are beside each other."""
_WORDS = 2_000
"""Words of a text that are compared; those behind them are not marked."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A text and when it was generated."""

    title: str
    """When, and what else is known."""
    text: str
    prompt: str = ""
    """What the text begins with, which was not generated."""


@lru_cache(maxsize=256)
def words_of(text: str) -> tuple[str, ...]:
    """The words of a text, each with the blanks behind it; safe to print."""
    return tuple(re.findall(r"\S+\s*|^\s+", visible(text)))


@lru_cache(maxsize=256)
def changed(before: str, after: str) -> tuple[frozenset[int], float]:
    """Which words of `after` are not at their place in `before`, and the share of the words that are (0..1)."""
    old, new = ([word.strip() for word in words_of(text)[:_WORDS]] for text in (before, after))
    if not new:
        return frozenset(), 1.0
    same: set[int] = set()
    for block in SequenceMatcher(None, old, new, autojunk=False).get_matching_blocks():
        same.update(range(block.b, block.b + block.size))
    return frozenset(range(len(new))) - same, len(same) / len(new)


def draw(moments: Sequence[Moment], width: int, height: int, top: int = 0, *, ascii: bool = False) -> list[Line]:
    """The moments as exactly `height` lines of `width` cells or a little less, each text from its row `top` on.

    They are beside each other where each has `BESIDE_COLUMNS`, otherwise one below another. New words are bold, words
    of the moment before and the prompt are dim.
    """
    count = len(moments)
    if not count or width < 1 or height < 1:
        return [[] for _ in range(height)]
    if count > 1 and beside(count, width):
        inner = (width - 3 * (count - 1)) // count
        blocks = [_block(moments, n, inner, height, top, ascii) for n in range(count)]
        rule = (" | " if ascii else " │ ", "dim")
        lines: list[Line] = []
        for row in range(height):
            line: Line = []
            for n, block in enumerate(blocks):
                line += [*([rule] if n else []), *block[row]]
            lines.append(line)
        return lines
    rows = [height // count + (n < height % count) for n in range(count)]
    return [line for n in range(count) for line in _block(moments, n, width, rows[n], top, ascii)]


def rows_of(moments: Sequence[Moment], width: int) -> int:
    """The rows of the longest text, in a window of so many columns."""
    count = max(1, len(moments))
    inner = (width - 3 * (count - 1)) // count if beside(count, width) else width
    return max((len(lay_out(words_of(moment.text), max(1, inner)).rows) for moment in moments), default=0)


def beside(count: int, width: int) -> bool:
    """Whether so many texts are beside each other in a window of so many columns."""
    return width >= count * BESIDE_COLUMNS + 3 * (count - 1)


def _block(moments: Sequence[Moment], n: int, width: int, height: int, top: int, ascii: bool) -> list[Line]:
    """One moment: its title, then rows of its text."""
    moment, before = moments[n], moments[n - 1] if n else None
    words = words_of(moment.text)
    new, share = changed(before.text, moment.text) if before is not None else (frozenset[int](), 1.0)
    given = len(words_of(moment.prompt)) if moment.text.startswith(moment.prompt) else 0
    if given and not moment.prompt[-1].isspace():
        given -= 1  # the last word of the prompt may continue
    heading, known = _heading(moment.title, None if before is None else share, width)
    title: Line = [(heading, "bold")]
    fill = width - cell_len(heading) - cell_len(known)
    if fill >= 0:
        title += [(("-" if ascii else "─") * max(0, fill - 1) + " " * (fill > 0), "dim"), (known, "dim")]
    body: list[Line] = []
    for row in lay_out(words, max(1, width)).rows[top : top + max(0, height - 1)]:
        line: Line = []
        for position, part in row:
            style = "" if before is None else "bold" if position in new else "dim"
            line.append((part, "dim" if position < given else style))
        body.append(line)
    lines = [title, *body][:height]
    return [_fitted(line, width) for line in lines] + [[(" " * width, "")] for _ in range(height - len(lines))]


def _heading(title: str, share: float | None, width: int) -> tuple[str, str]:
    """The title, and the share of words that are as before: it stays, and the title loses its last parts first."""
    known = [""] if share is None else [f"{share:.0%} as before ", f"{share:.0%} same ", f"{share:.0%} "]
    parts = title.split(" · ")
    for count in range(len(parts), 0, -1):
        heading = " · ".join(parts[:count]) + " "
        for words in known:
            if cell_len(heading) + cell_len(words) <= width:
                return heading, words
    return f"{title} ", ""


def _fitted(line: Line, width: int) -> Line:
    """The line in exactly `width` cells."""
    fitted: Line = []
    room = width
    for text, style in line:
        part = text if cell_len(text) <= room else set_cell_size(text, room)
        if part:
            fitted.append((part, style))
        room -= cell_len(part)
    return [*fitted, *([(" " * room, "")] if room > 0 else [])]
