"""Files of a model folder: the JSON table config.json and weights in safetensors. No pickle is ever read or written."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from tdiff.errors import TdiffError
from tdiff.schema import build


def read_config(path: Path) -> dict[str, Any]:
    """Return the table in a JSON file. Raises TdiffError if the file cannot be read or holds no table."""
    try:
        config = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise TdiffError(f"model config {str(path)!r} cannot be read: {error}") from None
    if not isinstance(config, dict):
        raise TdiffError(f"model config {str(path)!r} is not a table of settings")
    return config


def build_table(kind: Any, values: Any, path: Path) -> Any:
    """Return an instance of the dataclass `kind` from a table of the file `path`; unknown keys are ignored.

    Raises TdiffError for a missing field or a value of the wrong type.
    """
    source = f"model config {str(path)!r}"
    if not isinstance(values, dict):
        raise TdiffError(f"{source}: origin is a table; got {values!r}")
    return build(kind, values, source=source, ignore_unknown=True)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file by name. Raises TdiffError if it is missing or damaged."""
    try:
        return load_file(path)
    except FileNotFoundError:
        raise TdiffError(f"weights {str(path)!r} do not exist") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise TdiffError(
            f"weights {str(path)!r} are damaged or not safetensors ({str(error).splitlines()[0]}); "
            "get or train the model again"
        ) from None


def put_weights(network: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Copy `tensors`, read from the file `path`, into the parameters of the network, converted to their dtype.

    A parameter that two modules share occurs once. Raises TdiffError as `checked_weights`; some are copied then.
    """
    parameters = dict(network.named_parameters())
    shapes = {name: parameter.shape for name, parameter in parameters.items()}
    with torch.no_grad():
        for name, tensor in checked_weights(shapes, tensors, path):
            parameters[name].copy_(tensor)


def checked_weights(
    shapes: Mapping[str, torch.Size], tensors: Mapping[str, Tensor], path: Path
) -> Iterator[tuple[str, Tensor]]:
    """Yield `tensors`, read from the file `path`, by name; each is asked for once, since it may be on the disk.

    Raises TdiffError naming the first that is missing or unknown, before all others, or of another shape than in
    `shapes`, or not finite.
    """
    for name in sorted(shapes.keys() | tensors.keys()):
        if name not in tensors:
            raise TdiffError(f"weights {str(path)!r} lack {name}, which config.json requires")
        if name not in shapes:
            raise TdiffError(f"weights {str(path)!r} hold {name}, which config.json does not describe")
    for name in sorted(shapes):
        tensor = tensors[name]
        if shapes[name] != tensor.shape:
            raise TdiffError(
                f"weights {str(path)!r}: {name} has shape {tuple(tensor.shape)}; "
                f"config.json requires {tuple(shapes[name])}"
            )
        if not bool(torch.isfinite(tensor).all()):
            raise TdiffError(f"weights {str(path)!r}: {name} holds numbers that are not finite")
        yield name, tensor
