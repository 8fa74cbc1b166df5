"""Masked and causal language models of Hugging Face, loaded from folders and saved to them.

`backend` reads their files; `tokenizer`, `masked` and `causal` adapt them to the model contract.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save as to_bytes

from tdiff import hub
from tdiff.config.decoding import LEFT_TO_RIGHT, decoding
from tdiff.core.models.base import LoadedModel, Model, Tokenizer
from tdiff.core.models.files import put_weights, read_config, read_tensors
from tdiff.core.models.hf import backend
from tdiff.core.models.hf.base import HFBackbone
from tdiff.core.models.hf.causal import CausalLM
from tdiff.core.models.hf.masked import MaskedLM
from tdiff.core.models.hf.tokenizer import HubTokenizer
from tdiff.core.models.labels import add_missing_bias
from tdiff.core.models.origin import Origin, origin_unknown, read_origin
from tdiff.errors import TdiffError
from tdiff.files import CannotWrite
from tdiff.hub import CONDITIONING, SIDECAR
from tdiff.runs import retention

_SCRATCH = ".model."
_DEFAULT_POSITIONS = 1024
"""Positions of a causal model whose config does not give their number."""
_OVERLAP = 16
"""Positions that one window of a sliding canvas shares with the next for a masked model of unknown training."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Sidecar:
    """What SIDECAR holds."""

    context: int = 0
    timed: bool = False
    origin: Origin | None = None


def is_causal(name: str, config: Mapping[str, Any]) -> bool:
    """Return whether the config is that of a causal language model."""
    return backend.causal(_describe(name, config), config) is not None


def load_masked(name: str, folder: Path, config: Mapping[str, Any], device: str) -> LoadedModel:
    """Load the masked model in `folder`, whose config.json holds `config`, in evaluation mode and float32.

    Raises TdiffError if it is not a masked language model, its weights are missing, damaged, pickled or lack the
    masked-LM head, or its tokenizer is missing or does not fit.
    """
    what = _describe(name, config)
    settings = _masked_settings(what, config)
    backend.weights(name, folder)  # reported before a tokenizer that is missing too
    hub_tokenizer = backend.tokenizer(folder, settings)
    size = backend.vocabulary(what, settings)
    with backend.one_line(f"tokenizer {str(folder / 'tokenizer.json')!r} cannot be used"):
        tokenizer = HubTokenizer(hub_tokenizer, size, name)
    # Built and tried on the CPU.
    model = backend.build("MODEL_FOR_MASKED_LM_MAPPING", what, name, folder, settings, "masked-LM head")
    extra = _read_sidecar(folder)
    classes = len(extra.origin.classes) if extra.origin else 0
    with backend.one_line(f"{what} and cannot be asked for the tokens of a text"):
        network = MaskedLM(model, tokenizer, extra.context, extra.timed, classes).to(device)
    if conditioning := network.conditioning():
        tensors = read_tensors(folder / CONDITIONING)
        add_missing_bias(tensors, network.label_bias)
        put_weights(conditioning, tensors, folder / CONDITIONING)
        conditioning.requires_grad_(False)
    origin = extra.origin or origin_unknown(_OVERLAP, _step(folder))
    return LoadedModel(_label(folder, extra), folder, network, tokenizer, origin)


