"""Decoders by name and the settings of a generation.

`DECODERS` declares everything about a decoder but its policy, which has the same name in
`tdiff.core.diffusion.decoders`. The choices and help of `--decoder`, the options that a decoder reads, its defaults,
its short label and the table of the guide come from here.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tdiff.config.decoding_presets import DECODING_PRESETS, KINDS, preset_text
from tdiff.errors import TdiffError, unknown
from tdiff.schema import MOST, Layer, at_least, at_most, convert, within

SCHEDULES = ("linear", "cosine", "cosine-seed", "exponential", "polynomial")
PRODUCTS = ("bfloat16", "float32", "tf32")
"""Precisions of matrix products on CUDA, for generation and evaluation."""
RANKS = ("confidence", "margin", "entropy", "top-k-mass")
REMASKS = ("cap", "rescale", "conf", "loop")


@dataclass(frozen=True, slots=True)
class By:
    """A default that depends on the value of another option."""

    option: str
    values: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """What the program knows of a decoder without its policy."""

    summary: str
    """One line for help and guide."""
    options: tuple[str, ...] = ()
    """Fields of DecodeSettings that not every decoder reads and this one does."""
    defaults: Mapping[str, float | By] = field(default_factory=dict)
    """Defaults of fields of DecodeSettings that have no common default."""
    label: str = ""
    """Short label for a status line, a format string over the settings; empty: the decoder's name."""
    causal: bool = False
    """It generates from left to right, one position a call, which is the only order that causal models know."""


_REMASKING = ("remask", "eta", "t_on", "t_off", "alpha_on")
DECODERS: dict[str, Spec] = {
    "ancestral": Spec(
        summary="Unmask each position independently, with the probability that the schedule gives (D3PM, MDLM).",
        options=("schedule",),
    ),
    "autoregressive": Spec(
        summary="Unmask from left to right, one position a call; the only decoder of causal models.", causal=True
    ),
    "confidence": Spec(
        summary="Unmask every position whose confidence reaches the threshold (Fast-dLLM).",
        options=("threshold", "rank"),
        defaults={"threshold": 0.7},
        label="conf ≥ {threshold:g}",
    ),
    "entropy": Spec(
        summary="Unmask the scheduled number of positions, lowest entropy first (Dream).", options=("schedule",)
    ),
    "entropy-bounded": Spec(
        summary="Unmask, lowest entropy first, while the entropies stay within gamma nats (EB-Sampler).",
        options=("gamma",),
    ),
    "factor": Spec(
        summary="Unmask the most positions n whose confidence is at least 1 - factor / (n + 1) (Fast-dLLM).",
        options=("factor",),
    ),
    "first-hitting": Spec(summary="Unmask each position at its own random time, drawn once.", options=("schedule",)),
    "fronts": Spec(
        summary="Unmask from left to right in several parts of the text at once, one position of each a call.",
        options=("parts",),
        label="{parts:d} fronts",
    ),
    "klass": Spec(
        summary="Unmask confident positions whose distribution has stopped changing (KLASS).",
        options=("threshold", "kl", "history"),
        defaults={"threshold": 0.9},
        label="klass > {threshold:g}",
    ),
    "margin": Spec(
        summary="Unmask the scheduled number of positions, largest lead over the second token first.",
        options=("schedule",),
    ),
    "random": Spec(summary="Unmask the scheduled number of positions, in random order.", options=("schedule",)),
    "refill": Spec(
        summary="Unmask everything, then remask the scheduled number of positions at random (text-diffusion).",
        options=("schedule",),
    ),
    "remdm": Spec(
        summary="Ancestral, but unmasked positions are remasked at a rate, so that errors can be corrected (ReMDM).",
        options=("schedule", *_REMASKING),
        defaults={"eta": By("remask", {"cap": 0.008, "rescale": 0.015, "conf": 1.0, "loop": 0.02})},
    ),
    "schedule": Spec(
        summary="Unmask the scheduled number of positions, most confident first (MaskGIT, LLaDA).",
        options=("schedule", "rank"),
    ),
    "topk": Spec(
        summary="Unmask the k most confident positions at each step.", options=("k", "rank"), label="top {k:d}"
    ),
}
LEFT_TO_RIGHT = next(name for name, spec in DECODERS.items() if spec.causal)
"""The decoder of causal models."""
_BY_DECODER: Any = None
"""The default of a field whose default depends on the decoder; no DecodeSettings contains it."""


