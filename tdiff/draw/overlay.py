"""What is drawn over a canvas: drafts at masked positions, another meaning of the colours, a cursor, a selection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

MODES = ("confidence", "entropy", "margin", "step", "rank")
"""What the colours of positions can mean."""


@dataclass(frozen=True, slots=True)
class Overlay:
    """An overlay; without arguments it changes nothing."""

    values: Sequence[float | None] | None = None
    """For each position what its colour shows, 0..1 from low to high; None: it has no colour. The default is the
    confidence."""
    drafts: Mapping[int, str] = field(default_factory=dict)
    """The text of the draft at masked positions, on one line and not empty."""
    cursor: int | None = None
    """The position of the cursor."""
    selected: frozenset[int] = frozenset()
    """The selected positions."""
    differing: int | None = None
    """The first position at which the canvas differs from the one beside it."""

    @property
    def marked(self) -> set[int]:
        """Positions that are drawn in another way than others with their text and value."""
        marked = set(self.selected)
        marked.update(n for n in (self.cursor, self.differing) if n is not None)
        return marked

    def changed(self, before: Overlay) -> set[int]:
        """The positions that may look different from `before`."""
        if self is before:
            return set()
        changed = self.marked ^ before.marked
        changed.update(n for n in (self.cursor, before.cursor, self.differing, before.differing) if n is not None)
        mine, old = self.values, before.values
        if mine is not None and old is not None and len(mine) == len(old):
            changed.update(n for n, (a, b) in enumerate(zip(mine, old, strict=True)) if a != b)
        changed.update(
            n for n in self.drafts.keys() | before.drafts.keys() if self.drafts.get(n) != before.drafts.get(n)
        )
        return changed

    def same_kind(self, other: Overlay) -> bool:
        """Whether only the positions of `changed` differ from the other overlay."""
        return (self.values is None) == (other.values is None) and bool(self.drafts) == bool(other.drafts)


NOTHING = Overlay()
"""Draws the canvas as it is."""


def draft_text(text: str, ascii: bool) -> str:
    """The text of a draft on one line: blanks and line feeds must be seen, and must not move the text around them."""
    if not text:
        return "?" if ascii else "·"
    if not text.strip(" "):
        return ("." if ascii else "·") * len(text)
    return text.replace("\n", "\\" if ascii else "↵").replace("\t", " ")
