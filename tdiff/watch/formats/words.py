"""Numbers and the words that name them, within a part of a line of text."""

from __future__ import annotations

import re

from tdiff.patterns import lazy
from tdiff.watch.formats.choice import Names
from tdiff.watch.formats.found import Found, Span
from tdiff.watch.formats.groups import Group, promote_symbol, promote_total
from tdiff.watch.formats.guesses import UNNAMED
from tdiff.watch.formats.languages import in_english
from tdiff.watch.formats.names import PART, Role, is_split, meaning, words_beside_split
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
from tdiff.watch.formats.plans_in_words import plan_in_words
from tdiff.watch.formats.structured import MOST

NUMBER = lazy(
    r"(?:(?<![\w.])|(?<=\bep)|(?<=\bepoch)|(?<=\bstep)|(?<=\biter)|(?<=\bit)|(?<=\bbatch)|(?<=\b[bie])(?=\d+\s*/\d|0\d|\d+\s+\d+/\d))"
    r"(?P<number>[-+]?1\.#(?:QNAN|SNAN|IND|INF)\w*|\d+(?::\d\d){1,2}(?![\d:])"
    rf"|[-+]?(?:{GROUPED}|{DECIMAL_COMMA}|\d+\.?\d*|\.\d+)(?:{EXPONENT})?"
    rf"|(?:{NOT_FINITE}|null)(?![\w]))(?![\d_])"
    r"(?:(?P<kilo>[kKM])(?!\w|/[A-Za-z]))?"
    rf"(?:\s*/\s*(?P<total>\d(?:[\d,]|[{APART}](?=\d\d\d))*(?:(?:\.\d+)?[kKM](?!\w))?)(?![\d.:]*\w*/)"
    rf"|\s+\(?(?:out of|of|von|van|sur|de|di|из)\s+(?P<of>\d(?:[\d,]|[{APART}](?=\d\d\d))*))?"
    r"(?P<unit>\s?%|[A-Za-z/µ]+(?![\w:=]))?",
    re.IGNORECASE | re.ASCII,
)
"""A number, the total after it, and its unit."""
_CELLS = lazy(r"\s*\|\s*(?P<name>[A-Za-z][^|]*?)\s*\|\s*(?P<value>[^|\s]+)\s*\|\s*")
_CUT = lazy(
    r"[|,;:=<>\[\]{}()\t\"\uff1a\uff0c\uff1b\u3001\uff08\uff09\uff5c\u3010\u3011\u2500-\u257f]|(?<!\w)'|'(?!\w)|\u2192|\s-\s|->|\s{2,}"
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
_THOUSAND = {"k": 1e3, "K": 1e3, "M": 1e6}
_MOST_UNREAD = 20
_COUNTS = (Role.STEP, Role.EPOCH, Role.TOTAL, Role.EPOCHS, Role.TOKENS, Role.RANK)


def heading(text: str) -> str:
    """`train` or `eval` where the words of a line without numbers say one of them first."""
    for word in _WORD.findall(text[:200]):
        if split := meaning(word).split:
            return split
    return ""


_BETWEEN_COUNTS = lazy(r"[\s\]\[)(:,|#=>.\-━─█▉▊▋▌▍▎▏░▒▓]*[bi]?")
"""What stands between an epoch and its batches: signs, a bar, and a letter (`ep01 b0100/0600`)."""
_OPENING, _CLOSING = lazy(r"\s*[\[(]\s*"), lazy(r"\s*[\])/]")
"""The brackets of a count at the beginning of a line."""
_AFTER_COUNT = lazy(r"\s*[\])]?\s*(?:[:|,=>\u2192-]+\s*|\s{2,})[\[(]?\s*")
"""What stands between a count and a number without a name, which the count introduces (`it 300: 2.31`)."""
_CLOSES_COUNT = lazy(r"\s*[\]:|),]|\s{2,}|\s+-")
_FRACTION = lazy(r"\d*\.\d+(?:[eE][-+]?\d+)?|\d\.?\d*[eE][-+]?\d+")
_KEY = lazy(r"[\w.-]*[_/.][\w./-]*")
"""A name that is one word, as programs write them before `=`."""
_NO_COUNT = lazy(
    r"\b(?:per|every|each|of|from|to|until|next|first|best|last|warm-?up|save|log|skip\w*|decay|time|size|resum\w+|no|a|the)\b",
    re.IGNORECASE,
)
"""Words by which a step or an epoch is not the one that a line is about."""
_BEFORE_COUNT = lazy(r"(?:\s*[(\[@,:]|\s+(?:at|after|in|for|on|by))\s*$", re.IGNORECASE)
_COUNTED = lazy(r"\s+(steps?|iter(?:ation)?s?|updates?|batch(?:es)?|epochs?)\b", re.IGNORECASE)
_COUNTED_AS = {"batch": "batch", "epoch": "epoch"}
"""What is counted, where its name comes last."""
_TAG, _DRAWN = lazy(r"\s*\[[A-Za-z][\w .-]{0,20}\]\s*"), lazy(r"[\s\[|]*[=#>.█-]{3}")
"""What stands before a count that has no name (`[distill] 250/4000`), and the beginning of a bar after it."""
_GLUED = {"b": "batch", "i": "iter", "e": "epoch"}


def named_numbers(text: str, base: int, found: Found, names: Names) -> None:
    """The named numbers of a text, which begins at `base` of the line, into `found`."""
    if (cells := _CELLS.fullmatch(text)) is not None:  # a table of names and values, a line each
        if (value := parsed(cells["value"])) is not None:
            found.values[cells["name"]] = value
            found.spans.append(Span(base + cells.start("value"), base + cells.end("value"), "value", cells["name"]))
        return
    if (plan := plan_in_words(text)) is not None:
        found.values[plan.name] = plan.value
        start, end = plan.of_number
        found.spans.append(Span(base + start, base + end, "value", plan.name, plan.factor))
        text = text[: plan.start] + " " * (plan.end - plan.start) + text[plan.end :]
    _Cutter(text.replace("'s ", "___"), base, found, names).cut()
    if not found.split and not found.values and len(text) < 200:
        found.split = heading(text)


class _Cutter:
    """Cuts a text at its numbers."""

    def __init__(self, text: str, base: int, found: Found, names: Names) -> None:
        self._text, self._base, self._found, self._names = text, base, found, names
        self._meaning = names.meaning
        self._end = 0  # of the number before
        self._unnamed = ""  # the words before numbers without a name
        self._epoch = False  # the number before counts epochs
        self._count = False  # the number before is a count of its own
        self._ahead = ""  # what stands before that count: `Eval loss at step 300: 2.4`
        self._has_loss = False
        self._group = Group()
        self._bare: list[tuple[str, float, Span]] = []  # numbers that no sign gives to their names

    def cut(self) -> None:
        """Read all numbers."""
        for match in NUMBER.finditer(self._text):
            if len(self._found.values) >= MOST or self._group.over:
                break
            self._number(match)
        if self._bare:
            promote_symbol(self._bare, self._found)
            promote_total(self._bare, self._found, self._text, self._base)

    def _number(self, match: re.Match[str]) -> None:
        found, names, text = self._found, self._names, self._text
        between, beginning = text[self._end : match.start()], self._end == 0
        name, sure = _name(between)
        name = names.shortened(name)
        if " " in name:
            name = self._last_word(name, between)
        word = match["number"].lstrip("+-")[0].isalpha()  # `nan`, `inf` and `null` are words too
        if word and not sure and self._meaning(name).role not in (Role.LOSS, Role.GRAD_NORM):
            return
        self._end = match.end()
        if not name and _ORDINAL[0].search(between) and (after := _ORDINAL[1].match(text, self._end)) is not None:
            name, sure, self._end = after[1], True, after.end()
        number, comma = _commas(match["number"], self._meaning(name).role, names)
        found.uncertain = found.uncertain or number is None
        value = _value(number, name, names, comma=comma) if number is not None else None
        if number is None or value is None:
            return
        of = "total" if match["total"] else "of" if match["of"] else ""
        total, thousand = _total(match[of]) if of else (None, 1.0)
        of = of if total is not None else ""
        here = (self._base + match.start("number"), self._base + match.start("number") + len(number))
        beyond = (
            (self._base + match.start(of), self._base + match.start(of) + len(_digits(match[of]))) if of else (0, 0)
        )
        after_epoch, self._epoch = self._epoch, False
        after_count, self._count = self._count, False
        if after_epoch and total is not None and _BETWEEN_COUNTS.fullmatch(between):
            self._store("batch", value, Span(*here, "value", "batch"), total, Span(*beyond, "total", "batch", thousand))
            return
        if between.endswith(name) and name.lower() in _GLUED and not sure:
            name = _GLUED[name.lower()]
        if not name and total is not None and (after := _COUNTED.match(text, self._end)) is not None:
            name, sure = _COUNTED_AS.get(after[1].lower()[:5], "step"), True  # `25/1000 steps`
            if name in found.values:
                return
        if not name:
            self._without_name(match, between, value, (here, beyond, total), beginning=beginning, count=after_count)
            return
        if between.rstrip().endswith("@") and self._meaning(name).split and self._meaning(name).role is not Role.LOSS:
            found.split, name, sure = found.split or self._meaning(name).split, "step", True  # `held-out @ 500:`
        known = self._meaning(name)
        if known.role is Role.LOSS and _BEST.search(in_english(self._unnamed + between)):
            return
        if known.role is Role.OTHER and known.split and not found.values and not words_beside_split(name):
            # `Train: 3 [ 50/1251 (4%)]` counts epochs, `[eval 05000]` steps, `Test: [ 0/50]` nothing of training.
            counts = total is None and number.isdecimal() and _CLOSES_COUNT.match(text, self._end) is not None
            if total is not None or not re.match(r"\s*\[\s*\d+/\d", text[self._end :]):
                found.split = found.split or known.split
                self._count = True
                if counts and known.split == "eval":
                    self._store("step", value, Span(*here, "value", "step"))
                return
            name = "epoch"
        unit = (match["unit"] or match["kilo"] or "").strip().lower()
        before = between[: between.rfind(name)] if name in between else ""
        measured = _measured(number, unit)
        name = self._group.named(name, before, self._meaning, after_loss=self._has_loss, measured=measured)
        known = self._meaning(name)
        self._epoch = known.role is Role.EPOCH
        self._count = known.role in (Role.EPOCH, Role.STEP)
        if self._count:
            self._ahead = before
            found.split = found.split or known.split  # `eval epoch: 3, loss: 2.1`
        if is_split(name) and self._counted() and not self._has_loss and measured:
            self._store(name, value, Span(*here, "value", name, 1.0, comma))  # perhaps of the loss: see `guesses`
            return
        if not found.split and not self._has_loss:
            found.split = heading(self._unnamed + between.replace(name, " ", 1))
        if known.role is Role.OTHER and not sure:
            found.split = found.split or ("" if self._has_loss else known.split)
            if len(found.unread) < _MOST_UNREAD:
                found.unread.append(name)
            if measured:
                self._bare.append((name, value, Span(*here, "value", name, 1.0, comma)))
            return
        if (
            known.role is Role.LOSS
            and known.precedence >= PART
            and not sure
            and len(name.split()) > 2 + bool(known.split)
        ):
            return
        factor = self._factor(known.role, unit, match)
        if factor is None or name in found.values:
            return
        self._has_loss = self._has_loss or known.role is Role.LOSS  # what follows says nothing about it
        beyond_span = Span(*beyond, "total", name, thousand) if total is not None else None
        self._store(name, value * factor, Span(*here, "value", name, factor, comma), total, beyond_span)

    def _rounds(self, between: str, here: tuple[int, int], beyond: tuple[int, int]) -> bool:
        """Whether the count before, alone on the line, was that of the epochs (`[01/18][050/371]`)."""
        found = self._found
        if (
            _BETWEEN_COUNTS.fullmatch(between) is None
            or len(found.values) != 1
            or found.totals.keys() != found.values.keys()
        ):
            return False
        if "round" in found.values:
            self._names.rounds_are_epochs = True
            found.values = {"epoch": found.values["round"]}
            found.totals = {"epoch": found.totals["round"]}
            found.spans = [span._replace(name="epoch") if span.name == "round" else span for span in found.spans]
        return "epoch" in found.values

    def _store(
        self, name: str, value: float, span: Span, total: float | None = None, beyond: Span | None = None
    ) -> None:
        self._found.values[name] = value
        self._found.spans.append(span)
        if total is not None and beyond is not None:
            self._found.totals[name] = total
            self._found.spans.append(beyond)

    def _last_word(self, name: str, between: str) -> str:
        """The last word of a name, where the words before it are no part of it."""
        last, whole = name.rpartition(" ")[2], self._meaning(name)
        role = self._meaning(last).role
        if whole.role is Role.OTHER and role in (Role.TOTAL, Role.EPOCHS):
            return last  # `resolved config max_steps=3000`
        if whole.role is Role.OTHER and role in (Role.STEP, Role.EPOCH) and len(last) > 2:
            return name if _NO_COUNT.search(name) else last  # `finetune step 30`
        is_key = between.endswith("=") and _KEY.fullmatch(last) is not None
        if is_key and whole.role is Role.LOSS and whole.precedence > self._meaning(last).precedence:
            return last  # `ep01 done train_loss=0.3`
        return name

    def _counted(self) -> bool:
        """Whether the line has had a count of steps or epochs."""
        return any(self._meaning(name).role in (Role.STEP, Role.EPOCH) for name in self._found.values)

    def _factor(self, role: Role, unit: str, match: re.Match[str]) -> float | None:
        """What turns a number into seconds or a count; None for a number that is none, such as `step 0.3s`."""
        if role in (Role.STEP, Role.TOTAL, Role.TOKENS) and (thousand := _THOUSAND.get(match["kilo"] or "")):
            return thousand
        if unit and role in (Role.STEP, Role.EPOCH):
            return None  # a time for each step, or a share
        timed = role in (Role.ELAPSED, Role.REMAINING, Role.TIME) and ":" not in match["number"]
        return _SECONDS.get(unit or "s", 1.0) if timed else 1.0

    def _without_name(
        self,
        match: re.Match[str],
        between: str,
        value: float,
        place: tuple[tuple[int, int], tuple[int, int], float | None],
        *,
        beginning: bool,
        count: bool,
    ) -> None:
        """A number without a name: a count at the beginning of the line, progress, or what a count introduces."""
        found, (here, beyond, total) = self._found, place
        bracketed = _OPENING.fullmatch(between) and _CLOSING.match(self._text, self._end)
        tagged = total is not None and _TAG.fullmatch(between) and not _DRAWN.match(self._text, self._end)
        numbered = (
            tagged or between.strip() == "#" or (not between.strip() and self._text[self._end : self._end + 2] == ":\t")
        )
        thousand = _THOUSAND.get(match["kilo"] or "", 1.0)
        of = match["total"] or match["of"]
        beyond_span = Span(*beyond, "total", "round", _total(of)[1]) if total is not None else None
        if total is not None and self._rounds(between, here, beyond):
            self._store("batch", value, Span(*here, "value", "batch"), total, Span(*beyond, "total", "batch"))
            return
        if beginning and (bracketed or numbered) and not found.values:
            if ":" in match["number"]:  # a clock since the start
                self._store("elapsed", value, Span(*here, "value", "elapsed"))
                return
            name = "epoch" if self._names.rounds_are_epochs and total is not None else "round"
            beyond_span = beyond_span and beyond_span._replace(name=name)
            self._store(name, value * thousand, Span(*here, "value", name, thousand), total, beyond_span)
            self._count = True
            return
        unit = (match["unit"] or match["kilo"] or "").strip()
        if count and total is None and _measured(match["number"], unit) and _AFTER_COUNT.fullmatch(between):
            name = _name(_BEFORE_COUNT.sub("", self._ahead))[0]
            known, name = self._meaning(name), name or UNNAMED
            if (known.role is not Role.LOSS and not self._has_loss) or _BEST.search(self._ahead):
                name = UNNAMED
            if name not in found.values and (name != UNNAMED or not self._has_loss):
                self._store(name, value, Span(*here, "value", name))
                self._has_loss = self._has_loss or name != UNNAMED
            return
        self._unnamed += between
        if found.progress is None and total is not None and not found.values:
            found.progress = (value, total)
            found.spans += [Span(*here, "progress"), Span(*beyond, "progress")]


def _measured(number: str, unit: str) -> bool:
    """Whether a number is neither a count nor a share nor a time."""
    return not unit and _FRACTION.fullmatch(number.lstrip("+-")) is not None


def _digits(text: str) -> str:
    """A total without the letter of thousands and without a comma after it."""
    return text.rstrip(",kKM")


def _total(text: str) -> tuple[float | None, float]:
    """(the total that a text is, what its letter multiplies it by)."""
    thousand = _THOUSAND.get(text[-1], 1.0)
    number = parsed(_digits(text))
    return (None if number is None else number * thousand), thousand


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
    name = parts[-1].strip(" .-+*#>_~")
    if len(name.split()) > 6 or not _LETTER.search(name):
        return "", False
    return name, sure
