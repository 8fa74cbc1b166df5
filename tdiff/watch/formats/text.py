"""Numbers with names on a line of text: `step 10/400 loss 3.1`, `{'loss': 2.1}`, a progress bar with a postfix.

A line is read in three moves. What no program means as a value is taken off: colours, the clock, the level and the name
of a logger, the prefix of a rank. A dictionary or an object of JSON anywhere in the rest is read as such, and a bar of
tqdm as a bar. What remains is cut at its numbers, and the words before a number are its name.
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from tdiff.watch.formats.names import PART, Role, meaning, words_beside_split

LONGEST = 20_000
"""Characters of a line that are read; a longer one is text."""
MOST = 512
"""Values of one line."""

_COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)")
_RANK = re.compile(
    r"\s*(?:\[(?:[\w.-]*:)?(?:default|rank|r|gpu|worker|proc|node|local)?[ _:]?(?P<a>\d{1,5})(?:/\d+)?\]:?"
    r"|rank[ _=:]{0,2}(?P<b>\d{1,5})\s*[:|\]-]"
    r"|(?P<c>\d{1,4}):(?=\s))\s*",
    re.IGNORECASE,
)
_CLOCK = re.compile(
    r"\s*\[?(?P<stamp>\d{4}[-/]\d\d[-/]\d\d[T _]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?:Z|[+-]\d\d:?\d\d)?)\]?[\s:|,-]*"
    r"|\s*\[?(?:\d\d[-/]\d\d(?:[-/]\d\d(?:\d\d)?)?[ ,]\s*)?\d\d:\d\d:\d\d(?:[.,]\d{1,9})?\]?[\s:|,-]+"
)
_LEVEL = re.compile(r"\s*[\[(<|]?(?:DEBUG|INFO|NOTICE|WARNING|WARN|ERROR|CRITICAL|I|W)[\])>|]?(?=[\s:|-])[\s:|-]*")
_ORIGIN = re.compile(  # where in the program a line was written
    r"(?:[\w.<>]+:)?[\w.<>]+:\d+(?=\s+-\s)|[\w./-]+\.(?:py|cc|cpp|cu|c|go|rs|jl|m):\d+\]?|(?<=\[)[\w.]+\.\w+:\d+(?=[,\]])"
)
_GLOG = re.compile(r"\s*[IWEF]\d{4} \d\d:\d\d:\d\d(?:\.\d+)?\s+\d*\s*")
_CELLS = re.compile(r"\s*\|\s*(?P<name>[A-Za-z][^|]*?)\s*\|\s*(?P<value>[^|\s]+)\s*\|\s*")
_NUMBER = re.compile(
    r"(?<![\w.])(?P<number>[-+]?1\.#(?:QNAN|SNAN|IND|INF)\w*|\d+(?::\d\d){1,2}(?![\d:])|[-+]?(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
    r"|[-+]?(?:nan|inf|infinity)(?:\(\w*\))?(?![\w]))"
    r"(?:\s*/\s*(?P<total>\d[\d,]*)(?![\d.:]*\w*/)|\s+of\s+(?P<of>\d[\d,]*))?(?P<unit>\s?%|[A-Za-z/µ]+(?![\w:=]))?",
    re.IGNORECASE,
)
_CUT = re.compile(r"[|,;:=<>\[\]{}()\t\"']|\s-\s|->|\s{3,}")
_PREPOSITION = re.compile(r"\b(?:at|after|for|in|on)\s+|@\s*", re.IGNORECASE)
_BEST = re.compile(r"\b(?:best|lowest|mean training|final|so far)\b", re.IGNORECASE)
"""Words by which a line repeats a value of an earlier one."""
_BAR = re.compile(
    r"(?P<label>[^|\[\]]*?)(?:\d+(?:\.\d+)?%\|[^|]*\|)?\s*(?P<n>\d{1,15})/(?P<total>\d{1,15}|\?)\s"
    r"\[(?P<elapsed>[\d:]+)(?:<(?P<left>[\d:]+|\?))?(?:,\s*(?P<rate>[^,\]]*))?(?P<postfix>,[^\]]*)?\]?(?P<after>.*)",
    re.ASCII | re.DOTALL,
)
_NOT_FINITE = re.compile(r"[-+]?(?:nan|inf(?:inity)?)(?:\(\w*\))?|[-+]?1\.#\w+", re.IGNORECASE)
_SECONDS = {
    "ms": 1e-3,
    "us": 1e-6,
    "s": 1.0,
    "sec": 1.0,
    "secs": 1.0,
    "m": 60.0,
    "min": 60.0,
    "mins": 60.0,
    "h": 3600.0,
}
_HEADING = re.compile(r"\s*\W*\b(?P<word>[A-Za-z]+)\b")


@dataclass(slots=True)
class Fields:
    """What a line says."""

    values: dict[str, float] = field(default_factory=dict)
    """Name -> number, which may be not finite."""
    totals: dict[str, float] = field(default_factory=dict)
    """Name -> the number after `/` or `of`."""
    split: str = ""
    """`train` or `eval` where a word without a number says it (`Validation | loss 0.7`)."""
    time: float | None = None
    """Seconds since 1970 by the line's own clock."""
    rank: int | None = None
    bar: Bar | None = None
    progress: tuple[float, float] | None = None
    """(n, total) without a name, as Keras writes it before a bar."""
    structured: bool = False
    """The values come from a dictionary or an object of JSON."""
    text: str = ""
    """The line without colours."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A progress bar of tqdm."""

    label: str
    n: int
    total: int | None
    elapsed: float
    """Seconds."""
    left: float | None
    """Seconds."""


