"""What processes that train one model together must agree on. One process trains today, so each answer is trivial.

Every process has the whole network and draws its own rows of each step. Losses are divided by the tokens of the whole
step (`World.total`), so gradients add up over the processes (`World.add_gradients`) and all take the same step. The
clock and a signal are different in every process: where a decision depends on one, the first process decides
(`World.agreed`). It alone evaluates, writes samples and saves, and the others wait for it at the next sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class World:
    """The processes that train together, as one of them sees them."""

    rank: int = 0
    """The number of this process, 0..size-1."""
    size: int = 1
    """How many processes there are."""

    @property
    def leads(self) -> bool:
        """Whether this process writes to disk and evaluates."""
        return self.rank == 0

    def rows(self, count: int) -> range:
        """The rows of this process, of a step of `count` rows."""
        return range(self.rank * count // self.size, (self.rank + 1) * count // self.size)

    def total(self, values: Tensor) -> Tensor:
        """The sum of `values` (any shape) over all processes."""
        return values

    def add_gradients(self, weights: Sequence[Tensor]) -> None:
        """Replace the gradient of each weight by its sum over all processes."""

    def agreed(self, value: T) -> T:
        """The `value` that the first process has."""
        return value

    def barrier(self) -> None:
        """Wait until all processes are here."""
