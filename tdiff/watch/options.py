"""What the user asked `tdiff watch` for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the user asked for."""

    targets: Sequence[str] = ()
    model: str | None = None
    others: Sequence[str] = ()
    """Models that write beside it."""
    prompt: str | None = None
    classify: Sequence[str] = ()
    """Texts whose classes are to race, in place of all else."""
    length: int = 0
    seed: int | None = None
    device: str = "auto"
    decoding: dict[str, Any] = field(default_factory=dict)
    """Fields of DecodeSettings that were given."""
    every: float = 5.0
    once: bool = False
    as_json: bool = False
    doctor: bool = False
    mouse: bool = True
    color: str = ""
    glyphs: str = ""
    palette: str = ""
    theme: str = ""
