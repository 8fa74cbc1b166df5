"""Numbers for people: durations, counts, sizes, losses and shares as short text.

Each function shows a value that is missing or not finite as `NOT_FINITE`, unless its docstring names another text.
"""

from __future__ import annotations

import math

NOT_FINITE = "not finite"
_UNITS = ((1e9, "G"), (1e6, "M"))
_BYTES = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))
_DAY = 86400


def duration(seconds: float) -> str:
    """A duration: 45 s, 3 min 20 s, 12 min, 2 h 05 min."""
    rounded = round(seconds)
    if rounded < 60:
        return f"{rounded} s"
    if rounded < 600:
        return f"{rounded // 60} min {rounded % 60:02d} s"
    minutes = round(rounded / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def age(seconds: float) -> str:
    """A duration that may be very long: as `duration` up to 48 hours, in whole days from there on."""
    return duration(seconds) if seconds < 2 * _DAY else f"{seconds / _DAY:,.0f} days"


def size(count: int) -> str:
    """A number of bytes: 812 bytes, 1.4 MB, 438 MB."""
    for unit, name in _BYTES:
        if count >= unit:
            return f"{count / unit:,.0f} {name}" if count >= 10 * unit else f"{count / unit:.1f} {name}"
    return f"{count} bytes"


def short(value: float | None) -> str:
    """A number in at most three significant digits or with a unit: 0.48, 2.7e-05, 8,192, 20.1M."""
    if value is None or not math.isfinite(value):
        return NOT_FINITE
    for unit, name in _UNITS:
        if unit <= abs(value) < 1e12:
            return f"{value / unit:.1f}{name}"
    return f"{value:,.0f}" if 1e3 <= abs(value) < 1e6 else f"{value:.3g}"


def loss(value: float | None) -> str:
    """A loss or a norm with four decimals, or with four significant digits where it is very small or very large."""
    if value is None or not math.isfinite(value):
        return NOT_FINITE
    return f"{value:.4f}" if 1e-3 <= abs(value) < 1e5 or not value else f"{value:.4g}"


def percent(value: float | None) -> str:
    """A share of 0..1 in percent with one decimal: 85.2%."""
    return f"{value:.1%}" if value is not None and math.isfinite(value) else NOT_FINITE


def probability(value: float | None) -> str:
    """A share of 0..1 with three decimals: 0.852; "-" if there is none."""
    return "-" if value is None else f"{value:.3f}"
