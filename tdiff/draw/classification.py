"""The view of a live classification as lines of text: bars, a chart of log odds, and the text. Pure functions."""

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
_NAME_WIDTH = 16
"""Maximum width of a class's name in cells."""
_COLOURS = ("color(39)", "color(208)", "color(76)", "color(170)", "color(220)", "color(244)")
_MIN_ROWS, _MAX_ROWS = 4, 9
"""The minimum and maximum number of rows of the chart of log odds."""
_MIN_COLUMNS = 20
"""Minimum number of columns of that chart."""
_MIN_PROBABILITY = 0.001
"""The lowest probability in the chart; the highest is 1 minus it."""


def bars(classes: Sequence[str], newest: PredictionRound | None, width: int, theme: Theme) -> list[Line]:
    """A bar for each class; its length is the probability."""
    names = min(_NAME_WIDTH, max(cell_len(name) for name in classes))
    room = max(4, width - names - 28)
    best = max(range(len(classes)), key=lambda n: newest.posterior[n]) if newest else -1
    lines: list[Line] = []
    for n, name in enumerate(classes):
        p = newest.posterior[n] if newest else 0.0
        percent = f" {p:6.1%}" if newest else "      …"
        interval = f"  ({newest.interval[0]:.1%}..{newest.interval[1]:.1%})" if newest and n == best else ""
        shown = set_cell_size(name, names)
        lines.append(
            [
                (f" {shown} ", "bold" if n == best else ""),
                (bar(p, room, theme.ascii), _style(n, theme)),
                (percent + interval, ""),
            ]
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


def log_odds_chart(
    rounds: Sequence[PredictionRound], classes: Sequence[str], max_draws: int, width: int, height: int, theme: Theme
) -> list[Line]:
    """The log odds of each class against all others by the number of mask samples; [] where it has no room."""
    if height < _MIN_ROWS or width < _MIN_COLUMNS or not rounds:
        return []
    left = 7
    dots = Dots(width - left, height, ascii=theme.ascii)
    across, down = (width - left) * dots.across, height * dots.down
    reach = max(1.0, *(abs(_log_odds(p)) for update in rounds for p in update.posterior))
    last = max(max_draws, rounds[-1].draws)
    middle = (down - 1) // 2
    dots.strokes([middle] * across, [middle] * across, dots.pen("dim", "-", behind=True))
    for n in range(len(classes)):
        tops, bottoms = [1] * across, [0] * across
        points = [
            (min(across - 1, round(update.draws / last * (across - 1))), _row(update.posterior[n], reach, down))
            for update in rounds
        ]
        for (x0, y0), (x1, y1) in zip([points[0], *points], points, strict=False):
            for x in range(x0, x1 + 1):
                y = y1 if x1 == x0 else round(y0 + (y1 - y0) * (x - x0) / (x1 - x0))
                tops[x], bottoms[x] = y, y
        dots.strokes(tops, bottoms, dots.pen(_style(n, theme), classes[n][:1] or "*"))
    labels = {0: f"{reach:+.1f}", middle // dots.down: "0", height - 1: f"{-reach:+.1f}"}
    edge, tick = ("|", "+") if theme.ascii else ("│", "┤")
    heads = [labels.get(n, "").rjust(left - 1) + (tick if n in labels else edge) for n in range(height)]
    return [[(head, ""), *dots.line(n)] for n, head in enumerate(heads)]


def _style(n: int, theme: Theme) -> str:
    """The style of the class at position `n`."""
    if theme.colour == "none":
        return ""
    return "cyan" if theme.colour == "16" else _COLOURS[n % len(_COLOURS)]


def _log_odds(p: float) -> float:
    p = min(1 - _MIN_PROBABILITY, max(_MIN_PROBABILITY, p))
    return math.log(p / (1 - p))


def _row(p: float, reach: float, down: int) -> int:
    """The row of dots for a probability, in a chart of `down` rows from log odds `reach` to -`reach`."""
    return round((1 - (_log_odds(p) / reach + 1) / 2) * (down - 1))


def status(newest: PredictionRound | None, max_draws: int, seconds: float, ascii: bool) -> str:
    """The number of mask samples, the state of the decision, and the seconds so far."""
    dot = "|" if ascii else "·"
    if newest is None:
        return f"scoring {dot} {seconds:.1f} s"
    undecided = f"not decided after {newest.draws} mask samples" if newest.final else "not decided yet"
    state = "decided" if newest.sure else undecided
    return f"{newest.draws} of at most {max_draws} mask samples {dot} {state} {dot} {seconds:.1f} s"


def text_lines(parts: Sequence[Contribution], width: int, theme: Theme) -> list[Line]:
    """The text in lines of `width` cells, its words coloured by their contributions."""
    line = shaded(parts, theme)
    layout = lay_out([run for run, _ in line], max(1, width))
    return [[(piece, line[n][1]) for n, piece in row] for row in layout.rows]


def view(
    classes: Sequence[str],
    rounds: Sequence[PredictionRound],
    parts: Sequence[Contribution],
    *,
    max_draws: int,
    seconds: float,
    size: tuple[int, int],
    top: int,
    theme: Theme,
) -> list[Line]:
    """The complete view for a window of `size` (columns, rows); the text is shown from its row `top` on.

    At most `max_draws` mask samples are drawn, for which the classification has taken `seconds` so far.
    """
    width, height = size
    newest = rounds[-1] if rounds else None
    lines = bars(classes, newest, width, theme) if classes else []
    lines = lines[: max(1, height - 3)]
    lines.append([(f" {status(newest, max_draws, seconds, theme.ascii)}", "dim")])
    room = height - len(lines)
    chart = log_odds_chart(rounds, classes, max_draws, width, min(_MAX_ROWS, room // 3), theme) if classes else []
    if chart:
        lines += [*chart, [(" log odds by number of mask samples", "dim")]]
    lines.append([])
    rows = text_lines(parts, width - 2, theme)
    top = max(0, min(top, len(rows) - (height - len(lines))))
    lines += [[(" ", ""), *row] for row in rows[top : top + max(0, height - len(lines))]]
    return lines[:height]
