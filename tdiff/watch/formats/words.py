"""Numbers and the words that name them, within a part of a line of text."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NamedTuple

from tdiff.patterns import lazy
from tdiff.watch.formats.choice import Names
from tdiff.watch.formats.fields import Bar
from tdiff.watch.formats.languages import in_english
from tdiff.watch.formats.names import PART, Role, meaning, words_beside_split
from tdiff.watch.formats.numbers import (
    APART,
    DECIMAL_COMMA,
    EXPONENT,
    GROUPED,
    MEASURED,
    NOT_FINITE,
    decoded,
    has_decimal_comma,
    is_ambiguous,
    parsed,
    seconds,
    with_decimal_comma,
)
from tdiff.watch.formats.structured import MOST

NUMBER = lazy(
    r"(?<![\w.])(?P<number>[-+]?1\.#(?:QNAN|SNAN|IND|INF)\w*|\d+(?::\d\d){1,2}(?![\d:])"
    rf"|[-+]?(?:{GROUPED}|{DECIMAL_COMMA}|\d+\.?\d*|\.\d+)(?:{EXPONENT})?"
    rf"|(?:{NOT_FINITE}|null)(?![\w]))(?![\d_])"
    rf"(?:\s*/\s*(?P<total>\d(?:[\d,]|[{APART}](?=\d\d\d))*)(?![\d.:]*\w*/)"
    rf"|\s+\(?(?:out of|of|von|van|sur|de|di|из)\s+(?P<of>\d(?:[\d,]|[{APART}](?=\d\d\d))*))?"
    r"(?P<unit>\s?%|[A-Za-z/µ]+(?![\w:=]))?",
    re.IGNORECASE | re.ASCII,
)
"""A number, the total after it, and its unit."""
_CELLS = lazy(r"\s*\|\s*(?P<name>[A-Za-z][^|]*?)\s*\|\s*(?P<value>[^|\s]+)\s*\|\s*")
_CUT = lazy(
    r"[|,;:=<>\[\]{}()\t\"\uff1a\uff0c\uff1b\u3001\uff08\uff09\uff5c\u3010\u3011\u2500-\u257f]|(?<!\w)'|'(?!\w)|\u2192|\s-\s|->|\s{3,}"
)
_PREPOSITION = lazy(r"\b(?:at|after|for|in|on)\s+|@\s*", re.IGNORECASE)
_BEST = lazy(r"\b(?:best|lowest|final|so far)\b", re.IGNORECASE)
"""Words by which a line repeats a value of an earlier one."""
_WORD, _LETTER = lazy(r"[^\W\d]+"), lazy(r"[^\W\d_]")
_SIGNS = ":= \t\"'\uff1a"
_LEADER = lazy(
    r"(?:\.{2,}|\u2026+|[\u00b7\u2022]{2,}|_{2,}|-{2,}>?|=+>|->|\u2192|~+|\b(?:is|est|ist|es|\u00e9)(?=\s))\s*$"
)
"""What may lead from a name to its number."""
_ORDINAL = lazy(r"\u7b2c\s*$"), lazy(r"\s*([\u3040-\u30ff\u3400-\u9fff]{1,4})")
"""What stands before and after a count in Chinese and Japanese, where the name comes last."""
_SECONDS = {
    "ms": 1e-3, "us": 1e-6, "s": 1.0, "sec": 1.0, "secs": 1.0, "m": 60.0, "min": 60.0, "mins": 60.0, "h": 3600.0,
}  # fmt: skip
_PLANNED = lazy(
    r"\b(?:train|training|run|running|fit|fitting|optimizing)\b(?:\s[a-z]+){0,3}\s+for\s+(?P<number>\d[\d,]*)\s+"
    r"(?P<unit>steps|iterations|updates|epochs)\b",
    re.IGNORECASE,
)
"""A plan in words: `training the model for 700 steps`."""
_MOST_UNREAD = 20
_COUNTS = (Role.STEP, Role.EPOCH, Role.TOTAL, Role.EPOCHS, Role.TOKENS, Role.RANK)


class Span(NamedTuple):
    """A part of a line and what it is for, so that the next line of the same shape is read by one pattern."""

    start: int
    end: int
    target: str
    """`value`, `total`, `time`, `rank`, `progress`, or a field of `Bar` after `bar_`."""
    name: str = ""
    factor: float = 1.0
    comma: bool = False
    """Its comma is a decimal sign."""


@dataclass(slots=True)
class Found:
    """What has been found on a line so far."""

    values: dict[str, float] = field(default_factory=dict)
    totals: dict[str, float] = field(default_factory=dict)
    spans: list[Span] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    """Names of numbers that are no values, since no sign says so."""
    split: str = ""
    time: float | None = None
    rank: int | None = None
    bar: Bar | None = None
    progress: tuple[float, float] | None = None
    uncertain: bool = False
    """A comma may be a decimal sign or not: the next line of this shape may tell."""


def heading(text: str) -> str:
    """`train` or `eval` where the words of a line without numbers say one of them first."""
    for word in _WORD.findall(text[:200]):
        if split := meaning(word).split:
            return split
    return ""


_BETWEEN_COUNTS = lazy(r"[\s\]\[)(:,|#=>.\-━─█▉▊▋▌▍▎▏░▒▓]*")
"""What stands between an epoch and its batches: signs, and a bar."""
_OPENING, _CLOSING = lazy(r"\s*[\[(]\s*"), lazy(r"\s*[\])/]")
"""The brackets of a count at the beginning of a line."""


def named_numbers(text: str, base: int, found: Found, names: Names) -> None:
    """The named numbers of a text, which begins at `base` of the line, into `found`."""
    meaning, spans = names.meaning, found.spans
    if (cells := _CELLS.fullmatch(text)) is not None:  # a table of names and values, a line each
        if (value := parsed(cells["value"])) is not None:
            found.values[cells["name"]] = value
            spans.append(Span(base + cells.start("value"), base + cells.end("value"), "value", cells["name"]))
        return
    if " for " in text and (plan := _PLANNED.search(text)) is not None:
        name = f"total {plan['unit'].lower()}"
        found.values[name] = parsed(plan["number"].rstrip(",")) or 0.0
        spans.append(Span(base + plan.start("number"), base + plan.end("number"), "value", name))
        text = text[: plan.start()] + " " * len(plan[0]) + text[plan.end() :]
    text = text.replace("'s ", "_  ")
    end, unnamed, epoch, has_loss = 0, "", False, False
    for match in NUMBER.finditer(text):
        if len(found.values) >= MOST:
            return
        between, end_before = text[end : match.start()], end
        name, sure = _name(between)
        name = names.shortened(name)
        if " " in name and meaning(name).role is Role.OTHER:  # `resolved config max_steps=3000`
            last_word = name.rpartition(" ")[2]
            name = last_word if meaning(last_word).role in (Role.TOTAL, Role.EPOCHS) else name
        word = match["number"].lstrip("+-")[0].isalpha()  # `nan`, `inf` and `null` are words too
        if word and not sure and meaning(name).role not in (Role.LOSS, Role.GRAD_NORM):
            continue
        end = match.end()
        if not name and _ORDINAL[0].search(between) and (after := _ORDINAL[1].match(text, end)) is not None:
            name, sure, end = after[1], True, after.end()
        number, comma = _commas(match["number"], meaning(name).role, names)
        found.uncertain = found.uncertain or number is None
        value = _value(number, name, names, comma=comma) if number is not None else None
        if number is None or value is None:
            continue
        of = "total" if match["total"] else "of" if match["of"] else ""
        total = parsed(match[of].rstrip(",")) if of else None
        of = of if total is not None else ""
        here = (base + match.start("number"), base + match.start("number") + len(number))
        beyond = (base + match.start(of), base + match.end(of)) if of else (0, 0)
        if epoch and total is not None and _BETWEEN_COUNTS.fullmatch(between):
            found.values["batch"], found.totals["batch"] = value, total
            spans += [Span(*here, "value", "batch"), Span(*beyond, "total", "batch")]
            continue
        epoch = False
        if not name:
            bracketed = _OPENING.fullmatch(between) and _CLOSING.match(text, end)
            numbered = not between.strip() and text[end : end + 2] == ":\t"
            if end_before == 0 and (bracketed or numbered) and not found.values:
                found.values["round"] = value
                spans.append(Span(*here, "value", "round"))
                if total is not None:
                    found.totals["round"] = total
                    spans.append(Span(*beyond, "total", "round"))
            else:
                unnamed += between
                if found.progress is None and total is not None and not found.values:
                    found.progress = (value, total)
                    spans += [Span(*here, "progress"), Span(*beyond, "progress")]
            continue
        if between.rstrip().endswith("@") and meaning(name).split and meaning(name).role is not Role.LOSS:
            found.split, name, sure = found.split or meaning(name).split, "step", True  # `held-out @ 500:`
        known = meaning(name)
        if known.role is Role.LOSS and _BEST.search(in_english(unnamed + between)):
            continue
        if known.role is Role.OTHER and known.split and not found.values and not words_beside_split(name):
            # `Train: 3 [ 50/1251 (4%)]` counts epochs, `Test: [ 0/50]` nothing of training.
            if total is not None or not re.match(r"\s*\[\s*\d+/\d", text[end:]):
                found.split = found.split or known.split
                continue
            name, known = "epoch", meaning("epoch")
        epoch = known.role is Role.EPOCH
        if known.role in (Role.EPOCH, Role.STEP):
            found.split = found.split or known.split  # `eval epoch: 3, loss: 2.1`
        if not found.split and not has_loss:
            found.split = heading(unnamed + between.replace(name, " ", 1))
        if known.role is Role.OTHER and not sure:
            found.split = found.split or ("" if has_loss else known.split)
            if len(found.unread) < _MOST_UNREAD:
                found.unread.append(name)
            continue
        if known.role is Role.LOSS and known.precedence >= PART and not sure:
            continue
        unit = (match["unit"] or "").strip().lower()
        if (unit and known.role in (Role.STEP, Role.EPOCH)) or name in found.values:
            continue  # a time for each step, or a share
        timed = known.role in (Role.ELAPSED, Role.REMAINING, Role.TIME) and ":" not in match["number"]
        factor = _SECONDS.get(unit or "s", 1.0) if timed else 1.0
        found.values[name] = value * factor
        has_loss = has_loss or known.role is Role.LOSS  # what follows says nothing about it
        spans.append(Span(*here, "value", name, factor, comma))
        if total is not None:
            found.totals[name] = total
            spans.append(Span(*beyond, "total", name))
    if not found.split and not found.values and len(text) < 200:
        found.split = heading(text)


def _commas(text: str, role: Role, names: Names) -> tuple[str | None, bool]:
    """(a number as far as it belongs to its name, whether its comma is a decimal sign); None where that is unknown.

    A comma is a decimal sign in what is measured, and elsewhere once a log has shown that it uses commas so.
    """
    if "," not in text:
        return text, False
    if has_decimal_comma(text):
        if role in MEASURED:
            names.decimal_comma = True
        if names.decimal_comma and role not in _COUNTS:
            return text, True
        return text.partition(",")[0], False  # the first of a list
    if not is_ambiguous(text) or role in _COUNTS:
        return text, False
    return (None if role in MEASURED and not names.decimal_comma else text), names.decimal_comma


def _value(text: str, name: str, names: Names, *, comma: bool) -> float | None:
    if comma:
        return with_decimal_comma(text)
    if ":" in text:
        return seconds(text)
    return decoded(None, name, names.meaning) if text.lower() == "null" else parsed(text)


def _name(between: str) -> tuple[str, bool]:
    """(name, whether a sign says that the number is its value) of the text between two numbers."""
    text = between.rstrip()
    leader = _LEADER.search(between)
    if leader is not None:
        text = between[: leader.start()].rstrip()
    sure = leader is not None or text.endswith((":", "=", '"', "'", "\uff1a"))
    text = text.rstrip(_SIGNS)
    text = re.sub(r"(?<=[A-Za-z)])(:?)\s*\[$", r"\1", text).rstrip(": ")  # `Epoch [3/10]`
    text = re.sub(r"\s*\([^()]{0,20}\)$", "", text)
    if text.endswith(("[", "(", "|", ",", ";", "<", "{")):
        return "", False
    cut = list(_CUT.finditer(text))
    if cut:
        text = text[cut[-1].end() :]
    parts = _PREPOSITION.split(text)
    name = parts[-1].strip(" .-*#>_~")
    if len(name.split()) > 6 or not _LETTER.search(name):
        return "", False
    return name, sure
