"""Conditioning on the mask ratio and on a class, by vectors that are added to the embeddings at every position."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_WAVES = 32
"""Cosines that encode a mask ratio."""
_ROUNDING = 1e-4  # a float32 ratio of, say, 3/128 times 128 can come out just above 3, and ceil() would jump a row


def _ratio_waves(mask_ratio: Tensor) -> Tensor:
    """Return (B, _WAVES) float32: cos(pi n r) for n = 0, 1, ... of each mask ratio r of `mask_ratio` (B,)."""
    return torch.cos(math.pi * mask_ratio[:, None] * torch.arange(_WAVES, device=mask_ratio.device))


class TimeEmbedding(nn.Module):
    """The mask ratio as a vector, for a model that is trained from the start. Zero at the start.

    With `timesteps` T > 0 it is row ceil(T r) - 1 of a table for the mask ratio r, as in tiny-diffusion; otherwise a
    linear map of cosines of r, for continuous time.
    """

    def __init__(self, width: int, timesteps: int) -> None:
        super().__init__()
        self.timesteps = timesteps
        self.weight = nn.Parameter(torch.zeros(timesteps or _WAVES, width))

    def forward(self, mask_ratio: Tensor) -> Tensor:
        """Map `mask_ratio` (B,) in [0, 1] to (B, 1, width)."""
        if self.timesteps:
            row = (mask_ratio * self.timesteps - _ROUNDING).ceil().long().clamp(1, self.timesteps) - 1
            return self.weight[row][:, None]
        return (_ratio_waves(mask_ratio).to(self.weight.dtype) @ self.weight)[:, None]


class TimeNetwork(nn.Module):
    """The mask ratio as a vector, for a pretrained model.

    Cosines of the ratio, a hidden layer, and a last layer that starts at zero, so that the model at first gives the
    same logits as without it.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.hidden, self.out = nn.Linear(_WAVES, width), nn.Linear(width, width)

    def initialise(self, generator: torch.Generator) -> None:
        """Draw fresh weights."""
        nn.init.normal_(self.hidden.weight, std=1 / math.sqrt(_WAVES), generator=generator)
        for zero in (self.hidden.bias, self.out.weight, self.out.bias):
            nn.init.zeros_(zero)

    def forward(self, mask_ratio: Tensor) -> Tensor:
        """Map `mask_ratio` (B,) in [0, 1] to (B, 1, width)."""
        waves = _ratio_waves(mask_ratio).to(self.hidden.weight.dtype)
        vector: Tensor = self.out(F.silu(self.hidden(waves)))
        return vector[:, None]


def conditioning_vectors(
    time: nn.Module | None, classes: nn.Embedding | None, mask_ratio: Tensor | None, label: Tensor | None, rows: int
) -> list[Tensor]:
    """Return the vectors (B, 1, width) to add to the embeddings of B = `rows` rows, in the order of addition.

    `time` maps `mask_ratio` (B,) to the first; `classes` (C + 1, width) has a row for each class and a last row for no
    class, of which `label` (B,) int64 selects the second. Without `label` no row has a class. A part that is None has
    no vector.
    """
    vectors: list[Tensor] = []
    if time is not None and mask_ratio is not None:
        vectors.append(time(mask_ratio))
    if classes is not None:
        no_class = classes.num_embeddings - 1
        label = torch.full((rows,), no_class, device=classes.weight.device) if label is None else label
        vectors.append(classes(label)[:, None])
    return vectors