def load_causal(name: str, folder: Path, config: Mapping[str, Any], device: str) -> LoadedModel:
    """Load the causal model in `folder`, whose config.json holds `config`, in evaluation mode and float32.

    Raises TdiffError as `load_masked`, and for decoding settings of another decoder than the autoregressive one.
    """
    what = _describe(name, config)
    settings = backend.causal(what, config)
    backend.weights(name, folder)
    hub_tokenizer = backend.tokenizer(folder, settings)
    size = backend.vocabulary(what, settings)
    with backend.one_line(f"tokenizer {str(folder / 'tokenizer.json')!r} cannot be used"):
        # The mask of a causal model, a token that is not generated yet, is an id behind all of the model's.
        tokenizer = HubTokenizer(hub_tokenizer, size + 1, name, size)
    model = backend.build("MODEL_FOR_CAUSAL_LM_MAPPING", what, name, folder, settings, "language-model head")
    extra = _read_sidecar(folder)
    with backend.one_line(f"{what} and cannot be asked for the tokens of a text"):
        positions = backend.positions(settings) or _DEFAULT_POSITIONS
        network = CausalLM(model, tokenizer, positions, extra.context).to(device)
    origin = extra.origin or origin_unknown(network.spec.context // 2, _step(folder))
    ways = origin.decoding or (f"decoder={LEFT_TO_RIGHT}",)
    if decoding(ways)["decoder"] != LEFT_TO_RIGHT:
        raise TdiffError(
            f"model config {str(folder / SIDECAR)!r}: {what}, which is autoregressive and cannot decode by {ways[0]}"
        )
    origin = dataclasses.replace(origin, decoding=ways)
    return LoadedModel(_label(folder, extra), folder, network, tokenizer, origin)


def trainable(model: LoadedModel) -> HFBackbone:
    """Return the network of a model of Hugging Face, to be prepared for training.

    Raises TdiffError for a model of another family.
    """
    if not isinstance(model.network, HFBackbone):
        raise TdiffError(f"train.init: {model.name} can be generated with, but not trained")
    return model.network


def save(folder: Path, network: Model, tokenizer: Tokenizer, origin: Origin, dtype: torch.dtype) -> None:
    """Write the model as transformers does, and beside it the files that only tdiff reads: its origin, context length
    and conditioning.

    Each file is complete or absent at any moment. Without conditioning transformers reads the very same model. Raises
    CannotWrite, for example for a full disk.
    """
    assert isinstance(network, HFBackbone), "the spec of the network names this family"
    try:
        _write(folder, network, tokenizer, origin, dtype)
    except CannotWrite:
        raise
    except (SafetensorError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise CannotWrite(_target(error.filename2 or error.filename, folder), error) from error
        if not (found := re.search(r"\(os error (\d+)\)", str(error))):
            raise
        number = int(found[1])  # of the weights, which Rust writes
        needed = dtype.itemsize * sum(parameter.numel() for parameter in network.model.parameters())
        raise CannotWrite(folder / "model.safetensors", OSError(number, os.strerror(number)), needed) from error


def _target(name: object, folder: Path) -> Path:
    """The file in `folder` that is first written as `name`, which an OSError has; the folder if it names no file."""
    if not isinstance(name, (str, os.PathLike)):  # as when the disk is full in the middle of a file
        return folder
    path, parent = Path(name).absolute(), folder.parent.absolute()
    if path.is_relative_to(parent) and (parts := path.relative_to(parent).parts) and parts[0].startswith(_SCRATCH):
        return folder.joinpath(*parts[1:])
    return Path(name)


def _write(folder: Path, network: HFBackbone, tokenizer: Tokenizer, origin: Origin, dtype: torch.dtype) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.parent.glob(f"{_SCRATCH}*"):  # by a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    with TemporaryDirectory(dir=folder.parent, prefix=_SCRATCH) as scratch:
        written = Path(scratch)
        model = network.model if dtype is torch.float32 else copy.deepcopy(network.model).to(dtype)
        model.save_pretrained(written)
        config = read_config(written / "config.json")
        # A model that is initialized from this one gets the original dropout, not that of this run.
        config |= network.original_dropout
        (written / "config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")
        tokenizer.save(written)
        if conditioning := network.conditioning():
            tensors = {name: p.detach().cpu().contiguous() for name, p in conditioning.named_parameters()}
            (written / CONDITIONING).write_bytes(to_bytes(tensors, {"format": "pt"}))
        sidecar = {
            "origin": dataclasses.asdict(origin),
            "window": network.spec.context,
            "time_conditioning": network.timed,
        }
        (written / SIDECAR).write_text(json.dumps(sidecar, indent=2, ensure_ascii=False), "utf-8")
        # The configuration last: a folder without one is not a model yet.
        for file in sorted(written.iterdir(), key=lambda path: path.name == "config.json"):
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
            file.chmod(0o644)  # a file made in a scratch folder is readable by its owner alone
            file.replace(folder / file.name)


def _describe(name: str, config: Mapping[str, Any]) -> str:
    """Return the beginning of an error about the model."""
    return f"model {name!r} is of type {config.get('model_type')!r}"


def _read_sidecar(folder: Path) -> _Sidecar:
    """Return what SIDECAR holds, with defaults if there is none. Raises TdiffError if it is not valid."""
    path = folder / SIDECAR
    if not path.is_file():
        return _Sidecar()
    table = read_config(path)
    context, timed = table.get("window", 0), table.get("time_conditioning", False)
    if not isinstance(context, int) or not isinstance(timed, bool):
        raise TdiffError(f"model config {str(path)!r}: window and time_conditioning cannot be that")
    return _Sidecar(context, timed, read_origin(table, path) if table else None)


def _step(folder: Path) -> int:
    """Return the training step in the name of a Trainer's checkpoint folder; 0 for another folder."""
    step = re.fullmatch(r"checkpoint-(\d+)", folder.name)
    return int(step[1]) if step else 0


def _label(folder: Path, extra: _Sidecar) -> str:
    """Return the name to show for the model in `folder`."""
    if extra.origin is not None and (name := retention.model_name(folder.resolve())):
        return name
    if re.fullmatch(r"checkpoint-\d+", folder.name):
        return f"{folder.resolve().parent.name}/{folder.name}"
    return hub.repository(folder) or folder.resolve().name


def _masked_settings(what: str, config: Mapping[str, Any]) -> Any:
    """Return the configuration as transformers holds it. Raises TdiffError if it is not that of a masked model."""
    transformers, model_type = backend.library(), config["model_type"]
    if model_type not in transformers.models.auto.modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES:
        raise TdiffError(
            f"{what}, which is not a masked or autoregressive language model; tdiff reads its own models and those of "
            "Hugging Face such as bert, roberta, modernbert or gpt2"
        )
    settings = backend.settings(what, config)
    if getattr(settings, "is_decoder", False) or getattr(settings, "is_encoder_decoder", False):
        raise TdiffError(f"{what} with a decoder, which is autoregressive and cannot fill in masks")
    return settings
