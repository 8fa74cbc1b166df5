"""The saves of a run that are retained: the newest, some earlier ones, and the best model. No torch.

    model/, resume/state.safetensors    the newest save
    resume/parts-NAME/                  the tensors of the newest state, if several processes have written them
    earlier/STEP/                       earlier saves, whole: model/, state.safetensors and its parts
    best/                               the model with the lowest held-out bound

Earlier saves are hard links to files that the newer save replaced, so setting one aside copies nothing. A save whose
files are damaged is replaced by the newest whole one.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tdiff.errors import TdiffError
from tdiff.files import sync_folder, temporary_prefix, write_atomic
from tdiff.runs.run import Run
from tdiff.runs.wholeness import damage, notes, parts, parts_folders, weights_damage, whole_but_for_weights

EARLIER, BEST = "earlier", "best"
"""The folders of the earlier saves and of the best model, in the run's folder."""
_BOUND = "bound.json"
_STATE = "state.safetensors"
_WRITTEN = frozenset(("config.toml", "corpus.txt"))
"""Files that are not of a model or a state, and are written whole as well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """The held-out bound of the best model."""

    step: int
    nats_per_token: float


def step_of(state: Path) -> int | None:
    """The step of a saved state; None if the file is missing or damaged."""
    try:
        return int(notes(state)["step"])
    except (OSError, ValueError, KeyError):
        return None


def set_aside(run: Run, keep_last: int, next_step: int) -> None:
    """Retain the newest save among the earlier ones, before the save of `next_step` replaces it."""
    step = step_of(run.state) if keep_last > 1 else None
    if step is None or step >= next_step:
        return
    place = _place(run, step)
    if place.exists():
        return
    place.parent.mkdir(exist_ok=True)
    unfinished = place.parent / f".{place.name}.{secrets.token_hex(4)}"
    try:
        (unfinished / "model").mkdir(parents=True)
        _link(run.state, unfinished / _STATE)
        for part in parts(run.state):
            (unfinished / part.parent.name).mkdir(exist_ok=True)
            _link(part, unfinished / part.parent.name / part.name)
        for path in _files(run.model):
            _link(path, unfinished / "model" / path.name)
        unfinished.rename(place)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def prune(run: Run, keep_last: int, step: int) -> None:
    """Remove all earlier saves but the newest ones: with the save of `step`, `keep_last` remain."""
    before = [number for number in earlier_steps(run) if number < step]
    retained = set(before[-(keep_last - 1) :] if keep_last > 1 else [])
    for number in earlier_steps(run):
        if number not in retained:
            _remove(_place(run, number))
    with suppress(OSError):
        (run.path / EARLIER).rmdir()  # if it is empty


def remove_other_parts(run: Run) -> None:
    """Remove the parts of divided states that the newest save does not have: of the one before it, or unfinished."""
    with suppress(OSError, ValueError):  # a damaged state does not say which parts it has
        named = {part.parent for part in parts(run.state)} if run.state.exists() else set()
        for folder in parts_folders(run.state.parent):
            if folder not in named:
                shutil.rmtree(folder, ignore_errors=True)


def earlier_steps(run: Run) -> list[int]:
    """The steps of the earlier saves, in ascending order."""
    with suppress(OSError):
        return sorted(int(path.name) for path in (run.path / EARLIER).iterdir() if path.name.isdecimal())
    return []


def has_save(run: Run) -> bool:
    """Whether the run has saved anything that it can be resumed from."""
    return run.state.exists() or bool(earlier_steps(run))


def recover(run: Run) -> str:
    """Put the newest whole save in the place of a damaged one, and remove what an interrupted save left.

    Returns what was damaged and which save replaces it; "" if the newest save is whole or there is none. Without
    another one, a save stays of which only the model's weights are damaged: `model_is_damaged` is then true, and the
    state has them. Raises TdiffError if no save can be continued from.
    """
    _remove_unfinished(run)
    if not has_save(run) or not (problem := damage(run.state, run.model)):
        return ""
    newest = step_of(run.state)
    for step in reversed(earlier_steps(run)):
        place = _place(run, step)
        if not damage(place / _STATE, place / "model"):
            for path in _files(place / "model"):
                _replace(path, run.model / path.name)
            for part in parts(place / _STATE):
                _replace(part, run.state.parent / part.parent.name / part.name)
            _replace(place / _STATE, run.state)
            remove_other_parts(run)
            of = "the newest save" if newest is None else f"the save of step {newest:,}"
            return f"{of} is damaged ({problem}); the save of step {step:,} replaces it"
    if whole_but_for_weights(run.state, run.model):
        return f"{problem}; the training state is whole, and the weights are written again"
    raise TdiffError(
        f"run {run.name!r} cannot be resumed: {problem}, and there is no earlier save; "
        "--keep-last 2 or more retains earlier saves"
    )


def model_is_damaged(run: Run) -> bool:
    """Whether the weights of the newest save's model are damaged."""
    return bool(weights_damage(run.model))


