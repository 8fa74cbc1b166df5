"""Import of tiny-diffusion's weights, a pickle of tensors written by `torch.save`, as a tdiff model.

Its model is one configuration of `Transformer`, so the names and shapes of the weights are the same. What the shapes do
not determine is fixed: a context length of 256 characters, the first 16 of which are a prompt. There are two layouts:
that of October 2025 has a table of 128 times and the 128 ASCII characters; that of December 2025 names its head
lm_head, has no time conditioning, and has a vocabulary of `_` for the mask and the 65 characters of Tiny Shakespeare in
their order.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tdiff.core.models import tokenizers
from tdiff.core.models.origin import Origin
from tdiff.core.models.tokenizers import TextTokenizer
from tdiff.core.models.transformer import Shape, Transformer
from tdiff.errors import TdiffError

WINDOW, CONTEXT, CHARACTERS = 256, 16, 128
_SHAKESPEARE = "\n !$&',-.3:;?ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
"""The characters of Tiny Shakespeare, which follow the mask in the newer layout."""
_NEWER_HEAD, _HEAD = "lm_head.weight", "output_head.weight"
HEADS = 6
_LARGEST = 1 << 16
_NESTS = ("model", "model_state_dict", "state_dict")
_PREFIXES = ("_orig_mod.", "module.")
"""Prefixes that torch.compile and data-parallel training add to the names."""


def read(path: Path, heads: int = HEADS) -> tuple[Transformer, TextTokenizer, Origin]:
    """Read the file `path`. Returns the model in evaluation mode, its tokenizer, and its origin.

    The sizes come from the weights, except `heads`, which the weights do not determine. Only tensors are unpickled.
    Raises TdiffError if the file cannot be read as tensors, is damaged, or contains other weights.
    """
    tensors = _tensors(path)
    newer = _NEWER_HEAD in tensors and _HEAD not in tensors
    shape = _shape(tensors, heads, path, newer)
    if newer:
        tensors[_HEAD] = tensors.pop(_NEWER_HEAD)
    with torch.device("meta"):
        expected = {name: tuple(tensor.shape) for name, tensor in Transformer(shape).state_dict().items()}
    for name in sorted(expected.keys() | tensors.keys()):
        _check(name, tensors, expected, path, newer)
    network = Transformer(shape)
    network.load_state_dict(tensors)
    # In training its time is the mask ratio of the 240 characters after the prompt; a decoder passes the same ratio, of
    # the positions that may be masked. The newer layout has no time, and masks the first 16 characters too. The
    # thresholds are those of the authors.
    rank = ("rank=top-k-mass", "threshold=0.95", "top_k=3", "temperature=1.0") if newer else ("threshold=0.9",)
    origin = Origin(
        corpus="",
        sources=(),
        text_field="text",
        timesteps=shape.timesteps,
        schedule="linear",
        context=CONTEXT,
        context_mode="random" if newer else "fixed",
        openings=(),
        steps=0,
        tokens=0,
        decoding=("decoder=confidence", *rank),
    )
    tokenizer = tokenizers.of_characters(_SHAKESPEARE) if newer else tokenizers.learn("ascii", "", "")
    return network.requires_grad_(False).eval(), tokenizer, origin


def _tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a state dict by name, also if the file nests it in another dict."""
    what = f"weights {str(path)!r}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about files that are refused below
            content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise TdiffError(f"{what} do not exist") from None
    except IsADirectoryError:
        raise TdiffError(f"{what} are a folder; a file such as diffusion_model.pt is read") from None
    except OSError as error:
        raise TdiffError(f"{what} cannot be read: {error.strerror or error}") from None
    except MemoryError:
        raise
    except Exception:  # of many classes; torch's message advises to unpickle the file anyway
        raise TdiffError(
            f"{what} are damaged, or a pickle with more than tensors, which is not read since it can run code; "
            "tiny-diffusion writes torch.save(model.state_dict(), FILE)"
        ) from None
    for nest in _NESTS:
        if isinstance(content, Mapping) and isinstance(content.get(nest), Mapping):
            content = content[nest]
    if not isinstance(content, Mapping) or not content or not all(isinstance(name, str) for name in content):
        raise TdiffError(f"{what} are not a dict of named tensors, as tiny-diffusion's model.state_dict() is")
    tensors = {_bare(name): value for name, value in content.items()}
    for name, value in tensors.items():
        if not isinstance(value, Tensor) or value.layout is not torch.strided or not value.is_floating_point():
            raise TdiffError(f"{what}: {name} is not a floating-point tensor; all of tiny-diffusion's weights are")
        if value.device.type != "cpu":
            raise TdiffError(f"{what}: {name} has a shape but no numbers")
    return tensors


