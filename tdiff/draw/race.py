"""Class probabilities while mask samples arrive, as lines of text: bars, log odds, and the text. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size

from tdiff.draw.canvas_layout import lay_out
from tdiff.draw.dots import Dots
from tdiff.draw.palettes import Theme
from tdiff.draw.predictions import shaded
from tdiff.draw.render import Line
from tdiff.protocol.prediction import Contribution, PredictionRound

_EIGHTHS = " ▏▎▍▌▋▊▉"
_NAME = 16
"""Cells of a class's name at most."""
_COLOURS = ("color(39)", "color(208)", "color(76)", "color(170)", "color(220)", "color(244)")
_LOW, _HIGH = 4, 9
"""The lowest and the highest number of rows of the log-odds chart."""
_LEAST = 0.001
"""The lowest probability in the log-odds chart; the highest is 1 minus it."""


def bars(classes: Sequence[str], now: PredictionRound | None, width: int, theme: Theme) -> list[Line]:
    """A bar for each class; its length is the probability."""
    names = min(_NAME, max(cell_len(name) for name in classes))
    room = max(4, width - names - 28)
    best = max(range(len(classes)), key=lambda n: now.posterior[n]) if now else -1
    lines: list[Line] = []
    for n, name in enumerate(classes):
        p = now.posterior[n] if now else 0.0
        style = "" if theme.colour == "none" else "cyan" if theme.colour == "16" else _COLOURS[n % len(_COLOURS)]
        percent = f" {p:6.1%}" if now else "      …"
        interval = f"  ({now.interval[0]:.1%}..{now.interval[1]:.1%})" if now and n == best else ""
        shown = set_cell_size(name, names)
        lines.append(
            [(f" {shown} ", "bold" if n == best else ""), (bar(p, room, theme.ascii), style), (percent + interval, "")]
        )
    return lines


def bar(share: float, width: int, ascii: bool) -> str:
    """A bar of `width` cells, of which `share` is filled, to an eighth of a cell."""
    filled = max(0.0, min(1.0, share)) * width
    if ascii:
        return ("#" * round(filled)).ljust(width, "-")
    blocks = int(filled)
    rest = _EIGHTHS[int((filled - blocks) * 8)] if blocks < width else ""
    return ("█" * blocks + rest.strip(" ")).ljust(width, " ")


def course(
    rounds: Sequence[PredictionRound], classes: Sequence[str], most: int, width: int, height: int, theme: Theme
) -> list[Line]:
    """A chart of all rounds: the log odds of each class against all others, by mask samples; [] without room for it."""
    if height < _LOW or width < 20 or not rounds:
        return []
    left = 7
    dots = Dots(width - left, height, ascii=theme.ascii)
    across, down = (width - left) * dots.across, height * dots.down
    reach = max(1.0, *(abs(_log_odds(p)) for update in rounds for p in update.posterior))
    last = max(most, rounds[-1].draws)
    middle = (down - 1) // 2
    dots.strokes([middle] * across, [middle] * across, dots.pen("dim", "-", behind=True))
    for n in range(len(classes)):
        style = "" if theme.colour == "none" else "cyan" if theme.colour == "16" else _COLOURS[n % len(_COLOURS)]
        tops, bottoms = [1] * across, [0] * across
        points = [
            (min(across - 1, round(update.draws / last * (across - 1))), _row(update.posterior[n], reach, down))
            for update in rounds
        ]
        for (x0, y0), (x1, y1) in zip([points[0], *points], points, strict=False):
            for x in range(x0, x1 + 1):
                y = y1 if x1 == x0 else round(y0 + (y1 - y0) * (x - x0) / (x1 - x0))
                tops[x], bottoms[x] = y, y
        dots.strokes(tops, bottoms, dots.pen(style, classes[n][:1] or "*"))
    labels = {0: f"{reach:+.1f}", middle // dots.down: "0", height - 1: f"{-reach:+.1f}"}
    edge, tick = ("|", "+") if theme.ascii else ("│", "┤")
    heads = [labels.get(n, "").rjust(left - 1) + (tick if n in labels else edge) for n in range(height)]
    return [[(head, ""), *dots.line(n)] for n, head in enumerate(heads)]


def _log_odds(p: float) -> float:
    p = min(1 - _LEAST, max(_LEAST, p))
    return math.log(p / (1 - p))


def _row(p: float, reach: float, down: int) -> int:
    return round((1 - (_log_odds(p) / reach + 1) / 2) * (down - 1))


def status(now: PredictionRound | None, most: int, seconds: float, ascii: bool) -> str:
    """The number of mask samples, the state of the decision, and the seconds so far."""
    dot = "|" if ascii else "·"
    if now is None:
        return f"scoring {dot} {seconds:.1f} s"
    state = "decided" if now.sure else f"not decided in {now.draws} draws" if now.final else "not decided yet"
    return f"{now.draws} of {most} draws at most {dot} {state} {dot} {seconds:.1f} s"


def text(parts: Sequence[Contribution], width: int, theme: Theme) -> list[Line]:
    """The text in lines of `width` cells, its words coloured by their contributions."""
    line = shaded(parts, theme)
    layout = lay_out([run for run, _ in line], max(1, width))
    return [[(piece, line[n][1]) for n, piece in row] for row in layout.rows]


def view(
    classes: Sequence[str],
    rounds: Sequence[PredictionRound],
    parts: Sequence[Contribution],
    *,
    most: int,
    seconds: float,
    size: tuple[int, int],
    top: int,
    theme: Theme,
) -> list[Line]:
    """The complete view for a window of `size` (columns, rows); the text is shown from its row `top` on."""
    width, height = size
    now = rounds[-1] if rounds else None
    lines = bars(classes, now, width, theme) if classes else []
    lines = lines[: max(1, height - 3)]
    lines.append([(f" {status(now, most, seconds, theme.ascii)}", "dim")])
    room = height - len(lines)
    chart = course(rounds, classes, most, width, min(_HIGH, room // 3), theme) if classes else []
    if chart:
        lines += [*chart, [(" log odds, by draws", "dim")]]
    lines.append([])
    rows = text(parts, width - 2, theme)
    top = max(0, min(top, len(rows) - (height - len(lines))))
    lines += [[(" ", ""), *row] for row in rows[top : top + max(0, height - len(lines))]]
    return lines[:height]