def _setting(default: Any, help: str, panel: str = "Decoding", *, flag: bool = False) -> Any:
    """A field of DecodeSettings; `flag`: its option is listed in the help of commands."""
    return field(default=default, metadata={"help": help, "panel": panel, "hidden": not flag})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fields:
    """The fields of DecodeSettings and their rules."""

    decoder: str = _setting("confidence", "", flag=True)
    """One of DECODERS."""
    threshold: float = _setting(_BY_DECODER, "Unmask positions with at least this confidence.", flag=True)
    """confidence, klass: unmask every position whose proposed token has at least (klass: more than) this probability.
    Default 0.7; klass: 0.9."""
    k: int = _setting(0, "Positions unmasked per step. [default: a tenth of the length]", flag=True)
    """topk: positions unmasked per step; 0: a tenth of the length, or of a block's."""
    parts: int = _setting(3, "Parts of the text that are unmasked from left to right at once.")
    """fronts: parts of the text, or of a block, that are unmasked from left to right at once."""
    factor: float = _setting(1.0, "Fast-dLLM factor f: unmask n tokens while confidence >= 1 - f / (n + 1).")
    """factor: unmask n positions together while each has a probability of at least 1 - factor / (n + 1)."""
    gamma: float = _setting(0.1, "Limit in nats on the entropies of positions unmasked together.")
    """entropy-bounded: limit in nats on the sum of the entropies, without the largest, of the positions unmasked
    together."""
    rank: Literal["confidence", "margin", "entropy", "top-k-mass"] = _setting(
        "confidence", "Order of positions: confidence, margin, entropy or top-k-mass."
    )
    """confidence, topk, schedule: the order of positions: by the probability of the likeliest token, its lead over the
    second, the lowest entropy, or the probability of the top k tokens together (top_k, or 3), which `confidence` then
    also compares with the threshold."""
    kl: float = _setting(0.01, "Largest KL divergence in nats between calls of a stable position.")
    """klass: largest KL divergence in nats between the distributions of a position at two calls for it to be stable."""
    history: int = _setting(2, "Consecutive calls for which a position must be stable.")
    """klass: consecutive calls for which a position must have been stable."""
    remask: Literal["cap", "rescale", "conf", "loop"] = _setting(
        "cap", "How the remasking rate is set: cap, rescale, conf or loop."
    )
    """remdm: the remasking rate. cap: at most eta; rescale: eta times the highest possible rate; conf: higher for less
    confident positions; loop: at most eta, only between t_on and t_off, where no net unmasking happens."""
    eta: float = _setting(_BY_DECODER, "Remasking rate per step. [default: by --remask]")
    """remdm: remasking rate per step. Default by `remask`: cap 0.008, rescale 0.015, conf 1, loop 0.02."""
    t_on: float = _setting(0.55, "loop: time at which remasking starts.")
    """remdm, loop: the time at which the share alpha_on is unmasked and remasking starts."""
    t_off: float = _setting(0.05, "loop: time at which remasking ends.")
    """remdm, loop: the time at which remasking ends."""
    alpha_on: float = _setting(0.9, "loop: share of positions unmasked while remasking.")
    """remdm, loop: share of positions that are unmasked while remasking."""
    block: int = _setting(
        0, "Decode in blocks of this many positions, from left to right. [default: one block]", flag=True
    )
    """Decode blocks of this many positions one after another, from left to right, with any decoder; 0: one block."""
    steps: int = _setting(
        0, "Steps of a scheduled decoder; an upper limit for the others. [default: by decoder]", flag=True
    )
    """Steps of a scheduled decoder, an upper limit for the others; 0: the decoder's default. first-hitting: a grid of
    times. Each block has its share of the steps, rounded up."""
    schedule: str = _setting("linear", "Masking schedule of the scheduled decoders. [default: linear]", flag=True)
    """Masking schedule, hidden(t), of the scheduled decoders."""
    temperature: float = _setting(1.0, "Sampling temperature; 0 is greedy. [default: 1]", "Sampling", flag=True)
    """Sampling temperature; 0: always the likeliest token."""
    top_k: int = _setting(0, "Sample from the k likeliest tokens. [default: all]", "Sampling", flag=True)
    """Sample from the k likeliest tokens; 0: from all."""
    top_p: float = _setting(
        1.0,
        "Sample from the likeliest tokens with this total probability (nucleus). [default: 1]",
        "Sampling",
        flag=True,
    )
    """Sample from the likeliest tokens that together reach this probability (nucleus)."""
    repetition_penalty: float = _setting(1.0, "Raise the probability of a repeating token to this power.", "Sampling")
    """Raise the probability of a token that would repeat a span to this power; 1: no penalty."""
    repetition_span: int = _setting(1, "Length in tokens of a span that counts as a repetition.", "Sampling")
    """Length of such a span in tokens; 1: any token that is already in the text, which is usual with subwords."""
    no_repeat: int = _setting(
        0,
        "Avoid repeating a span of this many tokens that the text has already. [default: the model's, or off]",
        "Sampling",
        flag=True,
    )
    """Tokens that would complete a span of this length which the text has already are not proposed; 0: off. The model's
    own value holds for every decoder. Positions that the last step unmasks together do not wait for one another, so
    they may repeat a span together."""
    preset: str = ""
    """The preset that the settings come from, for the record; "" if they come from none."""
    seed: int = 0
    """Noise is keyed by (seed, row, step, position)."""

    def __post_init__(self) -> None:
        if self.decoder not in DECODERS:
            raise unknown("decoder", self.decoder, DECODERS)
        if self.remask not in REMASKS:
            raise unknown("remask", self.remask, REMASKS)
        if self.schedule not in SCHEDULES:
            raise unknown("schedule", self.schedule, SCHEDULES)
        if self.preset and self.preset not in DECODING_PRESETS:
            raise unknown("preset", self.preset, DECODING_PRESETS)
        within(0, 1, "threshold", self.threshold)
        within(0, 1, "top-p", self.top_p)
        if self.rank not in RANKS:
            raise unknown("rank", self.rank, RANKS)
        for name in ("temperature", "factor", "gamma", "kl"):
            at_least(0, name, getattr(self, name))
        for name in ("eta", "t_on", "t_off", "alpha_on"):
            within(0, 1, name.replace("_", "-"), getattr(self, name))
        if not self.t_off < self.t_on < 1 or not 0 < self.alpha_on < 1:
            raise TdiffError(
                "remdm's loop takes 0 <= t-off < t-on < 1 and 0 < alpha-on < 1; got "
                f"t-off {self.t_off}, t-on {self.t_on}, alpha-on {self.alpha_on}"
            )
        within(1, 1000, "repetition-penalty", self.repetition_penalty)  # beyond it float32 underflows
        for least, name in (
            (0, "k"),
            (1, "parts"),
            (0, "steps"),
            (0, "top_k"),
            (0, "block"),
            (1, "history"),
            (1, "repetition_span"),
            (0, "no_repeat"),
        ):
            at_least(least, name.replace("_", "-"), getattr(self, name))
            at_most(MOST, name.replace("_", "-"), getattr(self, name))


