"""Curves to draw, and what is read from a drawn chart."""

import functools
import math
import random

from hypothesis import settings as examples
from hypothesis import strategies as st
from rich.style import Style

from tdiff.draw.curves import Curve
from tdiff.draw.render import plain
from tdiff.series.series import Series

FEW = examples(derandomize=True, deadline=None, max_examples=80, database=None)


BITS = {0x01: (0, 0), 0x02: (0, 1), 0x04: (0, 2), 0x40: (0, 3), 0x08: (1, 0), 0x10: (1, 1), 0x20: (1, 2), 0x80: (1, 3)}


def series(values, every: float = 1, first: float = 0, cap: int = 1 << 16) -> Series:
    made = Series(cap)
    made.extend([first + every * n for n in range(len(values))], values)
    return made


def curve(values, label: str = "train/loss", style: str = "color(215)", **how) -> Curve:
    return Curve(series(values, **how), style, label)


def falling(count: int, seed: int = 1, noise: float = 0.1) -> list[float]:
    draws = random.Random(seed)
    return [2.2 + 4 * math.exp(-12 * n / count) + draws.gauss(0, noise) for n in range(count)]


def dots(lines, left: int) -> set[tuple[int, int]]:
    """(column, row) of every dot of braille, counted from the upper left of the plotted area."""
    found = set()
    for y, line in enumerate(plain(lines).split("\n")):
        for x, character in enumerate(line[left:]):
            code = ord(character) - 0x2800
            if 0 < code < 256:
                found |= {(2 * x + dx, 4 * y + dy) for bit, (dx, dy) in BITS.items() if code & bit}
    return found


def cells(lines) -> list[list[tuple[str, str]]]:
    """(character, style) of every cell."""
    return [[(character, style) for text, style in line for character in text] for line in lines]


# Any input


@functools.cache
def readable(style: str) -> Style:
    return Style.parse(style)


NUMBER = st.one_of(
    st.floats(-100, 100),
    st.floats(),
    st.sampled_from([0.0, 1.0, -1.0, 1e-300, 5e-324, 1e299, -1e299, math.nan, math.inf, 1.7e9]),
)
