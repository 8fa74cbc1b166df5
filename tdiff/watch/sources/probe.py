"""Whether a file holds the curve of a training, by its first and its last bytes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tdiff.patterns import lazy
from tdiff.watch.formats.detect import Detector
from tdiff.watch.run_state import RunState
from tdiff.watch.sources.folder_files import Candidate
from tdiff.watch.sources.transcode import FileSplitter, is_text

_PIECE = 1 << 17
"""Bytes at the beginning and at the end of a file that are read."""
_GZIP_PIECE, _MAX_LINES = 1 << 14, 10_000
"""Bytes of a gzip file that are read, which may expand a thousandfold, and lines that are examined."""
_DOCUMENT = 1 << 20
"""Bytes of a JSON document that are searched for a loss."""
_LOSS_KEY = lazy(rb'"[^"\n]{0,40}loss[^"\n]{0,40}"\s*:', re.IGNORECASE)

_PLANNED = lazy(rb'"max_steps":\s*(\d{1,15})\b')


@dataclass(frozen=True, slots=True)
class Probe:
    """What a file holds."""

    loss: bool = False
    """A training or a validation loss."""
    metrics: bool = False
    """Any curve."""
    total: bool = False
    """The number of steps that the run will take, or its progress."""


def probe(candidate: Candidate) -> Probe:
    """What a candidate holds. A file that cannot be read holds nothing."""
    try:
        if candidate.kind in ("state", "document", "summary"):
            return _document(candidate.path)
        found = Probe()
        for path in reversed(candidate.files):  # the newest first; the first files may hold settings only
            one = _lines(path)
            found = Probe(found.loss or one.loss, found.metrics or one.metrics, found.total or one.total)
            if found.loss:
                break
    except (OSError, ValueError):
        return Probe()
    return found


def planned_steps(path: Path) -> int | None:
    """`max_steps` of a `trainer_state.json`, which stands near its end; None if it cannot be read."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - _PIECE))
            match = _PLANNED.search(file.read(_PIECE))
    except OSError:
        return None
    return int(match[1]) if match and int(match[1]) > 0 else None


def _document(path: Path) -> Probe:
    with path.open("rb") as file:
        found = _LOSS_KEY.search(file.read(_DOCUMENT)) is not None
    return Probe(found, found, found)


def _lines(path: Path) -> Probe:
    state, splitter = RunState(), FileSplitter()
    detector = Detector(state)
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        head = file.read(_GZIP_PIECE if path.suffix == ".gz" else _PIECE)
        detector.feed(splitter.feed(head)[:_MAX_LINES])
        if size > len(head) and is_text(path):
            file.seek(max(len(head), size - _PIECE))
            detector.feed(splitter.feed(b"\n" + file.read(_PIECE)))
    detector.feed([line for line in splitter.unfinished().splitlines() if line])
    detector.settle(over=True)
    drawn = {name for name, series in state.metrics.items() if series.steps or series.broken}
    loss = bool(drawn & {"train/loss", "eval/loss"}) or any("loss" in name.lower() for name in drawn)
    return Probe(loss, bool(drawn), bool(state.total) or state.progress is not None)
