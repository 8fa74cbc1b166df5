"""Look up models, runs and configurations by name or path. No torch.

A name is looked for in this order: as a path, under ./checkpoints (./configs), in the installed package, and in the
source tree that the package runs from.
"""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from tdiff.errors import TdiffError
from tdiff.patterns import lazy
from tdiff.runs import retention
from tdiff.runs.per_class import MANIFEST
from tdiff.runs.run import ROOT, Run

SHIPPED = ("shakespeare", "tales")
"""The models that come with the package."""
DEFAULT_MODEL = "tales"
"""The model of `tdiff generate`, `tdiff watch` and `make demo` where none is named."""
_PACKAGE = Path(__file__).resolve().parents[1]
_SHELVES = (ROOT, _PACKAGE / "_data" / "checkpoints", _PACKAGE.parent / "checkpoints")
_SIMILAR = 0.8  # a name less similar than this to a folder's name is not a misspelling of it
_NAME = r"\w(?:[\w.-]*\w)?"
_FILE = lazy(r"\.(?:pt|pth|bin|safetensors|ckpt|json|git)$", re.IGNORECASE)
# Methods of Path raise for a name that no file can have, such as one that is too long; these return False.
_is_file, _is_dir = os.path.isfile, os.path.isdir


class NoModel(TdiffError):
    """No folder and no run has that name; `elsewhere` is True if the name may be one on the Hugging Face Hub."""

    def __init__(self, name: str) -> None:
        runs = _names(_SHELVES, "model")
        near_folders = difflib.get_close_matches(name, _folders(), n=1, cutoff=_SIMILAR)
        super().__init__(f"no model {name!r}: neither a folder nor a name{_nearest(name, near_folders or runs)}")
        repository, _ = hub_name(name) or ("", "")
        owner, slash, _ = repository.partition("/")
        # A name close to that of a folder or a run is a misspelling; a name that begins with a folder is a path.
        near = near_folders or difflib.get_close_matches(name, runs, n=1)
        misspelt = name == repository and not slash and near
        path = slash and any(os.path.exists(root / owner) for root in (Path(), *_SHELVES))  # noqa: PTH110
        self.elsewhere = bool(repository) and not misspelt and not path


def hub_name(name: str) -> tuple[str, str] | None:
    """Split `NAME`, `OWNER/NAME` or either with `@REVISION` into repository and revision ("" if there is none).

    None if it cannot be a name on the Hugging Face Hub, such as a path.
    """
    repository, at, revision = name.partition("@")
    legal = len(repository) <= 96 and re.fullmatch(f"{_NAME}(?:/{_NAME})?", repository, re.ASCII)
    if not legal or "--" in repository or ".." in name or _FILE.search(repository):
        return None
    if at and not re.fullmatch(f"{_NAME}(?:/{_NAME})*", revision, re.ASCII):
        return None
    return repository, revision


def find_run(name: str, root: Path = ROOT) -> Run:
    """The run with that name or path, to resume it. Raises TdiffError naming the nearest one."""
    for path in (Path(name), root / name):
        if _is_file(path / "config.toml"):
            return Run(path)
    raise TdiffError(f"no run {name!r} to resume under {root}/{_nearest(name, _names([root], 'config.toml'))}")


def find_per_class(name: str) -> Path | None:
    """The folder with that name or path that holds one model per class, or None."""
    for path in _candidates(name):
        if name and _is_file(path / MANIFEST):
            return path
    return None


def find_model(name: str) -> Path:
    """The folder of a model's weights, by its path or name.

    A run's folder stands for the model in it, the output folder of a Hugging Face Trainer for its newest checkpoint.
    `RUN:best` is the run's model with the lowest held-out bound, `RUN:STEP` that of an earlier save. Raises TdiffError
    naming the nearest model; it is NoModel if nothing of that name exists.
    """
    reasons = []
    for path in _candidates(name):
        for folder in (path, path / "model"):
            if _is_file(folder / "config.json"):
                return folder
        if name and (newest := _newest_checkpoint(path)):
            return newest
        reasons += [_not_a_model(path)] if name else []  # an empty name does not stand for the current folder
    run, colon, which = name.rpartition(":")
    if colon and run and (which == retention.BEST or which.isdecimal()):
        for path in _candidates(run):
            if _is_file(path / "config.toml"):
                return retention.model_of(Run(path), which)
    if reason := next(filter(None, reasons), ""):
        raise TdiffError(f"no model {name!r}: {reason}")
    raise NoModel(name)


def find_config(name: str) -> Path:
    """A configuration file, by its path or its name under configs/. Raises TdiffError naming the nearest one."""
    for path in (Path(name), *(shelf / f"{name.removesuffix('.toml')}.toml" for shelf in _config_shelves())):
        if _is_file(path):
            return path
    raise TdiffError(f"no configuration {name!r}{_nearest(name, config_names())}")


