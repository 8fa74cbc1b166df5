"""A heat map: rows of values over the columns of a chart, in the colours of confidence. A low loss is bright."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tdiff.draw.axes import FRAME
from tdiff.draw.palettes import Theme, styles
from tdiff.draw.render import Line

_FILLS = " .:-=+*#%@"
"""From low to high, where there is no colour and only ASCII."""
_SHADES = " ░▒▓█"
"""The same with block characters."""


@dataclass(frozen=True, slots=True)
class HeatRow:
    """One row of a heat map."""

    label: str
    """What it is a row of, at its left."""
    values: Sequence[float | None]
    """A value for each column; None where there is none."""
    newest: str
    """Its newest value, at its right."""


def fitting(count: int, height: int) -> tuple[list[int], int]:
    """Which of `count` rows have room in so many lines, evenly spread with the first and the last, and the lines of
    each.
    """
    shown = min(count, max(0, height))
    if shown < 2:
        return list(range(shown)), 1
    chosen = [round(n * (count - 1) / (shown - 1)) for n in range(shown)]
    return chosen, max(1, height // shown)


def heat_lines(
    rows: Sequence[HeatRow], lines_each: int, left: int, theme: Theme, *, cursor: int | None = None
) -> list[Line]:
    """The rows, each of so many lines; labels have `left` cells. `cursor` is a column that is marked."""
    known = [value for row in rows for value in row.values if value is not None]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    lines: list[Line] = []
    for row in rows:
        for n in range(lines_each):
            first = n == (lines_each - 1) // 2  # the label is beside the middle of its row
            line: Line = [(f"{row.label if first else ''} ".rjust(left), FRAME)]
            for column, value in enumerate(row.values):
                text, style = _cell(value, low, high, theme)
                if column == cursor:
                    text, style = ("|" if theme.ascii else "┊"), "bold"
                if len(line) > 1 and line[-1][1] == style:
                    line[-1] = (line[-1][0] + text, style)
                else:
                    line.append((text, style))
            lines.append([*line, (f" {row.newest}" if first else "", "bold")])
    return lines


def heat_legend(rows: Sequence[HeatRow], theme: Theme) -> Line:
    """What the colours of a heat map mean: the highest loss, the ramp, and the lowest."""
    known = [value for row in rows for value in row.values if value is not None]
    if not known:
        return []
    ramp: Line = [_cell(1 - n / 5, 0.0, 1.0, theme) for n in range(6)]
    doubled: Line = [(text * 2, style) for text, style in ramp]
    return [(f"loss {max(known):.2f} ", "dim"), *doubled, (f" {min(known):.2f}", "dim")]


def _cell(value: float | None, low: float, high: float, theme: Theme) -> tuple[str, str]:
    if value is None:
        return " ", ""
    share = 1 - (value - low) / (high - low) if high > low else 0.5  # of what is learnt
    if theme.colour == "none":
        fills = _FILLS if theme.ascii else _SHADES
        return fills[1:][min(len(fills) - 2, int((1 - share) * (len(fills) - 1)))], ""
    shades = styles(theme).shades
    shade = shades[min(len(shades) - 1, int(share * len(shades)))]
    return ("#" if theme.ascii else "█"), shade
