"""Weights that are divided among the processes: FSDP2 of torch, for models that do not fit on one device.

`fully_shard` gathers the weights of a block before its computation and adds up their gradients after it. Each process
retains a part of every weight, along its first dimension, and with it the same part of the gradient, of the running
average and of AdamW's moments. The optimizer, clipping and the average see these parts as plain tensors.

Evaluation, sampling and saving are the first process's work, and require all processes for the weights. Within `led`
the others wait for what it asks of all: a call of the averaged network, or a weight as a whole. A saved run has the
files of any other run, so any number of processes can resume it.
"""

from __future__ import annotations

import copy
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
from tdiff.core.models.files import check_weights
from tdiff.core.training.distributed import World
from tdiff.core.training.replica import Replica, load_optimizer, states_of
from tdiff.errors import TdiffError
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
        """Within the block the first process may use `average`, `averaged` and `tensors`; the others work with it."""
        if self._leading:
            yield
            return
        if not self.world.leads:
            none: tuple[Any, ...] | None = None
            while (request := self.world.agreed(none)) is not None:
                self._do(*request)
            self._do("end")
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

    def _do_average(self) -> dict[str, Tensor]:
        return self._gathered(self._parts if self._swapped else self._average_parts)

    def _do_weights(self) -> dict[str, Tensor]:
        return self._gathered(self._average_parts if self._swapped else self._parts)

    def _do_moments(self, key: str) -> dict[str, Tensor]:
        """A state of AdamW for each weight that has one."""
        [optimizer] = self.optimizers
        own = {name: optimizer.state.get(self._parts[name], {}) for name in self._present}
        numbers = {name: state["step"].item() for name, state in own.items() if state}
        steps = {name: step for part in self.world.collect(numbers) for name, step in part.items()}
        names = [name for name in self._order() if name in steps]
        if key == "step":
            return {name: torch.tensor(steps[name]) for name in names}
        return self._gathered({name: own[name][key] if own.get(name) else self._parts[name] for name in names})

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

    def _gathered(self, parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weights as a whole, on the CPU of the first process; empty in the others. One at a time is on the device."""
        whole = {}
        for name, part in parts.items():
            like = self._named[name]
            shape, stride = like.shape, like.stride()
            sharded = DTensor.from_local(
                part, like.device_mesh, [Shard(0)], run_check=False, shape=shape, stride=stride
            )
            tensor = sharded.full_tensor()
            if self.world.leads:
                whole[name] = tensor.cpu().contiguous()
        return whole

    def averaged(self) -> TrainableModel:
        """The averaged weights as a network on the CPU."""
        assert self._copy is not None, "the first process alone saves"
        average = self.ask("average")
        with torch.no_grad():
            for name, parameter in self._copy.named_parameters():
                parameter.copy_(average[name])
        return self._copy

    def tensors(self) -> dict[str, Tensor]:
        """The weights, their average and the state of the optimizer, by name, as of an undivided run."""
        tensors = {f"network.{name}": tensor for name, tensor in self.ask("weights").items()}
        tensors |= {f"average.{name}": tensor for name, tensor in self.ask("average").items()}
        number = {name: i for i, name in enumerate(self._order())}
        for key in ("step", "exp_avg", "exp_avg_sq"):
            tensors |= {f"optimizer.0.{number[name]}.{key}": t for name, t in self.ask("moments", key).items()}
        return tensors

    def load(self, tensors: Mapping[str, Tensor], path: Path) -> None:
        """Load this process's part of saved tensors. Raises TdiffError for weights that do not fit."""
        shapes = {name: parameter.shape for name, parameter in self._named.items()}
        for prefix, parts in (("network.", self._parts), ("average.", self._average_parts)):
            saved = {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}
            check_weights(shapes, saved, path)
            for name, part in parts.items():
                part.copy_(self._own(saved[name]))
        names = [name for name in self._order() if name in self._present]
        states, states_by_name = states_of(tensors, 0), dict[str, dict[str, Tensor]]()
        for i, name in enumerate(self._order()):
            states_by_name[name] = {k: self._own(t) if t.ndim else t for k, t in states.get(i, {}).items()}
        [optimizer] = self.optimizers
        load_optimizer(optimizer, {i: states_by_name[name] for i, name in enumerate(names) if states_by_name[name]})

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


def _sharded(tensor: Tensor) -> DTensor:
    assert isinstance(tensor, DTensor), "fully_shard has made it one"
    return tensor
