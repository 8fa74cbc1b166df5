"""The model a run starts with: new weights, a model of tdiff or a pretrained one of Hugging Face; and saving it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch

from tdiff import hub
from tdiff.config.decoding import LEFT_TO_RIGHT, decoding
from tdiff.config.settings import DataSettings, ObjectiveSettings, Settings
from tdiff.core.diffusion import noise
from tdiff.core.models import mdlm, tokenizers
from tdiff.core.models.base import LoadedModel, Tokenizer, TrainableModel
from tdiff.core.models.files import read_config
from tdiff.core.models.folder import MODEL_TYPE, copy_weights
from tdiff.core.models.hf import backend, load
from tdiff.core.models.load import load_model, save_model
from tdiff.core.models.origin import Origin
from tdiff.core.models.transformer import Shape, Transformer
from tdiff.corpus.corpus import Corpus
from tdiff.errors import TdiffError
from tdiff.runs.run import Run
from tdiff.schema import Layer

_WINDOW = 128
"""Positions of a training row for a pretrained model, by default."""
# The names that the families of Hugging Face have for sizes in their configuration.
_SIZES = {
    "layers": ("num_hidden_layers", "n_layers", "n_layer", "num_layers"),
    "heads": ("num_attention_heads", "n_heads", "n_head"),
    "width": ("hidden_size", "dim", "n_embd", "emb_dim", "d_model"),
}
_POSITIONS = ("max_position_embeddings", "n_positions")
_FRAME = 4
"""Positions that no text has: those of the begin and end tokens, and the two that RoBERTa leaves out."""


def is_pretrained(name: str) -> bool:
    """Whether the model of that name is one of Hugging Face. Raises TdiffError where there is no such model."""
    return read_config(hub.find(name) / "config.json").get("model_type") != MODEL_TYPE


def sizes(name: str) -> Layer:
    """The settings that the source model determines: its sizes, and the length of a row."""
    folder = hub.find(name)
    config = read_config(folder / "config.json")
    if config.get("model_type") == MODEL_TYPE:
        names = {field.name for field in dataclasses.fields(Settings().model)}
        model = {k: v for k, v in config.items() if k in names}
        return {"model": model, "objective": {"timesteps": config["timesteps"]} if config.get("timesteps") else {}}
    if config.get("model_type") == mdlm.MODEL_TYPE:
        raise TdiffError(f"train.init: {name} is an MDLM: it can generate, but not be trained")
    values = {setting: next((config[k] for k in names if k in config), None) for setting, names in _SIZES.items()}
    positions = next((config[k] for k in _POSITIONS if isinstance(config.get(k), int)), _WINDOW + _FRAME)
    layer: Layer = {k: v for k, v in values.items() if isinstance(v, int)}
    layer["window"] = max(1, min(_WINDOW, positions - _FRAME))
    if (folder / hub.SIDECAR).is_file():
        sidecar = read_config(folder / hub.SIDECAR)
        layer |= {k: sidecar[k] for k in ("window", "time_conditioning") if k in sidecar}
    return {"model": layer}


_MASK_SETTINGS = ("timesteps", "schedule", "mask_rate_per", "least_masked", "most_masked")


def unread_settings(settings: Settings) -> list[str]:
    """The settings of masks that were set but have no effect, since the model to initialize from is causal."""
    if not settings.train.init:
        return []
    config = read_config(hub.find(settings.train.init) / "config.json")
    if config.get("model_type") == MODEL_TYPE or not backend.causal(settings.train.init, config):
        return []
    defaults = ObjectiveSettings()
    changed = (name for name in _MASK_SETTINGS if getattr(settings.objective, name) != getattr(defaults, name))
    return [f"objective.{name}" for name in changed]


def initial_model(settings: Settings, run: Run, corpus: Corpus, training: str) -> tuple[TrainableModel, Tokenizer]:
    """The network and the tokenizer of a run, on the CPU, ready to be trained.

    A saved run has both from its folder; its state is loaded later. Raises TdiffError where the model to initialize
    from is missing, a setting differs that it decides, or it was trained on the text that this run holds out.
    """
    saved = run.model if run.state.exists() else None
    name = str(saved or (hub.find(settings.train.init) if settings.train.init else ""))
    if name and is_pretrained(name):
        return _pretrained(settings, name, saved is None, corpus)
    for option in ("checkpointing", "fsdp"):
        if getattr(settings.train, option):
            raise TdiffError(f"train.{option} requires a pretrained model: leave it out")
    source = _source_model(settings, corpus, name) if name and saved is None else None
    tokenizer: Any = source.tokenizer if source else None
    if saved:
        tokenizer = tokenizers.load(saved / "tokenizer.json")
    elif source is None:
        data = settings.data
        tokenizer = tokenizers.learn(data.tokenizer, corpus.text, training, data.unknown == "token")
    model, objective = settings.model, settings.objective
    network = Transformer(
        Shape(
            vocab_size=len(tokenizer),
            mask_id=tokenizer.mask_id,
            suppressed=tokenizer.suppressed,
            timesteps=objective.timesteps if model.time_conditioning else 0,
            classes=len(corpus.classes) if settings.data.classes else 0,
            **dataclasses.asdict(model),
        ),
        settings.train.dropout,
    )
    network.initialise(torch.Generator().manual_seed(noise.mix(settings.train.seed)))
    if source is not None:
        copy_weights(source, network)
    return network, tokenizer


def save(folder: Path, network: TrainableModel, tokenizer: Tokenizer, origin: Origin, precision: str) -> None:
    """Write a model's folder; each file is whole or absent at any moment. `precision` as `train.weights`."""
    save_model(folder, network, tokenizer, origin, getattr(torch, precision))


