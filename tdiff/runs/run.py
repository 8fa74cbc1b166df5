"""A run's folder and a model's name: paths, creation, the event log, and where names are looked up. No torch.

checkpoints/RUN/
    config.toml      the settings, whole
    events.jsonl     the records of training, append-only, one flushed line each
    samples/         traces of the texts drawn during training
    model/           the averaged weights, their config and tokenizer, as Hugging Face lays out a model
    resume/          what `--resume` needs
"""

from __future__ import annotations

import difflib
import json
import math
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import IO, Any, TypeVar

import tomli_w

from tdiff.config.settings import Settings, read_layer
from tdiff.errors import TdiffError
from tdiff.protocol.events import Event, Record, fold, parse, to_line

EACH = "classes.json"
"""Beside the runs of one model a class."""
ROOT = Path("checkpoints")
"""Where runs are written, under the folder one stands in."""
SHIPPED = "shakespeare"
"""The model that comes with the package."""
_PACKAGE = Path(__file__).resolve().parents[1]
_SHELVES = (ROOT, _PACKAGE / "_data" / "checkpoints", _PACKAGE.parent / "checkpoints")

try:
    import fcntl
except ImportError:  # not on Windows: there a run is not guarded
    fcntl = None  # type: ignore[assignment]

_ALIKE = 0.8  # what is less like the name of any folder here is another word
R = TypeVar("R", bound=Record)
_NAME = r"\w(?:[\w.-]*\w)?"
_FILE = re.compile(r"\.(?:pt|pth|bin|safetensors|ckpt|json|git)$", re.IGNORECASE)
# Path's own raise for a name that no file can have, such as one that is too long; these say no.
_is_file, _is_dir = os.path.isfile, os.path.isdir


class NoModel(TdiffError):
    """Neither a folder nor a run is called so; `elsewhere` tells whether the Hugging Face hub may be asked for it."""

    def __init__(self, name: str) -> None:
        names = _names(_SHELVES, "model")
        beside = difflib.get_close_matches(name, _folders(), n=1, cutoff=_ALIKE)
        super().__init__(f"no model {name!r}: neither a folder nor a name{_nearest(name, beside or names)}")
        repository, _ = hub_name(name) or ("", "")
        owner, slash, _ = repository.partition("/")
        # What is nearly a folder's or a run's name is a slip, and what begins with one is a path.
        near = beside or difflib.get_close_matches(name, names, n=1)
        slip = name == repository and not slash and near
        path = slash and any(os.path.exists(root / owner) for root in (Path(), *_SHELVES))  # noqa: PTH110
        self.elsewhere = bool(repository) and not slip and not path


def hub_name(name: str) -> tuple[str, str] | None:
    """The repository and the revision ("" where none is said) of `NAME`, `OWNER/NAME` or either with `@REVISION`.

    None for what cannot be a name on the Hugging Face hub, such as a path.
    """
    repository, at, revision = name.partition("@")
    legal = len(repository) <= 96 and re.fullmatch(f"{_NAME}(?:/{_NAME})?", repository, re.ASCII)
    if not legal or "--" in repository or ".." in name or _FILE.search(repository):
        return None
    if at and not re.fullmatch(f"{_NAME}(?:/{_NAME})*", revision, re.ASCII):
        return None
    return repository, revision


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that a reader sees the old one or the new one, whole, even after a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise


