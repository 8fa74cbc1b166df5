"""Axes: linear and logarithmic scales, the values to label, and the text of labels.

It is independent of curves and cells: a scale goes from 0 to 1, and a label is text.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from tdiff.formatting import duration

Cell = tuple[str, str]
"""(character, style)."""
Axis = Literal["step", "time", "epoch", "tokens"]
"""The quantity on the x axis: steps, seconds since the start, epochs, or tokens."""

TINY = 1e-290
"""Scales narrower than this, or than 1e-12 of their ends, are widened: floating point cannot resolve them."""
FRAME = "dim"
"""The style of axes and labels."""
_BEYOND = 0.01
_X_APART = 16
"""Minimum number of cells from one label of the x axis to the next."""
_DURATIONS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)
_UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps `low` to 0 and `high` to 1; low < high, and both are above 0 if it is logarithmic."""

    low: float
    high: float
    log: bool = False

    def share(self, value: float) -> float:
        """The share at which `value` lies; outside of 0..1 beyond the ends, -inf for 0 and below if logarithmic."""
        if not self.log:
            return (value - self.low) / (self.high - self.low)
        if value <= 0:
            return -math.inf
        begin = math.log(self.low)
        return (math.log(value) - begin) / (math.log(self.high) - begin)

    def value(self, share: float) -> float:
        """The value that lies at `share`."""
        if not self.log:
            return self.low + share * (self.high - self.low)
        begin = math.log(self.low)
        return math.exp(min(700.0, begin + share * (math.log(self.high) - begin)))


def scale(low: float, high: float, log: bool) -> Scale:
    """A scale that is never empty: ends that are equal or too close are moved apart in both directions."""
    low, high = min(low, high), max(low, high)
    if log:
        low, high = max(low, TINY), max(high, TINY)
        return Scale(low, high, True) if high > low * (1 + 1e-12) else Scale(low / 1.05, high * 1.05, True)
    size = max(abs(low), abs(high))
    if high - low > max(TINY, 1e-12 * size):
        return Scale(low, high)
    room = 0.04 * size if size > TINY else 1.0
    return Scale(low - room, high + room)


def ticks(scale: Scale, apart: float, axis: Axis | None = None) -> list[float]:
    """Round values on a scale, as many as possible with at least the share `apart` of it between neighbours."""
    values: list[float] = []
    for values in _candidates(scale, apart, axis):
        shares = [scale.share(value) for value in values]
        if all(b - a >= apart for a, b in pairwise(shares)):
            break
    if not values and apart > 0.1:  # a short axis between two round values: a less round one near its middle
        return sorted(ticks(scale, apart / 2, axis), key=lambda value: abs(scale.share(value) - 0.5))[:1]
    return values


def _candidates(scale: Scale, apart: float, axis: Axis | None) -> Iterator[list[float]]:
    """Lists of round values, from many to few."""
    low, high = scale.low, scale.high
    if scale.log and high >= 10 * low:
        first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
        if last - first < 16:
            yield _within(scale, [m * 10.0**e for e in range(first, last) for m in (1, 2, 5)] + [10.0**last])
        every = max(1, int(apart * (last - first)))
        while every <= last - first:
            yield _within(scale, [10.0**e for e in range(-(-first // every) * every, last + 1, every)])
            every += 1
        return
    least = (high - low) * max(apart, 0.01)
    if axis == "time" and least > 1:
        steps: list[float] = [step for step in _DURATIONS if step >= least]
        steps += [86400.0 * 10**e * m for e in range(9) for m in (1, 2, 5) if 86400.0 * 10**e * m >= least]
    else:
        decade = math.floor(math.log10(least))
        steps = [m * 10.0**e for e in range(max(decade, -300), decade + 4) for m in (1, 2, 5) if m * 10.0**e >= least]
    for step in steps:
        yield _within(scale, [n * step for n in range(math.floor(low / step), math.ceil(high / step) + 1)])
        if step > high - low:
            return


def _within(scale: Scale, values: list[float]) -> list[float]:
    """The values on the scale, or too little beyond it to be visible."""
    return [value for value in values if -_BEYOND <= scale.share(value) <= 1 + _BEYOND]


def numbers(values: Sequence[float], step: float) -> list[str]:
    """Numbers in one unit, with enough decimals for values that are `step` apart: 2.5, 87.4k, 2.7e-4."""
    most = max(map(abs, values), default=0.0)
    if most < TINY:
        return ["0"] * len(values)
    unit, suffix = 1.0, ""
    if most < 1e-3 or most >= 1e15:
        power = math.floor(math.log10(most) + 1e-9)
        unit, suffix = 10.0**power, f"e{power}"
    elif most >= 1e4:
        unit, suffix = next((size, letter) for size, letter in _UNITS if most >= size)
        if step < 1e-6 * unit:  # far from zero, and close to each other
            unit, suffix = 1.0, ""
    decimals = min(9, max(0, -math.floor(math.log10(max(step / unit, 1e-12)) + 1e-6)))
    return [f"{value / unit + 0.0:.{decimals}f}{suffix}" if value else "0" for value in values]


def tick_labels(scale: Scale, values: Sequence[float]) -> list[str]:
    """Labels of ticks: with the same unit and decimals on a linear scale, each with its own on a logarithmic one."""
    if scale.log and scale.high >= 10 * scale.low:
        return [numbers([value], value)[0] for value in values]
    apart = min((b - a for a, b in pairwise(values)), default=(scale.high - scale.low) / 4)
    return numbers(values, apart)


def x_label(value: float, axis: Axis, apart: float) -> str:
    """A value on the x axis, precise enough for values that are `apart` from each other: 41,980, 3 h 12 min, 41.9M."""
    if abs(value) >= 1e12 or (axis == "tokens" and abs(value) >= 1e4):
        return numbers([value], min(apart, abs(value) / 10))[0]
    if axis == "time" and apart >= 1:
        return duration(value)
    decimals = min(9, max(0, -math.floor(math.log10(max(apart, 1e-12)) + 1e-6)))
    text = f"{value:,.{decimals}f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return f"{text} s" if axis == "time" else text


def x_line(
    x: Scale, width: int, axis: Axis, marks: Mapping[int, Cell], *, labels: bool, note: str, ascii: bool
) -> tuple[list[Cell], list[int]]:
    """The cells of an x axis, and the columns of the marks that do not fit because of a label.

    `labels`: whether to label the ends of x and round values between them; a `note` replaces the labels in between.
    """
    cells, taken = ["-" if ascii else "─"] * width, [False] * width

    def put(text: str, begin: int) -> None:
        end = begin + len(text)
        if begin >= 0 and end <= width and not any(taken[begin:end]):
            cells[begin:end] = text
            taken[begin:end] = [True] * len(text)

    if labels:
        first, last = (x_label(v, axis, v / 100 if x.log else (x.high - x.low) / 100) for v in (x.low, x.high))
        put(f" {last}", width - len(last) - 1)
        put(f" {first} ", 0)
    if note:
        put(f" {note} ", (width - len(note)) // 2 - 1)
    elif labels:
        values = ticks(x, _X_APART / max(width, 1), axis)
        apart = min((b - a for a, b in pairwise(values)), default=x.high - x.low)
        for value in values:
            text = x_label(value, axis, value if x.log else apart)
            put(f" {text} ", round(x.share(value) * (width - 1)) - len(text) // 2 - 1)
    line = [marks[n] if n in marks and not taken[n] else (cells[n], FRAME) for n in range(width)]
    return line, [n for n in marks if taken[n]]
