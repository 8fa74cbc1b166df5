"""Numbers with names on a line of text: `step 10/400 loss 3.1`, `{'loss': 2.1}`, a progress bar with a postfix.

A line is read in three moves. What no program means as a value is taken off: colours, the clock, the level and the name
of a logger, the prefix of a rank. A dictionary or an object of JSON anywhere in the rest is read as such, and a bar of
tqdm as a bar. What remains is cut at its numbers, and the words before a number are its name; see `words`.

Lines of one shape, which differ in their digits only, are read by one pattern once the first of them has been read.
"""

from __future__ import annotations

import math
import re
from typing import NamedTuple

from tdiff.patterns import lazy
from tdiff.watch.formats.choice import Names
from tdiff.watch.formats.fields import Bar, Fields
from tdiff.watch.formats.found import Found, Span
from tdiff.watch.formats.numbers import moment, parsed, seconds
from tdiff.watch.formats.prefix import taken_off, without_colours
from tdiff.watch.formats.split_pairs import split_pair
from tdiff.watch.formats.splits import split_of_text, without_words
from tdiff.watch.formats.structured import structured
from tdiff.watch.formats.wordings import plainer
from tdiff.watch.formats.words import NUMBER, named_numbers

LONGEST = 20_000
"""Characters of a line that are read; a longer one is text."""
_BAR = lazy(
    r"(?P<label>[^|\[\]]*?)(?:\d+(?:\.\d+)?%\|[^|]*\|)?\s*(?P<n>\d{1,15})/(?P<total>\d{1,15}|\?)\s"
    r"\[(?P<elapsed>[\d:]+)(?:<(?P<left>[\d:]+|\?))?(?:,\s*(?P<rate>[^,\]]*))?(?P<postfix>,[^\]]*)?\]?(?P<after>.*)",
    re.ASCII | re.DOTALL,
)
_DIGITS, _BLANKS = lazy(r"\d+"), lazy(r" +")
_MOST_SHAPES, _LONGEST_SHAPE, _RECENT = 1024, 1_000, 4


class _Shape(NamedTuple):
    """All lines that differ in their digits and in the width of their blanks only."""

    pattern: re.Pattern[str]
    names: tuple[str, ...]
    """Names of its values."""
    groups: tuple[int, ...]
    """Groups of its values."""
    factors: tuple[float, ...]
    """What turns values into seconds; empty where all are 1."""
    commas: tuple[bool, ...]
    """Which values have a decimal comma; empty where none has."""
    others: tuple[tuple[int, Span], ...]
    """(group, span) of everything that is no value."""
    split: str
    unread: tuple[str, ...]
    bar: Bar | None
    """With the label that such lines have; their numbers are in the spans."""
    bar_groups: tuple[int, ...]
    """Groups of its position, its total, and the seconds elapsed and left; 0 where it has none."""


class LineReader:
    """Reads the lines of one log."""

    def __init__(self, names: Names | None = None) -> None:
        self.names = names or Names()
        self._shapes: dict[str, _Shape] = {}
        self._recent: list[_Shape] = []

    def read(self, line: str) -> Fields:
        """What a line of a log says. Never raises."""
        text = without_colours(line)
        if len(text) > LONGEST:
            return Fields(text=text)
        if "{" in text and (record := structured(text, self.names.meaning)) is not None:
            start, values, split = record
            found = self._shaped(text[:start]) if start else Fields()
            found.split = split or found.split
            found.values, found.totals, found.structured, found.text = values, {}, True, text
            return found
        return self._shaped(text)

    def _shaped(self, text: str) -> Fields:
        """A line without colours and without an object, by its shape where it has been seen before."""
        recent = self._recent
        for n, shape in enumerate(recent):
            if (match := shape.pattern.fullmatch(text)) is not None:
                if n:
                    recent.insert(0, recent.pop(n))
                return _filled(shape, match, text)
        if len(text) > _LONGEST_SHAPE:
            return _fields(self._read(text), text)
        skeleton = _BLANKS.sub(" ", _DIGITS.sub("0", text))
        known = self._shapes.get(skeleton)
        match = known.pattern.fullmatch(text) if known is not None else None
        if known is None or match is None:
            found = self._read(text)
            if found.uncertain:
                return _fields(found, text)
            if len(self._shapes) >= _MOST_SHAPES:
                self._shapes.clear()
            known = self._shapes[skeleton] = _shape(text, found)
            fields = _fields(found, text)
        else:
            fields = _filled(known, match, text)
        recent.insert(0, known)
        del recent[_RECENT:]
        return fields

    def _read(self, text: str) -> Found:
        """A line without colours, read word by word. Blanks replace what is taken off, so that positions stay."""
        found = Found()
        text, rank, stamp = taken_off(line := text, NUMBER)
        if rank is not None:
            found.rank = int(line[slice(*rank)])
            found.spans.append(Span(*rank, "rank"))
        if stamp is not None:
            found.time = moment(line[slice(*stamp)])
            found.spans.append(Span(*stamp, "time"))
        found.split, text = split_of_text(text)
        flagged, text = without_words(text)
        found.split = found.split or flagged
        text = plainer(text)
        pair = split_pair(text)
        if pair is not None:
            text = text[: pair.start] + " " * (pair.end - pair.start) + text[pair.end :]
        end = 0
        if (match := _bar(text)) is not None:
            label = text[match.start("label") : match.end("label")]
            found.bar = _bar_of(match, label)
            for name in ("n", "elapsed", "total", "left"):
                if (part := match[name]) and part != "?":
                    found.spans.append(Span(*match.span(name), f"bar_{name}"))
            named_numbers(label, match.start("label"), found, self.names)
            if match["postfix"]:
                named_numbers(match["postfix"], match.start("postfix"), found, self.names)
            end = match.start("after")
        named_numbers(text[end:], end, found, self.names)
        if pair is not None:
            pair.store(found)
        return found