def _bare(name: str) -> str:
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return name


def _shape(tensors: Mapping[str, Tensor], heads: int, path: Path, newer: bool) -> Shape:
    """The sizes of the model, from its weights. Raises TdiffError if a weight is missing or has an invalid shape."""
    what = f"weights {str(path)!r}"
    timed = () if newer else ("time_emb.weight",)
    for name in ("token_emb.weight", *timed, "blocks.0.mlp.c_fc.weight"):
        if name not in tensors:
            raise TdiffError(f"{what} lack {name}, which tiny-diffusion's model has; they begin with {min(tensors)}")
        shape = tuple(tensors[name].shape)
        if len(shape) != 2 or not 1 <= min(shape) <= max(shape) <= _LARGEST:
            raise TdiffError(
                f"{what}: {name} has shape {shape}; tiny-diffusion's is a matrix of at most "
                f"{_LARGEST:,} rows and columns"
            )
    characters, width = tensors["token_emb.weight"].shape
    known = 1 + len(_SHAKESPEARE) if newer else CHARACTERS
    if characters != known:
        described = f"the mask and the {known - 1} of Tiny Shakespeare" if newer else "one for each ASCII character"
        layout = f"tiny-diffusion's with {_NEWER_HEAD if newer else _HEAD}"
        raise TdiffError(f"{what}: token_emb.weight has {characters} rows; {layout} has {known}, {described}")
    if heads < 1 or width % (2 * heads):
        divisors = [n for n in range(1, width // 2 + 1) if width % (2 * n) == 0]
        nearest = f"; the nearest valid number is {min(divisors, key=lambda n: abs(n - heads))}" if divisors else ""
        raise TdiffError(f"--heads must split the width of {width} into parts of even size; got {heads}{nearest}")
    inner = tensors["blocks.0.mlp.c_fc.weight"].size(0)
    return Shape(
        vocab_size=known,
        mask_id=0,
        suppressed=(0,),
        layers=len({match[1] for name in tensors if (match := re.match(r"blocks\.(\d+)\.", name))}),
        heads=heads,
        width=width,
        window=WINDOW,
        time_conditioning=not newer,
        timesteps=0 if newer else tensors["time_emb.weight"].size(0),
        hidden=0 if inner == 4 * width else inner,
    )


def _check(
    name: str, tensors: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]], path: Path, newer: bool
) -> None:
    what, stored_name = f"weights {str(path)!r}", _NEWER_HEAD if newer and name == _HEAD else name
    if name not in tensors:
        raise TdiffError(f"{what} lack {stored_name}, which tiny-diffusion's model of that many blocks has")
    if name not in expected:
        raise TdiffError(f"{what} hold {stored_name}, which tiny-diffusion's model does not have")
    if tuple(tensors[name].shape) != expected[name]:
        raise TdiffError(
            f"{what}: {stored_name} has shape {tuple(tensors[name].shape)}; to fit the other weights it must have "
            f"{expected[name]}"
        )
    if not bool(torch.isfinite(tensors[name].float()).all()):
        raise TdiffError(f"{what}: {stored_name} holds numbers that are not finite")
