"""Numbers as logs spell them: thousands apart, durations, dates, and every spelling of what is not finite."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

from tdiff.watch.formats.names import PART, Meaning, Role

NOT_FINITE = r"[-+]?(?:nan|inf(?:inity)?)(?:\(\w*\))?|[-+]?1\.#(?:QNAN|SNAN|IND|INF)\w*"
"""A pattern of spellings that are not finite, in any case: those of C, of Windows' C, of Python and of JSON."""
_NOT_FINITE = re.compile(NOT_FINITE, re.IGNORECASE)
_THOUSANDS = re.compile(r"[-+]?\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_LONGEST = 40


def parsed(text: str) -> float | None:
    """The number that a text is; None where it is none."""
    try:
        return float(text)
    except ValueError:
        text = text.strip()
    if _NOT_FINITE.fullmatch(text):
        lowered = text.lower()
        if "nan" in lowered or "ind" in lowered:
            return math.nan
        return -math.inf if lowered.startswith("-") else math.inf
    return float(text.replace(",", "")) if _THOUSANDS.fullmatch(text) else None


def seconds(text: str) -> float | None:
    """The seconds in `37`, `20:11`, `1:20:11` or `2:01:20:11`; None for anything else."""
    parts = text.split(":")
    if not text or len(parts) > 4 or not all(part.isdecimal() and len(part) < 9 for part in parts):
        return None
    total = 0.0
    for part, base in zip(parts, (60, 60, 60, 60) if len(parts) < 4 else (1, 24, 60, 60), strict=False):
        total = base * total + int(part)
    return total


def moment(stamp: str) -> float | None:
    """Seconds since 1970 of a date and a time; without a zone they are local."""
    try:
        return datetime.fromisoformat(stamp.replace("/", "-").replace(",", ".").replace("_", "T")).timestamp()
    except (ValueError, OverflowError, OSError):
        return None


def decoded(value: Any, name: str, meaning: Callable[[str], Meaning]) -> float | None:
    """The number that a decoded value is, text such as `"6.263"` and null for a loss included; None for no number."""
    if type(value) is float:
        return value
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float)):
        try:
            return float(value)
        except OverflowError:
            return None
    if value is None or value == "null":
        known = meaning(name)
        return math.nan if known.role is Role.LOSS and known.precedence < PART and known.split != "eval" else None
    if not isinstance(value, str) or len(value) > _LONGEST:
        return None
    number = parsed(value)
    if number is not None:
        return number
    role = meaning(name).role
    if role in (Role.ELAPSED, Role.REMAINING):
        return seconds(value.partition(".")[0])
    return moment(value) if role is Role.TIME else None
