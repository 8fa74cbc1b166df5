"""Verdicts and how good they are, as lines of text: pure functions of plain numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tdiff.draw.dots import Dots
from tdiff.draw.palettes import Theme
from tdiff.draw.render import Line
from tdiff.protocol.prediction import Contribution

_SHADES = {
    # (for, against), from weak to strong: blue and orange, which those who see no red tell apart too.
    "dark": (("on color(17)", "on color(18)", "on color(20)"), ("on color(52)", "on color(94)", "on color(130)")),
    "light": (("on color(195)", "on color(153)", "on color(111)"), ("on color(230)", "on color(223)", "on color(215)")),
}
_SIXTEEN = (("", "blue", "bold blue"), ("", "yellow", "bold yellow"))
_PLAIN = (("", "", "bold"), ("", "", "underline"))
_LEVELS = (0.12, 0.35, 0.7)
"""Shares of the strongest contribution at which the shades begin."""
_WORDS = 5
"""Named on each side."""


def words(pieces: Sequence[Contribution]) -> list[Contribution]:
    """The pieces of each word together, with the white space before it: what they add is summed."""
    found: list[Contribution] = []
    for piece in pieces:
        begins = piece.text[:1].isspace() or not found or found[-1].text[-1:].isspace()
        if begins and not (found and not found[-1].text.strip()):
            found.append(piece)
        else:
            found[-1] = Contribution(found[-1].text + piece.text, found[-1].nats + piece.nats)
    return found


def shaded(parts: Sequence[Contribution], look: Theme) -> Line:
    """The parts, coloured by what they add."""
    most = max((abs(part.nats) for part in parts), default=0.0)
    sides = {"none": _PLAIN, "16": _SIXTEEN}.get(look.colour, _SHADES[look.ground])
    line: Line = []
    for part in parts:
        level = sum(abs(part.nats) >= share * most for share in _LEVELS) if most else 0
        style = sides[part.nats < 0][level - 1] if level else ""
        bare = part.text.lstrip(" ")
        line += [(part.text[: len(part.text) - len(bare)], ""), (bare, style)]
    return [run for run in line if run[0]]


def strongest(parts: Sequence[Contribution]) -> tuple[list[Contribution], list[Contribution]]:
    """The words that speak most for the verdict, and those that speak most against it."""
    order = sorted(parts, key=lambda part: part.nats)
    return [p for p in reversed(order) if p.nats > 0][:_WORDS], [p for p in order if p.nats < 0][:_WORDS]


def reliability(
    bins: Sequence[tuple[float, float, int]], width: int = 44, height: int = 12, ascii: bool = False
) -> list[Line]:
    """Bins of verdicts (mean probability, share right, count) as a picture: on the diagonal doubt is honest.

    Each has a bar over the 95% interval of its share; below the diagonal is boasting, above it modesty.
    """
    dots = Dots(width, height, ascii=ascii)
    across, down = width * dots.across, height * dots.down
    diagonal = dots.pen("dim", ".", behind=True)
    tops, bottoms = [1] * across, [0] * across
    for column in range(0, across, 1 if ascii else 4):
        tops[column] = bottoms[column] = min(down - 1, int((1 - (column + 0.5) / across) * down))
    dots.strokes(tops, bottoms, diagonal)
    pen = dots.pen("cyan", "|")
    marks = []
    for confidence, share, count in bins:
        if not count:
            continue
        column = min(across - 1, int(confidence * across))
        half = 1.96 * math.sqrt(max(share * (1 - share), 0.25 / count) / count)
        row = [min(down - 1, max(0, int((1 - value) * down))) for value in (share + half, share - half)]
        tops, bottoms = [1] * across, [0] * across
        tops[column], bottoms[column] = row[0], row[1]
        dots.strokes(tops, bottoms, pen)
        marks.append((min(height - 1, int((1 - share) * height)), column // dots.across))
    for row_of, column in marks:
        dots.put(row_of, column, "o" if ascii else "●", "bold cyan")
    tick, bar, corner, flat = ("+", "|", "+", "-") if ascii else ("┤", "│", "└", "─")
    labels = {0: "1.0", height // 2: "0.5", height - 1: "0.0"}
    lines: list[Line] = [[("accuracy", "")]]
    lines += [[(labels.get(n, "").rjust(4) + (tick if n in labels else bar), ""), *dots.line(n)] for n in range(height)]
    lines.append([("    " + corner + flat * width, "")])
    ends = "0" + "0.5".center(width - 2) + "1"
    lines.append([(f"     {ends}  probability", "")])
    return lines
