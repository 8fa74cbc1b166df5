"""tdiff's own bidirectional transformer.

It has one architecture; tiny-diffusion's 10.8M-parameter model is one configuration of it (6 layers, 6 heads, 384 wide,
time conditioning by a table of 128 rows): rotary positions, RMSNorm without parameters, normalised queries and keys,
squared ReLU, no biases, zero-initialised output projections. The classic blocks that these replaced are an option, for
comparison. It knows no schedules, no text, and not how it is trained.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tdiff.core.mask_indices import indices_of, select
from tdiff.core.models.base import Cache, Inputs, ModelSpec, TrainableModel, suppression
from tdiff.core.models.conditioning import TimeEmbedding, conditioning_vectors
from tdiff.core.models.labels import Pairs, with_bias


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
    """Positions that the depthwise convolution spans, odd; 0: no convolution."""
    time_conditioning: bool = False
    timesteps: int = 0
    """With time conditioning: rows of the table of mask ratios; 0: continuous time."""
    hidden: int = 0
    """Width of the MLP's hidden layer; 0: four times the width."""
    classic: bool = False
    """Learned positions, LayerNorm and GELU."""
    tied: bool = False
    """The output matrix is the token embedding, scaled."""
    self_conditioning: bool = False
    """Two passes, of which the second gets the proposals of the first."""
    classes: int = 0
    """Classes that it can be conditioned on."""
    pairs: int = 0
    """Size of each class's table of token pairs; 0: no table."""


def norm(x: Tensor) -> Tensor:
    """Return RMS normalisation without parameters over the last dimension (Zhang and Sennrich 2019)."""
    return F.rms_norm(x, (x.size(-1),))


def rotary(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding on halves; `x` (B, H, L, D), `cos` and `sin` (L, D/2) (Su et al. 2021)."""
    x1, x2 = x.chunk(2, -1)
    return torch.cat((x1 * cos + x2 * sin, x2 * cos - x1 * sin), -1)


class Neighbours(nn.Module):
    """x plus a depthwise convolution of x: each channel mixes a few neighbouring positions on both sides.

    Zero at the start. A character depends most on its neighbours, which attention takes long to learn to find. (As in
    Primer, So et al. 2021, arXiv:2109.08668, which convolves queries, keys and values.)
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
    """Bidirectional multi-head attention; with rotary positions, queries and keys are rotated and normalised."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.c_q = nn.Linear(width, width, bias=False)
        self.c_k = nn.Linear(width, width, bias=False)
        self.c_v = nn.Linear(width, width, bias=False)
        self.c_proj = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor] | None, attend: Tensor | None) -> Tensor:
        """`x` (B, L, width); `turn` cosines and sines (L, D/2) of rotary positions, or None; `attend` (B, 1, 1, L)
        bool, true at positions that may be attended, or None for all.
        """
        q, k, v = (
            linear(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for linear in (self.c_q, self.c_k, self.c_v)
        )
        if turn is not None:
            q, k = norm(rotary(q, *turn)), norm(rotary(k, *turn))
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=attend)
        out: Tensor = self.c_proj(y.transpose(1, 2).flatten(-2))
        return out


class MLP(nn.Module):
    """Two matrices with a squared ReLU between them (Primer, arXiv:2109.08668), or a GELU."""

    def __init__(self, width: int, hidden: int, classic: bool) -> None:
        super().__init__()
        self.classic = classic
        self.c_fc = nn.Linear(width, hidden, bias=False)
        self.c_proj = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, width) to the same."""
        inner = self.c_fc(x)
        out: Tensor = self.c_proj(F.gelu(inner) if self.classic else F.relu(inner).square())
        return out


def _norm(shape: Shape) -> nn.Module:
    """The normalisation of the residual stream; only the classic one has parameters."""
    return nn.LayerNorm(shape.width) if shape.classic else nn.RMSNorm(shape.width, elementwise_affine=False)


class Block(nn.Module):
    """Attention, then MLP, each on the normalised residual stream."""

    def __init__(self, shape: Shape, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.norm_attn, self.norm_mlp = _norm(shape), _norm(shape)
        self.attn = Attention(shape.width, shape.heads)
        self.mlp = MLP(shape.width, shape.hidden or 4 * shape.width, shape.classic)
        self.near_attn = Neighbours(shape.width, shape.conv) if shape.conv else nn.Identity()
        self.near_mlp = Neighbours(shape.width, shape.conv) if shape.conv else nn.Identity()

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor] | None, attend: Tensor | None) -> Tensor:
        """(B, L, width) to the same."""
        x = x + self._thinned(self.attn(self.near_attn(self.norm_attn(x)), turn, attend))
        out: Tensor = x + self._thinned(self.mlp(self.near_mlp(self.norm_mlp(x))))
        return out

    def _thinned(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training) if self.dropout else x


