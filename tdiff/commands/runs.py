"""`tdiff runs`: a list of runs on stdout."""

from __future__ import annotations

from dataclasses import dataclass

from tdiff.commands import all_runs
from tdiff.config.options import argument, option

EXAMPLES = (
    "tdiff runs",
    "tdiff runs checkpoints --json",
    "tdiff runs ssh://gpu01/home/me/checkpoints",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The options of the command."""

    folder: str | None = argument(
        None,
        "A folder, or ssh://host/folder; default: checkpoints/ and the runs that were started elsewhere.",
        metavar="[FOLDER]",
    )
    as_json: bool = option(False, "Print one JSON object for each run, a line each.", flag="--json")


def run(request: Request) -> None:
    """Print the runs. Raises TdiffError for a folder that cannot be read."""
    opened = all_runs.open_place(request.folder, sizes=True)
    all_runs.print_all(opened, as_json=request.as_json, wide=True)
