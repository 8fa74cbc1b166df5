"""Hugging Face masked language models as denoisers, from folders on disk.

How they are read is told by `hub`; what becomes of them by `hub_tokenizer` and `masked_lm`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tdiff.core import hub
from tdiff.core.checkpoint import LoadedModel, Origin
from tdiff.core.hub_tokenizer import HubTokenizer
from tdiff.core.masked_lm import MaskedLM
from tdiff.errors import TdiffError

_OVERLAP = 16
"""Places of context for the next window of a sliding canvas: nobody practised another number."""


def load(name: str, folder: Path, config: dict[str, Any], device: str) -> LoadedModel:
    """The masked language model in `folder`, whose config.json says `config`, in evaluation mode and float32.

    Raises TdiffError where it is of a kind that fills in no masks, its weights are missing, damaged, pickled or lack
    the part that proposes tokens, or its tokenizer is missing or does not fit.
    """
    what = f"model {name!r} is of type {config['model_type']!r}"
    settings = _settings(what, config)
    hub.weights(name, folder)  # named before a tokenizer that is missing too
    theirs = hub.tokenizer(folder, settings)
    with hub.one_line(f"tokenizer {str(folder / 'tokenizer.json')!r} cannot be used"):
        tokenizer = HubTokenizer(theirs, settings.vocab_size, name)
    model = hub.build("MODEL_FOR_MASKED_LM_MAPPING", what, name, folder, settings, "masked-LM head").to(device)
    with hub.one_line(f"{what} and cannot be asked for the tokens of a text"):
        network = MaskedLM(model, tokenizer).to(device)
    step = re.fullmatch(r"checkpoint-(\d+)", folder.name)
    label = f"{folder.resolve().parent.name}/{folder.name}" if step else folder.resolve().name
    return LoadedModel(label, folder, network, tokenizer, _origin(int(step[1]) if step else 0))


def _origin(steps: int) -> Origin:
    return Origin(
        corpus="",
        sources=(),
        text_field="text",
        timesteps=0,
        schedule="linear",
        context=_OVERLAP,
        context_mode="random",
        openings=(),
        steps=steps,
        tokens=0,
    )


def _settings(what: str, config: dict[str, Any]) -> Any:
    """The configuration as transformers holds it. Raises TdiffError where it is not that of a masked language model."""
    transformers, kind = hub.library(), config["model_type"]
    if kind not in transformers.models.auto.modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES:
        raise TdiffError(
            f"{what}, which is not a masked language model; tdiff reads its own models and those of Hugging Face "
            "that fill in masks, such as bert, roberta or modernbert"
        )
    settings = hub.settings(what, config)
    if getattr(settings, "is_decoder", False) or getattr(settings, "is_encoder_decoder", False):
        raise TdiffError(f"{what} with a decoder, which writes from left to right and cannot fill in masks")
    return settings
