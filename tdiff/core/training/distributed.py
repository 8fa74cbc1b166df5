"""What processes that train one model together must agree on. For one process each answer is trivial.

Every process has the whole network and draws its own rows of each step. Losses are divided by the tokens of the whole
step (`World.total`), so gradients add up over the processes (`World.add_gradients`) and all take the same step. The
clock and a signal are different in every process: where a decision depends on the clock, the first process decides
(`World.agreed`), and a signal in any of them counts (`World.any`). The first alone evaluates, writes samples and saves,
and the others wait for it at the next sum.

`processes.join` has the processes that torchrun started.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import NoReturn, TypeVar

from torch import Tensor

from tdiff.errors import TdiffError

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

    def passes(self, batch_size: int, accumulate: int, resumed: str = "") -> int:
        """The forward passes of this process for a step of `accumulate` batches, of at most `batch_size` rows over all
        processes.

        Raises TdiffError if the rows of the step do not divide among the processes; `resumed` names a run that is
        resumed, whose rows cannot change.
        """
        rows = batch_size * accumulate
        if rows % self.size:
            raise TdiffError(_indivisible(batch_size, accumulate, self.size, resumed))
        own, at_once = rows // self.size, -(-batch_size // self.size)
        return next(passes for passes in range(1, own + 1) if own % passes == 0 and own // passes <= at_once)

    def check_device(self, device: str) -> None:
        """Raise TdiffError if this process has no `device` of its own."""

    def rows(self, count: int, passes: int = 1) -> Sequence[int]:
        """The rows of this process, of a step of `count` rows: its part of the rows of each pass, in their order."""
        of_pass, own = count // passes, []
        if passes == 1 or self.size == 1:
            return range(self.rank * count // self.size, (self.rank + 1) * count // self.size)
        for first in range(0, count, of_pass):
            own += [first + self.rank * of_pass // self.size + n for n in range(of_pass // self.size)]
        return own

    def total(self, values: Tensor) -> Tensor:
        """The sum of `values` (any shape) over all processes."""
        return values

    def gather(self, values: Tensor) -> Tensor:
        """The `values` (any shape, int64, on the CPU) of each process, along a new first dimension."""
        return values[None]

    def collect(self, value: T) -> list[T]:
        """The values of all processes, in their order; they can be pickled."""
        return [value]

    def add_gradients(self, weights: Sequence[Tensor]) -> None:
        """Replace the gradient of each weight by its sum over all processes."""

    def agreed(self, value: T) -> T:
        """The `value` that the first process has."""
        return value

    def any(self, value: bool) -> bool:
        """Whether `value` is true in at least one process."""
        return value

    def barrier(self) -> None:
        """Wait until all processes are here."""

    def together(self) -> AbstractContextManager[None]:
        """Leave the block once all processes have; an error in any of them is raised in all.

        Within the block `in_turn` alone may exchange anything: a process that has failed does not take part in more.
        """
        return nullcontext()

    def in_turn(self) -> AbstractContextManager[None]:
        """Enter the block once the first process has left it, so that it alone fills a cache.

        An error that any process has had until then is raised in all, in those that wait before they enter.
        """
        return nullcontext()

    def failure(self, error: Exception | None) -> Exception | None:
        """The `error` of this process or, if it has none, that of another one; None if none has any.

        All processes call this at once, and raise what they get.
        """
        return error

    def lost(self, error: RuntimeError) -> NoReturn:
        """End this process after an exchange that failed with `error`."""
        raise error

    def watch(self, if_lost: str) -> None:
        """From now on, end this process if another one is lost; `if_lost` says what that means."""


def _indivisible(batch_size: int, accumulate: int, size: int, resumed: str) -> str:
    """The error for rows that do not divide among the processes, with the nearest numbers that do."""
    rows, what = batch_size * accumulate, f"train.batch_size {batch_size:,}"
    fewer = max(n for n in range(1, size) if rows % n == 0)
    fewer_processes = f"{fewer} process{'es' * (fewer != 1)}"
    if resumed:
        more = next((n for n in range(size, rows + 1) if rows % n == 0), 0)
        return (
            f"a step of run {resumed!r} has {rows:,} rows, also after a resume, which do not divide by {size} "
            f"processes: use {f'{fewer} or {more} processes' if more else fewer_processes}"
        )
    if accumulate > 1:
        what += f" x train.accumulate {accumulate:,} = {rows:,} rows"
    lower, upper = batch_size // size * size, -(-batch_size // size) * size
    sizes = f"{lower:,} or {upper:,}" if lower else f"{upper:,}"
    rule = f"{size} processes require at least {size} rows" if rows < size else f"does not divide by {size} processes"
    joint = ": " if rows < size else " "
    return f"{what}{joint}{rule}; use a train.batch_size of {sizes}, or {fewer_processes}"