def _fields(found: Found, text: str) -> Fields:
    return Fields(
        found.values, found.totals, found.split, found.time, found.rank, found.bar, found.progress, False, text,
        tuple(found.unread),
    )  # fmt: skip


def _shape(text: str, found: Found) -> _Shape:
    """One group for each span; elsewhere, and within them, digits and blanks are free."""
    parts, at = [], 0
    spans = sorted(found.spans)
    for span in spans:
        parts += [_free(text[at : span.start]), "(", _free(text[span.start : span.end]), ")"]
        at = span.end
    values = [(n, span) for n, span in enumerate(spans, 1) if span.target == "value"]
    factors = tuple(span.factor for _, span in values)
    commas = tuple(span.comma for _, span in values)
    of_bar = {span.target: n for n, span in enumerate(spans, 1) if span.target.startswith("bar_")}
    return _Shape(
        pattern=re.compile("".join([*parts, _free(text[at:])])),
        names=tuple(span.name for _, span in values),
        groups=tuple(n for n, _ in values),
        factors=factors if set(factors) - {1.0} else (),
        commas=commas if any(commas) else (),
        others=tuple((n, span) for n, span in enumerate(spans, 1) if span.target not in ("value", *of_bar)),
        split=found.split,
        unread=tuple(found.unread),
        bar=found.bar,
        bar_groups=tuple(of_bar.get(f"bar_{name}", 0) for name in ("n", "total", "elapsed", "left")),
    )


def _free(piece: str) -> str:
    return _BLANKS.sub(" +", _DIGITS.sub(r"\\d+", re.escape(piece).replace("\\ ", " ")))


def _filled(shape: _Shape, match: re.Match[str], text: str) -> Fields:
    """The fields of a line of a known shape."""
    parts = match.group(*shape.groups) if len(shape.groups) > 1 else [match[n] for n in shape.groups]
    try:
        if shape.commas:
            parts = [part.replace(",", ".") if comma else part for part, comma in zip(parts, shape.commas, strict=True)]
        values = dict(zip(shape.names, map(float, parts), strict=True))
    except ValueError:
        values = dict(zip(shape.names, map(_value, parts), strict=True))
    for name, factor in zip(shape.names, shape.factors, strict=False):
        values[name] *= factor
    bar = None
    if shape.bar is not None:
        n, total, elapsed, left = shape.bar_groups
        bar = Bar(
            shape.bar.label, int(match[n]), int(match[total]) if total else None, _clock(match[elapsed]),
            _clock(match[left]) if left else None,
        )  # fmt: skip
    found = Fields(values, {}, shape.split, None, None, bar, None, False, text, shape.unread)
    if not shape.others:
        return found
    progress: list[float] = []
    for group, span in shape.others:
        part = match[group]
        match span.target:
            case "total":
                found.totals[span.name] = _value(part) * span.factor
            case "time":
                found.time = moment(part)
            case "rank":
                found.rank = int(part)
            case _:
                progress.append(_value(part))
    if progress:
        found.progress = (progress[0], progress[1])
    return found


def _clock(text: str) -> float:
    """The seconds of a span that was a duration in the first line of its shape."""
    parts = text.split(":")
    if len(parts) == 2:
        return 60.0 * int(parts[0]) + int(parts[1])
    if len(parts) == 3:
        return 3600.0 * int(parts[0]) + 60.0 * int(parts[1]) + int(parts[2])
    return seconds(text) or 0.0


def _value(text: str) -> float:
    """The number of a span, which was one in the first line of its shape."""
    try:
        return float(text)
    except ValueError:
        number = seconds(text) if ":" in text else parsed(text)
        return math.nan if number is None else number


def _bar(text: str) -> re.Match[str] | None:
    """The progress bar on a line."""
    if "/" not in text or "[" not in text:
        return None
    match = _BAR.search(text)
    if match is None or not (match["left"] or match["rate"] or "%|" in text):
        return None
    return match if seconds(match["elapsed"]) is not None else None


def _bar_of(match: re.Match[str], label: str) -> Bar:
    total, left = match["total"], match["left"]
    return Bar(
        label.strip().rstrip(": "), int(match["n"]), None if total == "?" else int(total),
        seconds(match["elapsed"]) or 0.0, seconds(left) if left and left != "?" else None,
    )  # fmt: skip
