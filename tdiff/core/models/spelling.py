"""Typographic characters of a prompt, written with characters that the model's vocabulary has."""

from __future__ import annotations

import unicodedata

from tdiff.core.models.base import LoadedModel
from tdiff.errors import TdiffError

_PLAIN = {
    **dict.fromkeys("“”„‟«»", '"'),
    **dict.fromkeys("‘’‚‛‹›", "'"),
    **dict.fromkeys("‐‑‒–−", "-"),
    "—": "--",
    "…": "...",
    "\u00a0": " ",
    "\u202f": " ",
    "\t": " ",
}
"""Typographic characters and what typewriters write for them."""


def plain_spelling(model: LoadedModel, text: str) -> str:
    """Return the `text` with each typographic or accented character that the vocabulary lacks in plain spelling.

    A character without a plain spelling, or whose plain spelling the vocabulary lacks too, is unchanged. So is a letter
    that the model refuses: only where it would become an unknown token is its accent left out.
    """
    return "".join(map({c: _plain(model, c) for c in set(text)}.__getitem__, text))


def _plain(model: LoadedModel, character: str) -> str:
    if (character.isascii() and character != "\t") or _tokens(model, character) == "known":
        return character
    if character.isalpha() and _tokens(model, character) == "refused":
        return character
    decomposed = unicodedata.normalize("NFKD", character)
    plain = _PLAIN.get(character) or "".join(c for c in decomposed if not unicodedata.combining(c))
    return plain if plain and plain != character and _tokens(model, plain) == "known" else character


def _tokens(model: LoadedModel, text: str) -> str:
    """Whether the vocabulary has a token for each character: "known", "unknown" or "refused"."""
    try:
        tokens = set(model.tokenizer.encode(text).tolist())
    except TdiffError:
        return "refused"
    return "unknown" if tokens & set(model.spec.suppressed) else "known"
