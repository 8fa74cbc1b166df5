"""Words of a record that say what it judges: `"split": "holdout"`, `phase=val`, a column `subset` with `dev`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from tdiff.patterns import lazy
from tdiff.watch.formats.names import names_of, split_of, words

_KEYS = frozenset(["split", "phase", "mode", "stage", "set", "part", "subset", "dataset", "partition", "fold", "loop"])
_STRICT = frozenset(["split", "subset", "partition", "phase"])
"""Names that say nothing else than the split: the first word of their value decides."""
_EVENTS = frozenset(["event", "ev", "evt", "type", "kind", "message", "msg", "tag", "what", "section", "context"])
_BESIDE_KEYS = frozenset(["data", "current", "name", "run", "step", "metric", "eval", "log", "of"])
_FILLERS = frozenset(
    name[0]
    for name in names_of(
        "set, split, step, steps, epoch, phase, loop, mode, end, start, out, data, dataset, loss, metrics, progress,"
        "result, results, clean, other, batch, done, finished, summary, stage"
    )
)
_PAIR = lazy(
    r"(?<![\w/.-])(?P<key>[A-Za-z][\w-]{1,20})\"?\s*(?:=>|->|[=:])\s*[\"']?(?P<value>[A-Za-z][\w./-]{1,30}(?: set)?)"
    r"(?![\w=:(])"
)
_WORD_PAIR = lazy(
    r"(?<![\w/.-])(?P<key>[A-Za-z][\w.-]{0,30})=(?!(?:nan|null|none|inf)\b|infinity)(?P<value>[A-Za-z][\w./-]{0,40})(?=[\s,;|]|$)",
    re.IGNORECASE,
)
"""A name and a word, which is the name of no number after it."""
_BESIDE_FLAGS = frozenset(["is", "in", "mode", "phase", "step", "loop", "set"])
_SURE = ("split", "data_split", "subset")
_PLAIN = frozenset([float, int])
_DEEPEST = 3
UNKNOWN = "?"
"""The split of a record that names one which is neither training nor an evaluation (`"split": "ood"`)."""
OTHER_EVENT = "?event"
"""The split of a record with an event that names none (`"event": "check"`): no training, if others say so."""
NEITHER = (UNKNOWN, OTHER_EVENT)
_NAMES_OF_EVENTS = frozenset(["event", "ev", "evt", "type", "kind"])
"""Names under which each record says what it is of."""


@lru_cache(1024)
def _grade(key: str) -> int:
    """2 for the name of a split, 1 for a name that may hold one, 0 for any other."""
    spelled = set(words(key))
    if spelled & _STRICT and spelled <= _STRICT | _BESIDE_KEYS:
        return 2
    return int(bool(spelled & (_KEYS | _EVENTS)) and spelled <= _KEYS | _EVENTS | _BESIDE_KEYS)


@lru_cache(1024)
def _named(value: str, grade: int) -> str:
    spelled = words(value)
    if spelled == ["cv"]:
        return "eval"
    found = [split for word in spelled if (split := split_of(word))]
    if not found or (grade == 1 and any(not split_of(word) and word not in _FILLERS for word in spelled)):
        return ""
    if grade == 2 and not split_of(spelled[0]) and not set(spelled) <= _FILLERS | set(filter(split_of, spelled)):
        return ""
    return found[0]


def split_named(key: str, value: str) -> str:
    """`train` or `eval` where a name and its text say one of them; else nothing."""
    grade = _grade(key)
    return _named(value, grade) if grade and len(value) <= 40 else ""


def split_of_cell(key: str, value: str) -> str:
    """The split that a text under a name tells, or that it is one of neither training nor an evaluation."""
    if split := split_named(key, value):
        return split
    lowered = key.lower()
    if not value[:1].isalpha():
        return ""
    return UNKNOWN if lowered in _SURE else OTHER_EVENT if lowered in _NAMES_OF_EVENTS else ""


@lru_cache(1024)
def _flag(key: str) -> str:
    """The split that a name asks about, as `is_eval` does."""
    spelled = words(key)
    found = [split for word in spelled if (split := split_of(word))]
    return found[0] if found and all(split_of(word) or word in _BESIDE_FLAGS for word in spelled) else ""


def split_flagged(key: str, value: bool) -> str:
    """`eval` where a flag says that a record is not of training (`is_eval: true`, `training: false`)."""
    return "eval" if _flag(key) == ("eval" if value else "train") else ""


def is_key(key: str) -> bool:
    """Whether a column with this name may hold splits."""
    return _grade(key) > 0


def split_of_object(pairs: Mapping[Any, Any], depth: int = 0) -> str:
    """The split that an object names, in itself or in an object within."""
    if _PLAIN.issuperset(map(type, pairs.values())):
        return ""
    unknown = ""
    for key, value in pairs.items():
        if type(value) is str:
            split = split_of_cell(str(key), value)
            if split not in ("", *NEITHER):
                return split
            unknown = unknown if unknown == UNKNOWN else split or unknown
        elif type(value) is bool:
            if split := split_flagged(str(key), value):
                return split
        elif depth < _DEEPEST and isinstance(value, Mapping) and (split := split_of_object(value, depth + 1)):
            return split
    return unknown


def split_of_text(text: str) -> tuple[str, str]:
    """(the split that a pair of text names, the text with blanks for the pair)."""
    for pair in _PAIR.finditer(text):
        if split := split_named(pair["key"], pair["value"]):
            return split, text[: pair.start()] + " " * len(pair[0]) + text[pair.end() :]
    return "", text


def without_words(text: str) -> tuple[str, str]:
    """(the split that a flag or an unknown split tells, the text with blanks for pairs of a name and a word)."""
    found = ""

    def blank(pair: re.Match[str]) -> str:
        nonlocal found
        key, value = pair["key"], pair["value"].lower()
        if value in ("true", "yes", "false", "no"):
            found = split_flagged(key, value in ("true", "yes")) or found
        elif any(map(split_of, words(value))):
            return pair[0]  # it may say what is judged
        elif key in _SURE:
            found = UNKNOWN if found in ("", OTHER_EVENT) else found
        elif key in _NAMES_OF_EVENTS:
            found = found or OTHER_EVENT
        return " " * len(pair[0])

    text = _WORD_PAIR.sub(blank, text) if "=" in text else text
    return found, text
