"""The optimizers of a run and its learning rate: AdamW, and Muon, momentum with orthogonalized matrix updates.

Muon is by Jordan et al. (2024). torch.optim.Muon multiplies in bfloat16, matrix by matrix: on many CPUs that is a
hundred times slower than float32. Here all matrices of one shape are iterated together, in bfloat16 only on request.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from tdiff.config.settings import TrainSettings


class Trainable(Protocol):
    """The part of a network that the optimizers use."""

    def parameters(self) -> Iterator[Any]:
        """All weights."""
        ...

    def matrices(self) -> Sequence[Tensor]:
        """The weights that decay."""
        ...


class Eager(torch.optim.Optimizer):
    """An optimizer that is not compiled, and so does without the wrappers by which torch keeps it from its compiler.

    They import `torch._dynamo`: two seconds of each start.
    """

    add_param_group = inspect.unwrap(torch.optim.Optimizer.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.Optimizer.zero_grad)
    state_dict = inspect.unwrap(torch.optim.Optimizer.state_dict)
    load_state_dict = inspect.unwrap(torch.optim.Optimizer.load_state_dict)


class AdamW(Eager, torch.optim.AdamW):
    """torch's own."""

    step = torch.no_grad()(inspect.unwrap(torch.optim.AdamW.step))


class Muon(Eager):
    """Muon over matrices (out, in), with Nesterov momentum and decoupled weight decay.

    The update of an (out, in) matrix has singular values near 1, times sqrt(max(1, out/in)).
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 2e-2,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        bfloat16: bool = False,
    ) -> None:
        self._bfloat16 = bfloat16
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # no closure is ever given or returned
        """One update from the gradients."""
        for group in self.param_groups:
            shapes: dict[torch.Size, list[tuple[Tensor, Tensor]]] = {}
            for p in group["params"]:
                if p.grad is not None:
                    shapes.setdefault(p.shape, []).append((p, p.grad))
            for shape, pairs in shapes.items():
                params, gradients = [p for p, _ in pairs], [g for _, g in pairs]
                for p in params:
                    if not self.state[p]:
                        self.state[p]["momentum"] = torch.zeros_like(p)
                buffers = [self.state[p]["momentum"] for p in params]
                torch._foreach_lerp_(buffers, gradients, 1 - group["momentum"])
                update = orthogonal(
                    torch.stack(torch._foreach_lerp(gradients, buffers, group["momentum"])), self._bfloat16
                )
                scale = group["lr"] * max(1.0, shape[0] / shape[1]) ** 0.5
                if group["weight_decay"]:
                    torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_add_(params, list(update.unbind()), alpha=-scale)


def orthogonal(matrices: Tensor, bfloat16: bool = False) -> Tensor:
    """Bring the singular values of `matrices` (n, a, b) near 1, by five quintic Newton-Schulz steps.

    The coefficients are Muon's: they trade exactness (values end in about 0.7..1.2) for the steepest start, for which
    bfloat16 is precise enough.
    """
    x: Tensor = matrices.bfloat16() if bfloat16 else matrices
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    tall = x.size(-2) > x.size(-1)
    x = x.mT if tall else x
    for _ in range(5):
        a = x @ x.mT
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return (x.mT if tall else x).to(matrices.dtype)


def optimizers(network: Trainable, options: TrainSettings, device: str, bfloat16: bool) -> list[torch.optim.Optimizer]:
    """AdamW for all weights, or Muon for the network's matrices and AdamW for the rest; only those matrices decay."""
    matrices = network.matrices()
    ids = {id(p) for p in matrices}
    rest = [p for p in network.parameters() if id(p) not in ids]
    plain: dict[str, Any] = {"params": rest, "weight_decay": 0.0, "peak": options.lr}
    matrix: dict[str, Any] = {"params": matrices, "weight_decay": options.weight_decay}

    def adamw(*groups: dict[str, Any]) -> torch.optim.Optimizer:
        fused = device in ("cpu", "cuda")
        return AdamW(list(groups), lr=options.lr, betas=(0.9, options.beta2), fused=fused)

    if options.optimizer == "muon":
        return [adamw(plain), Muon([matrix | {"peak": options.muon_lr}], bfloat16=bfloat16)]
    return [adamw(plain, matrix | {"peak": options.lr})]


def rate(options: TrainSettings, spent: float) -> float:
    """The learning rate as a share of its peak, 0..1, when the share `spent` of the budget is spent.

    It rises linearly during warm-up, stays level, and falls linearly to `final_lr` at the end.
    """
    if options.warmup and spent < options.warmup:
        return max(spent, 1e-3 * options.warmup) / options.warmup
    if options.decay and spent > 1 - options.decay:
        return options.final_lr + (1 - options.final_lr) * (1 - spent) / options.decay
    return 1.0
