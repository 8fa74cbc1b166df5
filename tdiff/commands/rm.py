"""`tdiff rm RUN`: remove the folder of a run, after a question."""

from __future__ import annotations

import os
import secrets
import shutil
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tdiff.config.options import argument, option
from tdiff.config.settings import Settings, read_layer
from tdiff.errors import TdiffError
from tdiff.formatting import age as age_text
from tdiff.formatting import size
from tdiff.protocol.events import End, Event, Start, parse
from tdiff.runs import index
from tdiff.runs import process as processes
from tdiff.runs.named import members, named_run
from tdiff.runs.per_class import MANIFEST, PerClassRun
from tdiff.runs.process import LOST, ThisMachine
from tdiff.runs.run import Run
from tdiff.runs.trackers import tensorboard
from tdiff.visible import visible

EXAMPLES = ("tdiff rm tale", "tdiff rm tale-2 tale-3 --yes")
_KNOWN = frozenset(
    (
        "config.toml",
        "events.jsonl",
        "process.json",
        "samples",
        "model",
        "resume",
        MANIFEST,
        "README.md",
        "best",
        "earlier",
        "log",
        "trackers.json",
        "wandb",
        "fetched.json",
    )
)
"""What tdiff writes into a run's folder."""
_MAX_NAMED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The options of the command."""

    runs: Sequence[str] = argument(help="The runs: their names, or their folders.", metavar="RUN...", complete="runs")
    yes: bool = option(False, "Remove without a question.", flag="--yes")


def run(request: Request) -> None:
    """Remove the runs. Raises TdiffError if one is no run or is being trained: then none is removed."""
    folders = list(dict.fromkeys(named_run(name) for name in request.runs))
    for folder in folders:
        _check(folder)
    if not request.yes and not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise TdiffError("tdiff rm asks on a terminal before it removes a run; --yes removes without a question")
    for folder in folders:
        if request.yes or _agreed(folder):
            _remove(folder)


def _check(folder: Path) -> None:
    """Raise TdiffError unless `folder` is that of a run that may be removed."""
    name = folder.name or str(folder)
    if folder.is_symlink():
        raise TdiffError(f"{str(folder)!r} is a link to {os.readlink(folder)!r}; remove the run there, or the link")  # noqa: PTH115
    place = folder.resolve()
    if place == Path.home().resolve() or place in (Path.cwd(), *Path.cwd().parents):
        raise TdiffError(f"{str(folder)!r} contains the current folder or is the home folder; it is not removed")
    if not all(_is_genuine(path) for path in members(folder)) or not _is_whole(folder):
        raise TdiffError(f"{str(folder)!r} is not a run of tdiff: neither its settings nor its events are those of one")
    for path in members(folder):
        if reason := _at_work(path):
            raise TdiffError(f"run {name!r} is being trained {reason}; tdiff stop {name} stops it first")


def _is_whole(folder: Path) -> bool:
    """Whether it is a run, or holds one model per class."""
    if (folder / MANIFEST).is_file():
        PerClassRun.read(folder)  # which raises TdiffError for another file of that name
        return True
    return bool(members(folder))


def _is_genuine(path: Path) -> bool:
    """Whether the events or the settings are those of a run: other programs have files of these names too."""
    try:
        with (path / "events.jsonl").open(encoding="utf-8", errors="replace") as file:
            if isinstance(parse(file.readline(1 << 20)), Event):
                return True
    except OSError:
        pass
    try:
        Settings.of([read_layer(path / "config.toml")])
    except (OSError, TdiffError):
        return False
    return True


def _at_work(path: Path) -> str:
    """Where the run is being trained; "" if it is not."""
    if found := processes.read(path):
        process, heartbeat = found
        presence = processes.presence(process, ThisMachine())
        if presence == "alive":
            return f"by process {process.pid}"
        if presence == "unknown" and heartbeat <= LOST and not _has_ended(path):
            return f"on {process.host}, whose last heartbeat was {age_text(heartbeat)} ago"
    return "by another process" if Run(path).is_locked else ""


def _has_ended(path: Path) -> bool:
    events = Run(path).history()
    return bool(events) and isinstance(events[-1], End)


def _agreed(folder: Path) -> bool:
    """Whether the user agrees to the removal."""
    from tdiff.watch.listing.here import folder_size

    parts = [size(folder_size(folder))]
    events = [event for path in members(folder) for event in Run(path).history()]
    last = next((event for event in reversed(events) if not isinstance(event, Start)), None)
    if last is not None:
        parts.append(f"{last.step:,} steps")
    if isinstance(last, End):
        parts.append(last.reason)
    others = _others(folder)
    more = f", with {', '.join(others[:_MAX_NAMED])}{' and more' * (len(others) > _MAX_NAMED)}" if others else ""
    print(visible(f"remove {folder} ({', '.join(parts)}){more}? [y/N] "), end="", file=sys.stderr, flush=True)
    answer = sys.stdin.readline().strip().lower()
    if answer in ("y", "yes"):
        return True
    print(visible(f"{folder} stays"), file=sys.stderr)
    return False


def _others(folder: Path) -> list[str]:
    """The names in the folder that are not tdiff's."""
    runs = {path.name for path in members(folder)} if (folder / MANIFEST).is_file() else set()
    others = {entry.name for entry in folder.iterdir()} - _KNOWN - runs
    return sorted(name for name in others if not name.startswith(tensorboard.PREFIX))


def _remove(folder: Path) -> None:
    """Remove the folder under another name, so that an interruption leaves no half of a run. Links are not followed."""
    with ExitStack() as stack:
        for path in members(folder):
            if (path / "config.toml").is_file():
                stack.enter_context(Run(path).locked())  # a training that starts now is refused
        doomed = folder.with_name(f".{folder.name}.removed-{secrets.token_hex(4)}")
        absolute = folder.absolute()
        runs = [absolute, *(path.absolute() for path in members(folder))]
        folder.rename(doomed)
        shutil.rmtree(doomed)
    for path in dict.fromkeys(runs):
        index.forget(path)
    print(visible(f"removed {folder}"), file=sys.stderr)
