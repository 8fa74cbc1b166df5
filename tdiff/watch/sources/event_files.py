"""The TensorBoard event files of one run as one source: those in its folder, and those in folders of its parts.

A writer starts a new file after a restart, so files with later names are appended. Keras writes training and validation
into two folders: their tags get the name of the folder, so that `epoch_loss` of `validation/` is a validation loss.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tdiff.patterns import lazy
from tdiff.visible import json_line, visible_line
from tdiff.watch.sources.folder_files import is_event_file, is_part
from tdiff.watch.sources.local import FileSource, Read, Status
from tdiff.watch.sources.transcode import FileSplitter

_SCAN = 5.0
"""Seconds between two searches for further files."""
_OPEN = 5.0
"""Seconds without a change after which the newest step, which further values might join, is reported."""
_WALL_TIME = lazy(r'"wall_time":\s*([0-9.eE+-]+)')
_BY_ITERATION = "_vs_iterations"
"""The end of tags that Keras writes a second time, over another kind of step."""


@dataclass(slots=True)
class _Part:
    """One event file."""

    source: FileSource
    splitter: FileSplitter
    prefix: str
    """The name of the folder of the part, which begins the tags; "" for the folder of the run."""
    at_rest: bool = False
    """Whether the open step was reported."""
    current: bool = False


class EventFilesSource:
    """Follows all event files of one run, and those that appear later. Lines of one read are in the order of time."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """Follow the event files in `folder`; `clock` gives seconds, for the pauses between searches."""
        self.folder = folder
        self.name = visible_line(str(folder))
        self.total: int | None = None
        """The steps that the run will take, which is added to its rows, since event files lack it."""
        self._clock = clock
        self._parts: dict[Path, _Part] = {}
        self._searched: float | None = None

    def read(self, limit: int = 1 << 20) -> Read:
        """Read at most about `limit` bytes more."""
        self._search()
        lines: list[tuple[float, str]] = []
        has_more = False
        share = max(1 << 12, limit // max(1, len(self._parts)))
        for part in self._parts.values():
            read = part.source.read(share)
            if read.reset:
                return self._restart()
            new = read.lines
            part.current = not read.has_more
            age = part.source.status().age
            if new:
                part.at_rest = False
            elif part.current and not part.at_rest and age is not None and age > _OPEN:
                part.at_rest, new = True, part.splitter.flush()
            has_more |= read.has_more
            lines += ((_time_of(line), line) for line in self._named(new, part.prefix))
        if len(self._parts) > 1:
            lines.sort(key=lambda item: item[0])  # stable: a line without a time stays at the beginning of its file
        return Read([line for _, line in lines], has_more=has_more)

    def status(self) -> Status:
        """Connected while a file exists; its age is that of the newest one."""
        each = [part.source.status() for part in self._parts.values()]
        if not each:
            return Status(False, f"no event file in {self.name} yet; waiting for one")
        ages = [status.age for status in each if status.age is not None]
        return Status(
            any(status.connected for status in each),
            next((status.text for status in each if status.text), ""),
            sum(status.lost for status in each),
            sum(status.bytes for status in each),
            min(ages, default=None),
            all(status.current for status in each),
        )

    def close(self) -> None:
        """Close all files."""
        for part in self._parts.values():
            part.source.close()

    def flush(self) -> list[str]:
        """The newest step of each file, for a snapshot after which nothing is read."""
        return [line for part in self._parts.values() for line in self._named(part.splitter.flush(), part.prefix)]

    def _restart(self) -> Read:
        """A file was replaced: read all files again."""
        self.close()
        self._parts.clear()
        self._searched = None
        return Read(reset=True, has_more=True)

    def _search(self) -> None:
        now = self._clock()
        if self._searched is not None and now - self._searched < _SCAN:
            return
        self._searched = now
        for path, prefix in sorted(_event_files(self.folder), key=lambda found: (found[0].name, found[0])):
            if path not in self._parts:
                splitter = FileSplitter()
                self._parts[path] = _Part(_source(path, splitter), splitter, prefix)

    def _named(self, lines: list[str], prefix: str) -> list[str]:
        """The lines with the name of the part before each tag, and with the total."""
        if not prefix:
            return lines if self.total is None else [f'{line[:-1]}, "max_steps": {self.total}}}' for line in lines]
        named = []
        for line in lines:
            values = json.loads(line)
            kept = {"step": values.pop("step"), "wall_time": values.pop("wall_time", None)}
            tags = {f"{prefix}/{tag}": value for tag, value in values.items() if not tag.endswith(_BY_ITERATION)}
            if tags:
                named.append(json_line(kept | tags))
        return named


def _source(path: Path, splitter: FileSplitter) -> FileSource:
    """A source whose splitter is at hand; a replaced file gives a reset, after which all is read again."""
    return FileSource(path, splitter=lambda: splitter)


def _time_of(line: str) -> float:
    match = _WALL_TIME.search(line)
    return float(match[1]) if match else 0.0


def _event_files(folder: Path) -> list[tuple[Path, str]]:
    """(path, name of the part) of each event file of the run; none if the folder cannot be read."""
    found: list[tuple[Path, str]] = []
    try:
        with os.scandir(folder) as entries:
            folders = []
            for entry in entries:
                if entry.is_dir():
                    folders.append(entry)
                elif is_event_file(entry.name):
                    found.append((Path(entry.path), ""))
        beside_events = bool(found)
        for entry in folders:
            if is_part(entry.name, beside_events=beside_events):
                names = os.listdir(entry.path)  # noqa: PTH208
                found += ((Path(entry.path, name), entry.name) for name in names if is_event_file(name))
    except OSError:
        pass
    return found
