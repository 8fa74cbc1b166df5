"""What is common to all models of Hugging Face: weights read from a folder, and errors as one line.

transformers is imported inside functions, since that takes seconds. The weights are read here and handed to it, so that
it opens no file but the tokenizer's: no pickle, no adapter, no code that came with a model, and nothing of the network.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from tdiff.core.models.files import read_config, read_tensors
from tdiff.errors import TdiffError
from tdiff.visible import visible_line

_LONGEST = 200  # characters of another program's error


def library() -> Any:
    """transformers, with nothing to say."""
    import transformers

    found: Any = transformers
    found.logging.set_verbosity_error()
    found.logging.disable_progress_bar()
    return found


@contextmanager
def one_line(what: str) -> Iterator[None]:
    """Whatever transformers raises, as one line that begins with `what`."""
    try:
        yield
    except (TdiffError, MemoryError):
        raise
    except Exception as why:  # of any class: OSError, ValueError, KeyError, ImportError, bare Exception ...
        said = visible_line((str(why).strip() or type(why).__name__).splitlines()[0])
        said = said if len(said) <= _LONGEST else said[: _LONGEST - 1] + "…"
        raise TdiffError(f"{what}: {said}") from None


def settings(what: str, config: Mapping[str, Any]) -> Any:
    """The configuration as transformers holds it. Raises TdiffError where it cannot be used."""
    with one_line(f"{what}, and its config.json cannot be used"):
        # Not the folder's to say: which file is read, and how attention is computed, which may be code from a hub.
        kept = {k: v for k, v in config.items() if k != "transformers_weights" and not k.endswith("_implementation")}
        return library().CONFIG_MAPPING[config["model_type"]].from_dict(kept)


def causal(what: str, config: Mapping[str, Any]) -> Any:
    """The configuration of a model that writes from left to right, as transformers holds it; None for another model."""
    known, kind = library().models.auto.modeling_auto, config.get("model_type")
    if not isinstance(kind, str) or kind not in known.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return None
    found = settings(what, config)
    # Of the two-way kinds there are left-to-right classes too, whose attention is two-way unless they are told.
    two_way = kind in known.MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(found, "is_decoder", False)
    return None if two_way else found


def vocabulary(what: str, settings: Any) -> int:
    """Tokens that a model knows. Raises TdiffError where it does not say, as models of text and pictures do not."""
    told = getattr(settings, "vocab_size", None)
    if not isinstance(told, int):
        raise TdiffError(f"{what}, and its config.json says no vocab_size: tdiff reads models of text alone")
    return told


def positions(settings: Any) -> int:
    """Places that a model says it was made for; 0 where it does not say."""
    told = (getattr(settings, name, None) for name in ("max_position_embeddings", "n_positions"))
    return next((n for n in told if isinstance(n, int) and n > 0), 0)


def build(kinds: str, what: str, name: str, folder: Path, settings: Any, head: str) -> Any:
    """A model with the folder's weights, in evaluation mode and float32, on the CPU.

    Its class is that for the settings in transformers' mapping `kinds`.

    Raises TdiffError where they are missing, damaged, pickled, not finite, or lack a part; `head` is what the part
    without which it is none is called.
    """
    files = weights(name, folder)
    with one_line(f"{what}, and transformers cannot build it"):
        model, info = getattr(library(), kinds)[type(settings)].from_pretrained(
            None,
            config=settings,
            state_dict={key: tensor for file in files for key, tensor in read_tensors(file).items()},
            dtype=torch.float32,
            ignore_mismatched_sizes=True,  # which are told below
            output_loading_info=True,
        )
    _check(what, model, info, head)
    for weight in model.parameters():
        # One after another out of the file, which is mapped into memory and may be rewritten while the model is used.
        weight.data = weight.data.clone()
        if not bool(torch.isfinite(weight).all()):
            key = next(key for key, value in model.named_parameters() if value is weight)
            raise TdiffError(f"{what}, and among its weights {key} holds numbers that are not finite")
    return model.requires_grad_(False).eval()


def weights(name: str, folder: Path) -> list[Path]:
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


def _check(what: str, model: Any, info: dict[str, Any], part: str) -> None:
    """Raises TdiffError where the weights were not all in the checkpoint; what transformers made up is no model."""
    missing, wrong = sorted(info["missing_keys"]), sorted(info["mismatched_keys"], key=str)
    trunk = f"{model.base_model_prefix}."
    head = [key for key in missing if not key.startswith(trunk)]
    if len(head) == len(missing) > 0:
        raise TdiffError(
            f"{what}, but its {part} was not in the checkpoint, which lacks {_some(head)}: it was trained for "
            "something else, or saved without that part"
        )
    if missing:
        raise TdiffError(f"{what}, and its weights lack {_some(missing)}, which config.json requires")
    if wrong:
        key, *shapes = wrong[0]
        came, asked = (tuple(shape) for shape in shapes)
        raise TdiffError(f"{what}, and its weights do not fit: {key} has shape {came}; config.json requires {asked}")


def _some(names: Sequence[str]) -> str:
    return names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")


def tokenizer(folder: Path, settings: Any) -> Any:
    """The folder's tokenizer as transformers has it. Raises TdiffError where there is none that can be used."""
    # Where there is none transformers makes up an empty one.
    if not any(file for pattern in ("tokenizer.json", "vocab*", "*.model", "*.vocab") for file in folder.glob(pattern)):
        raise TdiffError(f"tokenizer {str(folder / 'tokenizer.json')!r} does not exist, nor a vocabulary beside it")
    with one_line(f"tokenizer {str(folder / 'tokenizer.json')!r} is damaged or of a kind that is not known"):
        return library().AutoTokenizer.from_pretrained(
            str(folder), config=settings, local_files_only=True, trust_remote_code=False
        )