class Transformer(TrainableModel):
    """The model. Logits of suppressed tokens are -inf, so a fresh model is uniform over the other tokens."""

    cos: Tensor
    sin: Tensor

    def __init__(self, shape: Shape, dropout: float = 0.0) -> None:
        super().__init__()
        self.shape, self.dropout = shape, dropout
        self.spec = ModelSpec(
            family="tdiff",
            vocab_size=shape.vocab_size,
            mask_id=shape.mask_id,
            suppressed=shape.suppressed,
            context=shape.window,
            classes=shape.classes,
            compiles=True,
        )
        self.token_emb = nn.Embedding(shape.vocab_size, shape.width)
        self.time_emb = TimeEmbedding(shape.width, shape.timesteps) if shape.time_conditioning else None
        # The last row is for a text without a class.
        self.label_emb = nn.Embedding(shape.classes + 1, shape.width) if shape.classes else None
        self.label_bias = nn.Embedding(shape.classes + 1, shape.vocab_size) if shape.classes else None
        self.label_pairs = Pairs(shape.classes, shape.pairs, shape.vocab_size) if shape.pairs else None
        self.place_emb = nn.Embedding(shape.window, shape.width) if shape.classic else None
        self.blocks = nn.ModuleList(Block(shape, dropout) for _ in range(shape.layers))
        self.norm_out = _norm(shape)
        self.output_head = Tied(self.token_emb) if shape.tied else nn.Linear(shape.width, shape.vocab_size, bias=False)
        self.feedback = nn.Linear(shape.vocab_size, shape.width, bias=False) if shape.self_conditioning else None
        half = shape.width // shape.heads // 2
        angle = torch.arange(shape.window)[:, None] * 10_000.0 ** (-torch.arange(half) / half)
        suppress = suppression(shape.vocab_size, shape.suppressed)
        for name, value in (("suppress", suppress), ("cos", angle.cos()), ("sin", angle.sin())):
            self.register_buffer(name, value, persistent=False)

    def matrices(self) -> list[nn.Parameter]:
        """Return the weights with weight decay, which Muon may train: the matrices of the blocks."""
        return [p for name, p in self.blocks.named_parameters() if p.ndim == 2 and ".near_" not in name]

    def wrap_trunk(self, wrapper: Callable[[Callable[..., Tensor]], Callable[..., Tensor]] | None) -> None:
        """Replace `trunk` of this instance by `wrapper(trunk)`; None restores the original."""
        self.__dict__.pop("trunk", None)
        if wrapper is not None:
            self.__dict__["trunk"] = wrapper(self.trunk)

    def initialise(self, generator: torch.Generator) -> None:
        """Draw fresh weights. Those that write to the residual stream, and the head, start at zero."""
        nn.init.normal_(self.token_emb.weight, generator=generator)
        for zero in (self.output_head, self.feedback):
            if zero is not None:
                nn.init.zeros_(next(zero.parameters(recurse=False)))
        if self.place_emb is not None:
            nn.init.normal_(self.place_emb.weight, generator=generator)
        for table in (self.label_emb, self.label_bias, self.label_pairs):
            if table is not None:
                nn.init.zeros_(table.weight)
        for name, weight in self.blocks.named_parameters():
            if weight.ndim < 2:  # gains and shifts of the classic norms, which keep their usual start
                continue
            if name.endswith("c_proj.weight") or ".near_" in name:
                nn.init.zeros_(weight)
            else:
                bound = math.sqrt(3 / weight.size(1))
                nn.init.uniform_(weight, -bound, bound, generator=generator)

    def trunk(
        self,
        tokens: Tensor,
        mask_ratio: Tensor,
        attention: Tensor | None = None,
        label: Tensor | None = None,
        guess: Tensor | None = None,
        positions: Tensor | None = None,
    ) -> Tensor:
        """Return features (B, L, width) of `tokens` (B, L): all but the head. `guess` (B, L, width) is added to the
        token embeddings; the other inputs are those of `forward`.
        """
        length = tokens.size(1)
        x = self.token_emb(tokens)
        if guess is not None:
            x = x + guess
        for vector in conditioning_vectors(self.time_emb, self.label_emb, mask_ratio, label, len(tokens)):
            x = x + vector
        if self.place_emb is not None:
            x = x + (self.place_emb.weight[:length] if positions is None else self.place_emb(positions))
        x = norm(x)
        if self.dropout:
            x = F.dropout(x, self.dropout, self.training)
        attend = None if attention is None else attention[:, None, None]
        turn = None
        if not self.shape.classic:
            turn = self.cos[:length], self.sin[:length]
            if positions is not None:  # (B, 1, L, D/2): the same for all heads
                turn = self.cos[positions][:, None], self.sin[positions][:, None]
        for block in self.blocks:
            x = block(x, turn, attend)
        out: Tensor = self.norm_out(x)
        return out

    def logits(self, inputs: Inputs, cache: Cache | None = None) -> Tensor:
        """Return logits (N, V) float32; see `Model.logits`. There is no cache."""
        logits: Tensor = self(
            inputs.tokens, inputs.mask_ratio, inputs.where, inputs.attention, inputs.label, inputs.positions
        )
        return logits

    def forward(
        self,
        tokens: Tensor,
        mask_ratio: Tensor,
        where: Tensor,
        attention: Tensor | None = None,
        label: Tensor | None = None,
        positions: Tensor | None = None,
    ) -> Tensor:
        """Return logits (N, V) float32 at the N positions, row by row, where `where` (B, L) is true; see `Inputs`.

        The head is computed at those positions only. In training, a model with self-conditioning sees what it proposed
        in half of the calls, drawn from torch's global random numbers.
        """
        guess = None
        if self.feedback is not None and not (self.training and bool(torch.rand(()) < 0.5)):
            with torch.no_grad():  # no gradient through the first pass (Chen et al. 2022)
                proposed = self._at(tokens, mask_ratio, where, attention, label, None, positions).softmax(-1)
            seen = self.feedback(proposed)
            blank = seen.new_zeros(tokens.numel(), seen.size(-1))
            guess = blank.index_copy(0, indices_of(where), seen).unflatten(0, tokens.shape)
        return self._at(tokens, mask_ratio, where, attention, label, guess, positions)

    def _at(
        self,
        tokens: Tensor,
        mask_ratio: Tensor,
        where: Tensor,
        attention: Tensor | None,
        label: Tensor | None,
        guess: Tensor | None,
        positions: Tensor | None,
    ) -> Tensor:
        """Return the logits of one pass, which adds `guess` (B, L, width) to the token embeddings."""
        features = select(self.trunk(tokens, mask_ratio, attention, label, guess, positions), where)
        logits: Tensor = self.output_head(features).float()
        if self.label_bias is not None:
            logits = with_bias(logits, self.label_bias.weight, label, where)
        if self.label_pairs is not None and label is not None:
            visible = tokens != self.spec.mask_id
            logits = self.label_pairs(
                logits, tokens, visible if attention is None else visible & attention, label, where
            )
        return logits + self.suppress


class Tied(nn.Module):
    """An output matrix that is the token embedding (Press and Wolf 2017, arXiv:1608.05859), times one learned number,
    zero at the start.
    """

    def __init__(self, embedding: nn.Embedding) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.zeros(1))
        # In a tuple, or the matrix would be a second parameter of the same name.
        self._embedding = (embedding,)

    def forward(self, x: Tensor) -> Tensor:
        """Features (N, width) to logits (N, V)."""
        matrix = self._embedding[0].weight
        return F.linear(x, matrix) * (self.gain / math.sqrt(matrix.size(1)))
