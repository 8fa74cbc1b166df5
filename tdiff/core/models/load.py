"""The families of models, and how a model is found and loaded. To add a family: write its file and add its row here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch

from tdiff import hub
from tdiff.core.models import folder as tdiff_folder
from tdiff.core.models import mdlm
from tdiff.core.models.base import LoadedModel, Model, Tokenizer
from tdiff.core.models.files import read_config
from tdiff.core.models.hf import load as hf
from tdiff.core.models.origin import Origin
from tdiff.errors import TdiffError

Config = Mapping[str, Any]
"""The table in a model's config.json."""


@dataclass(frozen=True, slots=True)
class Family:
    """How models of a family are read and written."""

    load: Callable[[str, Path, Config, str], LoadedModel]
    """(name, folder, config, device) -> the model in evaluation mode."""
    save: Callable[[Path, Model, Tokenizer, Origin, torch.dtype], None] | None = None
    """(folder, network, tokenizer, origin, dtype): writes a model folder. None: models are only read, not trained."""

    @property
    def trainable(self) -> bool:
        """Whether models of the family can be trained."""
        return self.save is not None


FAMILIES: dict[str, Family] = {
    "tdiff": Family(tdiff_folder.load, tdiff_folder.save),
    "mdlm": Family(mdlm.load),
    "masked-lm": Family(hf.load_masked, hf.save),
    "causal-lm": Family(hf.load_causal, hf.save),
}
"""By the name in `ModelSpec.family`."""
_BY_TYPE = {tdiff_folder.MODEL_TYPE: "tdiff", mdlm.MODEL_TYPE: "mdlm"}
"""`model_type` of config.json -> family; all other types are architectures of Hugging Face."""

_LOADED: WeakKeyDictionary[Model, tuple[str, Tokenizer]] = WeakKeyDictionary()
"""What belongs to a network, for those who have the network alone."""


def family_of(name: str, config: Config) -> str:
    """Return the family of the model `name` with that config. Raises TdiffError if there is none."""
    model_type = config.get("model_type")
    if not isinstance(model_type, str):
        raise TdiffError(
            f"model {name!r} is of type {model_type!r}; config.json says {tdiff_folder.MODEL_TYPE!r} for models of "
            "tdiff, and names the architecture for those of Hugging Face"
        )
    if model_type in _BY_TYPE:
        return _BY_TYPE[model_type]
    return "causal-lm" if hf.is_causal(name, config) else "masked-lm"


def load_model(name: str, device: str = "cpu", progress: hub.Progress | None = None) -> LoadedModel:
    """Load a model of any family in evaluation mode.

    `name` is a folder, the name of a run, or a name on the Hugging Face hub: see `hub.find`, which reports downloads to
    `progress`. Raises TdiffError if the model is missing, of an unknown type, truncated, or its weights do not fit its
    config.
    """
    folder = hub.find(name, progress)
    config = read_config(folder / "config.json")
    model = FAMILIES[family_of(name, config)].load(name, folder, config, device)
    _LOADED[model.network] = model.name, model.tokenizer
    return model


def loaded_as(network: Model) -> tuple[str, Tokenizer] | None:
    """The name and the tokenizer with which `load_model` loaded a network; None for any other network."""
    return _LOADED.get(network)


def save_model(
    folder: Path,
    network: Model,
    tokenizer: Tokenizer,
    origin: Origin,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write a model folder in the format of the model's family, with weights of that dtype.

    Each file is complete or absent at any moment. Raises TdiffError for a family that is only read.
    """
    save = FAMILIES[network.spec.family].save
    if save is None:
        raise TdiffError(f"models of the family {network.spec.family} cannot be saved")
    save(folder, network, tokenizer, origin, dtype)
