"""The decoders by name, and the settings of a generation; every field says what it means."""

from __future__ import annotations

import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tdiff.errors import TdiffError, unknown
from tdiff.schema import MOST, Layer, at_least, at_most, convert, within

SCHEDULES = ("linear", "cosine", "cosine-seed", "exponential", "polynomial")
DECODERS = (
    "ancestral",
    "autoregressive",
    "confidence",
    "entropy",
    "entropy-bounded",
    "factor",
    "first-hitting",
    "klass",
    "margin",
    "random",
    "refill",
    "remdm",
    "schedule",
    "topk",
)
LEFT_TO_RIGHT = "autoregressive"
"""The decoder that causal models know."""
PRODUCTS = ("bfloat16", "float32", "tf32")
"""In what the products of a model may be taken on CUDA, where text is generated or evaluated."""
RANKS = ("confidence", "margin", "entropy", "top-k-mass")
REMASKS = ("cap", "rescale", "conf", "loop")
READ_BY = {
    "threshold": ("confidence", "klass"),
    "k": ("topk",),
    "factor": ("factor",),
    "gamma": ("entropy-bounded",),
    "kl": ("klass",),
    "history": ("klass",),
    "rank": ("confidence", "schedule", "topk"),
    "schedule": ("ancestral", "entropy", "first-hitting", "margin", "random", "refill", "remdm", "schedule"),
} | dict.fromkeys(("remask", "eta", "t_on", "t_off", "alpha_on"), ("remdm",))
"""The fields of DecodeSettings that only some decoders read, and those decoders."""
_OWN: Any = None  # a default that depends on the decoder: the field itself is never None
_THRESHOLDS = {"klass": 0.9}
_ETAS = {"cap": 0.008, "rescale": 0.015, "conf": 1.0, "loop": 0.02}


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeSettings:
    """How a text is generated."""

    decoder: str = "confidence"
    """One of DECODERS."""
    threshold: float = _OWN
    """confidence, klass: reveal every place whose proposed token has at least (klass: more than) this probability. By
    default 0.7, with klass 0.9."""
    k: int = 0
    """topk: places revealed a step; 0: a tenth of the length, or of a block's."""
    factor: float = 1.0
    """factor: how unsure n places together may be; each needs a probability of at least 1 - factor / (n + 1)."""
    gamma: float = 0.1
    """entropy-bounded: nats that the entropies of the places revealed together, but for the largest, may reach."""
    rank: Literal["confidence", "margin", "entropy", "top-k-mass"] = "confidence"
    """confidence, topk, schedule: which places come first: the likeliest token's own probability, its lead over the
    second, the least entropy, or the probability of the top k tokens together (top_k, or 3), which is also what
    confidence then holds against the threshold."""
    kl: float = 0.01
    """klass: nats by which a place's distribution may have moved since the last call, and is calm."""
    history: int = 2
    """klass: calls in a row for which a place must have been calm."""
    remask: Literal["cap", "rescale", "conf", "loop"] = "cap"
    """remdm: how often what is revealed is masked again: at a rate of eta at most; at eta times the highest rate there
    is; the less sure the oftener; or at eta at most, but only between t_on and t_off, where nothing else happens."""
    eta: float = _OWN
    """remdm: that rate a step. By default 0.008, with rescale 0.015, with conf 1, with loop 0.02."""
    t_on: float = 0.55
    """remdm, loop: the time at which the share alpha_on is revealed and remasking begins."""
    t_off: float = 0.05
    """remdm, loop: the time at which it ends."""
    alpha_on: float = 0.9
    """remdm, loop: share of places revealed meanwhile."""
    block: int = 0
    """Finish blocks of so many places one after another, left to right, whatever the decoder; 0: all at once."""
    steps: int = 0
    """Steps of a scheduled decoder, a cap for the others; 0: the decoder's own. first-hitting: a grid of times. With
    blocks, each has its share of them, rounded up."""
    schedule: str = "linear"
    """hidden(t) of the scheduled decoders."""
    temperature: float = 1.0
    """Of the drawn tokens; 0: always the likeliest."""
    top_k: int = 0
    """Draw from the k likeliest tokens; 0: from all."""
    top_p: float = 1.0
    """Draw from the likeliest tokens that together reach this probability (nucleus)."""
    repetition_penalty: float = 1.0
    """Draw a token that would repeat a span with its probability to this power; 1: as the model says."""
    repetition_span: int = 1
    """Tokens of such a span: 1 is any token that stands in the text already, as is usual with subwords."""
    seed: int = 0
    """Noise is keyed by (seed, row, step, place)."""

    def __post_init__(self) -> None:
        if self.decoder not in DECODERS:
            raise unknown("decoder", self.decoder, DECODERS)
        if self.remask not in REMASKS:
            raise unknown("remask", self.remask, REMASKS)
        own = {"threshold": _THRESHOLDS.get(self.decoder, 0.7), "eta": _ETAS[self.remask]}
        for name, value in own.items():
            if getattr(self, name) is _OWN:
                object.__setattr__(self, name, value)
        if self.decoder == LEFT_TO_RIGHT:  # whose blocks are places, so that the model is asked for one alone
            object.__setattr__(self, "block", 1)
        if self.schedule not in SCHEDULES:
            raise unknown("schedule", self.schedule, SCHEDULES)
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
        within(1, 1000, "repetition-penalty", self.repetition_penalty)  # beyond it no float32 could tell
        for least, name in (
            (0, "k"),
            (0, "steps"),
            (0, "top_k"),
            (0, "block"),
            (1, "history"),
            (1, "repetition_span"),
        ):
            at_least(least, name.replace("_", "-"), getattr(self, name))
            at_most(MOST, name.replace("_", "-"), getattr(self, name))


def decode_value(name: str, text: str) -> Any:
    """A field of DecodeSettings from its text. Raises TdiffError where there is none such, or it cannot be that."""
    hints = typing.get_type_hints(DecodeSettings)
    if name not in hints or name == "seed":
        raise unknown("setting", name, [one for one in hints if one != "seed"])
    if hints[name] is str:
        return text
    try:
        number: Any = int(text) if hints[name] is int else float(text)
    except ValueError:
        number = text  # which the check below refuses in its own words
    return convert(hints[name], number, name)


def decoding(assignments: Iterable[str]) -> Layer:
    """Fields of DecodeSettings from texts such as `steps=64`. Raises TdiffError where they make no such settings."""
    chosen: Layer = {}
    for text in assignments:
        name, equals, value = text.partition("=")
        if not equals:
            raise TdiffError(f"train.decoding takes NAME=VALUE, such as steps=64; got {text!r}")
        chosen[name.replace("-", "_")] = decode_value(name.replace("-", "_"), value)
    if chosen and "decoder" not in chosen:
        raise TdiffError(f"train.decoding must name a decoder, as decoder=NAME; got {', '.join(assignments)}")
    DecodeSettings(**chosen)
    return chosen


def laid_over(own: Mapping[str, Any], given: Mapping[str, Any]) -> Layer:
    """What to decode by: the fields given, over the model's own where they name no decoder."""
    return dict(given) if "decoder" in given else {**own, **given}
