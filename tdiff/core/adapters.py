"""Hugging Face masked language models as denoisers, from folders on disk.

transformers is imported inside functions, since that takes seconds. The weights are read here and handed to it, so that
it opens no file but the tokenizer's: no pickle, no adapter, no code that came with a model, and nothing of the network.
What becomes of them is told by `hub_tokenizer` and `masked_lm`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from tdiff.core.checkpoint import LoadedModel, Origin, read_config, read_tensors
from tdiff.core.hub_tokenizer import HubTokenizer
from tdiff.core.masked_lm import MaskedLM
from tdiff.errors import TdiffError
from tdiff.visible import visible_line

_OVERLAP = 16
"""Places of context for the next window of a sliding canvas: nobody practised another number."""
_LONGEST = 200  # characters of another program's error


def load(name: str, folder: Path, config: dict[str, Any], device: str) -> LoadedModel:
    """The masked language model in `folder`, whose config.json says `config`, in evaluation mode and float32.

    Raises TdiffError where it is of a kind that fills in no masks, its weights are missing, damaged, pickled or lack
    the part that proposes tokens, or its tokenizer is missing or does not fit.
    """
    what = f"model {name!r} is of type {config['model_type']!r}"
    files = _weights(name, folder)
    settings = _settings(what, config)
    tokenizer = _read_tokenizer(name, folder, settings)
    with _one_line(f"{what}, and transformers cannot build it"):
        kind = _transformers().MODEL_FOR_MASKED_LM_MAPPING[type(settings)]
        model, info = kind.from_pretrained(
            None,
            config=settings,
            state_dict={key: tensor for file in files for key, tensor in read_tensors(file).items()},
            dtype=torch.float32,
            ignore_mismatched_sizes=True,  # which are told below
            output_loading_info=True,
        )
    _check(what, model, info)
    for weight in model.parameters():
        # One after another out of the file, which is mapped into memory and may be rewritten while the model is used.
        weight.data = weight.data.to(device, copy=True)
        if not bool(torch.isfinite(weight).all()):
            key = next(key for key, value in model.named_parameters() if value is weight)
            raise TdiffError(f"{what}, and among its weights {key} holds numbers that are not finite")
    model.requires_grad_(False).eval().to(device)
    with _one_line(f"{what} and cannot be asked for the tokens of a text"):
        network = MaskedLM(model, tokenizer).to(device)
    step = re.fullmatch(r"checkpoint-(\d+)", folder.name)
    label = f"{folder.resolve().parent.name}/{folder.name}" if step else folder.resolve().name
    return LoadedModel(label, folder, network, tokenizer, _origin(int(step[1]) if step else 0))


def _transformers() -> Any:
    """The library, with nothing to say."""
    import transformers

    library: Any = transformers
    library.logging.set_verbosity_error()
    library.logging.disable_progress_bar()
    return library


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


@contextmanager
def _one_line(what: str) -> Iterator[None]:
    """Whatever transformers raises, as one line that begins with `what`."""
    try:
        yield
    except (TdiffError, MemoryError):
        raise
    except Exception as why:  # of any class: OSError, ValueError, KeyError, ImportError, bare Exception ...
        said = visible_line((str(why).strip() or type(why).__name__).splitlines()[0])
        said = said if len(said) <= _LONGEST else said[: _LONGEST - 1] + "…"
        raise TdiffError(f"{what}: {said}") from None


def _settings(what: str, config: dict[str, Any]) -> Any:
    """The configuration as transformers holds it. Raises TdiffError where it is not that of a masked language model."""
    transformers, kind = _transformers(), config["model_type"]
    with _one_line(f"{what}, and its config.json cannot be used"):
        if kind not in transformers.models.auto.modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES:
            raise TdiffError(
                f"{what}, which is not a masked language model; tdiff reads its own models and those of Hugging Face "
                "that fill in masks, such as bert, roberta or modernbert"
            )
        # Not the folder's to say: which file is read, and how attention is computed, which may be code from a hub.
        kept = {k: v for k, v in config.items() if k != "transformers_weights" and not k.endswith("_implementation")}
        settings = transformers.CONFIG_MAPPING[kind].from_dict(kept)
    if getattr(settings, "is_decoder", False) or getattr(settings, "is_encoder_decoder", False):
        raise TdiffError(f"{what} with a decoder, which writes from left to right and cannot fill in masks")
    return settings


def _weights(name: str, folder: Path) -> list[Path]:
    """The safetensors files of a model, one or several with an index. Raises TdiffError where there are none."""
    whole, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if whole.is_file():
        return [whole]
    if index.is_file():
        names = read_config(index).get("weight_map")
        named = list(names.values()) if isinstance(names, dict) else []
        shards = sorted({n for n in named if isinstance(n, str)})
        if not named or not all(isinstance(n, str) and n == Path(n).name for n in named):
            raise TdiffError(f"the index of weights {str(index)!r} names no files beside it")
        return [folder / shard for shard in shards]
    if any(folder.glob("*.bin")) or any(folder.glob("*.pt")):
        raise TdiffError(
            f"no model {name!r}: {folder} holds pickled weights and no model.safetensors; tdiff reads safetensors "
            "only, since loading a pickle can run code"
        )
    raise TdiffError(f"weights {str(whole)!r} do not exist")


def _check(what: str, model: Any, info: dict[str, Any]) -> None:
    """Raises TdiffError where the weights were not all in the checkpoint; what transformers made up is no model."""
    missing, wrong = sorted(info["missing_keys"]), sorted(info["mismatched_keys"], key=str)
    trunk = f"{model.base_model_prefix}."
    head = [key for key in missing if not key.startswith(trunk)]
    if len(head) == len(missing) > 0:
        raise TdiffError(
            f"{what}, but its masked-LM head was not in the checkpoint, which lacks {_some(head)}: it was trained for "
            "something else, or saved without that part"
        )
    if missing:
        raise TdiffError(f"{what}, and its weights lack {_some(missing)}, which config.json asks for")
    if wrong:
        key, *shapes = wrong[0]
        came, asked = (tuple(shape) for shape in shapes)
        raise TdiffError(f"{what}, and its weights do not fit: {key} has shape {came}, config.json asks for {asked}")


def _some(names: Sequence[str]) -> str:
    return names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")


def _read_tokenizer(name: str, folder: Path, settings: Any) -> HubTokenizer:
    # Where there is none transformers makes up an empty one.
    if not any(file for pattern in ("tokenizer.json", "vocab*", "*.model", "*.vocab") for file in folder.glob(pattern)):
        raise TdiffError(f"tokenizer {str(folder / 'tokenizer.json')!r} does not exist, nor a vocabulary beside it")
    with _one_line(f"tokenizer {str(folder / 'tokenizer.json')!r} is damaged or of a kind that is not known"):
        tokenizer = _transformers().AutoTokenizer.from_pretrained(
            str(folder), config=settings, local_files_only=True, trust_remote_code=False
        )
        return HubTokenizer(tokenizer, settings.vocab_size, name)
