"""What the user says about a log by hand: which number is the loss, the step, the validation loss, or a pattern."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING

from tdiff.errors import TdiffError
from tdiff.visible import visible_line

if TYPE_CHECKING:
    from tdiff.watch.formats.names import Meaning

LONGEST_PATTERN = 500
"""Characters of a pattern."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Names of numbers in a log, or a pattern of its lines; "" where the reader decides by itself."""

    loss: str = ""
    step: str = ""
    val: str = ""
    pattern: str = ""

    def __bool__(self) -> bool:
        return any(asdict(self).values())

    def check(self) -> None:
        """Raises TdiffError for a pattern that is invalid or names no loss, and for names beside a pattern."""
        if not self.pattern:
            return
        given = [field.name for field in fields(self) if field.name != "pattern" and getattr(self, field.name)]
        if given:
            raise TdiffError(
                f"--pattern names its numbers itself, by groups such as (?P<{given[0]}>...); got --{given[0]} too"
            )
        if len(self.pattern) > LONGEST_PATTERN:
            raise TdiffError(f"--pattern has at most {LONGEST_PATTERN} characters; got {len(self.pattern)}")
        compiled(self.pattern)

    @property
    def words(self) -> str:
        """The options that make this choice."""
        return " ".join(
            f"--{field.name} {quoted(getattr(self, field.name))}" for field in fields(self) if getattr(self, field.name)
        )


def compiled(pattern: str) -> re.Pattern[str]:
    """The regular expression of a pattern. Raises TdiffError with the position of the fault, or with what it lacks."""
    try:
        expression = re.compile(pattern)
    except re.error as why:
        at = "" if why.pos is None else f" at character {why.pos + 1}, {quoted(pattern[why.pos : why.pos + 12])}"
        reason = why.msg
        raise TdiffError(f"--pattern {quoted(pattern)} is no regular expression: {reason}{at}") from None
    except (RecursionError, OverflowError):
        raise TdiffError(f"--pattern {quoted(pattern)} is nested too deeply") from None
    named = list(expression.groupindex)
    if not {"loss", "val"} & set(named) and (named or expression.groups != 1):
        has = f"only {', '.join(named)}" if named else f"{expression.groups or 'no'} groups"
        raise TdiffError(
            "--pattern needs a group for the loss, (?P<loss>...), or one group without a name; "
            f"{quoted(pattern)} has {has}"
        )
    return expression


def quoted(text: str) -> str:
    """A text in quotes, safe to print, with its backslashes as they are."""
    return f"'{visible_line(text)}'"


class Names:
    """What the names of one log mean: what the user says, else what their words say."""

    def __init__(self, choice: Choice | None = None) -> None:
        """Without a choice, words decide."""
        from tdiff.watch.formats.names import Meaning, Role, is_symbol, meaning

        choice = choice or Choice()
        self.choice = choice
        self.used: set[str] = set()
        """Options of the choice (`loss`, `step`, `val`) whose name has occurred."""
        self.met: dict[str, None] = {}
        """Names that have occurred, in order; only those of documents without a choice."""
        self.trouble = ""
        """Why the pattern is no longer searched for, on one line; "" where it is."""
        self.decimal_comma = False
        """Commas in this log are decimal signs, as a number has shown that can be read in no other way."""
        self.rounds_are_epochs = False
        """A count in brackets at the beginning of a line is one of epochs, as a second one behind it has shown."""
        self._by_hand = {
            spelled(name): (option, Meaning(role, split, BY_HAND))
            for option, name, role, split in (
                ("step", choice.step, Role.STEP, ""),
                ("val", choice.val, Role.LOSS, "eval"),
                ("loss", choice.loss, Role.LOSS, "train"),
            )
            if name
        }
        self._by_words, self._is_symbol = meaning, is_symbol
        self._symbols: Meaning | None = None  # what the letter of a loss means, once its values have shown that
        self.meaning: Callable[[str], Meaning] = self._chosen if self._by_hand else meaning
        """What a name means."""

    def assume(self, name: str, what: Meaning) -> None:
        """Take a name to mean something, as its values have shown."""
        if self._is_symbol(name):
            self._symbols = what
        else:
            self._by_hand.setdefault(spelled(name), ("", what))
        self.meaning = self._chosen

    def heard(self, name: str) -> Meaning:
        """What a name means; it is stored among those that have occurred."""
        if len(self.met) < MOST_NAMES:
            self.met[name] = None
        return self.meaning(name)

    def chosen(self, split: str) -> bool:
        """Whether the user names the loss of this split."""
        return bool(self.choice.loss if split == "train" else self.choice.val)

    def shortened(self, name: str) -> str:
        """The chosen name at the end of some words of text; else the same words."""
        words = name.split()
        for chosen in self._by_hand:
            count = len(chosen.split())
            if len(words) > count and spelled(" ".join(words[-count:])) == chosen:
                return " ".join(words[-count:])
        return name

    def _chosen(self, name: str) -> Meaning:
        key = spelled(name)
        if len(self.met) < MOST_NAMES:
            self.met[name] = None
        found = self._by_hand.get(key) or self._by_hand.get(key.rpartition("/")[2])
        if found is None:
            known = self._by_words(name)
            if self._symbols is not None and known.role is not self._symbols.role and self._is_symbol(name):
                return self._symbols._replace(split=known.split)
            return known
        self.used.add(found[0])
        return found[1]


BY_HAND = -1
"""The precedence of a name that the user chose."""
MOST_NAMES = 500


def spelled(name: str) -> str:
    """A name in small letters, with single blanks."""
    return " ".join(name.lower().split())