@dataclass(frozen=True, slots=True)
class Run:
    """A folder that a training run writes."""

    path: Path

    @property
    def name(self) -> str:
        """What the run is called."""
        return self.path.name

    @property
    def called(self) -> str:
        """By what name the commands find it: the folders it is in too, where it is one of several."""
        return self.path.relative_to(ROOT).as_posix() if self.path.is_relative_to(ROOT) else self.name

    @property
    def model(self) -> Path:
        """The averaged weights."""
        return self.path / "model"

    @property
    def state(self) -> Path:
        """What a resume needs."""
        return self.path / "resume" / "state.safetensors"

    @property
    def corpus(self) -> Path:
        """The text, where it came through stdin and cannot be read again."""
        return self.path / "resume" / "corpus.txt"

    @property
    def events(self) -> Path:
        """The event log."""
        return self.path / "events.jsonl"

    def settings(self) -> Settings:
        """The settings the run goes by."""
        return Settings.of([read_layer(self.path / "config.toml")])

    def keep(self, settings: Settings) -> None:
        """Have the run go by them from now on."""
        write_whole(self.path / "config.toml", tomli_w.dumps(settings.as_layer()).encode())

    def history(self) -> list[Event]:
        """The events so far, folded over resumes; a torn last line is passed over."""
        if not self.events.exists():
            return []
        with self.events.open(encoding="utf-8", errors="replace") as file:
            return list(fold(parse(line) for line in file if line.endswith("\n")))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else trains this run meanwhile. Raises TdiffError where somebody does."""
        with (self.path / "config.toml").open("rb") as file:
            if fcntl:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    raise TdiffError(f"run {self.name!r} is being trained by another process") from None
            yield

    @contextmanager
    def log(self) -> Iterator[IO[str]]:
        """The event log, open for appending; a torn last line, left by a crash, is closed first."""
        with self.events.open("a+b") as last:
            if last.tell() and (last.seek(-1, os.SEEK_END), last.read(1))[1] != b"\n":
                last.write(b"\n")
        with self.events.open("a", encoding="utf-8") as file:
            yield file

    def recorded(self, records: Iterable[R]) -> Iterator[R]:
        """`records` as they come, each appended to the event log before it is handed on."""
        with self.log() as file:
            for record in records:
                file.write(to_line(record))
                file.flush()
                yield record


@dataclass(frozen=True, slots=True, kw_only=True)
class PerClassRun:
    """What says that the runs of a folder are of one model a class: its classes.json."""

    classes: tuple[str, ...]
    runs: tuple[str, ...]
    """The folder of each class's run, in that folder."""
    counts: tuple[int, ...]
    """Texts of each class that were trained on."""
    settings: dict[str, Any]
    """What all were told; see `Settings`."""
    temperature: float = 0.0
    """As in a model that knows the classes."""
    texts: int = 0
    """Held-out texts by which it was found; 0: it was not."""

    @classmethod
    def read(cls, folder: Path) -> PerClassRun:
        """Raises TdiffError where the file is damaged."""
        path = folder / EACH
        try:
            told: dict[str, Any] = json.loads(path.read_text("utf-8"))
            told |= {name: tuple(told[name]) for name in ("classes", "runs", "counts")}
            each = cls(**told)
            names = (*each.classes, *each.runs)
            sound = len(set(each.classes)) == len(set(each.runs)) == len(each.counts) > 1
            sound = sound and 0 <= each.temperature < math.inf and min(each.counts) >= 0
            if not sound or not all(isinstance(name, str) for name in names) or sum(each.counts) <= 0:
                raise ValueError("its parts do not go together")
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as why:
            raise TdiffError(f"{str(path)!r} is damaged: {why}") from None
        if any(name != Path(name).name or name in ("", ".", "..") for name in each.runs):
            raise TdiffError(f"{str(path)!r} names runs outside its folder")
        return each

    def write(self, folder: Path) -> None:
        """Write it into the folder."""
        told = {f.name: getattr(self, f.name) for f in fields(self)}
        write_whole(folder / EACH, json.dumps(told, indent=2, ensure_ascii=False).encode())


def find_each(name: str) -> Path | None:
    """The folder of that name that holds one model a class, if there is one."""
    for path in (Path(os.path.expanduser(name)), *(shelf / name for shelf in _SHELVES)):  # noqa: PTH111
        if name and _is_file(path / EACH):
            return path
    return None


def that_classify(root: Path = ROOT) -> list[str]:
    """The names of the models under `root` that know classes, the newest first."""
    found: dict[str, float] = {path.parent.name: path.stat().st_mtime for path in root.glob(f"*/{EACH}")}
    for file in ("config.json", "tdiff.json"):
        for path in root.glob(f"*/model/{file}"):
            try:
                if json.loads(path.read_text("utf-8"))["origin"]["classes"]:
                    found[path.parent.parent.name] = path.stat().st_mtime
            except (OSError, ValueError, KeyError, TypeError, RecursionError):
                continue
    return sorted(found, key=lambda name: -found[name])


def check_free(name: str, root: Path = ROOT) -> None:
    """Raises TdiffError where `name` cannot be that of a new run: a run is never overwritten."""
    if name != Path(name).name or name in ("", ".", ".."):
        raise TdiffError(f"a run's name is one folder under {root}/, without slashes; got {name!r}")
    if os.path.lexists(root / name):
        raise TdiffError(
            f"run {name!r} exists already ({root / name}) and is not overwritten; go on with it by --resume {name}, "
            "or choose another --run"
        )


