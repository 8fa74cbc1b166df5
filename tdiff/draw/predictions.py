"""Class predictions and their calibration as lines of text: pure functions of plain numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tdiff.draw.dots import Dots
from tdiff.draw.palettes import Theme
from tdiff.draw.render import Line
from tdiff.protocol.prediction import Contribution

_SHADES = {
    # (for, against), from weak to strong: blue and orange, which differ under red-green colour blindness too.
    "dark": (("on color(17)", "on color(18)", "on color(20)"), ("on color(52)", "on color(94)", "on color(130)")),
    "light": (("on color(195)", "on color(153)", "on color(111)"), ("on color(230)", "on color(223)", "on color(215)")),
}
_SIXTEEN = (("", "blue", "bold blue"), ("", "yellow", "bold yellow"))
_PLAIN = (("", "", "bold"), ("", "", "underline"))
_LEVELS = (0.12, 0.35, 0.7)
"""The shares of the strongest contribution from which each shade is used."""
_WORDS = 5
"""Words that `strongest` returns for each side, at most."""


def words(pieces: Sequence[Contribution]) -> list[Contribution]:
    """Pieces joined to words, each with the white space before it; the contributions of its pieces are summed."""
    joined: list[Contribution] = []
    for piece in pieces:
        begins = piece.text[:1].isspace() or not joined or joined[-1].text[-1:].isspace()
        if begins and not (joined and not joined[-1].text.strip()):
            joined.append(piece)
        else:
            joined[-1] = Contribution(joined[-1].text + piece.text, joined[-1].nats + piece.nats)
    return joined


def shaded(parts: Sequence[Contribution], theme: Theme) -> Line:
    """The parts as a line, coloured by their contributions."""
    largest = max((abs(part.nats) for part in parts), default=0.0)
    sides = {"none": _PLAIN, "16": _SIXTEEN}.get(theme.colour, _SHADES[theme.background])
    line: Line = []
    for part in parts:
        level = sum(abs(part.nats) >= share * largest for share in _LEVELS) if largest else 0
        style = sides[part.nats < 0][level - 1] if level else ""
        word = part.text.lstrip(" ")
        line += [(part.text[: len(part.text) - len(word)], ""), (word, style)]
    return [run for run in line if run[0]]


def strongest(parts: Sequence[Contribution]) -> tuple[list[Contribution], list[Contribution]]:
    """The words that support the prediction most, and those that oppose it most; the strongest first."""
    order = sorted(parts, key=lambda part: part.nats)
    return [p for p in reversed(order) if p.nats > 0][:_WORDS], [p for p in order if p.nats < 0][:_WORDS]


def reliability(
    bins: Sequence[tuple[float, float, int]], width: int = 44, height: int = 12, ascii: bool = False
) -> list[Line]:
    """A reliability diagram of bins (mean probability, accuracy, count): on the diagonal both are equal.

    Each bin has a bar over the 95% interval of its accuracy. Below the diagonal the probabilities are too high
    (overconfident), above it too low.
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
