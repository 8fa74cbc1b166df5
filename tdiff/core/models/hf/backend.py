"""The parts common to all Hugging Face models: reading weights from a folder, and errors as one line.

transformers is imported inside functions, since the import takes seconds. The weights are read here and passed to it,
so that it opens only the tokenizer's files: no pickle, no adapter, no code that comes with a model, and no network.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from tdiff.core.models.files import read_config, read_tensors
from tdiff.errors import TdiffError, is_out_of_memory
from tdiff.visible import visible_line

_LONGEST = 200  # characters of another program's error


def library() -> Any:
    """Import transformers and silence its messages and progress bars."""
    import transformers

    transformers_library: Any = transformers
    transformers_library.logging.set_verbosity_error()
    transformers_library.logging.disable_progress_bar()
    return transformers_library


@contextmanager
def one_line(what: str) -> Iterator[None]:
    """Raise any error of transformers as a TdiffError of one line that begins with `what`."""
    try:
        yield
    except TdiffError:
        raise
    except Exception as error:  # of any class: OSError, ValueError, KeyError, ImportError, bare Exception ...
        if is_out_of_memory(error):
            raise
        message = visible_line((str(error).strip() or type(error).__name__).splitlines()[0])
        message = message if len(message) <= _LONGEST else message[: _LONGEST - 1] + "…"
        raise TdiffError(f"{what}: {message}") from None


def settings(what: str, config: Mapping[str, Any]) -> Any:
    """Return the configuration object of transformers. Raises TdiffError if config.json cannot be used."""
    with one_line(f"{what}, and its config.json cannot be used"):
        # The folder must not decide which file is read, nor how attention is computed: that may be code from a hub.
        values = {k: v for k, v in config.items() if k != "transformers_weights" and not k.endswith("_implementation")}
        return library().CONFIG_MAPPING[config["model_type"]].from_dict(values)


def causal(what: str, config: Mapping[str, Any]) -> Any:
    """Return the configuration object of an autoregressive model; None for another model."""
    known, kind = library().models.auto.modeling_auto, config.get("model_type")
    if not isinstance(kind, str) or kind not in known.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return None
    loaded = settings(what, config)
    # Bidirectional types have causal classes too, whose attention is bidirectional unless is_decoder is set.
    two_way = kind in known.MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(loaded, "is_decoder", False)
    return None if two_way else loaded


def vocabulary(what: str, settings: Any) -> int:
    """Return the vocabulary size. Raises TdiffError if config.json has none, as for models of text and images."""
    size = getattr(settings, "vocab_size", None)
    if not isinstance(size, int):
        raise TdiffError(f"{what}, and its config.json has no vocab_size: tdiff reads models of text only")
    return size


def positions(settings: Any) -> int:
    """Return the number of positions that the configuration declares; 0 if it declares none."""
    candidates = (getattr(settings, name, None) for name in ("max_position_embeddings", "n_positions"))
    return next((n for n in candidates if isinstance(n, int) and n > 0), 0)


def build(kinds: str, what: str, name: str, folder: Path, settings: Any, head: str) -> Any:
    """Return a model with the folder's weights, in evaluation mode and float32, on the CPU.

    `kinds` is the name of transformers' mapping from settings to model classes; `head` is the name of the output head
    in messages. Raises TdiffError if weights are missing, damaged, pickled, not finite, or lack a part.
    """
    files = weights(name, folder)
    with one_line(f"{what}, and transformers cannot build it"):
        model, info = getattr(library(), kinds)[type(settings)].from_pretrained(
            None,
            config=settings,
            state_dict={key: tensor for file in files for key, tensor in read_tensors(file).items()},
            dtype=torch.float32,
            ignore_mismatched_sizes=True,  # `_check` reports them
            output_loading_info=True,
        )
    _check(what, model, info, head)
    for weight in model.parameters():
        # Copy out of the file, which is mapped into memory and may be rewritten while the model is used.
        weight.data = weight.data.clone()
        if not bool(torch.isfinite(weight).all()):
            key = next(key for key, value in model.named_parameters() if value is weight)
            raise TdiffError(f"{what}, and among its weights {key} holds numbers that are not finite")
    return model.requires_grad_(False).eval()


def weights(name: str, folder: Path) -> list[Path]:
    """The safetensors files of a model: one, or several with an index. Raises TdiffError if there are none."""
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file():
        return [single]
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
    raise TdiffError(f"weights {str(single)!r} do not exist")


def _check(what: str, model: Any, info: dict[str, Any], part: str) -> None:
    """Raise TdiffError if weights were not in the checkpoint: transformers initializes them at random."""
    missing, wrong = sorted(info["missing_keys"]), sorted(info["mismatched_keys"], key=str)
    trunk = f"{model.base_model_prefix}."
    head = [key for key in missing if not key.startswith(trunk)]
    if len(head) == len(missing) > 0:
        raise TdiffError(
            f"{what}, but its {part} was not in the checkpoint, which lacks {_listed(head)}: it was trained for "
            "something else, or saved without that part"
        )
    if missing:
        raise TdiffError(f"{what}, and its weights lack {_listed(missing)}, which config.json requires")
    if wrong:
        key, *shapes = wrong[0]
        found_shape, expected_shape = (tuple(shape) for shape in shapes)
        raise TdiffError(
            f"{what}, and its weights do not fit: {key} has shape {found_shape}; config.json requires {expected_shape}"
        )


def _listed(names: Sequence[str]) -> str:
    return names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")


def tokenizer(folder: Path, settings: Any) -> Any:
    """Return the folder's tokenizer of transformers. Raises TdiffError if none can be used."""
    # Without any of these files transformers creates an empty tokenizer.
    if not any(file for pattern in ("tokenizer.json", "vocab*", "*.model", "*.vocab") for file in folder.glob(pattern)):
        raise TdiffError(f"tokenizer {str(folder / 'tokenizer.json')!r} does not exist, nor a vocabulary beside it")
    with one_line(f"tokenizer {str(folder / 'tokenizer.json')!r} is damaged or of an unknown type"):
        return library().AutoTokenizer.from_pretrained(
            str(folder), config=settings, local_files_only=True, trust_remote_code=False
        )
