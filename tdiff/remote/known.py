"""The runs that this user has started on other machines: name -> ssh:// address, in the user's state folder."""

from __future__ import annotations

import difflib
import json
from contextlib import suppress

from tdiff.errors import TdiffError
from tdiff.files import write_atomic
from tdiff.runs.index import state_folder

_FILE = "remote-runs.json"
_MOST = 1000


def remember(name: str, url: str) -> None:
    """Store where a run is; of two with one name the later counts. Does nothing if the folder cannot be written."""
    runs = {key: value for key, value in _runs().items() if key != name}
    with suppress(OSError):
        newest = dict(list({**runs, name: url}.items())[-_MOST:])
        write_atomic(state_folder() / _FILE, json.dumps(newest, indent=1).encode())


def find(name: str) -> str:
    """The address of a run. Raises TdiffError that names the nearest one."""
    runs = _runs()
    if name in runs:
        return runs[name]
    near = difflib.get_close_matches(name, runs, n=1)
    hint = f"did you mean {near[0]}?" if near else "name it as ssh://host/folder/checkpoints/RUN"
    raise TdiffError(f"no run {name!r} was started from here on another machine; {hint}")


def _runs() -> dict[str, str]:
    try:
        values = json.loads((state_folder() / _FILE).read_bytes())
    except (OSError, ValueError):
        return {}
    items = values.items() if isinstance(values, dict) else ()
    return {key: value for key, value in items if isinstance(value, str)}
