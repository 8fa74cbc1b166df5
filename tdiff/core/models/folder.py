"""Models on disk: a folder of config.json, model.safetensors, tokenizer.json. No pickle is ever read or written."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from tdiff import hub
from tdiff.config.decoding import LEFT_TO_RIGHT, DecodeSettings, laid_over
from tdiff.config.decoding import decoding as config_decoding
from tdiff.core.diffusion.denoise import Denoiser
from tdiff.core.models import tokenizers
from tdiff.core.models.tokenizers import TextTokenizer
from tdiff.core.models.transformer import Shape, Transformer
from tdiff.errors import TdiffError
from tdiff.files import write_atomic
from tdiff.schema import MOST, build, plain

MODEL_TYPE = "tdiff"


@dataclass(frozen=True, slots=True)
class Origin:
    """What a model remembers of its training, besides its weights."""

    corpus: str
    """Name of the text it was trained on."""
    sources: tuple[str, ...]
    """The settings' data.sources, from which the held-out part can be had again."""
    text_field: str
    timesteps: int
    schedule: str
    context: int
    """Prompts of up to so many tokens were practised."""
    context_mode: str
    """"fixed": it never began from nothing, and refuses to."""
    openings: tuple[str, ...]
    """Beginnings of training windows, to start a text from when no prompt is given."""
    steps: int
    tokens: int
    """Tokens seen in training."""
    corpus_sha256: str = ""
    """Of the whole text in UTF-8; empty in models that do not say."""
    held_out: str = "tenth"
    """What of the text was not trained on: the last tenth, or that and the tuning part before it."""
    decoding: tuple[str, ...] = ()
    """How it writes best, as `train.decoding` says."""
    rows: str = "packed"
    """How its training rows were made, as `data.rows` says."""
    classes: tuple[str, ...] = ()
    """The classes of texts that it may be told of, by their numbers; none for a model that knows none."""
    counts: tuple[int, ...] = ()
    """Texts of each class that it was trained on."""
    label_field: str = "label"
    """The settings' data.label_field."""
    only: str = ""
    """The class whose texts alone it was trained on; empty for all."""
    evaluation: tuple[str, ...] = ()
    """The settings' data.evaluation."""
    temperature: float = 0.0
    """By which its verdicts are as often right as they say, see `classifier.divisor`; 0: none is known."""


class Extent(Protocol):
    """What may be asked of any model's shape."""

    @property
    def vocab_size(self) -> int:
        """Tokens, the mask and other specials included."""
        ...

    @property
    def suppressed(self) -> tuple[int, ...]:
        """Ids that are never proposed."""
        ...

    @property
    def window(self) -> int:
        """Places that it sees at once."""
        ...


class Network(Denoiser, Protocol):
    """What may be asked of any model: ours, or one of those in `pretrained`."""

    suppress: Tensor
    """(V,) float32 on the model's device: -inf at the ids that are never proposed, else 0."""

    @property
    def shape(self) -> Extent:
        """How large it is."""
        ...


class Vocabulary(Protocol):
    """What may be asked of any tokenizer: ours, or one of Hugging Face behind `pretrained.hub_tokenizer`."""

    mask_id: int
    pieces: list[str]
    """The text of each token as it stands inside a text; at its beginning it is what `decode` says."""

    @property
    def lengths(self) -> Tensor:
        """(V,) int64: the characters of each token."""
        ...

    @property
    def carries_spaces(self) -> bool:
        """Whether the space before a word is part of the word's token, so that it is no token of its own there."""
        ...

    def __len__(self) -> int:
        """Tokens."""
        ...

    def encode(self, text: str, what: str = "the text", inside: bool = False) -> Tensor:
        """Ids (L,) int64; with `inside` as they stand after other text, and not at the beginning of one.

        Raises TdiffError for a text that cannot be said in them, calling it `what`.
        """
        ...

    def decode(self, ids: Iterable[int] | Tensor) -> str:
        """The text of the ids; a mask is shown as a full block."""
        ...


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model ready to denoise, its tokenizer, and where it comes from."""

    name: str
    path: Path
    network: Network
    tokenizer: Vocabulary
    origin: Origin
    causal: bool = False
    """Whether it writes from left to right alone."""

    def decode_settings(self, given: Mapping[str, Any], seed: int) -> DecodeSettings:
        """The settings `given`, fields of DecodeSettings, over those the model writes best with, unless they name a
        decoder themselves.

        Raises TdiffError for another decoder than the one that a causal model knows.
        """
        own = config_decoding(self.origin.decoding)
        settings = DecodeSettings(**laid_over(own, given), seed=seed)
        if self.causal and settings.decoder != LEFT_TO_RIGHT:
            raise TdiffError(
                f"{self.name} writes from left to right, which is --decoder {LEFT_TO_RIGHT}; got {settings.decoder}"
            )
        return settings


def save_model(
    folder: Path,
    network: Transformer,
    tokenizer: TextTokenizer,
    origin: Origin,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write a model folder with weights of that precision, int8 being for large matrices; each file is whole or absent
    at any moment.
    """
    config = {
        "model_type": MODEL_TYPE,
        "architectures": ["Transformer"],
        **dataclasses.asdict(network.shape),
        "origin": dataclasses.asdict(origin),
    }
    tokenizer.save(folder)
    write_atomic(folder / "model.safetensors", save(_on_disk(network.state_dict(), dtype), {"format": "pt"}))
    write_atomic(folder / "config.json", json.dumps(config, indent=2, ensure_ascii=False).encode())


