"""What a user prefers in the live view: colours and keys, from watch.toml in the user's configuration folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from tdiff.config.settings import read_layer
from tdiff.errors import TdiffError
from tdiff.schema import build


@dataclass(frozen=True, slots=True, kw_only=True)
class Preferences:
    """The file's settings; an option of the command line wins over each."""

    color: str = ""
    """As --color."""
    glyphs: str = ""
    """As --glyphs."""
    palette: str = ""
    """As --palette."""
    theme: str = ""
    """As --theme."""
    mouse: bool | None = None
    """False: as --no-mouse."""
    keys: Annotated[Mapping[str, str], 'lines such as pause = "space,p"'] = field(default_factory=dict)
    """Id of a key (`tdiff watch` shows them in its help) -> the keys it is to have."""


def path() -> Path:
    """Where the file is looked for: $TDIFF_WATCH_CONFIG, or watch.toml in the user's configuration folder."""
    import platformdirs

    named = os.environ.get("TDIFF_WATCH_CONFIG")
    return Path(named) if named else platformdirs.user_config_path("tdiff") / "watch.toml"


def load() -> Preferences:
    """The user's preferences; the defaults where there is no file. Raises TdiffError where it cannot be understood."""
    file = path()
    if not file.exists():
        if os.environ.get("TDIFF_WATCH_CONFIG"):
            raise TdiffError(f"TDIFF_WATCH_CONFIG names {str(file)!r}, which does not exist")
        return Preferences()
    preferences: Preferences = build(Preferences, read_layer(file), source=str(file))
    return preferences
