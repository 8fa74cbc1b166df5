"""Describes a folder that is not a tdiff run: the program it belongs to, and the files in it that can be watched.

Only names are examined; no file is read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

_LOG_SUFFIXES = (".log", ".out", ".err", ".csv", ".tsv", ".jsonl", ".ndjson")
"""Suffixes of files that may contain lines of a training."""
_MAX_DEPTH, _MAX_ENTRIES, _MAX_NAMES = 3, 5_000, 3
"""Levels of folders that are searched, entries that are examined, and names that are shown."""
_HUGGING_FACE = ("trainer_state.json", "training_args.bin", "all_results.json", "adapter_config.json")


def contents(folder: Path) -> str:
    """What the folder is, and what can be watched in it: the end of a sentence."""
    files = sorted(_files(folder), key=_modified, reverse=True)
    program = _program(folder, [file.relative_to(folder) for file in files])
    logs = [file for file in files if file.suffix.lower() in _LOG_SUFFIXES and file.stem != "requirements"]
    if logs:
        names = ", ".join(repr(str(file)) for file in logs[:_MAX_NAMES])
        others = f" and {len(logs) - _MAX_NAMES} more" if len(logs) > _MAX_NAMES else ""
        return f"{program}; watch {names}{others}"
    if program.startswith("it is"):
        return f"{program}, without a text log; save the program's output and watch that: ... 2>&1 | tee train.log"
    return program


def _program(folder: Path, files: list[Path]) -> str:
    """The program it belongs to, with the names that show it."""
    names = {file.name for file in files}
    parts = {part for file in files for part in file.parts[:-1]} | {folder.resolve().name}
    checkpoints = sorted({part for part in parts if part.startswith("checkpoint-")}, key=_number)
    versions = sorted({part for part in parts if part.startswith("version_")}, key=_number)
    events = any("tfevents" in name for name in names)
    markers = [name for name in _HUGGING_FACE if name in names]
    if "wandb" in parts or any(name.startswith("run-") and name.endswith(".wandb") for name in names):
        return "it is a Weights & Biases folder"
    if versions or ("hparams.yaml" in names and (events or "metrics.csv" in names)):
        evidence = versions[-1] if versions and folder.resolve().name != versions[-1] else "hparams.yaml"
        return f"it is a Lightning log folder, with {evidence}{' and TensorBoard files' if events else ''}"
    if checkpoints or markers:
        evidence = ", ".join([*checkpoints[-2:], *markers[: 3 - len(checkpoints[-2:])]])
        return (
            f"it is the output of a Hugging Face Trainer, with {evidence}{' and TensorBoard files' if events else ''}"
        )
    if events:
        return "it is a TensorBoard log folder"
    return "it contains neither config.toml nor events.jsonl"


def _files(folder: Path, depth: int = _MAX_DEPTH) -> Iterator[Path]:
    """Files in a folder and in some levels below it, up to the limit; unreadable folders are skipped."""
    left = _MAX_ENTRIES
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
                        if levels and not entry.name.startswith("."):
                            waiting.append((Path(entry.path), levels - 1))
                    elif entry.is_file():
                        yield Path(entry.path)
        except OSError:
            continue


def _modified(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0


def _number(name: str) -> tuple[int, str]:
    digits = name.rpartition("-")[2].rpartition("_")[2]
    return (int(digits) if digits.isdecimal() and len(digits) < 16 else -1, name)
