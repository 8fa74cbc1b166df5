"""The weights of a run and their running average, whole in each process; `fsdp.Shards` are a part of them."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from torch import Tensor

from tdiff.core.models.base import Model, TrainableModel
from tdiff.core.models.files import put_weights
from tdiff.core.training import saved_state
from tdiff.core.training.distributed import World
from tdiff.core.training.saved_state import Named


class Replica:
    """The network, its running average and what training does with their weights."""

    whole = True
    """Whether this process computes with the network by itself."""
    average: Model
    """The network with the averaged weights, for evaluation and sampling; see `led`."""

    def __init__(self, network: TrainableModel, device: str) -> None:
        """`network` is on the CPU, and moves to `device`."""
        self.network = network.to(device)
        self._average = copy.deepcopy(network).requires_grad_(False).eval()
        self.average = self._average
        # Listed once: walking the modules three times a step is 2% of a small one.
        self.weights: list[Tensor] = list(network.parameters())
        """The tensors that this process trains."""
        self.averages: list[Tensor] = list(self._average.parameters())
        """The running average of each of them."""
        self.optimizers: Sequence[torch.optim.Optimizer] = ()
        """The optimizers of these tensors, once they exist."""

    def parameters(self) -> Iterator[Tensor]:
        """The tensors that this process trains."""
        return iter(self.weights)

    def matrices(self) -> Sequence[Tensor]:
        """Those that decay."""
        return self.network.matrices()

    def reducing(self) -> AbstractContextManager[None]:
        """The context of the gradients' computation."""
        return nullcontext()

    def add_gradients(self, world: World) -> None:
        """Give each weight the sum of its gradient over all processes."""
        world.add_gradients(self.weights)

    def norm(self) -> Tensor:
        """The norm () of the gradient."""
        return torch.nn.utils.get_total_norm([p.grad for p in self.weights if p.grad is not None])

    @torch.no_grad()
    def finite(self) -> bool:
        """Whether all weights are finite numbers."""
        return math.isfinite(float(torch.stack(torch._foreach_norm([*self.weights, *self.averages], math.inf)).sum()))

    def led(self) -> AbstractContextManager[None]:
        """Within the block the first process may use `average`, `averaged` and `save`; the others do nothing."""
        return nullcontext()

    def averaged(self) -> TrainableModel:
        """The averaged weights as a network to be saved."""
        return self._average

    def tensors(self) -> dict[str, Tensor]:
        """The weights, their average and the state of the optimizers, by name."""
        # Parameters rather than the state dictionary, which has a tied weight twice.
        tensors: dict[str, Tensor] = {f"network.{name}": t for name, t in self.network.named_parameters()}
        tensors |= {f"average.{name}": t for name, t in self._average.named_parameters()}
        for n, optimizer in enumerate(self.optimizers):
            for i, values in optimizer.state_dict()["state"].items():
                tensors |= {f"optimizer.{n}.{i}.{key}": value for key, value in values.items()}
        return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}

    def save(self, path: Path, notes: Mapping[str, str]) -> None:
        """Write the tensors and `notes` as the state `path`; the first process calls it within `led`.

        Raises CannotWrite; the state is then as it was.
        """
        saved_state.write(path, self.tensors(), notes)

    def load(self, tensors: Mapping[str, Tensor], path: Path) -> None:
        """Load what `save` has written to `path`. Raises TdiffError for weights that do not fit."""
        for prefix, network in (("network.", self.network), ("average.", self._average)):
            put_weights(network, Named(tensors, prefix), path)
        for n, optimizer in enumerate(self.optimizers):
            load_optimizer(optimizer, saved_state.optimizer_states(tensors, n))


def load_optimizer(optimizer: torch.optim.Optimizer, states: Iterable[tuple[int, str, Tensor]]) -> None:
    """Replace the states of all weights; learning rates stay. `states` has the number of a weight in the optimizer, the
    name of a state of it, and its values, which are copied: they may be a part of others, or mapped from a file.
    """
    by_weight: dict[int, dict[str, Tensor]] = {}
    for weight, state, values in states:
        by_weight.setdefault(weight, {})[state] = values.clone()
    optimizer.load_state_dict({"state": by_weight, "param_groups": optimizer.state_dict()["param_groups"]})
