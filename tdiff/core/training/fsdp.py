"""Weights that are divided among the processes: FSDP2 of torch, for models that do not fit on one device.

`fully_shard` gathers the weights of a block before its computation and adds up their gradients after it. Each process
retains a part of every weight, along its first dimension, and with it the same part of the gradient, of the running
average and of AdamW's moments. The optimizer, clipping and the average see these parts as plain tensors.

Evaluation, sampling and saving are the first process's work, and require all processes for the weights. Within `led`
the others wait for what it asks of all: a call of the averaged network, the averaged weights as a whole, or that each
saves its part. Any number of processes can resume a saved run; see `saved_state`.
"""

from __future__ import annotations

import copy
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed import DistError
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, Shard

from tdiff.core.models.base import Cache, Inputs, Model, ModelSpec, TrainableModel
from tdiff.core.models.files import checked_weights
from tdiff.core.training import saved_state
from tdiff.core.training.distributed import World
from tdiff.core.training.replica import Replica, load_optimizer
from tdiff.core.training.saved_state import Named
from tdiff.errors import TdiffError
from tdiff.files import sync_folder
from tdiff.runs import wholeness
from tdiff.visible import visible_line

_EXCHANGE = ("gloo", "nccl")
"""Libraries whose plain RuntimeErrors are those of an exchange."""


