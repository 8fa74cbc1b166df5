"""What the user has changed of the view's looks, remembered in the user's state folder for the next view.

Like the choices about logs it is a convenience: what cannot be read or written is skipped silently. Once the theme or
the palette of watch.toml is changed there, it comes first again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tdiff.files import write_atomic
from tdiff.runs.index import state_folder
from tdiff.watch.preferences import Preferences

QUIET = 0.5
"""Seconds without a change after which changes are stored: a key that is held down changes a size 30 times a second."""
_HIGHEST = 10_000
"""The maximum weight of a pane."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewSettings:
    """The settings; an empty text leaves it to the options, to watch.toml and to the terminal."""

    preset: str = ""
    """Name of the arrangement of the panes."""
    sizes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Kind of layout -> name of a pane or of a group of panes -> its weight, from 1."""
    theme: str = ""
    """Name of the theme; "own": the terminal's colours."""
    palette: str = ""
    """Name of the colours of confidence."""


def load(preferences: Preferences) -> ViewSettings:
    """The remembered settings that watch.toml has not replaced since."""
    stored = _read()

    def text(name: str, now: str) -> str:
        value = stored.get(name)
        return value if isinstance(value, str) and stored.get(f"{name}_in_file", "") == now else ""

    return ViewSettings(
        preset=text("preset", ""),
        sizes=_weights(stored.get("sizes")),
        theme=text("theme", preferences.theme),
        palette=text("palette", preferences.palette),
    )


def remember(preferences: Preferences, **changes: object) -> None:
    """Store these settings, by their names; the others stay as another view may have stored them meanwhile."""
    in_file = {"theme": preferences.theme, "palette": preferences.palette}
    changes |= {f"{name}_in_file": value for name, value in in_file.items() if name in changes}
    with suppress(OSError, ValueError):
        write_atomic(_file(), (json.dumps(_read() | changes, indent=1) + "\n").encode())


class Unsaved:
    """Changes of settings that are stored together, once the user has changed nothing for a moment."""

    def __init__(self, store: Callable[..., None]) -> None:
        """`store` stores settings by their names."""
        self._store = store
        self._changes: dict[str, object] = {}
        self._newest = 0.0  # time of the newest change, in seconds

    def change(self, now: float, **changes: object) -> None:
        """Note settings that have changed."""
        self._changes |= changes
        self._newest = now

    def poll(self, now: float) -> None:
        """Store the changes if the newest is `QUIET` seconds ago, or the clock was set back."""
        if not 0 <= now - self._newest < QUIET:
            self.save()

    def save(self) -> None:
        """Store the changes now, if there are any."""
        if self._changes:
            changes, self._changes = self._changes, {}
            self._store(**changes)


def _file() -> Path:
    return state_folder() / "view.json"


def _read() -> dict[str, object]:
    with suppress(OSError, ValueError, RecursionError):
        stored = json.loads(_file().read_text("utf-8"))
        if isinstance(stored, dict):
            return stored
    return {}


def _weights(sizes: object) -> dict[str, dict[str, int]]:
    """The weights in what was read; whatever is not one is left out."""
    found: dict[str, dict[str, int]] = {}
    for kind, weights in sizes.items() if isinstance(sizes, dict) else ():
        if isinstance(weights, dict):
            found[kind] = {n: value for n, value in weights.items() if type(value) is int and 0 < value <= _HIGHEST}
    return found
