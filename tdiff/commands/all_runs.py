"""What `tdiff runs` and `tdiff watch --all` have in common: the place that is listed, and its table on stdout."""

from __future__ import annotations

import re
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tdiff.errors import TdiffError
from tdiff.runs.index import known_runs
from tdiff.runs.run import ROOT
from tdiff.visible import json_line, visible

if TYPE_CHECKING:
    from tdiff.watch.listing.here import AllRuns

_PATIENCE = 15.0
"""Seconds that a listing waits for another machine."""
_STEP = 5.0
"""Seconds that it waits for more after something has come."""
_WIDE = 400
"""Columns of a table in a pipe, which leaves out nothing."""


def open_place(word: str | None, *, sizes: bool = False) -> AllRuns:
    """All runs of a folder or an ssh:// address; by default those under ROOT, and those of the index.

    With `sizes` the run folders of this machine are measured. Raises TdiffError if there is no such folder.
    """
    from tdiff.watch.listing.here import LocalRuns

    if word is None:
        return LocalRuns(ROOT, _elsewhere(), sizes=sizes)
    if word.startswith("ssh://"):
        from tdiff.watch.listing.there import RemoteRuns
        from tdiff.watch.sources.address import Address

        return RemoteRuns(Address.parse(re.sub(r"^(ssh://[^/]*):/", r"\1/", word)))  # as in scp's host:/folder
    path = Path(word).expanduser()
    if not path.exists() and word == path.name and (ROOT / word).is_dir():
        path = ROOT / word
    return LocalRuns(path, sizes=sizes)


def print_all(all_runs: AllRuns, *, as_json: bool, wide: bool, ascii: bool = False) -> None:
    """Print the table, or a line of JSON for each run. Raises TdiffError if nothing could be read."""
    from tdiff.report.runs import table
    from tdiff.watch.listing.rows import data

    end = time.monotonic() + _PATIENCE
    try:
        while not all_runs.complete and time.monotonic() < end:
            if all_runs.poll(0.5):
                end = max(end, time.monotonic() + _STEP)
            elif not all_runs.complete:
                time.sleep(0.005)
        rows = all_runs.rows()
        if problem := all_runs.problem or ("" if all_runs.complete else "not all of it came"):
            if not rows:
                raise TdiffError(f"{all_runs.label}: {problem}")
            _say(f"{all_runs.label}: {problem}")
        if as_json:
            for row in rows:
                print(json_line(data(row)))
        elif rows:
            width = shutil.get_terminal_size((80, 24)).columns if sys.stdout.isatty() or not wide else _WIDE
            print(visible("\n".join(table(rows, width, wide=wide, ascii=ascii))))
        else:
            _say(f"no run in {all_runs.label}; start one with tdiff train --run NAME")
        if all_runs.left_out and not as_json:
            _say(f"left out: {all_runs.left_out}")
    finally:
        all_runs.close()


def _elsewhere() -> dict[str, Path]:
    """The runs of the index that are not under ROOT, by name."""
    root = ROOT.resolve()
    return {name: path for name, path in known_runs().items() if root not in path.resolve().parents}


def _say(text: str) -> None:
    print(visible(f"tdiff: {text}"), file=sys.stderr)
