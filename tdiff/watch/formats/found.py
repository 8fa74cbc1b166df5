"""What has been found on a line of text while it is read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from tdiff.watch.formats.fields import Bar


class Span(NamedTuple):
    """A part of a line and what it is for, so that the next line of the same shape is read by one pattern."""

    start: int
    end: int
    target: str
    """`value`, `total`, `time`, `rank`, `progress`, or a field of `Bar` after `bar_`."""
    name: str = ""
    factor: float = 1.0
    comma: bool = False
    """Its comma is a decimal sign."""


@dataclass(slots=True)
class Found:
    """What has been found on a line so far."""

    values: dict[str, float] = field(default_factory=dict)
    totals: dict[str, float] = field(default_factory=dict)
    spans: list[Span] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    """Names of numbers that are no values, since no sign says so."""
    split: str = ""
    time: float | None = None
    rank: int | None = None
    bar: Bar | None = None
    progress: tuple[float, float] | None = None
    uncertain: bool = False
    """A comma may be a decimal sign or not: the next line of this shape may tell."""
