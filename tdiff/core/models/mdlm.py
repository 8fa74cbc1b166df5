"""MDLM's published model, read from a folder as its authors publish it, without the code in that folder.

Sahoo et al. 2024, arXiv:2406.07524; kuleshov-group/mdlm-owt: a bidirectional transformer with a condition that scales
and shifts its norms and residual branches (adaLN, Peebles and Xie 2022, arXiv:2212.09748). The condition is the noise
level sigma, which is always zero: the model has no time conditioning. So the condition is one vector, computed once
when the weights are read, and its scales and shifts are multiplied into the weights; plain blocks remain.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tdiff import hub
from tdiff.core.mask_indices import select
from tdiff.core.models.base import Cache, Inputs, LoadedModel, ModelSpec, TorchModel, suppression
from tdiff.core.models.files import read_tensors
from tdiff.core.models.hf import backend
from tdiff.core.models.hf.tokenizer import HubTokenizer
from tdiff.core.models.origin import origin_unknown
from tdiff.core.models.transformer import rotary
from tdiff.errors import TdiffError
from tdiff.schema import MOST

MODEL_TYPE = "mdlm"
_WAVES = 256
"""The number of cosines and sines that encode sigma."""
_BASE = 10_000.0
_ROTARY = "backbone.rotary_emb.inv_freq"
_NAMES = {
    "vocab_size": "vocab_size",
    "window": "model_length",
    "width": "hidden_dim",
    "condition": "cond_dim",
    "layers": "n_blocks",
    "heads": "n_heads",
}
_LARGEST = {"vocab_size": MOST, "window": 1 << 20, "width": 1 << 16, "condition": 1 << 16, "layers": 1000}


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes in config.json: they determine the names and shapes of the weights, and the context length."""

    vocab_size: int
    """Tokens, the mask included."""
    window: int
    width: int
    condition: int
    """Width of the condition."""
    layers: int
    heads: int


Take = Callable[[str], Tensor]
"""Returns the weights of a name as float32, owned by the caller; each name can be taken once."""