class Span(NamedTuple):
    """A part of a line and what it is for, so that the next line of the same shape is read by one pattern."""

    start: int
    end: int
    target: str
    """`value`, `total`, `time`, `rank`, `progress`, or a field of `Bar`."""
    name: str = ""
    factor: float = 1.0


class _Shape(NamedTuple):
    """All lines that differ in their digits and in the width of their blanks only."""

    pattern: re.Pattern[str]
    spans: tuple[Span, ...]
    split: str
    bar: Bar | None
    """With the label that such lines have; their numbers are in the spans."""


_DIGITS, _BLANKS = re.compile(r"\d+"), re.compile(r" +")
_SHAPES: dict[str, _Shape] = {}
_MOST_SHAPES, _LONGEST_SHAPE = 1024, 1_000


def read(line: str) -> Fields:
    """What a line of a log says. Never raises."""
    text = _COLOURS.sub("", line) if "\x1b" in line else line
    if len(text) > LONGEST:
        return Fields(text=text)
    start = text.find("{")
    if start >= 0 and (record := structured(text[start:])) is not None:
        found = _shaped(text[: start + len(record[0])]) if start + len(record[0]) else Fields()
        found.values, found.totals, found.structured, found.text = record[1], {}, True, text
        return found
    return _shaped(text)


def _shaped(text: str) -> Fields:
    """A line without colours and without an object, by its shape where it has been seen before."""
    if len(text) > _LONGEST_SHAPE:
        return _read(text)[0]
    skeleton = _BLANKS.sub(" ", _DIGITS.sub("0", text))
    shape = _SHAPES.get(skeleton)
    if shape is not None and (match := shape.pattern.fullmatch(text)) is not None:
        return _filled(shape, match, text)
    found, spans = _read(text)
    if len(_SHAPES) >= _MOST_SHAPES:
        _SHAPES.clear()
    spans.sort()
    _SHAPES[skeleton] = _Shape(_pattern(text, spans), tuple(spans), found.split, found.bar)
    return found


def _pattern(text: str, spans: Sequence[Span]) -> re.Pattern[str]:
    """One group for each span; elsewhere, and within them, digits and blanks are free."""
    parts, at = [], 0

    def free(piece: str) -> str:
        return _BLANKS.sub(" +", _DIGITS.sub(r"\\d+", re.escape(piece).replace("\\ ", " ")))

    for span in spans:
        parts += [free(text[at : span.start]), "(", free(text[span.start : span.end]), ")"]
        at = span.end
    return re.compile("".join([*parts, free(text[at:])]))


