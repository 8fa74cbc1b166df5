"""A widget of plain lines, of which only changed rows are drawn again; and functions on `render.Line`."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size

from tdiff.draw.render import Line
from tdiff.tui.widgets.sparse import Sparse


class Lines(Sparse):
    """A widget that shows lines; rows beyond them are blank."""

    DEFAULT_CSS = "Lines { height: 1; width: 1fr; }"

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._lines: list[Line] = []

    def show(self, lines: Sequence[Line]) -> None:
        """Show these lines from the top."""
        before, self._lines = self._lines, [list(line) for line in lines]
        changed = {y for y in range(min(len(before), len(lines))) if before[y] != lines[y]}
        self.refresh_rows(changed | set(range(*sorted((len(before), len(lines))))))

    def line(self, y: int) -> Line:
        """A row, clipped to the width."""
        return clip(self._lines[y], self.size.width) if y < len(self._lines) else []


def line_width(line: Line) -> int:
    """Width of a line in cells."""
    return sum(cell_len(text) for text, _ in line)


def clip(line: Line, width: int) -> Line:
    """The first `width` cells of a line."""
    clipped: Line = []
    for text, style in line:
        room = width - line_width(clipped)
        if room <= 0:
            break
        clipped.append((text if cell_len(text) <= room else set_cell_size(text, room), style))
    return clipped


def shortened(line: Line, width: int) -> Line:
    """As many of the parts between middle dots as fit into `width` cells; the first one clipped where none fits."""
    if line_width(line) <= width:
        return line
    text = "".join(run for run, _ in line)
    ends = [match.start() for match in re.finditer(" · ", text)]
    fitting = [size for end in ends if (size := cell_len(text[:end])) <= width]
    return clip(line, fitting[-1] if fitting else width)


def whole_figures(line: Line, width: int) -> Line:
    """As `shortened`, but where not even the first part fits, only its last words that do: no number is cut."""
    if first_part(line) <= width:
        return shortened(line, width)
    words = "".join(run for run, _ in line).partition(" · ")[0].split()
    while words and cell_len(" ".join(words)) > width:
        words.pop(0)
    return [(" ".join(words), line[0][1])] if words else []


def first_part(line: Line) -> int:
    """Width in cells of the part before the first middle dot."""
    return cell_len("".join(run for run, _ in line).partition(" · ")[0])


def wrapped(line: Line, width: int) -> tuple[Line, Line]:
    """The words of a line that fit into `width` cells, and the rest."""
    if line_width(line) <= width:
        return line, []
    words = [(word, style) for text, style in line for word in re.findall(r" *[^ ]+| +", text)]
    first: Line = []
    while words and line_width([*first, words[0]]) <= width:
        first.append(words.pop(0))
    if not first:  # the first word is wider than the line
        return clip(line, width), []
    words[0] = words[0][0].lstrip(), words[0][1]
    return first, words


def fold(line: Line, width: int) -> list[Line]:
    """All words of a line in rows of `width` cells, indented from the second row on as the second run or the text is.

    A word that is wider than a row is cut.
    """
    if line_width(line) <= width or width <= 0:
        return [line]
    text = "".join(run for run, _ in line)
    indent = len(text) - len(text.lstrip())
    if len(line) > 1 and indent < (first := cell_len(line[0][0]) + 1) <= width // 2:
        indent = first
    indent = min(indent, width // 2)
    rows: list[Line] = []
    rest = line
    while rest:
        head, rest = wrapped(rest, width if not rows else width - indent)
        rows.append([(" " * indent, ""), *head] if rows else head)
    return rows


def two_ends(left: Line, right: Line, width: int, fill: str = " ", style: str = "") -> Line:
    """A line of exactly `width` cells: `left`, `fill`, `right`; the left part is cut where it does not fit."""
    right = clip(right, width)
    left = clip(left, width - line_width(right))
    gap = width - line_width(left) - line_width(right)
    return [*left, *([(fill * gap, style)] if gap else []), *right]
