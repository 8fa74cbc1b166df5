"""What the user said about the numbers of a log, remembered for each file in the user's state folder.

Like the index of runs it is a convenience: what cannot be read or written is skipped silently.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING

from tdiff.errors import TdiffError
from tdiff.files import write_atomic
from tdiff.runs.index import state_folder
from tdiff.watch.formats.choice import Choice

if TYPE_CHECKING:
    from tdiff.watch.targets import Target

_MOST = 500
"""Files that are remembered: of more, the oldest are dropped."""


def remembered(target: Target) -> Choice | None:
    """The choice for a target's file; None if there is none, or if it is no longer valid."""
    stored = _load().get(_key(target))
    if not stored:
        return None
    choice = Choice(**{field.name: stored.get(field.name, "") for field in fields(Choice)})
    try:
        choice.check()
    except TdiffError:
        return None
    return choice or None


def remember(target: Target, choice: Choice) -> bool:
    """Store a choice. Whether it was stored: a pipe has no file, and the folder may be read-only."""
    key = _key(target)
    if not key:
        return False
    others = {other: stored for other, stored in _load().items() if other != key}
    return _save(others | {key: {name: text for name, text in asdict(choice).items() if text}})


def forget(target: Target) -> bool:
    """Drop the choice for a target's file. Whether there was one."""
    choices = _load()
    return choices.pop(_key(target), None) is not None and _save(choices)


def _key(target: Target) -> str:
    """What the choice belongs to; "" for a pipe."""
    if target.address is not None:
        address = target.address
        return f"ssh://{address.user}@{address.host}:{address.port or ''}/{'~/' * address.at_home}{address.path}"
    if target.path is None or target.kind == "pipe":
        return ""
    with suppress(OSError, RuntimeError):
        return str(target.path.resolve())
    return str(target.path.absolute())


def _file() -> Path:
    return state_folder() / "choices.json"


def _load() -> dict[str, dict[str, str]]:
    with suppress(OSError, ValueError, RecursionError):
        stored = json.loads(_file().read_text("utf-8"))
        if isinstance(stored, dict):
            return {
                key: choice
                for key, choice in stored.items()
                if isinstance(choice, dict) and all(isinstance(text, str) for text in choice.values())
            }
    return {}


def _save(choices: dict[str, dict[str, str]]) -> bool:
    with suppress(OSError, ValueError):
        newest = dict(list(choices.items())[-_MOST:])
        write_atomic(_file(), (json.dumps(newest, indent=1) + "\n").encode())
        return True
    return False
