"""The format of tdiff's models: a folder of config.json, model.safetensors and tokenizer.json."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as to_bytes
from torch import Tensor

from tdiff import hub
from tdiff.core.models import tokenizers
from tdiff.core.models.base import LoadedModel, Model, Tokenizer
from tdiff.core.models.files import build_table, put_weights, read_tensors
from tdiff.core.models.labels import add_missing_bias
from tdiff.core.models.origin import Origin, read_origin
from tdiff.core.models.transformer import Shape, Transformer
from tdiff.errors import TdiffError
from tdiff.files import write_atomic
from tdiff.runs import retention
from tdiff.schema import MOST, plain

MODEL_TYPE = "tdiff"
"""`model_type` in config.json."""


def load(name: str, folder: Path, config: Mapping[str, Any], device: str) -> LoadedModel:
    """Load the model in `folder`, whose config.json holds `config`, in evaluation mode.

    Raises TdiffError if a file is missing or damaged, or the weights or the tokenizer do not fit the config.
    """
    shape = build_table(Shape, config, folder / "config.json")
    _check_shape(shape, folder / "config.json")
    origin = read_origin(config, folder / "config.json")
    if len(origin.classes) != shape.classes:
        raise TdiffError(f"model config {str(folder / 'config.json')!r}: classes cannot be {shape.classes}")
    tokenizer = tokenizers.load(folder / "tokenizer.json")
    if len(tokenizer) != shape.vocab_size or tokenizer.mask_id != shape.mask_id:
        raise TdiffError(
            f"model {name!r} does not fit its tokenizer: {shape.vocab_size} tokens with mask {shape.mask_id}, "
            f"but tokenizer.json has {len(tokenizer)} with mask {tokenizer.mask_id}"
        )
    network = Transformer(shape)
    weights = folder / "model.safetensors"
    tensors = _dequantized(read_tensors(weights), weights)
    add_missing_bias(tensors, network.label_bias)
    put_weights(network, tensors, weights)
    network.requires_grad_(False).eval().to(device)
    label = retention.model_name(folder) or hub.repository(folder) or folder.name
    return LoadedModel(label, folder, network, tokenizer, origin)


def save(folder: Path, network: Model, tokenizer: Tokenizer, origin: Origin, dtype: torch.dtype) -> None:
    """Write a model folder with weights of that dtype; int8 is for the large matrices only.

    Each file is complete or absent at any moment.
    """
    assert isinstance(network, Transformer), "the spec of the network names this family"
    config = {
        "model_type": MODEL_TYPE,
        "architectures": ["Transformer"],
        **dataclasses.asdict(network.shape),
        "origin": dataclasses.asdict(origin),
    }
    tokenizer.save(folder)
    write_atomic(folder / "model.safetensors", to_bytes(_on_disk(network.state_dict(), dtype), {"format": "pt"}))
    write_atomic(folder / "config.json", json.dumps(config, indent=2, ensure_ascii=False).encode())


def copy_weights(source: LoadedModel, network: Transformer) -> None:
    """Initialize `network` with the weights of `source`; its blocks beyond those of the source keep their own weights,
    which write nothing to the residual stream yet. So do the weights for classes and pairs if the source has none.

    Raises TdiffError if the two differ in anything else.
    """
    if not isinstance(source.network, Transformer):
        raise TdiffError(f"cannot initialize from {source.name}: it is not a model of tdiff")
    for name, source_size in dataclasses.asdict(source.network.shape).items():
        size = getattr(network.shape, name)
        extends = (name == "layers" and size > source_size) or (name in ("classes", "pairs") and not source_size)
        if size != source_size and not extends:
            raise TdiffError(
                f"cannot initialize from {source.name}: its {name} is {source_size}, the new model's is {size}; only "
                "model.layers may be larger"
            )
    network.load_state_dict(network.state_dict() | source.network.state_dict())


def _on_disk(tensors: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """Return the tensors as they are stored; for int8 each large matrix (R, C) comes with a scale (R,) for its rows."""
    rest = torch.float32 if dtype is torch.int8 else dtype
    stored = {name: tensor.detach().to("cpu", rest).contiguous() for name, tensor in tensors.items()}
    if dtype is torch.int8:
        for name, tensor in list(stored.items()):
            if tensor.ndim == 2 and tensor.numel() >= _LARGE:
                scale = tensor.abs().amax(1).clamp(min=1e-30) / 127
                stored[name] = (tensor / scale[:, None]).round().to(torch.int8)
                stored[name + _SCALE] = scale
    return stored


def _dequantized(tensors: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Return the tensors with int8 matrices as float32. Raises TdiffError for one without scales that fit."""
    full = dict(tensors)
    for name, tensor in tensors.items():
        if tensor.dtype is torch.int8:
            scale = full.pop(name + _SCALE, None)
            if scale is None or tensor.ndim != 2 or scale.shape != tensor.shape[:1]:
                raise TdiffError(f"weights {str(path)!r} hold {name} in 8 bits, without the scales of its rows")
            full[name] = tensor * scale[:, None]
    return full


_LARGE = 1 << 14  # numbers of a matrix; in a smaller one 8 bits save too little
_SCALE = ".scale"


def _check_shape(shape: Shape, path: Path) -> None:
    sound = {
        "vocab_size": 1 < shape.vocab_size <= MOST,
        "mask_id": 0 <= shape.mask_id < shape.vocab_size,
        "suppressed": shape.mask_id in shape.suppressed and all(0 <= i < shape.vocab_size for i in shape.suppressed),
        "layers": 1 <= shape.layers <= 1000,
        "width": 1 <= shape.width <= 1 << 16,
        "heads": shape.heads >= 1 and shape.width % (2 * shape.heads) == 0,
        "window": 1 <= shape.window <= 1 << 20,
        "conv": shape.conv == 0 or (shape.conv > 0 and shape.conv % 2 == 1),
        "timesteps": 0 <= shape.timesteps <= MOST,
        "hidden": 0 <= shape.hidden <= 1 << 18,
        "classes": 0 <= shape.classes <= MOST,
        "pairs": 0 <= shape.pairs <= MOST and (not shape.pairs or shape.classes > 0),
    }
    for name, good in sound.items():
        if not good:
            raise TdiffError(f"model config {str(path)!r}: {name} cannot be {plain(getattr(shape, name))!r}")
