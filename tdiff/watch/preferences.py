"""The user's preferences for the live view: colours and keys, from watch.toml in the user's configuration folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from tdiff.errors import TdiffError


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
    notify: str = ""
    """Like --notify."""
    mouse: bool | None = None
    """False: as --no-mouse."""
    keys: Annotated[Mapping[str, str], 'lines such as pause = "space,p"'] = field(default_factory=dict)
    """Id of a key (`tdiff watch` shows them in its help) -> the keys it is to have."""


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
    from tdiff.config.settings import read_layer
    from tdiff.schema import build

    preferences: Preferences = build(Preferences, read_layer(file), source=str(file))
    return preferences
