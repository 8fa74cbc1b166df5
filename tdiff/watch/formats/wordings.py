"""Wordings of a line that are made plainer before it is cut at its numbers. Every number stays where it is.

- `loss (train) : 1.2` names its split in brackets after the name.
- `batch n=60 loss=1.2` names a count by a word of the message, and its number by a letter.
- `Early stopping at round 254, best round 214 (valid loss 0.15)` repeats a value of an earlier line.
"""

from __future__ import annotations

import re

from tdiff.patterns import lazy
from tdiff.watch.formats.names import Role, is_split, meaning

_SPLIT_IN_BRACKETS = lazy(
    r"(?P<name>[^\W\d_][\w'\u2019.-]*)(?P<gap> ?)[(\[\uff08](?P<split>[^\W\d_][^\W\d]*)"
    r"(?: set)?(?:,? (?:mean|avg|average))?[)\]\uff09]"
    r"(?=\s*[:=\uff1a]|\s+[-+]?\d)"
)
_ON_SPLIT = lazy(
    r"(?P<name>\bloss) (?:on|over|for|of) (?:the )?(?P<split>[A-Za-z]+) (?:set|data|split|batches|examples)\b(?!\s*\()",
    re.IGNORECASE,
)
_INDEX = lazy(r"(?<=loss)[\[(]\d{1,2}[\])](?=\s*[:=])", re.IGNORECASE)
_SIMPLE_COUNT = lazy(
    r"(?<![\w./-])(?P<count>batch|minibatch|step|iter|iteration|update|epoch|episode|round) +"
    r"(?P<letter>n|i|k|idx|no|num|nr|number|index)(?=\s*[=:]\s*\d)",
    re.IGNORECASE,
)
_STOPPED = lazy(
    r"^[^\d:=]{0,40}?\b(?:early[ -]?stop(?:ping|ped)?|stopp(?:ing|ed) early)"
    r"(?:\s*[!.,;:]|\s+(?:at|after|in|on|because|as|since|triggered|here|now)\b)",
    re.IGNORECASE,
)
_BEST_IN_BRACKETS = lazy(
    r"\b(?:best|meilleure?|mejor|melhor|migliore|beste[rns]?|лучш\w+)(?:[\s:=]+[^\W\d]+){1,4}\s*[:=#]?\s*\d[\d,]*"
    r"\s*\((?P<repeated>[^()]*)\)",
    re.IGNORECASE,
)
_GOES_BACK = lazy(
    r"^\W*(?:\w+\]\s*)?(?:revert|restor|reload|load|roll)\w*\s(?:back\s)?[^()]{0,80}\((?P<repeated>[^()]*)\)",
    re.IGNORECASE,
)
"""A line about an earlier step that the run goes back to."""
_BEST_FIRST = lazy(
    r"^\W*(?:\w+\]\s*)?(?:the )?best (?:boosting )?(?:iteration|round|epoch|step)(?: was| is)?"
    r"\s*[:=#]?\s*\d+\s*[,;|:-]",
    re.IGNORECASE,
)
"""The beginning of a line about the best step."""
_MOST = 2_000
"""Characters of a line that may be made plainer."""


def plainer(text: str) -> str:
    """A text of the same length, in which blanks stand for what repeats and names stand before their numbers."""
    if len(text) > _MOST:
        return text
    if "(" in text or "[" in text or "\uff08" in text:
        text = _SPLIT_IN_BRACKETS.sub(_without_brackets, text)
        text = _INDEX.sub(lambda found: " " * len(found[0]), text)
    if " set" in text or " data" in text or " split" in text or " batches" in text or " examples" in text:
        text = _ON_SPLIT.sub(_without_brackets, text)
    text = _SIMPLE_COUNT.sub(lambda found: found["count"].ljust(len(found[0])), text)
    return _without_repeats(text)


def _without_brackets(found: re.Match[str]) -> str:
    """The name and its split without the brackets, where the name is that of a loss or of another measure."""
    split = found["split"]
    role = meaning(found["name"]).role
    if role not in (Role.LOSS, Role.OTHER) or is_split(found["name"]) or not is_split(split):
        return found[0]
    return f"{found['name']} {split}".ljust(len(found[0]))


def _without_repeats(text: str) -> str:
    """A text without the values of the best step, and nothing of a line that says why the run stops."""
    if "top" in text and _STOPPED.search(text) is not None:
        return " " * len(text)
    if (best := _BEST_FIRST.match(text)) is not None:
        return text[: best.end()] + " " * (len(text) - best.end())
    if "(" not in text:
        return text
    for found in (*_GOES_BACK.finditer(text), *_BEST_IN_BRACKETS.finditer(text)):
        start, end = found.span("repeated")
        text = text[:start] + " " * (end - start) + text[end:]
    return text
