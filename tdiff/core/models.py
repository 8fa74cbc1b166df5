"""The from-scratch bidirectional transformer.

One architecture; tiny-diffusion's 10.8M-parameter model is one configuration of it (6 layers, 6 heads, 384 wide, time
conditioning by a table of 128 rows). Rotary positions, RMSNorm without parameters, queries and keys normalised, squared
ReLU, no biases, zero-initialised output projections. What it does not know: schedules, text, and how it is trained.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Everything that fixes the names and shapes of the weights; saved as the model's config.json."""

    vocab_size: int
    """Tokens, the mask and other specials included."""
    mask_id: int
    suppressed: tuple[int, ...]
    """Ids that are never proposed: the mask and other specials."""
    layers: int
    heads: int
    width: int
    window: int
    conv: int = 0
    """Places a depthwise convolution reaches over, 0 for none."""
    time_conditioning: bool = False
    timesteps: int = 0
    """With time conditioning: rows of the table of times, 0 for continuous time."""


def norm(x: Tensor) -> Tensor:
    """RMS normalisation without parameters over the last dimension (Zhang and Sennrich 2019)."""
    return F.rms_norm(x, (x.size(-1),))


def rotary(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding on halves; `x` (B, H, L, D), `cos` and `sin` (L, D/2) (Su et al. 2021)."""
    x1, x2 = x.chunk(2, -1)
    return torch.cat((x1 * cos + x2 * sin, x2 * cos - x1 * sin), -1)


class Neighbours(nn.Module):
    """x plus a depthwise convolution of it: each channel mixes a few neighbouring places, on both sides.

    Zero at the start. What a character is depends first on its neighbours; attention takes long to find them.
    (As in Primer, So et al. 2021, arXiv:2109.08668, which convolves queries, keys and values.)
    """

    def __init__(self, width: int, reach: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(reach, width))

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, width) to the same."""
        reach, length = len(self.weight), x.size(1)
        padded = F.pad(x, (0, 0, reach // 2, reach // 2))
        # Shifted adds: the general convolution kernels are several times slower on a CPU for so small a reach.
        for offset in range(reach):
            x = x + padded[:, offset : offset + length] * self.weight[offset]
        return x


class Attention(nn.Module):
    """Bidirectional multi-head attention with rotary positions and normalised queries and keys."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.c_q = nn.Linear(width, width, bias=False)
        self.c_k = nn.Linear(width, width, bias=False)
        self.c_v = nn.Linear(width, width, bias=False)
        self.c_proj = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, attend: Tensor | None) -> Tensor:
        """`x` (B, L, width); `attend` (B, 1, 1, L) bool, true at places that may be attended, or None for all."""
        q, k, v = (
            linear(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for linear in (self.c_q, self.c_k, self.c_v)
        )
        q, k = norm(rotary(q, cos, sin)), norm(rotary(k, cos, sin))
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=attend)
        out: Tensor = self.c_proj(y.transpose(1, 2).flatten(-2))
        return out


class MLP(nn.Module):
    """Two matrices with a squared ReLU between them (Primer, arXiv:2109.08668)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.c_fc = nn.Linear(width, 4 * width, bias=False)
        self.c_proj = nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, width) to the same."""
        out: Tensor = self.c_proj(F.relu(self.c_fc(x)).square())
        return out


class Block(nn.Module):
    """Attention, then MLP, each on the normalised residual stream."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.attn = Attention(shape.width, shape.heads)
        self.mlp = MLP(shape.width)
        self.near_attn = Neighbours(shape.width, shape.conv) if shape.conv else nn.Identity()
        self.near_mlp = Neighbours(shape.width, shape.conv) if shape.conv else nn.Identity()

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, attend: Tensor | None) -> Tensor:
        """(B, L, width) to the same."""
        x = x + self.attn(self.near_attn(norm(x)), cos, sin, attend)
        out: Tensor = x + self.mlp(self.near_mlp(norm(x)))
        return out


class Time(nn.Module):
    """The share of maskable places that are masked, as a vector added to every place. Zero at the start.

    With `timesteps` T > 0 it is row ceil(T share) - 1 of a table, tiny-diffusion's; else a line through cosines of the
    share, for continuous time.
    """

    def __init__(self, width: int, timesteps: int) -> None:
        super().__init__()
        self.timesteps = timesteps
        self.weight = nn.Parameter(torch.zeros(timesteps or _COSINES, width))

    def forward(self, share: Tensor) -> Tensor:
        """`share` (B,) in [0, 1] to (B, 1, width)."""
        if self.timesteps:
            row = (share * self.timesteps - _ROUNDING).ceil().long().clamp(1, self.timesteps) - 1
            return self.weight[row][:, None]
        waves = torch.cos(math.pi * share[:, None] * torch.arange(_COSINES, device=share.device))
        return (waves.to(self.weight.dtype) @ self.weight)[:, None]


_COSINES = 32
_ROUNDING = 1e-4  # a float32 share of, say, 3/128 times 128 may come out just above 3, and ceil() would jump a row


class Transformer(nn.Module):
    """The model: a Denoiser. Logits of suppressed tokens are -inf, so a fresh model is uniform over the real ones."""

    suppress: Tensor
    cos: Tensor
    sin: Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.token_emb = nn.Embedding(shape.vocab_size, shape.width)
        self.time_emb = Time(shape.width, shape.timesteps) if shape.time_conditioning else None
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.output_head = nn.Linear(shape.width, shape.vocab_size, bias=False)
        suppress = torch.zeros(shape.vocab_size)
        suppress[list(shape.suppressed)] = -torch.inf
        half = shape.width // shape.heads // 2
        angle = torch.arange(shape.window)[:, None] * 10_000.0 ** (-torch.arange(half) / half)
        for name, value in (("suppress", suppress), ("cos", angle.cos()), ("sin", angle.sin())):
            self.register_buffer(name, value, persistent=False)

    @property
    def mask_id(self) -> int:
        """The id of the mask."""
        return self.shape.mask_id

    def initialise(self, generator: torch.Generator) -> None:
        """Draw fresh weights: what writes to the residual stream and the head start at zero."""
        nn.init.normal_(self.token_emb.weight, generator=generator)
        nn.init.zeros_(self.output_head.weight)
        for name, weight in self.blocks.named_parameters():
            if weight.ndim < 2 or name.endswith("c_proj.weight") or ".near_" in name:
                nn.init.zeros_(weight)
            else:
                bound = math.sqrt(3 / weight.size(1))
                nn.init.uniform_(weight, -bound, bound, generator=generator)

    def trunk(self, tokens: Tensor, share: Tensor, attention: Tensor | None = None) -> Tensor:
        """Features (B, L, width) of `tokens` (B, L): everything but the head."""
        x = self.token_emb(tokens)
        if self.time_emb is not None:
            x = x + self.time_emb(share)
        x = norm(x)
        attend = None if attention is None else attention[:, None, None]
        cos, sin = self.cos[: tokens.size(1)], self.sin[: tokens.size(1)]
        for block in self.blocks:
            x = block(x, cos, sin, attend)
        return norm(x)

    def forward(self, tokens: Tensor, share: Tensor, where: Tensor, attention: Tensor | None = None) -> Tensor:
        """Logits (N, V), float32, at the N places, row by row, where `where` (B, L) is true.

        `tokens` (B, L) int64 with L <= window; `share` (B,) float32, see `Time`; `attention` (B, L) bool, false at
        padding, which no place attends to. The head is computed at those places only.
        """
        logits: Tensor = self.output_head(self.trunk(tokens, share, attention)[where])
        return logits.float() + self.suppress
