"""The user's preferences for the live view: colours and keys, from watch.toml in the user's configuration folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tdiff.config.settings import read_layer
from tdiff.errors import TdiffError, unknown

_TEXTS = ("color", "glyphs", "palette", "theme")


@dataclass(frozen=True, slots=True, kw_only=True)
class Preferences:
    """The settings of the file; options of the command line override them."""

    color: str = ""
    """Like --color."""
    glyphs: str = ""
    """Like --glyphs."""
    palette: str = ""
    """Like --palette."""
    theme: str = ""
    """Like --theme."""
    mouse: bool | None = None
    """False: like --no-mouse."""
    keys: Mapping[str, str] = field(default_factory=dict)
    """Id of an action (the help of `tdiff watch` lists them) -> its keys."""


def path() -> Path:
    """The path of the file: $TDIFF_WATCH_CONFIG, or watch.toml in the user's configuration folder."""
    import platformdirs

    configured = os.environ.get("TDIFF_WATCH_CONFIG")
    return Path(configured) if configured else platformdirs.user_config_path("tdiff") / "watch.toml"


def load() -> Preferences:
    """Load the preferences; the defaults if there is no file. Raises TdiffError if the file is invalid."""
    file = path()
    if not file.exists():
        if os.environ.get("TDIFF_WATCH_CONFIG"):
            raise TdiffError(f"TDIFF_WATCH_CONFIG names {str(file)!r}, which does not exist")
        return Preferences()
    values: dict[str, Any] = dict(read_layer(file))
    names = (*_TEXTS, "mouse", "keys")
    for name, value in values.items():
        if name not in names:
            raise unknown(f"setting in {file}", name, names)
        if name in _TEXTS and not isinstance(value, str):
            raise TdiffError(f"{file}: {name} takes text; got {value!r}")
        if name == "mouse" and not isinstance(value, bool):
            raise TdiffError(f"{file}: mouse takes true or false; got {value!r}")
        if name == "keys" and not (isinstance(value, dict) and all(isinstance(v, str) for v in value.values())):
            raise TdiffError(f'{file}: [keys] takes lines such as pause = "space,p"; got {value!r}')
    return Preferences(**values)
