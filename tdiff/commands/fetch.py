"""`tdiff fetch RUN`: bring the model of a run on another machine, or the whole run, to this one."""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from tdiff.commands.progress import progress_bar
from tdiff.config.options import argument, option
from tdiff.errors import TdiffError
from tdiff.files import CannotWrite, write_atomic
from tdiff.formatting import size
from tdiff.remote import copy, known, place
from tdiff.remote.link import ConnectionLost, Link
from tdiff.runs.index import remember
from tdiff.runs.run import ROOT, Run
from tdiff.visible import visible, visible_line

EXAMPLES = (
    "tdiff fetch tale",
    "tdiff fetch ssh://me@gpu01/runs/checkpoints/tale --whole",
    "tdiff fetch tale --to models/tale",
)
_MARK = "fetched.json"
"""In the folder of a run that was fetched: where it is from. Only such a folder is fetched into again."""
_ALWAYS = ("config.toml", "events.jsonl", "classes.json", "README.md")
_NEVER = ("process.json", "lock", _MARK)
_ATTEMPTS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The options of the command."""

    run: str = argument(
        help="A run that train --on started, by its name, or ssh://host/folder/checkpoints/RUN.", metavar="RUN"
    )
    to: str | None = option(None, "The folder to write.", metavar="FOLDER", shown="default: checkpoints/RUN")
    whole: bool = option(False, "Also bring samples, earlier saves and what a resume requires.", flag="--whole")


def run(request: Request) -> None:
    """Fetch the run; its folder is printed on stdout. Raises TdiffError for a folder that holds something else."""
    text = request.run if "://" in request.run else known.find(request.run)
    address, name = place.split_run(text)
    target = Path(request.to) if request.to is not None else ROOT / name
    url = place.of_run(address, name)
    _check_target(target, url)
    source = f"{place.RUNS}/{name}"
    came, attempts = 0, 0
    while True:
        connected = False
        try:
            with Link(address) as link, progress_bar(f"fetching {visible_line(name)}", of_bytes=True) as progress:
                connected = True
                files = _chosen(link, source, whole=request.whole)
                files, new = _fetch(link, source, files, target, url, progress, whole=request.whole)
                came += new
            break
        except ConnectionLost as lost:
            if not connected:
                raise
            attempts += 1
            if attempts >= _ATTEMPTS:
                raise TdiffError(f"{lost}; the same command continues") from None
            _say(f"{lost}; connecting again")
        except OSError as error:
            raise CannotWrite(target, error) from error
    remember(Run(target))
    total = sum(count for _, count in files)
    _say(f"{name}: {len(files)} files, {size(total)}, of which {size(came)} came now; all checksums are right")
    _say(f"try it: tdiff generate --model {target if request.to else name}")
    print(visible(str(target)), flush=True)


def _check_target(target: Path, url: str) -> None:
    if not os.path.lexists(target):
        return
    try:
        origin = json.loads((target / _MARK).read_bytes())["from"]
    except (OSError, ValueError, KeyError, TypeError):
        raise TdiffError(
            f"{target} exists already and was not fetched: it is not overwritten; choose another folder with --to"
        ) from None
    if origin != url:
        raise TdiffError(f"{target} was fetched from {visible_line(str(origin))}; choose another folder with --to")


def _chosen(link: Link, source: str, *, whole: bool) -> list[tuple[str, int]]:
    """The files to bring. Raises TdiffError if there is no run, or no model yet."""
    found = link.ask("files", path=source)["files"]
    if found is None:
        raise TdiffError(f"no run {source!r} in {link.root} on {link.host}")
    files = [(str(name), int(count)) for name, count in found if Path(str(name)).name not in _NEVER]
    files = [(name, count) for name, count in files if not any(p.startswith(".") for p in name.split("/"))]
    if not any("model" in name.split("/")[:-1] for name, _ in files):
        raise TdiffError(
            f"{link.host}: the run has saved no model yet; its first save comes within a minute of training"
        )
    if whole:
        return files
    return [
        (name, count)
        for name, count in files
        if name.split("/")[-1] in _ALWAYS or {"model", "best"} & set(name.split("/")[:-1][:2])
    ]


def _fetch(
    link: Link,
    source: str,
    files: list[tuple[str, int]],
    target: Path,
    url: str,
    progress: copy.Progress | None,
    *,
    whole: bool,
) -> tuple[list[tuple[str, int]], int]:
    """Bring the files into a hidden folder beside `target`, and replace what changes when all are right.

    Returns the files that have come, of those that the run has by then, and how many bytes.
    """
    part = target.parent / f".{target.name}.part"
    part.mkdir(parents=True, exist_ok=True)
    if target.exists():  # unchanged files are not read again
        for name, count in files:
            old, new = target / name, part / name
            if not new.exists() and old.is_file() and old.stat().st_size <= count:
                new.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(old, new)
    files, came = copy.download_listed(link, source, lambda: _chosen(link, source, whole=whole), part, progress)
    write_atomic(part / _MARK, json.dumps({"from": url}).encode())
    if not target.exists():
        part.rename(target)
        return files, came
    for entry in sorted(part.iterdir()):
        old = target / entry.name
        if old.is_dir() and not old.is_symlink():
            gone = target / f".{entry.name}.old"
            shutil.rmtree(gone, ignore_errors=True)
            old.rename(gone)
            entry.rename(old)
            shutil.rmtree(gone, ignore_errors=True)
        else:
            entry.replace(old)
    part.rmdir()
    return files, came


def _say(text: str) -> None:
    print(visible(text), file=sys.stderr, flush=True)