def load_model(name: str, device: str = "cpu", progress: hub.Progress | None = None) -> LoadedModel:
    """The model of that name or path, ours, MDLM's, or a masked or causal one of Hugging Face, in evaluation mode.

    A folder, the name of a run, or a name on the Hugging Face hub: see `hub_files.find`, which tells `progress` of
    what it fetches. Raises TdiffError where it is missing, of another kind, truncated, or its weights do not fit its
    config.
    """
    folder = hub.find(name, progress)
    config = read_config(folder / "config.json")
    kind = config.get("model_type")
    if kind != MODEL_TYPE:
        if not isinstance(kind, str):
            raise TdiffError(
                f"model {name!r} is of type {kind!r}; config.json says {MODEL_TYPE!r} for models of tdiff, and names "
                "the architecture for those of Hugging Face"
            )
        from tdiff.core.models.hf import load  # which imports this module, and transformers when it loads

        return load.load(name, folder, config, device)
    shape = _build(Shape, config, folder / "config.json")
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
    tensors = _in_memory(read_tensors(weights), weights)
    if network.label_bias is not None:  # which the first models of classes had not
        tensors.setdefault("label_bias.weight", torch.zeros_like(network.label_bias.weight))
    put_weights(network, tensors, weights)
    network.requires_grad_(False).eval().to(device)
    label = folder.parent.name if folder.name == "model" else hub.repository(folder) or folder.name
    return LoadedModel(label, folder, network, tokenizer, origin)


def read_origin(config: Mapping[str, Any], path: Path) -> Origin:
    """The origin that the table `config` of the file `path` tells. Raises TdiffError where it is none."""
    origin: Origin = _build(Origin, config.get("origin", {}), path)
    try:
        config_decoding(origin.decoding)
    except TdiffError as why:
        raise TdiffError(f"model config {str(path)!r}: {why}") from None
    counted = len(origin.counts) == len(origin.classes) and all(count >= 0 for count in origin.counts)
    if not counted or len(set(origin.classes)) != len(origin.classes) or (origin.classes and not sum(origin.counts)):
        raise TdiffError(f"model config {str(path)!r}: classes and counts do not go together")
    if not 0 <= origin.temperature < math.inf:
        raise TdiffError(f"model config {str(path)!r}: temperature cannot be {origin.temperature!r}")
    if origin.held_out not in ("tenth", "tuning"):
        raise TdiffError(f"model config {str(path)!r}: held_out cannot be {origin.held_out!r}")
    return origin


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file. Raises TdiffError where it is missing or damaged."""
    try:
        return load_file(path)
    except FileNotFoundError:
        raise TdiffError(f"weights {str(path)!r} do not exist") from None
    except (SafetensorError, OSError, ValueError) as why:
        raise TdiffError(
            f"weights {str(path)!r} are damaged or not safetensors ({str(why).splitlines()[0]}); "
            "get or train the model again"
        ) from None


def put_weights(network: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Copy `tensors` into the network, converted to its precision; one that stands for two weights comes once.

    Raises TdiffError naming the first that is wrong.
    """
    own = dict(network.named_parameters())
    for name in sorted(own.keys() | tensors.keys()):
        if name not in tensors:
            raise TdiffError(f"weights {str(path)!r} lack {name}, which config.json asks for")
        if name not in own:
            raise TdiffError(f"weights {str(path)!r} hold {name}, which config.json has no place for")
        if own[name].shape != tensors[name].shape:
            raise TdiffError(
                f"weights {str(path)!r}: {name} has shape {tuple(tensors[name].shape)}, "
                f"config.json asks for {tuple(own[name].shape)}"
            )
        if not bool(torch.isfinite(tensors[name]).all()):
            raise TdiffError(f"weights {str(path)!r}: {name} holds numbers that are not finite")
    with torch.no_grad():
        for name, tensor in tensors.items():
            own[name].copy_(tensor)


def _on_disk(tensors: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """The tensors as they are written: int8 for each large matrix, and the scale of each of its rows."""
    plain = torch.float32 if dtype is torch.int8 else dtype
    written = {name: tensor.detach().to("cpu", plain).contiguous() for name, tensor in tensors.items()}
    if dtype is torch.int8:
        for name, tensor in list(written.items()):
            if tensor.ndim == 2 and tensor.numel() >= _LARGE:
                scale = tensor.abs().amax(1).clamp(min=1e-30) / 127
                written[name] = (tensor / scale[:, None]).round().to(torch.int8)
                written[name + _SCALE] = scale
    return written


def _in_memory(tensors: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The inverse: whole matrices. Raises TdiffError for an int8 matrix without scales that fit."""
    whole = dict(tensors)
    for name, tensor in tensors.items():
        if tensor.dtype is torch.int8:
            scale = whole.pop(name + _SCALE, None)
            if scale is None or tensor.ndim != 2 or scale.shape != tensor.shape[:1]:
                raise TdiffError(f"weights {str(path)!r} hold {name} in 8 bits, without the scales of its rows")
            whole[name] = tensor * scale[:, None]
    return whole


_LARGE = 1 << 14  # numbers: 8 bits for less would save nothing worth having
_SCALE = ".scale"


def read_config(path: Path) -> dict[str, Any]:
    """The table in a JSON file. Raises TdiffError where it cannot be read or is none."""
    try:
        config = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as why:
        raise TdiffError(f"model config {str(path)!r} cannot be read: {why}") from None
    if not isinstance(config, dict):
        raise TdiffError(f"model config {str(path)!r} is not a table of settings")
    return config


def _build(kind: Any, values: Any, path: Path) -> Any:
    """An instance of a dataclass from a table of config.json; fields of a newer version are ignored."""
    source = f"model config {str(path)!r}"
    if not isinstance(values, dict):
        raise TdiffError(f"{source}: origin is a table; got {values!r}")
    return build(kind, values, source=source, ignore_unknown=True)


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