def best_bound(run: Run) -> Bound | None:
    """The bound of the best model so far; None if there is none."""
    try:
        values: Any = json.loads((run.path / BEST / _BOUND).read_text("utf-8"))
        return Bound(step=int(values["step"]), nats_per_token=float(values["nats_per_token"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_best_bound(run: Run, bound: Bound) -> None:
    """Record the bound of the best model, after its files."""
    values = {"step": bound.step, "nats_per_token": bound.nats_per_token}
    write_atomic(run.path / BEST / _BOUND, (json.dumps(values) + "\n").encode())


def model_of(run: Run, which: str) -> Path:
    """The model of a run named "best", or by the step of a save. Raises TdiffError that names those that exist."""
    if which == BEST and (run.path / BEST / "config.json").is_file():
        return run.path / BEST
    if which.isdecimal() and int(which) == step_of(run.state):
        return run.model
    if which.isdecimal() and (folder := _place(run, int(which)) / "model").is_dir():
        return folder
    best = [BEST] if (run.path / BEST).is_dir() else []
    newest = step_of(run.state)
    names = [*best, *map(str, earlier_steps(run)), *([str(newest)] if newest is not None else [])]
    there = f"there are: {', '.join(names)}" if names else "it has saved nothing yet"
    what = (
        "has no best model: it is saved by the evaluations during training (train.eval_every, train.keep_best)"
        if which == BEST
        else f"has no save of step {which}"
    )
    raise TdiffError(f"run {run.name!r} {what}; {there}")


def model_name(folder: Path) -> str:
    """What `--model` calls the model of a run in this folder: RUN, RUN:best, or RUN:STEP; "" for another folder."""
    folder = folder if folder.parent.name else folder.absolute()
    run = folder.parent
    if folder.name == "model" and run.parent.name == EARLIER and run.name.isdecimal():
        return f"{run.parent.parent.name}:{int(run.name)}"
    if folder.name == "model":
        return run.name
    if folder.name == BEST and (run / "config.toml").is_file():
        return f"{run.name}:{BEST}"
    return ""


def _place(run: Run, step: int) -> Path:
    return run.path / EARLIER / f"{step:08d}"


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))


def _link(source: Path, target: Path) -> None:
    """A second name of a file that is never changed in place; a copy on file systems without links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _replace(source: Path, target: Path) -> None:
    target.parent.mkdir(exist_ok=True)
    temporary = target.parent / f"{temporary_prefix(target)}{secrets.token_hex(4)}"
    _link(source, temporary)
    temporary.replace(target)
    sync_folder(target.parent)


def _remove(place: Path) -> None:
    """Remove an earlier save, its state first: without one, a half of it is no save."""
    with suppress(OSError):
        (place / _STATE).unlink(missing_ok=True)
        shutil.rmtree(place)


def _remove_unfinished(run: Run) -> None:
    """Remove the temporary files of saves that were interrupted, which may be large."""
    remove_other_parts(run)
    for folder in (run.path, run.model, run.state.parent, run.path / BEST):
        names = {path.name for path in _unfinished_files(folder)}
        for name in names:
            with suppress(OSError):
                (folder / name).unlink()
    with suppress(OSError):
        for path in (run.path / EARLIER).iterdir():
            if path.name.startswith(".") and path.is_dir():
                shutil.rmtree(path, ignore_errors=True)


def _unfinished_files(folder: Path) -> Iterator[Path]:
    """The temporary files of `write_atomic` in a folder, which only a process that holds the lock writes."""
    with suppress(OSError):
        for path in folder.iterdir():
            stem = path.name[1:].rpartition(".")[0]
            if path.name.startswith(".") and (stem in _WRITTEN or stem.endswith((".json", ".safetensors"))):
                yield path