class Shards(Replica):
    """This process's part of the weights and of their running average."""

    whole = False

    def __init__(self, network: TrainableModel, device: str, world: World) -> None:
        """`network` is on the CPU in all processes; its weights go to `device` a block at a time.

        Raises TdiffError for a device or a model that cannot be divided.
        """
        if device == "mps":
            raise TdiffError("train.fsdp requires GPUs with CUDA, or CPUs: leave it out, or use --device cpu")
        self.world, self.device = world, device
        self._leading = self._swapped = False
        self._failure: Exception | None = None
        """The error of a save, which all processes raise: the first at once, the others when they leave `led`."""
        self._copy = copy.deepcopy(network).requires_grad_(False).eval() if world.leads else None
        """On the CPU of the first process: it receives the averaged weights that are saved."""
        mesh = init_device_mesh(device, (world.size,))
        try:
            for module in (*_blocks(network), network):
                fully_shard(module, mesh=mesh)
        except (ValueError, NotImplementedError) as error:  # such as a weight that is a single number
            reason = str(error).strip().partition("\n")[0]
            raise TdiffError(f"train.fsdp cannot divide this model, leave it out: {visible_line(reason)}") from None
        register_fsdp_forward_method(network, "log_likelihood")
        self.network = network
        self._named: dict[str, DTensor] = {name: _sharded(p) for name, p in network.named_parameters()}
        self._parts = {name: _sharded(parameter.detach()).to_local() for name, parameter in self._named.items()}
        self._average_parts = {name: part.clone() for name, part in self._parts.items()}
        # A weight with fewer rows than there are processes has no part in some of them.
        self._present = [name for name, part in self._parts.items() if part.numel()]
        self.weights = [self._parts[name] for name in self._present]
        self.averages = [self._average_parts[name] for name in self._present]
        self.optimizers = ()
        self.average = _Led(self)

    def matrices(self) -> Sequence[Tensor]:
        """The parts of the matrices, which decay."""
        return [part for name in self._matrix_names() if (part := self._parts[name]).numel()]

    def _matrix_names(self) -> list[str]:
        ids = {id(parameter): name for name, parameter in self._named.items()}
        return [ids[id(parameter)] for parameter in self.network.matrices()]

    def _order(self) -> list[str]:
        """The names of all weights in the order of AdamW's: first those that do not decay."""
        matrices = self._matrix_names()
        return [name for name in self._named if name not in set(matrices)] + matrices

    @contextmanager
    def reducing(self) -> Iterator[None]:
        """The context of the gradients' computation, in which the processes exchange weights and gradients."""
        try:
            yield
        except RuntimeError as error:
            if isinstance(error, DistError) or any(name in str(error).lower() for name in _EXCHANGE):
                self.world.lost(error)
            raise

    def add_gradients(self, world: World) -> None:
        """Give each part of a weight its gradient. FSDP has the mean over the processes, and training their sum."""
        for name, parameter in self._named.items():
            gradient = parameter.grad
            self._parts[name].grad = None if gradient is None else _sharded(gradient).to_local()
            parameter.grad = None
        torch._foreach_mul_([part.grad for part in self.weights if part.grad is not None], world.size)

    def norm(self) -> Tensor:
        """The norm () of the whole gradient."""
        return self.world.total(super().norm() ** 2).sqrt()

    def finite(self) -> bool:
        """Whether all weights are finite numbers in all processes."""
        finite: bool = self.ask("finite")
        return finite

    @contextmanager
    def led(self) -> Iterator[None]:
        """Within the block the first process may use `average`, `averaged` and `save`; the others work with it."""
        if self._leading:
            yield
            return
        self._failure = None
        if not self.world.leads:
            none: tuple[Any, ...] | None = None
            while (request := self.world.agreed(none)) is not None:
                self._do(*request)
            self._do("end")
            if self._failure is not None:
                raise self._failure
            yield
            return
        self._leading = True
        try:
            yield
        finally:
            self._leading = False
            self.world.agreed(None)
            self._do("end")

    def ask(self, what: str, *arguments: Any) -> Any:
        """Have all processes do something: in `led` if the first asks for it, else all ask for it at once."""
        if self._leading:
            self.world.agreed((what, *arguments))
        return self._do(what, *arguments)

    def _do(self, what: str, *arguments: Any) -> Any:
        with self.reducing(), torch.inference_mode(False), torch.no_grad():
            return getattr(self, f"_do_{what}")(*arguments)

    def _do_finite(self) -> bool:
        return not self.world.any(not super().finite())

    def _do_logits(self, inputs: Inputs) -> Tensor:
        self._swap(True)
        values = {field.name: getattr(inputs, field.name) for field in fields(inputs)}
        sent = {name: value.to(self.device, copy=True) for name, value in values.items() if value is not None}
        logits: Tensor = self.network.logits(replace(inputs, **sent))
        self._reshard()
        return logits

    def _do_log_likelihood(self, tokens: Tensor, scored: Tensor) -> Tensor | None:
        self._swap(True)
        sent = (tensor.to(self.device, copy=True) for tensor in (tokens, scored))
        log_p = self.network.log_likelihood(*sent)
        self._reshard()
        return log_p

    def _do_average(self) -> None:
        """Copy the averaged weights to the network on the CPU of the first process, one at a time."""
        copies = dict(self._copy.named_parameters()) if self._copy is not None else {}
        for name, part in (self._parts if self._swapped else self._average_parts).items():
            like = self._named[name]
            shape, stride = like.shape, like.stride()
            sharded = DTensor.from_local(
                part, like.device_mesh, [Shard(0)], run_check=False, shape=shape, stride=stride
            )
            whole = sharded.full_tensor()
            if copies:
                copies[name].copy_(whole)

    def _do_save_part(self, folder: Path) -> None:
        """Write this process's rows of all tensors. An error in any process is then the `_failure` of all."""
        for work in (self._write_part, self._check_parts):
            error: Exception | None = None
            try:
                work(folder)
            except Exception as cause:  # of any kind: the others wait for this process
                error = cause
            self._failure = self.world.failure(error)
            if self._failure is not None:
                shutil.rmtree(folder, ignore_errors=True)  # by each, since they may have different folders
                return

    def _write_part(self, folder: Path) -> None:
        saved_state.write(_part(folder, self.world.rank), self.tensors(), {})

    def _check_parts(self, folder: Path) -> None:
        """Raise TdiffError in the first process if it does not see the parts of all."""
        for number in range(self.world.size) if self.world.leads else ():
            if not (part := _part(folder, number)).is_file():
                raise TdiffError(
                    f"process {number} has written its part of the save, but {part} is not on the machine of "
                    "process 0: all must see the same run folder, such as one on NFS"
                )

    def _do_end(self) -> None:
        self._swap(False)

    def _swap(self, averaged: bool) -> None:
        """Let the network compute with the averaged weights, or with its own again."""
        if self._swapped == averaged:
            return
        self._swapped = averaged
        self.network.train(not averaged)
        for weight, average in zip(self.weights, self.averages, strict=True):
            other = weight.clone()
            weight.copy_(average)
            average.copy_(other)

    def _reshard(self) -> None:
        """Free the gathered weights outside of the blocks, which FSDP retains for a backward pass."""
        assert isinstance(self.network, FSDPModule), "fully_shard has made it one"
        self.network.reshard()

    def averaged(self) -> TrainableModel:
        """The averaged weights as a network on the CPU."""
        assert self._copy is not None, "the first process alone saves"
        self.ask("average")
        return self._copy

    def tensors(self) -> dict[str, Tensor]:
        """This process's rows of the weights, of their average and of the optimizer's state, by name.

        The name of a state has the number of its weight among all, as of an undivided run.
        """
        weights, averages = self._parts, self._average_parts
        if self._swapped:
            weights, averages = averages, weights
        tensors = {f"network.{name}": weights[name] for name in self._present}
        tensors |= {f"average.{name}": averages[name] for name in self._present}
        [optimizer] = self.optimizers
        for i, name in enumerate(self._order()):
            # A weight without rows here has no state.
            state: dict[str, Tensor] = optimizer.state.get(self._parts[name], {})
            tensors |= {f"optimizer.0.{i}.{key}": value for key, value in state.items()}
        return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}

    def save(self, path: Path, notes: Mapping[str, str]) -> None:
        """Write the state: each process its rows, and the first one then the index that names them. See `Replica`.

        Raises TdiffError if the processes do not write to the same folder. An error of the parts is raised in all
        processes, which leave `led`; one of the index in the first alone.
        """
        folder = path.parent / f"parts-{secrets.token_hex(4)}"
        self.ask("save_part", folder)
        if self._failure is not None:
            raise self._failure
        try:
            sync_folder(path.parent)  # with the name of the folder
            count = str(self.world.size)
            saved_state.write(path, {}, {**notes, wholeness.PARTS: folder.name, wholeness.PART_COUNT: count})
        except Exception:  # an interrupt leaves the parts to the resume
            if not saved_state.names(path, folder):  # else the save counts already
                shutil.rmtree(folder, ignore_errors=True)
            raise

    def load(self, tensors: Mapping[str, Tensor], path: Path) -> None:
        """Load this process's part of saved tensors, one at a time. Raises TdiffError for weights that do not fit."""
        shapes = {name: parameter.shape for name, parameter in self._named.items()}
        for prefix, parts in (("network.", self._parts), ("average.", self._average_parts)):
            for name, tensor in checked_weights(shapes, Named(tensors, prefix), path):
                parts[name].copy_(self._own(tensor))
        present = [i for i, name in enumerate(self._order()) if name in self._present]
        own_numbers = {i: own for own, i in enumerate(present)}
        """Of a weight among all, its number among those that this process has a part of."""
        [optimizer] = self.optimizers
        load_optimizer(
            optimizer,
            (
                (own_numbers[i], state, self._own(values) if values.ndim else values)
                for i, state, values in saved_state.optimizer_states(tensors, 0)
                if i in own_numbers
            ),
        )

    def _own(self, tensor: Tensor) -> Tensor:
        """This process's part of a whole tensor, as FSDP divides it."""
        parts = tensor.chunk(self.world.size)
        return parts[self.world.rank] if self.world.rank < len(parts) else tensor[:0]