def _filled(shape: _Shape, match: re.Match[str], text: str) -> Fields:
    """The fields of a line of a known shape."""
    found = Fields(split=shape.split, text=text)
    bar: dict[str, float] = {}
    progress: list[float] = []
    for span, part in zip(shape.spans, match.groups(), strict=True):
        match span.target:
            case "value":
                found.values[span.name] = _value(part) * span.factor
            case "total":
                found.totals[span.name] = _value(part)
            case "time":
                found.time = _moment(part)
            case "rank":
                found.rank = int(part)
            case "progress":
                progress.append(_value(part))
            case field_of_bar:
                bar[field_of_bar] = _value(part)
    if progress:
        found.progress = (progress[0], progress[1])
    if shape.bar is not None:
        total = bar.get("bar_total")
        found.bar = Bar(
            shape.bar.label, int(bar["n"]), None if total is None else int(total), bar["elapsed"], bar.get("left")
        )
    return found


def _value(text: str) -> float:
    """The number of a span, which was one in the first line of its shape."""
    try:
        return float(text)
    except ValueError:
        number = seconds(text) if ":" in text else parsed(text)
        return math.nan if number is None else number


def _read(text: str) -> tuple[Fields, list[Span]]:
    """A line without colours, read word by word. What is taken off is replaced by blanks, so that positions stay."""
    found, spans = Fields(text=text), list[Span]()
    if (rank := _RANK.match(text)) is not None and not _starts_record(text, rank):
        group = next(name for name in ("a", "b", "c") if rank[name])
        found.rank = int(rank[group])
        spans.append(Span(rank.start(group), rank.end(group), "rank"))
        text = " " * rank.end() + text[rank.end() :]
    text = _without_prefix(text, found, spans)
    end = 0
    if (match := _bar(text)) is not None:
        label = text[match.start("label") : match.end("label")]
        total, left = match["total"], match["left"]
        found.bar = Bar(
            label.strip().rstrip(": "), int(match["n"]), None if total == "?" else int(total),
            seconds(match["elapsed"]) or 0.0, seconds(left) if left and left != "?" else None,
        )  # fmt: skip
        spans.append(Span(*match.span("n"), "n"))
        spans.append(Span(*match.span("elapsed"), "elapsed"))
        if total != "?":
            spans.append(Span(*match.span("total"), "bar_total"))
        if left and left != "?":
            spans.append(Span(*match.span("left"), "left"))
        _pairs(label, match.start("label"), found, spans)
        if match["postfix"]:
            _pairs(match["postfix"], match.start("postfix"), found, spans)
        end = match.start("after")
    _pairs(text[end:], end, found, spans)
    return found, spans


def without_rank(line: str) -> tuple[int, str]:
    """(rank, the line after it) of a line of one of several processes; rank 0 where nothing says so."""
    rank = _RANK.match(line) if line[:1] in "[rR0123456789" else None
    if rank is None or _starts_record(line, rank):
        return 0, line
    return int(rank["a"] or rank["b"] or rank["c"]), line[rank.end() :]


def _starts_record(text: str, rank: re.Match[str]) -> bool:
    """Whether a number in brackets counts rounds (`[3] train-logloss:1.2`) and names no process."""
    if rank["a"] is None or not re.match(r"\s*\[\d+(?:/\d+)?\]", text):
        return False
    return _NUMBER.search(text, rank.end()) is not None and "%|" not in text and "{" not in text


def _without_prefix(text: str, found: Fields, spans: list[Span]) -> str:
    """`text` with blanks for a logger's clock, level, name and place in the program."""
    start = len(text) - len(text.lstrip())
    if (level := _LEVEL.match(text, start)) is not None:
        text = " " * level.end() + text[level.end() :]
        start = len(text) - len(text.lstrip())
    if (clock := _CLOCK.match(text, start)) is not None and clock.end() > start:
        if clock["stamp"]:
            found.time = _moment(clock["stamp"])
            spans.append(Span(*clock.span("stamp"), "time"))
        text = " " * clock.end() + text[clock.end() :]
    elif (glog := _GLOG.match(text, start)) is not None:
        text = " " * glog.end() + text[glog.end() :]
    start = len(text) - len(text.lstrip())
    if (level := _LEVEL.match(text, start)) is not None:
        text = " " * level.end() + text[level.end() :]
    return _ORIGIN.sub(lambda origin: " " * len(origin[0]), text[:200], count=1) + text[200:]


