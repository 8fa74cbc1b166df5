"""A step that does not fit into the memory of the device: how many rows would, and what the user can do."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tdiff.core import devices
from tdiff.core.diffusion.objective import Loss
from tdiff.core.memory import ran_out
from tdiff.core.training.distributed import World
from tdiff.core.training.state import TrainState
from tdiff.errors import OutOfMemory

_PATIENCE = 30.0
"""Seconds after which no further number of rows is tried."""
_WHOLE = 0.875
"""The part of the rows that fit in a trial with which a whole step fits."""
_MARGIN = 0.7
"""The part of a CPU's free memory that a step may plan for. A system that lends more memory than it has ends a process
that uses it, so larger steps are not tried there."""


@dataclass(frozen=True, slots=True)
class _FirstRows(World):
    """One process that has the first rows of a step."""

    count: int = 1

    def rows(self, count: int, passes: int = 1) -> Sequence[int]:
        """The numbers of these rows."""
        return range(self.count)


def update(state: TrainState, spent: float) -> tuple[list[Loss], Tensor]:
    """Take a step; see `TrainState.update`. Raises OutOfMemory with the number of rows that would fit."""
    results: list[tuple[list[Loss], Tensor]] = []
    if ran_out(lambda: results.append(state.update(spent)), state.device):
        raise _explained(state)
    return results[0]


def _explained(state: TrainState) -> OutOfMemory:
    """The error for a step that does not fit. The state cannot be trained any further."""
    options, size = state.settings.train, state.world.size
    rows = len(state.world.rows(state.data.step_rows, state.passes)) // state.passes
    fits, tried = _rows_that_fit(state, rows)
    asked = f"train.batch_size {options.batch_size:,}" + (f" in {size} processes" if size > 1 else "")
    if not fits:
        further = ", train.checkpointing" if options.init and not options.checkpointing else ""
        further += ", --fsdp in several processes" if options.init and not options.fsdp else ""
        return OutOfMemory(
            f"out of memory on {state.device}: a step of {asked} does not fit, nor does one of a single row: use a "
            f"smaller model or model.window{further}, or another --device"
        )
    parts = next(n for n in range(2, options.batch_size + 1) if _fits_in(n, options.batch_size, fits * size))
    smaller, accumulate = options.batch_size // parts, options.accumulate * parts
    about = "about" if tried else "perhaps"
    return OutOfMemory(
        f"out of memory on {state.device}: a step of {asked} does not fit, {about} {_rounded(fits * size):,} would",
        f"--batch-size {smaller} --accumulate {accumulate}",
    )


def _rounded(number: int) -> int:
    """The number with two digits, rounded down."""
    unit: int = 10 ** max(0, len(str(number)) - 2)
    return number // unit * unit


def _fits_in(parts: int, batch_size: int, most: int) -> bool:
    """Whether the batch divides into so many equal parts of at most `most` rows."""
    return batch_size % parts == 0 and batch_size // parts <= most


def _rows_that_fit(state: TrainState, rows: int) -> tuple[int, bool]:
    """The number of rows, below `rows`, of a pass that fits, 0 if none does; and whether it was tried.

    Gradients are computed and thrown away; of several processes this one does it alone.
    """
    if not state.replica.whole:  # a pass requires all processes
        return rows // 2, False
    deadline = time.monotonic() + _PATIENCE
    state.network.zero_grad(set_to_none=True)
    if state.compiled:  # or each number of rows would be compiled
        state.network.wrap_trunk(None)
    state.passes = 1
    rest: list[Tensor] = []

    def backward(count: int) -> None:
        state.world = _FirstRows(count=count)
        try:
            state.backward(state.step)
        finally:
            state.network.zero_grad(set_to_none=True)

    def reserve() -> None:  # what AdamW has from its first step on
        if not state.optimizers[0].state:
            rest.extend(torch.empty_like(weight) for weight in (*state.weights, *state.weights))

    def fits(count: int) -> bool:
        return not ran_out(lambda: backward(count), state.device)

    if rows < 2 or ran_out(reserve, state.device) or not fits(1):
        return 0, True
    most, too_many = rows // 2, rows
    if state.device == "cpu" and (free := devices.free_memory()) is not None:
        started = time.monotonic()
        bytes_of_row = max(1, _saved_bytes(lambda: backward(2)) - _saved_bytes(lambda: backward(1)))
        if (planned := max(1, int(_MARGIN * free / bytes_of_row))) < most:
            most, too_many = planned, planned + 1
        if (time.monotonic() - started) / 3 * most > _PATIENCE:
            return most, False
    # A single pass has been tried; after several ones the free memory is in pieces.
    return max(1, int(_WHOLE * largest(fits, most, too_many, deadline))), True


def largest(fits: Callable[[int], bool], first: int, too_many: int, deadline: float) -> int:
    """The largest number with which `fits`, to an eighth of it; 1 is known to fit and `too_many` not to.

    `first` is tried first. After the `deadline` (of the monotonic clock) only smaller numbers are tried.
    """
    low, high = first, too_many
    while low > 1 and not fits(low):
        low, high = low // 2, low
    while high - low > max(1, low // 8) and time.monotonic() < deadline:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _saved_bytes(work: Callable[[], None]) -> int:
    """The memory of all tensors that `work` retains for its gradients."""
    sizes: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        work()
    return sum(sizes.values())
