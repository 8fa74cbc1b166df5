"""Describes a folder in which nothing can be watched: the program it belongs to, and the logs in it.

Only names are examined; no file is read.
"""

from __future__ import annotations

from pathlib import Path

from tdiff.watch.sources.folder_files import files_below, kind_of

_MAX_NAMES = 3
"""Names that are shown."""
_HUGGING_FACE = ("trainer_state.json", "training_args.bin", "all_results.json", "adapter_config.json")


def contents(folder: Path) -> str:
    """What the folder is, and the logs in it, none of which holds a loss: the end of a sentence."""
    found = sorted(files_below(folder), key=lambda file: file.modified, reverse=True)
    files = [file.path.relative_to(folder) for file in found]
    program = _program(folder, files)
    logs = [file for file in files if kind_of(file.name) in ("text", "table")]
    if logs:
        names = ", ".join(repr(str(folder / file)) for file in logs[:_MAX_NAMES])
        others = f" and {len(logs) - _MAX_NAMES} more" if len(logs) > _MAX_NAMES else ""
        where = f"{program}; " if program.startswith("it is") else ""
        return f"{where}no loss was found in {names}{others}"
    if program.startswith("it is"):
        return f"{program}, without a log; save the program's output and watch that: ... 2>&1 | tee train.log"
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
    return "no run of tdiff and no log"


def _number(name: str) -> tuple[int, str]:
    digits = name.rpartition("-")[2].rpartition("_")[2]
    return (int(digits) if digits.isdecimal() and len(digits) < 16 else -1, name)