def create(name: str, settings: Settings, root: Path = ROOT) -> Run:
    """A new run folder with its config.toml, entered into the index of runs.

    Raises TdiffError where it cannot be made, or is there.
    """
    check_free(name, root)
    run = Run(root / name)
    try:
        run.path.mkdir(parents=True)
    except OSError as why:
        raise TdiffError(f"the run folder {run.path} cannot be made: {why.strerror}") from None
    run.keep(settings)
    from tdiff.runs.index import remember  # which imports this module

    remember(run)
    return run


def free_name(stem: str, root: Path = ROOT) -> str:
    """`stem`, or `stem-2`, `stem-3`, ... where it is taken."""
    names = (stem if n == 1 else f"{stem}-{n}" for n in range(1, 1_000_000))
    return next(name for name in names if not (root / name).exists())


def find_run(name: str, root: Path = ROOT) -> Run:
    """The run of that name or path, to go on with. Raises TdiffError naming the nearest."""
    for path in (Path(name), root / name):
        if _is_file(path / "config.toml"):
            return Run(path)
    raise TdiffError(f"no run {name!r} to resume under {root}/{_nearest(name, _names([root], 'config.toml'))}")


def find_model(name: str) -> Path:
    """The folder of a model's weights: a path, ./checkpoints/NAME, the package's own, the source tree's.

    A run's folder stands for its model, and the output folder of a Hugging Face Trainer for its newest checkpoint.
    Raises TdiffError naming the nearest, which is NoModel where nothing of that name is here.
    """
    why = []
    # Path.expanduser raises where there is no such user.
    for path in (Path(os.path.expanduser(name)), *(shelf / name for shelf in _SHELVES)):  # noqa: PTH111
        for folder in (path, path / "model"):
            if _is_file(folder / "config.json"):
                return folder
        if name and (newest := _newest_checkpoint(path)):
            return newest
        why += [_not_a_model(path)] if name else []  # no name is not this folder
    if reason := next(filter(None, why), ""):
        raise TdiffError(f"no model {name!r}: {reason}")
    raise NoModel(name)


def _newest_checkpoint(path: Path) -> Path | None:
    """The `checkpoint-N` of the largest N in a folder, of those that have weights where some do: one being written."""
    steps = {
        int(digits): folder
        for folder in (path.glob("checkpoint-*") if _is_dir(path) else ())
        if (digits := folder.name.partition("-")[2]).isdecimal() and _is_file(folder / "config.json")
    }
    whole = [n for n, folder in steps.items() if any(folder.glob("*.safetensors")) or any(folder.glob("*.bin"))]
    return steps[max(whole or steps)] if steps else None


def _not_a_model(path: Path) -> str:
    """What is wrong with something that has a model's name; empty where nothing is there."""
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
        return f"run {path.name!r} has no weights yet: {path / 'model'} is not there"
    if _is_dir(path):
        return f"{path} has no config.json; a model is a folder with config.json, model.safetensors and tokenizer.json"
    return ""


def _folders() -> list[str]:
    """The folders one stands in, but hidden ones."""
    with suppress(OSError), os.scandir() as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    return []


def _names(shelves: Iterable[Path], inside: str) -> list[str]:
    return sorted({path.parent.name for shelf in shelves for path in shelf.glob(f"*/{inside}")})


def _nearest(name: str, names: list[str]) -> str:
    near = difflib.get_close_matches(name, names, n=1)
    if near:
        return f"; did you mean {near[0]}?"
    return f"; there are: {', '.join(names)}" if names else ""


def find_config(name: str) -> Path:
    """A configuration file: a path, or the name of one under configs/ here, in the package or in the source tree."""
    for path in (Path(name), *(shelf / f"{name.removesuffix('.toml')}.toml" for shelf in _config_shelves())):
        if _is_file(path):
            return path
    raise TdiffError(f"no configuration {name!r}{_nearest(name, config_names())}")


def config_names() -> list[str]:
    """The names of all configurations."""
    found = {path.relative_to(shelf).with_suffix("") for shelf in _config_shelves() for path in shelf.rglob("*.toml")}
    return sorted(path.as_posix() for path in found if path.name != "rows")


def run_names(root: Path = ROOT) -> list[str]:
    """The names of the runs under `root`, those of one model per class among them."""
    return sorted({*_names([root], "config.toml"), *_names([root], EACH)})


def model_names() -> list[str]:
    """The names of all models but those of the hub."""
    return sorted({*_names(_SHELVES, "model"), *_names(_SHELVES, EACH)})


def _config_shelves() -> list[Path]:
    return [Path("configs"), _PACKAGE / "_data" / "configs", _PACKAGE.parent / "configs"]
