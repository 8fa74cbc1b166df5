"""The index of this user's runs, one JSON line per run in the user's state folder, so that any folder can name them.

The index is a convenience: what cannot be read or written in it is skipped silently.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tdiff.files import write_atomic
from tdiff.runs.run import Run

try:
    import fcntl
except ImportError:  # on Windows, where two runs that start at the same moment may lose one entry
    fcntl = None  # type: ignore[assignment]

_MOST = 1000
"""Largest number of lines of the index."""


def remember(run: Run) -> None:
    """Enter a run into the index, as its last line. Does nothing if the state folder cannot be written."""
    with suppress(OSError, ValueError):
        path = run.path.absolute()
        entry = {"name": path.name, "path": str(path), "time": time.time()}
        with _locked():
            others = [other for other in _entries() if other["path"] != entry["path"]]
            lines = [json.dumps(item) + "\n" for item in [*others, entry][-_MOST:]]
            write_atomic(_index(), "".join(lines).encode())


def forget(path: Path) -> None:
    """Remove a run from the index. Does nothing if the state folder cannot be written."""
    with suppress(OSError, ValueError):
        absolute = str(path.absolute())
        with _locked():
            entries = _entries()
            others = [entry for entry in entries if entry["path"] != absolute]
            if len(others) < len(entries):
                write_atomic(_index(), "".join(json.dumps(item) + "\n" for item in others).encode())


def known_runs() -> dict[str, Path]:
    """Name -> folder of each run in the index that still exists; of two with one name, the one that started last."""
    return {entry["name"]: Path(entry["path"]) for entry in _entries() if is_run(Path(entry["path"]))}


def is_run(path: Path) -> bool:
    """Whether `path` is the folder of a run."""
    # Methods of Path raise for a name that no file can have.
    return any(os.path.isfile(path / name) for name in ("config.toml", "events.jsonl"))  # noqa: PTH113


def state_folder() -> Path:
    """The folder of the index and of the tracebacks of internal errors: $TDIFF_STATE, or the user's state folder."""
    if folder := os.environ.get("TDIFF_STATE"):
        return Path(folder)
    from platformdirs import user_state_path

    return user_state_path("tdiff")


def _index() -> Path:
    return state_folder() / "runs.jsonl"


def _entries() -> list[dict[str, str]]:
    """The readable lines of the index, oldest first."""
    entries = []
    with suppress(OSError):
        for line in _index().read_text("utf-8", "replace").splitlines():
            with suppress(ValueError):
                entry = json.loads(line)
                if isinstance(entry, dict) and all(isinstance(entry.get(key), str) for key in ("name", "path")):
                    entries.append(entry)
    return entries


@contextmanager
def _locked() -> Iterator[None]:
    """Hold the index's lock, so that no other process writes it."""
    path = _index().with_suffix(".lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        if fcntl:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
