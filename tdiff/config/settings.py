"""The settings of data, model, objective and training; each field's docstring says what it means.

A setting has one name everywhere: `--set train.lr=1e-3` on the command line is `lr = 1e-3` under `[train]` in a TOML
file and `settings.train.lr` in Python. Layers (preset, file, command line) are merged first and checked afterwards, so
that an error is about the result and not about the layer it came from.

The range of a number is in its annotation (`Positive`, `Share`, ...; see `schema`). `Settings._check` holds the rules
between fields.
"""

from __future__ import annotations

import tomllib
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from tdiff.config.decoding import SCHEDULES, decoding
from tdiff.errors import TdiffError, unknown
from tdiff.schema import MOST, Bounds, Count, Layer, NotNegative, Positive, Share, build, lay_over, plain

LEAST_MOST = 0.01
"""Lowest upper limit of the mask ratio in training: times close to 0 are never sampled."""
TRACKERS = ("wandb", "trackio", "mlflow")
"""Experiment trackers, by the names of their packages."""
BUDGETS = frozenset({"steps", "minutes", "epochs"})
"""The settings of `train` of which one ends the training."""
Rate = Annotated[float, Bounds(0, above=True)]
"""A learning rate."""
ShareBelowOne = Annotated[float, Bounds(0, 1, below=True)]


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSettings:
    """The source of the text and how it becomes tokens."""

    sources: tuple[str, ...] = ("shakespeare",)
    """Files, folders, globs, `-` for stdin, or a named corpus (shakespeare, python)."""
    text_field: str = "text"
    """Field of .jsonl and .csv rows that contains the text."""
    tokenizer: str = "char"
    """char (learned from the corpus), bpe:SIZE (trained on it), ascii (tiny-diffusion's table), or a tokenizer.json."""
    unknown: Literal["error", "token"] = "error"
    """What to do with a character outside the vocabulary: stop with an error that names it, or use the unknown
    token."""
    rows: Literal["packed", "padded"] = "packed"
    """packed: all texts are joined by blank lines and cut into training rows at any position, without padding. padded:
    each text (a row of .jsonl and .csv, a line of other files) starts a new row; a long text continues in the next row,
    and the rest of its last row is padding, which attention and the loss ignore."""
    classes: bool = False
    """Condition the model on the class of each text, so that it can generate texts of a class and classify texts."""
    label_field: str = "label"
    """Field of rows that contains the class. In a folder, the class of a file is the name of its subfolder."""
    only: str = ""
    """Train on the texts of this class only; the tokenizer is still learned from all texts. `--per-class` uses it."""
    evaluation: tuple[str, ...] = ()
    """Files, folders or globs of held-out text. Empty: the last tenth of the sources is held out."""
    token_files: str = ""
    """Folder for the tokens of a corpus larger than memory: they are written there once, and read from there in each
    run with the same data and tokenizer. Empty: all text and tokens are in memory."""
    held_out: Literal["tenth", "tuning"] = "tenth"
    """tenth: hold out the last tenth. tuning: hold out the last 5% of the rest instead, for choosing between models;
    the last tenth stays unread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSettings:
    """The bidirectional transformer."""

    layers: Positive = 4
    """Transformer blocks."""
    heads: Positive = 4
    """Attention heads. `width` divided by `heads` must be an even number."""
    width: Positive = 128
    """Size of the residual stream."""
    window: Positive = 256
    """Context length in tokens, which is also the length of a training row."""
    conv: Count = 0
    """Width of a depthwise convolution before attention and MLP, an odd number of positions; 0: none."""
    hidden: Annotated[int, Bounds(0, 1 << 18)] = 0
    """Width of the MLP's inner layer; 0: four times `width`."""
    classic: bool = False
    """Use learned positions, LayerNorm and GELU, as in BERT and GPT-2, instead of rotary positions, RMSNorm, normalized
    queries and keys, and squared ReLU."""
    tied: bool = False
    """Use the scaled token embedding as the output matrix."""
    self_conditioning: bool = False
    """Run a second pass that gets the predictions of the first (Chen et al. 2022, arXiv:2208.04202). Doubles the work
    per model call."""
    time_conditioning: bool = False
    """Condition the model on the mask ratio (tiny-diffusion does)."""
    pairs: Count = 0
    """With data.classes: parameters of each class for pairs of neighboring tokens, initialized to zero and shared
    between pairs by hashing (Mikolov et al. 2011); 0: none. Some 100,000 help to separate classes that have few
    texts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectiveSettings:
    """The likelihood bound (NELBO) that training minimizes."""

    timesteps: Count = 0
    """0: continuous time. T: the discrete bound on t = 1/T .. 1 (text-diffusion has 10, tiny-diffusion 128)."""
    schedule: str = "linear"
    """Mask ratio as a function of time t: linear, cosine, cosine-seed, exponential, polynomial."""
    context: int = 16
    """Maximum number of leading positions of a training row that stay unmasked, so that the model learns to continue a
    prompt."""
    context_mode: Literal["random", "fixed"] = "random"
    """random: no unmasked prefix for half of the rows, otherwise 1..context positions. fixed: always `context`
    positions; such a model needs a prompt."""
    mask_rate_per: Literal["row", "batch"] = "row"
    """row: sample a diffusion time for each row, spread evenly over the batch. batch: one time for the whole batch (as
    in text-diffusion), which makes the loss noisier."""
    contrast: Annotated[float, Bounds(0, MOST)] = 0.0
    """With data.classes: weight, in addition to the bound, of a loss that separates a text's class from another class
    on the masked positions; doubles the work. 0: train on the bound only."""
    least_masked: ShareBelowOne = 0.0
    """Lowest mask ratio sampled in training (clipped schedules: Arriola et al. 2025, arXiv:2503.09573). Evaluation
    always covers all mask ratios."""
    most_masked: Annotated[float, Bounds(LEAST_MOST, 1)] = 1.0
    """Highest mask ratio sampled in training."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings:
    """Optimization, evaluation and saving. Set at most one of steps, minutes and epochs."""

    steps: Count = 0
    """Number of optimizer steps; 0: use `minutes` or `epochs`."""
    minutes: NotNegative = 0.0
    """Training time in minutes, over all resumes, without compilation; 0: none. The learning rate follows the clock."""
    epochs: NotNegative = 0.0
    """Passes over the training part, counted in tokens; 0: use `steps` or `minutes`."""
    batch_size: Positive = 16
    """Rows per forward pass."""
    accumulate: Positive = 1
    """Forward passes per optimizer step; the gradient is the same as that of one pass over `accumulate` times the
    rows."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """adamw: AdamW for all weights. muon: Muon for the weight matrices of the blocks, AdamW for the rest."""
    lr: Rate = 2e-3
    """Peak learning rate of AdamW."""
    muon_lr: Rate = 2e-2
    """Peak learning rate of Muon."""
    warmup: Share = 0.02
    """Share of training over which the learning rate rises from 0."""
    decay: Share = 0.6
    """Share of training, at its end, over which the learning rate falls linearly to `final_lr`."""
    final_lr: Share = 0.02
    """Last learning rate, as a share of the peak."""
    weight_decay: NotNegative = 0.01
    """Decoupled weight decay of the matrices."""
    dropout: ShareBelowOne = 0.0
    """Dropout rate of the embedding and of the outputs of attention and MLP."""
    calibrate: Count = 200
    """With data.classes: number of held-out texts, sampled at random, for the calibration of the classifier at the end
    of training; 0: no calibration."""
    label_dropout: Share = 0.1
    """With data.classes: share of training rows without their label, so that the model also learns the unconditional
    distribution."""
    beta2: ShareBelowOne = 0.95
    """AdamW's second-moment decay."""
    clip: NotNegative = 1.0
    """Largest norm of the gradient; 0: no clipping."""
    ema: Share = 0.998
    """Decay d of the averaged weights; at step n it is min(d, (1 + n) / (10 + n))."""
    decoding: tuple[str, ...] = ()
    """Default decoder of the trained model: decoder=NAME first, then other settings as name=value."""
    init: str = ""
    """Initialize weights and tokenizer from this model: a folder, a run, or a name on the Hugging Face Hub. Blocks that
    a tdiff model lacks start as zero, so that they change nothing at first."""
    checkpointing: bool = False
    """Activation checkpointing of a pretrained model's blocks: less memory for a third more time."""
    fsdp: bool = False
    """Divide the weights of a pretrained model, their gradients, averages and AdamW's moments among the processes of
    torchrun (FSDP), for a model that does not fit on one device. AdamW only."""
    final_share: Share = 0.1
    """With `minutes`: time of the final evaluation and calibration, as a share of the budget. If the held-out text
    takes longer, a random part of it is scored. 0: always score all of it."""
    seed: int = 0
    """Seed of the weights, of the order of the data, and of the masks."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Device to train on."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of the matrix products of a step; weights and sums stay float32. auto: bfloat16 on CUDA, else
    float32."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Use torch.compile. auto: on CUDA only."""
    weights: Literal["float32", "bfloat16", "int8"] = "float32"
    """Precision of the saved weights; int8 has one scale per row of each large matrix. The resume state, and
    evaluations and samples during training, use full precision."""
    log_every: NotNegative = 1.0
    """Seconds between records of the loss (at most one per step)."""
    eval_every: Count = 200
    """Steps between evaluations of the bound on held-out text; 0: only at the end."""
    eval_tokens: Positive = 8192
    """Held-out tokens per evaluation during training."""
    sample_every: Count = 200
    """Steps between samples; 0: none."""
    save_every: NotNegative = 60.0
    """Seconds between saves of the resume state; 0: only at the end."""
    tensorboard: bool = True
    """Also write the numbers and samples to an event file in the run's folder, for TensorBoard."""
    track: tuple[str, ...] = ()
    """Also send the numbers and samples to these experiment trackers: wandb, trackio, mlflow."""
    keep_last: Positive = 2
    """Number of saves that are retained: the newest, and the ones before it, in earlier/. If the newest is damaged, a
    resume continues from the one before. Each takes the space of the weights about five times."""
    keep_best: bool = True
    """Retain the averaged weights with the lowest held-out bound of all evaluations during training, as RUN:best."""
    on_nan: Literal["stop", "skip", "rewind"] = "stop"
    """What to do if a loss or a gradient is not finite. stop: end the run; the last save stays. skip: leave weights and
    optimizer unchanged and continue with the next step. rewind: continue from the last save with other random numbers.
    skip and rewind wait for the device at each step."""

    @property
    def budget(self) -> tuple[float, ...]:
        """The end of training, to be compared with that of other settings."""
        return self.steps, self.minutes, self.epochs


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings of a training run, as the run's config.toml stores them."""

    preset: str = ""
    """The preset that the other settings started from."""
    data: DataSettings = field(default_factory=DataSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    objective: ObjectiveSettings = field(default_factory=ObjectiveSettings)
    train: TrainSettings = field(default_factory=TrainSettings)

    @classmethod
    def of(cls, layers: Iterable[Mapping[str, Any]]) -> Self:
        """Settings from layers of nested mappings; later layers win. Raises TdiffError naming what is wrong."""
        merged: Layer = {}
        for layer in layers:
            later, earlier = layer.get("train"), merged.get("train")
            if isinstance(later, Mapping) and isinstance(earlier, dict) and not BUDGETS.isdisjoint(later):
                # A later layer's budget replaces an earlier one, also one in another unit.
                merged["train"] = {k: v for k, v in earlier.items() if k not in BUDGETS}
            lay_over(merged, layer)
        settings: Self = build(cls, merged)
        settings._check()
        return settings

    def as_layer(self) -> Layer:
        """The settings as nested dictionaries, ready for TOML or JSON."""
        return typing.cast(Layer, plain(self))

    def _check(self) -> None:
        """Raise TdiffError if settings contradict each other."""
        data, model, objective, train = self.data, self.model, self.objective, self.train
        if not data.sources:
            raise TdiffError("data.sources is empty: name a file, a folder or a corpus")
        if "-" in data.evaluation:
            raise TdiffError("data.evaluation takes files, not stdin: each evaluation reads them again")
        if data.classes and data.rows != "padded":
            raise TdiffError("data.classes requires data.rows padded: a packed row mixes texts of several classes")
        if data.token_files and (data.rows != "packed" or data.evaluation or data.held_out != "tenth"):
            raise TdiffError(
                "data.token_files requires data.rows packed and holds out the last tenth: leave out data.evaluation "
                "and data.held_out"
            )
        if data.only and (data.rows != "padded" or data.classes):
            raise TdiffError("data.only requires data.rows padded, and data.classes off: it trains on a single class")
        for name, value in (("objective.contrast", objective.contrast), ("model.pairs", model.pairs)):
            if value and not data.classes:
                raise TdiffError(f"{name} requires data.classes")
        # A model that training is initialized from has its own sizes.
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
        if objective.least_masked >= objective.most_masked:
            raise TdiffError(
                "objective.least_masked must be below objective.most_masked; "
                f"got {objective.least_masked} and {objective.most_masked}"
            )
        if train.fsdp and train.optimizer != "adamw":
            raise TdiffError(
                f"train.fsdp divides AdamW only; got train.optimizer {train.optimizer}: leave one of them out"
            )
        decoding(train.decoding)
        for name in train.track:
            if name not in TRACKERS:
                raise unknown("tracker", name, TRACKERS)
        budgets = sorted(f"train.{name}" for name in BUDGETS if getattr(train, name))
        if len(budgets) > 1:
            raise TdiffError(f"set only one of train.steps, train.minutes, train.epochs; got {' and '.join(budgets)}")


def read_layer(path: Path) -> Layer:
    """The settings in a TOML file. Raises TdiffError if it cannot be read."""
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise TdiffError(f"config {str(path)!r} does not exist") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise TdiffError(f"config {str(path)!r} cannot be read: {error}") from None


def parse_assignment(text: str) -> Layer:
    """`a.b=c` as a nested layer; c is read as TOML if it is valid TOML, otherwise as plain text."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise TdiffError(f"--set takes NAME=VALUE, such as train.lr=1e-3; got {text!r}")
    try:
        layer: Any = tomllib.loads(f"x = {value}")["x"]
    except tomllib.TOMLDecodeError:
        layer = value
    for key in reversed(name.strip().split(".")):
        layer = {key: layer}
    return typing.cast(Layer, layer)
