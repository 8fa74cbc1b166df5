"""Work that several processes share: each does a part, and all get the results of all."""

from __future__ import annotations

from typing import Protocol, TypeVar

from torch import Tensor

T = TypeVar("T")


class Shared(Protocol):
    """The processes that share work, as one of them sees them; `training.distributed.World` is one."""

    @property
    def rank(self) -> int:
        """The number of this process, 0..size-1."""
        ...

    @property
    def size(self) -> int:
        """How many processes there are."""
        ...

    def total(self, values: Tensor) -> Tensor:
        """Return the sum of `values` (any shape) over all processes."""
        ...

    def collect(self, value: T) -> list[T]:
        """Return the values of all processes, in their order; they can be pickled."""
        ...


def is_own(number: int, shared: Shared | None) -> bool:
    """Whether this process does the piece of work of that number."""
    return shared is None or number % shared.size == shared.rank
