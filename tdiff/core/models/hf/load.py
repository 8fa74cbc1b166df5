"""Language models of Hugging Face, masked and causal, as denoisers, from folders on disk and back.

How they are read is told by `hub`; what becomes of them by `hub_tokenizer`, `masked_lm` and `causal_lm`.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import re
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import save as to_bytes

from tdiff import hub
from tdiff.config.decoding import LEFT_TO_RIGHT, decoding
from tdiff.core.models import mdlm
from tdiff.core.models.folder import LoadedModel, Origin, put_weights, read_config, read_origin, read_tensors
from tdiff.core.models.hf import backend
from tdiff.core.models.hf.base import origin_unknown
from tdiff.core.models.hf.causal import CausalLM
from tdiff.core.models.hf.masked import MaskedLM
from tdiff.core.models.hf.tokenizer import HubTokenizer
from tdiff.errors import TdiffError

SIDECAR = "tdiff.json"
"""What tdiff knows of such a model that transformers has no place for."""
_TOLD = "told.safetensors"
"""The weights by which it is told the time and of classes."""
_SCRATCH = ".model."
_UNSAID = 1024
"""Places of a causal model that says nothing of how far it sees."""
_OVERLAP = 16
"""Places of context for the next window of a sliding canvas: nobody practised another number."""


def load(name: str, folder: Path, config: dict[str, Any], device: str) -> LoadedModel:
    """The model in `folder`, whose config.json says `config`, in evaluation mode and float32: masked or causal.

    Raises TdiffError where it is of a kind that is neither, its weights are missing, damaged, pickled or lack
    the part that proposes tokens, or its tokenizer is missing or does not fit.
    """
    if config["model_type"] == mdlm.MODEL_TYPE:
        return mdlm.load(name, folder, config, device)
    what = f"model {name!r} is of type {config['model_type']!r}"
    causal = backend.causal(what, config)
    settings = causal or _settings(what, config)
    backend.weights(name, folder)  # named before a tokenizer that is missing too
    theirs = backend.tokenizer(folder, settings)
    size = backend.vocabulary(what, settings)
    with backend.one_line(f"tokenizer {str(folder / 'tokenizer.json')!r} cannot be used"):
        # What is not written yet is, of a causal model, an id of ours behind all of its own.
        tokenizer = HubTokenizer(theirs, size + 1, name, size) if causal else HubTokenizer(theirs, size, name)
    kinds, head = ("CAUSAL", "language-model head") if causal else ("MASKED", "masked-LM head")
    model = backend.build(f"MODEL_FOR_{kinds}_LM_MAPPING", what, name, folder, settings, head)  # and tried on the CPU
    ours = read_config(folder / SIDECAR) if (folder / SIDECAR).is_file() else {}
    window, timed = ours.get("window", 0), ours.get("time_conditioning", False)
    if not isinstance(window, int) or not isinstance(timed, bool):
        raise TdiffError(f"model config {str(folder / SIDECAR)!r}: window and time_conditioning cannot be that")
    origin = read_origin(ours, folder / SIDECAR) if ours else None
    network: CausalLM | MaskedLM
    with backend.one_line(f"{what} and cannot be asked for the tokens of a text"):
        if causal:
            network = CausalLM(model, tokenizer, backend.positions(settings) or _UNSAID, window).to(device)
        else:
            network = MaskedLM(model, tokenizer, window, timed, len(origin.classes) if origin else 0).to(device)
    if isinstance(network, MaskedLM) and (own := network.beside()):
        tensors = read_tensors(folder / _TOLD)
        if network.label_bias is not None:  # which the first models of classes had not
            tensors.setdefault("label_bias.weight", torch.zeros_like(network.label_bias.weight))
        put_weights(own, tensors, folder / _TOLD)
        own.requires_grad_(False)
    step = re.fullmatch(r"checkpoint-(\d+)", folder.name)
    name = hub.repository(folder) or folder.resolve().name
    label = f"{folder.resolve().parent.name}/{folder.name}" if step else name
    if origin is not None:
        label = folder.resolve().parent.name if folder.name == "model" else label
    else:
        origin = origin_unknown(network.shape.window // 2 if causal else _OVERLAP, int(step[1]) if step else 0)
    if causal:
        ways = origin.decoding or (f"decoder={LEFT_TO_RIGHT}",)
        if decoding(ways)["decoder"] != LEFT_TO_RIGHT:
            raise TdiffError(f"model config {str(folder / SIDECAR)!r}: {what}, which does not write by {ways[0]}")
        origin = dataclasses.replace(origin, decoding=ways)
    return LoadedModel(label, folder, network, tokenizer, origin, causal is not None)


def save(
    folder: Path, network: CausalLM | MaskedLM, tokenizer: HubTokenizer, origin: Origin, dtype: torch.dtype
) -> None:
    """Write the model as transformers would, and beside it what only tdiff reads: its origin, window and time.

    Each file is whole or absent at any moment. Without time conditioning transformers reads the very same model.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.parent.glob(f"{_SCRATCH}*"):  # by a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    with TemporaryDirectory(dir=folder.parent, prefix=_SCRATCH) as scratch:
        written = Path(scratch)
        model = network.model if dtype is torch.float32 else copy.deepcopy(network.model).to(dtype)
        model.save_pretrained(written)
        config = read_config(written / "config.json")
        # Whoever goes on from it is to have its dropout, not this run's.
        (written / "config.json").write_text(json.dumps(config | network.own_dropout, indent=2) + "\n", "utf-8")
        tokenizer.save(written)
        timed = isinstance(network, MaskedLM) and network.time is not None
        if isinstance(network, MaskedLM) and (own := network.beside()):
            tensors = {name: p.detach().cpu().contiguous() for name, p in own.named_parameters()}
            (written / _TOLD).write_bytes(to_bytes(tensors, {"format": "pt"}))
        ours = {
            "origin": dataclasses.asdict(origin),
            "window": network.shape.window,
            "time_conditioning": timed,
        }
        (written / SIDECAR).write_text(json.dumps(ours, indent=2, ensure_ascii=False), "utf-8")
        # The configuration last: a folder without one is no model yet.
        for file in sorted(written.iterdir(), key=lambda path: path.name == "config.json"):
            with file.open("rb") as whole:
                os.fsync(whole.fileno())
            file.chmod(0o644)  # what is made in a scratch folder is for its owner alone
            file.replace(folder / file.name)


def _settings(what: str, config: dict[str, Any]) -> Any:
    """The configuration as transformers holds it. Raises TdiffError where it is not that of a masked language model."""
    transformers, kind = backend.library(), config["model_type"]
    if kind not in transformers.models.auto.modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES:
        raise TdiffError(
            f"{what}, which is not a language model that fills in masks or writes from left to right; tdiff reads its "
            "own models and those of Hugging Face such as bert, roberta, modernbert or gpt2"
        )
    settings = backend.settings(what, config)
    if getattr(settings, "is_decoder", False) or getattr(settings, "is_encoder_decoder", False):
        raise TdiffError(f"{what} with a decoder, which writes from left to right and cannot fill in masks")
    return settings
