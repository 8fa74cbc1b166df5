"""Masking schedules: the mask ratio at each time, and the loss weights and unmasking shares derived from it.

Time has one direction in training, evaluation and decoding: t = 0 is the text, t = 1 is all masks, and hidden(t), the
expected mask ratio at time t, rises from 0 to 1. Loss weights and unmasking shares are derived from hidden(t) here and
nowhere else.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tdiff.errors import unknown

Curve = Callable[[Tensor], Tensor]
_HALF_PI = math.pi / 2
_E3 = math.expm1(3.0)


@dataclass(frozen=True, slots=True)
class Schedule:
    """A masking schedule. `hidden` and `slope` map times in [0, 1], of any shape, to values of that shape.

    The NELBO is, in continuous time, NELBO = E_t[ weight(t) * sum over masked of -log p ], and for T time steps the
    same with `discrete_weight` (Sahoo et al. 2024, arXiv:2406.07524, eq. 10 and 9).
    """

    name: str
    hidden: Curve
    slope: Curve

    def weight(self, t: Tensor) -> Tensor:
        """Return hidden'(t) / hidden(t), for t > 0; 1/t for the linear schedule."""
        return self.slope(t) / self.hidden(t)

    def discrete_weight(self, i: Tensor, timesteps: int) -> Tensor:
        """Return the weight at t_i = i/T, i in 1..T: T (hidden(t_i) - hidden(t_{i-1})) / hidden(t_i).

        Except for the linear schedule this is not hidden'/hidden, with which the sum would not be a bound.
        """
        now, before = self.hidden(i / timesteps), self.hidden((i - 1) / timesteps)
        return timesteps * (now - before) / now

    def time(self, share: float) -> float:
        """Return the time at which hidden(t) is `share`, 0 to 1: by bisection, since hidden() rises."""
        low, high = 0.0, 1.0
        for _ in range(60):
            middle = (low + high) / 2
            if float(self.hidden(torch.tensor(middle, dtype=torch.float64))) < share:
                low = middle
            else:
                high = middle
        return high

    def grid(self, steps: int) -> list[float]:
        """Return hidden(t) at the `steps` + 1 equally spaced times from 1 down to 0."""
        times = torch.linspace(1.0, 0.0, steps + 1, dtype=torch.float64)
        return [1.0, *self.hidden(times)[1:-1].tolist(), 0.0]


def unmask_share(hidden_t: float, hidden_s: float, remask_rate: float = 0.0) -> float:
    """Return the share of masked positions to unmask between t and s < t so that hidden(s) stay masked.

    `remask_rate` r, 0 <= r <= min(1, hidden_s / (1 - hidden_t)), is the share of unmasked positions that are remasked
    between t and s; r = 0 is the ancestral step, r > 0 ReMDM's posterior (Wang et al. 2025, arXiv:2503.00307).
    """
    return 1.0 - (hidden_s - remask_rate * (1.0 - hidden_t)) / hidden_t


SCHEDULES: dict[str, Schedule] = {
    schedule.name: schedule
    for schedule in (
        Schedule("linear", lambda t: t, torch.ones_like),
        # MaskGIT's cosine (Chang et al. 2022): slow at the start of decoding, when little is known.
        Schedule("cosine", lambda t: torch.sin(_HALF_PI * t), lambda t: _HALF_PI * torch.cos(_HALF_PI * t)),
        # text-diffusion's cosine, 1 - cos(pi t / 2): another function under the same name, written so as not to
        # cancel to 0 in float32 near t = 0.
        Schedule(
            "cosine-seed", lambda t: 2 * torch.sin(_HALF_PI / 2 * t) ** 2, lambda t: _HALF_PI * torch.sin(_HALF_PI * t)
        ),
        Schedule("exponential", lambda t: torch.expm1(3 * t) / _E3, lambda t: 3 * torch.exp(3 * t) / _E3),
        Schedule("polynomial", lambda t: t * t, lambda t: 2 * t),
    )
}


def schedule(name: str) -> Schedule:
    """Return the schedule of that name. Raises TdiffError naming the nearest."""
    try:
        return SCHEDULES[name]
    except KeyError:
        raise unknown("schedule", name, SCHEDULES) from None
