"""What a training reads from this machine: its files as sets to copy, and its settings with the names that they get.

A set is named by a hash of its paths and contents. So the same data is copied once, and a set there never changes.
"""

from __future__ import annotations

import glob
import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tdiff.config.settings import Settings
from tdiff.corpus import named, readers
from tdiff.errors import TdiffError
from tdiff.remote.place import DATA
from tdiff.runs import lookup
from tdiff.runs.run import ROOT
from tdiff.schema import Layer

_PIECE = 1 << 20
_MADE = re.compile(r"char|ascii|bpe:\d+", re.ASCII)
"""Tokenizers that are no files."""
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class File:
    """A file to copy."""

    path: Path
    name: str
    """Its path in the set, with slashes."""
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Set:
    """Files that are copied together."""

    label: str
    files: tuple[File, ...]

    @property
    def folder(self) -> str:
        """Its folder on the other machine, relative to the place."""
        listing = "".join(f"{file.sha256} {file.size} {file.name}\n" for file in self.files)
        return f"{DATA}/{hashlib.sha256(listing.encode('utf-8', 'surrogateescape')).hexdigest()[:16]}"

    @property
    def size(self) -> int:
        """Bytes in all."""
        return sum(file.size for file in self.files)


class Collector:
    """Collects the sets of settings, and renames what is copied."""

    def __init__(self, progress: Progress | None = None) -> None:
        """`progress` takes the bytes whose checksum is known, and those in all."""
        self.sets: list[Set] = []
        self._progress = progress
        self._done = self._total = 0

    def rewritten(self, layer: Layer) -> Layer:
        """The layer with the names of copied files on the other machine.

        Raises TdiffError for a source that does not exist or cannot be copied.
        """
        tables: dict[str, Any] = {name: dict(t) if isinstance(t, dict) else t for name, t in layer.items()}
        data, train = tables.get("data"), tables.get("train")
        if isinstance(data, dict):
            for key in ("sources", "evaluation"):
                if isinstance(data.get(key), (list, tuple)):
                    data[key] = [self._source(str(source)) for source in data[key]]
            if isinstance(tokenizer := data.get("tokenizer"), str) and not _MADE.fullmatch(tokenizer):
                data["tokenizer"] = self._file(Path(tokenizer))
            _check_inside(str(data.get("token_files") or ""))
        if isinstance(train, dict) and isinstance(initial := train.get("init"), str) and initial:
            train["init"] = self._model(initial)
        return tables

    def _source(self, source: str) -> str:
        if source in named.NAMES:
            return source
        if source == "-":
            raise TdiffError("--on with --data -: save the text to a file first, which is then copied")
        path = Path(source)
        if path.is_dir():
            name = path.resolve().name or "root"
            found = [(file, f"{name}/{file.relative_to(path).as_posix()}") for file in readers.files(source)]
            return self._add(source, found, name)
        if path.exists():
            return self._file(path)
        if not glob.has_magic(source):
            raise TdiffError(f"no such file or folder: {source!r}")
        fixed = next(n for n, part in enumerate(path.parts) if glob.has_magic(part))
        base = Path(*path.parts[:fixed])
        found = [(file, file.relative_to(base).as_posix()) for file in readers.files(source)]
        return self._add(source, found, "/".join(path.parts[fixed:]))

    def _file(self, path: Path) -> str:
        if not path.is_file():
            raise TdiffError(f"{str(path)!r} is not a file that can be copied")
        return self._add(str(path), [(path, path.name)], path.name)

    def _model(self, name: str) -> str:
        try:
            folder = lookup.find_model(name)
        except lookup.NoModel as error:
            if error.elsewhere:
                return name  # of the Hub, from which the other machine fetches it
            raise
        if name in lookup.SHIPPED and not (ROOT / name).is_dir() and not Path(name).is_dir():
            return name
        inner = folder.resolve().name
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        return self._add(name, [(path, f"{inner}/{path.relative_to(folder).as_posix()}") for path in files], inner)

    def _add(self, label: str, found: Sequence[tuple[Path, str]], inside: str) -> str:
        """Add a set of files with their names in it. Returns the path there of what is `inside` the set."""
        try:
            self._total += sum(path.stat().st_size for path, _ in found)
            made = Set(label, tuple(self._checksum(path, name) for path, name in found))
        except OSError as error:
            raise readers.unreadable(label, error) from None
        if made not in self.sets:
            self.sets.append(made)
        return f"{made.folder}/{inside}"

    def _checksum(self, path: Path, name: str) -> File:
        sha, size = hashlib.sha256(), 0
        for piece in pieces(path):
            sha.update(piece)
            size += len(piece)
            self._done += len(piece)
            if self._progress:
                self._progress(self._done, self._total)
        return File(path, name, size, sha.hexdigest())


def pieces(path: Path, offset: int = 0, size: int = _PIECE) -> Iterator[bytes]:
    """The bytes of a file from an offset on, some at a time."""
    with path.open("rb") as file:
        file.seek(offset)
        while piece := file.read(size):
            yield piece


def has_source(layers: Sequence[Layer]) -> bool:
    """Whether a layer names the text; else it is Tiny Shakespeare."""
    return any("sources" in table for layer in layers if isinstance(table := layer.get("data"), dict))


def check(layers: Sequence[Layer]) -> Settings:
    """The settings that the layers have together. Raises TdiffError for what is wrong in them, before a copy."""
    return Settings.of(layers)


def _check_inside(path: str) -> None:
    if Path(path).is_absolute() or ".." in Path(path).parts:
        raise TdiffError(
            f"--on with data.token_files: a path within the folder there, such as corpus.tokens; got {path!r}"
        )
