"""The processes that torchrun started, over torch.distributed.

Counts, decisions and errors are exchanged on the CPU through gloo; gradients through nccl where they are on CUDA. All
sums have the same bits in every process, so all processes have the same weights without ever sending them.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, NoReturn, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import PrefixStore, rendezvous  # type: ignore[attr-defined]  # listed as private by its stubs

from tdiff import ranks
from tdiff.core.training.distributed import World
from tdiff.core.training.lifeline import Lifeline
from tdiff.errors import TdiffError, is_out_of_memory, out_of_memory_text
from tdiff.files import CannotWrite

T = TypeVar("T")
_FAILED = 1
_KINDS: dict[str, Callable[[str], Exception]] = {
    "input": TdiffError,
    "write": CannotWrite.elsewhere,
    "machine": OSError,
}
"""What an error of another process is raised as, with its text: it is one that the user can mend, a file that could not
be written, or another failure."""
_MEET = timedelta(minutes=5)
"""How long the processes wait for one another at the start."""
_FOREVER = timedelta(days=30)
"""How long they wait for the first one, which may evaluate for hours; a lost process is found by `Lifeline`."""


@dataclass(frozen=True)
class Processes(World):
    """One process of several, in the default group of torch.distributed."""

    lifeline: Lifeline | None = None
    buffers: dict[tuple[int, int], Tensor] = field(default_factory=dict)
    """The gradients of all weights in a row, by the numbers of their elements and of the weights."""
    shared: list[Exception] = field(default_factory=list)
    """The errors so far that each process has raised, its own or that of another one."""

    def check_device(self, device: str) -> None:
        """Raise TdiffError if this process has no GPU of its own."""
        if device == "cuda" and ranks.local_rank() >= (count := torch.cuda.device_count()):
            raise TdiffError(
                f"this machine has {count} CUDA GPU{'s' * (count != 1)}, and process {ranks.local_rank()} has none: "
                f"use torchrun --nproc-per-node {count}, or --device cpu"
            )

    def total(self, values: Tensor) -> Tensor:
        """The sum of `values` (any shape) over all processes."""
        summed = values.detach().cpu().clone()
        with self._reaching():
            dist.all_reduce(summed)
        return summed.to(values.device)

    def gather(self, values: Tensor) -> Tensor:
        """The `values` (any shape, int64, on the CPU) of each process, along a new first dimension."""
        gathered = [torch.empty_like(values) for _ in range(self.size)]
        with self._reaching():
            dist.all_gather(gathered, values)
        return torch.stack(gathered)

    def collect(self, value: T) -> list[T]:
        """The values of all processes, in their order; they can be pickled."""
        gathered: list[Any] = [None] * self.size
        with self._reaching():
            dist.all_gather_object(gathered, value)
        return gathered

    def add_gradients(self, weights: Sequence[Tensor]) -> None:
        """Replace the gradient of each weight by its sum over all processes, in one exchange.

        A weight without a gradient in all of them stays without; which ones those are travels behind the gradients.
        """
        numbers, device = sum(weight.numel() for weight in weights), weights[0].device
        if (flat := self.buffers.get((numbers, len(weights)))) is None:
            flat = self.buffers[numbers, len(weights)] = torch.empty(numbers + len(weights), device=device)
        parts = torch.split(flat[:numbers], [weight.numel() for weight in weights])
        gradients = [part.view_as(weight) for part, weight in zip(parts, weights, strict=True)]
        present, absent = list[tuple[int, Tensor, Tensor]](), list[tuple[int, Tensor, Tensor]]()
        for n, (weight, gradient) in enumerate(zip(weights, gradients, strict=True)):
            (present if weight.grad is not None else absent).append((n, weight, gradient))
        flat[numbers:] = 1.0
        if absent:
            torch._foreach_zero_([gradient for _, _, gradient in absent])
            flat[numbers + torch.tensor([n for n, _, _ in absent], device=device)] = 0.0
        torch._foreach_copy_(
            [gradient for _, _, gradient in present],
            [weight.grad for _, weight, _ in present if weight.grad is not None],
        )
        with self._reaching():
            if device.type in ("cpu", "cuda"):
                dist.all_reduce(flat)
            else:  # gloo has no sums on other devices
                on_host = flat.cpu()
                dist.all_reduce(on_host)
                flat.copy_(on_host)
        # Only a weight without a gradient here has the device waited for.
        elsewhere = flat[numbers:].tolist() if absent else []
        for _, weight, gradient in present:
            weight.grad = gradient
        for n, weight, gradient in absent:
            if elsewhere[n]:
                weight.grad = gradient

    def agreed(self, value: T) -> T:
        """The `value` that the first process has: a number, a text or None."""
        with self._reaching():
            if isinstance(value, (bool, float)):  # of each step: a third of the time of an object
                number = torch.tensor(float(value), dtype=torch.float64)
                dist.broadcast(number, 0)
                return type(value)(number.item())
            values: list[Any] = [value]
            dist.broadcast_object_list(values, 0)
        first: T = values[0]
        return first

    def any(self, value: bool) -> bool:
        """Whether `value` is true in at least one process."""
        return bool(self.total(torch.tensor(float(value))))

    def barrier(self) -> None:
        """Wait until all processes are here."""
        self.total(torch.zeros(()))

    def together(self) -> AbstractContextManager[None]:
        """Leave the block once all processes have; an error in any of them is raised in all.

        Within the block `in_turn` alone may exchange anything: a process that has failed does not take part in more.
        """
        return self._together()

    @contextmanager
    def _together(self) -> Iterator[None]:
        before = len(self.shared)
        try:
            yield
        except Exception as error:
            # One of an earlier block may be the context of this error, of which the others do not know.
            if not _is_among(error, self.shared[before:]):
                self._raise_in_all(error)
            raise
        self._raise_in_all(None)

    def in_turn(self) -> AbstractContextManager[None]:
        """Enter the block once the first process has left it, so that it alone fills a cache.

        An error that any process has had until then is raised in all, in those that wait before they enter.
        """
        return self._in_turn()

    @contextmanager
    def _in_turn(self) -> Iterator[None]:
        if not self.leads:
            self._raise_in_all(None)
            yield
            return
        try:
            yield
        except Exception as error:
            self._raise_in_all(error)
        self._raise_in_all(None)

    def failure(self, error: Exception | None) -> Exception | None:
        """See `World.failure`."""
        for rank, other in enumerate(self.collect(None if error is None else _described(error))):
            if error is None and other is not None:
                text, kind = other
                error = _KINDS[kind](f"process {rank} on {self.lifeline.host(rank) if self.lifeline else '?'}: {text}")
        if error is not None:
            self.shared.append(error)
        return error

    def _raise_in_all(self, error: Exception | None) -> None:
        """Raise the `error` of this process or, if it has none, that of another one. All processes call this at once.

        It is the only exchange within `together`, so a process that failed meets the others wherever they are in it.
        """
        if (failure := self.failure(error)) is not None:
            raise failure

    def watch(self, if_lost: str) -> None:
        """From now on, end this process if another one is lost; `if_lost` says what that means."""
        if self.lifeline is not None:
            self.lifeline.if_lost = if_lost
            self.lifeline.watch()

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        """Turn the failure to reach another process into one line, of one process."""
        try:
            yield
        except RuntimeError as error:  # DistBackendError and DistNetworkError are RuntimeErrors, as are those of gloo
            self.lost(error)

    def lost(self, error: RuntimeError) -> NoReturn:
        """End this process after an exchange that failed with `error`, with one line of one process."""
        if self.lifeline is None:
            raise error
        if text := self.lifeline.report(str(error)):
            raise ConnectionError(text) from None
        sys.stderr.flush()
        os._exit(_FAILED)  # another process reports it


_joined: list[Processes] = []


def join(if_lost: str = "") -> World:
    """The processes that torchrun started with this one; without torchrun, this one alone.

    `if_lost` says what the loss of a process means for the command, for the line about it.

    Raises TdiffError if they cannot reach one another.
    """
    if ranks.size() == 1:
        return World()
    if not _joined:
        _joined.append(_connect())
    if if_lost and (lifeline := _joined[0].lifeline) is not None:
        lifeline.if_lost = if_lost
    return _joined[0]


def _connect() -> Processes:
    rank, size = ranks.rank(), ranks.size()
    cuda = torch.cuda.is_available()
    if cuda and ranks.local_rank() < torch.cuda.device_count():
        torch.cuda.set_device(ranks.local_rank())
    address, port = os.environ.get("MASTER_ADDR", ""), os.environ.get("MASTER_PORT", "")
    if not address or not port.isdecimal():
        raise TdiffError(
            f"RANK and WORLD_SIZE name {size} processes, but MASTER_ADDR and MASTER_PORT are not set: start them with "
            f"torchrun --nproc-per-node {size} -m -- tdiff ..."
        )
    try:
        store, _, _ = next(rendezvous("env://", timeout=_MEET))
        lifeline = Lifeline(store, rank, size, platform.node())
        lifeline.meet(_MEET)
        backend = "cpu:gloo,cuda:nccl" if cuda and dist.is_nccl_available() else "gloo"
        dist.init_process_group(
            backend, store=PrefixStore("tdiff", store), rank=rank, world_size=size, timeout=_FOREVER
        )
        dist.all_reduce(torch.zeros(()))  # gloo connects the processes at the first exchange
    except (RuntimeError, ValueError) as error:  # DistNetworkError and DistStoreError are RuntimeErrors
        raise TdiffError(_unreachable(str(error), address, port)) from None
    return Processes(rank, size, lifeline)


def raised_in_all(error: BaseException) -> bool:
    """Whether each process has raised this error, or the one that it replaces: the first of them prints it."""
    return bool(_joined) and _is_among(error, _joined[0].shared)


def _is_among(error: BaseException | None, errors: Sequence[Exception]) -> bool:
    """Whether the error, or one that it replaces, is one of the others."""
    while error is not None:
        if any(error is other for other in errors):
            return True
        error = error.__cause__ or error.__context__
    return False


def _described(error: Exception) -> tuple[str, str]:
    """The text of an error for the other processes, and which of `_KINDS` it is."""
    if is_out_of_memory(error):
        return out_of_memory_text(error), "input"
    kind = "input" if isinstance(error, TdiffError) else "write" if isinstance(error, CannotWrite) else "machine"
    return str(error) or type(error).__name__, kind


def fails_first() -> bool:
    """Whether no other process has failed by itself before this one, which then prints its error."""
    lifeline = _joined[0].lifeline if _joined else None
    return lifeline is None or lifeline.fail_first()


def leave() -> None:
    """End the group, once all processes have finished."""
    if _joined:
        processes = _joined.pop()
        if processes.lifeline is not None:
            processes.lifeline.leave()
        dist.destroy_process_group()


def _unreachable(error: str, address: str, port: str) -> str:
    """The line for processes that do not meet."""
    where = f"{address}:{port}"
    if "EADDRINUSE" in error or "address already in use" in error.lower():
        return f"port {port} of {address} is in use: choose another one with torchrun --master-port, or --standalone"
    first = error.strip().partition("\n")[0][:200]
    return f"the processes cannot reach one another at {where}: {first}; GLOO_SOCKET_IFNAME names the network to use"
