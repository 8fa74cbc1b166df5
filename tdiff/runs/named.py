"""Find a run by the name that a user types: a path, a run under ROOT, or a run of the index. No torch."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

from tdiff.errors import TdiffError
from tdiff.runs.index import is_run, known_runs
from tdiff.runs.per_class import MANIFEST
from tdiff.runs.run import ROOT

_MAX_NAMED = 8
"""Runs that an error names."""


def named_run(name: str, root: Path = ROOT) -> Path:
    """The folder of the run with that name or path, or of the runs of one model per class.

    Raises TdiffError that names the nearest run.
    """
    if name.startswith("ssh://"):
        raise TdiffError(f"{name!r} is on another host; this command acts on runs of this machine")
    path = Path(os.path.expanduser(name))  # noqa: PTH111  (Path.expanduser raises if there is no such user)
    candidates = [path, root / name] if name else []
    if name == Path(name).name and (known := known_runs().get(name)):
        candidates.append(known)
    for candidate in candidates:
        if is_any_run(candidate):
            return candidate
    if name and os.path.exists(path) and (os.sep in name or not os.path.isdir(path)):  # noqa: PTH110, PTH112
        raise TdiffError(f"{name!r} is not a run: it contains neither config.toml nor events.jsonl")
    names = list(dict.fromkeys([*(p.name for p in root.glob("*") if is_any_run(p)), *reversed(known_runs())]))
    nearest = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {nearest[0]}?" if nearest else f"there are: {', '.join(names[:_MAX_NAMED])}" if names else ""
    raise TdiffError(f"no run {name!r} under {root}/ or in the index of runs{f'; {hint}' if hint else ''}")


def is_any_run(path: Path) -> bool:
    """Whether `path` is the folder of a run, or of the runs of one model per class."""
    return is_run(path) or os.path.isfile(path / MANIFEST)  # noqa: PTH113  (Path.is_file raises for an invalid name)


def members(folder: Path) -> list[Path]:
    """The folders of runs in `folder`: itself, or one for each class."""
    if is_run(folder):
        return [folder]
    return sorted(path for path in folder.iterdir() if is_run(path))
