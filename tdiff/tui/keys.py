"""The one table of keys: bindings, help screen, footer and palette are all made from it.

A key belongs to the app or to a pane; a pane's keys act while it has the focus. Each has an id, by which a user's
configuration gives it other keys. Never used: ctrl+a (screen), ctrl+b (tmux), ctrl+h, ctrl+i, ctrl+j, ctrl+m, ctrl+s,
ctrl+z and ctrl+[, which terminals keep or cannot tell apart; and Esc is never the only way out of anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from textual.binding import Binding
from textual.keys import Keys

from tdiff.errors import TdiffError, unknown

Where = Literal["app", "generation", "training", "log"]

NEVER = frozenset(f"ctrl+{key}" for key in ("a", "b", "h", "i", "j", "m", "s", "z", "[", "left_square_bracket"))


@dataclass(frozen=True, slots=True)
class Key:
    """What one or more keys do."""

    id: str
    """Also the name of the action: `action_<id>` of the app or of the pane."""
    keys: str
    """Textual's names of the keys, with commas between them."""
    does: str
    """What it does, as help and palette say it."""
    where: Where
    hint: str = ""
    """The word beside the key in the footer, for neighbours in the table together; "" keeps it out of there."""


KEYS = (
    Key("quit", "q,ctrl+q,ctrl+c", "leave", "app", "quit"),
    Key("suspend_process", "ctrl+z", "stop, as in a shell; fg goes on", "app"),
    Key("help", "question_mark,f1", "show the keys", "app", "help"),
    Key("palette", "colon,ctrl+p", "find a command by its name", "app"),
    Key("next_pane", "tab", "go to the next pane", "app", "pane"),
    Key("previous_pane", "shift+tab", "go to the pane before", "app"),
    Key("zoom", "z", "give the whole screen to this pane, or take it back", "app", "zoom"),
    Key("toggle_generation", "1", "show or hide the generation", "app"),
    Key("toggle_training", "2", "show or hide the training curves", "app"),
    Key("toggle_log", "3", "show or hide the log", "app"),
    Key("toggle_details", "4", "show or hide loss by mask ratio, samples and alerts", "app"),
    Key("alerts", "exclamation_mark", "list the alerts", "app"),
    Key("previous_sample", "left_square_bracket", "the sample before, and its place on the curve", "app", "sample"),
    Key("next_sample", "right_square_bracket", "the sample after, and its place on the curve", "app", "sample"),
    Key("restart", "R", "start the model's process again", "app"),
    Key("copy", "y", "copy the text that is shown", "app"),
    Key("export", "x", "save the trace that is shown to a file here", "app"),
    Key("pause", "space", "pause or go on; generation goes on meanwhile", "generation", "pause"),
    Key("step_back", "left,h", "one step back", "generation", "step"),
    Key("step_forward", "right,l", "one step forward", "generation", "step"),
    Key("leap_back", "shift+left,H,pageup", "ten steps back", "generation"),
    Key("leap_forward", "shift+right,L,pagedown", "ten steps forward", "generation"),
    Key("first_step", "home,g", "to the first step", "generation"),
    Key("live", "end,G", "to the live edge", "generation", "live"),
    Key("replay", "r", "play this text again from its first step", "generation"),
    Key("scroll_up", "up,k", "scroll the text up", "generation"),
    Key("scroll_down", "down,j", "scroll the text down", "generation"),
    Key("prompt", "i", "edit the prompt", "generation", "prompt"),
    Key("new_text", "n", "begin another text now", "generation", "new"),
    Key("decoder", "d", "the next decoder", "generation", "decoder"),
    Key("threshold_down", "less_than_sign,comma", "lower the threshold by 0.05", "generation"),
    Key("threshold_up", "greater_than_sign,full_stop", "raise the threshold by 0.05", "generation"),
    Key("palette_next", "o", "the next palette of confidence colours", "generation"),
    Key("cursor_left", "left,h", "move along the curve to the left", "training", "cursor"),
    Key("cursor_right", "right,l", "move along the curve to the right", "training", "cursor"),
    Key("cursor_leap_left", "shift+left,H,pageup", "move a tenth of the curve to the left", "training"),
    Key("cursor_leap_right", "shift+right,L,pagedown", "move a tenth of the curve to the right", "training"),
    Key("cursor_first", "home,g", "to the beginning of the curve", "training"),
    Key("follow", "f,end,G", "follow the newest step, with the whole curve in view", "training", "follow"),
    Key("zoom_in", "up,k", "zoom into the curve", "training", "zoom"),
    Key("zoom_out", "down,j", "zoom out", "training", "zoom"),
    Key("pan_left", "less_than_sign,comma", "pan to the left", "training"),
    Key("pan_right", "greater_than_sign,full_stop", "pan to the right", "training"),
    Key("smoother", "plus,equals_sign", "smooth the curve more", "training", "smooth"),
    Key("rougher", "minus", "smooth the curve less", "training", "smooth"),
    Key("raw", "0", "do not smooth", "training"),
    Key("x_axis", "a", "x by step, time or tokens", "training", "axis"),
    Key("log_axis", "A", "loss on a linear or a logarithmic axis", "training", "log"),
    Key("log_x_axis", "X", "x on a linear or a logarithmic axis", "training"),
    Key("filter", "slash", "choose metrics by a part of their name", "training", "metric"),
    Key("next_metric", "m", "the next metric", "training"),
    Key("previous_metric", "M", "the metric before", "training"),
    Key("log_up", "up,k", "a line up", "log"),
    Key("log_down", "down,j", "a line down", "log"),
    Key("log_page_up", "pageup", "a page up", "log"),
    Key("log_page_down", "pagedown", "a page down", "log"),
    Key("log_first", "home,g", "to the oldest line", "log"),
    Key("log_follow", "end,G,f", "follow the newest line", "log", "follow"),
    Key("find", "slash", "find text in the log", "log", "find"),
    Key("find_next", "n", "the next place found", "log", "next"),
    Key("find_previous", "N", "the place found before", "log"),
)
"""Every key of the view."""

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
    "less_than_sign": "<",
    "greater_than_sign": ">",
    "comma": ",",
    "full_stop": ".",
    "plus": "+",
    "equals_sign": "=",
    "minus": "-",
    "slash": "/",
    "shift+left": "⇧←",
    "shift+right": "⇧→",
    "shift+tab": "⇧tab",
}


