"""The settings of data, model, objective, training and decoding; every field says what it means.

A setting has one name everywhere: `--set train.lr=1e-3` on the command line is `lr = 1e-3` under `[train]` in a TOML
file and `settings.train.lr` in Python. Layers are laid over one another (preset, file, command line), and only then
checked, so that an error speaks of what was asked for and not of how it arrived.
"""

from __future__ import annotations

import dataclasses
import tomllib
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from tdiff.config.decoding import SCHEDULES, decoding
from tdiff.errors import TdiffError, unknown
from tdiff.schema import MOST, Layer, at_least, at_most, build, lay_over, plain, within

LEAST_MOST = 0.01
"""The smallest share that training may be held below: times next to 0 are never drawn."""
BUDGETS = frozenset({"steps", "minutes", "epochs"})


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSettings:
    """Where text comes from and how it becomes tokens."""

    sources: tuple[str, ...] = ("shakespeare",)
    """Files, folders, globs, `-` for stdin, or a named corpus (shakespeare, python)."""
    text_field: str = "text"
    """The field of .jsonl and .csv rows that holds the text."""
    tokenizer: str = "char"
    """char (learnt from the corpus), bpe:SIZE (trained on it), ascii (tiny-diffusion's table), or a tokenizer.json."""
    unknown: Literal["error", "token"] = "error"
    """What a character outside the vocabulary is: an error that names it, or the unknown token."""
    rows: Literal["packed", "padded"] = "packed"
    """packed: training rows are cut anywhere from all texts, joined by blank lines, so that none has padding. padded:
    each text (a row of .jsonl and .csv, a line of other files) begins a row of its own, a long one goes on in the next,
    and what is left of a row is padding, which nobody attends to and no loss counts."""
    classes: bool = False
    """Tell the model the class of each text, so that it can write texts of a class and tell which one a text is of."""
    label_field: str = "label"
    """The field of rows that holds the class; files of a folder are of the class that the folder in it is called."""
    only: str = ""
    """Train on the texts of this class alone, the tokens being learnt from all: a model of several, one a class."""
    evaluation: tuple[str, ...] = ()
    """Files, folders or globs of text to hold out; none: the last tenth of the sources is."""
    held_out: Literal["tenth", "tuning"] = "tenth"
    """tenth: the last tenth. tuning: the last 5% of the rest, for choosing between models; the tenth stays unread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSettings:
    """The bidirectional transformer."""

    layers: int = 4
    """Transformer blocks."""
    heads: int = 4
    """Attention heads; they share out the width."""
    width: int = 128
    """Size of the residual stream."""
    window: int = 256
    """The most tokens the model sees at once, and the length of a training row."""
    conv: int = 0
    """Width of a depthwise convolution before attention and MLP: an odd number of places, 0 for none."""
    hidden: int = 0
    """Width of the MLP's inner layer; 0: four times the width."""
    classic: bool = False
    """Blocks with learned positions, LayerNorm and GELU, as in BERT and GPT-2, in place of rotary positions, RMSNorm,
    normalised queries and keys, and squared ReLU."""
    tied: bool = False
    """The output matrix is the token embedding, scaled."""
    self_conditioning: bool = False
    """A second pass sees what the first one proposed (Chen et al. 2022, arXiv:2208.04202): twice the work a call."""
    time_conditioning: bool = False
    """Tell the model the share of places still masked (tiny-diffusion does)."""
    pairs: int = 0
    """With data.classes: numbers that each class has for pairs of neighbouring tokens, begun at zero, which pairs share
    by hashing (Mikolov et al. 2011); 0: none. Some hundred thousand tell classes apart that few texts are known of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectiveSettings:
    """The masked-diffusion bound that is minimised."""

    timesteps: int = 0
    """0: continuous time. T: the discrete bound on t = 1/T .. 1 (10 is text-diffusion's, 128 tiny-diffusion's)."""
    schedule: str = "linear"
    """hidden(t), the share of places masked at time t: linear, cosine, cosine-seed, exponential, polynomial."""
    context: int = 16
    """A training row protects up to this many leading places from masking, so that the model learns to be prompted."""
    context_mode: Literal["random", "fixed"] = "random"
    """random: none for half of the rows, else 1..context; fixed: always context (such a model needs a prompt)."""
    mask_rate_per: Literal["row", "batch"] = "row"
    """Whether each row of a batch has a time of its own, spread evenly over the batch, or all have one
    (text-diffusion's, whose loss is the noisier for it)."""
    contrast: float = 0.0
    """With data.classes: weight, beside the bound, of telling a text's class from another by what is masked; twice the
    work. 0: the classes' texts are described, and nothing is done to tell them apart."""
    least_masked: float = 0.0
    """Training draws only times at which at least this share is masked ..."""
    most_masked: float = 1.0
    """... and at most this (clipped schedules: Arriola et al. 2025, arXiv:2503.09573); evaluation is over all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings:
    """The optimisation and its bookkeeping."""

    steps: int = 0
    """Optimizer steps; 0: as `minutes` or `epochs` say."""
    minutes: float = 0.0
    """Wall-clock budget of training, over all resumes, without compiling; 0: none. The learning rate follows it."""
    epochs: float = 0.0
    """Passes over the training part, counted in tokens; 0: as `steps` or `minutes` say."""
    batch_size: int = 16
    """Rows of one forward pass."""
    accumulate: int = 1
    """Forward passes of one optimizer step, which are together what one pass of so many times the rows is."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """adamw for everything, or muon for the weight matrices of the blocks and adamw for the rest."""
    lr: float = 2e-3
    """Peak learning rate of AdamW."""
    muon_lr: float = 2e-2
    """Peak learning rate of Muon."""
    warmup: float = 0.02
    """Share of training over which the learning rate rises from 0."""
    decay: float = 0.6
    """Share of training, at its end, over which the learning rate falls linearly to `final_lr`."""
    final_lr: float = 0.02
    """Last learning rate, as a share of the peak."""
    weight_decay: float = 0.01
    """Decoupled weight decay of the matrices."""
    dropout: float = 0.0
    """Share of the embedding, and of what attention and MLP write, that a step leaves out."""
    calibrate: int = 200
    """With data.classes: held-out texts by which it is found at the end how far the model's verdicts are to be trusted,
    drawn at random; 0: none."""
    label_dropout: float = 0.1
    """With data.classes: share of rows of whose class the model is not told, so that it knows texts at large too."""
    beta2: float = 0.95
    """AdamW's second-moment decay."""
    clip: float = 1.0
    """Largest norm of the gradient; 0: no clipping."""
    ema: float = 0.998
    """Decay d of the averaged weights; at step n it is min(d, (1 + n) / (10 + n))."""
    decoding: tuple[str, ...] = ()
    """How the model writes best, for where nothing is said: decoder=NAME first, then other settings, as name=value."""
    init: str = ""
    """Begin from the weights and the tokenizer of this model: a folder, a run, or a name of the Hugging Face hub.
    Blocks that a model of tdiff lacks begin as nothing."""
    checkpointing: bool = False
    """Keep no activations of a pretrained model's blocks but compute them again: less memory, a third more time."""
    final_share: float = 0.1
    """With `minutes`: the final evaluation and calibration together take about this share of the budget, on a random
    part of the held-out text where all of it would take longer; 0: all of it, however long that takes."""
    seed: int = 0
    """Seed of the weights, the order of the data and the masks."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to train."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the products within a step (weights and sums stay float32): auto is bfloat16 for CUDA, else float32."""
    compile: Literal["auto", "on", "off"] = "auto"
    """torch.compile: auto is on for CUDA only."""
    weights: Literal["float32", "bfloat16", "int8"] = "float32"
    """Precision of the model's weights on disk, int8 with a scale for each row of a large matrix. What a resume needs
    is always whole, and evaluations and samples during training are by the whole ones."""
    log_every: float = 1.0
    """Seconds between records of the loss (never more than one a step)."""
    eval_every: int = 200
    """Steps between evaluations of the bound on held-out text; 0: only at the end."""
    eval_tokens: int = 8192
    """Held-out tokens of one such evaluation."""
    sample_every: int = 200
    """Steps between samples; 0: none."""
    save_every: float = 60.0
    """Seconds between saves of what a resume needs; 0: only at the end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything a training run is told; written whole to the run's config.toml."""

    preset: str = ""
    """The preset the other settings started from."""
    data: DataSettings = field(default_factory=DataSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    objective: ObjectiveSettings = field(default_factory=ObjectiveSettings)
    train: TrainSettings = field(default_factory=TrainSettings)

    @classmethod
    def of(cls, layers: Iterable[Mapping[str, Any]]) -> Self:
        """Settings from layers of nested mappings, later ones winning. Raises TdiffError naming what is wrong."""
        merged: Layer = {}
        for layer in layers:
            train, before = layer.get("train"), merged.get("train")
            if isinstance(train, Mapping) and isinstance(before, dict) and not BUDGETS.isdisjoint(train):
                # A later layer's budget replaces, whatever its unit.
                merged["train"] = {k: v for k, v in before.items() if k not in BUDGETS}
            lay_over(merged, layer)
        settings: Self = build(cls, merged, "")
        settings._check()
        return settings

    def as_layer(self) -> Layer:
        """The same as plain nested dictionaries, ready for TOML or JSON."""
        return typing.cast(Layer, plain(self))

    def _check(self) -> None:
        data, model, objective, train = self.data, self.model, self.objective, self.train
        if not data.sources:
            raise TdiffError("data.sources is empty: name a file, a folder or a corpus")
        for name in ("layers", "heads", "width", "window"):
            at_least(1, f"model.{name}", getattr(model, name))
        # A model that is begun from has sizes of its own, whatever they are.
        if not train.init and (model.width % model.heads or model.width // model.heads % 2):
            raise TdiffError(
                f"model.width {model.width} must be an even number of channels for each of model.heads {model.heads}"
            )
        if model.conv and model.conv % 2 == 0:
            raise TdiffError(f"model.conv must be odd, or 0 for none; got {model.conv}")
        if objective.schedule not in SCHEDULES:
            raise unknown("schedule", objective.schedule, SCHEDULES)
        if not 0 <= objective.context < model.window:
            raise TdiffError(
                f"objective.context {objective.context} must be at least 0 and below model.window {model.window}"
            )
        if not 0 <= objective.least_masked < objective.most_masked <= 1:
            raise TdiffError(
                "objective.least_masked and objective.most_masked must be shares between 0 and 1, the first below the "
                f"second; got {objective.least_masked} and {objective.most_masked}"
            )
        if not 0 <= objective.contrast <= MOST:
            raise TdiffError(f"objective.contrast must be at least 0; got {objective.contrast}")
        if objective.contrast and not data.classes:
            raise TdiffError("objective.contrast tells classes apart: it wants data.classes")
        if objective.most_masked < LEAST_MOST:
            raise TdiffError(f"objective.most_masked must be at least {LEAST_MOST}; got {objective.most_masked}")
        at_most(1 << 18, "model.hidden", model.hidden)
        at_least(0, "model.pairs", model.pairs)
        at_most(MOST, "model.pairs", model.pairs)
        if model.pairs and not data.classes:
            raise TdiffError("model.pairs tells classes apart: it wants data.classes")
        if not 0 <= train.dropout < 1:
            raise TdiffError(f"train.dropout must be at least 0 and below 1; got {train.dropout}")
        at_least(0, "model.conv", model.conv)
        at_least(0, "model.hidden", model.hidden)
        at_least(0, "objective.timesteps", objective.timesteps)
        for name in ("batch_size", "accumulate", "eval_tokens"):
            at_least(1, f"train.{name}", getattr(train, name))
        for name in (
            "steps",
            "minutes",
            "epochs",
            "clip",
            "weight_decay",
            "eval_every",
            "sample_every",
            "log_every",
            "save_every",
            "calibrate",
        ):
            at_least(0, f"train.{name}", getattr(train, name))
        if data.classes and data.rows != "padded":
            raise TdiffError("data.classes wants data.rows padded: a row that is cut from several texts has no class")
        if data.only and (data.rows != "padded" or data.classes):
            raise TdiffError("data.only wants data.rows padded, and no data.classes: the model is of that one class")
        if "-" in data.evaluation:
            raise TdiffError("data.evaluation is read again by an evaluation: it takes files, not stdin")
        for name in ("warmup", "decay", "final_lr", "final_share", "ema", "label_dropout"):
            within(0, 1, f"train.{name}", getattr(train, name))
        if not 0 <= train.beta2 < 1:
            raise TdiffError(f"train.beta2 must be at least 0 and below 1; got {train.beta2}")
        for table in (model, objective, train):
            for f in dataclasses.fields(table):
                value = getattr(table, f.name)
                if isinstance(value, int) and f.name != "seed":
                    at_most(MOST, f.name, value)
        for name in ("lr", "muon_lr"):
            if not getattr(train, name) > 0:
                raise TdiffError(f"train.{name} must be above 0; got {getattr(train, name)}")
        decoding(train.decoding)
        budgets = sorted(name for name in BUDGETS if getattr(train, name))
        if len(budgets) > 1:
            raise TdiffError(f"training ends by one rule; got {' and '.join('train.' + b for b in budgets)}: keep one")


def read_layer(path: Path) -> Layer:
    """The settings a TOML file gives. Raises TdiffError where it cannot be read."""
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise TdiffError(f"config {str(path)!r} does not exist") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as why:
        raise TdiffError(f"config {str(path)!r} cannot be read: {why}") from None


def parse_assignment(text: str) -> Layer:
    """`a.b=c` as a nested layer; c is read as TOML where it is TOML, else as plain text."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise TdiffError(f"--set takes NAME=VALUE, such as train.lr=1e-3; got {text!r}")
    try:
        parsed = tomllib.loads(f"x = {value}")["x"]
    except tomllib.TOMLDecodeError:
        parsed = value
    layer: Any = parsed
    for key in reversed(name.strip().split(".")):
        layer = {key: layer}
    return typing.cast(Layer, layer)
