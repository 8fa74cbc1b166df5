"""The model contract: what decoding, training, evaluation and classification may ask of any model and its tokenizer.

A family of models implements `Model` (most by `TorchModel`, those that can be trained by `TrainableModel`) and has one
row in `load.FAMILIES`. Other code depends on `spec` and never on the class of a model.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from tdiff.config.decoding import LEFT_TO_RIGHT, DecodeSettings, laid_over, presets_of
from tdiff.config.decoding import decoding as parse_decoding
from tdiff.config.decoding_presets import preset_text
from tdiff.core.models.origin import Origin
from tdiff.errors import TdiffError

MASK_TEXT, UNKNOWN_TEXT = "█", "\ufffd"
"""How the mask and the unknown token are shown in text."""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """The properties of a model that other code may depend on."""

    family: str
    """Its row in `load.FAMILIES`."""
    vocab_size: int
    """Tokens, including the mask and other special tokens."""
    mask_id: int
    suppressed: tuple[int, ...]
    """Ids that the model never proposes: the mask and other special tokens. Their logits are -inf."""
    context: int
    """Context length: the most positions in one call."""
    causal: bool = False
    """Autoregressive: it predicts only the leftmost masked position, and its likelihood is exact."""
    predicts_first: bool = True
    """Whether it can predict the first token of a text. False for a causal model without a begin token."""
    block: int = 0
    """Positions of a block for a block-diffusion model; 0: all positions form one block."""
    classes: int = 0
    """Classes that it can be conditioned on."""
    pads: bool = True
    """Whether it honours `Inputs.attention`: padding does not change the logits of a row."""
    compiles: bool = False
    """Whether it has a trunk that `wrap_trunk` can replace by a compiled one."""

    @property
    def unscored(self) -> tuple[int, ...]:
        """Suppressed ids other than the mask. They may occur in a text, but are neither masked nor scored."""
        return tuple(i for i in self.suppressed if i != self.mask_id)

    def scorable(self, positions: Tensor) -> Tensor:
        """Return those of `positions` (B, L) bool whose token has a likelihood: without `predicts_first` not the
        first.
        """
        if self.predicts_first:
            return positions
        return positions & (torch.arange(positions.size(1), device=positions.device) > 0)


@dataclass(frozen=True, slots=True)
class Inputs:
    """One call of a model: B rows of L positions, L at most `spec.context`."""

    tokens: Tensor
    """(B, L) int64; the mask id at masked positions."""
    mask_ratio: Tensor
    """(B,) float32 in [0, 1]: masked positions of a row over its maskable ones, for models with time conditioning."""
    where: Tensor
    """(B, L) bool: the N positions whose logits are asked for."""
    positions: Tensor | None = None
    """(B, L) int64: position of each token in its text; None: 0..L-1. A family without them raises ValueError."""
    attention: Tensor | None = None
    """(B, L) bool: False at padding, to which no position attends; None: no padding. Requires `spec.pads`."""
    label: Tensor | None = None
    """(B,) int64: class of each row, `spec.classes` for no class; None: no class in any row."""


class Cache(Protocol):
    """Keys and values of final positions, stored between the calls of one decoding run.

    The decoding loop makes it with `Model.new_cache`, owns it, and hands it to every call of the run. A model stores
    nothing about a call anywhere else, so that decoding runs which take turns do not affect one another. A call may
    leave out rows that are finished or have not changed.
    """

    def extend(self, tokens: Tensor, final: Tensor) -> None:
        """Report that positions of the canvas `tokens` (B, L) int64 do not change any more where `final` (B, L) bool
        is true. The loop calls this after each block.
        """
        ...


class Model(Protocol):
    """A model that predicts masked tokens."""

    @property
    def spec(self) -> ModelSpec:
        """Its properties."""
        ...

    @property
    def device(self) -> torch.device:
        """The device of its weights, on which it takes inputs and returns outputs."""
        ...

    def logits(self, inputs: Inputs, cache: Cache | None = None) -> Tensor:
        """Return logits (N, V) float32 at the N positions, row by row, where `inputs.where` is true.

        They are -inf at suppressed tokens. `cache` comes from `new_cache` of the same model.
        """
        ...

    def new_cache(self, rows: int) -> Cache | None:
        """Return an empty cache for decoding so many rows; None if the model has no cache."""
        ...

    def log_likelihood(self, tokens: Tensor, scored: Tensor) -> Tensor | None:
        """Return the exact log p (B, L), in nats, of each token of `tokens` (B, L) given those before it.

        It is 0 where `scored` (B, L) bool is false; `scored` positions are `spec.scorable` and hold no mask. None for a
        model that is not causal: its likelihood has only a bound, see `objective.likelihood`.
        """
        ...


class TorchModel(nn.Module, ABC):
    """Common part of the families: a torch module with a `suppress` buffer and neither cache nor exact likelihood."""

    spec: ModelSpec
    suppress: Tensor
    """(V,) float32: -inf at suppressed ids, 0 elsewhere. Added to the logits; not saved with the weights."""

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.suppress.device

    @abstractmethod
    def logits(self, inputs: Inputs, cache: Cache | None = None) -> Tensor:
        """Return logits (N, V); see `Model.logits`."""

    def new_cache(self, rows: int) -> Cache | None:
        """Return None: there is no cache."""
        return None

    def log_likelihood(self, tokens: Tensor, scored: Tensor) -> Tensor | None:
        """Return None: the likelihood has only a bound."""
        return None

    def wrap_trunk(self, wrapper: Callable[[Callable[..., Tensor]], Callable[..., Tensor]] | None) -> None:
        """Replace the trunk of this instance by `wrapper(trunk)`, such as a compiled one; None restores the original.

        Raises ValueError if the model has no trunk (`spec.compiles`).
        """
        raise ValueError(f"a model of family {self.spec.family} has no trunk to compile")


class TrainableModel(TorchModel):
    """A family that can be trained."""

    label_bias: nn.Embedding | None
    """(C + 1, V): logits added for each class, the last row for no class; None without classes."""

    @abstractmethod
    def matrices(self) -> list[nn.Parameter]:
        """Return the weights with weight decay, which Muon may train: the matrices, without tables of the
        vocabulary.
        """


def suppression(vocab_size: int, suppressed: Iterable[int]) -> Tensor:
    """Return (V,) float32: -inf at the `suppressed` ids, 0 elsewhere."""
    values = torch.zeros(vocab_size)
    values[list(suppressed)] = -torch.inf
    return values


class Tokenizer(Protocol):
    """A vocabulary and its two directions. Ids of special tokens never come from a text."""

    @property
    def mask_id(self) -> int:
        """The id of the mask."""
        ...

    @property
    def suppressed(self) -> tuple[int, ...]:
        """Ids that a model must never propose."""
        ...

    @property
    def pieces(self) -> list[str]:
        """The text of each token inside a text. At the beginning of a text it can differ: see `decode`."""
        ...

    @property
    def lengths(self) -> Tensor:
        """(V,) int64: characters of each token."""
        ...

    @property
    def carries_spaces(self) -> bool:
        """Whether the space before a word is part of the word's token, and no token by itself there."""
        ...

    @property
    def parts(self) -> frozenset[int]:
        """Ids of tokens that hold only a part of a character: bytes of a byte-level vocabulary."""
        ...

    def __len__(self) -> int:
        """Return the number of tokens."""
        ...

    def encode(self, text: str, what: str = "the text", inside: bool = False) -> Tensor:
        """Return ids (L,) int64, with `inside` those for a text that follows other text.

        Raises TdiffError, which calls the text `what`, if the vocabulary cannot express it.
        """
        ...

    def decode(self, ids: Iterable[int] | Tensor) -> str:
        """Return the text of the ids; the mask is shown as a full block."""
        ...

    def between(self, ids: Sequence[int]) -> str:
        """Return the text of consecutive tokens inside a text."""
        ...

    def save(self, folder: Path) -> None:
        """Write the tokenizer's files into the folder, which exists."""
        ...


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model ready for use, its tokenizer, and where it comes from."""

    name: str
    path: Path
    network: Model
    tokenizer: Tokenizer
    origin: Origin

    @property
    def spec(self) -> ModelSpec:
        """The properties of the network."""
        return self.network.spec

    @property
    def device(self) -> torch.device:
        """The device of the network."""
        return self.network.device

    @property
    def kind(self) -> str:
        """Its kind for the decoding presets, one of `decoding_presets.KINDS`."""
        if self.spec.causal:
            return "causal"
        lengths = self.tokenizer.lengths.clone()
        lengths[list(self.spec.suppressed)] = 1
        return "characters" if int(lengths.max()) <= 1 else "subwords"

    @property
    def presets(self) -> dict[str, dict[str, Any]]:
        """Its decoding presets by name: fields of DecodeSettings."""
        return presets_of(self.kind)

    def decode_settings(self, options: Mapping[str, Any], seed: int) -> DecodeSettings:
        """Return decoding settings: `options`, fields of DecodeSettings, over those of their preset, over the model's
        own settings unless the options or the preset name a decoder.

        Raises TdiffError for a preset that this kind of model has not, and for a causal model and another decoder than
        the autoregressive one.
        """
        if name := options.get("preset"):
            preset_text(name, self.kind)
        own = parse_decoding(self.origin.decoding)
        settings = DecodeSettings(**laid_over(own, options, self.presets), seed=seed)
        if self.spec.causal and settings.decoder != LEFT_TO_RIGHT:
            raise TdiffError(
                f"{self.name} is autoregressive and requires --decoder {LEFT_TO_RIGHT}; got {settings.decoder}"
            )
        return settings
