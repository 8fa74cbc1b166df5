"""Batches that do not fit into the memory of the device: they are done in parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from tdiff.core import devices
from tdiff.errors import OutOfMemory, is_out_of_memory

R = TypeVar("R")
T = TypeVar("T")


def ran_out(work: Callable[[], object], device: str) -> bool:
    """Do `work`. Returns whether it ran out of memory; the memory that it had allocated is free then."""
    try:
        work()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    else:
        return False
    # After the handler, since its error holds the frames that hold the tensors.
    devices.release_memory(device)
    return True


def _append(results: list[T], work: Callable[[Sequence[R]], T], portion: Sequence[R]) -> None:
    results.append(work(portion))


@dataclass(slots=True)
class Portions:
    """Does the rows of batches in portions that fit into the memory of the device: all at once, or in halves."""

    device: str
    """cpu, cuda or mps."""
    row: str
    """What a row is, such as "a text of 256 tokens"."""
    rows: str = "rows"
    """What several of them are."""
    say: Callable[[str], None] = lambda text: None
    """Prints a message to the user."""
    most: int = 0
    """The positions that fit at once, as far as it is known; 0: no batch was too large yet."""

    def __call__(
        self, rows: Sequence[R], work: Callable[[Sequence[R]], T], at_once: int = 0, row_length: int = 1
    ) -> Iterator[T]:
        """Yield what `work` returns for each portion of `rows`, in their order; of at most `at_once` if that is not 0.

        `row_length` is the number of positions of each row, at least 1. A caller whose rows are all of one length may
        leave it out. Raises OutOfMemory if a single row does not fit.
        """
        limit = min(len(rows), at_once or len(rows))
        fitting = min(limit, max(1, self.most // row_length)) if self.most else limit
        done, size = 0, fitting
        while done < len(rows):
            portion, results = rows[done : done + size], list[T]()
            if ran_out(partial(_append, results, work, portion), self.device):
                if len(portion) == 1:
                    raise OutOfMemory(
                        f"out of memory on {self.device}: {self.row} does not fit; free memory, or use another --device"
                    )
                size = len(portion) // 2
                continue
            if size < fitting:
                self.say(f"out of memory on {self.device}: {limit:,} {self.rows} at once do not fit, {size:,} do")
                self.most, fitting = size * row_length, size
            yield results[0]
            done += len(portion)
