"""Search for decoders by name and explanation, and what a typed line asks for. Pure functions without a screen."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from tdiff.config.decoding import DECODERS, FIELDS, DecodeSettings, parse_decoder

_SHORTEST = 3
"""Minimum letters of a typed word that may match inside a word of the explanation."""
_ALIKE = 0.6
"""Minimum similarity of a misspelt word to the name of a decoder."""
_COMMON = ("steps", "block", "temperature")
"""Options that every decoder reads and that are named beside its own."""


@dataclass(frozen=True, slots=True)
class Typed:
    """A line such as `remdm steps=64`."""

    words: tuple[str, ...]
    """What decoders are searched by."""
    options: tuple[str, ...]
    """NAME=VALUE."""

    def settings(self, decoder: str) -> dict[str, Any]:
        """Fields of DecodeSettings: the decoder with the options. Raises TdiffError for an invalid one."""
        return parse_decoder(self.text(decoder))

    def text(self, decoder: str) -> str:
        """The decoder with the options, as `parse_decoder` reads it."""
        return " ".join((decoder, *self.options))


def typed(line: str) -> Typed:
    """The words and the options of a line."""
    parts = line.split()
    return Typed(
        tuple(part.casefold() for part in parts if "=" not in part), tuple(part for part in parts if "=" in part)
    )


def matching(words: Collection[str], known: Collection[str] = tuple(DECODERS)) -> list[str]:
    """The `known` decoders that match every word, the best first; all of them, by name, where there is no word."""
    names = sorted(set(known) & set(DECODERS)) or sorted(DECODERS)  # a process of another version may know no name
    if not words:
        return names
    scores = {name: [_score(word, name) for word in words] for name in names}
    found = [name for name in names if all(scores[name])]
    if not found:
        return difflib.get_close_matches("-".join(words), names, n=3, cutoff=_ALIKE)
    return sorted(found, key=lambda name: -sum(scores[name]))


def _score(word: str, name: str) -> int:
    """How well a word matches a decoder: 0 is not at all."""
    if name == word:
        return 5
    if name.startswith(word):
        return 4
    if any(part.startswith(word) for part in name.split("-")):
        return 3
    summary = DECODERS[name].summary.casefold()
    if any(part.startswith(word) for part in summary.replace("(", " ").split()):
        return 2
    return 1 if len(word) >= _SHORTEST and (word in name or word in summary) else 0


def options_text(decoder: str) -> str:
    """The options that a decoder reads, with its defaults, as they can be typed: its own first."""
    settings = DecodeSettings(decoder=decoder)
    names = [*DECODERS[decoder].options, *_COMMON]
    return " ".join(f"{name.replace('_', '-')}={_shown(getattr(settings, name))}" for name in names)


def zeros_text(decoder: str) -> str:
    """What a 0 means in `options_text`; "" where none has a meaning of its own."""
    settings = DecodeSettings(decoder=decoder)
    meanings = []
    for name in (*DECODERS[decoder].options, *_COMMON):
        meaning = re.search(r"\[default: ([^\]]*)\]", _HELP[name])
        if getattr(settings, name) == 0 and meaning:
            meanings.append(f"{name.replace('_', '-')}: {meaning[1]}")
    return f"0 means, {', '.join(meanings)}" if meanings else ""


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


_HELP = {field.name: str(field.metadata["help"]) for field in FIELDS}
