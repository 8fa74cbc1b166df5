"""The models of this machine as a table and as JSON: those of the package, runs, and those cached from the Hub."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.cells import cell_len, set_cell_size

from tdiff import formatting
from tdiff.draw.columns import Column, lines
from tdiff.runs.model_facts import Facts
from tdiff.visible import visible_line

_NONE = "-"
_INDENT = "    "


@dataclass(frozen=True, slots=True)
class Entry:
    """A model by its name."""

    name: str
    kind: str
    """shipped, run or hub."""
    folder: Path
    facts: Facts
    default: bool = False
    """Whether commands use it where no model is named."""
    models: int = 1
    """Models that it consists of: one for each class, or one."""
    earlier: Sequence[int] = ()
    """The steps of its earlier saves, which `--model NAME:STEP` names."""


def table(entries: Sequence[Entry], width: int) -> list[str]:
    """The titles, then for each model a line and, below it, the beginning of its text; at most `width` cells.

    The default model has a star.
    """
    rows = lines(
        [
            Column("model", [visible_line(entry.name) + "*" * entry.default for entry in entries], left=True, least=12),
            Column("kind", [entry.kind for entry in entries], 2, left=True),
            Column("size", [formatting.size(entry.facts.size) for entry in entries]),
            Column("params", [_count(entry.facts.parameters) for entry in entries]),
            Column("vocabulary", [vocabulary(entry.facts) for entry in entries], 1, left=True),
            Column("context", [_whole(entry.facts.context) for entry in entries], 4),
            Column("trained on", [_count(entry.facts.trained) for entry in entries], 3),
            Column("nats/char", [bound(entry.facts) for entry in entries]),
        ],
        width,
    )
    printed = rows[:1]
    for row, entry in zip(rows[1:], entries, strict=True):
        printed.append(row)
        if text := visible_line(entry.facts.problem or entry.facts.text) or _of_classes(entry):
            printed.append(_shortened(_INDENT + text, width))
    return printed


def vocabulary(facts: Facts) -> str:
    """The size and kind of a vocabulary: 65 characters, 4,096 BPE; characters are counted without the mask."""
    if facts.vocabulary is None:
        return _NONE
    count = facts.vocabulary - (facts.tokenizer == "characters")
    return f"{count:,} {facts.tokenizer}".rstrip()


def bound(facts: Facts) -> str:
    """The bound with the half width of its interval: 1.667 ±0.010."""
    if facts.bound is None:
        return _NONE
    half = f" ±{(facts.interval[1] - facts.interval[0]) / 2:.3f}" if facts.interval else ""
    return f"{facts.bound:.3f}{half}"


def data(entry: Entry) -> dict[str, Any]:
    """An entry as `--json` prints it."""
    facts = dataclasses.asdict(entry.facts)
    del facts["problem"]
    return {
        "name": entry.name,
        "kind": entry.kind,
        "default": entry.default,
        "folder": str(entry.folder),
        "models": entry.models,
        "earlier": list(entry.earlier),
        **facts,
        "problem": entry.facts.problem or None,
    }


def _of_classes(entry: Entry) -> str:
    return f"one model for each of {entry.models} classes" if entry.models > 1 else ""


def _count(number: int | None) -> str:
    if number is None:
        return _NONE
    for unit, name in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= unit:
            return f"{number / unit:.{2 if number < 10 * unit else 1 if number < 100 * unit else 0}f}{name}"
    return str(number)


def _whole(number: int | None) -> str:
    return _NONE if number is None else f"{number:,}"


def _shortened(text: str, width: int) -> str:
    return text if cell_len(text) <= width else set_cell_size(text, max(0, width - 1)).rstrip() + "…"