class _Led(Model):
    """The network with the averaged weights, which all processes compute with when the first process calls it."""

    def __init__(self, shards: Shards) -> None:
        self._shards = shards

    @property
    def spec(self) -> ModelSpec:
        """The properties of the network."""
        return self._shards.network.spec

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self._shards.network.device

    def logits(self, inputs: Inputs, cache: Cache | None = None) -> Tensor:
        """See `Model.logits`."""
        values = {field.name: getattr(inputs, field.name) for field in fields(inputs)}
        sent = {name: value.cpu() for name, value in values.items() if value is not None}
        logits: Tensor = self._shards.ask("logits", replace(inputs, **sent))
        return logits

    def new_cache(self, rows: int) -> Cache | None:
        """Return None: the other processes would require the cache too."""
        return None

    def log_likelihood(self, tokens: Tensor, scored: Tensor) -> Tensor | None:
        """See `Model.log_likelihood`."""
        if not self.spec.causal:
            return None
        log_p: Tensor = self._shards.ask("log_likelihood", tokens.cpu(), scored.cpu())
        return log_p


def _blocks(network: nn.Module) -> Sequence[nn.Module]:
    """The blocks of the network, the longest list of its modules; none if it uses one block again and again."""
    lists = [list(module) for module in network.modules() if isinstance(module, nn.ModuleList)]
    blocks = max(lists, key=len, default=[])
    return blocks if len(blocks) > 1 else ()


def _part(folder: Path, rank: int) -> Path:
    """The file of a process in a folder of parts."""
    return folder / f"{rank}.safetensors"


def _sharded(tensor: Tensor) -> DTensor:
    assert isinstance(tensor, DTensor), "fully_shard has made it one"
    return tensor
