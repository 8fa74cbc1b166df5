"""All runs of a folder of this host, and those of the index."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from tdiff.errors import TdiffError
from tdiff.runs.process import FILE as PROCESS
from tdiff.runs.process import ThisMachine
from tdiff.visible import visible_line
from tdiff.watch.listing.collect import Collection, Request
from tdiff.watch.listing.entries import CONFIG, EVENTS, Entry, FileInfo, search
from tdiff.watch.listing.rows import Row, ordered

_SEARCH_SECONDS = 10.0
"""Seconds between two searches for new runs; known files are examined at every poll."""
_POLL_SECONDS = 2.0


class AllRuns(Protocol):
    """All runs of a place, followed by calls of `poll`, which never wait for it long."""

    label: str
    """The place, safe to print."""

    def poll(self, seconds: float = 0.05) -> bool:
        """Read what is new, for about `seconds` at most. Returns whether there was anything."""

    def rows(self) -> list[Row]:
        """The runs as they are now, in the order of the table."""

    @property
    def complete(self) -> bool:
        """Whether everything that was available has been read."""

    @property
    def left_out(self) -> str:
        """What the table leaves out, in words; "" if nothing."""

    @property
    def problem(self) -> str:
        """Why nothing new comes, in words that are safe to print; "" if it does."""

    def close(self) -> None:
        """Close what is open."""


class LocalRuns:
    """All runs below a folder of this host."""

    problem = ""

    def __init__(self, root: Path, others: Mapping[str, Path] | None = None, *, sizes: bool = False) -> None:
        """`others` are runs elsewhere by name; with `sizes` folders are measured. Raises TdiffError for no folder."""
        if not others and not root.is_dir():
            raise TdiffError(f"{str(root)!r} is {'not a folder' if root.exists() else 'no folder: it does not exist'}")
        self.label = visible_line(str(root))
        self._root, self._others, self._sizes = root, dict(others or {}), sizes
        name = root.name or root.resolve().name
        self._collection = Collection(name, self._where)
        self._machine = ThisMachine()
        self._searched = self._polled = -1e9  # by the monotonic clock
        self._files: list[FileInfo] = []
        self.complete = False

    def poll(self, seconds: float = 0.05) -> bool:
        """See `AllRuns.poll`."""
        end, new = time.monotonic() + seconds, False
        if time.monotonic() - self._searched >= _SEARCH_SECONDS:
            self._searched = self._polled = time.monotonic()
            self._files, new = search(self._root), True
            self._update()
        elif self.complete and time.monotonic() - self._polled < _POLL_SECONDS:
            return False
        elif time.monotonic() - self._polled >= _POLL_SECONDS:
            self._polled = time.monotonic()
            self._files = [fresh for file in self._files if (fresh := _examined(self._root, file.path))]
            self._update()
        self.complete = False
        for request in self._collection.requests_in_turn():
            self._read(request)
            new = True
            if time.monotonic() > end:
                return True
        self._collection.settle(time.time())
        self.complete = True
        return new

    def rows(self) -> list[Row]:
        """See `AllRuns.rows`."""
        return ordered(self._collection.rows(time.time(), self._machine, self._size if self._sizes else None))

    @property
    def left_out(self) -> str:
        """See `AllRuns.left_out`."""
        return left_out(self._collection)

    def close(self) -> None:
        """Nothing is open."""

    def _update(self) -> None:
        more = []
        for name, folder in self._others.items():
            files = {file: _examined(folder, file) for file in (EVENTS, CONFIG, PROCESS)}
            if not any(files.values()):
                continue
            absolute = {name: _moved(file, f"{folder}/{name}") for name, file in files.items() if file}
            logs = (absolute[EVENTS],) if EVENTS in absolute else ()
            more.append(Entry(name, str(folder), logs, absolute.get(PROCESS), True))
        self._collection.update(self._files, more)

    def _read(self, request: Request) -> None:
        try:
            with (self._root / request.file.path).open("rb", buffering=0) as file:
                file.seek(request.offset)
                data = file.read(request.count)
        except (OSError, ValueError):
            data = b""
        request.take(data)

    def _where(self, entry: Entry, file: FileInfo | None) -> str:
        path = entry.folder if entry.is_run or file is None else file.path
        return str(self._root / path)

    def _size(self, entry: Entry) -> int | None:
        return folder_size(self._root / entry.folder) if entry.is_run else None


def left_out(collection: Collection) -> str:
    """What a table leaves out, in words; "" if nothing."""
    parts = []
    if count := collection.left_out:
        parts.append(f"{count:,} more that are older")
    if count := collection.without_loss:
        parts.append(f"{count:,} file{'s' * (count != 1)} without a loss")
    return " and ".join(parts)


def folder_size(folder: Path) -> int:
    """Bytes of all files below a folder; links are not followed."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(parent, name)).st_size  # noqa: PTH118  (many files)
            except OSError:
                continue
    return total


def _examined(root: Path, path: str) -> FileInfo | None:
    try:
        info = os.stat(root / path)  # noqa: PTH116
    except (OSError, ValueError):
        return None
    return FileInfo(path, info.st_size, info.st_mtime, info.st_ino)


def _moved(file: FileInfo, path: str) -> FileInfo:
    return FileInfo(path, file.size, file.modified, file.inode)
