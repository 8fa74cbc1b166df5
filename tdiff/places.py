"""What a word of the command line means to `tdiff watch`, and the index by which a run is found from anywhere.

The index is one line a run in the user's state folder. It is a convenience: what cannot be read or written there is
passed over in silence. Nothing here reads what a file says.
"""

from __future__ import annotations

import difflib
import json
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tdiff.errors import TdiffError
from tdiff.runs import ROOT, Run, write_whole
from tdiff.ssh import Address
from tdiff.visible import visible_line

try:
    import fcntl
except ImportError:  # not on Windows: there two runs that begin at once may lose one entry
    fcntl = None  # type: ignore[assignment]

_MOST = 1000
"""Lines of the index, less one."""


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
    if there and (_is_run(path) or not path.is_dir()):
        return _there(path, word)
    if word and word == Path(word).name:
        for folder in (root / word, known_runs().get(word)):
            if folder and _is_run(folder):
                return _of(Run(folder))
    if there:
        return _there(path, word)
    raise TdiffError(f"nothing to watch is called {word!r}{_hint(word, root)}")


def newest_run(root: Path = ROOT) -> Run | None:
    """The run under `root` whose event log was written last."""
    found = [(when, log.parent) for log in root.glob("*/events.jsonl") if (when := _written(log)) is not None]
    return Run(max(found)[1]) if found else None


def remember(run: Run) -> None:
    """Enter a run into the index. Does nothing where the state folder cannot be written."""
    with suppress(OSError, ValueError):
        path = run.path.absolute()
        entry = {"name": path.name, "path": str(path), "time": time.time()}
        with _alone():
            others = [other for other in _entries() if other["path"] != entry["path"]]
            lines = [json.dumps(one) + "\n" for one in [*others, entry][1 - _MOST :]]
            write_whole(_index(), "".join(lines).encode())


def known_runs() -> dict[str, Path]:
    """The folder of each run in the index that is still there; of two with one name, that begun last."""
    return {entry["name"]: Path(entry["path"]) for entry in _entries() if _is_run(Path(entry["path"]))}


def _there(path: Path, word: str) -> Target:
    """What is at a path where something is."""
    if _is_run(path):
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
    hint = f"; its newest run is {str(inside.path)!r}" if inside else ""
    raise TdiffError(f"{word!r} is not a run's folder: it holds neither config.toml nor events.jsonl{hint}")


def _of(run: Run) -> Target:
    return Target("run", _label(run.path), run.events, run=run)


def _label(path: Path) -> str:
    return visible_line(path.name or path.resolve().name)


def _hint(word: str, root: Path) -> str:
    head, _, tail = word.partition(":")
    if tail.startswith("//"):
        return "; of addresses tdiff watch knows ssh://[user@]host[:port]/path"
    if tail and head and "/" not in head:  # as scp has it
        return f"; a file on another host is ssh://{head}{tail if tail[0] == '/' else '/~/' + tail}"
    names = list(dict.fromkeys([*(path.name for path in root.glob("*") if _is_run(path)), *reversed(known_runs())]))
    near = difflib.get_close_matches(word, names, n=1)
    if near:
        return f"; did you mean {near[0]}?"
    return f"; there are: {', '.join(names[:8])}" if names else f"; there is no run under {root}/, and none is known"


def _is_run(path: Path) -> bool:
    # Path's own raise for a name that no file can have.
    return any(os.path.isfile(path / name) for name in ("config.toml", "events.jsonl"))  # noqa: PTH113


def _written(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except OSError:
        return None


def _index() -> Path:
    if folder := os.environ.get("TDIFF_STATE"):
        return Path(folder) / "runs.jsonl"
    from platformdirs import user_state_path

    return user_state_path("tdiff") / "runs.jsonl"


def _entries() -> list[dict[str, str]]:
    """The lines of the index that can be read, oldest first."""
    entries = []
    with suppress(OSError):
        for line in _index().read_text("utf-8", "replace").splitlines():
            with suppress(ValueError):
                entry = json.loads(line)
                if isinstance(entry, dict) and all(isinstance(entry.get(key), str) for key in ("name", "path")):
                    entries.append(entry)
    return entries


@contextmanager
def _alone() -> Iterator[None]:
    """Nobody else writes the index meanwhile."""
    path = _index().with_suffix(".lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        if fcntl:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
