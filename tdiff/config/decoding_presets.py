"""Decoding presets: a name that a person can remember for a decoder with its settings, for each kind of model.

`python -m tests.benchmarks.presets` compares candidates. The settings of `fast` are relative to the text, so that it
costs what its summary says with any length.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tdiff.errors import TdiffError, unknown

KINDS = {
    "subwords": "a vocabulary of words and their parts",
    "characters": "a vocabulary of single characters",
    "causal": "an autoregressive model",
}
"""The kinds of models that presets distinguish, with what they mean."""


@dataclass(frozen=True, slots=True)
class Preset:
    """A decoder with its settings for each kind of model that has one."""

    summary: str
    """One line for the help."""
    settings: Mapping[str, str]
    """Kind -> a decoder with its options, as `--decoder` takes them."""


DECODING_PRESETS: dict[str, Preset] = {
    "fast": Preset(
        "At most a quarter of a model call for each token of --length",
        {
            "subwords": "fronts parts=4 temperature=0.7 top-p=0.9 no-repeat=8",
            "characters": "topk k=4 temperature=0.7",
        },
    ),
    "best": Preset(
        "Settings chosen for the quality of the text, with more model calls",
        {
            "subwords": "autoregressive temperature=0.7 top-p=0.9 no-repeat=8",
            "characters": "remdm remask=loop steps=68 temperature=0.4",
            "causal": "autoregressive temperature=0.7",
        },
    ),
}
"""The presets by name."""


def preset_text(name: str, kind: str) -> str:
    """The decoder and options of a preset for a kind of model. Raises TdiffError if there is none."""
    if (preset := DECODING_PRESETS.get(name)) is None:
        raise unknown("preset", name, DECODING_PRESETS)
    if (text := preset.settings.get(kind)) is None:
        raise TdiffError(f"--{name} has no settings for {KINDS[kind]}, which takes a model call for each token")
    return text


def preset_help(name: str) -> str:
    """The help of a preset's option: what it is, its settings, and that other options replace them."""
    preset = DECODING_PRESETS[name]
    settings = "; ".join(f"{kind}: {text}" for kind, text in preset.settings.items())
    return f"{preset.summary} ({settings}). Other options replace its settings."


def chosen_preset(fast: bool, best: bool, options: Mapping[str, object]) -> dict[str, object]:
    """The field `preset` of DecodeSettings as the options of a command set it; {} for none.

    Raises TdiffError for two presets, or for a preset and a decoder.
    """
    if fast and best:
        raise TdiffError("--fast and --best exclude each other: leave out one of them")
    name = "fast" if fast else "best" if best else ""
    if name and "decoder" in options:
        raise TdiffError(f"--{name} selects a decoder too: leave out --{name} or --decoder {options['decoder']}")
    return {"preset": name} if name else {}
