"""The state of one generation as its trace tells it: a fold over the lines, for every surface that draws one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import assert_never

from tdiff.protocol.trace import TraceEnd, TraceHeader, TraceLine, TraceStep
from tdiff.visible import visible

MASKED = -1.0
"""Confidence of a place that is masked."""
GIVEN = 2.0
"""Confidence of a place that was given."""


@dataclass(slots=True)
class Canvas:
    """Places, what stands in them, and the counters of the status line."""

    texts: list[str]
    """What stands in each place, safe to print; "" where masked."""
    confidence: list[float]
    """c when the place was revealed; MASKED where masked, above 1 where it was given."""
    fresh: set[int]
    """Places revealed by the last step."""
    maskable: int
    """Places that were not given."""
    left: int
    """Places masked."""
    index: int = 0
    """The last step's number."""
    calls: int = 0
    """Model calls so far."""
    total: float = 0.0
    """Sum of the confidence of the revealed places."""
    remasked: set[int] = field(default_factory=set)
    """Places that the last step put back to mask."""

    @classmethod
    def begin(cls, header: TraceHeader) -> Canvas:
        """The canvas before the first step."""
        texts, confidence = [""] * header.cells, [MASKED] * header.cells
        for place, text, _ in header.given:
            texts[place], confidence[place] = visible(text), GIVEN
        masked = header.cells - len(header.given)
        return cls(texts, confidence, set(), masked, masked)

    def apply(self, line: TraceLine) -> None:
        """Take in the next line of the trace."""
        match line:
            case TraceHeader():
                pass  # a canvas begins with it
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
        for place, text, _, confidence, what in line.cells:
            if self.confidence[place] != MASKED:
                self.total -= self.confidence[place]
                self.left += 1
            if what == "commit":
                self.texts[place], self.confidence[place] = visible(text), confidence
                self.fresh.add(place)
                self.remasked.discard(place)
                self.total += confidence
                self.left -= 1
            else:
                self.texts[place], self.confidence[place] = "", MASKED
                self.fresh.discard(place)
                self.remasked.add(place)

    @property
    def revealed(self) -> float:
        """Share of the maskable places that are revealed, 0..1."""
        return 1.0 - self.left / self.maskable if self.maskable else 1.0

    @property
    def mean_confidence(self) -> float:
        """Of the revealed places; 0 before the first."""
        shown = self.maskable - self.left
        return self.total / shown if shown else 0.0
