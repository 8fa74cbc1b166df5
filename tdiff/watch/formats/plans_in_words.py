"""Plans in words: `training the model for 700 steps`, `20k iterations, batch size 32`; and those among settings."""

from __future__ import annotations

import re
from typing import NamedTuple

from tdiff.patterns import lazy
from tdiff.watch.formats.numbers import parsed

LISTED = "number of "
"""What the name of a plan begins with that only stands in a list; a log that is under way may count so too."""
_COUNT = (
    r"(?P<number>\d[\d,]*)(?P<kilo>[kKM]?)\s+"
    r"(?P<unit>(?:env(?:ironment)? )?(?:time)?steps|iterations|iters|its|updates|epochs"
)
_PLANNED = lazy(
    r"\b(?:train|training|run|running|fit|fitting|optimizing|optimising)\b(?:\s[a-z]+){0,3}\s+for\s+"
    rf"{_COUNT}|batches)\b(?!/|\s+(?:each|per|an?)\b)",
    re.IGNORECASE,
)
_LISTED = lazy(rf"(?:^|[,;|(]|=>)\s*{_COUNT})\s*(?:[,;|).]|$)", re.IGNORECASE)
_IS_NO_PLAN = lazy(
    r"\b(?:every|each|per|after|at|resum\w+|restor\w+|load\w+|warm-?up|done|took|finish\w+|complet\w+|sav\w+|skip\w*|"
    r"elapsed|seconds|left|remaining|best|improv\w+|patience|last|so far|reached|passed|"
    r"stopp\w+)\b|\d\s?s\b|/s\b|/it\b",
    re.IGNORECASE,
)
_OPTION = lazy(
    r"(?<![^\s\"'])--(?P<unit>iters|iterations|steps|updates|epochs)[\"']?(?:=|,?\s+)[\"']?(?P<number>\d+)(?P<kilo>)"
    r"(?![^\s\"'\]])",
    re.IGNORECASE,
)
_SETTING = lazy(
    r"(?<![\w./-])(?P<unit>iters|iterations|steps|updates)\s?[=:]\s?(?P<number>\d+)(?P<kilo>[kKM]?)(?=[\s,;)}|]|$)",
    re.IGNORECASE,
)
_RATE = lazy(r"(?<![\w./-])(?:lr|learning[ _-]?rate|eta)\s?[=:]\s?[\d.]", re.IGNORECASE)
_OTHER_SETTING = lazy(
    r"(?<![\w./-])(?:bs|batch[ _-]?size|seed|depth|max[ _-]?depth|optimi[sz]er|objective|early[ _-]?stopping\w*|"
    r"threads|weight[ _-]?decay|wd|dropout|hidden\w*|layers|warm-?up\w*)\s?[=:]",
    re.IGNORECASE,
)
_RESUMES = lazy(r"\b(?:resum\w+|restor\w+|load\w+|warm-?up)\b(?![ _]?[=:\w])", re.IGNORECASE)
_THOUSAND = {"": 1.0, "k": 1e3, "m": 1e6}


class WordedPlan(NamedTuple):
    """A number of steps or epochs, and where it stands in a text."""

    name: str
    value: float
    factor: float
    start: int
    end: int
    of_number: tuple[int, int]


def plan_in_words(text: str) -> WordedPlan | None:
    """The plan that a text tells in words."""
    if (setting := setting_of_steps(text)) is not None:
        return setting
    if " for " in text and (found := _PLANNED.search(text)) is not None:
        return _plan(found, "total ")
    listed = _LISTED.search(text) if "s" in text and len(text) < 200 else None
    if listed is None or _IS_NO_PLAN.search(text):
        return None
    if "epoch" in text.lower() and "epoch" not in listed["unit"].lower():
        return None  # perhaps of each epoch
    return _plan(listed, LISTED)


def _plan(found: re.Match[str], prefix: str) -> WordedPlan | None:
    unit = found["unit"].lower().rpartition(" ")[2].removeprefix("time")
    factor = _THOUSAND[found["kilo"].lower()]
    number = found["number"].rstrip(",")
    value = parsed(number)
    if value is None:
        return None
    start = found.start("number")
    return WordedPlan(
        prefix + unit, value * factor, factor, found.start(), found.end("unit"), (start, start + len(number))
    )


def setting_of_steps(text: str) -> WordedPlan | None:
    """The number of steps on a command line, or beside a learning rate and another setting (`iterations=1000`)."""
    option = _OPTION.search(text) if "--" in text else None
    if option is not None:
        return _plan(option, "total " if option["unit"].lower() != "epochs" else "")
    found = _SETTING.search(text) if "=" in text or ":" in text else None
    if found is None or _RATE.search(text) is None or _OTHER_SETTING.search(text) is None:
        return None
    return None if _RESUMES.search(text) else _plan(found, "total ")
