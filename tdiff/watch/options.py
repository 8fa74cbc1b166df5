"""The options of `tdiff watch`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the user requested."""

    targets: Sequence[str] = ()
    model: str | None = None
    others: Sequence[str] = ()
    """Further models that generate side by side with it."""
    prompt: str | None = None
    classify: Sequence[str] = ()
    """Texts to classify; nothing else is shown then."""
    length: int = 0
    seed: int | None = None
    device: str = "auto"
    decoding: dict[str, Any] = field(default_factory=dict)
    """Fields of DecodeSettings that the user set."""
    every: float = 5.0
    once: bool = False
    as_json: bool = False
    doctor: bool = False
    mouse: bool = True
    color: str = ""
    glyphs: str = ""
    palette: str = ""
    theme: str = ""
