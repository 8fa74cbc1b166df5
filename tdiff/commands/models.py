"""`tdiff models`: the models that `--model` can name on this machine. No model is loaded, and the Hub is not asked."""

from __future__ import annotations

import dataclasses
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from tdiff import hub
from tdiff.config.options import option
from tdiff.report.models import Entry, data, table
from tdiff.runs import lookup, retention
from tdiff.runs.model_facts import Facts, facts
from tdiff.runs.per_class import MANIFEST
from tdiff.runs.run import Run
from tdiff.visible import json_line, visible_line

EXAMPLES = ("tdiff models", "tdiff models --json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The options of the command."""

    as_json: bool = option(False, "Print one JSON object for each model, a line each.", flag="--json")


def run(request: Request) -> None:
    """Print the models: those of the package, then runs, newest first, then those cached from the Hub."""
    entries = found()
    if request.as_json:
        for entry in entries:
            print(json_line(data(entry)))
        return
    # A pipe, which has no width, gets the table of 80 columns, as from `tdiff runs` without --wide.
    print("\n".join(table(entries, shutil.get_terminal_size((80, 24)).columns if sys.stdout.isatty() else 80)))
    for entry in entries:
        if entry.earlier:
            names = ", ".join(visible_line(f"{entry.name}:{step}") for step in entry.earlier)
            print(f"earlier saves of {visible_line(entry.name)}: {names}", file=sys.stderr)
    print("* is the default; tdiff generate --model NAME generates with another one", file=sys.stderr)


def found() -> list[Entry]:
    """The models of this machine."""
    named = [_entry(name, folder) for name, folder in lookup.models().items()]
    order = {"shipped": 0, "run": 1}
    named.sort(key=lambda entry: (order[entry.kind], -_time(entry.folder), entry.name))
    local = {entry.name for entry in named}
    cached = [Entry(name, "hub", folder, facts(folder)) for name, folder in hub.cached_models().items()]
    return [*named, *(entry for entry in cached if entry.name not in local)]


def _entry(name: str, folder: Path) -> Entry:
    kind = "shipped" if lookup.is_shipped(name, folder) else "run"
    default = name == lookup.DEFAULT_MODEL
    if not (folder / MANIFEST).is_file():
        earlier = retention.earlier_steps(Run(folder.parent)) if folder.name == "model" else []
        return Entry(name, kind, folder, facts(folder), default, earlier=earlier)
    parts = [facts(path) for path in sorted(folder.glob("*/model"))]
    if not parts:
        return Entry(name, kind, folder, Facts(size=0, problem="no class has a model yet"), default)
    counts = [part.parameters for part in parts if part.parameters is not None]
    total = sum(counts) if len(counts) == len(parts) else None
    whole = dataclasses.replace(parts[0], size=sum(part.size for part in parts), parameters=total)
    whole = dataclasses.replace(whole, bound=None, interval=None, text="")
    return Entry(name, kind, folder, whole, default, models=len(parts))


def _time(folder: Path) -> float:
    try:
        return (folder / "config.json").stat().st_mtime
    except OSError:
        return 0.0