class Block(nn.Module):
    """Attention, then an MLP of four times the width, each on the normalised residual stream."""

    def __init__(self, take: Take, condition: Tensor, heads: int) -> None:
        """`condition` (C,) scales and shifts the outputs of the norms, and scales the additions to the stream."""
        super().__init__()
        self.heads = heads
        modulation = F.linear(condition, take("adaLN_modulation.weight"), take("adaLN_modulation.bias"))
        shift_attn, scale_attn, gate_attn, shift_mlp, scale_mlp, gate_mlp = modulation.chunk(6)
        self.gain_attn = nn.Parameter(take("norm1.weight") * (1 + scale_attn))
        self.shift_attn = nn.Parameter(shift_attn.clone())
        self.qkv = nn.Parameter(take("attn_qkv.weight"))
        self.out = nn.Parameter(take("attn_out.weight").mul_(gate_attn[:, None]))
        self.gain_mlp = nn.Parameter(take("norm2.weight") * (1 + scale_mlp))
        self.shift_mlp = nn.Parameter(shift_mlp.clone())
        self.inner = nn.Parameter(take("mlp.0.weight"))
        self.inner_bias = nn.Parameter(take("mlp.0.bias"))
        self.outer = nn.Parameter(take("mlp.2.weight").mul_(gate_mlp[:, None]))
        self.outer_bias = nn.Parameter(take("mlp.2.bias") * gate_mlp)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Map `x` (B, L, W) to the same shape; `cos` and `sin` (L, W / heads / 2) rotate queries and keys."""
        projected = F.linear(_normed(x, self.gain_attn, self.shift_attn), self.qkv)
        q, k, v = projected.view(*x.shape[:2], 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(rotary(q, cos, sin), rotary(k, cos, sin), v)
        x = x + F.linear(attended.transpose(1, 2).flatten(-2), self.out)
        inner = F.gelu(
            F.linear(_normed(x, self.gain_mlp, self.shift_mlp), self.inner, self.inner_bias), approximate="tanh"
        )
        return x + F.linear(inner, self.outer, self.outer_bias)


class MDLM(TorchModel):
    """The model in float32, without time conditioning."""

    cos: Tensor
    sin: Tensor

    def __init__(self, sizes: Sizes, tensors: dict[str, Tensor], tokenizer: HubTokenizer) -> None:
        """Move the weights out of `tensors`, by the names of `layout`; `tensors` is empty afterwards."""
        super().__init__()

        def take(name: str) -> Tensor:
            # A copy: the tensor is in its file, which is mapped into memory and may be rewritten.
            return tensors.pop(f"backbone.{name}").to(torch.float32, copy=True)

        last = _part(take, "output_layer")
        condition = _condition(_part(take, "sigma_map.mlp"))
        self.embedding = nn.Parameter(take("vocab_embed.embedding"))
        self.blocks = nn.ModuleList(
            Block(_part(take, f"blocks.{n}"), condition, sizes.heads) for n in range(sizes.layers)
        )
        shift, scale = F.linear(condition, last("adaLN_modulation.weight"), last("adaLN_modulation.bias")).chunk(2)
        self.gain = nn.Parameter(last("norm_final.weight") * (1 + scale))
        self.shift = nn.Parameter(shift.clone())
        self.head = nn.Parameter(last("linear.weight"))
        self.head_bias = nn.Parameter(last("linear.bias"))
        self.spec = ModelSpec(
            family="mdlm",
            vocab_size=sizes.vocab_size,
            mask_id=tokenizer.mask_id,
            suppressed=tokenizer.suppressed,
            context=sizes.window,
            pads=False,
        )
        suppress = suppression(sizes.vocab_size, tokenizer.suppressed)
        angle = torch.arange(sizes.window)[:, None] * _frequencies(sizes)
        # Minus: the rotation is opposite to that of tdiff's models, and a bidirectional model depends on its direction.
        for name, value in (("suppress", suppress), ("cos", angle.cos()), ("sin", -angle.sin())):
            self.register_buffer(name, value, persistent=False)
        self.requires_grad_(False).eval()

    def logits(self, inputs: Inputs, cache: Cache | None = None) -> Tensor:
        """Return logits (N, V) float32; see `Model.logits`. Raises ValueError for inputs that MDLM does not take."""
        if any(extra is not None for extra in (inputs.attention, inputs.label, inputs.positions)):
            raise ValueError("MDLM takes no padding mask, labels, or positions")
        logits: Tensor = self(inputs.tokens, inputs.mask_ratio, inputs.where)
        return logits

    def forward(self, tokens: Tensor, mask_ratio: Tensor, where: Tensor) -> Tensor:
        """Return logits (N, V) float32 at the N positions, row by row, where `where` (B, L) is true; L <= context.

        The head is computed at those positions only; `mask_ratio` (B,) has no effect.
        """
        x, length = self.embedding[tokens], tokens.size(1)
        for block in self.blocks:
            x = block(x, self.cos[:length], self.sin[:length])
        return F.linear(_normed(select(x, where), self.gain, self.shift), self.head, self.head_bias) + self.suppress


def load(name: str, folder: Path, config: Mapping[str, Any], device: str) -> LoadedModel:
    """Load the model in `folder`, whose config.json holds `config`, in evaluation mode and float32.

    Raises TdiffError if it has time conditioning, if its weights are missing, damaged, pickled or do not fit
    config.json, or if GPT-2's tokenizer, which MDLM's repository lacks, is not available or does not fit.
    """
    sizes = _sizes(name, config, folder / "config.json")
    files = backend.weights(name, folder)
    tokenizer = _tokenizer(name, folder, sizes.vocab_size)
    tensors = {key: (file, tensor) for file in files for key, tensor in read_tensors(file).items()}
    _check(tensors, sizes, files[0])
    tensors.pop(_ROTARY, None)
    network = MDLM(sizes, {key: tensors.pop(key)[1] for key in list(tensors)}, tokenizer).to(device)
    label = hub.repository(folder) or folder.resolve().name
    return LoadedModel(label, folder, network, tokenizer, origin_unknown(sizes.window // 2))


def layout(sizes: Sizes) -> dict[str, tuple[int, ...]]:
    """The names and shapes of the published weights of a model of these sizes."""
    vocab, width, condition, inner = sizes.vocab_size, sizes.width, sizes.condition, 4 * sizes.width
    shapes: dict[str, tuple[int, ...]] = {
        "vocab_embed.embedding": (vocab, width),
        "sigma_map.mlp.0.weight": (condition, _WAVES),
        "sigma_map.mlp.0.bias": (condition,),
        "sigma_map.mlp.2.weight": (condition, condition),
        "sigma_map.mlp.2.bias": (condition,),
        "output_layer.norm_final.weight": (width,),
        "output_layer.linear.weight": (vocab, width),
        "output_layer.linear.bias": (vocab,),
        "output_layer.adaLN_modulation.weight": (2 * width, condition),
        "output_layer.adaLN_modulation.bias": (2 * width,),
    }
    for n in range(sizes.layers):
        block: dict[str, tuple[int, ...]] = {
            "norm1.weight": (width,),
            "attn_qkv.weight": (3 * width, width),
            "attn_out.weight": (width, width),
            "norm2.weight": (width,),
            "mlp.0.weight": (inner, width),
            "mlp.0.bias": (inner,),
            "mlp.2.weight": (width, inner),
            "mlp.2.bias": (width,),
            "adaLN_modulation.weight": (6 * width, condition),
            "adaLN_modulation.bias": (6 * width,),
        }
        shapes |= {f"blocks.{n}.{name}": shape for name, shape in block.items()}
    return {f"backbone.{name}": shape for name, shape in shapes.items()}


def _normed(x: Tensor, gain: Tensor, shift: Tensor) -> Tensor:
    """Layer norm over the last dimension, then `gain` and `shift` (W,)."""
    return F.layer_norm(x, gain.shape, gain, shift)


def _part(take: Take, part: str) -> Take:
    """A function that takes the weights of one part, by their names within it."""
    return lambda name: take(f"{part}.{name}")


def _condition(take: Take) -> Tensor:
    """(C,): the condition for sigma = 0, where all cosines are one and all sines are zero."""
    waves = torch.cat((torch.ones(_WAVES // 2), torch.zeros(_WAVES // 2)))
    hidden = F.silu(F.linear(waves, take("0.weight"), take("0.bias")))
    return F.silu(F.linear(hidden, take("2.weight"), take("2.bias")))


def _frequencies(sizes: Sizes) -> Tensor:
    """(W / heads / 2,): the rotary frequencies, in radians per position."""
    half = sizes.width // sizes.heads // 2
    return _BASE ** (-torch.arange(half) / half)


def _sizes(name: str, config: Mapping[str, Any], path: Path) -> Sizes:
    """Read the sizes. Raises TdiffError if config.json lacks a key, has an invalid value, or time conditioning."""
    for key in (*_NAMES.values(), "time_conditioning"):
        if key not in config:
            raise TdiffError(f"model config {str(path)!r} lacks {key}, without which an MDLM cannot be read")
    if config["time_conditioning"] is not False:
        raise TdiffError(
            f"model {name!r} is of type {MODEL_TYPE!r} with time_conditioning {config['time_conditioning']!r}; tdiff "
            "reads models without it (false), such as kuleshov-group/mdlm-owt"
        )
    values = {field: config[key] for field, key in _NAMES.items()}
    for field, value in values.items():
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= _LARGEST.get(field, MOST):
            raise TdiffError(f"model config {str(path)!r}: {_NAMES[field]} cannot be {value!r}")
    sizes = Sizes(**values)
    if sizes.width % (2 * sizes.heads):
        raise TdiffError(
            f"model config {str(path)!r}: n_heads cannot be {sizes.heads}: hidden_dim must be an even "
            f"multiple of it; got {sizes.width}"
        )
    return sizes


def _tokenizer(name: str, folder: Path, vocab_size: int) -> HubTokenizer:
    """The tokenizer in the folder, or else GPT-2's from the hub.

    If it has no mask token, as GPT-2's, the mask is the id after its last one.
    """
    has_tokenizer = (folder / "tokenizer.json").is_file() or all(
        (folder / f).is_file() for f in ("vocab.json", "merges.txt")
    )
    if not has_tokenizer:
        try:
            folder = hub.tokenizer_of("gpt2")
        except TdiffError as error:
            raise TdiffError(
                f"model {name!r} has no tokenizer, as MDLM's repository has none: put GPT-2's tokenizer.json beside "
                f"its config.json ({error})"
            ) from None
    # This folder's config.json names a type that transformers does not know, and code; so GPT-2's settings are used.
    hub_tokenizer = backend.tokenizer(folder, backend.library().GPT2Config())
    extra_ids = vocab_size - len(hub_tokenizer)
    if extra_ids not in (0, 1):
        raise TdiffError(
            f"model {name!r} does not fit its tokenizer: config.json says {vocab_size} tokens, the mask among them, "
            f"but the tokenizer has {len(hub_tokenizer)}; GPT-2's, which MDLM was trained with, has 50257 for 50258"
        )
    with backend.one_line(f"tokenizer {str(folder / 'tokenizer.json')!r} cannot be used"):
        return HubTokenizer(hub_tokenizer, vocab_size, name, mask_id=vocab_size - 1)


def _check(tensors: dict[str, tuple[Path, Tensor]], sizes: Sizes, path: Path) -> None:
    """Raise TdiffError for the first weight that is missing, wrong or unknown; `tensors` come with their files."""
    shapes = layout(sizes)
    frequencies = _frequencies(sizes)
    if _ROTARY in tensors:  # a table that can be computed, and that not every file contains
        shapes[_ROTARY] = tuple(frequencies.shape)
    for name in sorted(shapes.keys() | tensors.keys()):
        if name not in tensors:
            raise TdiffError(f"weights {str(path)!r} lack {name}, which config.json requires")
        file, tensor = tensors[name]
        if name not in shapes:
            raise TdiffError(
                f"weights {str(file)!r} hold {name}, which the MDLM that config.json describes does not have"
            )
        if tuple(tensor.shape) != shapes[name]:
            raise TdiffError(
                f"weights {str(file)!r}: {name} has shape {tuple(tensor.shape)}; config.json requires {shapes[name]}"
            )
        if not tensor.is_floating_point():
            raise TdiffError(
                f"weights {str(file)!r}: {name} holds {str(tensor.dtype)[6:]}, which is not a floating-point type"
            )
        if not bool(torch.isfinite(tensor).all()):
            raise TdiffError(f"weights {str(file)!r}: {name} holds numbers that are not finite")
    if _ROTARY in tensors and not torch.allclose(tensors[_ROTARY][1].float(), frequencies, rtol=1e-2, atol=0):
        raise TdiffError(
            f"weights {str(tensors[_ROTARY][0])!r}: {_ROTARY} is not the table of rotary frequencies of base "
            f"{_BASE:g}, which MDLM requires"
        )
