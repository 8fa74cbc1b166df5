"""`Key`: an entry of the table of keys, with its names for textual and for a person. The table is `key_table`.

Screen, tmux and terminals keep some keys for themselves or cannot tell them apart; `NEVER` lists them. Esc is never the
only way out of anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from textual.binding import Binding

NEVER = frozenset(f"ctrl+{key}" for key in ("a", "b", "h", "i", "j", "m", "s", "z", "[", "left_square_bracket"))
"""Keys that an entry cannot have: ctrl+a is screen's, ctrl+b is tmux's, and terminals keep or rename the others."""


@dataclass(frozen=True, slots=True)
class Key:
    """A command of the view, and the keys that run it."""

    id: str
    """Names the command in a user's configuration."""
    keys: str
    """Textual's names of the keys, separated by commas."""
    does: str
    """What it does, as the help screen and the palette say it."""
    where: str
    """"app", or the name of the pane that must have the focus."""
    hint: str = ""
    """The word beside the key in the footer, for neighbours in the table together; "" leaves it out of the footer."""
    action: str = ""
    """Textual's action, with its arguments; "": the id."""
    opens_line: bool = False
    """Whether it opens a line of text, which takes the keys that follow."""

    @property
    def runs(self) -> str:
        """Textual's action of the app or of the pane, with its arguments."""
        return self.action or self.id


FOCUS_KEYS = (
    Key("next_pane", "tab", "move to the next pane", "app", "pane", "step_focus(1)"),
    Key("previous_pane", "shift+tab", "move to the previous pane", "app", action="step_focus(-1)"),
)
"""Keys of the app that every pane binds too: textual's screen moves the focus itself before the app gets the key."""

_SHOWN = {
    "left": "←",
    "right": "→",
    "up": "↑",
    "down": "↓",
    "question_mark": "?",
    "colon": ":",
    "exclamation_mark": "!",
    "left_square_bracket": "[",
    "right_square_bracket": "]",
    "left_parenthesis": "(",
    "right_parenthesis": ")",
    "left_curly_bracket": "{",
    "right_curly_bracket": "}",
    "less_than_sign": "<",
    "greater_than_sign": ">",
    "comma": ",",
    "full_stop": ".",
    "plus": "+",
    "equals_sign": "=",
    "minus": "-",
    "slash": "/",
    "circumflex_accent": "^",
    "shift+left": "⇧←",
    "shift+up": "⇧↑",
    "shift+down": "⇧↓",
    "shift+right": "⇧→",
    "shift+tab": "⇧tab",
    "ctrl+left": "ctrl+←",
    "ctrl+up": "ctrl+↑",
    "ctrl+down": "ctrl+↓",
    "ctrl+right": "ctrl+→",
}


def bindings(keys: Sequence[Key], *, app: bool = False) -> list[Binding]:
    """Textual's bindings of the app, or of a pane with these keys."""
    declared = [_binding(key, key.runs) for key in keys]
    return declared if app else declared + [_binding(key, f"app.{key.runs}") for key in FOCUS_KEYS]


def _binding(key: Key, action: str) -> Binding:
    return Binding(key.keys, action, key.does, id=key.id, show=False)


def shown(keys: str, *, ascii: bool = False) -> str:
    """The keys of an entry as a person reads them, with spaces between them."""
    names = [_SHOWN.get(key.strip(), key.strip()) for key in keys.split(",")]
    if ascii:
        names = [name if name.isascii() else key.strip() for name, key in zip(names, keys.split(","), strict=True)]
    return " ".join(names)


def first_name(key: Key, changed: Mapping[str, str], *, ascii: bool) -> str:
    """The first of the keys of an entry as a person reads it, after the user's changes (id -> keys)."""
    return shown(changed.get(key.id, key.keys).split(",")[0], ascii=ascii)


def names_of(keys: str) -> list[str]:
    """Textual's names of the keys of an entry."""
    return [_CHARACTERS.get(key.strip(), key.strip()) for key in keys.split(",")]


_CHARACTERS = {character: name for name, character in _SHOWN.items() if len(character) == 1 and character.isascii()}
