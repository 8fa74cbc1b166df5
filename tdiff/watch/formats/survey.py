"""What the lines of a log held where no loss was found, in words for the user."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable

from tdiff.visible import visible_line
from tdiff.watch.formats.choice import Names, quoted, spelled
from tdiff.watch.formats.fields import Fields
from tdiff.watch.formats.names import PART, Role

_MOST_NAMES, _SHOWN, _WIDTH = 500, 6, 30
_THOROUGH, _STRIDE = 5_000, 16
"""Lines that are examined at first, and of how many later lines one is."""


class Survey:
    """Counts the lines that no format recognizes, and the names before their numbers."""

    def __init__(self) -> None:
        self.lines = 0
        self._names: Counter[str] = Counter()

    def take(self, fields: Fields) -> None:
        """Count a line; a progress bar, which is drawn again and again, is none."""
        self.lines += fields.bar is None
        if self.lines > _THOROUGH and self.lines % _STRIDE:
            return
        for name in (*fields.values, *fields.unread):
            if name in self._names or len(self._names) < _MOST_NAMES:
                self._names[name] += 1

    @property
    def names(self) -> list[str]:
        """The names before numbers, the most frequent first."""
        return [name for name, _ in self._names.most_common()]


def not_found(survey: Survey, kind: str, records: int, metrics: Iterable[str], names: Names) -> str:
    """One line: that no loss was found, in how many lines, and what their numbers are named; nothing to add where "".

    `kind` is the format, `records` the lines of its log, `metrics` the names of what is drawn all the same.
    """
    choice = names.choice
    if names.trouble:
        return names.trouble
    found = [name for name in dict.fromkeys([*metrics, *survey.names, *names.met]) if name]
    lines = max(records, survey.lines)
    if not lines:
        return ""
    counted = f"{lines:,} line{'s' * (lines != 1)} of {'text' if kind in ('log', 'text') else kind}"
    if choice.pattern:
        return f"no loss found: --pattern {quoted(choice.pattern)} matches none of {counted}"
    if lacking := missing(names, found):
        return f"{lacking[0].lower()}{lacking[1:]}; {counted}"
    parts = any(names.meaning(name).role is Role.LOSS and names.meaning(name).precedence >= PART for name in found)
    numbers = f"numbers named {_list(found)}; name one with --loss NAME" if found else "no number with a name"
    return f"no {'whole ' * parts}loss found: {counted}, {numbers}"


def missing(names: Names, others: Iterable[str] = ()) -> str:
    """What the user named that has not occurred, with the nearest names; "" where everything has."""
    choice = names.choice
    given = {"loss": choice.loss, "step": choice.step, "val": choice.val}
    lacking = [(option, name) for option, name in given.items() if name and option not in names.used]
    if not lacking:
        return ""
    option, name = lacking[0]
    known = [other for other in names.met if other] or list(others)
    near = difflib.get_close_matches(spelled(name), map(spelled, known), n=3, cutoff=0.5)
    near = [other for other in known if spelled(other) in near]
    hint = f"; did you mean {_list(near)}?" if near else f"; there are {_list(known)}" if known else ""
    return f"no number named {quoted(name)} (--{option}){hint}"


def _list(names: Iterable[str]) -> str:
    short = [visible_line(name[:_WIDTH]) for name in names]
    rest = len(short) - _SHOWN
    return ", ".join(short[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