def _moment(stamp: str) -> float | None:
    """Seconds since 1970 of a logger's clock; without a zone it is local time."""
    try:
        return datetime.fromisoformat(stamp.replace("/", "-").replace(",", ".").replace("_", "T")).timestamp()
    except (ValueError, OverflowError, OSError):
        return None


def _bar(text: str) -> re.Match[str] | None:
    """The progress bar on a line."""
    if "/" not in text or "[" not in text:
        return None
    match = _BAR.search(text)
    if match is None or not (match["left"] or match["rate"] or "%|" in text):
        return None
    return match if seconds(match["elapsed"]) is not None else None


def seconds(text: str) -> float | None:
    """The seconds in `37`, `20:11` or `1:20:11`; None for anything else."""
    parts = text.split(":")
    if not text or len(parts) > 4 or not all(part.isdecimal() and len(part) < 9 for part in parts):
        return None
    total = 0.0
    for part, base in zip(parts, (60, 60, 60, 60) if len(parts) < 4 else (1, 24, 60, 60), strict=False):
        total = base * total + int(part)
    return total


def structured(text: str) -> tuple[str, dict[str, float]] | None:
    """(text before it, numbers) of the first object of JSON or dictionary of Python on a line."""
    start = text.find("{")
    while start >= 0:
        if (pairs := _object(text[start:])) is not None:
            return text[:start], dict(flattened(pairs))
        start = text.find("{", start + 1)
        if start > 2_000:
            return None
    return None


def _object(text: str) -> Mapping[str, Any] | None:
    if '"' in text:
        try:
            value, _ = _DECODER.raw_decode(text)
            return value if isinstance(value, dict) else None
        except (ValueError, RecursionError):
            pass
    if "'" not in text or (end := text.rfind("}")) < 0:
        return None
    body = _WRAPPED.sub(r"\1", text[: end + 1])
    if '"' not in body and "\\" not in body:
        try:
            value = json.loads(body.replace("'", '"'))
            return value if isinstance(value, dict) else None
        except (ValueError, RecursionError):
            pass
    body = re.sub(r"(?<=[:\s\[(,])([-+]?)(nan|inf)(?=\s*[,}\])])", r"\g<1>1e999", body)
    try:
        value = ast.literal_eval(body)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return None
    return value if isinstance(value, dict) else None


_DECODER = json.JSONDecoder()
_WRAPPED = re.compile(r"\b(?:np|numpy|torch|jnp)?\.?(?:float\d*|int\d*|tensor|array)\(([-+.\dePnaif]+)[^()]*\)")


def flattened(pairs: Mapping[Any, Any], prefix: str = "", depth: int = 0) -> Iterator[tuple[str, float]]:
    """(name, number) of nested mappings, names joined by `/`."""
    for count, (key, value) in enumerate(pairs.items()):
        if count >= MOST:
            return
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            if depth < 4:
                yield from flattened(value, f"{name}/", depth + 1)
        elif (number := decoded(value, name)) is not None:
            yield name, number


def decoded(value: Any, name: str) -> float | None:
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
    if value is None:
        known = meaning(name)
        return math.nan if known.role is Role.LOSS and known.precedence < PART and known.split != "eval" else None
    if isinstance(value, str) and len(value) <= 40:
        try:
            return float(value)
        except ValueError:
            number = parsed(value)
        known = meaning(name)
        if number is None and known.role in (Role.ELAPSED, Role.REMAINING):
            return seconds(value.partition(".")[0])
        if number is None and known.role is Role.TIME:
            try:
                return datetime.fromisoformat(value).timestamp()
            except (ValueError, OverflowError, OSError):
                return None
        return number
    return None


def parsed(text: str) -> float | None:
    """The number that a text is, thousands apart by commas and any spelling of what is not finite included."""
    text = text.strip()
    if _NOT_FINITE.fullmatch(text):
        lowered = text.lower()
        if "nan" in lowered or "ind" in lowered:
            return math.nan
        return -math.inf if lowered.startswith("-") else math.inf
    try:
        return float(text)
    except ValueError:
        pass
    if re.fullmatch(r"[-+]?\d{1,3}(?:,\d{3})+(?:\.\d+)?", text):
        return float(text.replace(",", ""))
    return None


