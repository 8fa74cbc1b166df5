"""The table of all keys: the bindings, the help screen, the line of hints and the command palette read it.

To add a key that acts everywhere, add a row to `APP_KEYS` and an `action_...` method to `WatchApp`. A key of a pane is
a row of `KEYS` in the class of the pane, and acts while the pane has the focus. The id of a key is its name in
watch.toml, where a user can give it other keys.
"""

from __future__ import annotations

from collections.abc import Mapping

from textual.keys import Keys

from tdiff.errors import TdiffError, unknown
from tdiff.tui.key import FOCUS_KEYS, NEVER, Key, names_of
from tdiff.tui.panes.registry import PANES
from tdiff.tui.race_keys import RACE_KEYS
from tdiff.tui.sizes import PRESETS

APP_KEYS = (
    Key("quit", "q,ctrl+q,ctrl+c", "quit", "app", "quit"),
    Key("suspend_process", "ctrl+z", "suspend, as in a shell; fg resumes", "app"),
    Key("help", "question_mark,f1", "show the keys", "app", "help"),
    Key("palette", "colon,ctrl+p", "find a command by name", "app", opens_line=True),
    *FOCUS_KEYS,
    Key("zoom", "z", "show this pane alone, or all panes again", "app", "zoom"),
    *(
        Key(f"toggle_{pane.name}", pane.key, f"show or hide {pane.content}", "app", "", f"toggle_pane('{pane.name}')")
        for pane in PANES
    ),
    *(
        Key(f"preset_{preset.name}", str(n + 1), f"{preset.does}; again: the default", "app", "", f"preset({n})")
        for n, preset in enumerate(PRESETS)
    ),
    Key("fewer_rows", "left_parenthesis,ctrl+up", "fewer rows for this pane", "app", "", "resize('rows', -1)"),
    Key("more_rows", "right_parenthesis,ctrl+down", "more rows for this pane", "app", "", "resize('rows', 1)"),
    Key(
        "fewer_columns",
        "left_curly_bracket,ctrl+left",
        "fewer columns for this pane",
        "app",
        "",
        "resize('columns', -2)",
    ),
    Key(
        "more_columns",
        "right_curly_bracket,ctrl+right",
        "more columns for this pane",
        "app",
        "",
        "resize('columns', 2)",
    ),
    Key("next_theme", "T", "use the next theme of the screen", "app", "", "theme(1)"),
    Key("alerts", "exclamation_mark", "list the alerts", "app"),
    Key("previous_sample", "left_square_bracket", "the previous sample and its step", "app", "sample", "sample(-1)"),
    Key("next_sample", "right_square_bracket", "the next sample and its step", "app", "sample", "sample(1)"),
    Key("then_and_now", "S", "the first, a middle and the newest sample at once", "app"),
    Key("restart", "R", "start the model's process again", "app"),
    Key("copy", "y", "copy the text that is shown", "app"),
    Key("export", "x", "save the trace that is shown, and a player of it", "app"),
)
"""The keys that act everywhere."""
KEYS = (*APP_KEYS, *(key for pane in PANES for key in pane.pane_class.KEYS))
"""Every key of the view."""

RESTART = next(key for key in KEYS if key.id == "restart")
"""Starts the model's process again."""
_NAMED = {str(key.value) for key in Keys} | {key for entry in KEYS for key in entry.keys.split(",")}


def remapped(changes: Mapping[str, str]) -> dict[str, str]:
    """`changes` (id -> keys) of a user's configuration, checked; ctrl+c always leaves.

    Raises TdiffError for an unknown id, a key that cannot be bound, or a key that would do two things.
    """
    known = {entry.id: entry for entry in (*KEYS, *RACE_KEYS)}
    for name, keys in changes.items():
        if name not in known:
            raise unknown("key id", name, known)
        for key in keys.split(","):
            _check(name, key.strip())
    all_keys = dict(changes)
    if "quit" in all_keys and "ctrl+c" not in names_of(all_keys["quit"]):
        all_keys["quit"] += ",ctrl+c"
    taken: dict[tuple[str, str], str] = {}
    for entry in (*KEYS, *RACE_KEYS):
        for key in names_of(all_keys.get(entry.id, entry.keys)):
            other = taken.setdefault((entry.where, key), entry.id)
            if entry.where not in ("app", "texts"):  # the keys of the app do not act over the screen of a race
                other = taken.get(("app", key), other)
            if other != entry.id and (entry.id in changes or other in changes):
                raise TdiffError(
                    f"keys.{entry.id}: {key!r} already belongs to {other}; choose another key for one of them"
                )
    return all_keys


def _check(name: str, key: str) -> None:
    if not key or key.lower() in NEVER:
        what = repr(key) if key else "an empty name"
        raise TdiffError(f"keys.{name}: {what} cannot be used: screen, tmux or the terminal takes it")
    bare = key.removeprefix("alt+").removeprefix("ctrl+").removeprefix("shift+")
    if len(bare) != 1 and key not in _NAMED and bare not in _NAMED:
        raise unknown(f"key of keys.{name}", key, _NAMED)