def bindings(where: Where) -> list[Binding]:
    """Textual's bindings of the app or of a pane."""
    own = [Binding(key.keys, key.id, key.does, id=key.id, show=False) for key in KEYS if key.where == where]
    if where == "app":
        return own
    # A screen of textual's moves the focus itself, before the app is asked; the panes know better where it may go.
    moves = [key for key in KEYS if key.id in ("next_pane", "previous_pane")]
    return own + [Binding(key.keys, f"app.{key.id}", key.does, id=key.id, show=False) for key in moves]


def shown(keys: str, *, ascii: bool = False) -> str:
    """The keys of an entry as a person reads them, with spaces between them."""
    names = [_SHOWN.get(key.strip(), key.strip()) for key in keys.split(",")]
    if ascii:
        names = [name if name.isascii() else key.strip() for name, key in zip(names, keys.split(","), strict=True)]
    return " ".join(names)


def remapped(changes: Mapping[str, str]) -> dict[str, str]:
    """`changes` (id -> keys) of a user's configuration, checked; ctrl+c always leaves.

    Raises TdiffError for an id that there is not, a key that cannot be, or one that would do two things.
    """
    known = {entry.id: entry for entry in KEYS}
    for name, keys in changes.items():
        if name not in known:
            raise unknown("key id", name, known)
        for key in keys.split(","):
            _check(name, key.strip())
    all_keys = dict(changes)
    if "quit" in all_keys and "ctrl+c" not in names_of(all_keys["quit"]):
        all_keys["quit"] += ",ctrl+c"
    taken: dict[tuple[str, str], str] = {}
    for entry in KEYS:
        for key in names_of(all_keys.get(entry.id, entry.keys)):
            other = taken.setdefault((entry.where, key), entry.id)
            if entry.where != "app":
                other = taken.get(("app", key), other)
            if other != entry.id and (entry.id in changes or other in changes):
                raise TdiffError(f"keys.{entry.id}: {key!r} is that of {other} already; give one of them another")
    return all_keys


def names_of(keys: str) -> list[str]:
    """Textual's names of the keys of an entry."""
    return [_CHARACTERS.get(key.strip(), key.strip()) for key in keys.split(",")]


_CHARACTERS = {character: name for name, character in _SHOWN.items() if len(character) == 1 and character.isascii()}
_NAMED = {str(key.value) for key in Keys} | {key for entry in KEYS for key in entry.keys.split(",")}


def _check(name: str, key: str) -> None:
    if not key or key.lower() in NEVER:
        raise TdiffError(f"keys.{name}: {key or 'an empty key'!r} cannot be bound: terminals, screen or tmux keep it")
    bare = key.removeprefix("alt+").removeprefix("ctrl+").removeprefix("shift+")
    if len(bare) != 1 and key not in _NAMED and bare not in _NAMED:
        raise unknown(f"key of keys.{name}", key, _NAMED)
