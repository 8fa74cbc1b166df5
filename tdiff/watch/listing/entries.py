"""Which runs and logs a folder holds, decided by the names in it; the same for this host and for another one.

A folder with an event log is a tdiff run. Any other file that may contain a loss is a log. The files that one training
of Hugging Face, Lightning or Weights & Biases writes into its folder are one log.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tdiff.patterns import lazy
from tdiff.runs.process import FILE as PROCESS

DEPTH = 4
"""Levels of folders that are searched."""
MAX_EXAMINED = 5_000
"""Names that one search examines."""
EVENTS, CONFIG = "events.jsonl", "config.toml"
SUFFIXES = (".log", ".out", ".err", ".txt", ".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".gz")
"""Suffixes of files that may contain a loss; names with `tfevents` are TensorBoard's."""
TENSORBOARD = ".tfevents."
SKIPPED_FOLDERS = ("__pycache__", "node_modules", "site-packages", "samples")
_NO_LOGS = lazy(
    r"(?:requirements.*\.txt|merges\.txt|vocab\.(?:txt|json)|.*config\.json|(?:added_|)tokens?(?:izer)?\.json|"
    r"tokenizer.*\.json|special_tokens_map\.json|package(?:-lock)?\.json|.*\.index\.json|wandb-metadata\.json|"
    r"process\.json)",
    re.IGNORECASE,
)
_CHECKPOINT = lazy(r"checkpoint-(\d{1,15})")
_MARKERS = ("hparams.yaml", "trainer_state.json", "wandb-summary.json")
"""Names that show that the files of a folder belong to one training."""


@dataclass(frozen=True, slots=True)
class FileInfo:
    """A file as a search reports it."""

    path: str
    """Relative to the searched folder, with slashes."""
    size: int
    """Bytes."""
    modified: float
    """Seconds since the epoch, by the clock of the file's host."""
    inode: int


@dataclass(frozen=True, slots=True)
class Entry:
    """A run of the table, or a log of another program."""

    name: str
    """Its path below the searched folder, which may contain anything."""
    folder: str
    """The folder of the run or of the log, relative to the searched one; "" for that one itself."""
    logs: tuple[FileInfo, ...]
    """The files that may hold its curve, the best one first; empty for a run that has written no record yet."""
    process: FileInfo | None = None
    """The file that names the process of a tdiff run."""
    is_run: bool = False
    """Whether it is a tdiff run."""


def search(root: Path) -> list[FileInfo]:
    """The files below `root` that matter: of runs, and logs. Unreadable folders are skipped."""
    return list(_search(root, "", DEPTH, [MAX_EXAMINED]))


def _search(root: Path, below: str, depth: int, left: list[int]) -> Iterator[FileInfo]:
    folder = root / below
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError:
        return
    names = {entry.name for entry in entries}
    run = EVENTS in names or {CONFIG, PROCESS} <= names
    for entry in entries:
        left[0] -= 1
        if left[0] < 0:
            return
        path = f"{below}/{entry.name}" if below else entry.name
        try:
            if entry.is_dir(follow_symlinks=False):
                if depth and not run and not entry.name.startswith(".") and entry.name not in SKIPPED_FOLDERS:
                    yield from _search(root, path, depth - 1, left)
            elif (entry.name in (EVENTS, CONFIG, PROCESS) if run else is_candidate(entry.name)) and entry.is_file():
                info = entry.stat()
                yield FileInfo(path, info.st_size, info.st_mtime, info.st_ino)
        except OSError:
            continue


def is_candidate(name: str) -> bool:
    """Whether a file of that name may contain a loss, or shows to what the files beside it belong."""
    if TENSORBOARD in name or name in (*_MARKERS, EVENTS, CONFIG):
        return True
    return name.lower().endswith(SUFFIXES) and not name.startswith(".") and not _NO_LOGS.fullmatch(name)


def entries(files: Iterable[FileInfo], root_name: str) -> list[Entry]:
    """The runs and logs among the files that a search found; `root_name` is the name of the searched folder."""
    files = list(files)
    runs: dict[str, dict[str, FileInfo]] = {}
    others: list[FileInfo] = []
    for file in files:
        folder, name = _split(file.path)
        if name in (EVENTS, CONFIG, PROCESS):
            runs.setdefault(folder, {})[name] = file
        elif is_candidate(name):
            others.append(file)
    listed = []
    for folder, found in runs.items():
        if EVENTS in found or PROCESS in found:
            logs: tuple[FileInfo, ...] = (found[EVENTS],) if EVENTS in found else ()
            listed.append(Entry(folder or root_name, folder, logs, found.get(PROCESS), True))
    groups: dict[str, list[FileInfo]] = {}
    marked = {_group_of_marker(file.path) for file in others} - {None}
    for file in others:
        groups.setdefault(_group(file.path, marked), []).append(file)
    for group, members in groups.items():
        logs = _candidates(members)
        if logs:
            # A group is the path of a folder, or of a single file.
            single = len(members) == 1 and members[0].path == group
            folder = _split(group)[0] if single else group
            listed.append(Entry(group or root_name, folder, logs))
    return listed


def _split(path: str) -> tuple[str, str]:
    folder, _, name = path.rpartition("/")
    return folder, name


def _group_of_marker(path: str) -> str | None:
    """The folder of the training that a marker shows; None if the file is no marker."""
    parts = path.split("/")
    for n, part in enumerate(parts[:-1]):
        if _CHECKPOINT.fullmatch(part):
            return "/".join(parts[:n])
    if parts[-1] == "wandb-summary.json" and parts[-2:-1] == ["files"]:
        return "/".join(parts[:-2])
    if parts[-1] in _MARKERS or TENSORBOARD in parts[-1]:
        return "/".join(parts[:-1])
    return None


def _group(path: str, marked: set[str | None]) -> str:
    """The outermost marked folder that the file is in, as far as its parts belong to one training; else the file."""
    parts = path.split("/")
    for n in range(len(parts)):
        folder, rest = "/".join(parts[:n]), parts[n:-1]
        if folder in marked and _belongs(rest):
            return folder
    return path


def _belongs(rest: Sequence[str]) -> bool:
    """Whether a file in these folders below a marked folder belongs to the same training."""
    return not rest or rest[0] in ("runs", "files", "logs") or bool(_CHECKPOINT.fullmatch(rest[0]))


def _candidates(members: Sequence[FileInfo]) -> tuple[FileInfo, ...]:
    """The files that may hold the curve, the one written last first; of the checkpoints only the newest."""
    logs = [file for file in members if _split(file.path)[1] not in ("hparams.yaml", "wandb-summary.json")]
    saved = {file.path: int(match[1]) for file in logs if (match := _CHECKPOINT.search(file.path))}
    newest = max(saved, key=lambda path: saved[path], default="")
    logs = [file for file in logs if file.path not in saved or file.path == newest]
    return tuple(sorted(logs, key=lambda file: -file.modified))
