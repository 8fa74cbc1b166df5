"""The index of this user's runs, by which one is found from anywhere: one line a run in the user's state folder.

It is a convenience: what cannot be read or written there is passed over in silence.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tdiff.runs.run import Run, write_whole

try:
    import fcntl
except ImportError:  # not on Windows: there two runs that begin at once may lose one entry
    fcntl = None  # type: ignore[assignment]

_MOST = 1000
"""Lines of the index, less one."""


def remember(run: Run) -> None:
    """Enter a run into the index. Does nothing where the state folder cannot be written."""
    with suppress(OSError, ValueError):
        path = run.path.absolute()
        entry = {"name": path.name, "path": str(path), "time": time.time()}
        with _alone():
            others = [other for other in _entries() if other["path"] != entry["path"]]
            lines = [json.dumps(one) + "\n" for one in [*others, entry][1 - _MOST :]]
            write_whole(_index(), "".join(lines).encode())


def known_runs() -> dict[str, Path]:
    """The folder of each run in the index that is still there; of two with one name, that begun last."""
    return {entry["name"]: Path(entry["path"]) for entry in _entries() if is_run(Path(entry["path"]))}


def is_run(path: Path) -> bool:
    """Whether that is the folder of a run."""
    # Path's own raise for a name that no file can have.
    return any(os.path.isfile(path / name) for name in ("config.toml", "events.jsonl"))  # noqa: PTH113


def state_folder() -> Path:
    """Where the index and the tracebacks of internal errors are: $TDIFF_STATE, else the user's state folder."""
    if folder := os.environ.get("TDIFF_STATE"):
        return Path(folder)
    from platformdirs import user_state_path

    return user_state_path("tdiff")


def _index() -> Path:
    return state_folder() / "runs.jsonl"


def _entries() -> list[dict[str, str]]:
    """The lines of the index that can be read, oldest first."""
    entries = []
    with suppress(OSError):
        for line in _index().read_text("utf-8", "replace").splitlines():
            with suppress(ValueError):
                entry = json.loads(line)
                if isinstance(entry, dict) and all(isinstance(entry.get(key), str) for key in ("name", "path")):
                    entries.append(entry)
    return entries


@contextmanager
def _alone() -> Iterator[None]:
    """Nobody else writes the index meanwhile."""
    path = _index().with_suffix(".lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        if fcntl:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
