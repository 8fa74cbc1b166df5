"""Chooses what to watch in a folder of another program: the newest of what lies in it, and of that the richest.

Files are live while they are written. What is live comes first; among numbered neighbours (`version_3`,
`checkpoint-500`) that are not live the largest number counts as the newest, since copies lose their times. Of several
files written at about the same time, the kind decides: text that shows the progress of the run, event files, tables,
text, and then documents, which come late.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tdiff.patterns import lazy
from tdiff.visible import visible_line
from tdiff.watch.sources.folder_files import Candidate, candidates, files_below, shortened
from tdiff.watch.sources.probe import Probe, planned_steps, probe

LIVE = 180.0
"""Seconds since the last write during which a file counts as live: TensorBoard's writers wait for up to 120 s."""
TOGETHER = 60.0
"""Seconds between the last writes of files of one run that has ended."""
_MAX_PROBES, _MAX_NAMES = 24, 3
"""Files that are read to find a loss, and names of other files that are shown."""
_NUMBERED = lazy(r"(.*?(?:version_|checkpoint-))(\d{1,15})")
_RANKS = {"run": 6, "events": 4, "table": 4, "document": 3, "text": 3, "state": 2, "summary": 1}
_TEXT_WITH_TOTAL = 5


@dataclass(frozen=True, slots=True)
class FolderChoice:
    """What is read in a folder."""

    candidate: Candidate
    name: str
    """Its path within the folder, safe to print."""
    program: str
    """The program that wrote it, or ""."""
    others: tuple[str, ...] = ()
    """What else can be watched, the newest first: paths within the folder, safe to print."""
    total: int | None = None
    """The steps that the run will take, where a file beside says it."""

    @property
    def short(self) -> str:
        """The end of a long name."""
        return shortened(self.name)

    @property
    def line(self) -> str:
        """One sentence: which file is read, and what else there is."""
        program = f" ({self.program})" if self.program else ""
        more = f" and {len(self.others) - _MAX_NAMES} more" if len(self.others) > _MAX_NAMES else ""
        others = f"; also there: {', '.join(self.others[:_MAX_NAMES])}{more}" if self.others else ""
        return f"reading {self.name}{program}{others}"


def choose(
    folder: Path, now: float | None = None, examine: Callable[[Candidate], Probe] = probe
) -> FolderChoice | None:
    """What to watch in a folder at `now` (s since the epoch); None if nothing in it can be read.

    `examine` reads a part of a file.
    """
    now = time.time() if now is None else now
    ordered = _newest_first(candidates(files_below(folder), folder), now)
    probes: dict[Path, Probe] = {}

    def holds(candidate: Candidate) -> Probe:
        if candidate.path not in probes:
            within = len(probes) < _MAX_PROBES and candidate.size > 0
            probes[candidate.path] = examine(candidate) if within else Probe()
        return probes[candidate.path]

    newest = next((c for c in ordered if holds(c).loss), None)
    newest = newest or next((c for c in ordered if holds(c).metrics and c.kind in ("events", "table")), None)
    newest = newest or next((c for c in ordered if c.kind == "text" and now - c.modified < LIVE), None)
    if newest is None:
        return None
    equals = [newest, *(c for c in ordered if c is not newest and _as_new(c, newest, now) and holds(c).loss)]
    best = max(equals, key=lambda c: _TEXT_WITH_TOTAL if c.kind == "text" and holds(c).total else _RANKS[c.kind])
    others = dict.fromkeys(
        _name(c, folder) for c in ordered if c is not best and (c.path not in probes or holds(c).loss)
    )
    return FolderChoice(best, _name(best, folder), program_of(best, folder), tuple(others), _total(best, ordered))


def _total(best: Candidate, ordered: Sequence[Candidate]) -> int | None:
    """The planned steps of a Hugging Face Trainer, which event files lack; its newest checkpoint has them."""
    if best.kind != "events":
        return None
    for state in (candidate for candidate in ordered if candidate.kind == "state"):
        output = state.path.parent.parent if _number(state) else state.path.parent
        if best.path.is_relative_to(output):
            return planned_steps(state.path)
    return None


def _as_new(one: Candidate, newest: Candidate, now: float) -> bool:
    """Whether a candidate was written at about the time of the newest one, and is not an earlier number of it."""
    if (mine := _number(one)) and (other := _number(newest)) and mine[0] == other[0] and mine[1] < other[1]:
        return False
    return newest.modified - one.modified < TOGETHER or now - one.modified < LIVE


def _newest_first(found: Sequence[Candidate], now: float) -> list[Candidate]:
    """The candidates by their times; of numbered neighbours that are not live, a larger number counts as newer."""
    families: dict[str, list[Candidate]] = {}
    rest = []
    for candidate in found:
        if now - candidate.modified >= LIVE and (number := _number(candidate)):
            families.setdefault(number[0], []).append(candidate)
        else:
            rest.append(candidate)
    for family in families.values():
        latest = 0.0
        for candidate in sorted(family, key=lambda c: ((_number(c) or ("", 0))[1], c.modified)):
            latest = max(latest + 1e-3, candidate.modified)
            rest.append(replace(candidate, modified=latest))
    return sorted(rest, key=lambda c: (-c.modified, len(c.path.parts), str(c.path)))


def _number(candidate: Candidate) -> tuple[str, int] | None:
    """(the path up to the number, the number) of a path such as `logs/version_3/metrics.csv`; None without one."""
    for depth, part in enumerate(candidate.path.parts):
        if match := _NUMBERED.fullmatch(part):
            return str(Path(*candidate.path.parts[:depth], match[1])), int(match[2])
    return None


def lineage(candidate: Candidate) -> str:
    """What the next checkpoint of the same run shares with a candidate."""
    number = _number(candidate) if candidate.kind == "state" else None
    return number[0] if number else str(candidate.path)


def _name(candidate: Candidate, folder: Path) -> str:
    """A file's path within the folder; of event files that of their folder, since their own names are long."""
    relative = candidate.path.relative_to(folder).as_posix()
    if relative == ".":
        return f"{len(candidate.files)} event files" if len(candidate.files) > 1 else "its event file"
    return visible_line(relative)


def program_of(candidate: Candidate, folder: Path) -> str:
    """The program that wrote a candidate, by the names around it; "" if they do not say."""
    parts = (folder.resolve() / candidate.path.relative_to(folder)).parts
    name, parents = parts[-1], parts[-4:-1] if candidate.kind != "events" else parts[-4:]
    if candidate.kind == "state":
        return "Hugging Face Trainer"
    if candidate.kind == "summary" or any("wandb" in part or "offline-run-" in part for part in parents):
        return "Weights & Biases"
    if any(re.fullmatch(r"version_\d+", part) for part in parents):
        return "Lightning"
    if candidate.kind == "events":
        return "TensorBoard"
    if re.fullmatch(r"slurm-\d+(?:_\d+)?\.(?:out|err)", name):
        return "Slurm"
    return "Hydra" if (candidate.path.parent / ".hydra").is_dir() else ""
