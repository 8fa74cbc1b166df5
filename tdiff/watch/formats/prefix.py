"""What precedes the message on a line: colours, the rank of a process, a logger's clock, level, name and origin."""

from __future__ import annotations

import re
from typing import NamedTuple

from tdiff.patterns import lazy

_COLOURS = lazy(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)")
_PROCESS = r"(?:default|local[ _]?rank|rank|r|gpu|worker|w|process|proc|replica|node|local)"
_NAMED_RANK = (
    rf"\[(?:[\w.-]{{0,60}}[:/])?{_PROCESS}[ _:=#-]{{0,2}}(?P<a>\d{{1,5}})(?:/\d+)?\]:?"
    rf"|\((?:[\w.-]{{0,60}}[:/ ])?{_PROCESS}[ _:=#-]{{0,2}}(?P<b>\d{{1,5}})(?:/\d+)?\):?"
    r"|rank[ _=:]{0,2}(?P<c>\d{1,5})\s*[:|\]-]"
    rf"|(?:[\w.-]{{0,60}}[/:_-])?{_PROCESS}[ _=#-]?(?P<d>\d{{1,5}})(?:/\d+)?\s*[:|>](?=\s)"
    r"|\(\w{1,60} pid=(?P<e>\d{1,8})(?:, ip=[\w.:]+)?\)"
    r"|\[\d{1,5},(?P<f>\d{1,5})\]<std(?:out|err)>:?"
)
_RANK = lazy(
    rf"\s*(?:{_NAMED_RANK}|\[(?:[\w.-]{{0,60}}:)?(?P<g>\d{{1,5}})(?:/\d+)?\]:?|(?P<h>\d{{1,4}})[:|>](?= )"
    r"|[A-Za-z][\w-]{0,60}\d[.:/](?P<i>\d{1,4})\s*[|>:](?=\s))\s*",
    re.IGNORECASE,
)
"""The rank at the beginning of a line, where a number alone (groups g and h) may be one."""
_NAMED_PROCESS = lazy(rf"(?<![^\W_]){_PROCESS}[ _:=#-]{{0,2}}\d", re.IGNORECASE)
_HOST_AND_RANK = lazy(r"[A-Za-z][\w-]{0,60}\d[.:/]\d{1,4}\s*[|>:]")
_COUNT = lazy(r"\s*\[\d+(?:/\d+)?\]")
_CLOCK = lazy(
    r"\s*\[?(?P<stamp>\d{4}[-/]\d\d[-/]\d\d[T _]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?:Z|[+-]\d\d:?\d\d)?)\]?[\s:|,-]*"
    r"|\s*\[?(?:\d\d[-/]\d\d(?:[-/]\d\d(?:\d\d)?)?[ ,]\s*)?\d\d:\d\d:\d\d(?:[.,]\d{1,9})?\]?[\s:|,-]+"
)
_LEVEL = lazy(r"\s*[\[(<|]?(?:DEBUG|INFO|NOTICE|WARNING|WARN|ERROR|CRITICAL|I|W)[\])>|]?(?=[\s:|-])[\s:|-]*")
_LOGGER = lazy(
    r"\s*[\[(<]?(?!(?:val|valid|validation|eval|evaluation|test|dev)\b)[A-Za-z_][\w.<>]{0,60}(?:\[\d+\])?[\])>]?\s*[-:|]?\s*"
    r"[\[(<|]?(?:DEBUG|INFO|NOTICE|WARNING|WARN|ERROR|CRITICAL)[\])>|]?(?=[\s:|-])[\s:|-]*"
)
"""The name of a logger before its level, which says nothing of a split even where it is `trainer`."""
_ORIGIN = lazy(  # where in the program a line was written
    r"(?:[\w.<>]+:)?[\w.<>]+:\d+(?=\s+-\s)|[\w./-]+\.(?:py|cc|cpp|cu|c|go|rs|jl|m):\d+\]?|(?<=\[)[\w.]+\.\w+:\d+(?=[,\]])"
)
_GLOG = lazy(r"\s*[IWEF]\d{4} \d\d:\d\d:\d\d(?:\.\d+)?\s+\d*\s*")


class Prefix(NamedTuple):
    """The parts of a prefix that mean something, as (start, end) of the line; None where they are absent."""

    text: str
    """The line, with blanks for its prefix."""
    rank: tuple[int, int] | None
    stamp: tuple[int, int] | None


def without_colours(text: str) -> str:
    """A line without colours and movements of the cursor."""
    return _COLOURS.sub("", text) if "\x1b" in text else text


def taken_off(text: str, is_number: re.Pattern[str]) -> Prefix:
    """The prefix of a line without colours; `is_number` finds a number, which a count of rounds precedes."""
    span = stamp = None
    if (rank := _rank(text)) is not None and not _counts_rounds(text, rank, is_number):
        span = _number_of(rank)
        text = " " * rank.end() + text[rank.end() :]
    text = _without(text, _LEVEL)
    start = _start(text)
    dated = text[start : start + 1].isdecimal() or text.startswith("[", start)
    if dated and (clock := _CLOCK.match(text, start)) is not None:
        if clock["stamp"]:
            stamp = clock.span("stamp")
        text = " " * clock.end() + text[clock.end() :]
    else:
        text = _without(text, _GLOG)
    text = _without(_without(text, _LEVEL), _LOGGER)
    if span is None and (rank := _rank(text)) is not None and rank.lastgroup not in ("g", "h", "i"):
        span = _number_of(rank)
        text = " " * rank.end() + text[rank.end() :]
    if ":" in text[:200]:
        text = _ORIGIN.sub(lambda origin: " " * len(origin[0]), text[:200], count=1) + text[200:]
    return Prefix(text, span, stamp)


def _rank(text: str) -> re.Match[str] | None:
    """The rank at the beginning of a text. The large expression is only asked where it may match."""
    start = _start(text)
    first = text[start : start + 1]
    may_match = first in ("[", "(") or first.isdecimal() or _NAMED_PROCESS.search(text, start, start + 200) is not None
    may_match = may_match or _HOST_AND_RANK.match(text, start) is not None
    return _RANK.match(text) if may_match else None


def _number_of(rank: re.Match[str]) -> tuple[int, int]:
    """Where the number of a rank stands."""
    return rank.span(next(name for name, number in rank.groupdict().items() if number))


def _start(text: str) -> int:
    return len(text) - len(text.lstrip())


def _without(text: str, pattern: re.Pattern[str]) -> str:
    """The text with blanks for what matches at its first word."""
    match = pattern.match(text, _start(text))
    return text if match is None else " " * match.end() + text[match.end() :]


def _counts_rounds(text: str, rank: re.Match[str], is_number: re.Pattern[str]) -> bool:
    """Whether a number in brackets counts rounds (`[3] train-logloss:1.2`) and names no process."""
    if rank["g"] is None or not _COUNT.match(text):
        return False
    return is_number.search(text, rank.end()) is not None and "%|" not in text and "{" not in text
