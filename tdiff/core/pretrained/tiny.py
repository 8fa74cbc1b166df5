"""tiny-diffusion's weights, a pickle of tensors as `torch.save` writes one, as a model of ours.

Its model is one configuration of our own (see `models`), so that the names of the weights and their shapes are the
same; what the shapes do not tell is fixed there: a window of 256 characters, the first 16 of which are given.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tdiff.core import tokenizers
from tdiff.core.checkpoint import Origin
from tdiff.core.models import Shape, Transformer
from tdiff.core.tokenizers import TextTokenizer
from tdiff.errors import TdiffError

WINDOW, CONTEXT, CHARACTERS = 256, 16, 128
HEADS = 6
_LARGEST = 1 << 16
_NESTS = ("model", "model_state_dict", "state_dict")
_PREFIXES = ("_orig_mod.", "module.")
"""What torch.compile and data-parallel training put before the names."""


def read(path: Path, heads: int = HEADS) -> tuple[Transformer, TextTokenizer, Origin]:
    """The model in the file `path`, in evaluation mode, its tokenizer, and what is known of where it comes from.

    The sizes are those of the weights, but for `heads`, which leave no trace in them. Nothing but tensors is ever
    unpickled. Raises TdiffError where the file cannot be read so, is damaged, or holds other weights.
    """
    tensors = _tensors(path)
    shape = _shape(tensors, heads, path)
    with torch.device("meta"):
        expected = {name: tuple(tensor.shape) for name, tensor in Transformer(shape).state_dict().items()}
    for name in sorted(expected.keys() | tensors.keys()):
        _check(name, tensors, expected, path)
    network = Transformer(shape)
    network.load_state_dict(tensors)
    # The time it was told in training is the share of the 240 characters after the given ones that is masked, and of
    # the places that may be masked a decoder tells the same. The threshold is its authors' own.
    origin = Origin(
        corpus="",
        sources=(),
        text_field="text",
        timesteps=shape.timesteps,
        schedule="linear",
        context=CONTEXT,
        context_mode="fixed",
        openings=(),
        steps=0,
        tokens=0,
        decoding=("decoder=confidence", "threshold=0.9"),
    )
    return network.requires_grad_(False).eval(), tokenizers.learn("ascii", "", ""), origin


def _tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a state dict, by their names, wherever it lies in the file."""
    what = f"weights {str(path)!r}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of files that are refused below anyway
            held: Any = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise TdiffError(f"{what} do not exist") from None
    except IsADirectoryError:
        raise TdiffError(f"{what} are a folder; a file such as diffusion_model.pt is read") from None
    except OSError as why:
        raise TdiffError(f"{what} cannot be read: {why.strerror or why}") from None
    except MemoryError:
        raise
    except Exception:  # of many classes; torch's own text advises to unpickle all the same
        raise TdiffError(
            f"{what} are damaged, or a pickle of more than tensors, which is not read since that can run code; "
            "tiny-diffusion writes torch.save(model.state_dict(), FILE)"
        ) from None
    for nest in _NESTS:
        if isinstance(held, Mapping) and isinstance(held.get(nest), Mapping):
            held = held[nest]
    if not isinstance(held, Mapping) or not held or not all(isinstance(name, str) for name in held):
        raise TdiffError(f"{what} are no table of named tensors, as tiny-diffusion's model.state_dict() is")
    tensors = {_bare(name): value for name, value in held.items()}
    for name, value in tensors.items():
        if not isinstance(value, Tensor) or value.layout is not torch.strided or not value.is_floating_point():
            raise TdiffError(f"{what}: {name} is no tensor of floating-point numbers; tiny-diffusion's weights all are")
        if value.device.type != "cpu":
            raise TdiffError(f"{what}: {name} has a shape but no numbers")
    return tensors


def _bare(name: str) -> str:
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return name


def _shape(tensors: Mapping[str, Tensor], heads: int, path: Path) -> Shape:
    """The sizes that the weights tell. Raises TdiffError where those they tell of are missing, or no such model's."""
    what = f"weights {str(path)!r}"
    for name in ("token_emb.weight", "time_emb.weight", "blocks.0.mlp.c_fc.weight"):
        if name not in tensors:
            raise TdiffError(f"{what} lack {name}, which tiny-diffusion's model has; they begin with {min(tensors)}")
        shape = tuple(tensors[name].shape)
        if len(shape) != 2 or not 1 <= min(shape) <= max(shape) <= _LARGEST:
            raise TdiffError(f"{what}: {name} has shape {shape}; tiny-diffusion's is a matrix, and no huge one")
    characters, width = tensors["token_emb.weight"].shape
    if characters != CHARACTERS:
        raise TdiffError(
            f"{what}: token_emb.weight has {characters} rows; tiny-diffusion's has {CHARACTERS}, one for each ASCII "
            "character"
        )
    if heads < 1 or width % (2 * heads):
        fitting = [n for n in range(1, width // 2 + 1) if width % (2 * n) == 0]
        near = f"; the nearest that can be is {min(fitting, key=lambda n: abs(n - heads))}" if fitting else ""
        raise TdiffError(f"--heads must share out the width of {width} into parts of even size; got {heads}{near}")
    inner = tensors["blocks.0.mlp.c_fc.weight"].size(0)
    return Shape(
        vocab_size=CHARACTERS,
        mask_id=0,
        suppressed=(0,),
        layers=len({match[1] for name in tensors if (match := re.match(r"blocks\.(\d+)\.", name))}),
        heads=heads,
        width=width,
        window=WINDOW,
        time_conditioning=True,
        timesteps=tensors["time_emb.weight"].size(0),
        hidden=0 if inner == 4 * width else inner,
    )


def _check(name: str, tensors: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]], path: Path) -> None:
    what = f"weights {str(path)!r}"
    if name not in tensors:
        raise TdiffError(f"{what} lack {name}, which tiny-diffusion's model of that many blocks has")
    if name not in expected:
        raise TdiffError(f"{what} hold {name}, which tiny-diffusion's model has no place for")
    if tuple(tensors[name].shape) != expected[name]:
        raise TdiffError(
            f"{what}: {name} has shape {tuple(tensors[name].shape)}; beside its other weights it would have "
            f"{expected[name]}"
        )
    if not bool(torch.isfinite(tensors[name].float()).all()):
        raise TdiffError(f"{what}: {name} holds numbers that are not finite")
