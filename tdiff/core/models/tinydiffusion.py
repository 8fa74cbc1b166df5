"""tiny-diffusion's weights, a pickle of tensors as `torch.save` writes one, as a model of ours.

Its model is one configuration of our own (see `models`), so that the names of the weights and their shapes are the
same; what the shapes do not tell is fixed there: a window of 256 characters, the first 16 of which are given. There are
two layouts: that of October 2025, with a table of 128 times and the 128 ASCII characters, and that of December 2025,
whose head is called lm_head, which is told no time, and whose vocabulary is `_` for the mask and the 65 characters of
Tiny Shakespeare in their order.
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
"""The characters of Tiny Shakespeare, which in the newer layout stand after the mask."""
_NEWER_HEAD, _HEAD = "lm_head.weight", "output_head.weight"
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
    # The time it was told in training is the share of the 240 characters after the given ones that is masked, and of
    # the places that may be masked a decoder tells the same. The newer one is told no time, and masks any character,
    # the first 16 too. The thresholds are their authors' own.
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


def _shape(tensors: Mapping[str, Tensor], heads: int, path: Path, newer: bool) -> Shape:
    """The sizes that the weights tell. Raises TdiffError where those they tell of are missing, or no such model's."""
    what = f"weights {str(path)!r}"
    timed = () if newer else ("time_emb.weight",)
    for name in ("token_emb.weight", *timed, "blocks.0.mlp.c_fc.weight"):
        if name not in tensors:
            raise TdiffError(f"{what} lack {name}, which tiny-diffusion's model has; they begin with {min(tensors)}")
        shape = tuple(tensors[name].shape)
        if len(shape) != 2 or not 1 <= min(shape) <= max(shape) <= _LARGEST:
            raise TdiffError(f"{what}: {name} has shape {shape}; tiny-diffusion's is a matrix, and no huge one")
    characters, width = tensors["token_emb.weight"].shape
    known = 1 + len(_SHAKESPEARE) if newer else CHARACTERS
    if characters != known:
        each = f"the mask and the {known - 1} of Tiny Shakespeare" if newer else "one for each ASCII character"
        layout = f"tiny-diffusion's with {_NEWER_HEAD if newer else _HEAD}"
        raise TdiffError(f"{what}: token_emb.weight has {characters} rows; {layout} has {known}, {each}")
    if heads < 1 or width % (2 * heads):
        fitting = [n for n in range(1, width // 2 + 1) if width % (2 * n) == 0]
        near = f"; the nearest that can be is {min(fitting, key=lambda n: abs(n - heads))}" if fitting else ""
        raise TdiffError(f"--heads must share out the width of {width} into parts of even size; got {heads}{near}")
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
    what, there = f"weights {str(path)!r}", _NEWER_HEAD if newer and name == _HEAD else name
    if name not in tensors:
        raise TdiffError(f"{what} lack {there}, which tiny-diffusion's model of that many blocks has")
    if name not in expected:
        raise TdiffError(f"{what} hold {there}, which tiny-diffusion's model does not have")
    if tuple(tensors[name].shape) != expected[name]:
        raise TdiffError(
            f"{what}: {there} has shape {tuple(tensors[name].shape)}; beside its other weights it would have "
            f"{expected[name]}"
        )
    if not bool(torch.isfinite(tensors[name].float()).all()):
        raise TdiffError(f"{what}: {there} holds numbers that are not finite")
