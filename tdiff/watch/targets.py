"""What the arguments of `tdiff watch` refer to: files, folders, runs by name, jobs, addresses."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tdiff.errors import TdiffError
from tdiff.runs.index import is_run, known_runs
from tdiff.runs.run import ROOT, Run
from tdiff.visible import visible_line
from tdiff.watch.formats.choice import Choice

if TYPE_CHECKING:  # most targets are neither jobs nor folders nor on other hosts
    from tdiff.watch.jobs.job import Job
    from tdiff.watch.sources.address import Address
    from tdiff.watch.sources.folder_choice import FolderChoice


@dataclass(frozen=True, slots=True)
class Target:
    """Something to watch."""

    kind: Literal["run", "file", "pipe", "ssh", "folder", "slurm"]
    label: str
    """A short name, safe to print."""
    path: Path | None = None
    """The file that is read, which need not exist yet, or the folder of a run's event files; None for standard input
    and for other hosts."""
    address: Address | None = None
    """The file on another host."""
    run: Run | None = None
    """The run on this host that the file belongs to."""
    choice: Choice | None = None
    """What the user says about the numbers of its log."""
    folder: Path | None = None
    """The folder that was named, if it is no run: what is read in it may become another file."""
    folder_choice: FolderChoice | None = None
    """What is read in the folder now."""
    job: Job | None = None
    """The job of a scheduler that was named."""
    note: str = ""
    """Which file is read, where that is not what was named, and what else there is: one sentence, safe to print."""


def locate(word: str, root: Path = ROOT) -> Target:
    """Find a target: a path, `-`, an ssh:// address, `slurm:JOBID`, or a run's name.

    Runs by name are under `root`, in the index, or shipped with the package.
    A folder is searched, files in it are read in part, and a job is asked for. Raises TdiffError with the problem, or
    with the nearest run.
    """
    if word == "-":
        return Target("pipe", "-")
    if word.startswith("ssh://"):
        from tdiff.watch.sources.address import Address

        address = Address.parse(word)
        return Target("ssh", address.label, address=address)
    if word.startswith("slurm:"):
        from tdiff.watch.jobs import slurm

        job = slurm.find(word)
        return Target("slurm", job.name or f"job {job.id}", job.output, job=job)
    # Path.expanduser raises if there is no such user.
    path = Path(os.path.expanduser(word))  # noqa: PTH111
    exists = bool(word) and os.path.exists(path)  # noqa: PTH110  (Path.exists raises for an invalid name)
    if exists and (is_run(path) or not path.is_dir()):
        return _at_path(path, word)
    if word and word == Path(word).name:
        for folder in (root / word, known_runs().get(word)):
            if folder and is_run(folder):
                return _of_run(Run(folder))
    if exists:
        return _at_path(path, word)
    from tdiff.runs.lookup import shipped_run

    if shipped := shipped_run(word):
        return _of_run(Run(shipped))
    raise TdiffError(f"{_absent(word, path)}{_hint(word, path, root)}")


def newest_run(root: Path = ROOT) -> Run | None:
    """The run under `root` whose event log was modified last."""
    logs = [(time, log.parent) for log in root.glob("*/events.jsonl") if (time := _modified(log)) is not None]
    return Run(max(logs)[1]) if logs else None


def _at_path(path: Path, word: str) -> Target:
    """The target at an existing path."""
    if is_run(path):
        own = Run(path)  # other programs have a file config.toml too
        if own.events.exists():
            return _of_run(own)
        from tdiff.watch.sources.folder_choice import choose

        return _of_run(own) if choose(path) is None else _in_folder(path, word)
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise TdiffError(f"{word!r} cannot be read: {error.strerror}") from None
    if stat.S_ISFIFO(mode):  # such as a shell's <(...)
        return Target("pipe", visible_line(path.name), path)
    if stat.S_ISREG(mode):
        run = Run(path.parent) if path.name == "events.jsonl" else None
        return Target("file", label_of(path.parent if run else path), path, run=run)
    if not stat.S_ISDIR(mode):
        raise TdiffError(f"tdiff watch reads files, pipes and run folders; {word!r} is a device or a socket")
    return _in_folder(path, word)


def _in_folder(path: Path, word: str) -> Target:
    """What lies in a folder that is no run: the newest run or log."""
    from tdiff.watch.sources.folder_choice import choose
    from tdiff.watch.sources.folders import contents

    try:
        os.scandir(path).close()
    except OSError as error:
        raise TdiffError(f"{word!r} cannot be read: {error.strerror}") from None
    choice = choose(path)
    if choice is not None and choice.candidate.kind != "run":
        return Target(
            "folder", label_of(path), choice.candidate.path, folder=path, folder_choice=choice, note=choice.line
        )
    newest = Run(choice.candidate.path.parent) if choice is not None else newest_run(path)
    if newest is not None:
        return replace(_of_run(newest), note=choice.line if choice is not None else "")
    raise TdiffError(f"{word!r} contains nothing to watch: {contents(path)}")


def _of_run(run: Run) -> Target:
    return Target("run", label_of(run.path), run.events, run=run)


def label_of(path: Path) -> str:
    """The name of a file or a folder, safe to print."""
    return visible_line(path.name or path.resolve().name)


def _absent(word: str, path: Path) -> str:
    """The message that nothing exists at the path, and whether its folder does."""
    if not _is_path(word):
        return f"{word!r} does not exist: no file here and no run has that name"
    parent = path.parent
    # Path.is_dir raises for an invalid name.
    if os.path.isdir(parent):  # noqa: PTH112
        return f"{word!r} does not exist"
    return f"{word!r} does not exist, nor does the folder {str(parent)!r}"


def _is_path(word: str) -> bool:
    return "/" in word or word.startswith(("~", "."))


def _hint(word: str, path: Path, root: Path) -> str:
    import difflib

    head, _, tail = word.partition(":")
    if tail.startswith("//"):
        return "; the only addresses are ssh://[user@]host[:port]/path"
    if tail and head and "/" not in head:  # the form that scp uses
        return f"; a file on another host is ssh://{head}{tail if tail[0] == '/' else '/~/' + tail}"
    if _is_path(word) or path.suffix:
        similar = _similar_file(path)
        if similar is not None or _is_path(word):
            return f"; did you mean {similar}?" if similar else ""
    names = list(dict.fromkeys([*(path.name for path in root.glob("*") if is_run(path)), *reversed(known_runs())]))
    nearest = difflib.get_close_matches(word, names, n=1)
    if nearest:
        return f"; did you mean {nearest[0]}?"
    return (
        f"; there are: {', '.join(names[:8])}"
        if names
        else f"; there is no run under {root}/, and no other run is known"
    )


def _similar_file(path: Path) -> Path | None:
    """The entry of the same folder with the most similar name."""
    import difflib

    try:
        names = sorted(os.listdir(path.parent))[:10_000]  # noqa: PTH208
    except (OSError, ValueError):
        return None
    matches = difflib.get_close_matches(path.name, names, n=1)
    return path.with_name(matches[0]) if matches else None


def _modified(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except OSError:
        return None