class DecodeSettings(_Fields):
    """How a text is generated. A field that is not given has the decoder's default, else the one that it declares."""

    __slots__ = ()

    def __init__(self, **given: Any) -> None:
        """Raises TdiffError for a value that is not valid."""
        super().__init__(**given | _defaults_by_decoder(given))


def _defaults_by_decoder(given: dict[str, Any]) -> Layer:
    """The fields that depend on the decoder and are not `given`; none for an unknown decoder.

    If a decoder does not read such a field, its default is that of the first decoder that does.
    """
    options: Layer = {f.name: f.default for f in dataclasses.fields(_Fields)} | given
    if (spec := DECODERS.get(options["decoder"])) is None:
        return {}
    values: Layer = {"block": 1} if spec.causal else {}  # one position, so that the model is asked for that one alone
    for name in (name for name, value in options.items() if value is _BY_DECODER):
        default = spec.defaults.get(name, next(s.defaults[name] for s in DECODERS.values() if name in s.defaults))
        values[name] = default.values.get(options[default.option]) if isinstance(default, By) else default
    return values


_NO_OPTIONS = ("preset", "seed")
FIELDS = tuple(f for f in dataclasses.fields(DecodeSettings) if f.name not in _NO_OPTIONS)
"""The fields that are options of a command."""
HINTS = {name: hint for name, hint in typing.get_type_hints(DecodeSettings).items() if name not in _NO_OPTIONS}
"""Their types."""
SAMPLING = tuple(f.name for f in FIELDS if f.metadata["panel"] == "Sampling")
"""Fields that choose a token from the model's distribution and mean the same for every decoder."""