def heading(text: str) -> str:
    """`train` or `eval` where the words of a line without numbers say one of them first."""
    for word in re.findall(r"[A-Za-z_]+", text[:200]):
        split = meaning(word).split
        if split:
            return split
    return ""


def _pairs(text: str, base: int, found: Fields, spans: list[Span]) -> None:
    """The named numbers of a text, which begins at `base` of the line, into `found` and `spans`."""
    if (cells := _CELLS.fullmatch(text)) is not None:  # a table of names and values, a line each
        if (value := parsed(cells["value"])) is not None:
            found.values[cells["name"]] = value
            spans.append(Span(base + cells.start("value"), base + cells.end("value"), "value", cells["name"]))
        return
    text = text.replace("'s ", "_  ")
    end, unnamed, epoch = 0, "", False
    for match in _NUMBER.finditer(text):
        if len(found.values) >= MOST:
            return
        between, end_before = text[end : match.start()], end
        name, sure = _name(between)
        word = match["number"].lstrip("+-")[0].isalpha()  # `nan` and `inf` are words too
        if word and not sure and meaning(name).role not in (Role.LOSS, Role.GRAD_NORM):
            continue
        end = match.end()
        value = seconds(match["number"]) if ":" in match["number"] else parsed(match["number"])
        if value is None:
            continue
        of = "total" if match["total"] else "of" if match["of"] else ""
        total = float(match[of].replace(",", "")) if of else None
        here = (base + match.start("number"), base + match.end("number"))
        beyond = (base + match.start(of), base + match.end(of)) if of else (0, 0)
        if epoch and total is not None and re.fullmatch(r"[\s\]\[)(:,]*", between):
            found.values["batch"], found.totals["batch"] = value, total
            spans += [Span(*here, "value", "batch"), Span(*beyond, "total", "batch")]
            continue
        epoch = False
        if not name:
            bracketed = end_before == 0 and re.fullmatch(r"\s*\[", between) and text[end : end + 1] in ("]", "/")
            if bracketed and not found.values:
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
        if known.role is Role.LOSS and _BEST.search(unnamed + between):
            continue
        if known.role is Role.OTHER and known.split and not found.values and not words_beside_split(name):
            # `Train: 3 [ 50/1251 (4%)]` counts epochs, `Test: [ 0/50]` nothing of training.
            if total is not None or not re.match(r"\s*\[\s*\d+/\d", text[end:]):
                found.split = found.split or known.split
                continue
            name, known = "epoch", meaning("epoch")
        epoch = known.role is Role.EPOCH
        if not found.split:
            found.split = heading(unnamed + between.replace(name, " ", 1))
        if known.role is Role.OTHER and not sure:
            found.split = found.split or known.split
            continue
        if known.role is Role.LOSS and known.precedence >= PART and not sure:
            continue
        unit = (match["unit"] or "").strip().lower()
        if (unit and known.role in (Role.STEP, Role.EPOCH)) or name in found.values:
            continue  # a time for each step, or a share
        timed = known.role in (Role.ELAPSED, Role.REMAINING, Role.TIME) and ":" not in match["number"]
        factor = _SECONDS.get(unit or "s", 1.0) if timed else 1.0
        found.values[name] = value * factor
        spans.append(Span(*here, "value", name, factor))
        if total is not None:
            found.totals[name] = total
            spans.append(Span(*beyond, "total", name))
    if not found.split and not found.values and len(text) < 200:
        found.split = heading(text)


def _name(between: str) -> tuple[str, bool]:
    """(name, whether a sign says that the number is its value) of the text between two numbers."""
    text = between.rstrip()
    sure = text.endswith((":", "=", '"', "'"))
    text = text.rstrip(":= \t\"'")
    text = re.sub(r"(?<=[A-Za-z)])(:?)\s*\[$", r"\1", text).rstrip(": ")  # `Epoch [3/10]`
    text = re.sub(r"\s*\([^()]{0,20}\)$", "", text)
    if text.endswith(("[", "(", "|", ",", ";", "<", "{")):
        return "", False
    cut = list(_CUT.finditer(text))
    if cut:
        text = text[cut[-1].end() :]
    parts = _PREPOSITION.split(text)
    name = parts[-1].strip(" .-*#>_~")
    if len(name.split()) > 6 or not re.search(r"[A-Za-z]", name):
        return "", False
    return name, sure