def _pretrained(settings: Settings, name: str, fresh: bool, corpus: Corpus) -> tuple[TrainableModel, Tokenizer]:
    """A model of Hugging Face; `fresh` where it is not the run's own."""
    from transformers.pytorch_utils import Conv1D

    loaded, train = load_model(name), settings.train
    network, tokenizer = load.trainable(loaded), loaded.tokenizer
    if train.weights == "int8":
        raise TdiffError("train.weights int8 requires a model of tdiff; a pretrained one takes float32 or bfloat16")
    if train.compile == "on":
        raise TdiffError("train.compile on requires a model of tdiff: leave it out")
    if loaded.spec.causal:
        _check_causal(loaded, settings)
    if train.optimizer == "muon" and any(isinstance(m, Conv1D) for m in network.modules()):
        raise TdiffError(f"train.optimizer muon does not support {loaded.name}, whose matrices are transposed (Conv1D)")
    if fresh:
        _check_text(loaded, settings, corpus)
        decided = dataclasses.asdict(Settings().model) | sizes(name)["model"]
        for setting, required in decided.items():
            value = getattr(settings.model, setting)
            added = setting == "time_conditioning" and value
            if setting != "window" and value != required and not added:
                raise TdiffError(
                    f"model.{setting} is {required} in {loaded.name}, the model of train.init; got {value}"
                )
        try:
            network.set_context(settings.model.window)
        except ValueError as error:
            raise TdiffError(f"model.window is too large for {loaded.name}: {error}") from None
        network.add_classes(len(corpus.classes) if settings.data.classes else 0)
        if settings.model.time_conditioning and not network.timed:
            network.add_time(torch.Generator().manual_seed(noise.mix(train.seed)))
    if settings.data.rows == "padded" and not network.spec.pads:
        raise TdiffError(f"data.rows padded: {loaded.name} attends to padding: use data.rows packed")
    try:
        network.train_with(train.dropout, train.checkpointing)
    except ValueError as error:
        raise TdiffError(f"train.checkpointing is not available for {loaded.name}: {error}") from None
    return network, tokenizer


def _check_causal(model: LoadedModel, settings: Settings) -> None:
    """Raises TdiffError for settings that only a masked model takes."""
    if settings.model.time_conditioning:
        raise TdiffError(f"model.time_conditioning requires a masked model; {model.name} is causal")
    if settings.data.classes:
        raise TdiffError(
            f"data.classes requires a masked model; {model.name} is causal: train one model per class with --per-class"
        )
    options = settings.train.decoding
    if options and decoding(options)["decoder"] != LEFT_TO_RIGHT:
        raise TdiffError(f"train.decoding: {model.name} is causal and takes decoder={LEFT_TO_RIGHT}; got {options[0]}")


def _source_model(settings: Settings, corpus: Corpus, name: str) -> LoadedModel:
    """The model of tdiff that a run is initialized from."""
    model = load_model(name)
    _check_text(model, settings, corpus)
    return model


def _check_text(model: LoadedModel, settings: Settings, corpus: Corpus) -> None:
    """Raises TdiffError for another tokenizer than the model's, or held-out text that the model was trained on."""
    if settings.data.tokenizer != DataSettings().tokenizer:
        raise TdiffError(
            f"train.init brings the tokenizer of {model.name}: leave out data.tokenizer {settings.data.tokenizer!r}"
        )
    origin = model.origin
    trained_on_it = origin.steps and origin.held_out == "tenth" and origin.corpus_sha256 in ("", corpus.sha256())
    if settings.data.held_out == "tuning" and trained_on_it:
        raise TdiffError(
            f"{model.name} was trained on the tuning part of this text, so it cannot be held out: leave out "
            "data.held_out, or initialize from another model"
        )
