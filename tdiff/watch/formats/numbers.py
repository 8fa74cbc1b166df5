"""Numbers as logs spell them: thousands apart, durations, dates, and every spelling of what is not finite."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

from tdiff.patterns import lazy
from tdiff.watch.formats.names import PART, Meaning, Role

NOT_FINITE = r"[-+]?(?:nan|inf(?:inity)?)(?:\(\w*\))?|[-+]?1\.#(?:QNAN|SNAN|IND|INF)\w*"
"""A pattern of spellings that are not finite, in any case: those of C, of Windows' C, of Python and of JSON."""
_NOT_FINITE = lazy(NOT_FINITE, re.IGNORECASE)
APART = "'\u2019\u00a0\u2009\u202f_"
"""What divides thousands and can be no decimal sign: apostrophes, narrow blanks, and the underscore of Python."""
EXPONENT = r"[eE][-+]?\d+|[dD][-+]\d{1,3}"
"""A pattern of exponents; Fortran writes a D."""
GROUPED = rf"[1-9]\d{{0,2}}(?:(?:,\d{{3}})+|(?:[{APART}]\d{{3}})+)(?:\.\d+)?"
"""A pattern of numbers with their thousands apart."""
DECIMAL_COMMA = r"\d+,\d+(?![\d,.])"
"""A pattern of numbers with a decimal comma; one of three decimals may as well be thousands."""
_THOUSANDS = lazy(rf"[-+]?{GROUPED}")
_DIVIDERS = lazy(f"[,{APART}]")
_COMMA = lazy(rf"[-+]?\d+,\d+(?:{EXPONENT})?")
_FORTRAN = lazy(r"[-+]?(?:\d+\.?\d*|\.\d+)[dD](?:[-+]\d{1,3}|\d\d)")
_DOTS = lazy(r"[-+]?[1-9]\d{0,2}(?:\.\d{3})+(?:,\d+)?")
_LONGEST = 40
_EARLIEST, _LATEST = 1e8, 1e11
"""Moments in seconds since 1970."""
MEASURED = (Role.LOSS, Role.LEARNING_RATE, Role.GRAD_NORM)
"""What is small, and no count: a comma in it is unlikely to divide thousands."""


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
    if _THOUSANDS.fullmatch(text):
        return float(_DIVIDERS.sub("", text))
    if _FORTRAN.fullmatch(text):
        return float(text.upper().replace("D", "E"))
    return with_decimal_comma(text) if "," in text else None


def with_decimal_comma(text: str) -> float | None:
    """The number that a text is where commas are decimal signs (`0,5`, `1.234,5`); None where it is none."""
    text = text.strip()
    if _COMMA.fullmatch(text) is not None:
        return float(text.upper().replace(",", ".").replace("D", "E"))
    return float(text.replace(".", "").replace(",", ".")) if "," in text and _DOTS.fullmatch(text) else None


def dots_for_thousands(text: str) -> float | None:
    """The count that a text is where dots divide thousands (`1.500`); None where it is none."""
    text = text.strip()
    return float(text.replace(".", "")) if "," not in text and _DOTS.fullmatch(text) else None


def is_ambiguous(text: str) -> bool:
    """Whether a comma may be a decimal sign or may divide thousands (`2,738`)."""
    return text.count(",") == 1 and "." not in text and _THOUSANDS.fullmatch(text) is not None


def has_decimal_comma(text: str) -> bool:
    """Whether a comma can only be a decimal sign (`0,93`)."""
    return "," in text and not _THOUSANDS.fullmatch(text.strip()) and with_decimal_comma(text) is not None


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
    role = meaning(name).role
    if "," in value and role in MEASURED and is_ambiguous(value.strip()):
        return None  # rather none than a thousand times the loss
    number = parsed(value)
    if number is not None:
        return number
    if role in (Role.ELAPSED, Role.REMAINING):
        return seconds(value.partition(".")[0])
    return moment(value) if role is Role.TIME else None


def when(value: float) -> float | None:
    """Seconds since 1970, from those or from milli-, micro- or nanoseconds; None for what can be no date."""
    if not _EARLIEST <= value < 1e20:
        return None
    while value >= _LATEST:
        value /= 1e3
    return value if value >= _EARLIEST else None
