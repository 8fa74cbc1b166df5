"""The state of one generation, computed line by line from its trace, for everything that draws one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import assert_never

from tdiff.protocol.trace import TraceEnd, TraceHeader, TraceLine, TraceStep
from tdiff.visible import visible

MASKED = -1.0
"""Confidence of a masked position."""
GIVEN = 2.0
"""Confidence of a position of the prompt."""


@dataclass(slots=True)
class Canvas:
    """The text and the confidence of each position, and the counters of the status line."""

    texts: list[str]
    """The text of each position, safe to print; "" if masked."""
    confidence: list[float]
    """Confidence at which each position was unmasked; MASKED if masked, above 1 for the prompt."""
    fresh: set[int]
    """Positions that the last step unmasked."""
    maskable: int
    """Number of positions outside the prompt."""
    left: int
    """Number of masked positions."""
    index: int = 0
    """Number of the last step."""
    calls: int = 0
    """Model calls so far."""
    total: float = 0.0
    """Sum of the confidence of the unmasked positions."""
    remasked: set[int] = field(default_factory=set)
    """Positions that the last step remasked."""

    @classmethod
    def begin(cls, header: TraceHeader) -> Canvas:
        """The canvas before the first step."""
        texts, confidence = [""] * header.cells, [MASKED] * header.cells
        for position, text, _ in header.given:
            texts[position], confidence[position] = visible(text), GIVEN
        masked = header.cells - len(header.given)
        return cls(texts, confidence, set(), masked, masked)

    def apply(self, line: TraceLine) -> None:
        """Update the canvas with the next line of the trace."""
        match line:
            case TraceHeader():
                pass  # `begin` has read it
            case TraceStep():
                self._step(line)
            case TraceEnd():
                self.calls = line.model_calls
                self.fresh.clear()
                self.remasked.clear()
            case _:
                assert_never(line)

    def _step(self, line: TraceStep) -> None:
        self.index, self.calls = line.index, line.calls
        self.fresh.clear()
        self.remasked.clear()
        for position, text, _, confidence, event in line.cells:
            if self.confidence[position] != MASKED:
                self.total -= self.confidence[position]
                self.left += 1
            if event == "commit":
                self.texts[position], self.confidence[position] = visible(text), confidence
                self.fresh.add(position)
                self.remasked.discard(position)
                self.total += confidence
                self.left -= 1
            else:
                self.texts[position], self.confidence[position] = "", MASKED
                self.fresh.discard(position)
                self.remasked.add(position)

    @property
    def revealed(self) -> float:
        """Share of the positions outside the prompt that are unmasked, 0..1."""
        return 1.0 - self.left / self.maskable if self.maskable else 1.0

    @property
    def mean_confidence(self) -> float:
        """Mean confidence of the unmasked positions; 0 before the first."""
        unmasked = self.maskable - self.left
        return self.total / unmasked if unmasked else 0.0
