"""The files below a folder that may hold the curve of a training, known by their names; no file is read."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tdiff.patterns import lazy

MAX_DEPTH, MAX_ENTRIES = 5, 5_000
"""Levels of folders that are searched below the folder, and entries that are examined."""
_SHORT = 32
"""Characters of a path that are shown whole."""
_SKIPPED_FOLDERS = frozenset(["node_modules", "__pycache__", "site-packages", "global_step"])
_SKIPPED_FILES = lazy(
    r"requirements.*|debug(-\w+)*(\.\w+)?\.log|conda-environment.*|.*\.profile-empty|install.*\.log|pip.*\.log"
)
"""Logs of installers, and those that Weights & Biases writes about itself."""
_TEXT_SUFFIXES = (".log", ".out", ".err")
_TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson")
_TEXT_NAMES = frozenset(["log", "stdout", "stderr", "output", "nohup"])
_TEXT_WORDS = lazy(r"log|train|stdout|stderr|output", re.IGNORECASE)
_DOCUMENT_WORDS = lazy(r"history|metric|log|loss", re.IGNORECASE)
_SCHEDULER_OUTPUT = lazy(r"\.[oe]\d+")
"""The suffix that Grid Engine and PBS give: `train.o4711`."""
_PART = lazy(r"(.*[_-])?(?:train|training|val|valid|validation|eval|evaluation|test|dev)", re.IGNORECASE)
"""The name of a folder that holds a part of one run: `validation` of Keras, `loss_val` of `add_scalars`."""

Kind = Literal["run", "events", "state", "table", "text", "document", "summary"]
"""The event log of a tdiff run; TensorBoard events; `trainer_state.json`; CSV or JSON Lines; text; one JSON document;
`wandb-summary.json`."""


@dataclass(frozen=True, slots=True)
class File:
    """A file as its folder describes it."""

    path: Path
    size: int
    modified: float
    """Seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """Something in a folder that can be watched: one file, or the event files of one run."""

    kind: Kind
    path: Path
    """The file; of event files the folder of their run."""
    files: tuple[Path, ...]
    """The file; of event files all of the run, in the order in which they were started."""
    size: int
    modified: float
    """Seconds since the epoch; of several files the newest."""


def files_below(folder: Path, depth: int = MAX_DEPTH) -> Iterator[File]:
    """Files in a folder and in some levels below it, up to a limit; unreadable and hidden folders are skipped."""
    left = MAX_ENTRIES
    waiting = [(folder, depth)]
    while waiting:
        current, levels = waiting.pop(0)
        try:
            with os.scandir(current) as entries:
                for entry in entries:
                    left -= 1
                    if left < 0:
                        return
                    if entry.is_dir(follow_symlinks=False):
                        if levels and not entry.name.startswith(".") and entry.name not in _SKIPPED_FOLDERS:
                            waiting.append((Path(entry.path), levels - 1))
                    elif entry.is_file():
                        info = entry.stat()
                        yield File(Path(entry.path), info.st_size, info.st_mtime)
        except OSError:
            continue


def shortened(name: str) -> str:
    """The end of a long path."""
    return name if len(name) <= _SHORT else "…/" + "/".join(name.split("/")[-2:])


def kind_of(name: str) -> Kind | None:
    """What a file may hold, by its name; None for a file that is not offered."""
    if name == "events.jsonl":
        return "run"
    if name == "trainer_state.json":
        return "state"
    if name == "wandb-summary.json":
        return "summary"
    if _SKIPPED_FILES.fullmatch(name):
        return None
    if is_event_file(name):
        return "events"
    name = name.removesuffix(".gz")
    stem, suffix = os.path.splitext(name)  # noqa: PTH122  (a Path for each of thousands of names is slow)
    suffix = suffix.lower()
    if suffix in _TABLE_SUFFIXES:
        return "table"
    if suffix in _TEXT_SUFFIXES or _SCHEDULER_OUTPUT.fullmatch(suffix):
        return "text"
    if name.lower() in _TEXT_NAMES or (suffix == ".txt" and _TEXT_WORDS.search(stem)):
        return "text"
    if suffix == ".json" and _DOCUMENT_WORDS.search(stem):
        return "document"
    return None


def is_event_file(name: str) -> bool:
    """Whether a file's name is one that TensorBoard's writers give."""
    return "tfevents" in name and not name.endswith(".profile-empty")


def is_part(name: str, *, beside_events: bool) -> bool:
    """Whether a folder's name says that it holds a part of the run whose folder it is in: training or validation.

    `beside_events`: there are event files beside the folder. Only then a longer name, such as `loss_val`, is a part.
    """
    match = _PART.fullmatch(name)
    return match is not None and (beside_events or not match[1])


def candidates(files: Iterable[File], top: Path) -> list[Candidate]:
    """What can be watched among files below the folder `top`; event files are grouped by their run."""
    found: list[Candidate] = []
    events: dict[Path, list[File]] = {}
    for file in files:
        kind = kind_of(file.path.name)
        if kind == "events":
            events.setdefault(file.path.parent, []).append(file)
        elif kind is not None:
            found.append(Candidate(kind, file.path, (file.path,), file.size, file.modified))
    runs: dict[Path, list[File]] = {}
    for folder, parts in events.items():
        part = folder != top and is_part(folder.name, beside_events=folder.parent in events)
        runs.setdefault(folder.parent if part else folder, []).extend(parts)
    for folder, parts in runs.items():
        parts.sort(key=lambda part: (part.path.name, part.path))  # their names begin with their time
        paths = tuple(part.path for part in parts)
        size, modified = sum(part.size for part in parts), max(part.modified for part in parts)
        found.append(Candidate("events", folder, paths, size, modified))
    return found