def readers(option: str) -> tuple[str, ...]:
    """The decoders that read a field of DecodeSettings."""
    names = tuple(name for name, spec in DECODERS.items() if option in spec.options)
    return names or tuple(DECODERS)


def no_effect(decoder: str, options: Collection[str]) -> list[str]:
    """A line for each of the options that the decoder does not read."""
    return [
        f"--{f.name.replace('_', '-')} has no effect with --decoder {decoder} (used by {', '.join(readers(f.name))})"
        for f in FIELDS
        if f.name in options and decoder not in readers(f.name)
    ]


def label(decoder: str, settings: Mapping[str, Any]) -> str:
    """The decoder and its most important setting, for a status line; the name alone where that is missing or unset."""
    spec = DECODERS.get(decoder)
    unset = {f.name for f in FIELDS if f.default == 0}  # 0 means: as the decoder does by default
    try:
        text = spec.label.format_map({n: v for n, v in settings.items() if v or n not in unset}) if spec else ""
    except (KeyError, ValueError, TypeError):  # the settings may be those of another version's trace
        text = ""
    return text or decoder


def decode_value(name: str, text: str) -> Any:
    """A field of DecodeSettings from its text. Raises TdiffError for an unknown field or a value of another type."""
    if (hint := HINTS.get(name)) is None:
        raise unknown("setting", name, HINTS)
    if hint is str:
        return text
    try:
        number: Any = int(text) if hint is int else float(text)
    except ValueError:
        number = text  # which `convert` refuses in its own words
    return convert(hint, number, name)


def assignments(words: Iterable[str], source: str) -> Iterable[tuple[str, str]]:
    """Names and texts of values from words such as `remdm remask=loop eta=0.02`; the first may be a decoder's name.

    Raises TdiffError, naming the `source` of the words, for any other word without a value.
    """
    for number, word in enumerate(words):
        name, equals, value = word.partition("=")
        if number == 0 and not equals:
            name, equals, value = "decoder", "=", word
        if not equals or not value:
            raise TdiffError(f"{source} takes NAME=VALUE, such as steps=64; got {word!r}")
        yield name.replace("-", "_"), value


def parse_decoder(text: str) -> Layer:
    """Fields of DecodeSettings from a decoder's name and options, such as `remdm remask=loop eta=0.02`.

    Raises TdiffError where they are no valid settings.
    """
    if text.split() and "=" not in (name := text.split()[0]) and name not in DECODERS:
        raise unknown("decoder", name, DECODERS)
    settings = {name: decode_value(name, value) for name, value in assignments(text.split(), "--decoder")}
    DecodeSettings(**settings)
    return settings


def decoding(texts: Iterable[str]) -> Layer:
    """Fields of DecodeSettings from the texts of train.decoding, such as `remdm` or `decoder=remdm` and `steps=64`.

    Raises TdiffError where they are no valid settings or name no decoder.
    """
    words = [word for text in texts for word in text.split()]
    settings = {name: decode_value(name, value) for name, value in assignments(words, "train.decoding")}
    if settings and "decoder" not in settings:
        raise TdiffError(f"train.decoding must name a decoder, as decoder=NAME; got {', '.join(words)}")
    DecodeSettings(**settings)
    return settings


def laid_over(
    default: Mapping[str, Any], options: Mapping[str, Any], presets: Mapping[str, Mapping[str, Any]] | None = None
) -> Layer:
    """The settings to decode with: `options` over those of their preset, over the model's `default` settings.

    `presets` are the model's, by name. A decoder that the options name replaces the preset. Where the options or their
    preset name a decoder, only the model's `no_repeat` is left of its own: that belongs to its vocabulary.
    """
    options = dict(options)
    if "decoder" in options:
        options.pop("preset", None)
    elif preset := (presets or {}).get(options.get("preset", "")):
        options = {**preset, **options}
    if "decoder" in options:
        default = {name: value for name, value in default.items() if name == "no_repeat"}
    return {**default, **options}


def presets_of(kind: str) -> dict[str, Layer]:
    """The presets of a kind of model, by name: fields of DecodeSettings."""
    names = [name for name, preset in DECODING_PRESETS.items() if kind in preset.settings]
    assert kind in KINDS, kind
    return {name: parse_decoder(preset_text(name, kind)) for name in names}