def config_names() -> list[str]:
    """The names of all configurations."""
    stems = {path.relative_to(shelf).with_suffix("") for shelf in _config_shelves() for path in shelf.rglob("*.toml")}
    return sorted(path.as_posix() for path in stems if path.name != "rows")


def run_names(root: Path = ROOT) -> list[str]:
    """The names of the runs under `root`, including those with one model per class."""
    return sorted({*_names([root], "config.toml"), *_names([root], MANIFEST)})


def model_names() -> list[str]:
    """The names of all models that are on this machine by name."""
    best = {f"{path.parents[1].name}:best" for shelf in _SHELVES for path in shelf.glob("*/best/config.json")}
    return sorted({*_names(_SHELVES, "model"), *_names(_SHELVES, MANIFEST), *best})


def models() -> dict[str, Path]:
    """Name -> folder of each model that has a name on this machine: what `find_model` and `find_per_class` find.

    The best model of a run follows its newest one; earlier saves are not listed.
    """
    named = {path.name for shelf in _SHELVES if _is_dir(shelf) for path in shelf.iterdir() if _is_dir(path)}
    found: dict[str, Path] = {}
    for name in sorted(named):
        with suppress(TdiffError):
            found[name] = find_per_class(name) or find_model(name)
        with suppress(TdiffError):
            found[f"{name}:best"] = find_model(f"{name}:best")
    return found


def shipped_run(name: str) -> Path | None:
    """The folder of the training run of a model of the package; None for another name, or without its records."""
    folders = [shelf / name for shelf in _SHELVES[1:] if name in SHIPPED]
    return next((folder for folder in folders if _is_file(folder / "events.jsonl")), None)


def is_shipped(name: str, folder: Path) -> bool:
    """Whether the model that a name stands for is one of the package, rather than a run of the same name."""
    shelves = [shelf.resolve() for shelf in _SHELVES[1:]]
    return name in SHIPPED and any(folder.resolve().is_relative_to(shelf / name) for shelf in shelves)


def _config_shelves() -> list[Path]:
    return [Path("configs"), _PACKAGE / "_data" / "configs", _PACKAGE.parent / "configs"]


def classifier_names(root: Path = ROOT) -> list[str]:
    """The names of the models under `root` that were trained on classes, newest first."""
    times: dict[str, float] = {path.parent.name: path.stat().st_mtime for path in root.glob(f"*/{MANIFEST}")}
    for file in ("config.json", "tdiff.json"):
        for path in root.glob(f"*/model/{file}"):
            try:
                if json.loads(path.read_text("utf-8"))["origin"]["classes"]:
                    times[path.parent.parent.name] = path.stat().st_mtime
            except (OSError, ValueError, KeyError, TypeError, RecursionError):
                continue
    return sorted(times, key=lambda name: -times[name])


def _candidates(name: str) -> list[Path]:
    # Path.expanduser raises if there is no such user.
    return [Path(os.path.expanduser(name)), *(shelf / name for shelf in _SHELVES)]  # noqa: PTH111


def _newest_checkpoint(path: Path) -> Path | None:
    """The `checkpoint-N` with the largest N. One without weights is still being written, and comes last."""
    steps = {
        int(digits): folder
        for folder in (path.glob("checkpoint-*") if _is_dir(path) else ())
        if (digits := folder.name.partition("-")[2]).isdecimal() and _is_file(folder / "config.json")
    }
    complete = [n for n, folder in steps.items() if any(folder.glob("*.safetensors")) or any(folder.glob("*.bin"))]
    return steps[max(complete or steps)] if steps else None


def _not_a_model(path: Path) -> str:
    """Why something that has a model's name is not a model; empty if nothing has that name."""
    if _is_file(path):
        return (
            f"{path} is a file; tdiff reads a folder with config.json, model.safetensors and tokenizer.json "
            "(a pickled .pt or .bin is refused: loading one can run code)"
        )
    if _is_dir(path) and (any(path.glob("*.bin")) or any(path.glob("*.pt"))):
        return (
            f"{path} holds pickled weights and no config.json with model.safetensors; tdiff reads safetensors only, "
            "since loading a pickle can run code"
        )
    if _is_dir(path) and _is_file(path / "config.toml"):
        return f"run {path.name!r} has no weights yet: {path / 'model'} does not exist"
    if _is_dir(path):
        return f"{path} has no config.json; a model is a folder with config.json, model.safetensors and tokenizer.json"
    return ""


def _folders() -> list[str]:
    """The folders in the current one, except hidden ones."""
    with suppress(OSError), os.scandir() as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    return []


def _names(shelves: Iterable[Path], content: str) -> list[str]:
    return sorted({path.parent.name for shelf in shelves for path in shelf.glob(f"*/{content}")})


def _nearest(name: str, names: list[str]) -> str:
    near = difflib.get_close_matches(name, names, n=1)
    if near:
        return f"; did you mean {near[0]}?"
    return f"; there are: {', '.join(names)}" if names else ""
