"""What lies in a folder that is no run of tdiff: whose it is, and which files in it can be watched.

Names only: nothing here reads what a file says.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

_WATCHED = (".log", ".out", ".err", ".csv", ".tsv", ".jsonl", ".ndjson")
"""How names of files end that may hold lines of a training."""
_DEEP, _MOST, _NAMED = 3, 5_000, 3
"""Folders below one that are looked through, entries that are looked at, and names that are told."""
_HUGGING_FACE = ("trainer_state.json", "training_args.bin", "all_results.json", "adapter_config.json")


def contents(folder: Path) -> str:
    """What a folder of another program is, and what can be watched there: the end of a sentence."""
    files = sorted(_files(folder), key=_written, reverse=True)
    whose = _whose(folder, [file.relative_to(folder) for file in files])
    logs = [file for file in files if file.suffix.lower() in _WATCHED and file.stem != "requirements"]
    if logs:
        names = ", ".join(repr(str(file)) for file in logs[:_NAMED])
        more = f" and {len(logs) - _NAMED} more" if len(logs) > _NAMED else ""
        return f"{whose}; there one can watch {names}{more}"
    if whose.startswith("it is"):
        return f"{whose}, and no log of text; save what the program prints, and watch that: ... 2>&1 | tee train.log"
    return whose


def _whose(folder: Path, files: list[Path]) -> str:
    """Whose it is, and the names by which one knows that."""
    names = {file.name for file in files}
    parts = {part for file in files for part in file.parts[:-1]} | {folder.resolve().name}
    checkpoints = sorted({part for part in parts if part.startswith("checkpoint-")}, key=_number)
    versions = sorted({part for part in parts if part.startswith("version_")}, key=_number)
    events = any("tfevents" in name for name in names)
    held = [name for name in _HUGGING_FACE if name in names]
    if "wandb" in parts or any(name.startswith("run-") and name.endswith(".wandb") for name in names):
        return "it is a folder of Weights & Biases"
    if versions or ("hparams.yaml" in names and (events or "metrics.csv" in names)):
        told = versions[-1] if versions and folder.resolve().name != versions[-1] else "hparams.yaml"
        return f"it is a folder of Lightning's logs, with {told}{' and files of TensorBoard' if events else ''}"
    if checkpoints or held:
        told = ", ".join([*checkpoints[-2:], *held[: 3 - len(checkpoints[-2:])]])
        return f"it is the output of a Hugging Face Trainer, with {told}{' and files of TensorBoard' if events else ''}"
    if events:
        return "it is a folder of TensorBoard's files"
    return "it holds neither config.toml nor events.jsonl"


def _files(folder: Path, deep: int = _DEEP) -> Iterator[Path]:
    """Files in a folder and some way below it, as many as are looked at; of what cannot be read, nothing."""
    left = _MOST
    waiting = [(folder, deep)]
    while waiting:
        here, further = waiting.pop(0)
        try:
            with os.scandir(here) as entries:
                for entry in entries:
                    left -= 1
                    if left < 0:
                        return
                    if entry.is_dir(follow_symlinks=False):
                        if further and not entry.name.startswith("."):
                            waiting.append((Path(entry.path), further - 1))
                    elif entry.is_file():
                        yield Path(entry.path)
        except OSError:
            continue


def _written(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0


def _number(name: str) -> tuple[int, str]:
    digits = name.rpartition("-")[2].rpartition("_")[2]
    return (int(digits) if digits.isdecimal() and len(digits) < 16 else -1, name)
