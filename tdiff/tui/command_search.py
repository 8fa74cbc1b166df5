"""Search for commands by name, the best match first. Pure functions, without screen or app."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

from tdiff.tui.key import Key

_WHOLE, _BEGINS, _OF_ID, _WITHIN = 8, 6, 3, 1
"""Score of a typed word that is a word of the command, starts one, starts one of its id, or is inside one."""
_SHORTEST = 3
"""Minimum letters of a typed word that may match inside another."""
_EARLY = 0.1
"""Score that each word before the matching one subtracts."""
_ALIKE = 0.7
"""Minimum similarity of a misspelt word to a known one."""


def ranked(typed: str, keys: Sequence[Key], where: str, used: Sequence[str]) -> list[Key]:
    """The commands that match every word of `typed`, the best first; all of them where it is empty.

    With equal scores, commands that were `used` (ids, the newest first) precede those of the pane `where`, then the
    app's.
    """

    def use(key: Key) -> tuple[int, int]:
        return used.index(key.id) if key.id in used else len(used), (where, "app", key.where).index(key.where)

    typed_words = typed.casefold().split()
    if not typed_words:
        return sorted(keys, key=use)
    known = {word for key in keys for word in _words(key.does)}
    typed_words = [word if any(_score(word, key) for key in keys) else _nearest(word, known) for word in typed_words]
    scores = {key.id: [_score(word, key) for word in typed_words] for key in keys}
    matches = [key for key in keys if all(scores[key.id])]
    return sorted(matches, key=lambda key: (-sum(scores[key.id]), *use(key)))


def _score(word: str, key: Key) -> float:
    """How well a typed word matches a command; 0: not at all."""
    scores = [0.0]
    for n, other in enumerate(_words(key.does)):
        if other.startswith(word):
            scores.append((_WHOLE if other == word else _BEGINS) - min(n, 9) * _EARLY)
        elif len(word) >= _SHORTEST and word in other:
            scores.append(_WITHIN)
    if any(part.startswith(word) for part in key.id.split("_")):
        scores.append(_OF_ID)
    return max(scores)


def _nearest(word: str, known: set[str]) -> str:
    """The known word that is most similar to a misspelt one; the word itself where none is."""
    return next(iter(difflib.get_close_matches(word, known, n=1, cutoff=_ALIKE)), word)


def _words(text: str) -> list[str]:
    return re.findall(r"[\w']+", text.casefold())
