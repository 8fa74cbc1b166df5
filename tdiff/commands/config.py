"""`tdiff config`: the settings of a run or of a configuration file with their meaning, and a check of a file."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tdiff.config.options import argument, option
from tdiff.config.presets import PRESETS
from tdiff.config.settings import Settings, read_layer
from tdiff.errors import TdiffError, unknown
from tdiff.runs import lookup
from tdiff.runs.per_class import PerClassRun
from tdiff.visible import json_line, visible

EXAMPLES = (
    "tdiff config",
    "tdiff config mine",
    "tdiff config shakespeare --json",
    "tdiff config check configs/tales.toml",
)
_WIDTH = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The options of the command."""

    target: Sequence[str] = argument(
        (),
        "A run, a TOML file or the name of one in configs/; check FILE only checks it. Without it, all defaults.",
        metavar="[RUN|FILE|check FILE]",
        complete="runs_and_configs",
    )
    as_json: bool = option(False, "Print one JSON object: value, default and meaning by name.", flag="--json")


def run(request: Request) -> None:
    """Print the resolved settings, or check a file. Raises TdiffError for a file that is not valid."""
    match list(request.target):
        case []:
            settings = Settings()
        case ["check"]:
            raise TdiffError("tdiff config check requires a FILE")
        case ["check", name]:
            of_file(name)
            print(visible(f"{name} is valid"))
            return
        case [name]:
            settings = _resolved(name)
        case _:
            raise TdiffError("tdiff config takes one run or file; to check a file: tdiff config check FILE")
    if request.as_json:
        print(json_line(_as_data(settings)))
    else:
        print(visible("\n".join(_lines(settings))))


def of_file(name: str) -> Settings:
    """The settings of a configuration file, over its preset where it names one. Raises TdiffError where not valid."""
    layer = read_layer(lookup.find_config(name))
    preset = layer.get("preset")
    if preset and preset not in PRESETS:
        raise unknown("preset", preset, PRESETS)
    return Settings.of([PRESETS[preset], layer] if preset else [layer])


def _resolved(name: str) -> Settings:
    """The settings of a run, else of a configuration file."""
    if Path(name).is_file():
        return of_file(name)
    if (folder := lookup.find_per_class(name)) is not None:
        return Settings.of([PerClassRun.read(folder).settings])
    if name in lookup.run_names() or (Path(name) / "config.toml").is_file():
        return lookup.find_run(name).settings()
    return of_file(name)


def _rows(settings: Settings) -> Iterator[tuple[str, Any, Any, str]]:
    """Name, value, default and meaning of each setting."""
    from tdiff.config.meanings import meanings

    defaults, top = Settings(), meanings(Settings)
    yield "preset", settings.preset, defaults.preset, top["preset"]
    for table in dataclasses.fields(settings):
        group, usual = getattr(settings, table.name), getattr(defaults, table.name)
        if not dataclasses.is_dataclass(group):
            continue
        text = meanings(type(group))
        for f in dataclasses.fields(group):
            yield f"{table.name}.{f.name}", getattr(group, f.name), getattr(usual, f.name), text.get(f.name, "")


def _as_data(settings: Settings) -> dict[str, Any]:
    return {
        name: {"value": value, "default": default, "meaning": meaning}
        for name, value, default, meaning in _rows(settings)
    }


def _lines(settings: Settings) -> Iterator[str]:
    """The settings as TOML, which `tdiff train --config` takes, with each meaning as a comment."""
    table = ""
    for name, value, default, meaning in _rows(settings):
        head, dot, key = name.rpartition(".")
        if dot and head != table:
            table = head
            yield f"\n[{table}]"
        yield from textwrap.wrap(meaning, _WIDTH, initial_indent="# ", subsequent_indent="# ")
        line = f"{key} = {_toml(value)}"
        yield line if value == default else f"{line}  # default: {_toml(default)}"


def _toml(value: Any) -> str:
    import tomli_w

    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return tomli_w.dumps({"x": value}).removeprefix("x = ").strip()
