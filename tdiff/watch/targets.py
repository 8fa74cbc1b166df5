"""What a word of the command line means to `tdiff watch`. Nothing here reads what a file says."""

from __future__ import annotations

import difflib
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tdiff.errors import TdiffError
from tdiff.runs.index import is_run, known_runs
from tdiff.runs.run import ROOT, Run
from tdiff.visible import visible_line
from tdiff.watch.sources.address import Address
from tdiff.watch.sources.folders import contents


@dataclass(frozen=True, slots=True)
class Target:
    """Something to watch."""

    kind: Literal["run", "file", "pipe", "ssh"]
    label: str
    """A short name, safe to print."""
    path: Path | None = None
    """What is read, which need not be there yet; None for standard input, and on another host."""
    address: Address | None = None
    """Where it is, on another host."""
    run: Run | None = None
    """The run on this host that it belongs to."""


def locate(word: str, root: Path = ROOT) -> Target:
    """A path, `-`, an ssh:// address or a run's name: under `root`, else in the index. Looked for in this order.

    Raises TdiffError that says what is wrong, or names the nearest run.
    """
    if word == "-":
        return Target("pipe", "-")
    if word.startswith("ssh://"):
        address = Address.parse(word)
        return Target("ssh", address.label, address=address)
    # Path.expanduser raises where there is no such user.
    path = Path(os.path.expanduser(word))  # noqa: PTH111
    there = bool(word) and os.path.exists(path)  # noqa: PTH110  (Path's own raises for a name that no file can have)
    if there and (is_run(path) or not path.is_dir()):
        return _there(path, word)
    if word and word == Path(word).name:
        for folder in (root / word, known_runs().get(word)):
            if folder and is_run(folder):
                return _of(Run(folder))
    if there:
        return _there(path, word)
    raise TdiffError(f"{_absent(word, path)}{_hint(word, path, root)}")


def newest_run(root: Path = ROOT) -> Run | None:
    """The run under `root` whose event log was written last."""
    found = [(when, log.parent) for log in root.glob("*/events.jsonl") if (when := _written(log)) is not None]
    return Run(max(found)[1]) if found else None


def _there(path: Path, word: str) -> Target:
    """What is at a path where something is."""
    if is_run(path):
        return _of(Run(path))
    try:
        mode = path.stat().st_mode
    except OSError as why:
        raise TdiffError(f"{word!r} cannot be read: {why.strerror}") from None
    if stat.S_ISFIFO(mode):  # as a shell's <(...) is
        return Target("pipe", visible_line(path.name), path)
    if stat.S_ISREG(mode):
        run = Run(path.parent) if path.name == "events.jsonl" else None
        return Target("file", _label(path.parent if run else path), path, run=run)
    if not stat.S_ISDIR(mode):
        raise TdiffError(f"tdiff watch reads files, pipes and the folders of runs; {word!r} is a device or a socket")
    inside = newest_run(path)
    if inside:
        raise TdiffError(
            f"{word!r} is not a run's folder: it holds neither config.toml nor events.jsonl; its newest run is "
            f"{str(inside.path)!r}"
        )
    raise TdiffError(f"{word!r} is not a run's folder: {contents(path)}")


def _of(run: Run) -> Target:
    return Target("run", _label(run.path), run.events, run=run)


def _label(path: Path) -> str:
    return visible_line(path.name or path.resolve().name)


def _absent(word: str, path: Path) -> str:
    """That nothing is there; of a path, how far it goes."""
    if not _is_path(word):
        return f"{word!r} does not exist: no file here and no run has that name"
    parent = path.parent
    # Path's own raises for a name that no file can have.
    if os.path.isdir(parent):  # noqa: PTH112
        return f"{word!r} does not exist"
    return f"{word!r} does not exist, nor does the folder {str(parent)!r}"


def _is_path(word: str) -> bool:
    return "/" in word or word.startswith(("~", "."))


def _hint(word: str, path: Path, root: Path) -> str:
    head, _, tail = word.partition(":")
    if tail.startswith("//"):
        return "; of addresses tdiff watch knows ssh://[user@]host[:port]/path"
    if tail and head and "/" not in head:  # as scp has it
        return f"; a file on another host is ssh://{head}{tail if tail[0] == '/' else '/~/' + tail}"
    if _is_path(word) or path.suffix:
        near = _beside(path)
        if near is not None or _is_path(word):
            return f"; did you mean {near}?" if near else ""
    names = list(dict.fromkeys([*(path.name for path in root.glob("*") if is_run(path)), *reversed(known_runs())]))
    nearest = difflib.get_close_matches(word, names, n=1)
    if nearest:
        return f"; did you mean {nearest[0]}?"
    return f"; there are: {', '.join(names[:8])}" if names else f"; there is no run under {root}/, and none is known"


def _beside(path: Path) -> Path | None:
    """What lies in the same folder and is called most like it."""
    try:
        names = sorted(os.listdir(path.parent))[:10_000]  # noqa: PTH208
    except (OSError, ValueError):
        return None
    near = difflib.get_close_matches(path.name, names, n=1)
    return path.with_name(near[0]) if near else None


def _written(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except OSError:
        return None
