"""What one line of a log says: named numbers, a progress bar, and what is known of the line itself."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Bar:
    """A progress bar of tqdm."""

    label: str
    n: int
    total: int | None
    elapsed: float
    """Seconds."""
    left: float | None
    """Seconds."""


@dataclass(slots=True)
class Fields:
    """What a line says."""

    values: dict[str, float] = field(default_factory=dict)
    """Name -> number, which may be not finite."""
    totals: dict[str, float] = field(default_factory=dict)
    """Name -> the number after `/` or `of`."""
    split: str = ""
    """`train` or `eval` where a word without a number says it (`Validation | loss 0.7`)."""
    time: float | None = None
    """Seconds since 1970 by the line's own clock."""
    rank: int | None = None
    bar: Bar | None = None
    progress: tuple[float, float] | None = None
    """(n, total) without a name, as Keras writes it before a bar."""
    structured: bool = False
    """The values come from a dictionary or an object of JSON."""
    text: str = ""
    """The line without colours."""
    unread: tuple[str, ...] = ()
    """Words before numbers that are no values, since no sign says so (`acc 0.5`)."""
